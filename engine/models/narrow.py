"""Non-expert linear layers and the head at 8 or 4 bits, multiplied by the native kernels.

R outputs, C inputs.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from engine.kernels.library import Native
from engine.kernels.matrices import quantized
from engine.models.lean import Lean
from engine.quant import codec_named
from engine.quant.matrix import Matrix


class NarrowLinear(nn.Module):
    """A linear layer of fewer bits in the place of ``linear``; takes and gives what that one did."""

    def __init__(self, linear: nn.Linear, bits: int, native: Native) -> None:
        super().__init__()
        self.matrix: Matrix = codec_named("default").quantize(linear.weight, bits)
        self.bias: Tensor | None = None if linear.bias is None else linear.bias.float()
        self.native_matrix = quantized(self.matrix, self.bias)
        self._native = native

    def forward(self, x: Tensor) -> Tensor:
        """x W^T + bias: [..., R] for x [..., C], in x's type."""
        rows = x.float().reshape(-1, x.shape[-1]).contiguous()
        return self._native.linear(self.native_matrix, rows).view(*x.shape[:-1], -1).to(x.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        scales = self.matrix.scales
        return self.matrix.codes.nbytes + (0 if scales is None else scales.nbytes)


def narrow(model: Any, lean: Lean, bits: int, native: Native) -> dict[nn.Linear, NarrowLinear]:
    """Put every linear layer that ``lean`` names, but the small gate of shared experts, into ``bits``; by the layer it replaces.

    The routers stay as they are: they are small, and what they choose is worth more than their bytes.
    """
    linears = {lean.head}
    for layer in lean.layers:
        a, mlp = layer.attention, layer.mlp
        linears |= {a.q, a.k, a.v, a.o} | ({mlp.gate, mlp.up, mlp.down} if mlp else set())
    narrowed = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and module in linears:
            narrowed[module] = NarrowLinear(module, bits, native)
            path, _, local = name.rpartition(".")
            setattr(model.get_submodule(path), local, narrowed[module])
    return narrowed

