"""The buffer under whatever a stream may do to it: never over its budget, nobody evicted who is in use, no record over another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from mmap import PAGESIZE

from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.events import Residency
from tests.residency.policy import Tried
from tests.residency.stories import leaving
from tests.residency.trial import Trial

ABSENT, LOADING, RESIDENT, STAGED = Residency
BITS = (2, 4, 8)
NUMBERS = some.integers(0, 63)  # which of those that may be chosen, by its place among them
PAGES = some.integers(1, 6)


class Held(RuleBasedStateMachine):
    """A buffer, and beside it what is known of every expert: how many bytes it holds, whether it was read ahead, who pinned it."""

    @initialize(shape=some.tuples(some.integers(1, 4), some.integers(2, 5)), pages=some.tuples(*[PAGES] * 3), room=some.integers(6, 30))
    def begin(self, shape: tuple[int, int], pages: tuple[int, int, int], room: int) -> None:
        self.shape, self.at = shape, (0, 0)
        self.policy = Tried("lru", shape)
        self.widths = dict(zip(BITS, (PAGESIZE * n for n in pages), strict=True))
        self.budget = room * PAGESIZE
        self.staging = 0
        self.trial = Trial(self.policy, self.widths, self.budget)
        self.held: dict[int, int] = {}  # bytes
        self.width: dict[int, int] = {}
        self.odds: dict[int, float] = {}  # of those in the staging area
        self.pinned: set[int] = set()
        self.loading: set[int] = set()
        self.wasted = self.used = 0
        self.mark: dict[int, int] = {}  # what was written into each record

    def teardown(self) -> None:
        if hasattr(self, "trial"):
            self.trial.close()
            self.policy.close()

    # --- what is known ---

    def one(self, number: int, of: Callable[[int], bool]) -> int | None:
        there = [e for e in range(self.policy.count) if of(e)]
        return there[number % len(there)] if there else None

    def residents(self) -> set[int]:
        return self.held.keys() - self.odds.keys()

    def evictable(self) -> set[int]:
        return self.residents() - self.pinned - self.loading

    def bytes_of(self, experts: set[int]) -> int:
        return sum(self.held[e] for e in experts)

    def staged(self) -> int:
        return self.bytes_of(set(self.odds))

    def distance(self, expert: int) -> int:
        layers = self.shape[0]
        return (expert // self.shape[1] - self.at[1] - 1) % layers + 1

    def forget(self, experts: set[int]) -> None:
        for e in experts:
            for known in (self.held, self.width, self.odds, self.mark):
                known.pop(e, None)
            self.pinned.discard(e)
            self.loading.discard(e)

    def takes(self, expert: int, width: int) -> None:
        self.held[expert], self.width[expert] = self.widths[BITS[width]], width
        self.loading.add(expert)

    def lands(self, expert: int) -> None:
        self.trial.arrived(expert)
        self.loading.remove(expert)
        self.mark[expert] = 1 + (expert * 37 + len(self.mark)) % 255
        memory = self.trial.memory(expert, self.held[expert])
        memory[:] = [self.mark[expert]] * len(memory)

    def make_room(self, room: int) -> bool:
        """Who leaves until ``room`` bytes hold the residents, as the policy says."""
        if self.bytes_of(self.residents() - self.evictable()) > room:
            return False
        for e in leaving(self.policy.scores(self.at)):
            if self.bytes_of(self.residents()) > room and e in self.evictable():
                self.forget({e})
        return True

    def gone(self) -> set[int]:
        """Those that were held and are not."""
        return {e for e, state in enumerate(self.trial.states()) if state == ABSENT and e in self.held}

    # --- what a stream does ---

    @rule(number=NUMBERS, width=some.integers(0, 2), at_once=some.booleans())
    def demand(self, number: int, width: int, at_once: bool) -> None:
        """``at_once``: it arrives, is used and let go before anything else happens."""
        e = self.one(number, lambda e: e not in self.held)
        if e is None:
            return
        nbytes = self.widths[BITS[width]]
        granted = self.make_room(self.budget - max(self.staging, self.staged()) - nbytes)
        assert self.trial.admit(e, width, self.at) == granted
        if granted:
            self.takes(e, width)
            self.pinned.add(e)
        if granted and at_once:
            self.lands(e)
            self.trial.unpin(e)
            self.pinned.remove(e)

    @rule(number=NUMBERS, width=some.integers(0, 2), odds=some.floats(0, 1, width=32))
    def read_ahead(self, number: int, width: int, odds: float) -> None:
        e = self.one(number, lambda e: e not in self.held)
        if e is None:
            return
        nbytes, distance = self.widths[BITS[width]], self.distance(e)
        yielding = {s for s in self.odds.keys() - self.pinned - self.loading if self.distance(s) > distance}
        granted = self.trial.stage(e, width, self.at, distance, odds)
        dropped = self.gone()
        fits = self.staged() - self.bytes_of(yielding) + nbytes <= self.staging
        assert granted == (fits and self.bytes_of(self.residents()) + self.staging <= self.budget)
        assert dropped <= yielding, "only what was read ahead for a later turn makes room, and no resident does"
        assert granted or not dropped, "nothing is dropped for what gets no room"
        order = {s: (-self.distance(s), self.odds[s]) for s in yielding}
        assert all(order[s] <= order[kept] for s in dropped for kept in yielding - dropped), "the furthest goes, then the least likely"
        self.wasted += self.bytes_of(dropped)
        self.forget(dropped)
        if granted:
            self.takes(e, width)
            self.odds[e] = odds

    @rule(number=NUMBERS)
    def use_what_was_read_ahead(self, number: int) -> None:
        e = self.one(number, lambda e: e in self.odds)
        if e is None:
            return
        self.trial.pin(e)
        self.pinned.add(e)
        nbytes = self.held[e]
        granted = self.make_room(self.budget - max(self.staging, self.staged() - nbytes) - nbytes)
        assert self.trial.adopt(e, self.at) == granted
        if granted:
            del self.odds[e]
            self.used += nbytes

    @rule(number=NUMBERS)
    def arrive(self, number: int) -> None:
        e = self.one(number, lambda e: e in self.loading)
        if e is not None:
            self.lands(e)

    @rule(number=NUMBERS)
    def fail_to_read(self, number: int) -> None:
        e = self.one(number, lambda e: e in self.loading)
        if e is not None:
            self.trial.abandon(e)
            self.forget({e})

    @rule(number=NUMBERS)
    def use_again(self, number: int) -> None:
        e = self.one(number, lambda e: e in self.residents())
        if e is not None:
            self.trial.pin(e)
            self.pinned.add(e)
            self.policy.used([e], self.at)

    @rule(number=NUMBERS)
    def let_go(self, number: int) -> None:
        e = self.one(number, lambda e: e in self.pinned - self.loading)
        if e is not None:
            self.trial.unpin(e)
            self.pinned.remove(e)

    @rule()
    def next_layer(self) -> None:
        pass_, layer = self.at
        self.at = (pass_, layer + 1) if layer + 1 < self.shape[0] else (pass_ + 1, 0)

    # --- settings ---

    @rule(share=some.floats(0, 1))
    def keep_room_for_reads_ahead(self, share: float) -> None:
        self.staging = int(share * self.budget)
        self.trial.set_staging(self.staging, self.at)
        dropped = self.gone() & self.odds.keys()
        assert not dropped & (self.pinned | self.loading)
        self.wasted += self.bytes_of(dropped)
        self.forget(dropped)
        assert self.staged() <= self.staging or not self.odds.keys() - self.pinned - self.loading
        self.make_room(self.budget - max(self.staging, self.staged()))

    @precondition(lambda self: not self.pinned and not self.loading)
    @rule(room=some.integers(0, 40), share=some.floats(0, 1))
    def take_another_budget(self, room: int, share: float) -> None:
        budget = room * PAGESIZE
        self.trial.resize(budget, self.at)
        self.wasted += self.staged()
        self.forget(set(self.odds))
        self.make_room(budget - min(self.staging, budget))
        self.budget = budget
        view = self.trial.view()
        assert (view.budget, view.committed) == (budget, view.held), "what is free is given back"
        self.keep_room_for_reads_ahead(share)

    @rule()
    def clear(self) -> None:
        self.trial.clear()
        self.wasted += self.bytes_of(self.odds.keys() - self.pinned - self.loading)
        self.forget(set(self.held) - self.pinned - self.loading)
        view = self.trial.view()
        assert view.committed == view.held

    # --- what always holds ---

    @invariant()
    def states_are_exact(self) -> None:
        for e, state in enumerate(self.trial.states()):
            known = ABSENT if e not in self.held else LOADING if e in self.loading else STAGED if e in self.odds else RESIDENT
            assert state == known, f"{e} is {state.name} and should be {known.name}"

    @invariant()
    def the_budget_is_a_ceiling(self) -> None:
        view = self.trial.view()
        held = sum(self.held.values())
        assert (view.held, view.most_over) == (held, 0)
        assert held <= view.peak and held <= view.committed <= self.budget
        assert sys.platform != "linux" or self.trial.physical() <= view.committed
        assert view.by_width[:3] == [sum(n for e, n in self.held.items() if self.width[e] == w) for w in range(3)]
        assert (self.trial.totals.wasted_bytes, self.trial.totals.useful_bytes) == (self.wasted, self.used)

    @invariant()
    def no_record_lies_over_another(self) -> None:
        view = self.trial.view()
        places = sorted((int(view.records[e]), self.held[e]) for e in self.mark)
        assert all(begin + n <= other for (begin, n), (other, _) in zip(places, places[1:], strict=False))
        assert all(view.records[e] == 0 for e in range(self.policy.count) if e not in self.mark)
        for e, mark in self.mark.items():
            assert bytes(self.trial.memory(e, self.held[e])) == bytes([mark]) * self.held[e]


TestHeld = Held.TestCase
TestHeld.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)


def test_what_was_read_ahead_is_not_dropped_for_a_record_that_gets_no_room() -> None:
    """Of two widths: the two small ones further off would not make room enough, as the one nearer stays."""
    with Tried("lru", (4, 4)) as policy, closing(Trial(policy, {2: PAGESIZE, 8: 3 * PAGESIZE}, 16 * PAGESIZE)) as trial:
        trial.set_staging(4 * PAGESIZE, (0, 0))
        for expert, distance in ((4, 1), (5, 1), (12, 3), (13, 3)):
            assert trial.stage(expert, 0, (0, 0), distance, 0.5)
            trial.arrived(expert)
        assert not trial.stage(8, 1, (0, 0), 2, 0.9)
        assert trial.totals.wasted_bytes == 0
        assert trial.stage(9, 0, (0, 0), 2, 0.9)
        assert trial.totals.wasted_bytes == PAGESIZE


def test_without_memory_behind_it_a_buffer_counts_alike() -> None:
    with Tried("lru", (2, 2)) as policy, closing(Trial(policy, {4: 1000}, 2500, memory=False)) as trial:
        assert trial.admit(0, 0, (0, 0)) and trial.admit(1, 0, (0, 0)) and not trial.admit(2, 0, (0, 1))
        trial.arrived(0)
        trial.unpin(0)
        assert trial.admit(2, 0, (0, 1))
        view = trial.view()
        assert (view.held, view.peak, view.most_over, view.evictions, view.committed) == (2000, 2000, 0, 1, 0)
        assert trial.states() == [ABSENT, LOADING, LOADING, ABSENT]


def test_memory_kept_in_free_slots_yields_to_a_longer_record() -> None:
    with Tried("lru", (1, 4)) as policy, closing(Trial(policy, {2: PAGESIZE, 8: 2 * PAGESIZE}, 3 * PAGESIZE)) as trial:
        for expert in (0, 1, 2):
            assert trial.admit(expert, 0, (0, 0))
            trial.arrived(expert)
            trial.unpin(expert)
        assert trial.admit(3, 1, (1, 0)), "two leave, one slot grows, and the other is given back"
        view = trial.view()
        assert (view.held, view.committed, view.most_over) == (3 * PAGESIZE, 3 * PAGESIZE, 0)
