"""The torch path: make the weights dense, then the family's own gate and activation.

T tokens, d hidden, ff expert width, n = 2·ff rows of the up projection with a gate and ff without, V vocabulary, k tokens wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.quant.matrix import ExpertWeights, Matrix

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
Top = Callable[[Floats, int], tuple[Ids, Floats, float]]
"""Finds the k largest of V logits: tokens and logits [k], largest first, and the logarithm of the sum of all exponentials."""


def forward(x: Tensor, weights: ExpertWeights, module: Any) -> Tensor:
    """The expert's output [T, d] for its tokens x [T, d], before the router's weight is applied.

    ``module`` is the family's experts module, asked only for its gate, activation and norm. One token's result can
    differ in the last float digits with how many others are in the call (the BLAS library picks another kernel), but
    never with which they are: what is resident plays no part.
    """
    return outer(inner(x, weights, module), weights, module)


def inner(x: Tensor, weights: ExpertWeights, module: Any) -> Tensor:
    """What goes into the down projection, [T, ff]."""
    hidden = _linear(x, weights.up, weights.up_bias)  # [T, n]
    return module._apply_gate(hidden) if module.has_gate else module.act_fn(hidden)  # type: ignore[no-any-return]


def outer(hidden: Tensor, weights: ExpertWeights, module: Any) -> Tensor:
    """The expert's output [T, d] from what ``inner`` made."""
    out = _linear(hidden, weights.down, weights.down_bias)
    return module.post_expert_norm(out) if module.has_post_expert_norm else out


def _linear(x: Tensor, matrix: Matrix, bias: Tensor | None) -> Tensor:
    if matrix.scales is None:
        return F.linear(x, matrix.dense(x.dtype), None if bias is None else bias.to(x.dtype))
    # Codes become float32 on the way in any case: rounding them to a narrower type would cost a pass, and precision.
    y = F.linear(x.float(), matrix.dense(torch.float32), None if bias is None else bias.float())
    return y.to(x.dtype)


def top(logits: Floats, count: int) -> tuple[Ids, Floats, float]:
    """See ``Top``."""
    size = len(logits)
    best = np.argpartition(logits, size - count)[size - count :] if count < size else np.arange(count)
    tokens: Ids = best[np.argsort(-logits[best], kind="stable")].astype(np.int32)
    scores = logits[tokens]
    return tokens, scores, float(scores[0] + np.log(np.exp(logits - scores[0]).sum()))
