"""What figures are of: which passes, as of when, and how to call that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.events import Phase
from engine.recording.recording import Recording
from views.selection import Selection
from views.timeaxis import rows_within

RECENT = 32  # decode tokens that the figures are of while nothing is selected


@dataclass(frozen=True)
class Scope:
    """What the figures are of: ``rows`` of ``tokens``, [n]; memory as of ``until`` ns (None: now); ``trend`` rows for the lines."""

    text: str
    detail: str
    rows: np.ndarray
    trend: np.ndarray
    until: int | None = None


def scope_of(recording: Recording, selection: Selection) -> Scope:
    """The token pointed at, else the selected range, else the pinned token, else the newest tokens."""
    hovered, picked, table = selection.hover_token, selection.picked, recording.tokens
    if hovered is not None and hovered < len(table):
        return _token(recording, hovered, "")
    if picked.start is not None and picked.end is not None and picked.end > picked.start:
        return _range(recording, picked.start, picked.end)
    if picked.token is not None and picked.token < len(table):
        return _token(recording, picked.token, "pinned")
    rows = _decoded(recording, len(table))
    if not len(rows) and len(table):
        return Scope("prefill", "the prefill; no token was decoded yet", np.array([len(table) - 1]), rows)
    text = f"last {len(rows)} token{'s' * (len(rows) != 1)}" if len(rows) else "no tokens yet"
    return Scope(text, f"the last {len(rows)} decode tokens" if len(rows) else "nothing: no token was produced yet", rows, rows)


def _token(recording: Recording, token: int, pinned: str) -> Scope:
    row = recording.tokens.rows(token, token + 1)[0]
    kind = "prefill" if row["phase"] == Phase.PREFILL else pinned
    text = f"token {token}" + (f", {kind}" if kind else "")
    detail = f"token {token} alone" + (" (a prefill pass)" if kind == "prefill" else "")
    return Scope(text, detail, np.array([token]), _decoded(recording, token + 1), int(row["start"] + row["duration"]))


def _range(recording: Recording, start: int, end: int) -> Scope:
    low, high = rows_within(recording, (start, end))
    rows = low + np.flatnonzero(recording.tokens.column("phase", low, high) == Phase.DECODE)
    text = f"range, {len(rows)} token{'s' * (len(rows) != 1)}"
    if len(rows) or low == high:
        return Scope(text, f"the {len(rows)} decode tokens of the selected range", rows, rows, end)
    return Scope("range, prefill", "the prefill of the selected range", np.array([high - 1]), rows, end)


def _decoded(recording: Recording, stop: int) -> np.ndarray:
    """The last decode rows before row ``stop``. Twice as many are looked at, since prefills lie among them."""
    first = max(0, stop - 2 * RECENT)
    return first + np.flatnonzero(recording.tokens.column("phase", first, stop) == Phase.DECODE)[-RECENT:]


def prefill_row(recording: Recording, row: int) -> int | None:
    """The prefill of the request that a row of ``tokens`` is of; None where there is none."""
    prefills = np.flatnonzero(recording.tokens.column("phase", 0, max(0, row + 1)) == Phase.PREFILL)
    return int(prefills[-1]) if len(prefills) else None
