"""The default policy at the edges of what a model may be and do, and on what it was made for."""

from __future__ import annotations

import numpy as np
import pytest

from engine.preload.device import Device
from engine.simulate.cost import Costs
from engine.simulate.replay import Cell, Records, Replay
from engine.simulate.routing import Routing
from tests.residency.policy import Tried

SHAPES = [(4, 1, 1), (3, 8, 8), (3, 256, 8), (1, 16, 2), (1, 1, 1), (48, 128, 8)]


def tokens(shape: tuple[int, int, int], count: int, seed: int = 0) -> np.ndarray:
    """What ``count`` tokens choose of (S, E, k), by number in the layer, [count, S, k]: some experts likelier than others."""
    layers, experts, top_k = shape
    random = np.random.default_rng(seed)
    likely = random.gumbel(size=(layers, experts))
    return np.argsort(-likely - random.gumbel(size=(count, layers, experts)))[..., :top_k]


def hear(policy: Tried, chosen: np.ndarray, first: int = 0) -> None:
    """Let the policy see decoded tokens [T, S, k], by number in the layer."""
    for token, layers in enumerate(chosen):
        for layer, experts in enumerate(layers):
            policy.used(experts + layer * policy.shape[1], (first + token, layer))


def finite(policy: Tried, at: int) -> bool:
    return all(bool(np.isfinite(policy.scores((at, layer))).all()) for layer in range(policy.shape[0]))


def learned_is_finite(policy: Tried) -> bool:
    rows = ("context.rows", "context.shared_rows")  # of whole numbers; all others are float32
    return all(bool(np.isfinite(memory.view(np.float32)).all()) for name, memory in policy.learned().items() if name not in rows)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_any_shape_is_scored_and_learned(shape: tuple[int, int, int]) -> None:
    layers, experts, top_k = shape
    with Tried("forecast", (layers, experts)) as policy, Tried("forecast", (layers, experts)) as again:
        for each in (policy, again):
            assert finite(each, 0), "before anything was heard"
            each.used(range(experts), (0, 0), prefill=True)
            hear(each, tokens(shape, 30), 1)
            assert finite(each, 31)
        before = policy.scores((32, 0))
        assert before.shape == (layers * experts,) and np.array_equal(again.scores((32, 0)), before)
        if experts > 2 * top_k:
            chosen = np.bincount((tokens(shape, 30) + np.arange(layers)[:, None] * experts).ravel(), minlength=layers * experts)
            assert before[chosen >= 20].mean() < before[chosen == 0].mean(), "what is used most is worth keeping"


@pytest.mark.parametrize("prefill", [False, True])
def test_a_turn_that_chooses_nobody(prefill: bool) -> None:
    with Tried("forecast", (3, 8)) as policy:
        for pass_ in range(4):
            for layer in range(3):
                policy.used([], (pass_, layer), prefill)
        assert finite(policy, 4)
        hear(policy, tokens((3, 8, 2), 50), 4)
        assert finite(policy, 54)
        for layer in range(3):
            policy.used([], (54, layer), prefill)
        hear(policy, tokens((3, 8, 2), 50), 55)
        assert finite(policy, 105)


def test_what_is_expected_counts_before_the_first_turn() -> None:
    """A first prefill evicts what a warm start read for the layers to come."""
    with Tried("forecast", (2, 4)) as policy:
        policy.expect([0.1, 0.1, 0.1, 0.7, 0.7, 0.1, 0.1, 0.1])
        policy.used([0, 1], (0, 0), prefill=True)
        scores = policy.scores((0, 0))
        assert scores[4] < scores[5:].min()


def test_odds_of_nothing_say_nothing() -> None:
    with Tried("forecast", (2, 8)) as told, Tried("forecast", (2, 8)) as untold:
        told.expect(np.zeros(16))
        for policy in (told, untold):
            hear(policy, tokens((2, 8, 2), 20))
        for layer in (0, 1):
            told.predicted(layer, np.zeros(8))
        assert np.array_equal(told.scores((20, 0)), untold.scores((20, 0)))


@pytest.mark.parametrize("experts", [1, 2, 64])
def test_ten_thousand_turns_of_the_same_expert(experts: int) -> None:
    with Tried("forecast", (1, experts)) as policy:
        for turn in range(10_000):
            policy.used([0], (turn, 0))
            if turn % 500 == 0:
                assert finite(policy, turn)
        scores = policy.scores((10_000, 0))
        assert np.isfinite(scores).all() and learned_is_finite(policy)
        assert experts == 1 or scores[0] < scores[1:].min(), "it is the last to leave"


def test_turns_that_never_repeat() -> None:
    """Every expert of a layer comes once before any comes again, in an order of its own each time."""
    layers, experts, random = 2, 128, np.random.default_rng(0)
    with Tried("forecast", (layers, experts)) as policy:
        for lap in range(80):
            order = np.stack([random.permutation(experts) for _ in range(layers)], axis=1)
            hear(policy, order[..., None], lap * experts)
            assert finite(policy, (lap + 1) * experts)
        assert learned_is_finite(policy)


def cyclic_with_habit(count: int, layers: int = 4, experts: int = 16, lap: int = 9) -> Routing:
    """A token's first expert goes around ``lap`` of the layer's; its second is one of two of the others, mostly the same as before."""
    random = np.random.default_rng(0)
    names = np.stack([random.permutation(experts) for _ in range(layers)])
    token = np.arange(count)[:, None]
    around = (token + np.arange(layers)) % lap
    habit = lap + (np.cumsum(random.random((count, layers)) < 0.1, axis=0) % 2)
    chosen = np.stack([names[np.arange(layers), around], names[np.arange(layers), habit]], axis=-1).astype(np.int16)
    return Routing(chosen, np.array([count], np.int64), experts)


@pytest.mark.parametrize("share", [0.25, 0.375, 0.5])
def test_it_beats_lru_where_habits_and_laps_are_mixed(share: float) -> None:
    routing, bits = cyclic_with_habit(1000), {4: 4096}
    records = Records(bits, np.full(routing.shape.total, 4))
    replay = Replay(routing, records, Costs(Device("fast", "Fast", 1e12, 0.0, 4)))
    forecast, lru = (replay.run(Cell(int(share * records.full), name)) for name in ("forecast", "lru"))
    assert forecast is not None and lru is not None
    assert forecast.hit_rate > lru.hit_rate + 0.05
    assert forecast.misses[500:].sum() < 0.8 * lru.misses[500:].sum(), "once it has learned"
