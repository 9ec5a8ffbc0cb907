"""The race as one picture: tokens/s on a logarithmic axis, a row a contender, a block a memory limit. Written as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from app.race.report import OURS

_LEFT, _RIGHT, _TOP, _ROW, _HEAD, _WIDTH = 150, 90, 56, 24, 34, 760
_COLORS = {OURS: "#2f6fde"}
_OTHER = "#8a8f98"


def draw(rows: Sequence[dict[str, Any]], title: str) -> str:
    """The picture of a race's rows: a dot at the median, a line over all repetitions."""
    rates = [rate for row in rows for rate in (*row["tok_s_all"], row["tok_s"]) if rate]
    low, high = _decades(rates)
    parts, y = [], _TOP + 8
    for memory in dict.fromkeys(row["memory"] for row in rows):
        label = f"{memory / 2**20:.0f} MiB of memory" if memory else "no memory limit"
        parts.append(_text(12, y + 16, label, weight="bold"))
        y += _HEAD
        for row in (row for row in rows if row["memory"] == memory):
            parts.append(_row(row, y, low, high))
            y += _ROW
        y += 8
    height = y + 12
    axis = [_tick(rate, low, high, height) for decade in range(low, high + 1) for rate in [10.0**decade]]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{_text(12, 22, title, weight="bold", size=14)}'
        f'{"".join(axis)}{"".join(parts)}</svg>\n'
    )


def _row(row: dict[str, Any], y: float, low: int, high: int) -> str:
    middle, color = y + _ROW / 2, _COLORS.get(row["contender"], _OTHER)
    name = _text(_LEFT - 10, middle + 4, row["contender"], anchor="end")
    if not row["tok_s"]:
        return name + _text(_LEFT + 4, middle + 4, row["failed"] or "no figure", color=_OTHER)
    x = _at(row["tok_s"], low, high)
    ends = [_at(rate, low, high) for rate in (min(row["tok_s_all"]), max(row["tok_s_all"]))]
    figure = _text(max(x, ends[1]) + 10, middle + 4, f"{row['tok_s']:.3g}")
    return (
        f'{name}<line x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{middle}" y2="{middle}" stroke="{color}" stroke-width="2"/>'
        f'<circle cx="{x:.1f}" cy="{middle}" r="5" fill="{color}"/>{figure}'
    )


def _tick(rate: float, low: int, high: int, height: float) -> str:
    x = _at(rate, low, high)
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - 12}" stroke="#e3e5e8"/>'
    label = f"{rate:g} tokens/s" if math.isclose(rate, 10.0**low) else f"{rate:g}"
    return line + _text(x, _TOP - 8, label, anchor="middle", color="#5b616b")


def _at(rate: float, low: int, high: int) -> float:
    return _LEFT + (math.log10(rate) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _decades(rates: Sequence[float]) -> tuple[int, int]:
    if not rates:
        return 0, 1
    low, high = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)))
    return low, max(high, low + 1)


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal", size: int = 12, color: str = "#1d2129") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" fill="{color}">'
        f"{escape(text)}</text>"
    )
