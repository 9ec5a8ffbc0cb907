"""A plan held against the model at its highest width token by token: which token either likes best, and how far apart they are.

T tokens, V vocabulary; N experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.bitwidth.dense import DenseExperts
from engine.errors import EngineError
from engine.models.skeleton import Skeleton
from engine.perplexity import windows

_AT_ONCE = 1 << 27  # bytes of logits; there are five arrays of their size on the way
_SHORTEST = 64  # tokens at a time at least, however large a vocabulary


@dataclass(frozen=True)
class Comparison:
    """For every token but the first, [T - 1]: the likeliest token by the ``reference`` and by the plan (``chosen``), and the divergence of
    the plan from the reference there, ``kl``, in nats."""

    reference: list[int]
    chosen: list[int]
    kl: npt.NDArray[np.float32]


@torch.inference_mode()
def compare(skeleton: Skeleton, experts: DenseExperts, plan: Sequence[int], token_ids: Sequence[int]) -> Comparison:
    """Run ``token_ids`` [T] at the store's highest width and at ``plan`` [N], every token given those that truly came before it.

    More than the model takes at once go in windows that slide by a quarter. Of a large vocabulary the logits of some tokens only are made
    at a time, and what comes before these is run anew.

    Raises:
        EngineError: there is nothing to compare, or a token that the model does not have.
    """
    if len(token_ids) < 2:
        raise EngineError("There is nothing to compare yet: a text of two tokens at least is needed")
    if not 0 <= min(token_ids) <= max(token_ids) < skeleton.vocabulary:
        raise EngineError(f"The text has tokens that {skeleton.store.name} does not have; it was made by another model")
    ids = torch.tensor(token_ids)
    reference, chosen = np.zeros(len(ids) - 1, np.int64), np.zeros(len(ids) - 1, np.int64)
    kl = np.zeros(len(ids) - 1, np.float32)
    highest = [max(skeleton.store.widths)] * len(plan)
    skeleton.bind(experts)
    for begin, first, stop in steps_of(skeleton, len(ids)):
        wanted, mine = (_logs(skeleton, experts, bits, ids[begin:stop], stop - first) for bits in (highest, plan))
        reference[first:stop], chosen[first:stop] = wanted.argmax(-1).numpy(), mine.argmax(-1).numpy()
        kl[first:stop] = (wanted.exp() * (wanted - mine)).sum(-1).clamp_min(0).numpy()
    return Comparison(reference.tolist(), chosen.tolist(), kl)


def steps_of(skeleton: Skeleton, count: int) -> list[tuple[int, int, int]]:
    """How ``count`` tokens are compared: of inputs from the first place on, what comes after those from the second to before the third."""
    width = max(1, min(skeleton.context - 1, count - 1))
    many = max(_SHORTEST, _AT_ONCE // (4 * skeleton.vocabulary))
    return [
        (start, first, min(first + many, stop - 1))
        for start, stop, fresh in windows(count, width, max(1, width // 4))
        for first in range(stop - 1 - fresh, stop - 1, many)
    ]


def _logs(skeleton: Skeleton, experts: DenseExperts, bits: Sequence[int], ids: Tensor, count: int) -> Tensor:
    """Log probabilities [count, V] at the last positions of ids [T]."""
    experts.bits = list(bits)
    logits: Tensor = skeleton.model(input_ids=ids[None], use_cache=False, logits_to_keep=count).logits
    return logits[0].float().log_softmax(-1)
