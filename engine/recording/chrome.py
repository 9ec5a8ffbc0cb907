"""Chrome JSON, which ui.perfetto.dev and chrome://tracing open: slices, counters, and instants, streamed to a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from gzip import GzipFile
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from engine.events import WIDTHS, Phase, Residency, SpanKind
from engine.recording.outcomes import OUTCOME_NAMES
from engine.recording.output import whole_file
from engine.recording.preloads import Fate, Preloads
from engine.recording.recording import Recording
from engine.recording.tracks import Tracks
from engine.settings import BY_NAME

Report = Callable[[int, int], None]
"""Told how much is done, of how much; may raise ``Cancelled``."""

PID = 1
REQUESTS, EVICTIONS, FIRST_TRACK = 1, 2, 10  # thread ids

_TOKEN = 255  # as a span's kind: the pass itself, around its spans
_STRIDE = 1 << 16  # rows in memory at once
_LINES = 1 << 12  # events written at once
_LEVEL = 5  # of compression: the next ones cost twice the time for a few percent
_KINDS = {int(kind): kind.name.lower() for kind in SpanKind}
_FATES = {int(fate): fate.name.lower() for fate in Fate}
_OUTCOMES = {int(outcome): text for outcome, text in OUTCOME_NAMES.items()}


def export_chrome(recording: Recording, path: Path, report: Report | None = None) -> int:
    """Write the whole recording to ``path``, compressed unless its name ends in .json; returns the number of events.

    ``report`` is called with (spans written, of how many).

    Raises:
        EngineError: it cannot be written.
    """
    plain = path.suffix.lower() == ".json"
    with whole_file(path) as file, nullcontext(file) if plain else GzipFile("", "wb", _LEVEL, file, 0) as out:
        return write_chrome(recording, out, report)


def write_chrome(recording: Recording, out: BinaryIO | GzipFile, report: Report | None = None) -> int:
    """Write the whole recording as one JSON object; returns the number of events.

    ``ts`` and ``dur`` are µs with three decimals, so that no ns is lost.
    """
    out.write(f'{{"displayTimeUnit":"ms","otherData":{_json(_about(recording))},\n"traceEvents":[\n'.encode())
    count, events = 0, _events(recording, report)
    while lines := list(islice(events, _LINES)):
        out.write(((",\n" if count else "") + ",\n".join(lines)).encode())
        count += len(lines)
    out.write(b"\n]}\n")
    return count


def _events(recording: Recording, report: Report | None) -> Iterator[str]:
    model = recording.model.name if recording.model else "no model"
    yield _meta("process_name", 0, {"name": f"EdgeMoE engine: {model}"})
    yield from _thread(REQUESTS, "Requests", 0)
    yield from _thread(EVICTIONS, "Evictions", 1000)
    yield from _requests(recording)
    yield from _instants(recording)
    yield from _counters(recording)
    yield from _evictions(recording)
    tracks = Tracks()
    yield from _slices(recording, tracks, report)
    for track, (lane, number) in enumerate(tracks.lanes):
        name = f"I/O slot {lane}" if lane else "Token loop"
        yield from _thread(FIRST_TRACK + track, f"{name} ({number + 1})" if number else name, 10 * (lane + 1) + number)


# --- slices -----------------------------------------------------------------------------------------------------------


def _slices(recording: Recording, tracks: Tracks, report: Report | None) -> Iterator[str]:
    pieces, preloads = recording.pieces, _settled(recording)
    columns = ("start", "duration", "token", "layer", "expert", "kind", "lane", "bits", "outcome", "bytes")
    for rows, done, total in _by_start(recording):
        for start, duration, token, layer, expert, kind, lane, bits, outcome, nbytes, read in zip(
            *(rows[name].tolist() for name in columns), preloads.find(rows).tolist(), strict=True
        ):
            track = tracks.place(lane, start, start + duration, nests=lane == 0)
            if kind == _TOKEN:
                text = pieces[token] if token < len(pieces) else ""
                name = "prefill" if outcome == Phase.PREFILL else "decode"
                args = f'"token":{token},"text":{_json(text)}'
            else:
                name, args = _KINDS.get(kind, "other"), f'"token":{token}'
                if layer >= 0:
                    name += f" L{layer}"
                    args += f',"layer":{layer}'
                if expert >= 0:
                    name += f" E{expert}"
                    args += f',"expert":{expert},"bits":{bits}'
                if kind == SpanKind.READ:
                    args += f',"bytes":{nbytes},"outcome":"{_OUTCOMES.get(outcome, outcome)}"'
            category = "token" if kind == _TOKEN else _KINDS.get(kind, "other")
            if read >= 0:
                fate, user = preloads.rows[read][["fate", "user"]].tolist()
                category = f"read-ahead-{_FATES[fate]}"
                args += f',"fate":"{_FATES[fate]}"' + (f',"used_by":{user}' if user >= 0 else "")
            yield (
                f'{{"ph":"X","pid":{PID},"tid":{FIRST_TRACK + track},"ts":{_us(start)},"dur":{_us(duration)},'
                f'"name":"{name}","cat":"{category}","args":{{{args}}}}}'
            )
        if report is not None:
            report(done, total)


def _settled(recording: Recording) -> Preloads:
    """All reads ahead, with what became of them."""
    preloads = Preloads()
    while not preloads.catch_up(recording):
        pass
    return preloads


def _by_start(recording: Recording) -> Iterator[tuple[np.ndarray, int, int]]:
    """All spans and passes by start, the longer first, in bounded memory; with the spans read so far, and of how many.

    Rows are recorded when they end, so a later row may start earlier. The earliest start among the rows not read yet is known from
    the column; what starts before it is complete.
    """
    spans, total = recording.spans, len(recording.spans)
    waiting = _passes(recording)
    starts = spans.column("start", 0, total)
    stops = list(range(_STRIDE, total, _STRIDE))
    horizons = [int(starts[stop:].min()) for stop in stops[-1:]]
    for stop in reversed(stops[:-1]):
        horizons.append(min(horizons[-1], int(starts[stop : stop + _STRIDE].min())))
    del starts
    begin = 0
    for stop, horizon in zip([*stops, total], [*reversed(horizons), None], strict=True):
        waiting = np.concatenate([waiting, spans.rows(begin, stop)])
        begin = stop
        waiting = waiting[np.lexsort((waiting["kind"] != _TOKEN, -waiting["duration"], waiting["start"]))]
        ready = len(waiting) if horizon is None else int(np.searchsorted(waiting["start"], horizon, side="left"))
        yield waiting[:ready], stop, total
        waiting = waiting[ready:]


def _passes(recording: Recording) -> np.ndarray:
    """The rows of ``tokens`` as spans around the others; the phase stands in ``outcome``."""
    tokens = recording.tokens.rows()
    rows = np.zeros(len(tokens), recording.spans.dtype)
    for name in ("start", "duration"):
        rows[name] = tokens[name]
    rows["token"], rows["kind"], rows["outcome"] = np.arange(len(tokens)), _TOKEN, tokens["phase"]
    return rows


def _requests(recording: Recording) -> Iterator[str]:
    """One after the other: a request whose end is not recorded lasts until the next."""
    for began, following in pairwise([*recording.requests, None]):
        assert began is not None
        limit = following.time if following else max(began.time, recording.duration)
        finished = next((f for f in recording.finished if f.request == began.request and began.time <= f.time <= limit), None)
        end = finished.time if finished else limit
        args = {"prompt": began.prompt, "ended": finished.reason if finished else "not in this recording"}
        yield _event("X", REQUESTS, began.time, f"request {began.request + 1}", "request", args, f'"dur":{_us(end - began.time)},')


# --- instants and counters --------------------------------------------------------------------------------------------


def _instants(recording: Recording) -> Iterator[str]:
    for change in recording.changes:
        title = BY_NAME[change.name].title if change.name in BY_NAME else change.name
        args = {"name": change.name, "old": change.old, "new": change.new, "effective": change.effective, "token": change.token}
        yield _event("i", REQUESTS, change.time, f"{title}: {change.old} → {change.new}", "setting", args, '"s":"g",')
    for beside in recording.besides:
        name = f"calibration beside {'begins' if beside.running else 'ends'}"
        yield _event("i", REQUESTS, beside.time, name, "calibration", {"token": beside.token}, '"s":"g",')
    for failed in recording.failures:
        yield _event("i", REQUESTS, failed.time, "failed", "failure", {"text": failed.text}, '"s":"g",')


def _evictions(recording: Recording) -> Iterator[str]:
    table, total = recording.residency, len(recording.residency)
    for begin in range(0, total, _STRIDE):
        rows = table.rows(begin, min(begin + _STRIDE, total))
        rows = rows[rows["state"] == Residency.ABSENT]
        for time, token, layer, expert, score in zip(
            *(rows[name].tolist() for name in ("time", "token", "layer", "expert", "score")), strict=True
        ):
            args = {"token": token, "layer": layer, "expert": expert, "score": score if np.isfinite(score) else str(score)}
            yield _event("i", EVICTIONS, time, f"evict L{layer} E{expert}", "eviction", args, '"s":"t",')


def _counters(recording: Recording) -> Iterator[str]:
    tokens, samples = recording.tokens.rows(), recording.samples.rows()
    ends = (tokens["start"] + tokens["duration"]).tolist()
    times = samples["time"].tolist()
    for name, column in (("Experts resident", "resident_bytes"), ("Expert budget", "budget_bytes"), ("KV cache", "kv_bytes")):
        both = sorted(zip(ends + times, tokens[column].tolist() + samples[column].tolist(), strict=True))
        yield from _counter(name, "bytes", both)
    for name, unit, column in (
        ("Engine RSS", "bytes", "rss"), ("Read, by the kernel", "bytes", "read_bytes"), ("Major page faults", "count", "major_faults"),
    ):  # fmt: skip
        yield from _counter(name, unit, zip(times, samples[column].tolist(), strict=True))
    on_demand = zip(tokens["start"].tolist(), tokens["demand_bytes"].tolist(), strict=True)
    yield from _counter("Read on demand per token", "bytes", on_demand)
    by_width = [tokens[f"resident_{bits}"].tolist() for bits in WIDTHS]
    for end, *held in zip(ends, *by_width, strict=True):
        args = {f"{bits} bits": nbytes for bits, nbytes in zip(WIDTHS, held, strict=True)}
        yield _event("C", 0, end, "Experts resident, bytes at", "counter", args)


def _counter(name: str, unit: str, points: Iterable[tuple[int, int]]) -> Iterator[str]:
    for time, value in points:
        yield _event("C", 0, time, name, "counter", {unit: value})


# --- JSON -------------------------------------------------------------------------------------------------------------


def _about(recording: Recording) -> dict[str, Any]:
    """Settings, machine and model: what one must know to read the trace, or to record it again."""
    model = msgspec.to_builtins(recording.model, str_keys=True) if recording.model else None
    if model is not None:
        del model["path"], model["store"]  # folders of the machine it was recorded on
    return {
        "application": "EdgeMoE Studio", "version": recording.version,
        "recorded": datetime.fromtimestamp(recording.wall, UTC).isoformat() if recording.wall else None,
        "machine": msgspec.to_builtins(recording.machine) if recording.machine else None, "model": model,
        "settings": recording.settings, "effective": recording.effective, "lost_records": recording.lost, "damage": recording.damage,
    }  # fmt: skip


def _event(phase: str, tid: int, time: int, name: str, category: str, args: dict[str, Any], more: str = "") -> str:
    return (
        f'{{"ph":"{phase}","pid":{PID},"tid":{tid},"ts":{_us(time)},{more}"name":{_json(name)},"cat":"{category}","args":{_json(args)}}}'
    )


def _thread(tid: int, name: str, place: int) -> Iterator[str]:
    yield _meta("thread_name", tid, {"name": name})
    yield _meta("thread_sort_index", tid, {"sort_index": place})


def _meta(name: str, tid: int, args: dict[str, Any]) -> str:
    return f'{{"ph":"M","pid":{PID},"tid":{tid},"ts":0,"name":"{name}","args":{_json(args)}}}'


def _us(ns: int) -> str:
    """Nanoseconds as microseconds, exactly."""
    return f"{'-' if ns < 0 else ''}{abs(ns) // 1000}.{abs(ns) % 1000:03d}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
