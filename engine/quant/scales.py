"""Scales as FP16, in units of a power of two of their tensor.

R rows, G groups a row.

The paper keeps one FP16 scale a channel. Weights of a bfloat16 model may lie outside FP16's range, so the scales of
one tensor share a unit that brings the largest near FP16's top: 29 powers of two below it stay at full precision.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TOP = 15  # scales are stored in [0, 2^15): one power of two short of FP16's largest, so that rounding cannot overflow


def unit_of(largest: float) -> float:
    """The power of two that brings ``largest`` into [2^14, 2^15); 1 for an all-zero tensor."""
    if not largest > 0.0 or not math.isfinite(largest):
        return 1.0
    # A unit outside float32's normal range would itself be lost when stored.
    return 2.0 ** max(-126, math.frexp(largest)[1] - _TOP)


def to_half(scales: Tensor, unit: float) -> Tensor:
    """float32 scales [R, G] as FP16 [R, G] in ``unit``; codes must be chosen against what this rounds to."""
    return (scales.double() / unit).to(torch.float16)


def from_half(half: Tensor, unit: float) -> Tensor:
    """FP16 scales [R, G] back to float32."""
    return half.float().mul_(unit)
