"""What each expert's loss would be at each width, from one look at the text: all experts and widths at once.

B blocks, W tokens a block, T = B · W, d hidden; S MoE layers, E experts a layer, N = S · E.

To second order, moving what an expert adds to the residual stream by δ (at the tokens it gets, times the router's weight) moves the
distribution by a divergence of ½ δᵀ F δ, F being Fisher's information of the next token about the stream; there is no first-order term, for
the divergence from a model itself is least at that model. F is the mean of g gᵀ, where g is the gradient of the log likelihood of a token
drawn from the model's own distribution (why not of the token that came: Kunstner et al. 2019). Terms between tokens are left out: in
variance they add more than they tell. Errors of different experts are taken to be independent, so that losses add up. How far both is
true, measuring the plan shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from engine.bitwidth.dense import DenseExperts, chosen
from engine.models.skeleton import Skeleton
from engine.store import Store

_TOGETHER = 4096  # tokens
_AT_ONCE = 1 << 29  # bytes of logits; there are five arrays of their size on the way
Losses = npt.NDArray[np.float64]


class Sensitivity:
    """``losses`` [N, widths]: nats a token that each width of the store is estimated to cost where all else stays; 0 at the highest.
    ``uses`` [N]: how often a token uses each expert."""

    def __init__(self, store: Store) -> None:
        count = store.spec.layers * store.spec.experts
        self.widths = store.widths
        self.losses: Losses = np.zeros((count, len(store.widths)))
        self.uses: Losses = np.zeros(count)


def estimate(
    skeleton: Skeleton, blocks: Tensor, step: Callable[[int], None] = lambda done: None, seed: int = 0,
    before: Callable[[int], None] = lambda number: None,
) -> Sensitivity:  # fmt: skip
    """Look at blocks [B, W + 1]; ``step`` is told the blocks done, ``before`` the expert that comes, and either may raise to stop."""
    store = skeleton.store
    found, total = Sensitivity(store), 0
    generator = torch.Generator().manual_seed(seed)
    many = max(1, min(_TOGETHER, _AT_ONCE // (4 * skeleton.vocabulary)) // blocks.shape[1])
    for first in range(0, len(blocks), many):
        ids = blocks[first : first + many, :-1]
        watched = _Watched(store, before)
        skeleton.bind(watched)
        with torch.enable_grad():
            # No weight wants a gradient; the stream gets one from its beginning on.
            stream = skeleton.model.get_input_embeddings()(ids).detach().requires_grad_()
            logs = skeleton.model(inputs_embeds=stream, use_cache=False).logits.float().log_softmax(-1)
            drawn = torch.multinomial(logs.detach().exp().flatten(0, 1), 1, generator=generator)
            (-logs.flatten(0, 1).gather(1, drawn).sum()).backward()
        with torch.inference_mode():
            for layer, passed in enumerate(watched.passed):
                _weigh(found, watched, layer, passed)
        total += ids.numel()
        step(min(first + many, len(blocks)))
    found.losses /= total
    found.uses /= total
    return found


class _Watched(DenseExperts):
    """Experts at the store's highest width, which keep what went in at each layer and the gradient of what came out."""

    def __init__(self, store: Store, before: Callable[[int], None]) -> None:
        super().__init__(store, [max(store.widths)] * (store.spec.layers * store.spec.experts), before=before)
        self.passed: list[dict[str, Any]] = []

    def forward(self, module: Any, layer: int, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        # Made again in the backward pass: the dense weights of all layers at once may be more than there is memory.
        out: Tensor = checkpoint(super().forward, module, layer, hidden, index, weights, use_reentrant=False)
        kept = {"module": module, "hidden": hidden.detach(), "index": index, "weights": weights.detach()}
        out.register_hook(lambda gradient: kept.__setitem__("gradient", gradient))  # type: ignore[no-untyped-call]
        self.passed.append(kept)
        return out


def _weigh(found: Sensitivity, experts: _Watched, layer: int, passed: dict[str, Any]) -> None:
    """Add what every expert of a layer would lose at every width, over the tokens that it got."""
    module, highest = passed["module"], max(found.widths)
    for expert, tokens, place in chosen(passed["index"], experts.store.spec.experts):
        number = layer * experts.store.spec.experts + expert
        hidden, gradient = passed["hidden"][tokens], passed["gradient"][tokens] * passed["weights"][tokens, place, None]
        exact = experts.outputs(module, number, highest, hidden)
        for at, bits in enumerate(found.widths):
            if bits != highest:
                error = experts.outputs(module, number, bits, hidden) - exact
                found.losses[number, at] += 0.5 * float((error * gradient).sum(1).double().square().sum())
        found.uses[number] += len(tokens)
