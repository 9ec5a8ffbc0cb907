"""The trace holds the recording, whole and to the ns, in a form of which no viewer drops a slice."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import Cancelled, EngineError
from engine.events import SPAN, Batch, Beside, Failed, Residency, SpanKind
from engine.recording import chrome
from engine.recording.chrome import export_chrome
from engine.recording.output import check_writable, part_of
from engine.recording.preloads import Fate, Preloads
from engine.recording.recording import Recording
from tests.factory import make_messages, make_recording

Events = list[dict[str, Any]]
KINDS = {kind.name.lower(): kind for kind in SpanKind}


def read(path: Path) -> dict[str, Any]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return json.loads(data, parse_float=Decimal)  # type: ignore[no-any-return]


def exported(recording: Recording, folder: Path) -> Events:
    export_chrome(recording, folder / "trace.json.gz")
    return read(folder / "trace.json.gz")["traceEvents"]  # type: ignore[no-any-return]


def ns(microseconds: Decimal) -> int:
    assert microseconds * 1000 % 1 == 0
    return int(microseconds * 1000)


def slices(events: Events) -> Events:
    """The spans of the recording among the events."""
    return [event for event in events if event["ph"] == "X" and kind_of(event) in KINDS]


def kind_of(event: dict[str, Any]) -> str:
    return "read" if event["cat"].startswith("read-ahead-") else event["cat"]


def as_span(event: dict[str, Any]) -> tuple[int, ...]:
    args = event["args"]
    return (
        ns(event["ts"]), ns(event["dur"]), args["token"], args.get("layer", -1), args.get("expert", -1), KINDS[kind_of(event)],
        args.get("bytes", 0),
    )  # fmt: skip


def wanted(recording: Recording) -> Counter[tuple[int, ...]]:
    rows = recording.spans.rows()
    return Counter(zip(*(rows[name].tolist() for name in ("start", "duration", "token", "layer", "expert", "kind", "bytes")), strict=True))


def assert_well_nested(events: Events) -> None:
    """On every track a slice lies inside another or beside it: what overlaps in part is what viewers drop."""
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            tracks[event["tid"]].append((ns(event["ts"]), -ns(event["dur"])))
    for track, found in tracks.items():
        assert found == sorted(found), f"track {track} is not in order"
        around: list[int] = []
        for start, length in found:
            while around and around[-1] <= start:
                around.pop()
            assert not around or start - length <= around[-1], (track, start)
            around.append(start - length)


def spans(rows: Iterable[tuple[int, int, int]]) -> Recording:
    """A recording of (start, duration, lane), in the order given."""
    table = np.zeros(len(rows := list(rows)), SPAN)
    for name, values in zip(("start", "duration", "lane"), zip(*rows, strict=True), strict=True):
        table[name] = values
    table["kind"] = np.where(table["lane"] > 0, SpanKind.READ, SpanKind.ATTENTION)
    recording = Recording()
    recording.append(Batch({"spans": table.tobytes()}, []))
    return recording


def test_every_span_is_there_once_and_exactly(tmp_path: Path) -> None:
    recording = make_recording(native=True)
    events = exported(recording, tmp_path)
    assert Counter(map(as_span, slices(events))) == wanted(recording)
    assert_well_nested(events)
    rows = recording.spans.rows()
    for name, kind in KINDS.items():
        total = sum(ns(event["dur"]) for event in events if event.get("cat") == name)
        assert total == rows["duration"][rows["kind"] == kind].sum() > 0, name


def test_what_was_read_ahead_is_told_apart_by_what_became_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chrome, "_STRIDE", 500)
    recording, preloads = make_recording(ahead=True), Preloads()
    preloads.catch_up(recording)
    events = exported(recording, tmp_path)
    assert Counter(map(as_span, slices(events))) == wanted(recording)
    told = Counter(
        (event["cat"], ns(event["ts"]), event["args"]["layer"], event["args"]["expert"], event["args"].get("used_by", -1))
        for event in slices(events) if event["cat"].startswith("read-ahead-")
    )  # fmt: skip
    rows = preloads.rows[preloads.rows["duration"] >= 0]
    assert told == Counter(
        (f"read-ahead-{Fate(row['fate']).name.lower()}", int(row["start"]), int(row["layer"]), int(row["expert"]), int(row["user"]))
        for row in rows
    )
    assert {category for category, *_ in told} >= {"read-ahead-used", "read-ahead-joined", "read-ahead-wasted"}
    demanded = [event for event in slices(events) if event["cat"] == "read"]
    assert demanded and all(event["args"]["outcome"] != "preloaded" and "fate" not in event["args"] for event in demanded)


def test_passes_and_requests_are_slices_around_the_spans(tmp_path: Path) -> None:
    recording = make_recording()
    events = exported(recording, tmp_path)
    passes = [event for event in events if event.get("cat") == "token"]
    tokens = recording.tokens.rows()
    assert [(ns(e["ts"]), ns(e["dur"])) for e in passes] == list(zip(tokens["start"].tolist(), tokens["duration"].tolist(), strict=True))
    assert [event["args"]["text"] for event in passes] == recording.pieces
    assert Counter(event["name"] for event in passes) == {"prefill": 2, "decode": 48}
    requests = [event for event in events if event.get("cat") == "request"]
    assert [(ns(e["ts"]), ns(e["ts"] + e["dur"])) for e in requests] == [
        (began.time, ended.time) for began, ended in zip(recording.requests, recording.finished, strict=True)
    ]


def test_overlapping_reads_of_one_slot_get_tracks_of_their_own(tmp_path: Path) -> None:
    rows = [(0, 100, 1), (50, 100, 1), (90, 5, 1), (100, 10, 1), (0, 300, 0), (10, 20, 0), (25, 50, 0), (0, 7, 2)]
    events = exported(spans(rows), tmp_path)
    found = slices(events)
    assert sorted((ns(e["ts"]), ns(e["dur"])) for e in found) == sorted((start, duration) for start, duration, _ in rows)
    assert_well_nested(events)
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert Counter(names[e["tid"]] for e in found) == {
        "I/O slot 1": 2, "I/O slot 1 (2)": 1, "I/O slot 1 (3)": 1, "I/O slot 2": 1, "Token loop": 2, "Token loop (2)": 1,
    }  # fmt: skip


def test_rows_recorded_when_they_end_come_out_by_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chrome, "_STRIDE", 7)
    recording = make_recording(tokens=8)
    events = exported(recording, tmp_path)
    assert Counter(map(as_span, slices(events))) == wanted(recording)
    assert_well_nested(events)
    around = spans([(10 * i + 1, 5, 0) for i in range(40)] + [(0, 1000, 0), (405, 100, 0)])
    events = exported(around, tmp_path)
    assert len(slices(events)) == 42
    assert_well_nested(events)


def test_a_long_recording_crosses_the_stride(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording, told = make_recording(), list[tuple[int, int]]()
    total = len(recording.spans)
    monkeypatch.setattr(chrome, "_STRIDE", total * 2 // 3)
    export_chrome(recording, tmp_path / "long.json", lambda done, of: told.append((done, of)))
    events = read(tmp_path / "long.json")["traceEvents"]
    assert Counter(map(as_span, slices(events))) == wanted(recording)
    assert_well_nested(events)
    assert told == [(chrome._STRIDE, total), (total, total)]


def test_counters_follow_memory(tmp_path: Path) -> None:
    recording = make_recording(tokens=20)
    counters = defaultdict(list)
    for event in exported(recording, tmp_path):
        if event["ph"] == "C":
            counters[event["name"]].append((ns(event["ts"]), event["args"]))
    samples, tokens = recording.samples.rows(), recording.tokens.rows()
    assert counters["Engine RSS"] == [(int(row["time"]), {"bytes": int(row["rss"])}) for row in samples]
    assert [args["bytes"] for _, args in counters["Read on demand per token"]] == tokens["demand_bytes"].tolist()
    by_width = [sum(args.values()) for _, args in counters["Experts resident, bytes at"]]
    assert by_width == tokens["resident_bytes"].tolist()
    assert {args["bytes"] for _, args in counters["Expert budget"]} == set(tokens["budget_bytes"].tolist())


def test_changes_failures_and_evictions_are_instants(tmp_path: Path) -> None:
    recording = make_recording()
    recording.append(Failed(time=recording.duration + 5, text='a "quoted"\nline'))
    recording.append(Beside(5, 0, True))
    recording.append(Beside(9, 1, False))
    instants = [event for event in exported(recording, tmp_path) if event["ph"] == "i"]
    (change,) = (event for event in instants if event["cat"] == "setting")
    (applied,) = recording.changes
    beside = [event for event in instants if event["cat"] == "calibration"]
    assert [(ns(event["ts"]), event["name"]) for event in beside] == [(5, "calibration beside begins"), (9, "calibration beside ends")]
    assert (ns(change["ts"]), change["name"], change["s"]) == (applied.time, "Expert bits: 4 → 8", "g")
    assert (change["args"]["token"], change["args"]["effective"]) == (applied.token, 8)
    assert [event["args"]["text"] for event in instants if event["cat"] == "failure"] == ['a "quoted"\nline']
    states = recording.residency.rows()
    gone = states[states["state"] == Residency.ABSENT]
    evictions = [event for event in instants if event["cat"] == "eviction"]
    assert [(ns(e["ts"]), e["args"]["layer"], e["args"]["expert"]) for e in evictions] == gone[["time", "layer", "expert"]].tolist()


def test_settings_machine_and_model_are_in_the_metadata(tmp_path: Path) -> None:
    recording = make_recording(tokens=4)
    export_chrome(recording, tmp_path / "trace.json.gz")
    about = read(tmp_path / "trace.json.gz")["otherData"]
    assert about["machine"]["cores"] == 2
    assert (about["settings"]["bits"], about["effective"]["bits"]) == (4, 8)
    assert about["model"]["architecture"] == "OlmoeForCausalLM"
    assert not {"path", "store"} & set(about["model"]), "folders of the machine are nobody's business"
    assert about["lost_records"] == 0


def test_a_request_whose_end_is_not_recorded_lasts_until_the_next(tmp_path: Path) -> None:
    messages = [message for message in make_messages(tokens=10) if type(message).__name__ != "Finished"]
    recording = Recording()
    for message in messages:
        recording.append(message)
    events = exported(recording, tmp_path)
    requests = [event for event in events if event.get("cat") == "request"]
    ends = [ns(event["ts"] + event["dur"]) for event in requests]
    assert ends == [recording.requests[1].time, recording.duration]
    assert_well_nested(events)


def test_an_empty_recording_makes_a_valid_trace(tmp_path: Path) -> None:
    assert slices(exported(Recording(), tmp_path)) == []


def test_a_reopened_session_gives_the_same_bytes(tmp_path: Path) -> None:
    live = make_recording(path=tmp_path / "run.edgemoe")
    export_chrome(live, tmp_path / "live.json.gz")
    live.close()
    again = Recording.open(tmp_path / "run.edgemoe")
    export_chrome(again, tmp_path / "again.json.gz")
    again.close()
    assert (tmp_path / "live.json.gz").read_bytes() == (tmp_path / "again.json.gz").read_bytes()


# --- the file -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trace.json.gz", "trace.json"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_one_line_and_leaves_what_was_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("an older trace")
    part_of(path).symlink_to("/dev/full")
    with pytest.raises(EngineError, match=rf"{name} cannot be written \(No space left on device\); choose another place") as refused:
        export_chrome(make_recording(), path)
    assert "\n" not in str(refused.value)
    assert path.read_text() == "an older trace"
    assert list(tmp_path.iterdir()) == [path]


def test_a_cancelled_export_leaves_nothing(tmp_path: Path) -> None:
    def cancel(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        export_chrome(make_recording(tokens=4), tmp_path / "trace.json.gz", cancel)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["missing/trace.json", "file/trace.json", "folder.json"])
def test_places_that_cannot_be_written_are_told(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    path = tmp_path / where
    for attempt in (lambda: export_chrome(make_recording(tokens=4), path), lambda: check_writable(path)):
        with pytest.raises(EngineError, match=r"cannot be written .*; choose another place"):
            attempt()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.json"]
