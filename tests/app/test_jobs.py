"""Copies and exports beside the event loop: whole, cancelled, or refused with a line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.jobs import Jobs, Report, copy_session, export_session
from engine.recording.output import part_of
from engine.recording.recording import Recording
from tests.factory import make_recording


class Told:
    """What the jobs said, in order."""

    def __init__(self, jobs: Jobs) -> None:
        self.said: list[tuple[object, ...]] = []
        jobs.finished.connect(lambda title, trouble: self.said.append(("finished", title, trouble)))
        jobs.cancelled.connect(lambda title: self.said.append(("cancelled", title)))


@pytest.fixture
def jobs(qtbot) -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.wait()


@pytest.fixture
def session(tmp_path: Path) -> Path:
    make_recording(path=tmp_path / "run.edgemoe").close()
    return tmp_path / "run.edgemoe"


def test_copies_and_exports_are_whole(jobs: Jobs, session: Path, qtbot) -> None:
    told, copy, trace = Told(jobs), session.parent / "copy.edgemoe", session.parent / "t.json.gz"
    progress: list[tuple[int, int]] = []
    jobs.progressed.connect(lambda title, done, total: progress.append((done, total)))
    jobs.start("copy", lambda report: copy_session(session, copy, report))
    jobs.start("trace", lambda report: export_session(session, trace, report))
    qtbot.waitUntil(lambda: len(told.said) == 2)
    assert told.said == [("finished", "copy", ""), ("finished", "trace", "")]
    assert copy.read_bytes() == session.read_bytes()
    assert trace.stat().st_size > 1000
    spans = len(Recording.open(copy).spans)
    assert progress == [(session.stat().st_size,) * 2, (0, spans), (spans, spans)]
    assert sorted(path.suffix for path in session.parent.iterdir() if path.is_file()) == [".edgemoe", ".edgemoe", ".gz"]


def test_cancelling_ends_what_runs_and_what_waits(jobs: Jobs, session: Path, qtbot) -> None:
    told, trace = Told(jobs), session.parent / "t.json"
    begun, cancelled = threading.Event(), threading.Event()

    def export(report: Report) -> None:
        begun.set()
        assert cancelled.wait(10)
        export_session(session, trace, report)

    jobs.start("running", export)
    jobs.start("waiting", lambda report: copy_session(session, trace, report))
    assert begun.wait(10)
    jobs.cancel()
    cancelled.set()
    qtbot.waitUntil(lambda: len(told.said) == 2)
    assert told.said == [("cancelled", "running"), ("cancelled", "waiting")]
    jobs.start("later", lambda report: copy_session(session, trace, report))
    qtbot.waitUntil(lambda: len(told.said) == 3)
    assert told.said[-1] == ("finished", "later", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_one_line(jobs: Jobs, session: Path, qtbot) -> None:
    told, copy = Told(jobs), session.parent / "copy.edgemoe"
    part_of(copy).symlink_to("/dev/full")
    jobs.start("copy", lambda report: copy_session(session, copy, report))
    qtbot.waitUntil(lambda: bool(told.said))
    assert told.said == [("finished", "copy", f"{copy} cannot be written (No space left on device); choose another place")]
    assert not copy.exists()
