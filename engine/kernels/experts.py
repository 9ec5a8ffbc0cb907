"""The experts of one model on their tokens: by native kernels where they are built, by torch where not.

T tokens, d hidden, n = 2·ff rows of the up projection with a gate and ff without.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import activations
from transformers.integrations import moe

from engine.kernels import reference
from engine.kernels.library import ExpertLayout, Native
from engine.kernels.matrices import expert_layout, quantized
from engine.quant.matrix import ExpertWeights
from engine.store import Store

_FUSED: dict[type, str] = {
    nn.SiLU: "silu", activations.SiLUActivation: "silu", nn.GELU: "gelu", activations.GELUActivation: "gelu",
    activations.GELUTanh: "gelu_tanh", activations.NewGELUActivation: "gelu_tanh", nn.ReLU: "relu",
    activations.ReLUSquaredActivation: "relu2",
}  # fmt: skip


def fused_activation(module: Any) -> str | None:
    """The name of what an experts module does between up and down, if the native kernels do just that."""
    between = getattr(module, "act_fn", None)
    name = _FUSED.get(type(between))
    if name == "gelu" and getattr(between, "approximate", "none") == "tanh":
        name = "gelu_tanh"
    own_gate = module.has_gate and type(module)._apply_gate is not moe._default_apply_gate
    return None if own_gate else name


class ExpertKernels:
    """Computes a store's experts; ``module`` is any of the model's experts modules, ``native`` None for torch."""

    def __init__(self, store: Store, module: Any, native: Native | None) -> None:
        self.native = native
        self.activation = fused_activation(module)
        self.index_of = {bits: index for index, bits in enumerate(store.widths)}
        # The kinds that the fused kernels cannot do get a layout as well: it says where the matrices lie.
        layouts = [expert_layout(store.spec, store.layout(bits), self.activation or "silu") for bits in store.widths]
        self.layouts = (ExpertLayout * len(layouts))(*layouts)

    def forward(self, x: Tensor, record: int, weights: ExpertWeights, module: Any) -> Tensor:
        """The expert's output [T, d] for its tokens x [T, d], before the router's weight is applied.

        ``record`` is the address of its bytes, ``weights`` the same bytes as tensors.
        """
        if self.native is None:
            return reference.forward(x, weights, module)
        rows = x.float().contiguous()
        if self.activation is not None:
            y = self.native.expert(record, self.layouts[self.index_of[weights.bits]], rows)
        else:
            hidden = self.native.linear(quantized(weights.up, weights.up_bias), rows)  # [T, n]
            hidden = module._apply_gate(hidden) if module.has_gate else module.act_fn(hidden)
            y = self.native.linear(quantized(weights.down, weights.down_bias), hidden.contiguous())
        y = y.to(x.dtype)
        return module.post_expert_norm(y) if module.has_post_expert_norm else y
