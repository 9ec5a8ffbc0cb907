"""The objective of most tokens/s: its figures are the replays', its plans are never slower than those of the fewest bytes, and it stops.

N experts, W widths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from engine.bitwidth.knapsack import Choice, Floats, cheapest
from engine.bitwidth.speed import MOST_REPLAYS, Speed
from engine.errors import Cancelled, EngineError
from engine.preload.device import Device
from engine.simulate.cost import Costs
from engine.simulate.replay import Cell, Records, Replay
from engine.simulate.routing import NONE, Routing
from tests.simulate.cases import make_routing

SIZES = {2: 60_000, 4: 110_000, 8: 205_000, 16: 400_000}
WIDTHS = (2, 4, 8)
DISK = Device("disk", "A disk", 100e6, 2e-4, 2)
COSTS = Costs(DISK, layer_ns=50_000, token_ns=300_000, expert_ns={2: 9_000, 4: 14_000, 8: 26_000, 16: 50_000}, lanes=2)


def speed_of(
    routing: Routing, budget: int = 900_000, eviction: str = "lru", costs: Costs = COSTS, step: Callable[[int], object] = lambda done: None
) -> Speed:
    return Speed(routing, costs, budget, eviction, SIZES, WIDTHS, step)


def random_losses(count: int, seed: int) -> Floats:
    """[N, W], each less at a higher width, of experts that matter very differently."""
    random = np.random.default_rng(seed)
    found: Floats = np.exp(2 * random.normal(size=(count, 1))) * np.array([1.0, 0.2, 0.01]) * random.uniform(0.7, 1, (count, 3))
    return found


def disk_of(bandwidth: float) -> Device:
    return Device(DISK.name, DISK.title, bandwidth, DISK.latency, DISK.queue_depth)


def lost(losses: Floats, choice: Choice) -> float:
    return float(losses[np.arange(len(choice)), choice].sum())


def fewest_bytes(speed: Speed, losses: Floats, allowed: float) -> list[Choice]:
    """The plans of the fewest bytes on storage, and of those that a token uses, at the widths that fit."""
    fitting = [at for at, bits in enumerate(WIDTHS) if SIZES[bits] * speed.routing.top_k <= speed.budget]
    stored = np.tile([float(SIZES[WIDTHS[at]]) for at in fitting], (len(losses), 1))
    packed = [cheapest(costs, losses[:, fitting], allowed) for costs in (stored, stored * np.maximum(speed.uses, 1e-6)[:, None])]
    return [np.array(fitting)[one.choice] for one in packed if one is not None]


@pytest.mark.parametrize("eviction", ["lru", "default", "edgemoe", "oracle"])
@pytest.mark.parametrize("seed", range(3))
def test_a_plan_takes_what_its_replay_takes(eviction: str, seed: int) -> None:
    routing = make_routing((40, 25), seed=seed, prefill=seed > 0, gaps=seed > 1)
    speed, random = speed_of(routing, eviction=eviction), np.random.default_rng(seed)
    for choice in random.integers(0, 3, (4, routing.shape.total)):
        bits = np.array(WIDTHS, np.int64)[choice]
        told = Replay(routing, Records(SIZES, bits), COSTS).run(Cell(900_000, eviction))
        predicted = speed.predicted(bits.tolist())
        assert told is not None and predicted is not None and told.ns > 0
        assert speed.cost(choice) == told.ns / told.tokens / 1e9 == pytest.approx(1 / predicted.tok_s)
        assert (predicted.demand_bytes, predicted.hit_rate) == (told.demand_bytes, told.hit_rate)


def test_what_is_known_is_not_replayed_again() -> None:
    told: list[int] = []
    speed = speed_of(make_routing(), step=told.append)
    choice = np.ones(24, np.int64)
    assert speed.cost(choice) == speed.cost(choice.copy()) and told == [0]
    assert speed.cost(np.zeros(24, np.int64)) < speed.cost(choice) and told == [0, 1]


def test_a_packing_tells_each_replay_and_takes_no_more_than_it_says() -> None:
    told: list[int] = []
    losses = random_losses(24, 2)
    speed = speed_of(make_routing((60, 50)), step=told.append)
    for _ in range(2):
        told.clear()
        assert speed.pack(losses, float(losses.max(1).sum()) * 0.2) is not None
        assert told == list(range(len(told))) and 0 < len(told) <= MOST_REPLAYS


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("budget", [250_000, 900_000, 2_500_000])
def test_no_plan_of_the_fewest_bytes_is_faster(seed: int, budget: int) -> None:
    routing = make_routing((60, 50), seed=seed, prefill=seed % 2 == 1)
    speed, losses = speed_of(routing, budget, ("lru", "default")[seed % 2]), random_losses(routing.shape.total, seed)
    for share in (0.05, 0.3):
        allowed = float(losses.max(1).sum()) * share
        packed = speed.pack(losses, allowed)
        others = fewest_bytes(speed, losses, allowed)
        if packed is None:
            assert not others
            continue
        assert lost(losses, packed.choice) == pytest.approx(packed.loss) and packed.loss <= allowed
        assert packed.cost == speed.cost(packed.choice) <= min(map(speed.cost, others))


@pytest.mark.parametrize("seed", range(4))
def test_no_plan_at_all_is_much_faster(seed: int) -> None:
    """Of few experts all plans can be tried."""
    routing = make_routing((50,), layers=2, experts=4, seed=seed)
    speed, losses = speed_of(routing, 450_000), random_losses(8, seed)
    allowed = float(losses.max(1).sum()) * 0.25
    packed = speed.pack(losses, allowed)
    best = min(speed.cost(choice) for choice in map(np.array, product(range(3), repeat=8)) if lost(losses, choice) <= allowed)
    assert packed is not None and best <= packed.cost <= best * 1.05


def test_what_is_always_in_memory_is_not_narrowed_for_its_reads() -> None:
    """By traffic the expert that every token uses is the first to be narrowed, and by storage any; but it is never read again."""
    layers, experts, tokens = 2, 8, 400
    chosen = np.zeros((tokens, layers, 2), np.int16)
    chosen[:, :, 1] = 1 + np.arange(tokens)[:, None] % (experts - 1)  # the others in turn: under LRU none of them stays
    routing = Routing(chosen, np.array([tokens], np.int64), experts)
    costs = replace(COSTS, expert_ns=dict.fromkeys(SIZES, 10_000))
    speed = speed_of(routing, 4 * SIZES[8], costs=costs)
    losses = np.tile([1.0, 0.3, 0.0], (layers * experts, 1))
    first = np.arange(layers) * experts
    losses[first] *= 0.95  # a little cheaper to narrow: both other objectives begin with them
    packed, others = speed.pack(losses, 3.0), fewest_bytes(speed, losses, 3.0)
    assert packed is not None and all((other[first] < 2).all() for other in others), "the case is what it says"
    assert packed.cost < min(map(speed.cost, others)) and (packed.choice[first] == 2).all()


@pytest.mark.parametrize("seed", range(4))
def test_around_a_plan_an_expert_costs_more_at_a_higher_width(seed: int) -> None:
    routing = make_routing((80,), seed=seed)
    speed = speed_of(routing, (300_000, 700_000, 1_500_000, 100_000_000)[seed])
    narrow = np.zeros(routing.shape.total, np.int64)
    fitting = 3 if speed.budget >= 2 * SIZES[8] else 2
    for choice in (narrow, np.random.default_rng(seed).integers(0, fitting, len(narrow))):
        costs = speed.costs_around(choice)
        assert costs.shape == (routing.shape.total, 3) and (costs > 0).all() and (np.diff(costs) > 0).all()


def test_an_expert_that_nobody_uses_costs_next_to_nothing() -> None:
    """And least as the smaller record."""
    routing = make_routing((80,), experts=6)
    routing = replace(routing, expert_count=8)  # the last two of each layer are never chosen
    costs = speed_of(routing).costs_around(np.ones(24, np.int64))
    unused = np.arange(24) % 8 >= 6
    assert costs[unused].max() < 1e-4 * costs[~unused].max() and (np.diff(costs[unused]) > 0).all()


def test_where_all_stays_in_memory_an_expert_costs_what_it_computes() -> None:
    routing = make_routing((2000,), seed=5)
    speed = speed_of(routing, 100_000_000, costs=replace(COSTS, device=disk_of(10e9)))
    costs = speed.costs_around(np.ones(24, np.int64))
    wanted = speed.uses * (26_000 - 14_000) / 1e9
    often = speed.uses > 0.1
    assert often.any() and costs[often, 2] - costs[often, 1] == pytest.approx(wanted[often], rel=0.1)


def test_what_stays_in_memory_takes_room_from_the_others() -> None:
    """It is never read again and computes as fast at any width: only the room is left to cost."""
    tokens, random = 1000, np.random.default_rng(4)
    chosen = np.stack([np.zeros((tokens, 2)), 1 + random.integers(0, 7, (tokens, 2))], 2).astype(np.int16)
    routing = Routing(chosen, np.array([tokens], np.int64), 8)
    speed = speed_of(routing, 6 * SIZES[8], costs=replace(COSTS, expert_ns=dict.fromkeys(SIZES, 10_000)))
    costs, always = speed.costs_around(np.full(16, 2)), [0, 8]
    first_touch = (SIZES[8] - SIZES[2]) / DISK.bandwidth / tokens
    assert (costs[always, 2] - costs[always, 0] > 20 * first_touch).all()


def test_around_a_plan_costs_tell_what_a_slower_storage_would() -> None:
    """All experts narrower by one: what the line says is saved is about what a replay says, where little is kept in memory."""
    routing = make_routing((200,), layers=4, experts=8, seed=3)
    speed = speed_of(routing, 2 * SIZES[8] + 1)
    wide, narrow = np.full(32, 2), np.full(32, 1)
    costs = speed.costs_around(wide)
    said, really = costs[:, 2].sum() - costs[:, 1].sum(), speed.cost(wide) - speed.cost(narrow)
    assert 0.5 * really < said < 2 * really


def test_only_widths_that_fit_are_given() -> None:
    routing = make_routing((60,))
    speed, losses = speed_of(routing, 2 * SIZES[4]), random_losses(24, 1)
    assert np.isinf(speed.cost(np.full(24, 2))) and speed.predicted([8] * 24) is None and speed.predicted([16] * 24) is None
    packed = speed.pack(losses, float(losses.max(1).sum()) * 0.5)
    assert packed is not None and packed.choice.max() == 1 and np.isfinite(packed.cost)
    assert speed.pack(losses, float(losses[:, 1].sum()) * 0.99) is None, "8 bits would be needed"


def test_widths_that_no_plan_gives_can_be_predicted() -> None:
    routing = make_routing((60,))
    speed = speed_of(routing)
    told = [speed.predicted([bits] * 24) for bits in (2, 4, 8, 16)]
    times = [one.ns for one in told if one is not None]
    assert len(times) == 4 and times == sorted(times) and times[0] < times[-1]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(EngineError, match=r"A budget of 119,999 bytes cannot hold .*; the smallest is 120,000"):
        speed_of(make_routing(), 2 * SIZES[2] - 1)
    with pytest.raises(EngineError, match="holds no decoded token; record requests of more than one"):
        speed_of(make_routing(()))
    with pytest.raises(EngineError, match="'luck' is not known; choose one of"):
        speed_of(make_routing(), eviction="luck").cost(np.zeros(24, np.int64))


@pytest.mark.parametrize("after", [0, 1, 4, 9])
def test_it_stops_before_the_next_replay(after: int) -> None:
    routing, replays = make_routing((30,)), [0]

    def step(done: int) -> None:
        if done == after:
            raise Cancelled
        replays[0] += 1

    losses = random_losses(24, 2)
    with pytest.raises(Cancelled):
        speed_of(routing, step=step).pack(losses, float(losses.max(1).sum()) * 0.2)
    assert replays[0] == after


def test_long_routing_is_sampled_by_whole_requests() -> None:
    routing = make_routing([1500] * 60, layers=4, experts=4)
    speed = speed_of(routing)
    assert routing.tokens > speed.routing.tokens == 400_000 // 8 // 1500 * 1500
    assert speed.uses.sum() == pytest.approx(routing.layers * routing.top_k) and (routing.experts != NONE).all()
