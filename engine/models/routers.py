"""The routers of a model, reached from outside: what the next layers would choose for this layer's hidden state.

E experts, d hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from engine.models.anatomy import LayerParts

Scores = Callable[[Tensor], Tensor]
"""From a hidden state [1, d] to a score an expert [E]: what ranks them as the router does."""


def scores_of(layer: LayerParts, experts: int, hidden: int) -> Scores | None:
    """The scores of an MoE layer's router; None where the block holds nothing that is plainly one: one matrix [E, d] beside the experts.

    A correction that a router adds only to choose (DeepSeek-V3 and its kin) is added here too. Groups of experts are not looked at.
    """
    if layer.block is None:
        return None
    held = {id(parameter) for parameter in layer.experts.parameters()} if layer.experts is not None else set()
    found = [
        module for module in layer.block.modules()
        if isinstance(weight := getattr(module, "weight", None), Tensor)
        and tuple(weight.shape) == (experts, hidden) and id(weight) not in held
    ]  # fmt: skip
    if len(found) != 1:
        return None
    router: Any = found[0]
    correction = next((t for name, t in _tensors(layer.block) if name.endswith("e_score_correction_bias") and t.numel() == experts), None)
    bias = getattr(router, "bias", None)

    def scores(state: Tensor) -> Tensor:
        logits = nn.functional.linear(state.float(), router.weight.float())[0]
        if isinstance(bias, Tensor) and bias.shape == logits.shape:
            logits = logits + bias.float()
        return logits if correction is None else torch.sigmoid(logits) + correction.float()

    return scores


def _tensors(block: nn.Module) -> list[tuple[str, Tensor]]:
    return [*block.named_parameters(), *block.named_buffers()]
