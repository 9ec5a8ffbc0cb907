"""`main.py simulate` of a session, with a model, with other requests, and interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from app.demo import PROJECT
from engine.events import Outcome, Phase, Ready
from engine.preload.predictor import About
from engine.preload.transition import Transition
from engine.recording.recording import Recording
from engine.residency.usage import Usage
from engine.session import Session
from engine.simulate.live import resident_before
from engine.simulate.traces import routing_of, write_routing
from engine.store import Store
from engine.warm import fill
from main import main
from tests.factory import RECORD_BYTES, make_recording
from tests.session.conftest import generate, store
from tests.simulate.cases import make_routing

__all__ = ["store"]


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def simulated(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    capsys.readouterr()
    assert main(["simulate", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(["simulate", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert not out
    return err.strip().splitlines()[-1]


def test_a_session_tells_sizes_costs_and_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = tmp_path / "run.edgemoe"
    recording = make_recording(path=session, tokens=60)
    routing = routing_of(recording)
    recording.close()
    told = simulated(capsys, "--routing", session, "--budget", "30%,2MB", "--bits", 8)
    assert (told["layers"], told["experts"], told["top_k"], told["tokens"]) == (8, 16, 2, routing.tokens)
    assert told["full_bytes"] == 8 * 16 * RECORD_BYTES[8] and not told["assumed"]
    assert [row["budget_bytes"] for row in told["rows"]] == [int(0.3 * told["full_bytes"])] * 3 + [2_000_000] * 3
    costs = told["costs"]
    assert costs["device"] == "native" and 40_000 <= costs["expert_ns"]["8"] <= 60_000 and 80_000 <= costs["layer_ns"] <= 200_000
    slower = simulated(capsys, "--routing", session, "--budget", "30%", "--bits", 8, "--device", "microsd")
    assert slower["costs"]["device"] == "microsd" and slower["rows"][0]["tok_s"] < told["rows"][0]["tok_s"]
    write_routing(routing, tmp_path / "r.npz")
    words = ("--session", session, "--record-bytes", RECORD_BYTES[8], "--bits", 8, "--budget", "30%")
    same = simulated(capsys, "--routing", tmp_path / "r.npz", *words)
    assert same["rows"] == told["rows"][:3]
    assert "is stored at 2, 4, 8, 16 bits" in refusal(capsys, "--routing", session, "--bits", 3)


def test_a_replay_begins_with_what_the_session_began_with(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usage = Usage.open(store, tmp_path)
    usage.counts = np.random.default_rng(3).permutation(len(usage.counts)) + 1.0
    recording = Recording(tmp_path / "warm.edgemoe")
    values = {"budget": "50%", "eviction": "lru", "predictor": "none", "max_tokens": 30, "ignore_eos": True}
    session = Session(store, values, emit=recording.append)
    recording.append(Ready(0, session.info(), session.values, session.effective(), session.budget))
    fill(session, usage, lambda done, total: None)
    generate(session)
    session.close()
    recording.flush()
    began = resident_before(recording).tolist()
    room = session.budget.granted // store.record_bytes(4)
    assert set(began) == set(np.argsort(-usage.counts)[:room].tolist()) and len(began) == room
    decoded = recording.accesses.rows()
    decoded = decoded[decoded["phase"] == Phase.DECODE]
    recording.close()
    words = ("--routing", tmp_path / "warm.edgemoe", "--eviction", "lru,oracle", "--budget")
    told = simulated(capsys, *words, f"50%,{store.record_bytes(4) * (room - 5)}")
    assert told["initial_experts"] == room
    assert told["rows"][0]["hit_rate"] == (decoded["outcome"] == Outcome.HIT).mean()
    assert all(row["mb_per_token"] >= row["least_mb_per_token"] for row in told["rows"])
    assert not simulated(capsys, *words, "50%", "--sample", 10)["initial_experts"], "other requests had gone before"


def test_a_model_tells_sizes_plan_and_predictors(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = store.spec
    routing = make_routing([40, 30], spec.layers, spec.experts, spec.top_k, prefill=True)
    write_routing(routing, tmp_path / "r.parquet")
    words = ("--routing", tmp_path / "r.parquet", "--model", store.path, "--budget", "40%")
    assert simulated(capsys, *words, "--bits", 8)["full_bytes"] == routing.shape.total * store.record_bytes(8)
    bits = np.random.default_rng(0).choice([2, 8], (spec.layers, spec.experts)).tolist()
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"model_hash": store.model_hash, "layers": bits}))
    told = simulated(capsys, *words, "--plan", plan)
    assert told["full_bytes"] == sum(store.record_bytes(width) for layer in bits for width in layer)
    assert all(row["mb_per_token"] >= row["least_mb_per_token"] > 0 for row in told["rows"])
    shipped = Transition(spec.layers, spec.experts, spec.top_k)
    shipped.train(routing.experts, routing.lengths)
    file = store.path / Transition.file
    shipped.save(file, About("transition", spec.layers, spec.experts, spec.top_k, "", 2, 70))
    try:
        by_model = simulated(capsys, *words, "--predictor", "transition,none")["rows"]
    finally:
        file.unlink()
    as_it_goes = simulated(capsys, *words, "--predictor", "transition")["rows"]
    assert by_model[0]["recall_at_k"] > as_it_goes[0]["recall_at_k"] > 0 and by_model[1]["recall_at_k"] is None
    write_routing(make_routing([9], spec.layers + 1, spec.experts, spec.top_k), tmp_path / "other.npz")
    assert "give its own routing" in refusal(capsys, "--routing", tmp_path / "other.npz", "--model", store.path)


def test_other_requests_are_learned_from_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = make_routing([30] * 20, layers=4, experts=8, seed=2)
    heard, judged = whole.take(range(10)), whole.take(range(10, 20))
    for name, routing in (("heard", heard), ("judged", judged), ("other", make_routing(layers=2))):
        write_routing(routing, tmp_path / f"{name}.npz")
    words = ("--routing", tmp_path / "judged.npz", "--train", tmp_path / "heard.npz", "--predictor", "path,transition", "--budget", "40%")
    first = simulated(capsys, *words)
    kept = sorted((tmp_path / "cache").rglob("*predictor-*"))
    assert [path.name.partition("predictor-")[2] for path in kept] == ["path.json", "transition.safetensors"]
    times = [path.stat().st_mtime_ns for path in kept]
    rounded = simulated(capsys, *words)  # weights are kept at 16 bits
    assert [path.stat().st_mtime_ns for path in kept] == times
    for a, b in zip(first["rows"], rounded["rows"], strict=True):
        assert a["recall_at_k"] == pytest.approx(b["recall_at_k"], abs=0.01)
    kept[1].write_bytes(b"damaged")
    assert simulated(capsys, *words)["rows"] == first["rows"]
    assert first["listened_tokens"] == 300 and simulated(capsys, *words, "--sample", 100)["listened_tokens"] == 90
    assert "is of another model: 2 layers of 8 experts, top 2, instead of 4 layers" in refusal(
        capsys, "--routing", tmp_path / "judged.npz", "--train", tmp_path / "other.npz"
    )


def test_a_sample_is_of_whole_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_routing(make_routing([30] * 20), tmp_path / "r.npz")
    told = simulated(capsys, "--routing", tmp_path / "r.npz", "--sample", 100, "--budget", "50%")
    assert (told["requests"], told["tokens"], told["sampled"]) == (3, 90, True) and (told["requests_of"], told["tokens_of"]) == (20, 600)
    one = make_routing([400], weights=True, softmax=True).sample(100)
    assert (one.tokens, one.lengths.tolist()) == (100, [100]) and np.array_equal(one.experts, make_routing([400]).experts[:100])
    assert "give at least 0" in refusal(capsys, "--routing", tmp_path / "r.npz", "--sample", -1)


def test_long_routing_is_sampled_and_lru_is_told_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("engine.simulate.routing.SAMPLE_USES", 1200)
    whole = make_routing([30] * 20, experts=16, prefill=True, gaps=True)
    write_routing(whole, tmp_path / "r.npz")
    words = ("--routing", tmp_path / "r.npz", "--budget", "20%,60%", "--eviction", "lru,lfu", "--predictor", "none,transition")
    by_default, of_all = simulated(capsys, *words), simulated(capsys, *words, "--sample", 0)
    assert by_default["sampled"] and by_default["tokens"] == 180
    assert not of_all["sampled"] and of_all["tokens"] == of_all["tokens_of"] == 600
    counts = ("tokens", "hit_rate", "misses_first_touch", "misses_capacity", "demand_bytes", "mb_per_token", "least_mb_per_token")
    for ours, true in zip(by_default["rows"], of_all["rows"], strict=True):
        told = ours["tokens"] == 600
        # A prefill uses more of a layer than 20% holds.
        assert told == ((ours["eviction"], ours["predictor"], ours["budget"]) == ("lru", "none", "60%"))
        assert (ours["sampled_hit_rate"] is not None) == told and true["sampled_hit_rate"] is None and true["tokens"] == 600
        assert ours["mb_per_token"] >= ours["least_mb_per_token"] > 0
        if told:
            assert [ours[name] for name in counts] == [true[name] for name in counts]
    assert main(["simulate", *map(str, words)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("180 tokens of 6 requests drawn from 600 of 20 (--sample 0: all)")
    assert table[-1].startswith("lru without a predictor: hits and bytes of all 600 tokens; its hit rate in the sample: ")


@pytest.mark.parametrize(("words", "says"), [
    (["--budget", ","], "--budget: give at least one"),
    (["--preload-depth", "0"], "--preload-depth 0: give at least 1"),
    (["--experts", "0"], "--experts 0: give at least 1"),
    (["--record-bytes", "0"], "give a size such as 1MiB"),
    (["--device", "native"], "give a --session of this machine"),
    (["--train", "missing.npz"], "missing.npz cannot be opened"),
    (["--session", "missing"], "missing cannot be opened"),
])  # fmt: skip
def test_what_cannot_be_is_said(words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_routing(make_routing(), tmp_path / "r.npz")
    assert says in refusal(capsys, "--routing", tmp_path / "r.npz", *words)


def test_routing_without_a_decoded_token_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_routing(make_routing([0, 0], prefill=True), tmp_path / "r.npz")
    assert "holds no decoded token" in refusal(capsys, "--routing", tmp_path / "r.npz")


@pytest.mark.parametrize("predictor", ["none", "transition"])
def test_an_interrupt_ends_it_with_a_word(predictor: str, tmp_path: Path) -> None:
    """Also one that comes while a predictor is trained natively."""
    for name, seed in (("r", 0), ("t", 1)):
        write_routing(make_routing([2000] * 20, layers=8, experts=32, top_k=4, seed=seed), tmp_path / f"{name}.npz")
    words = ["--routing", "r.npz", "--train", "t.npz", "--budget", "10%,20%,30%", "--predictor", predictor]
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(PROJECT)}
    running = subprocess.Popen(
        [sys.executable, str(PROJECT / "main.py"), "simulate", *words], cwd=tmp_path, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert running.stderr is not None
    first = running.stderr.readline()
    assert first.startswith("training transition" if predictor == "transition" else "policies listen")
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (1, "") and err.splitlines()[-1] == "Stopped." and "Traceback" not in err
    assert time.monotonic() - began < 30
