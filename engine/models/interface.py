"""Our experts implementation, registered in transformers' experts interface under ``NAME``.

T tokens, k experts a token, d hidden.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

NAME = "edgemoe"


class Runtime(Protocol):
    """Whoever computes the experts of a bound model: the session, or a test."""

    def forward(self, module: nn.Module, layer: int, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """Mix of the chosen experts [T, d] for ``hidden`` [T, d], ``index`` [T, k] and gate ``weights`` [T, k]."""
        ...


def bind(modules: list[nn.Module], runtime: Runtime) -> None:
    """Let ``runtime`` compute these experts modules, one a MoE layer, in order."""
    for layer, module in enumerate(modules):
        # Past nn.Module's own __setattr__, lest a runtime that is a module become a child of every layer.
        object.__setattr__(module, "_edgemoe", (runtime, layer))


def _experts_forward(module: Any, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    bound = getattr(module, "_edgemoe", None)
    if bound is None:
        raise RuntimeError("this model's experts are not bound to a runtime: call Skeleton.bind first")
    runtime, layer = bound
    return runtime.forward(module, layer, hidden, index, weights)  # type: ignore[no-any-return]


ALL_EXPERTS_FUNCTIONS.register(NAME, _experts_forward)
