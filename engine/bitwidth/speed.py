"""Plans by how fast they run: a plan's time a token is that of a replay of some routing within a budget (engine/simulate).

N experts, W widths, T decoded tokens.

A replay tells what a whole plan takes, not what one expert's width does, and there are too many plans to replay. So time is
made linear around a plan: narrowing an expert saves reading, as often as it is missed; computing, as often as it is used; and room, while
it is held, in which others are kept.
What a byte read, a ns computed and a byte of room are worth is found by replaying that plan on
a storage that is a little slower, a machine that is a little slower, in a budget a little smaller and larger. (What a read
costs at any size, its latency, is the same at all widths: it is in the worth of room.) The plan that is cheapest so is replayed, and
is where time is made linear next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

from engine.bitwidth.knapsack import Choice, Floats, Packed, cheapest
from engine.errors import Cancelled, EngineError
from engine.simulate.cost import Costs
from engine.simulate.replay import Cell, Records, Replay, Replayed
from engine.simulate.routing import NONE, Routing

_ROUNDS = 4  # plans that time is made linear around
_SLOWER, _ROOM = 0.05, 0.05  # by which shares it is tried what time and room are worth
MOST_REPLAYS = 2 + _ROUNDS * 5
"""By one packing."""
_USES = 400_000  # of experts by the tokens that are replayed: more tell little more, and each plan is replayed


@dataclass(frozen=True)
class Worth:
    """Around one plan, in s a token: of a token's reading ``read`` a byte, of its computing ``compute`` (a share: what is not hidden
    behind reads), and ``room`` a byte of the budget."""

    read: float
    compute: float
    room: float


class Speed:
    """The objective of most tokens/s: ``routing`` within a ``budget`` in bytes under a policy, on a machine of these ``costs``.

    Plans are of ``widths``; ``record_bytes`` may tell of more, to predict others by. Experts are read on demand; ``step`` is told before
    every replay how many there were since the packing began, and may raise to stop.

    Raises:
        EngineError: the budget holds one layer's experts of one token at no width, or there is nothing to replay.
    """

    def __init__(
        self, routing: Routing, costs: Costs, budget: int, eviction: str, record_bytes: dict[int, int], widths: tuple[int, ...],
        step: Callable[[int], object] = lambda done: None,
    ) -> None:  # fmt: skip
        self.routing = routing.sample(max(1, _USES // (routing.layers * routing.top_k)))
        if not self.routing.tokens:
            raise EngineError("The routing holds no decoded token; record requests of more than one new token")
        self.machine, self.budget, self.eviction, self.widths = costs, budget, eviction, widths
        self.record_bytes = record_bytes
        self._sizes = np.array([record_bytes[bits] for bits in widths], np.float64)
        self._fitting = np.flatnonzero(self._sizes * routing.top_k <= budget)
        if not len(self._fitting):
            least = int(self._sizes.min()) * routing.top_k
            raise EngineError(f"A budget of {budget:,} bytes cannot hold one layer's experts of one token; the smallest is {least:,}")
        numbers = self.routing.experts + np.arange(routing.layers, dtype=np.int64)[:, None] * routing.expert_count
        uses = np.bincount(numbers[self.routing.experts != NONE], minlength=routing.shape.total)
        self.uses: Floats = uses / self.routing.tokens
        self._known: dict[bytes, Replayed] = {}
        self._step, self._done = step, 0

    def predicted(self, bits: Sequence[int]) -> Replayed | None:
        """What the routing comes to with these bits [N]; None where the budget does not hold one layer's experts of one token.

        Raises:
            Cancelled: ``step`` said so.
        """
        largest = max(self.record_bytes[width] for width in set(bits))
        return self._replayed(np.array(bits, np.int64)) if largest * self.routing.top_k <= self.budget else None

    def cost(self, choice: Choice) -> float:
        """Predicted s a token of a choice of widths by their places [N]; infinite where it does not fit."""
        return _seconds(self._told(choice)) if np.isin(choice, self._fitting).all() else np.inf

    def costs_around(self, choice: Choice) -> Floats:
        """What each expert adds to the s of a token at each width, [N, W], around a plan."""
        told, worth = self._told(choice), self._worth(choice)
        misses, held = (counts / told.tokens for counts in (told.expert_misses, told.held))
        seconds = np.array([self.machine.expert_ns.get(bits, 0) for bits in self.widths]) / 1e9
        costs: Floats = np.outer(misses * worth.read + held * worth.room, self._sizes) + np.outer(self.uses * worth.compute, seconds)
        least: Floats = 1e-6 * costs.mean() * self._sizes / self._sizes.max()
        return costs + least  # of what the routing never uses, the smaller record

    def pack(self, losses: Floats, allowed: float) -> Packed | None:
        """The fastest plan found that by estimate loses at most ``allowed``: never slower than that of the fewest bytes on storage or
        a token. Its cost is in s a token; no bound is known."""
        self._done, few = 0, losses[:, self._fitting]
        stored = np.tile(self._sizes[self._fitting], (len(losses), 1))
        tried = list[Choice]()
        for costs in (stored, stored * np.maximum(self.uses, 1e-6)[:, None]):
            packed = cheapest(costs, few, allowed)
            if packed is None:
                return None
            tried.append(self._fitting[packed.choice])
        for _ in range(_ROUNDS):
            packed = cheapest(self.costs_around(min(tried, key=self.cost))[:, self._fitting], few, allowed)
            assert packed is not None, "another was allowed"
            choice = self._fitting[packed.choice]
            if any((choice == other).all() for other in tried):
                break
            tried.append(choice)
        best = min(tried, key=self.cost)
        return Packed(best, self.cost(best), float(losses[np.arange(len(best)), best].sum()), 0.0)

    def _worth(self, choice: Choice) -> Worth:
        """By replays that differ in one thing each. Who is missed does not depend on the clock: differences are exact but for room."""
        machine, device, bits = self.machine, self.machine.device, self._bits(choice)
        told = self._told(choice)
        usual, read = _seconds(told), told.demand_bytes / told.tokens
        slow_disk = replace(machine, device=msgspec.structs.replace(device, bandwidth=device.bandwidth / (1 + _SLOWER)))
        slow_cores = replace(machine, expert_ns={bits: round(ns * (1 + _SLOWER)) for bits, ns in machine.expert_ns.items()})
        computed = float(self.uses @ np.array([machine.expert_ns.get(bits, 0) for bits in self.widths])[choice]) / 1e9
        slower_read = _seconds(self._replayed(bits, slow_disk)) - usual
        slower_compute = _seconds(self._replayed(bits, slow_cores)) - usual
        least = int(self._sizes[choice].max()) * self.routing.top_k
        tight, wide = max(least, round(self.budget * (1 - _ROOM))), round(self.budget * (1 + _ROOM))
        gained = _seconds(self._replayed(bits, budget=tight)) - _seconds(self._replayed(bits, budget=wide))
        return Worth(
            max(0.0, slower_read / (_SLOWER * read)) if read else 0.0, max(0.0, slower_compute / (_SLOWER * computed)) if computed else 0.0,
            max(0.0, gained / (wide - tight)),
        )  # fmt: skip

    def _told(self, choice: Choice) -> Replayed:
        """Of a plan that fits, replayed once."""
        key = choice.astype(np.uint8).tobytes()
        if key not in self._known:
            self._known[key] = self._replayed(self._bits(choice))
        return self._known[key]

    def _bits(self, choice: Choice) -> npt.NDArray[np.int64]:
        bits: npt.NDArray[np.int64] = np.array(self.widths, np.int64)[choice]
        return bits

    def _replayed(self, bits: npt.NDArray[np.int64], machine: Costs | None = None, budget: int | None = None) -> Replayed:
        self._step(self._done)
        self._done += 1
        records = Records(self.record_bytes, bits)
        told = Replay(self.routing, records, machine or self.machine).run(Cell(budget or self.budget, self.eviction))
        if told is None:
            raise Cancelled
        return told


def _seconds(told: Replayed) -> float:
    return told.ns / told.tokens / 1e9
