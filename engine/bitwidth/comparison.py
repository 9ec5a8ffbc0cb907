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

_AT_ONCE = 1 << 28  # bytes of logits
_SHORTEST = 64  # tokens of a window at least, however large a vocabulary


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

    More than the model takes at once (or than its logits should take of memory) go in windows that slide by three quarters.

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
    for start, stop, fresh in windows_of(skeleton, len(ids)):
        at = slice(stop - 1 - fresh, stop - 1)
        wanted, mine = (_logs(skeleton, experts, bits, ids[start : stop - 1], fresh) for bits in (highest, plan))
        reference[at], chosen[at] = wanted.argmax(-1).numpy(), mine.argmax(-1).numpy()
        kl[at] = (wanted.exp() * (wanted - mine)).sum(-1).clamp_min(0).numpy()
    return Comparison(reference.tolist(), chosen.tolist(), kl)


def windows_of(skeleton: Skeleton, count: int) -> list[tuple[int, int, int]]:
    """The windows (engine.perplexity) in which ``count`` tokens are compared."""
    width = max(1, min(skeleton.context - 1, max(_SHORTEST, _AT_ONCE // (4 * skeleton.vocabulary))))
    return list(windows(count, width, max(1, width * 3 // 4)))


def _logs(skeleton: Skeleton, experts: DenseExperts, bits: Sequence[int], ids: Tensor, fresh: int) -> Tensor:
    """Log probabilities [fresh, V] at the last positions of ids [T]."""
    experts.bits = list(bits)
    logits: Tensor = skeleton.model(input_ids=ids[None], use_cache=False).logits
    return logits[0, -fresh:].float().log_softmax(-1)
