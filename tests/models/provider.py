"""The simplest runtime: every expert is read from the store's file whenever a token wants it.

T tokens, k experts a token, d hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.kernels import reference
from engine.quant import ExpertWeights
from engine.store import Store


class DirectRuntime:
    """Computes experts at one width, and remembers which were chosen."""

    def __init__(self, store: Store, bits: int) -> None:
        self.store, self.bits = store, bits
        self.calls: list[tuple[int, int]] = []  # (layer, k)

    def forward(self, module: Any, layer: int, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        self.calls.append((layer, index.shape[1]))
        out = torch.zeros_like(hidden)
        for expert in index.unique().tolist():
            tokens, place = torch.where(index == expert)
            y = reference.forward(hidden[tokens], self.load(layer, expert), module)
            out.index_add_(0, tokens, (y * weights[tokens, place, None]).to(out.dtype))
        return out

    def load(self, layer: int, expert: int) -> ExpertWeights:
        record = self.store.record(layer, expert, self.bits)
        with record.file.open("rb") as file:
            file.seek(record.offset)
            data = bytearray(file.read(record.nbytes))
        assert self.store.checksum_ok(layer, expert, self.bits, memoryview(data))
        return self.store.unpack(torch.frombuffer(data, dtype=torch.uint8), self.bits)


class ZeroRuntime:
    """Experts that give nothing: what a model would say if its experts did not matter."""

    def forward(self, module: Any, layer: int, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        return torch.zeros_like(hidden)
