"""Replays against what they stand for: plain policies, the best that can be done, and a clock kept by hand."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from functools import cache
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.events import Outcome
from engine.preload.device import Device
from engine.preload.path import Path
from engine.preload.transition import Transition
from engine.simulate.cost import Costs
from engine.simulate.native import Tape
from engine.simulate.replay import ORACLE, POLICIES, Cell, Records, Replay, Replayed
from engine.simulate.routing import NONE, Routing
from tests.simulate.cases import make_routing

SIZE = 1000
DEVICE = Device("test", "Test", bandwidth=1e9, latency=2e-6, queue_depth=8)
COSTS = Costs(DEVICE, layer_ns=500, token_ns=700, expert_ns={4: 300}, lanes=2, wake_ns=50)


def uniform(routing: Routing, costs: Costs = COSTS) -> Replay:
    return Replay(routing, Records({4: SIZE}, np.full(routing.shape.total, 4)), costs)


def ran(replay: Replay, cell: Cell) -> Replayed:
    told = replay.run(cell)
    assert told is not None and told.peak_bytes <= cell.budget
    assert sum(told.uses.values()) == int((replay.routing.experts != NONE).sum())
    assert told.tokens == replay.routing.tokens and told.misses.sum() == sum(told.uses[o] for o in MISSES)
    return told


MISSES = (Outcome.FIRST_TOUCH, Outcome.CAPACITY, Outcome.MISPREDICTED, Outcome.LATE)


def visits(routing: Routing) -> list[list[int]]:
    """Experts by number that each layer of each token uses."""
    return [
        [layer * routing.expert_count + e for e in routing.experts[token, layer].tolist() if e != NONE]
        for token, layer in product(range(routing.tokens), range(routing.layers))
    ]


small = st.builds(
    make_routing, lengths=st.lists(st.integers(0, 8), min_size=1, max_size=3), layers=st.integers(1, 3), experts=st.integers(2, 5),
    top_k=st.integers(1, 2), seed=st.integers(0, 999), gaps=st.booleans(),
)  # fmt: skip


def lru_hits(routing: Routing, room: int) -> int:
    held, hits = OrderedDict[int, None](), 0
    for uses in visits(routing):
        hits += sum(e in held for e in uses)
        for e in uses:
            held[e] = None
            held.move_to_end(e)
        while len(held) > room:
            held.popitem(last=False)
    return hits


@settings(max_examples=60, deadline=None)
@given(routing=small)
def test_lru_of_all_budgets_is_that_of_each(routing: Routing) -> None:
    told, uses = uniform(routing).lru_hits(), int((routing.experts != NONE).sum())
    hits = told.hits.tolist()
    assert told.uses == uses and told.first == uses - hits[-1]
    assert hits == [lru_hits(routing, room) for room in range(routing.shape.total + 1)]
    for room in range(routing.top_k, routing.shape.total + 1):
        replayed = ran(uniform(routing), Cell(room * SIZE, "lru"))
        assert (replayed.uses[Outcome.HIT], replayed.uses[Outcome.FIRST_TOUCH]) == (hits[room], told.first)
        assert replayed.uses[Outcome.CAPACITY] == uses - hits[room] - told.first and replayed.demand_bytes == SIZE * (uses - hits[room])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), gaps=st.booleans())
def test_lru_of_all_budgets_counts_prefills_as_the_engine_does(seed: int, gaps: bool) -> None:
    routing = make_routing(lengths=[5, 0, 4], layers=2, experts=6, top_k=2, seed=seed, prefill=True, gaps=gaps)
    told = uniform(routing).lru_hits()
    for room in range(routing.widest, routing.shape.total + 1):
        replayed = ran(uniform(routing), Cell(room * SIZE, "lru"))
        assert (replayed.uses[Outcome.HIT], replayed.uses[Outcome.FIRST_TOUCH]) == (told.hits[room], told.first)


def test_a_long_trace_is_looked_through_in_pieces() -> None:
    """Longer than what is looked ahead in one go, and than the places that uses are given."""
    routing, room = make_routing(lengths=[1500, 0, 1, 1024, 700], layers=2, experts=6, top_k=2, seed=5, gaps=True), 5
    sequence, replay = visits(routing), uniform(routing)
    assert replay.lru_hits().hits[room] == lru_hits(routing, room)
    following, then = [], {}  # type: list[dict[int, int]], dict[int, int]
    for number in range(len(sequence) - 1, -1, -1):  # when each expert used by a visit is used next
        following.append({e: then.get(e, len(sequence)) for e in sequence[number]})
        then |= dict.fromkeys(sequence[number], number)
    held, due, misses = set[int](), dict[int, int](), 0
    for uses, after in zip(sequence, reversed(following), strict=True):
        misses, due = misses + len(set(uses) - held), due | after
        spare = sorted(held - set(uses), key=lambda e: due[e])[: room - len(uses)]
        held = {*uses, *(spare if len(held | set(uses)) > room else held)}
    told = ran(replay, Cell(room * SIZE, ORACLE))
    assert sum(told.uses[o] for o in MISSES) == misses
    least = replay.least_mb_per_token(room * SIZE) * 1e6 * routing.tokens
    assert 0.7 * told.demand_bytes < round(least) <= told.demand_bytes


def test_prefills_are_run_and_not_counted() -> None:
    routing = make_routing(lengths=[6, 6], prefill=True, layers=2, experts=4)
    full = routing.shape.total
    told, cold = ran(uniform(routing), Cell(full * SIZE, "lru")), ran(uniform(make_routing([6, 6], 2, 4)), Cell(full * SIZE, "lru"))
    before = {(layer, expert) for request, layer, expert, _ in routing.prefill.tolist() if request == 0}
    used = {(layer, expert) for layer in range(2) for expert in routing.experts[:6, layer].ravel().tolist()}
    assert told.uses[Outcome.FIRST_TOUCH] <= len(used - before) + len({(s, e) for s in range(2) for e in range(4)} - before)
    assert told.uses[Outcome.FIRST_TOUCH] < cold.uses[Outcome.FIRST_TOUCH]
    assert told.uses[Outcome.HIT] == uniform(routing).lru_hits().hits[-1]


# --- the best that can be done ------------------------------------------------------------------------------------------


def fewest_misses(routing: Routing, room: int) -> int:
    """By trying every choice of who leaves: whoever a layer uses stays until it is done."""
    sequence = visits(routing)

    @cache
    def fewest(at: int, held: frozenset[int]) -> int:
        if at == len(sequence):
            return 0
        uses = frozenset(sequence[at])
        others, space = held - uses, room - len(uses)
        kept = [others] if len(others) <= space else map(frozenset, combinations(sorted(others), space))
        return len(uses - held) + min(fewest(at + 1, uses | keep) for keep in kept)

    return fewest(0, frozenset())


@settings(max_examples=60, deadline=None)
@given(routing=small, more=st.integers(0, 3))
def test_the_oracle_misses_least(routing: Routing, more: int) -> None:
    room = min(routing.top_k + more, routing.shape.total)
    replay = uniform(routing)
    told = ran(replay, Cell(room * SIZE, ORACLE))
    assert sum(told.uses[o] for o in MISSES) == fewest_misses(routing, room)
    for policy in POLICIES:
        other = ran(replay, Cell(room * SIZE, policy))
        assert sum(other.uses[o] for o in MISSES) >= sum(told.uses[o] for o in MISSES)
    assert replay.least_mb_per_token(room * SIZE) <= told.mb_per_token + 1e-12


def fewest_bytes(routing: Routing, sizes: tuple[int, ...], budget: int, initial: tuple[int, ...]) -> int:
    """By trying every part of every record that could be kept, in whole units."""
    sequence = visits(routing)

    @cache
    def fewest(at: int, held: tuple[int, ...]) -> int:
        if at == len(sequence):
            return 0
        read, most = 0, list(held)
        for e in sequence[at]:
            read, most[e] = read + sizes[e] - held[e], sizes[e]
        spare = sum(most) - budget
        if spare <= 0:
            return read + fewest(at + 1, tuple(most))
        choices = product(*(range(part + 1) for part in most))
        kept = (parts for parts in choices if sum(parts) == budget)
        return read + min(fewest(at + 1, parts) for parts in kept)

    return fewest(0, tuple(size if e in initial else 0 for e, size in enumerate(sizes)))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 9999), sizes=st.tuples(*[st.integers(1, 3)] * 4), spare=st.integers(0, 5), top_k=st.integers(1, 2),
    before=st.lists(st.integers(0, 3), unique=True),
)  # fmt: skip
def test_no_policy_reads_less_than_the_bound(seed: int, sizes: tuple[int, ...], spare: int, top_k: int, before: list[int]) -> None:
    routing = make_routing(lengths=[7], layers=1 + seed % 2, experts=4 // (1 + seed % 2), top_k=top_k, seed=seed)
    budget = top_k * max(sizes) + spare
    replay = Replay(routing, Records({2: 1, 4: 2, 8: 3}, np.array([{1: 2, 2: 4, 3: 8}[size] for size in sizes])), COSTS)
    initial = replay.fitting(np.array(before, np.int32), budget)
    least = round(replay.least_mb_per_token(budget, initial) * 1e6 * routing.tokens)
    assert least == fewest_bytes(routing, sizes, budget, tuple(initial.tolist()))
    for policy in (*POLICIES, ORACLE):
        assert ran(replay, Cell(budget, policy, initial=initial)).demand_bytes >= least


def test_the_bound_leaves_out_what_prefills_read() -> None:
    experts = np.array([[[0]], [[1]], [[0]]], np.int16)
    bare = Routing(experts, np.array([3]), 2)
    assert round(uniform(bare).least_mb_per_token(SIZE) * 3e6) == 2 * SIZE  # 0 stays while 1 is used
    read_before = Routing(experts, np.array([1, 2]), 2, np.array([[0, 0, 0, 5], [1, 0, 0, 1], [1, 0, 1, 1]], np.int32))
    assert round(uniform(read_before).least_mb_per_token(SIZE) * 3e6) == SIZE  # 0 and 1 from the prefills, and one of them again


# --- time -----------------------------------------------------------------------------------------------------------------


def clocked(routing: Routing, room: int, costs: Costs) -> tuple[int, int]:
    """ns of all tokens and of waiting, demand alone, LRU, with room for all that a layer reads at once."""
    held, now, stalled, bus = OrderedDict[int, None](), 0, 0, 0
    latency, transfer = int(costs.device.latency * 1e9), int(SIZE / costs.device.bandwidth * 1e9)
    for number, uses in enumerate(visits(routing)):
        now += costs.layer_ns
        hits, waiting = [e for e in uses if e in held], [e for e in uses if e not in held]
        for e in uses:
            held[e] = None
            held.move_to_end(e)
        while len(held) > room:
            held.popitem(last=False)
        flying: list[int] = []
        free = [now] * costs.lanes
        for _ in waiting:
            started = free.pop(0)
            bus = max(bus, started + latency) + transfer
            flying.append(bus + costs.wake_ns)
            free.append(flying[-1])
        now += len(hits) * costs.expert_ns[4]
        while flying:
            if flying[0] > now:
                stalled, now = stalled + flying[0] - now, flying[0]
            done = [end for end in flying if end <= now]
            flying = flying[len(done) :]
            now += len(done) * costs.expert_ns[4]
        if number % routing.layers == routing.layers - 1:
            now += costs.token_ns
    return now, stalled


@settings(max_examples=60, deadline=None)
@given(routing=small, lanes=st.integers(1, 4), latency=st.sampled_from([0.0, 1e-7, 3e-6]), room=st.integers(2, 8))
def test_time_passes_as_the_costs_say(routing: Routing, lanes: int, latency: float, room: int) -> None:
    costs = Costs(Device("d", "D", 1e9, latency, 8), 500, 700, {4: 300}, lanes, 50)
    room = min(max(room, routing.top_k), routing.shape.total)
    told = ran(uniform(routing, costs), Cell(room * SIZE, "lru"))
    assert (told.ns, told.stall_ns) == clocked(routing, room, costs)


def test_predicting_takes_its_time() -> None:
    routing = make_routing(lengths=[40], layers=4, experts=8, top_k=2)
    took = []
    for each in (0, 1000):
        costs = Costs(Device("d", "D", 1e15, 0, 8), 500, 700, {4: 300}, 4, wake_ns=0, predict_ns=each)
        predictor = Transition(*routing.shape, routing.top_k, learning=True)
        took.append(ran(uniform(routing, costs), Cell(8 * SIZE, "lru", predictor, depth=3, width=4, balanced=False)))
    assert took[0].uses == took[1].uses and took[0].stall_ns == took[1].stall_ns == 0
    assert took[1].ns - took[0].ns == 1000 * 3 * routing.tokens * routing.layers


def test_reading_ahead_hides_reads_behind_computing() -> None:
    routing = make_routing(lengths=[200], layers=4, experts=8, top_k=2)
    slow = Costs(Device("d", "D", 1e9, 1e-6, 8), 5_000, 700, {4: 300}, 4, 50)
    replay, budget = uniform(routing, slow), 20 * SIZE
    without, foreseen = ran(replay, Cell(budget, "lru")), ran(replay, Cell(budget, "lru", clairvoyant=True, balanced=False))
    assert foreseen.recall == 1 and foreseen.wasted_bytes == 0 and foreseen.misses_covered > 0.95
    assert foreseen.stall_ns < 0.05 * without.stall_ns and foreseen.ns < without.ns
    assert foreseen.demand_bytes + foreseen.useful_bytes == SIZE * sum(n for o, n in foreseen.uses.items() if o != Outcome.HIT)


# --- the rest -------------------------------------------------------------------------------------------------------------


def test_a_replay_can_be_repeated_also_in_threads() -> None:
    routing = make_routing(lengths=[100, 50], layers=4, experts=8)
    replay = uniform(routing)
    cells = [Cell(12 * SIZE, policy, clairvoyant=ahead) for policy in (*POLICIES, ORACLE) for ahead in (False, True)]
    once, again = [ran(replay, cell) for cell in cells], [None] * len(cells)  # type: list[Replayed], list[Replayed | None]
    threads = [threading.Thread(target=lambda i=i: again.__setitem__(i, replay.run(cells[i]))) for i in range(len(cells))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(once, again, strict=True):
        assert b is not None and (a.uses, a.ns, a.wasted_bytes) == (b.uses, b.ns, b.wasted_bytes)
    assert replay.done == 2 * len(cells) * routing.tokens


def test_a_stopped_replay_is_none() -> None:
    replay = uniform(make_routing(lengths=[50]))
    replay.stop()
    assert replay.run(Cell(10 * SIZE, "lru")) is None


def test_what_is_impossible_is_refused() -> None:
    replay = uniform(make_routing(top_k=2))
    with pytest.raises(EngineError, match=r"smallest is 2,000, 8\.3% of all"):
        replay.run(Cell(2 * SIZE - 1, "lru"))
    with pytest.raises(EngineError, match="not known"):
        replay.run(Cell(4 * SIZE, "mru"))
    with pytest.raises(EngineError, match="widths are of 3"):
        Replay(make_routing(), Records({4: 1}, np.full(3, 4)), COSTS)


def test_lessons_change_policies_that_learn_alone() -> None:
    routing = make_routing(lengths=[300], layers=4, experts=8, seed=1)
    heard = make_routing(lengths=[600], layers=4, experts=8, seed=1)
    replay = uniform(routing)
    assert replay.learn(ORACLE, heard) is None
    for policy in POLICIES:
        lesson = replay.learn(policy, heard)
        with_it, without = ran(replay, Cell(8 * SIZE, policy, lesson=lesson)), ran(replay, Cell(8 * SIZE, policy))
        assert (with_it.uses == without.uses) == (policy != "forecast")


def test_a_routing_heard_lives_until_it_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    replay, made = uniform(make_routing()), list[weakref.ref[Tape]]()

    class Watched(Tape):
        def __init__(self, routing: Routing) -> None:
            super().__init__(routing)
            made.append(weakref.ref(self))

    learn = replay._native.lesson_new

    def lesson_new(*args: object) -> object:
        assert made[-1]() is not None, "what the view points to is gone"
        return learn(*args)

    monkeypatch.setattr("engine.simulate.replay.Tape", Watched)
    monkeypatch.setattr(replay._native, "lesson_new", lesson_new)
    assert replay.learn("forecast", make_routing(lengths=[50] * 40)) is not None and made


@pytest.mark.parametrize("kind", [Path, Transition])
def test_a_copied_predictor_predicts_the_same(kind: type[Path] | type[Transition]) -> None:
    routing = make_routing(lengths=[80, 40], layers=3, experts=8)
    trained = kind(*routing.shape, routing.top_k)
    assert trained.train(routing.experts, routing.lengths)
    expected = trained.judge(routing.experts, routing.lengths)
    copy = trained.copy()
    trained.close()
    assert np.array_equal(copy.judge(routing.experts, routing.lengths), expected) and expected.any()
