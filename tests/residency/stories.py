"""What may happen to an eviction policy, for hypothesis to make up: shapes, tokens, prefills, loads, predictions, requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as some

from tests.residency.policy import Tried

Moment = tuple[int, int]  # pass, layer


@dataclass
class Turn:
    """A layer's turn: the experts its router chose (numbers in the layer), what is loaded for it, what is said of its next one."""

    chosen: list[int]
    prefill: bool
    begins: bool
    loaded: list[int]
    odds: list[float] | None


@dataclass
class Story:
    """Turns of one layer after the other, from layer 0 on."""

    shape: tuple[int, int]
    turns: list[Turn]
    expected: list[float] | None  # [N]
    sizes: list[int]  # [N], bytes of each record

    def at(self, number: int) -> Moment:
        return divmod(number, self.shape[0])

    @property
    def end(self) -> Moment:
        return self.at(max(len(self.turns) - 1, 0))

    def tell(self, policy: Tried, first: int = 0, last: int | None = None) -> None:
        """Tell the turns from ``first`` to before ``last``; what was expected only at the very beginning."""
        if self.expected is not None and first == 0:
            policy.expect(self.expected)
        for number, turn in list(enumerate(self.turns))[first:last]:
            at = self.at(number)
            layer, begin = at[1], at[1] * self.shape[1]
            if turn.begins and layer == 0:
                policy.begin_request()
            policy.used([begin + e for e in turn.chosen], at, turn.prefill)
            for e in turn.loaded:
                policy.loaded(begin + e, at)
            if turn.odds is not None:
                policy.predicted((layer + 1) % self.shape[0], turn.odds)


@some.composite
def stories(draw: some.DrawFn) -> Story:
    """In every turn at least one expert is chosen."""
    layers, experts = draw(some.integers(1, 4)), draw(some.integers(1, 6))
    chance = some.floats(0, 1, width=32)
    local = some.integers(0, experts - 1)
    turn = some.builds(
        Turn, some.lists(local, min_size=1, unique=True), some.booleans(), some.booleans(), some.lists(local, max_size=2),
        some.none() | some.lists(chance, min_size=experts, max_size=experts),
    )  # fmt: skip
    n = layers * experts
    return Story(
        (layers, experts), draw(some.lists(turn, max_size=24)), draw(some.none() | some.lists(chance, min_size=n, max_size=n)),
        draw(some.lists(some.integers(1, 40).map(lambda pages: 4096 * pages), min_size=n, max_size=n)),
    )  # fmt: skip


def leaving(scores: np.ndarray) -> list[int]:
    """In which order experts leave: the highest score first, among equals the lowest number."""
    return np.argsort(-scores, kind="stable").tolist()
