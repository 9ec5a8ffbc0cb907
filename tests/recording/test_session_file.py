"""The session file: reopening gives back what was recorded, whatever happened to the writer or the file."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineError
from engine.events import TABLES, Batch, Failed
from engine.recording import frame as frames
from engine.recording import journal
from engine.recording.exports import export
from engine.recording.recording import Recording
from engine.recording.session_file import SessionFile
from engine.recording.statistics import summarize
from tests.factory import make_messages, make_recording

PLAIN = (
    "model", "machine", "wall", "version", "settings", "effective", "pieces", "changes", "requests", "finished", "failures", "lost",
    "duration", "plan", "besides",
)  # fmt: skip


def assert_same(one: Recording, other: Recording) -> None:
    for name in PLAIN:
        assert getattr(one, name) == getattr(other, name), name
    for name in TABLES:
        mine, yours = getattr(one, name), getattr(other, name)
        assert np.array_equal(mine.rows(), yours.rows()), name
        for column in mine.dtype.names:
            assert np.array_equal(mine.column(column, 3, -2), yours.column(column, 3, -2)), (name, column)
    for name, array in vars(one.grid).items():
        assert np.array_equal(array, getattr(other.grid, name)), name


@pytest.fixture(params=["one flush", "a flush a message"])
def flushing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "a flush a message":
        monkeypatch.setattr(journal, "FLUSH_SECONDS", 0)
        monkeypatch.setattr(journal, "SPILL_BYTES", 1)


@pytest.mark.usefixtures("flushing")
def test_reopened_equals_recorded(tmp_path: Path) -> None:
    reference, path = make_recording(), tmp_path / "run.edgemoe"
    live = make_recording(path=path)
    assert_same(live, reference)
    live.close()
    again = Recording.open(path)
    assert_same(again, reference)
    assert (again.path, again.damage, again.state, again.trouble) == (path, "", "idle", "")
    again.close()


@pytest.mark.usefixtures("flushing")
def test_between_reads_spilled_rows_back(tmp_path: Path) -> None:
    live = make_recording(path=tmp_path / "run.edgemoe")
    rows = live.spans.rows()
    live.close()
    again = Recording.open(tmp_path / "run.edgemoe")
    for token in (0, 7, 49):
        start = int(live.tokens.column("start")[token])
        end = start + int(live.tokens.column("duration")[token])
        expected = rows[(rows["start"] <= end) & (rows["start"] + rows["duration"] >= start)]
        assert np.array_equal(again.spans.between(start, end), expected)
        assert set(expected["token"]) >= {token}
    again.close()


def test_large_tables_leave_memory_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SPILL_BYTES", 4096)
    monkeypatch.setattr("engine.recording.session_file.CACHE_BYTES", 20_000)
    recording = make_recording(tokens=80)
    assert sum(table.unsaved_bytes for table in (recording.spans, recording.accesses, recording.residency)) < 40_000
    file = recording._journal._file
    assert file is not None
    assert_same(recording, make_recording(tokens=80))
    assert sum(payload.nbytes for payload in file._cache.values()) <= 40_000
    recording.close()


def test_columns_over_many_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_ROWS", 50)
    live = make_recording(path=tmp_path / "run.edgemoe")
    rows = make_recording().spans.rows()
    live.flush()
    for start, stop in ((0, None), (-3, None), (49, 51), (50, 100), (120, 1200), (7, 7), (9, 2)):
        assert np.array_equal(live.spans.column("duration", start, stop), rows["duration"][start:stop])
        assert np.array_equal(live.spans.rows(start, stop), rows[start:stop])
    live.close()


WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from engine.recording import journal
from tests.factory import make_messages
from engine.recording.recording import Recording
journal.FLUSH_SECONDS = 0.05
recording = Recording(path=Path(sys.argv[2]))
for message in make_messages(tokens=100_000):
    recording.append(message)
    print(len(recording.tokens), flush=True)
    time.sleep(0.005)
"""


def test_survives_a_kill(tmp_path: Path) -> None:
    path, root = tmp_path / "run.edgemoe", Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", WRITER, str(root), str(path)], stdout=subprocess.PIPE, text=True, cwd=root) as writer:
        assert writer.stdout is not None
        written = 0
        while written < 90:
            written = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
    again = Recording.open(path)
    assert len(again.tokens) == len(again.pieces) > 30
    assert np.array_equal(again.tokens.rows(), _rows(len(again.tokens)))
    assert again.accesses.column("token").max() < len(again.tokens)
    assert again.state == "idle"
    again.close()


def _rows(count: int) -> np.ndarray:
    recording = Recording()
    for message in make_messages(tokens=100_000):
        recording.append(message)
        if len(recording.tokens) >= count:
            break
    return recording.tokens.rows(0, count)


@pytest.mark.usefixtures("flushing")
def test_torn_tail_is_cut_at_the_last_flush(tmp_path: Path) -> None:
    live = make_recording(tokens=12, path=tmp_path / "run.edgemoe")
    live.close()
    data = (tmp_path / "run.edgemoe").read_bytes()
    cut = tmp_path / "cut.edgemoe"
    lengths = set()
    for size in range(128, len(data), 1777):
        cut.write_bytes(data[:size])
        again = Recording.open(cut)
        assert len(again.tokens) == len(again.pieces)
        lengths.add(len(again.tokens))
        assert np.array_equal(again.tokens.rows(), live.tokens.rows(0, len(again.tokens)))
        assert ("not written whole" in again.damage) == (SessionFile.open(cut).size != _whole(cut))
        again.close()
    assert 0 in lengths


@pytest.mark.parametrize("last", [Failed(time=10**12, text="late"), Batch({"spans": np.zeros(3, TABLES["spans"]).tobytes()}, ["late"])])
def test_cut_at_every_byte_of_the_last_group(tmp_path: Path, last: Batch | Failed) -> None:
    path, cut = tmp_path / "run.edgemoe", tmp_path / "cut.edgemoe"
    live = make_recording(layers=2, experts=4, tokens=3, path=path)
    live.flush()
    whole = path.stat().st_size
    live.append(last)
    live.close()
    data, reference = path.read_bytes(), make_recording(layers=2, experts=4, tokens=3)
    assert whole < len(data) < whole + 4000
    for size in range(whole, len(data)):
        cut.write_bytes(data[:size])
        again = Recording.open(cut)
        assert bool(again.damage) == (size > whole), size
        assert (again.pieces, len(again.failures)) == (reference.pieces, 0)
        assert np.array_equal(again.spans.column("start"), reference.spans.column("start"))
        again.close()
    again = Recording.open(path)
    assert (again.damage, len(again.failures) + (again.pieces[-1] == "late")) == ("", 1)
    again.close()


def test_a_session_without_a_token(tmp_path: Path) -> None:
    path = tmp_path / "run.edgemoe"
    live = Recording(path)
    for message in list(make_messages(tokens=3))[:4]:
        live.append(message)
    live.close()
    again = Recording.open(path)
    assert (len(again.tokens), again.pieces, again.damage) == (0, [], "")
    assert again.model is not None
    assert again.grid.shape == (8, 16)
    assert export(again, tmp_path / "t.csv") == 0
    assert export(again, tmp_path / "t.json") > 0
    json.loads((tmp_path / "t.json").read_bytes())
    assert summarize(again).tokens == 0
    again.close()


def _whole(path: Path) -> int:
    file = SessionFile.open(path)
    for _ in file.groups():
        pass
    file.close()
    return file.end


def test_a_flipped_byte_ends_the_session_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0)
    path = tmp_path / "run.edgemoe"
    make_recording(tokens=30, path=path).close()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = Recording.open(path)
    assert 0 < len(again.tokens) < 30
    assert "not written whole" in again.damage
    again.save_as(tmp_path / "saved.edgemoe")
    repaired = Recording.open(tmp_path / "saved.edgemoe")
    assert repaired.damage == ""
    assert_same(repaired, again)
    again.close()
    repaired.close()


@pytest.mark.parametrize("data", [b"", b"{}", b"x" * 5000, frames.MAGIC, frames._HEAD.pack(frames.MAGIC, 999)])
def test_foreign_files_are_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "thing"
    path.write_bytes(data)
    with pytest.raises(EngineError) as caught:
        Recording.open(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="No such file"):
        Recording.open(tmp_path / "absent")
    with pytest.raises(EngineError, match="directory"):
        Recording.open(tmp_path)
    with pytest.raises(EngineError, match="is no file"):
        Recording(path=tmp_path)
    with pytest.raises(EngineError, match="No such file"):
        Recording(path=tmp_path / "absent" / "run.edgemoe")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(EngineError, match="is no session"):
        Recording(path=tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_older_session_is_replaced_and_stays_readable_where_open(tmp_path: Path) -> None:
    path = tmp_path / "run.edgemoe"
    make_recording(tokens=9, path=path).close()
    old = Recording.open(path)
    make_recording(tokens=5, path=path).close()
    assert old.spans.column("token").max() == 8
    new = Recording.open(path)
    assert len(new.tokens) == 5
    old.close()
    new.close()


def test_full_disk_is_told_and_overcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLUSH_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(journal, name, 0)
    path, write = tmp_path / "run.edgemoe", SessionFile.append_raw
    messages = list(make_messages(tokens=40))
    recording = Recording(path=path)
    for message in messages[:8]:
        recording.append(message)

    def refuse(self: SessionFile, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SessionFile, "append_raw", refuse)
    for message in messages[8:14]:
        recording.append(message)
    assert "No space left" in recording.trouble
    assert "\n" not in recording.trouble
    monkeypatch.setattr(SessionFile, "append_raw", write)
    for message in messages[14:]:
        recording.append(message)
    assert recording.trouble == ""
    recording.close()
    assert_same(Recording.open(path), make_recording(tokens=40))


def test_a_half_written_group_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.edgemoe"
    file = SessionFile.create(path)
    whole, inner = file.end, file._file

    class Full:
        def write(self, data: memoryview) -> int:
            if len(data) < 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return inner.write(data[: len(data) // 2])

        def __getattr__(self, name: str) -> object:
            return getattr(inner, name)

    file._file = Full()
    with pytest.raises(OSError, match="No space"):
        file.append_raw(bytes(10_000))
    assert path.stat().st_size == file.end == whole
    file.close()


def test_memory_stays_bounded_while_the_disk_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SPILL_BYTES", 1)
    monkeypatch.setattr(journal, "MOST_BYTES", 20_000)

    def refuse(path: Path | None) -> SessionFile:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SessionFile, "create", refuse)
    recording, reference = make_recording(tokens=60), None
    monkeypatch.undo()
    reference = make_recording(tokens=60)
    assert recording.trouble
    assert len(recording.tokens) == 60
    assert recording.lost == sum(
        len(getattr(reference, name)) - len(getattr(recording, name)) for name in ("spans", "accesses", "residency")
    )
    assert recording.lost > 0
    assert np.array_equal(recording.grid.uses, reference.grid.uses)


@pytest.mark.usefixtures("flushing")
def test_save_as(tmp_path: Path) -> None:
    reference, target = make_recording(), tmp_path / "saved.edgemoe"
    for recording in (make_recording(), make_recording(path=tmp_path / "run.edgemoe")):
        target.write_text("older")
        recording.save_as(target)
        saved = Recording.open(target)
        assert_same(saved, reference)
        recording.append(Failed(time=1, text="later"))
        recording.close()
        saved.close()
    assert Recording.open(tmp_path / "run.edgemoe").failures
    with pytest.raises(EngineError, match="cannot be written"):
        reference.save_as(tmp_path / "absent" / "x.edgemoe")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.edgemoe", "saved.edgemoe"]


def test_saving_onto_its_own_file_goes_on_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.edgemoe"
    recording = make_recording(path=path)
    recording.save_as(path)
    recording.append(Batch(tables={}, pieces=["late"]))
    recording.close()
    assert Recording.open(path).pieces[-1] == "late"


def test_a_closed_session_says_so(tmp_path: Path) -> None:
    recording = make_recording(path=tmp_path / "run.edgemoe")
    recording.close()
    with pytest.raises(EngineError, match="closed"):
        recording.spans.rows()
    recording.close()
