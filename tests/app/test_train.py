"""`main.py train`: what it refuses in one line, and a small training for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import main
from engine.preload.learned import KINDS, load
from engine.preload.predictor import trace_hash
from engine.store import Store, convert

Refusal = Callable[..., str]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return convert(model, tmp_path_factory.mktemp("stores") / "tiny", (4,))


def save_routing(path: Path, layers: int, experts: int, top_k: int, requests: int = 20, tokens: int = 30) -> Path:
    """Routing in which every layer's choice follows from the first's, which is drawn."""
    random = np.random.default_rng(0)
    first = np.stack([random.permutation(experts)[:top_k] for _ in range(requests * tokens)])
    chosen = np.stack([(first + 3 * layer) % experts for layer in range(layers)], axis=1).astype(np.uint8)
    np.savez(path, experts=chosen, lengths=np.full(requests, tokens), expert_count=experts)
    return path


@pytest.fixture
def routing(store: Store, tmp_path: Path) -> Path:
    spec = store.spec
    return save_routing(tmp_path / "routing.npz", spec.layers, spec.experts, spec.top_k)


def test_both_are_trained_measured_and_found_by_a_run(
    store: Store, routing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert main.main(["train", "--model", str(store.path), "--routing", str(routing), "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    about = json.loads(captured.out)
    assert "training transition" in captured.err
    assert (about["requests"], about["held_out_requests"], about["held_out_tokens"]) == (18, 2, 60)
    spec = store.spec
    for one in about["predictors"]:
        assert Path(one["path"]).stat().st_size == one["bytes"]
        later = one["recall_at_k_by_layer"][1:]
        assert min(later) > 0.9, one  # what the first layer chose says it all
        assert one["recall_at_2k"] >= one["recall_at_k"]
        assert load(one["predictor"], [out], spec.layers, spec.experts, spec.top_k) is not None
    assert [one["predictor"] for one in about["predictors"]] == ["transition", "path"]


def test_the_default_place_is_the_store_and_a_run_predicts_by_it(store: Store, routing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", "--model", str(store.path), "--routing", str(routing), "--predictor", "path"]) == 0
    told = capsys.readouterr().out
    file = store.path / KINDS["path"].file
    assert file.is_file() and str(file) in told and "%" in told
    try:
        assert main.main(["run", "--model", str(store.path), "--predictor", "path", "--tokens", "4", "--budget", "50%", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["settings"]["predictor"] == "path"
    finally:
        file.unlink()


def test_recorded_sessions_are_routing(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session, out = tmp_path / "run.edgemoe", tmp_path / "out"
    out.mkdir()
    words = ["--model", str(store.path), "--tokens", "9", "--ignore-eos", "true", "--session", str(session), "--json"]
    assert main.main(["run", *words]) == 0
    capsys.readouterr()
    assert main.main(["train", "--model", str(store.path), "--routing", str(session), "--out", str(out), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["requests"], about["tokens"], about["held_out_requests"]) == (1, 8, 0)
    assert about["predictors"][0]["recall_at_k"] is None  # nothing was left to judge by


def test_the_file_says_what_was_learned_from(store: Store, routing: Path, tmp_path: Path) -> None:
    assert main.main(["train", "--model", str(store.path), "--routing", str(routing), "--predictor", "path", "--out", str(tmp_path)]) == 0
    about = json.loads((tmp_path / KINDS["path"].file).read_bytes())["about"]
    assert about["requests"] == 18 and about["tokens"] == 540 and len(about["trace"]) == len(trace_hash(np.zeros((1, 1, 1), np.int16)))


@pytest.mark.parametrize(("change", "word"), [((1, 0, 0), "layers"), ((0, 3, 0), "experts"), ((0, 0, 1), "top")])
def test_another_shape(change: tuple[int, int, int], word: str, store: Store, tmp_path: Path, refusal: Refusal) -> None:
    spec = store.spec
    shape = np.add((spec.layers, spec.experts, spec.top_k), change).tolist()
    other = save_routing(tmp_path / "other.npz", *shape)
    line = refusal("train", "--model", store.path, "--routing", other)
    assert "another model" in line and word in line and str(other) in line
    assert not (store.path / KINDS["path"].file).exists()


def test_no_such_predictor(store: Store, routing: Path, refusal: Refusal) -> None:
    assert "transition" in refusal("train", "--model", store.path, "--routing", routing, "--predictor", "path,oracle")
    assert "gate" in refusal("train", "--model", store.path, "--routing", routing, "--predictor", "gate")


def test_routing_without_tokens(store: Store, tmp_path: Path, refusal: Refusal) -> None:
    spec = store.spec
    empty = save_routing(tmp_path / "empty.npz", spec.layers, spec.experts, spec.top_k, 1, 1)
    np.savez(empty, experts=np.empty((0, spec.layers, spec.top_k), np.uint8), lengths=np.zeros(2, np.int64))
    assert "no decoded token" in refusal("train", "--model", store.path, "--routing", empty)


def test_files_that_are_no_routing(store: Store, routing: Path, tmp_path: Path, refusal: Refusal) -> None:
    assert "nowhere" in refusal("train", "--model", store.path, "--routing", tmp_path / "nowhere.npz")
    routing.write_bytes(routing.read_bytes()[:-200])
    assert "damaged" in refusal("train", "--model", store.path, "--routing", routing)


def test_a_folder_that_is_not_there(store: Store, routing: Path, tmp_path: Path, refusal: Refusal) -> None:
    assert "no folder" in refusal("train", "--model", store.path, "--routing", routing, "--out", tmp_path / "nowhere")


@pytest.mark.skipif(os.name == "nt", reason="no such signal there")
def test_an_interrupt_leaves_the_old_file(store: Store, tmp_path: Path) -> None:
    spec = store.spec
    routing = save_routing(tmp_path / "long.npz", spec.layers, spec.experts, spec.top_k, 40, 20_000)
    old = tmp_path / KINDS["transition"].file
    old.write_bytes(b"old")
    words = [sys.executable, str(ROOT / "main.py"), "train", "--model", str(store.path), "--routing", str(routing), "--out", str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    assert "training" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (1, "", "Stopped.\n")
    assert old.read_bytes() == b"old"
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {old.name, "long.npz"}
