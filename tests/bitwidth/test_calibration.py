"""Losses are what they say, estimates agree with trials, plans keep within their tolerance, and nothing is measured twice."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import main
from engine.bitwidth.blocks import Texts, texts_of
from engine.bitwidth.calibration import LEARN, VERIFY, Calibration
from engine.bitwidth.dense import DenseExperts
from engine.bitwidth.fidelity import Yardstick
from engine.bitwidth.notebook import Notebook
from engine.bitwidth.plan import Plan, Subject
from engine.bitwidth.sensitivity import Sensitivity
from engine.errors import Cancelled, EngineError
from engine.models.skeleton import Skeleton, load_skeleton
from engine.session import Session
from engine.store import Store, convert
from tests.models.families import save_random


def ranks(values: list[float]) -> np.ndarray:
    return np.argsort(np.argsort(values)).astype(float)


def test_learning_and_verifying_share_no_work(skeleton: Skeleton) -> None:
    works = [f"{word} " * 4000 for word in ("sea", "hill", "ship", "storm", "bread")]
    texts = texts_of(skeleton.tokenizer, [works], 4096, 1024)
    learned, verified = (set(skeleton.tokenizer.decode(side.flatten()).split()) for side in (texts.learn, texts.verify))
    assert texts.works == (3, 2) and texts.learn.shape[1] == 257
    assert {"sea", "ship", "bread"} <= learned and {"hill", "storm"} <= verified and not learned & {"hill", "storm"}


def test_one_work_is_halved_and_a_line_is_too_little(skeleton: Skeleton) -> None:
    assert texts_of(skeleton.tokenizer, [["one two three " * 9000]], 2048, 1024).works == (1, 1)
    with pytest.raises(EngineError, match="too short"):
        texts_of(skeleton.tokenizer, [["one line"]], 2048, 1024)


def test_loss_grows_as_widths_fall(skeleton: Skeleton, texts: Texts, notebook: Notebook) -> None:
    with Calibration(skeleton, texts, notebook) as calibration:
        losses = [calibration.measure(VERIFY, calibration.uniform(bits)) for bits in (16, 8, 4, 3, 2)]
    assert abs(losses[0].share) < 1e-5 and abs(losses[0].kl) < 1e-4
    assert all(a.kl < b.kl for a, b in pairwise(losses)) and losses[-1].share > losses[1].share
    assert all(low <= loss.share <= high for loss in losses for low, high in [loss.share_range])


def test_the_engine_itself_loses_as_much(skeleton: Skeleton, texts: Texts, store: Store) -> None:
    ids = texts.verify[0]
    yardstick = Yardstick(skeleton, texts.verify[:1], DenseExperts(store, [16] * 128))
    dense = yardstick.measure(DenseExperts(store, [3] * 128))
    yardstick.close()
    session = Session(store, {"budget": "100%", "bits": 3, "predictor": "none"}, recording=False)
    logs = session.logits(ids[None, :-1], len(ids) - 1).float().log_softmax(-1)
    session.close()
    assert float(-logs.gather(1, ids[1:, None]).mean()) == pytest.approx(float((dense.nll + dense.rise)[0]), rel=2e-3)


def test_no_room_for_the_reference_is_told(skeleton: Skeleton, texts: Texts, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, offset: int, size: int) -> None:
        assert size == 2 * texts.verify[:, 1:].numel() * skeleton.vocabulary
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(EngineError, match=r"has no room for the .* fewer tokens"):
        Yardstick(skeleton, texts.verify, DenseExperts(store, [16] * 128))


def test_the_estimate_ranks_experts_as_trials_do(skeleton: Skeleton, texts: Texts, store: Store, notebook: Notebook) -> None:
    with Calibration(skeleton, texts, notebook) as calibration:
        found = calibration.sensitivity()
    assert (found.losses[:, -1] == 0).all() and (np.diff(found.losses.sum(0)) < 0).all()
    assert found.uses.sum() == pytest.approx(store.spec.layers * store.spec.top_k)
    yardstick = Yardstick(skeleton, texts.learn, experts := DenseExperts(store, [16] * 128))
    some, tried = list(range(0, 128, 5)), []
    for number in some:
        experts.bits = [2 if other == number else 16 for other in range(128)]
        tried.append(yardstick.measure(experts).kl)
    yardstick.close()
    assert np.corrcoef(ranks(tried), ranks(found.losses[some, 0].tolist()))[0, 1] > 0.7


def test_a_plan_keeps_within_its_tolerance_and_beats_one_width(skeleton: Skeleton, texts: Texts, store: Store, notebook: Notebook) -> None:
    with Calibration(skeleton, texts, notebook) as calibration:
        for tolerance in (0.02, 0.08):
            made = calibration.plan(tolerance)
            assert made.loss.share_range[1] <= tolerance and made.packed is not None and made.packed.bound <= made.packed.cost
            fitting = [calibration.bytes_of(uniform) for bits in store.widths
                       if calibration.measure(VERIFY, uniform := calibration.uniform(bits)).share_range[1] <= tolerance]  # fmt: skip
            assert calibration.bytes_of(made.bits) < min(fitting)
        with pytest.raises(EngineError, match=r"loses at most .*: at best, all experts at \d+ bits lose up to .*; tolerate more"):
            calibration.plan(1e-7)


def test_a_misleading_estimate_costs_no_more_than_one_width(
    skeleton: Skeleton, texts: Texts, store: Store, kept: Path, tmp_path: Path
) -> None:
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    notebook, misled = Notebook(store, texts.digest, tmp_path / "calibration"), Sensitivity(store)
    misled.losses[:] = [0.1, 0.05, 0.02, 0.0, 0.0]  # half of the experts, as if they lost much
    misled.losses[::2] *= 1e-4
    notebook.keep_sensitivity(misled)
    with Calibration(skeleton, texts, notebook) as calibration:
        made, uniform = calibration.plan(0.005), calibration.uniform(4)
        assert calibration.measure(VERIFY, uniform).share_range[1] <= 0.005
        assert made.loss.share_range[1] <= 0.005 and calibration.bytes_of(made.bits) <= calibration.bytes_of(uniform)


def test_an_interrupted_calibration_goes_on_where_it_was(skeleton: Skeleton, texts: Texts, store: Store, tmp_path: Path) -> None:
    told, left = list[str](), [4]
    texts = replace(texts, learn=texts.learn[:2], verify=texts.verify[:2])

    def report(stage: str, done: int, of: int, unit: str) -> None:
        if done == of:
            told.append(stage)
            left[0] -= 1

    def calibration() -> Calibration:
        return Calibration(skeleton, texts, Notebook(store, texts.digest, tmp_path), report, lambda: left[0] <= 0)

    with calibration() as first, pytest.raises(Cancelled):
        first.plan(0.08)
    assert told[0].startswith("estimating")
    before, left[0] = list(told), 1000
    told.clear()
    with calibration() as second:
        made = second.plan(0.08)
    assert not any(stage.startswith("estimating") for stage in told) and len(before) > 1
    told.clear()
    with calibration() as third:
        assert third.plan(0.08).bits == made.bits and not told


def test_spoilt_results_are_made_anew(
    skeleton: Skeleton, texts: Texts, store: Store, notebook: Notebook, kept: Path, tmp_path: Path
) -> None:
    with Calibration(skeleton, texts, notebook) as calibration:
        wanted = calibration.measure(LEARN, calibration.uniform(2)).kl
    (file,) = kept.glob("calibration/*.json")
    (tmp_path / file.name).write_bytes(file.read_bytes()[:100])
    with Calibration(skeleton, texts, Notebook(store, texts.digest, tmp_path)) as calibration:
        assert calibration.measure(LEARN, calibration.uniform(2)).kl == pytest.approx(wanted)


def test_the_command_writes_a_plan_that_the_engine_runs(
    works: list[str], store: Store, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.bitwidth.notebook.cache_folder", lambda: kept)
    text, out = tmp_path / "text.txt", tmp_path / "plan.json"
    text.write_text("\f".join(works))
    arguments = ["calibrate", "--text", str(text), "--tokens", "1024", "--tolerance", "5%", "--out", str(out), "--json"]
    assert main.main(arguments) == 0
    about = json.loads(capsys.readouterr().out)
    plan = Plan.read(out, Subject.of(store))
    assert about["loss_ci"][1] <= 0.05 and about["bytes"] == sum(map(store.record_bytes, plan.bits))
    assert plan.origin is not None and plan.origin.loss == about["loss_measured"]
    assert sum(line.startswith("    [") and line.count(",") >= 15 for line in out.read_text().splitlines()) == store.spec.layers
    session = Session(store, {"plan": str(out), "budget": "50%"}, recording=False)
    assert [session.bits_of(number) for number in range(128)] == plan.bits
    session.close()
    assert main.main([*arguments, "--objective", "traffic"]) == 0
    traffic = Plan.read(out, Subject.of(store))
    assert traffic.bits != plan.bits


@pytest.mark.parametrize(("arguments", "line"), [
    (["--tolerance", "0"], "--tolerance 0: give a share such as 2% or 0.02"),
    (["--tokens", "0"], "--tokens 0 .*give at least one token"),
    (["--text", "EMPTY"], "is empty; give a file with some text"),
    (["--tolerance", "0.0001%"], "No plan of model loses at most 0.000%: at best, all experts at"),
    (["--out", "nowhere/plan.json"], "nowhere/plan.json cannot be written"),
])  # fmt: skip
def test_what_cannot_be_is_told_in_one_line(
    arguments: list[str], line: str, works: list[str], kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("engine.bitwidth.notebook.cache_folder", lambda: kept)
    text, empty = tmp_path / "text.txt", tmp_path / "empty.txt"
    text.write_text("\f".join(works))
    empty.write_text(" \n")
    usual = ["calibrate", "--text", str(text), "--tokens", "1024", "--out", str(tmp_path / "plan.json")]
    assert main.main([*usual, *(str(empty) if one == "EMPTY" else one for one in arguments)]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    import re

    assert re.search(line, told) and not (tmp_path / "plan.json").exists()


def test_the_papers_procedure_ends_between_two_widths(tmp_path: Path) -> None:
    save_random("Olmoe", tmp_path / "model")
    small = load_skeleton(convert(tmp_path / "model", tmp_path / "store"), torch.float32)
    ids = torch.randint(3, 60, (8, 33), generator=torch.Generator().manual_seed(1))
    told = list[tuple[str, int, int, str]]()
    texts, notebook = Texts(ids[:4], ids[4:], (1, 1), "x"), Notebook(small.store, "x", tmp_path)
    with Calibration(small, texts, notebook, lambda *step: told.append(step)) as made:
        losses = {bits: made.measure(LEARN, made.uniform(bits)).share for bits in made.widths}
        first = max(bits for bits in made.widths if losses[bits] > losses[8])  # where the tolerance, put halfway, is crossed
        tolerance = (losses[first] + losses[next(bits for bits in made.widths if bits > first)]) / 2
        plan = made.paper_plan(tolerance)
        assert made.measure(LEARN, plan.bits).share <= tolerance
    assert set(plan.bits) <= {first, next(bits for bits in made.widths if bits > first)}
    count = small.store.spec.layers * small.store.spec.experts
    assert ("lowering one expert after the other", count, count, "experts") in told
