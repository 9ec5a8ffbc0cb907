"""Predictors: what they say is a probability, is learned from what there is, and comes back from a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ctypes import c_float, c_int32, c_void_p
from pathlib import Path as File
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.binding import bind
from engine.errors import EngineError
from engine.preload.learned import KINDS
from engine.preload.path import Path
from engine.preload.predictor import About, Learned
from engine.preload.recall import recall
from engine.preload.transition import Transition

SHAPES = [(8, 16, 2), (16, 64, 8), (48, 128, 8)]
TOKENS = {(8, 16, 2): 1500, (16, 64, 8): 300, (48, 128, 8): 120}
TOPICS = 24  # different choices of a first layer, where of many experts no few hundred tokens show all
LENGTH = 30  # tokens of a request

Trace = tuple[np.ndarray, np.ndarray]


class Heard:
    """A predictor asked layer by layer, as a stream does it."""

    def __init__(self, handle: int, experts: int) -> None:
        self._handle, self._experts = handle, experts
        self._native = bind({
            "predictor_begin_request": (None, (c_void_p,)),
            "predictor_routed": (None, (c_void_p, c_int32, c_void_p, c_int32, c_int32)),
            "predictor_predict": (c_int32, (c_void_p, c_int32, c_int32, c_void_p)),
        })  # fmt: skip

    def begin(self) -> Heard:
        self._native.predictor_begin_request(self._handle)
        return self

    def routed(self, layer: int, experts: list[int], prefill: bool = False) -> Heard:
        self._native.predictor_routed(self._handle, layer, (c_int32 * len(experts))(*experts), len(experts), prefill)
        return self

    def token(self, chosen: np.ndarray) -> Heard:
        for layer, experts in enumerate(chosen.tolist()):
            self.routed(layer, [e for e in experts if e >= 0])
        return self

    def odds(self, layer: int, ahead: int = 1) -> np.ndarray | None:
        odds = (c_float * self._experts)()
        return np.array(odds) if self._native.predictor_predict(self._handle, layer, ahead, odds) else None


def planted(shape: tuple[int, int, int], tokens: int, seed: int = 0, held_together: bool = False) -> Trace:
    """Every layer's choice is the last one's, each expert turned into another. The first layer's is drawn, or where ``held_together``
    follows in the same way from the last layer's of the token before."""
    layers, experts, top_k = shape
    random, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    turn = np.stack([fixed.permutation(experts) for _ in range(layers)])
    topics = np.stack([fixed.permutation(experts)[:top_k] for _ in range(TOPICS)])
    trace = np.empty((tokens, layers, top_k), np.int16)
    for t in range(tokens):
        now = random.permutation(experts)[:top_k] if experts == 16 else topics[random.integers(TOPICS)]
        if held_together and t % LENGTH:
            now = turn[0][trace[t - 1, -1]]
        for layer in range(layers):
            now = turn[layer][now] if layer else now
            trace[t, layer] = now
    return trace, np.full(tokens // LENGTH, LENGTH)


def about(learned: Learned, **other: Any) -> About:
    shape = dict(zip(("layers", "experts", "top_k"), learned.shape, strict=True))
    fields: dict[str, Any] = {"predictor": learned.name, "trace": "x", "requests": 1, "tokens": 1}
    return About(**(fields | shape | other))


def trained(kind: type[Path] | type[Transition], shape: tuple[int, int, int], trace: Trace) -> Path | Transition:
    predictor = kind(*shape)
    assert predictor.train(*trace)
    return predictor


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS), scope="module")
def kind(request: pytest.FixtureRequest) -> type[Path] | type[Transition]:
    return request.param


@pytest.fixture(scope="module")
def small(kind: type[Path] | type[Transition]) -> Iterator[Path | Transition]:
    """Trained on a planted trace of the smallest shape; not to be changed."""
    yield (predictor := trained(kind, SHAPES[0], planted(SHAPES[0], TOKENS[SHAPES[0]], held_together=True)))
    predictor.close()


@pytest.fixture(params=SHAPES, ids=lambda shape: "x".join(map(str, shape)), scope="module")
def drawn(kind: type[Path] | type[Transition], request: pytest.FixtureRequest) -> Iterator[Path | Transition]:
    """Trained on a trace whose first layer is drawn; not to be changed."""
    shape = request.param
    yield (predictor := trained(kind, shape, planted(shape, TOKENS[shape])))
    predictor.close()


def test_odds_are_probabilities_of_k_experts(drawn: Path | Transition) -> None:
    for ahead in (1, 3) if isinstance(drawn, Transition) else (1,):
        odds = drawn.judge(*planted(drawn.shape, LENGTH, seed=1), ahead)[1:]  # of the first token not all is said
        assert odds.min() >= 0 and odds.max() <= 1 + 1e-5
        assert odds.sum(axis=2).mean() == pytest.approx(drawn.shape[2], rel=0.25)


def test_what_follows_from_what_was_heard_is_learned(drawn: Path | Transition) -> None:
    (right,) = recall(drawn, *planted(drawn.shape, 10 * LENGTH, seed=1), (drawn.shape[2],))
    assert right[1:].mean() > 0.95  # the first is drawn; those after it have little to learn from, and of many experts need more tokens
    assert right[4:].min() > 0.95


def test_the_first_layers_follow_from_the_token_before(small: Path | Transition) -> None:
    trace, lengths = planted(small.shape, 10 * LENGTH, seed=1, held_together=True)
    (right,) = recall(small, trace, lengths, (2,))
    assert right[0] > 0.95 * (LENGTH - 1) / LENGTH  # nothing is known before a request's first


def test_training_twice_gives_the_same(kind: type[Path] | type[Transition], small: Path | Transition) -> None:
    again = trained(kind, small.shape, planted(small.shape, TOKENS[small.shape], held_together=True))
    trace = planted(small.shape, LENGTH, seed=1)
    assert np.array_equal(again.judge(*trace), small.judge(*trace))
    assert np.array_equal(small.judge(*trace), small.judge(*trace))


def test_training_can_be_ended(kind: type[Path] | type[Transition]) -> None:
    told: list[float] = []
    assert not kind(*SHAPES[0]).train(*planted(SHAPES[0], 300), lambda share: bool(told.append(share)))
    assert 1 <= len(told) < 2 * SHAPES[0][0] and 0 < told[0] < 1


def test_a_file_brings_it_back(small: Path | Transition, tmp_path: File) -> None:
    trace, file, second = planted(small.shape, LENGTH, seed=1), tmp_path / small.file, tmp_path / "again"
    small.save(file, about(small))
    back = type(small).load(file, *small.shape)
    # The weights of a network are kept in half precision.
    assert np.abs(back.judge(*trace) - small.judge(*trace)).max() <= (0.02 if isinstance(small, Transition) else 0)
    back.save(second, about(small))
    assert np.array_equal(type(small).load(second, *small.shape).judge(*trace), back.judge(*trace))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([small.file, "again"])


def test_a_prefill_is_not_heard(small: Path | Transition) -> None:
    heard, token = Heard(small.handle, 16), planted(small.shape, LENGTH)[0][0]
    plain = heard.begin().token(token).odds(0)
    heard.begin()
    for layer in range(8):
        heard.routed(layer, list(range(5)), prefill=True)
    assert plain is not None and np.array_equal(heard.token(token).odds(0), plain)
    alone = heard.begin().routed(0, token[0].tolist()).odds(1)
    heard.begin()
    for layer in range(8):
        heard.routed(layer, list(range(5)), prefill=True)
    assert np.array_equal(heard.routed(0, token[0].tolist()).odds(1), alone)


def test_a_request_forgets_the_one_before(small: Path | Transition) -> None:
    heard, (trace, _) = Heard(small.handle, 16), planted(small.shape, LENGTH)
    first = heard.begin().token(trace[0]).odds(0)
    assert not np.array_equal(heard.token(trace[2]).odds(0), first)
    assert np.array_equal(heard.begin().token(trace[0]).odds(0), first)


def test_fewer_than_k_are_heard_and_learned(kind: type[Path] | type[Transition]) -> None:
    trace, lengths = planted(SHAPES[0], TOKENS[SHAPES[0]])
    trace[::3, 2, 1] = trace[::5, 6, 1] = -1
    trace[::7, 4] = -1
    predictor = trained(kind, SHAPES[0], (trace, lengths))
    odds = predictor.judge(trace[: 10 * LENGTH], lengths[:10])
    assert np.isfinite(odds).all() and odds.min() >= 0 and odds.max() <= 1 + 1e-5
    (right,) = recall(predictor, trace[: 10 * LENGTH], lengths[:10], (2,))
    assert right[[1, 2]].min() > 0.9
    nothing = Heard(predictor.handle, 16).begin().routed(0, []).odds(1)
    assert nothing is not None and np.isfinite(nothing).all()


def test_paths_never_seen_lean_on_shorter_ones() -> None:
    shape = (3, 8, 1)
    trace = np.array([[[0], [1], [2]], [[0], [1], [2]], [[3], [1], [5]], [[3], [4], [6]]] * 5, np.int16)
    path = trained(Path, shape, (trace, np.full(20, 1)))
    heard = Heard(path.handle, 8)
    always = heard.begin().odds(2)
    one = heard.begin().routed(1, [1]).odds(2)
    two = heard.begin().routed(0, [0]).routed(1, [1]).odds(2)
    unseen_two = heard.begin().routed(0, [7]).routed(1, [1]).odds(2)
    unseen_one = heard.begin().routed(0, [0]).routed(1, [7]).odds(2)
    assert always is not None and one is not None and two is not None
    assert one[2] > always[2] and two[2] > one[2] > one[5] > 0
    assert np.array_equal(unseen_two, one) and np.array_equal(unseen_one, always)
    assert heard.odds(1, ahead=2) is None  # the dictionary knows only what comes next


# --- files ---


@pytest.fixture
def saved(small: Path | Transition, tmp_path: File) -> File:
    small.save(tmp_path / small.file, about(small))
    return tmp_path / small.file


def refused(kind: type[Path] | type[Transition], file: File, shape: tuple[int, int, int] = SHAPES[0]) -> str:
    with pytest.raises(EngineError) as caught:
        kind.load(file, *shape)
    line = str(caught.value)
    assert "\n" not in line and str(file) in line and "train" in line
    return line


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.999])
def test_a_file_cut_short(kind: type[Path] | type[Transition], saved: File, keep: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    refused(kind, saved)


@pytest.mark.parametrize("content", [b"MZ" + bytes(500), b"[]", b"{}", b"\xff" * 64, b"\x02" + bytes(7) + b"{}"])
def test_a_foreign_file(kind: type[Path] | type[Transition], saved: File, content: bytes) -> None:
    saved.write_bytes(content)
    refused(kind, saved)


@pytest.mark.parametrize("shape", [(9, 16, 2), (8, 17, 2), (8, 16, 3)])
def test_another_shape(kind: type[Path] | type[Transition], saved: File, shape: tuple[int, int, int]) -> None:
    assert "top" in refused(kind, saved, shape)


def test_another_version_and_another_predictor(small: Path | Transition, tmp_path: File) -> None:
    for other in ({"version": 2}, {"predictor": "oracle"}):
        small.save(tmp_path / small.file, about(small, **other))
        assert "version" in refused(type(small), tmp_path / small.file)


@pytest.mark.parametrize("damage", ["expert", "negative", "name", "layers", "counts", "more"])
def test_a_dictionary_that_contradicts_itself(damage: str, tmp_path: File) -> None:
    path = trained(Path, SHAPES[0], planted(SHAPES[0], 300))
    path.save(tmp_path / Path.file, about(path))
    content = json.loads((tmp_path / Path.file).read_bytes())
    layers = content["layers"]
    if damage == "layers":
        layers.pop()
    else:
        layers[3]["one"] |= {
            "expert": {"4 9": {"16": 3, "-1": 3}}, "negative": {"4 9": {"-7": 3, "-1": 3}}, "name": {"four nine": {"4": 3, "-1": 3}},
            "counts": {"4 9": {"4": -30, "-1": -30}}, "more": {"4 9": {"4": 30, "-1": 3}},
        }[damage]  # fmt: skip
    (tmp_path / Path.file).write_text(json.dumps(content))
    refused(Path, tmp_path / Path.file)


@pytest.mark.parametrize("damage", ["nan", "shape", "missing"])
def test_a_network_that_cannot_be(damage: str, tmp_path: File) -> None:
    network, file = Transition(*SHAPES[0]), tmp_path / Transition.file
    network.save(file, about(network))
    arrays = load_file(file)
    if damage == "nan":
        arrays["2.bias"][3] = np.nan
    elif damage == "shape":
        arrays["2.bias"] = arrays["2.bias"][:-1].copy()
    else:
        del arrays["2.bias"]
    fields = {name: str(getattr(about(network), name)) for name in About.__struct_fields__}
    save_file(arrays, file, fields)
    refused(Transition, file)


# --- the gate ---


class Gate(Heard):
    """The routers asked ahead of their turn."""

    def __init__(self, layers: int, experts: int, top_k: int) -> None:
        self._own = bind({
            "gate_new": (c_void_p, (c_int32, c_int32, c_int32)),
            "gate_hand": (None, (c_void_p, c_int32, c_int32, c_void_p)),
            "predictor_free": (None, (c_void_p,)),
        })  # fmt: skip
        super().__init__(self._own.gate_new(layers, experts, top_k), experts)

    def hand(self, layer: int, ahead: int, scores: np.ndarray) -> Gate:
        self._own.gate_hand(self._handle, layer, ahead, np.ascontiguousarray(scores, np.float32).ctypes.data)
        return self

    def close(self) -> None:
        self._own.predictor_free(self._handle)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_the_gate_learns_how_far_scores_can_be_trusted(shape: tuple[int, int, int]) -> None:
    _, experts, top_k = shape
    gate, random, said, was = Gate(*shape), np.random.default_rng(0), [], []
    gate.begin()
    for _ in range(800):
        truth = random.normal(size=experts)
        odds = gate.hand(1, 1, truth + random.normal(size=experts)).odds(1)  # as much noise as there is to know
        assert odds is not None and odds.min() >= 0 and odds.max() <= 1
        chosen = np.argsort(-truth)[:top_k]
        gate.routed(1, chosen.tolist())
        said.append(odds)
        was.append(np.isin(np.arange(experts), chosen))
    late, then = np.array(said[400:]), np.array(was[400:])
    assert late.sum(axis=1).mean() == pytest.approx(top_k, rel=0.15)
    for low in (0.0, 0.2, 0.4, 0.6):
        within = (late >= low) & (late < low + 0.2)
        assert within.sum() < 50 or then[within].mean() == pytest.approx(late[within].mean(), abs=0.12)
    gate.close()


def test_the_gate_learns_what_the_experts_before_add() -> None:
    gate, random, right = Gate(4, 16, 2), np.random.default_rng(0), []
    for turn in range(2000):
        before = random.permutation(16)[:2]
        chosen = (5 * before + 3) % 16  # which the scores say nothing of
        gate.routed(0, before.tolist())
        odds = gate.hand(1, 1, random.normal(size=16)).odds(1)
        assert odds is not None
        if turn >= 1500:
            right.append(np.isin(np.argsort(-odds)[:2], chosen).mean())
        gate.routed(1, chosen.tolist())
    assert np.mean(right) > 0.95
    gate.close()


def test_the_gate_says_nothing_that_it_was_not_told() -> None:
    gate, scores = Gate(4, 8, 2), np.arange(8)
    assert gate.begin().odds(1) is None
    gate.hand(1, 1, scores)
    assert gate.odds(1) is not None and gate.odds(2) is None
    assert gate.routed(1, [6, 7]).odds(1) is None  # its turn is over
    gate.hand(2, 2, scores)
    assert gate.begin().odds(2) is None
    gate.close()


def test_the_gate_learns_nothing_of_a_prefill() -> None:
    gate, scores = Gate(4, 8, 2), np.arange(8)
    before = gate.begin().hand(1, 1, scores).odds(1)
    for _ in range(50):
        gate.hand(1, 1, scores).routed(1, [0, 1, 2], prefill=True)
    assert np.array_equal(gate.hand(1, 1, scores).odds(1), before)
    gate.close()
