"""Non-expert linear layers and the head multiplied by the native kernels: as the model has them, or at 8 or 4 bits. And the embedding.

R outputs, C inputs, V token ids, d hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.kernels.library import Native
from engine.kernels.matrices import quantized
from engine.models.lean import Lean
from engine.models.skeleton import LARGE
from engine.quant import codec_named
from engine.quant.matrix import Matrix


class NativeLinear(nn.Module):
    """Stands in for ``linear``: takes and gives what that one did, computed in float32 from weights of ``bits``."""

    def __init__(self, linear: nn.Linear, bits: int, native: Native) -> None:
        super().__init__()
        weight = linear.weight.detach()
        rows, columns = weight.shape
        self._matrix = codec_named("default").quantize(weight, bits) if bits < 16 else Matrix(16, rows, columns, weight.clone())
        self._bias: Tensor | None = None if linear.bias is None else linear.bias.detach().float()
        self.matrix = quantized(self._matrix, self._bias)
        self._native = native

    def forward(self, x: Tensor) -> Tensor:
        """x W^T + bias: [..., R] for x [..., C], in x's type."""
        rows = x.float().reshape(-1, x.shape[-1]).contiguous()
        return self._native.linear(self.matrix, rows).view(*x.shape[:-1], -1).to(x.dtype)


class StoredEmbedding(nn.Module):
    """Stands in for ``embedding``: its rows as they are stored, given out in ``dtype``. A large one stays in the mapped file: a token
    needs one row."""

    def __init__(self, embedding: nn.Embedding, dtype: torch.dtype) -> None:
        super().__init__()
        stored = embedding.weight.detach()  # [V, d]
        self.weight = nn.Parameter(stored if stored.nbytes > LARGE else stored.clone(), requires_grad=False)
        self._dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        """Rows [..., d] of ids [...]."""
        return functional.embedding(ids, self.weight).to(self._dtype)


def take_over(model: Any, lean: Lean, bits: int, native: Native, dtype: torch.dtype) -> dict[nn.Linear, NativeLinear]:
    """Replace the embedding, and every linear layer that ``lean`` names but the small gate of shared experts; by the layer replaced.

    The routers stay as they are: they are small, and what they choose is worth more than their bytes. ``dtype`` is the model's.
    """
    linears = {lean.head}
    for layer in lean.layers:
        a, mlp = layer.attention, layer.mlp
        linears |= {a.q, a.k, a.v, a.o} | ({mlp.gate, mlp.up, mlp.down} if mlp else set())
    replaced = {}
    for name, module in list(model.named_modules()):
        path, _, local = name.rpartition(".")
        if isinstance(module, nn.Linear) and module in linears:
            replaced[module] = NativeLinear(module, bits, native)
            setattr(model.get_submodule(path), local, replaced[module])
            module.weight = nn.Parameter(torch.empty(0), requires_grad=False)  # its bytes are needed by nobody, or by the new one
        elif isinstance(module, nn.Embedding) and module.weight is lean.embedding:
            setattr(model.get_submodule(path), local, StoredEmbedding(module, dtype))
    return replaced
