"""What a race came to: figures by contender and memory limit, as a table for people and plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from statistics import median
from typing import Any

import numpy as np

from app.race.planted import Planted
from app.race.race import Plan, Turn

OURS = "ours"


def summarize(plan: Plan, turns: Sequence[Turn], planted: Planted | None) -> list[dict[str, Any]]:
    """A row for each contender at each limit: over its repetitions, medians of rates and percentiles of all tokens' times.

    ``ratio`` is ours to theirs, tokens/s, the median over repetitions of the same repetition's two. Where a figure does not
    exist it is None.
    """
    rows = []
    for memory in plan.memory:
        for name in dict.fromkeys(turn.contender for turn in turns):
            mine = [turn for turn in turns if turn.contender == name and turn.memory == memory]
            if mine:
                rows.append(_row(mine, [t for t in turns if t.contender == OURS and t.memory == memory], plan, planted))
    return rows


def _row(mine: list[Turn], ours: list[Turn], plan: Plan, planted: Planted | None) -> dict[str, Any]:
    gaps = np.concatenate([np.diff(turn.times) for turn in mine]) / 1e6  # ms
    rates = [_rate(turn) for turn in mine if not isnan(_rate(turn))]
    reference = {turn.repetition: _rate(turn) for turn in ours}
    ratios = [reference.get(turn.repetition, nan) / _rate(turn) for turn in mine]
    walks = [planted.walked([*plan.prompt, *turn.ids]) for turn in mine if planted and turn.ids and min(turn.ids) >= 0]
    firsts = [(turn.times[0] - turn.ready) / 1e9 for turn in mine if turn.times]
    return {
        "contender": mine[0].contender, "memory": mine[0].memory or None, "bits": mine[0].bits, "turns": len(mine),
        "tokens": sum(len(turn.times) for turn in mine), "tok_s": _or_none(_median(rates)), "tok_s_all": rates,
        "ms_p50": _percentile(gaps, 50), "ms_p95": _percentile(gaps, 95), "ttft_s": _or_none(_median(firsts)),
        "mb_per_token": _or_none(_median([t.mb_per_token for t in mine])), "read_bytes": _most(t.read for t in mine),
        "peak_bytes": _most(t.peak for t in mine), "ratio": _or_none(_median(ratios)),
        "walked": min(walks) if walks else None, "caged": all(turn.caged for turn in mine),
        "failed": next((turn.failed for turn in mine if turn.failed), ""), "about": mine[-1].about,
    }  # fmt: skip


def table(rows: Sequence[dict[str, Any]], absent: dict[str, str], notes: Sequence[str]) -> str:
    """The rows under one another, a block a memory limit; then who was absent, and what to know."""
    head = ("", "bits", "tokens/s", "ms p50", "ms p95", "first s", "MB/token", "peak MiB", "ours is", "")
    lines = []
    for memory in dict.fromkeys(row["memory"] for row in rows):
        title = f"{memory / 2**20:.0f} MiB" if memory else "no memory limit"
        cells = [(title, *head[1:]), *(_cells(row) for row in rows if row["memory"] == memory)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
        for line in cells:
            first, *figures, last = line
            aligned = [cell.rjust(width) for cell, width in zip(figures, widths[1:-1], strict=True)]
            lines.append("  ".join([first.ljust(widths[0]), *aligned, last]).rstrip())
        lines.append("")
    lines += [f"{name} did not race: {reason}." for name, reason in absent.items()]
    lines += [f"{note[:1].upper()}{note[1:]}." for note in notes]
    return "\n".join(lines).strip()


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    remarks = [row["failed"]] if row["failed"] else []
    if row["about"].get("way"):
        remarks.append(row["about"]["way"])
    if row["walked"] is not None and row["walked"] < 1:
        remarks.append(f"{row['walked']:.0%} of tokens as planted")
    return (
        row["contender"], str(row["bits"]), _number(row["tok_s"]), _number(row["ms_p50"]), _number(row["ms_p95"]),
        _number(row["ttft_s"]), _number(row["mb_per_token"]), f"{row['peak_bytes'] / 2**20:.0f}" if row["peak_bytes"] else "",
        "" if row["ratio"] is None or row["contender"] == OURS else f"{_number(row['ratio'])}x", "; ".join(remarks),
    )  # fmt: skip


def _number(value: float | None) -> str:
    """Three significant digits, never an exponent."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _rate(turn: Turn) -> float:
    """Decoded tokens a second: from the first token out to the last."""
    spent = turn.times[-1] - turn.times[0] if turn.times else 0
    return (len(turn.times) - 1) * 1e9 / spent if spent else nan


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if not isnan(value)]
    return median(known) if known else nan


def _percentile(values: Any, share: float) -> float | None:
    return float(np.percentile(values, share)) if len(values) else None


def _most(values: Any) -> int | None:
    return max((value for value in values if value >= 0), default=None)


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value
