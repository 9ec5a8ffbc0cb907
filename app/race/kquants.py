"""llama.cpp's "K" formats, which the gguf package only reads: blocks of 256 values with scales of their own scale.

B blocks. Plain nearest rounding: what is raced is speed, and bytes are bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 256

Values = NDArray[np.float32]
Packed = NDArray[np.uint8]


def q6_k(values: Values) -> Packed:
    """6-bit codes about zero, an 8-bit scale to 16 of them: 210 bytes a block, for [..., n·256] values."""
    groups = values.reshape(-1, 16, 16)
    scales = np.abs(groups).max(axis=2) / 31
    unit = (scales.max(axis=1, keepdims=True) / 127).astype(np.float16)
    steps = np.round(_ratio(scales, unit)).astype(np.int8)
    codes = np.round(_ratio(groups, unit * steps.astype(np.float32), 2))
    codes = (np.clip(codes, -32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)  # halves of 128, quarters of 32
    low = (codes[:, :, :2] & 15) | ((codes[:, :, 2:] & 15) << 4)
    high = codes >> 4
    high = high[:, :, 0] | (high[:, :, 1] << 2) | (high[:, :, 2] << 4) | (high[:, :, 3] << 6)
    parts = [low.reshape(-1, 128), high.reshape(-1, 64), steps.view(np.uint8), unit.view(np.uint8)]
    return np.concatenate(parts, axis=1).reshape(*values.shape[:-1], -1)


def q4_k(values: Values) -> Packed:
    """4-bit codes above a minimum, a 6-bit scale and a 6-bit minimum to 32 of them: 144 bytes a block, for [..., n·256] values."""
    groups = values.reshape(-1, 8, 32)
    lowest = np.maximum(-groups.min(axis=2), 0)
    scales = (groups.max(axis=2) + lowest) / 15
    unit = (scales.max(axis=1, keepdims=True) / 63).astype(np.float16)
    unit_low = (lowest.max(axis=1, keepdims=True) / 63).astype(np.float16)
    steps, steps_low = (np.round(_ratio(a, u)).clip(0, 63).astype(np.uint8) for a, u in ((scales, unit), (lowest, unit_low)))
    above = groups + (unit_low * steps_low.astype(np.float32))[..., None]
    codes = np.round(_ratio(above, unit * steps.astype(np.float32), 2)).clip(0, 15).astype(np.uint8).reshape(-1, 4, 2, 32)
    packed = codes[:, :, 0] | (codes[:, :, 1] << 4)
    first = (steps[:, :4] & 63) | ((steps[:, 4:] >> 4) << 6)
    second = (steps_low[:, :4] & 63) | ((steps_low[:, 4:] >> 4) << 6)
    third = (steps[:, 4:] & 15) | ((steps_low[:, 4:] & 15) << 4)
    parts = [unit.view(np.uint8), unit_low.view(np.uint8), first, second, third, packed.reshape(-1, 128)]
    return np.concatenate(parts, axis=1).reshape(*values.shape[:-1], -1)


def _ratio(values: NDArray[np.floating], units: NDArray[np.floating], axis: int | None = None) -> Values:
    """``values`` in ``units`` (with a new axis where they have one more), 0 where the unit is 0."""
    units = units.astype(np.float32)
    if axis is not None:
        units = np.expand_dims(units, axis)
    out = np.zeros(np.broadcast_shapes(values.shape, units.shape), np.float32)
    return np.divide(values, units, out=out, where=units != 0)
