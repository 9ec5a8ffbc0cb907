"""Writing the non-expert tensors to one safetensors file, one tensor in memory at a time; and mapping one of them.

The library's own writer wants all tensors at once, which for a large model is gigabytes; the format is a JSON header of
shapes and offsets, known beforehand, and then the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.store.partial import write_all

_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


def skeleton_bytes(shapes: dict[str, Tensor]) -> int:
    """Bytes of all the tensors together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in shapes.values())


def write_skeleton(file: Path, shapes: dict[str, Tensor], values: Iterable[tuple[str, Tensor]], step: Callable[[int], None]) -> None:
    """Write the tensors ``values`` to ``file``; ``shapes`` are meta tensors of the same names in the same order.

    ``step`` is told the bytes of each tensor once written, and may raise to stop.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in shapes.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with file.open("wb", buffering=0) as out:
        write_all(out, len(encoded).to_bytes(8, "little") + encoded)
        for (name, tensor), (expected, shape) in zip(values, shapes.items(), strict=True):
            assert name == expected and tensor.shape == shape.shape and tensor.dtype == shape.dtype
            if tensor.numel():
                write_all(out, memoryview(tensor.contiguous().view(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]
            step(tensor.numel() * tensor.element_size())


def mapped(file: Path, name: str) -> Tensor:
    """One tensor of ``file`` left on disk: its pages come when they are read, and the system may drop them again."""
    with file.open("rb") as source:
        size = int.from_bytes(source.read(8), "little")
        about = json.loads(source.read(size))[name]
    start, end = about["data_offsets"]
    data = np.memmap(file, np.uint8, "c", offset=8 + size + start, shape=(end - start,))
    return torch.from_numpy(data).view(_DTYPES[about["dtype"]]).view(about["shape"])
