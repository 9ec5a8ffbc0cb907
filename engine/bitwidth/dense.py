"""A store's experts computed densely, at whatever widths a plan gives them: for measuring plans, not for running models.

T tokens, k experts a token, d hidden; S MoE layers, E experts a layer, N = S · E.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engine.kernels import reference
from engine.quant import ExpertWeights, Matrix
from engine.store import Store

CACHE_BYTES = 1 << 30
"""Dense weights kept, at most: the experts of a small model at the few widths in question. A larger one's are read anew."""


class DenseExperts:
    """A runtime for ``Skeleton.bind``: every expert in float32, at the width ``bits`` [N] gives it.

    Many texts go through a layer at once, so each expert is read and unpacked once for all of their tokens. ``before`` is told the number
    of every expert that is to be computed, and may raise to stop: of a large model a layer takes long.
    """

    def __init__(
        self, store: Store, bits: Sequence[int], cache_bytes: int = CACHE_BYTES, before: Callable[[int], None] = lambda number: None
    ) -> None:
        self.store, self.bits, self.before = store, list(bits), before
        self._cache: OrderedDict[tuple[int, int], tuple[ExpertWeights, int]] = OrderedDict()
        self._held, self._most = 0, cache_bytes

    def forward(self, module: Any, layer: int, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """See ``interface.Runtime``."""
        out = torch.zeros_like(hidden)
        for expert, tokens, place in chosen(index, self.store.spec.experts):
            number = layer * self.store.spec.experts + expert
            y = self.outputs(module, number, self.bits[number], hidden[tokens])
            out.index_add_(0, tokens, y * weights[tokens, place, None].to(y.dtype))
        return out

    def outputs(self, module: nn.Module, number: int, bits: int, hidden: Tensor) -> Tensor:
        """What expert ``number`` makes at a width of ``hidden`` [T, d], before the router's weight."""
        return reference.forward(hidden, self.weights(number, bits), module)

    def weights(self, number: int, bits: int) -> ExpertWeights:
        """The expert's weights in float32.

        Raises:
            EngineError: its record is damaged.
        """
        self.before(number)
        found = self._cache.pop((number, bits), None)
        if found is None:
            found = self._read(number, bits)
            self._held += found[1]
        self._cache[number, bits] = found
        while self._held > self._most and len(self._cache) > 1:
            _, (_, size) = self._cache.popitem(last=False)
            self._held -= size
        return found[0]

    def forget(self) -> None:
        """Give back the memory of all weights that are kept."""
        self._cache.clear()
        self._held = 0

    def _read(self, number: int, bits: int) -> tuple[ExpertWeights, int]:
        packed = self.store.load(*divmod(number, self.store.spec.experts), bits)
        dense = ExpertWeights(16, _dense(packed.up), _dense(packed.down), packed.up_bias, packed.down_bias)
        return dense, dense.up.codes.nbytes + dense.down.codes.nbytes


def chosen(index: Tensor, experts: int) -> list[tuple[int, Tensor, Tensor]]:
    """Each expert that ``index`` [T, k] names, with its tokens and its place among their choices."""
    found = []
    for expert in torch.unique(index).tolist():
        if 0 <= expert < experts:  # some families pad with one that is none
            tokens, place = torch.where(index == expert)
            found.append((int(expert), tokens, place))
    return found


def _dense(matrix: Matrix) -> Matrix:
    return Matrix(16, matrix.rows, matrix.columns, matrix.dense(torch.float32))
