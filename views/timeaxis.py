"""The time axis that charts and timeline share: visible windows, token rows within them, ticks and change marks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from engine.events import Applied, Beside
from engine.recording.recording import Recording
from engine.settings import BY_NAME, Value
from views.units import format_bytes, nice_ceiling

Window = tuple[int, int]

FOLLOW = 200  # tokens shown while following the newest
IDLE = 3_000_000_000  # a pause longer than this (ns) is left out while following
NARROWEST = 2_000  # ns


def token_ends(recording: Recording, start: int = 0, stop: int | None = None) -> np.ndarray:
    """When each token was done, [n] ns."""
    tokens = recording.tokens
    return tokens.column("start", start, stop) + tokens.column("duration", start, stop)


def newest(recording: Recording, tokens: int = FOLLOW) -> Window:
    """The window that holds the last ``tokens`` rows, cut at the last long pause; everything where there is no token yet."""
    count = len(recording.tokens)
    if not count:
        return 0, max(recording.duration, 1_000_000)
    first = max(0, count - tokens)
    starts, ends = recording.tokens.column("start", first), token_ends(recording, first)
    pauses = np.flatnonzero(starts[1:] - ends[:-1] > IDLE)
    begin = int(starts[pauses[-1] + 1 if len(pauses) else 0])
    return begin, max(int(ends[-1]), begin + NARROWEST)


def bounds(recording: Recording) -> Window:
    """All of the session, as a window. From the first token on if there is one: loading a model is not what one wants to see."""
    if not len(recording.tokens):
        return 0, max(recording.duration, 1_000_000)
    return int(recording.tokens.column("start", 0, 1)[0]), max(recording.duration, int(token_ends(recording, -1)[0]))


def rows_within(recording: Recording, window: Window) -> tuple[int, int]:
    """First and one past the last token row that overlaps the window."""
    starts = recording.tokens.column("start")
    low = int(np.searchsorted(starts, window[0], "right")) - 1
    if low >= 0 and int(token_ends(recording, low, low + 1)[0]) <= window[0]:
        low += 1
    return max(0, low), max(int(np.searchsorted(starts, window[1], "left")), max(0, low))


def token_at(recording: Recording, time: int) -> int | None:
    """The row that was being produced at ``time`` ns."""
    if not len(recording.tokens):
        return None
    row = int(np.searchsorted(recording.tokens.column("start"), time, "right")) - 1
    return row if row >= 0 and time <= int(token_ends(recording, row, row + 1)[0]) else None


def token_window(recording: Recording, token: int | None) -> Window | None:
    """From when to when a token was produced, ns."""
    if token is None or not 0 <= token < len(recording.tokens):
        return None
    start = int(recording.tokens.column("start", token, token + 1)[0])
    return start, start + int(recording.tokens.column("duration", token, token + 1)[0])


def zoomed(window: Window, factor: float, at: int, limits: Window) -> Window:
    """The window with its width divided by ``factor``, ``at`` staying where it is, within the limits."""
    width = max(NARROWEST, (window[1] - window[0]) / factor)
    share = (at - window[0]) / max(1, window[1] - window[0])
    return within((int(at - share * width), int(at + (1 - share) * width)), limits)


def within(window: Window, limits: Window) -> Window:
    """The window pushed into the limits, which it may overlook by a twentieth of its width."""
    width = min(window[1] - window[0], int(1.1 * (limits[1] - limits[0])))
    slack = width // 20
    start = max(limits[0] - slack, min(window[0], limits[1] + slack - width))
    return start, start + max(width, NARROWEST)


def second_ticks(low: float, high: float, count: int) -> tuple[list[float], list[str]]:
    """About ``count`` round moments between ``low`` and ``high`` s, and their texts: ``12.5 s``, ``3:05.2``."""
    if not high > low:
        return [], []
    rough = (high - low) / max(1, count)
    step = nice_ceiling(rough)
    if rough > 10:
        step = float(next((s for s in (15, 30, 60, 120, 300, 600, 1800, 3600) if s >= rough), 7200))
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    places = [i * step for i in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]
    return places, [_moment(place, digits) for place in places]


def _moment(seconds: float, digits: int) -> str:
    if abs(seconds) < 100 or digits > 2:
        return f"{seconds:.{digits}f} s"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:0{3 + digits if digits else 2}.{digits}f}"


@dataclass(frozen=True)
class Mark:
    """A setting change as the axes show it: ``time`` ns, first ``token`` it holds for, a short and a full text."""

    time: int
    token: int
    short: str
    full: str


def mark_of(change: Applied) -> Mark:
    """``budget 10%``, and for the tooltip ``budget 25% → 10% from token 57``."""
    setting = BY_NAME.get(change.name)
    name, unit, kind = (setting.title, setting.unit, setting.kind) if setting else (change.name, "", "")
    old, new = _shown(change.old, kind, unit), _shown(change.new, kind, unit)
    full = f"{name} {old} → {new} from token {change.token}"
    if kind == "bytes" and isinstance(change.effective, int | float):
        full += f" ({format_bytes(change.effective)})"
    short = name if kind == "path" and change.new else f"{name} {new}"  # names of files are long
    return Mark(change.time, change.token, short, full)


def _shown(value: Value, kind: str, unit: str) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if kind == "path":
        return PurePath(str(value)).name or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def mark_beside(beside: Beside) -> Mark:
    """Where a calibration began to run beside the model, or no longer did."""
    if beside.running:
        return Mark(beside.time, beside.token, "calibration", "A calibration runs beside from here on: times are disturbed")
    return Mark(beside.time, beside.token, "", "No calibration runs beside from here on")
