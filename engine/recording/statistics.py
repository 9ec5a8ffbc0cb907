"""A range of a recording in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np

from engine.events import BYTES_READ, MISSES, Phase
from engine.recording.foresight import recall_of
from engine.recording.recording import Recording

MB = 1e6
Rows = np.ndarray | dict[str, np.ndarray]
"""Rows of ``tokens``, structured [n] or by column."""
_PARTS = {
    "attention": "attention_ms", "router": "router_ms", "compute": "compute_ms", "stall": "stall_ms_per_token", "head": "head_ms",
    "sampling": "sampling_ms", "framework": "framework_ms",
}  # fmt: skip


@dataclass(frozen=True)
class Statistics:
    """Numbers over the passes that overlap a range; a pass on its edge counts whole. What was not measured is nan.

    Counts and byte totals are over prefill and decode; what is said "per token" (``tpot_ms``, ``mb_per_token`` and every ``…_ms``) is
    the mean over decode passes only, so that a long prompt does not blur it. ``ttft_s`` is the newest prefill's. ``decode_tok_s``
    leaves pauses out. ``io_s`` counts time with at least one read in flight. ``resident_bytes``, ``budget_bytes``, ``kv_bytes``
    and ``rss`` are the newest; ``peak_resident_bytes`` is the most that the buffer held at any instant, as far as a sample tells it;
    ``major_faults`` and ``read_bytes`` grew by so much. MB are 1e6 bytes.
    ``hits`` takes in ``preloaded``, which would have been misses: ``misses_covered`` is their share of these. ``recall`` is the share of
    the k experts a router chose that were among the k thought likeliest, over the turns that were predicted. ``overlap`` is the share of
    the time with a read in flight in which the token loop did not wait.
    """

    tokens: int = 0  # passes, each of which produced one new token
    decode_tokens: int = 0
    prefill_tokens: int = 0  # prompt tokens
    seconds: float = 0.0  # in passes
    ttft_s: float = nan
    prefill_s: float = nan
    prefill_tok_s: float = nan
    decode_s: float = nan
    decode_tok_s: float = nan
    tpot_ms: float = nan
    tpot_p95_ms: float = nan
    hits: int = 0
    preloaded: int = 0
    misses: int = 0
    hit_rate: float = nan  # 0..1
    first_touch: int = 0
    capacity: int = 0
    mispredicted: int = 0
    late: int = 0
    misses_covered: float = nan  # 0..1
    recall: float = nan  # 0..1
    evictions: int = 0
    demand_bytes: int = 0
    preload_useful_bytes: int = 0
    preload_wasted_bytes: int = 0
    mb_per_token: float = nan  # read: on demand and ahead
    stall_ms_per_token: float = nan
    attention_ms: float = nan
    router_ms: float = nan
    compute_ms: float = nan
    head_ms: float = nan
    sampling_ms: float = nan
    framework_ms: float = nan
    stall_s: float = 0.0
    compute_s: float = 0.0  # experts
    io_s: float = 0.0
    overlap: float = nan  # 0..1
    average_bits: float = nan  # over the experts used
    resident_bytes: float = nan
    peak_resident_bytes: float = nan
    budget_bytes: float = nan
    kv_bytes: float = nan
    rss: float = nan
    peak_rss: float = nan
    major_faults: float = nan
    read_bytes: float = nan


def uses_of(rows: Rows) -> np.ndarray:
    """Experts used by each pass, hits and misses, [n]. One use is one expert of one pass: of one token, or of a whole prefill."""
    return sum((rows[name] for name in MISSES), rows["hits"].astype(np.int64))


def read_of(rows: Rows) -> np.ndarray:
    """Bytes read by each pass, on demand and ahead, [n]."""
    return sum((rows[name] for name in BYTES_READ[1:]), rows[BYTES_READ[0]])


def peak_resident(recording: Recording, start: int | None = None, end: int | None = None) -> int | float:
    """Most bytes of experts resident at any instant from ``start`` to ``end`` ns, as far as told; nan where nothing was measured."""
    tokens, samples = recording.tokens, recording.samples
    done = tokens.column("start") + tokens.column("duration")
    resident = tokens.column("resident_bytes", *_between(done, start, end))
    return _peak(recording, resident, *_between(samples.column("time"), start, end))


def summarize(recording: Recording, start: int | None = None, end: int | None = None) -> Statistics:
    """Numbers of the session time ``start`` to ``end`` in ns, both included; None leaves that side open."""
    begin = recording.tokens.column("start")
    # Passes come one after another, so their ends are in order too.
    first = 0 if start is None else int(np.searchsorted(begin + recording.tokens.column("duration"), start))
    stop = len(begin) if end is None else int(np.searchsorted(begin, end, "right"))
    samples = slice(*_between(recording.samples.column("time"), start, end))
    return _summary(recording, slice(first, max(first, stop)), samples, whole=start is None)


def summarize_passes(recording: Recording, rows: np.ndarray, until: int | None = None) -> Statistics:
    """Numbers of some rows of ``tokens``, [n] in order; memory is that of ``until`` ns (None: now) and since the first of them began."""
    start = int(recording.tokens.column("start")[rows[0]]) if len(rows) else until
    samples = slice(*_between(recording.samples.column("time"), start, until))
    if samples.start >= samples.stop:  # none was taken meanwhile: the one before holds
        samples = slice(max(0, samples.stop - 1), samples.stop)
    return _summary(recording, rows, samples)


def _summary(recording: Recording, rows: slice | np.ndarray, samples: slice, whole: bool = False) -> Statistics:
    tokens = {name: recording.tokens.column(name)[rows] for name in recording.tokens.dtype.names or ()}
    values: dict[str, int | float] = {}
    if len(tokens["start"]):
        values |= _totals(tokens) | _prefill(tokens) | _decode(tokens)
        first, stop = (rows.start, rows.stop) if isinstance(rows, slice) else (int(rows[0]), int(rows[-1]) + 1)
        values["recall"] = recall_of(recording, first, stop)
    values |= _memory(recording, tokens, samples, whole)
    return Statistics(**values)  # type: ignore[arg-type]


def _between(times: np.ndarray, start: int | None, end: int | None) -> tuple[int, int]:
    """First and one past the last of the rows at these times, both ends included."""
    first = 0 if start is None else int(np.searchsorted(times, start))
    return first, len(times) if end is None else int(np.searchsorted(times, end, "right"))


def _peak(recording: Recording, resident: np.ndarray, first: int, stop: int) -> int | float:
    """The most of ``resident`` (of passes) and of the samples ``first`` to ``stop``. A sample's peak is that of all the time before it:
    only one that grew says something of its own time."""
    held, peaks = recording.samples.column("resident_bytes", first, stop), recording.samples.column("peak_resident_bytes", 0, stop)
    grown = peaks[first:][np.diff(peaks, prepend=0)[first:] > 0]
    return max((int(values.max()) for values in (resident, held, grown) if len(values)), default=nan)


def _growth(values: np.ndarray, base: int) -> int:
    """By how much a counter grew over samples that followed ``base``. It begins at 0 again where the model was loaded anew."""
    steps = np.diff(values, prepend=base)
    return int(np.where(steps < 0, values, steps).sum())


def _totals(tokens: dict[str, np.ndarray]) -> dict[str, int | float]:
    names = ("hits", "preloaded", *MISSES, "evictions", *BYTES_READ)
    values: dict[str, int | float] = {name: int(tokens[name].sum(dtype=np.int64)) for name in names}
    misses = sum(values[name] for name in MISSES)
    used = uses_of(tokens)
    known = np.isfinite(tokens["average_bits"]) & (used > 0)
    if known.any():
        values["average_bits"] = float(np.average(tokens["average_bits"][known], weights=used[known]))
    uses, io, stall = values["hits"] + misses, float(tokens["io"].sum()), float(tokens["stall"].sum())
    ahead = values["preload_useful_bytes"] + values["preload_wasted_bytes"]
    return values | {
        "tokens": len(tokens["start"]), "misses": misses, "hit_rate": values["hits"] / uses if uses else nan,
        "seconds": tokens["duration"].sum() / 1e9, "stall_s": tokens["stall"].sum() / 1e9, "compute_s": tokens["compute"].sum() / 1e9,
        "io_s": io / 1e9, "overlap": max(0.0, 1 - stall / io) if io else nan,
        "misses_covered": values["preloaded"] / max(1, values["preloaded"] + misses) if ahead else nan,
    }  # fmt: skip


def _prefill(tokens: dict[str, np.ndarray]) -> dict[str, int | float]:
    chosen = tokens["phase"] == Phase.PREFILL
    if not chosen.any():
        return {}
    durations, prompt = tokens["duration"][chosen], int(tokens["tokens"][chosen].sum(dtype=np.int64))
    seconds = float(durations.sum()) / 1e9
    return {
        "prefill_tokens": prompt, "ttft_s": float(durations[-1]) / 1e9, "prefill_s": seconds,
        "prefill_tok_s": prompt / seconds if seconds else nan,
    }  # fmt: skip


def _decode(tokens: dict[str, np.ndarray]) -> dict[str, int | float]:
    chosen = tokens["phase"] == Phase.DECODE
    count = int(chosen.sum())
    if not count:
        return {}
    durations = tokens["duration"][chosen]
    seconds = float(durations.sum()) / 1e9
    read = read_of(tokens)[chosen].sum()
    return {
        "decode_tokens": count, "decode_s": seconds, "decode_tok_s": count / seconds if seconds else nan, "tpot_ms": seconds / count * 1e3,
        "tpot_p95_ms": float(np.percentile(durations, 95)) / 1e6, "mb_per_token": float(read) / count / MB,
    } | {field: float(tokens[name][chosen].mean()) / 1e6 for name, field in _PARTS.items()}  # fmt: skip


def _memory(recording: Recording, tokens: dict[str, np.ndarray], picked: slice, whole: bool) -> dict[str, int | float]:
    """Memory as the samples have it; where there is none (a short run), as the passes have it."""
    samples = {name: recording.samples.column(name)[picked] for name in recording.samples.dtype.names or ()}
    values: dict[str, int | float] = {"peak_resident_bytes": _peak(recording, tokens["resident_bytes"], picked.start, picked.stop)}
    newest_sample = samples["time"][-1] if len(samples["time"]) else -1
    newest_token = tokens["start"][-1] + tokens["duration"][-1] if len(tokens["start"]) else -1
    source = samples if newest_sample > newest_token else tokens
    if max(newest_sample, newest_token) >= 0:
        values |= {name: int(source[name][-1]) for name in ("resident_bytes", "budget_bytes", "kv_bytes")}
    if newest_sample >= 0:
        values |= {"rss": int(samples["rss"][-1]), "peak_rss": int(samples["rss"].max())}
        for name in ("major_faults", "read_bytes"):
            values[name] = _growth(samples[name], 0 if whole else int(samples[name][0]))
    return values
