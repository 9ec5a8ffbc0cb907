"""Routing survives every format, and what is no routing is refused in one line."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import main
from engine.errors import EngineError
from engine.events import Batch, Phase
from engine.recording.recording import Recording
from engine.simulate.live import LiveRouting
from engine.simulate.routing import NONE, Routing, no_uses
from engine.simulate.traces import read_routing, routing_of, write_routing
from tests.factory import make_messages, make_recording
from tests.simulate.cases import make_routing


def same(a: Routing, b: Routing) -> bool:
    arrays = ("experts", "lengths", "prefill", "weights", "softmax")
    pairs = [(getattr(a, name), getattr(b, name)) for name in arrays]
    return a.expert_count == b.expert_count and all((x is None) == (y is None) and (x is None or np.array_equal(x, y)) for x, y in pairs)


@st.composite
def routings(draw: st.DrawFn) -> Routing:
    experts = draw(st.integers(1, 300))
    routing = make_routing(
        lengths=draw(st.lists(st.integers(0, 5), min_size=1, max_size=4)), layers=draw(st.integers(1, 4)), experts=experts,
        top_k=draw(st.integers(1, min(3, experts))), seed=draw(st.integers(0, 99)), prefill=draw(st.booleans()),
        gaps=draw(st.booleans()), weights=draw(st.booleans()), softmax=draw(st.booleans()),
    )  # fmt: skip
    return routing


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(routing=routings(), ending=st.sampled_from([".npz", ".parquet"]))
@example(routing=Routing(np.full((1, 1, 1), NONE, np.int16), np.array([1]), 1), ending=".parquet")
@example(routing=replace(make_routing([2, 0, 1], prefill=True), experts=np.full((3, 3, 2), NONE, np.int16)), ending=".parquet")
def test_round_trip(tmp_path: Path, ending: str, routing: Routing) -> None:
    if ending == ".parquet":
        routing = pressed(routing)
        if not routing.requests:
            return
    write_routing(routing, tmp_path / f"r{ending}")
    assert same(read_routing(tmp_path / f"r{ending}"), routing)


def pressed(routing: Routing) -> Routing:
    """As Parquet can tell it: no row for a request without tokens, gaps at the end, and no probabilities of the chosen alone."""
    told = [r for r in range(routing.requests) if routing.lengths[r] or (routing.prefill[:, 0] == r).any()]
    routing = routing.take(told)
    order = np.argsort(routing.experts == NONE, axis=2, kind="stable")
    experts = np.take_along_axis(routing.experts, order, 2)
    k = max(1, int((experts != NONE).sum(2).max(initial=0))) if routing.tokens else 1
    told_all = bool((experts != NONE).any(2).all()) and routing.tokens > 0
    weights = np.take_along_axis(routing.weights, order, 2)[..., :k] if routing.weights is not None and told_all else None
    if weights is not None:
        weights = np.where(experts[..., :k] == NONE, 0, weights)
    softmax = routing.softmax if routing.softmax is not None and routing.expert_count > k and routing.tokens else None
    return replace(routing, experts=experts[..., :k], weights=weights, softmax=softmax)


def test_sessions_tell_their_routing(tmp_path: Path) -> None:
    recording = make_recording(path=tmp_path / "run.edgemoe")
    recording.flush()
    routing, accesses = routing_of(recording), recording.accesses.rows()
    decode = accesses[accesses["phase"] == Phase.DECODE]
    assert routing.lengths.tolist() == [24, 24] and routing.expert_count == 16
    assert np.array_equal(routing.experts.reshape(-1), decode["expert"])
    assert routing.weights is not None and np.array_equal(routing.weights.reshape(-1), decode["weight"])
    prefill = accesses[accesses["phase"] == Phase.PREFILL]
    assert np.array_equal(routing.prefill[:, 1:], np.stack([prefill["layer"], prefill["expert"], prefill["tokens"]], 1))
    assert np.bincount(routing.prefill[:, 0]).tolist() == [len(prefill) // 2] * 2
    recording.close()
    assert same(read_routing(tmp_path / "run.edgemoe"), routing)
    for name in ("r.npz", "r.routing.parquet"):
        assert main.main(["export", str(tmp_path / "run.edgemoe"), str(tmp_path / name), "--json"]) == 0
        assert same(read_routing(tmp_path / name), routing)


def test_a_growing_session_is_followed(tmp_path: Path) -> None:
    recording, live = Recording(), None
    earlier: list[tuple[Routing, Routing]] = []
    for message in make_messages(tokens=30):
        if isinstance(message, Batch):  # rows arrive in pieces, and before their pass is complete
            accesses = message.tables.pop("accesses")
            half = len(accesses) // 64 * 32
            recording.append(Batch({"accesses": accesses[:half]}, []))
            assert live is not None
            live.follow()
            recording.append(Batch({"accesses": accesses[half:]}, []))
        recording.append(message)
        if recording.model is not None:
            live = live or LiveRouting(recording)
            routing = live.follow()
            assert same(routing, routing_of(recording))
            earlier.append((routing, replace(routing, experts=routing.experts.copy(), prefill=routing.prefill.copy())))
    assert live is not None and live.follow().lengths.tolist() == [14, 14]
    assert all(same(kept, copied) for kept, copied in earlier)


def test_a_session_without_a_model_is_refused(tmp_path: Path) -> None:
    Recording(tmp_path / "empty.edgemoe").close()
    with pytest.raises(EngineError, match="no model"):
        read_routing(tmp_path / "empty.edgemoe")


def test_requests_are_taken_and_split() -> None:
    routing = make_routing(lengths=[3, 0, 2, 4], prefill=True)
    some = routing.take([3, 1])
    assert some.lengths.tolist() == [4, 0] and np.array_equal(some.experts, routing.experts[5:])
    assert np.array_equal(some.prefill[some.prefill[:, 0] == 0, 1:], routing.prefill[routing.prefill[:, 0] == 3, 1:])
    train, test = routing.split(0.5, seed=1)
    assert train.requests == test.requests == 2 and train.tokens + test.tokens == routing.tokens


# --- moe-policylang's ---------------------------------------------------------------------------------------------------


def policylang(**changes: object) -> dict[str, object]:
    """Two prompts of one prompt token and two more each, layers 1 and 2, in no order."""
    rows = [(prompt, token, layer) for token in range(3) for layer in (2, 1) for prompt in (7, 4)]
    columns: dict[str, object] = {
        "prompt_id": pa.array([r[0] for r in rows], pa.int32()), "token_idx": pa.array([r[1] for r in rows], pa.int32()),
        "layer_idx": pa.array([r[2] for r in rows], pa.int32()),
        "selected_experts": pa.array([[r[1], 3 + r[2] - r[0] // 7] for r in rows], pa.list_(pa.int32())),
        "router_softmax": pa.array([[r[1] / 10] * 6 for r in rows], pa.list_(pa.float32())),
        "phase": ["prefill" if r[1] == 0 else "decode" for r in rows],
    }  # fmt: skip
    columns.update(changes)
    return {name: column for name, column in columns.items() if column is not None}


def saved(path: Path, columns: dict[str, object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_policylang_traces_are_read(tmp_path: Path) -> None:
    routing = read_routing(saved(tmp_path / "t.parquet", policylang()))
    assert routing.experts.tolist() == [[[1, 4], [1, 5]], [[2, 4], [2, 5]], [[1, 3], [1, 4]], [[2, 3], [2, 4]]]
    assert routing.lengths.tolist() == [2, 2] and routing.expert_count == 6
    assert routing.softmax is not None and routing.softmax[:, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.1, 0.2])
    assert routing.prefill.tolist() == [[r, s, e, 1] for r in (0, 1) for s in (0, 1) for e in (0, 4 + s - r)]


def test_without_phases_all_tokens_are_decoded(tmp_path: Path) -> None:
    routing = read_routing(saved(tmp_path / "t.parquet", policylang(phase=None, router_softmax=None)), expert_count=8)
    assert routing.lengths.tolist() == [3, 3] and len(routing.prefill) == 0 and routing.expert_count == 8


@pytest.mark.parametrize("kind", [pa.uint8(), pa.uint64()])
def test_unsigned_lists_of_different_lengths_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    columns = policylang(selected_experts=pa.array([[2, 1], [3]] * 6, pa.list_(kind)), phase=None, router_softmax=None)
    assert read_routing(saved(tmp_path / "t.parquet", columns)).experts[0].tolist() == [[3, NONE], [3, NONE]]


def test_a_prefill_of_several_tokens_is_one_set(tmp_path: Path) -> None:
    routing = read_routing(saved(tmp_path / "t.parquet", policylang(phase=["prefill"] * 12)))
    first = routing.prefill[(routing.prefill[:, 0] == 0) & (routing.prefill[:, 1] == 0)]
    assert first[:, 2:].tolist() == [[0, 1], [4, 3], [1, 1], [2, 1]] and routing.tokens == 0


# --- what is no routing ---------------------------------------------------------------------------------------------------

EXPERTS = np.zeros((5, 2, 2), np.uint8) + np.arange(2, dtype=np.uint8)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"lengths": np.array([5])}, "no array experts"),
        ({"experts": EXPERTS.astype(float)}, "whole numbers"),
        ({"experts": EXPERTS[0]}, "must have 3"),
        ({"experts": EXPERTS[:, :0]}, "at least one layer"),
        ({"experts": EXPERTS, "lengths": np.array([4])}, "lengths sum to 4"),
        ({"experts": EXPERTS, "lengths": np.array([6, -1])}, "lengths sum to 5"),
        ({"experts": EXPERTS, "lengths": np.array([[5]])}, "must have 1"),
        ({"experts": EXPERTS, "lengths": np.array([5.0])}, "whole numbers"),
        ({"experts": EXPERTS.astype(np.int64) - 2}, "count from 0"),
        ({"experts": EXPERTS.astype(np.int64) + 40_000}, "at most 32767"),
        ({"experts": EXPERTS + 7, "expert_count": np.array(8)}, "it names expert 8"),
        ({"experts": EXPERTS, "expert_count": np.array([8, 9])}, "one whole number"),
        ({"experts": EXPERTS, "weights": np.ones((5, 2))}, "weights is float64 [5, 2]"),
        ({"experts": EXPERTS, "prefill": np.ones((2, 3), int)}, "prefill is [2, 3]"),
        ({"experts": EXPERTS, "prefill": np.array([[0, 2, 0, 1]])}, "names layer 2 of 2"),
        ({"experts": EXPERTS, "prefill": np.array([[0, 1, 0, 0]])}, "used by 0 tokens"),
        ({"experts": np.array([[["a"]]], object)}, "allow_pickle=False"),
    ],
)
def test_unusable_npz(arrays: dict[str, np.ndarray], reason: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", **arrays)
    refused(tmp_path / "r.npz", reason)


def refused(path: Path, reason: str) -> None:
    with pytest.raises(EngineError) as caught:
        read_routing(path)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".npz", ".parquet"])
def test_a_file_cut_off_or_scribbled_over_is_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"r{ending}"
    write_routing(make_routing(lengths=[20, 20], prefill=True), path)
    whole = path.read_bytes()
    for length in (5, 100, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        refused(path, "cannot be read as")
    random = np.random.default_rng(0)
    for _ in range(40):  # damaged anywhere, it is read or refused, and nothing else
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 20).tolist():
            damaged[place] = int(random.integers(256))
        path.write_bytes(damaged)
        with contextlib.suppress(EngineError):
            read_routing(path)


def test_what_is_no_routing_at_all(tmp_path: Path) -> None:
    refused(tmp_path / "missing.npz", "cannot be opened: No such file")
    refused(tmp_path, "Is a directory")
    for content in (b"", b"hello", b"\x93NUMPY" + bytes(100)):
        (tmp_path / "r.npz").write_bytes(content)
        refused(tmp_path / "r.npz", "is no routing")
    with pytest.raises(EngineError, match=r"let it end in .npz or .parquet"):
        write_routing(make_routing(), tmp_path / "r.csv")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layer_idx": None}, "no column layer_idx"),
        ({"selected_experts": None}, "no column selected_experts"),
        ({"selected_experts": [[0.5]] * 12}, "lists of numbers"),
        ({"selected_experts": list(range(12))}, "lists of numbers"),
        ({"selected_experts": [None] + [[1]] * 11}, "with gaps"),
        ({"selected_experts": [[None, 1]] + [[1, 2]] * 11}, "lists with gaps"),
        ({"selected_experts": [[-5, 1]] * 12}, "count from 0"),
        ({"selected_experts": [[1, 2**40]] * 12, "phase": ["decode"] * 12}, "names expert 1099511627776"),
        ({"token_idx": [0.5] * 12}, "must be whole numbers"),
        ({"token_idx": [0] * 12}, "has not one row for each of the 2 layers"),
        ({"layer_idx": [1] * 11 + [None]}, "with gaps"),
        ({"layer_idx": [1] * 11 + [9]}, "token 1 of prompt 4 has not one row"),
        ({"phase": ["warm-up"] * 12}, "phase is 'warm-up'"),
        ({"router_scores": [[0.5]] * 12}, "not as many"),
    ],
)
def test_unusable_parquet(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    refused(saved(tmp_path / "t.parquet", policylang(**changes)), reason)


def test_parquet_of_something_else(tmp_path: Path) -> None:
    refused(saved(tmp_path / "t.parquet", {"a": [1]}), "no column prompt_id")
    refused(saved(tmp_path / "t.parquet", {name: pa.array(column)[:0] for name, column in policylang().items()}), "has no rows")


def test_an_expert_named_twice_counts_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", experts=np.array([[[3, 3, 1]]]))
    assert read_routing(tmp_path / "r.npz").experts.tolist() == [[[3, NONE, 1]]]
    assert no_uses().shape == (0, 4)
