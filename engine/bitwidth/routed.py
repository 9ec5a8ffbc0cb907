"""Which experts the model itself uses on a text, for replays: its routers' choices at the store's highest width.

B blocks, W tokens a block, T = B · W, S MoE layers, k experts a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.bitwidth.dense import DenseExperts
from engine.models.skeleton import Skeleton
from engine.simulate.routing import Routing, checked

_TOGETHER = 4096  # tokens


class _Noting(DenseExperts):
    """Experts that keep what the routers chose, [tokens, k] a layer."""

    chosen: list[Tensor]

    def forward(self, module: Any, layer: int, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        self.chosen.append(index)
        return super().forward(module, layer, hidden, index, weights)


@torch.inference_mode()
def routing_of(skeleton: Skeleton, blocks: Tensor, step: Callable[[int], None] = lambda done: None) -> Routing:
    """Of blocks [B, W + 1], each a request of W decoded tokens; ``step`` is told the blocks done, and may raise to stop."""
    store = skeleton.store
    experts = _Noting(store, [max(store.widths)] * (store.spec.layers * store.spec.experts))
    skeleton.bind(experts)
    many, found = max(1, _TOGETHER // blocks.shape[1]), list[np.ndarray]()
    for first in range(0, len(blocks), many):
        ids = blocks[first : first + many, :-1]
        experts.chosen = []
        skeleton.model(input_ids=ids, use_cache=False, logits_to_keep=1)
        index = torch.stack(experts.chosen, 1)  # [T, S, k]
        found.append(torch.where(index < store.spec.experts, index, -1).to(torch.int16).numpy())
        step(min(first + many, len(blocks)))
    lengths = np.full(len(blocks), blocks.shape[1] - 1)
    return checked("the text", np.concatenate(found), lengths, store.spec.experts)
