"""Which experts are meant by words such as the rarest fifth. No Qt here.

N = S · E experts, by number layer · E + expert; choices are bool [N].
"""

from __future__ import annotations

import numpy as np

SHARE = 0.2


def everyone(count: int) -> np.ndarray:
    return np.ones(count, bool)


def nobody(count: int) -> np.ndarray:
    return np.zeros(count, bool)


def layer_of(count: int, experts: int, layer: int) -> np.ndarray:
    """All experts of a layer."""
    return np.arange(count) // experts == layer


def box(count: int, experts: int, first: tuple[int, int], last: tuple[int, int]) -> np.ndarray:
    """Those between two cells (layer, expert), both included, in whatever order."""
    layer, expert = np.divmod(np.arange(count), experts)
    (top, bottom), (left, right) = (sorted(pair) for pair in zip(first, last, strict=True))
    return (layer >= top) & (layer <= bottom) & (expert >= left) & (expert <= right)


def least(values: np.ndarray, share: float = SHARE) -> np.ndarray:
    """The ``share`` of experts with the least of ``values`` [N]; of equal ones those that come first."""
    found = nobody(len(values))
    found[np.argsort(values, kind="stable")[: round(share * len(values))]] = True
    return found


def at_bits(plan: bytes, bits: int) -> np.ndarray:
    """Those that a plan gives ``bits``."""
    return np.frombuffer(plan, np.uint8) == bits
