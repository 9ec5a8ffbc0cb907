"""The calibrator behind the window: a real process, held while a request runs, and gone without a trace."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.calibrator import Calibrator
from app.live import Live
from engine import events
from engine.bitwidth import messages
from engine.preload.device import Device
from engine.recording.recording import Recording
from engine.simulate.cost import Costs

TEXT = ("One day a little girl went to the sea with her father, and they saw a ship. " * 90 + "\f") * 3


@pytest.fixture
def calibrator(qtbot) -> Iterator[Calibrator]:
    live = Live()
    calibrator = Calibrator(live)
    yield calibrator
    calibrator.shut_down()
    live.shut_down()


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


def ask(calibrator: Calibrator, qtbot, model: Path, text: Path) -> tuple[list, list]:
    """Study until all is told; what was studied and weighed."""
    studied: list[messages.Studied] = []
    weighed: list[messages.Weighed] = []
    calibrator.studied.connect(studied.append)
    calibrator.weighed.connect(weighed.append)
    assert not calibrator.host.alive
    calibrator.study(model, [text], 1024)
    qtbot.waitUntil(lambda: bool(calibrator.drain() or True) and not calibrator.busy, timeout=120_000)
    return studied, weighed


def test_studies_and_is_started_anew_after_its_death(calibrator: Calibrator, qtbot, model: Path, text: Path) -> None:
    studied, weighed = ask(calibrator, qtbot, model, text)
    assert len(studied) == 1 and weighed[0].loss == 0 and len({notice.plan for notice in weighed}) == len(weighed)
    troubles: list[str] = []
    calibrator.troubled.connect(troubles.append)
    assert calibrator.host.pid is not None
    os.kill(calibrator.host.pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: bool(calibrator.drain() or troubles))
    assert len(troubles) == 1 and "\n" not in troubles[0] and troubles[0].startswith("The calibrator stopped: SIGKILL")
    calibrator.weigh(weighed[-1].plan)
    qtbot.waitUntil(lambda: bool(calibrator.drain() or True) and not calibrator.busy, timeout=120_000)
    assert len(studied) == 2 and weighed[-1].plan == weighed[len(weighed) // 2 - 1].plan


def test_held_while_a_request_runs_or_noted_beside(calibrator: Calibrator, qtbot, model: Path, text: Path, tmp_path: Path) -> None:
    live = calibrator.live
    live.recording.close()
    live.recording = Recording(tmp_path / "session.edgemoe")
    machine = events.Machine("", "", 2, 1, "", "", "")
    live.recording.append(events.Opened(events.PROTOCOL, "0", 1.0, 1, machine))
    calibrator.study(model, [text], 1024)
    live.state = "running"
    qtbot.waitUntil(lambda: bool(calibrator.drain() or True) and calibrator.held)
    pid = calibrator.host.pid
    assert pid is not None
    qtbot.waitUntil(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    assert not live.recording.besides
    calibrator.beside = True
    calibrator.drain()
    assert not calibrator.held and [note.running for note in live.recording.besides] == [True]
    live.state = "idle"
    calibrator.drain()
    assert [note.running for note in live.recording.besides] == [True, False]
    live.recording.flush()
    reopened = Recording.open(tmp_path / "session.edgemoe")
    assert reopened.besides == live.recording.besides
    reopened.close()
    calibrator.host.hold()
    calibrator.shut_down()
    assert not psutil.pid_exists(pid)


def test_cancel_is_heard_while_a_request_runs(calibrator: Calibrator, qtbot, model: Path, text: Path) -> None:
    calibrator.study(model, [text], 1024)
    calibrator.live.state = "running"
    qtbot.waitUntil(lambda: bool(calibrator.drain() or True) and calibrator.held, timeout=20_000)
    calibrator.stop()
    calibrator.stop()  # each is answered
    qtbot.waitUntil(lambda: bool(calibrator.drain() or True) and not calibrator.busy, timeout=20_000)
    assert calibrator.host.alive and calibrator.live.state == "running"


def test_what_takes_the_place_of_work_is_held_too(calibrator: Calibrator, qtbot, model: Path, text: Path) -> None:
    calibrator.study(model, [text], 1024, 1)
    calibrator.study(model, [text], 2048, 2)
    calibrator.live.state = "running"
    qtbot.waitUntil(lambda: bool(calibrator.drain() or True) and calibrator.held, timeout=20_000)
    assert calibrator.busy


def test_a_comparison_is_dropped_and_what_waits_goes_on(calibrator: Calibrator, qtbot, model: Path, text: Path) -> None:
    studied, weighed = ask(calibrator, qtbot, model, text)
    compared, troubles = [], []
    calibrator.compared.connect(compared.append)
    calibrator.troubled.connect(troubles.append)
    plan, before = bytes([2]) * len(weighed[-1].plan), len(weighed)
    for number in (1, 2):
        calibrator.compare(messages.Compare(number, plan, list(range(1, 40)), str(model), studied[0].model_hash))
    calibrator.drop(2)
    calibrator.weigh(plan)
    qtbot.waitUntil(lambda: bool(calibrator.drain() or True) and not calibrator.busy, timeout=120_000)
    assert [told.request for told in compared] == [1] and len(weighed) == before + 1 and not troubles


def test_finds_plans_by_every_objective_and_compares_tokens(calibrator: Calibrator, qtbot, model: Path, text: Path) -> None:
    studied, weighed = ask(calibrator, qtbot, model, text)
    troubles: list[str] = []
    compared: list[messages.Compared] = []
    calibrator.troubled.connect(troubles.append)
    calibrator.compared.connect(compared.append)

    def rest() -> None:
        qtbot.waitUntil(lambda: bool(calibrator.drain() or True) and not calibrator.busy, timeout=120_000)

    calibrator.find(0.5, "speed")
    rest()
    assert len(troubles) == 1 and "run a prompt first" in troubles[0] and not weighed[-1].delivered
    setup = messages.Setup(1 << 20, "lru", Costs(Device("disk", "Disk", 1e8, 1e-4, 2)))
    for objective in messages.OBJECTIVES:
        calibrator.find(0.5, objective, setup=setup)
        rest()
        assert weighed[-1].delivered and weighed[-1].loss_ci[1] <= 0.5 and len(troubles) == 1
    ids = list(range(1, 40))
    calibrator.compare(messages.Compare(0, weighed[-1].plan, ids, str(model), studied[0].model_hash))
    rest()
    highest = bytes([max(studied[0].widths)]) * len(weighed[-1].plan)
    calibrator.compare(messages.Compare(1, highest, ids, str(model), studied[0].model_hash))
    rest()
    told, same = compared
    assert len(told.reference) == len(told.chosen) == len(told.chosen_pieces) == len(ids) - 1
    assert told.reference == same.reference == same.chosen and len(troubles) == 1
    calibrator.compare(messages.Compare(2, highest, ids, str(model), "another"))
    rest()
    assert len(compared) == 2 and "another model" in troubles[-1]


def test_finds_by_the_papers_method_which_knows_bytes_only(calibrator: Calibrator, qtbot, model: Path, text: Path) -> None:
    studied, weighed = ask(calibrator, qtbot, model, text)
    uniform = {notice.plan[0]: notice for notice in weighed if notice.method == "uniform"}
    stages: list[str] = []
    troubles: list[str] = []
    calibrator.progressed.connect(lambda told: stages.append(told.stage if told else ""))
    calibrator.troubled.connect(troubles.append)

    def find(tolerance: float, objective: str, method: str) -> None:
        before = len(weighed)
        calibrator.find(tolerance, objective, method)
        qtbot.waitUntil(lambda: bool(calibrator.drain() or True) and not calibrator.busy, timeout=120_000)
        assert bool(troubles) != any(notice.delivered for notice in weighed[before:])

    find(0.5, "storage", "paper")
    made = weighed[-1]
    assert made.delivered and len(set(made.plan)) <= 2 and set(made.plan) <= set(studied[0].widths)
    assert made.method == ("paper" if len(set(made.plan)) == 2 else "uniform") and not troubles
    assert min(uniform) <= min(made.plan) and "lowering one expert after the other" in stages
    find(0.5, "traffic", "paper")
    assert "knows bytes on storage only" in troubles.pop()
    find(0.5, "storage", "luck")
    assert troubles.pop() == "There is no method 'luck'; choose fast or paper"
    find(99.0, "storage", "fast")
    assert "9900.000% cannot be meant" in troubles.pop()
