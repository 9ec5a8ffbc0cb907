"""A replay is the engine: same hits on the same routing; and its bounds are what they say."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineError
from engine.events import ACCESS, Outcome, Phase, Ready, SpanKind
from engine.preload.device import Device
from engine.preload.predictor import About, trace_hash
from engine.preload.transition import Transition
from engine.recording.recording import Recording
from engine.residency import POLICIES
from engine.session import Session
from engine.simulate.cost import Costs, calibrated
from engine.simulate.live import routing_of
from engine.simulate.replay import ORACLE, Cell, Records, Replay
from engine.simulate.routing import Routing
from engine.store import Store
from tests.session.conftest import generate, store

__all__ = ["store"]
FAST = Costs(Device("fast", "Fast", 1e12, 0.0, 4), wake_ns=0)
SIZE = 4096


def routing(tokens: int, layers: int = 3, experts: int = 6, top_k: int = 2, requests: int = 3, seed: int = 0) -> Routing:
    """Routing with habits: tokens mostly repeat what the one before chose."""
    dice = np.random.default_rng(seed)
    chosen = np.empty((tokens, layers, top_k), np.int16)
    for t, layer in itertools.product(range(tokens), range(layers)):
        keep = t and dice.random() < 0.5
        chosen[t, layer] = chosen[t - 1, layer] if keep else dice.choice(experts, top_k, replace=False)
    lengths = np.full(requests, tokens // requests)
    lengths[0] += tokens - lengths.sum()
    return Routing(chosen, lengths.astype(np.int64), experts)


def replay_of(trace: Routing, costs: Costs = FAST) -> Replay:
    return Replay(trace, Records({4: SIZE}, np.full(trace.shape.total, 4)), costs)


@pytest.mark.parametrize("seed", range(3))
def test_one_pass_tells_lrus_hits_at_every_budget(seed: int) -> None:
    trace = routing(200, seed=seed)
    replay = replay_of(trace)
    rates = replay.lru_hits().rates
    for room in range(trace.top_k, trace.shape.total + 1):
        told = replay.run(Cell(room * SIZE, "lru"))
        assert told is not None and told.hit_rate == pytest.approx(rates[room])


@pytest.mark.parametrize("seed", range(4))
def test_the_oracle_misses_least(seed: int) -> None:
    """Against every schedule there is, on a trace so short that all can be tried."""
    trace = routing(7, layers=1, experts=4, top_k=1, requests=1, seed=seed)
    sequence = trace.experts[:, 0, 0].tolist()

    def fewest(position: int, held: frozenset[int]) -> int:
        if position == len(sequence):
            return 0
        wanted = sequence[position]
        if wanted in held:
            return fewest(position + 1, held)
        if len(held) < 2:
            return 1 + fewest(position + 1, held | {wanted})
        return 1 + min(fewest(position + 1, held - {left} | {wanted}) for left in held)

    told = replay_of(trace).run(Cell(2 * SIZE, ORACLE))
    assert told is not None and told.misses.sum() == fewest(0, frozenset())
    for policy in POLICIES:
        other = replay_of(trace).run(Cell(2 * SIZE, policy))
        assert other is not None and other.misses.sum() >= told.misses.sum()


@pytest.mark.parametrize("policy", [*POLICIES, ORACLE])
def test_budgets_hold_and_every_use_is_counted(policy: str) -> None:
    trace = routing(120)
    for room in (2, 5, 9, 18):
        told = replay_of(trace).run(Cell(room * SIZE, policy, clairvoyant=True, depth=2, width=2))
        assert told is not None
        assert told.peak_bytes <= room * SIZE
        assert sum(told.uses.values()) == trace.experts.size and told.tokens == trace.tokens == len(told.misses)
        missed = sum(count for outcome, count in told.uses.items() if outcome not in (Outcome.HIT, Outcome.PRELOADED))
        assert told.misses.sum() == told.expert_misses.sum() == missed
        used = np.bincount((trace.experts + np.arange(3)[:, None] * 6).ravel(), minlength=18)
        assert (told.expert_misses <= used).all() and (told.held <= trace.tokens).all()
        assert told.held.sum() <= room * trace.tokens


def test_what_fits_is_missed_once_and_held_from_then_on() -> None:
    trace = routing(90)
    told = replay_of(trace).run(Cell(18 * SIZE, "lru"))
    assert told is not None
    first = [(trace.experts[:, layer] == expert).any(1).argmax() for layer in range(3) for expert in range(6)]
    assert (told.expert_misses == 1).all() and told.held.tolist() == [trace.tokens - at for at in first]


def test_a_foreseen_expert_costs_no_stall_where_storage_keeps_up() -> None:
    trace = routing(150)
    costs = Costs(Device("d", "D", 1e9, 1e-5, 4), layer_ns=1_000_000, expert_ns={4: 1000})
    without = replay_of(trace, costs).run(Cell(8 * SIZE, "lru"))
    ahead = replay_of(trace, costs).run(Cell(8 * SIZE, "lru", clairvoyant=True, depth=1, width=2, balanced=False))
    assert without is not None and ahead is not None
    assert ahead.recall == 1.0 and ahead.uses[Outcome.PRELOADED] > 100 and ahead.wasted_bytes == 0
    assert ahead.stall_ns < 0.05 * without.stall_ns and ahead.tok_s > without.tok_s


def test_a_budget_under_one_layers_need_is_refused_and_a_stopped_replay_is_none() -> None:
    replay = replay_of(routing(50))
    with pytest.raises(EngineError, match="the smallest is 8,192"):
        replay.run(Cell(SIZE, "lru"))
    with pytest.raises(EngineError, match="not known"):
        replay.run(Cell(4 * SIZE, "guess"))
    replay.stop()
    assert replay.run(Cell(4 * SIZE, "lru")) is None


def check_predicting(recording: Recording, costs: Costs, depth: int) -> None:
    """What a session's predictions took is told apart from a token's other costs."""
    tokens, spans = recording.tokens.rows(), recording.spans.rows()
    decoded = np.flatnonzero(tokens["phase"] == Phase.DECODE)
    predicting = spans[(spans["kind"] == SpanKind.PREDICT) & np.isin(spans["token"], decoded)]
    rest = tokens["head"][decoded] + tokens["sampling"][decoded] + tokens["framework"][decoded]
    took = predicting["duration"].sum() / len(decoded)
    assert 0 < costs.token_ns == pytest.approx(rest.mean() - took, abs=1)
    if len(predicting):
        assert recording.model is not None and len(predicting) == len(decoded) * recording.model.layers
        assert costs.predict_ns == pytest.approx(predicting["duration"].mean() / depth, abs=1)
    else:
        assert costs.predict_ns == Costs.predict_ns and recording.effective["predictor"] == "none"


@pytest.mark.parametrize("eviction", ["default", "edgemoe", "lru", "lfu"])
@pytest.mark.parametrize("ahead", [False, True])
def test_the_engine_hits_and_misses_exactly_as_replayed(eviction: str, ahead: bool, store: Store, tmp_path: Path) -> None:
    """Also where experts are read ahead: when these come depends on the clock, who is resident does not."""
    spec = store.spec
    if ahead:
        predictor = Transition(spec.layers, spec.experts, spec.top_k)
        trace = routing(60, spec.layers, spec.experts, spec.top_k)
        predictor.train(trace.experts, trace.lengths)
        about = About("transition", spec.layers, spec.experts, spec.top_k, trace_hash(trace.experts), trace.requests, trace.tokens)
        predictor.save(tmp_path / Transition.file, about)
    recording = Recording()
    values = {"budget": "40%", "eviction": eviction, "max_tokens": 30, "ignore_eos": True, "temperature": 0.0,
              "predictor": "transition" if ahead else "none", "preload_depth": "2", "preload_width": "3"}  # fmt: skip
    session = Session(store, values, emit=recording.append, model=tmp_path)
    recording.append(Ready(0, session.info(), session.values, session.effective(), session.budget))
    for _ in range(2):
        generate(session)
    session.close()
    told_by_engine = recording.accesses.rows()
    assert told_by_engine.dtype == ACCESS
    decoded = told_by_engine[told_by_engine["phase"] == Phase.DECODE]
    trace = routing_of(recording)
    replay = Replay(trace, Records({4: store.record_bytes(4)}, np.full(trace.shape.total, 4)), calibrated(recording))
    learned = Transition.load(tmp_path / Transition.file, spec.layers, spec.experts, spec.top_k) if ahead else None
    told = replay.run(Cell(session.budget.granted, eviction, learned, depth=2, width=3, balanced=False))
    assert told is not None and told.tokens == 58
    check_predicting(recording, replay.costs, depth=2)
    assert told.uses[Outcome.HIT] == (decoded["outcome"] == Outcome.HIT).sum() > 0
    assert sum(told.uses.values()) == len(decoded)
    if not ahead:
        assert all(told.uses[outcome] == (decoded["outcome"] == outcome).sum() for outcome in Outcome)
        missed = decoded[np.isin(decoded["outcome"], (Outcome.FIRST_TOUCH, Outcome.CAPACITY))]
        numbers = missed["layer"].astype(np.int64) * spec.experts + missed["expert"]
        assert told.expert_misses.tolist() == np.bincount(numbers, minlength=trace.shape.total).tolist()
