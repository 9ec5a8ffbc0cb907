"""Numbers as a reader wants them: three digits and a unit."""

from __future__ import annotations

import math


def format_bytes(count: float) -> str:
    """``12.3 MiB``: memory, in binary units, as the budget is entered; three digits at least; ``–`` where there is no number."""
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB"))


def format_read(count: float) -> str:
    """``12.3 MB``: what is read, in decimal units, as storage is sold; three digits at least; ``–`` where there is no number."""
    return _scaled(count, 1000, ("B", "kB", "MB", "GB"))


def _scaled(count: float, step: int, units: tuple[str, ...]) -> str:
    if math.isnan(count):
        return "–"
    size = float(count)
    for unit in units:
        if abs(size) < step or unit == units[-1]:
            break
        size /= step
    if unit == units[0]:
        return f"{size:.0f} {unit}"
    digits = 2 if abs(size) < 10 else 1 if abs(size) < 100 else 0
    return f"{size:.{digits}f} {unit}"


def format_duration(nanoseconds: float) -> str:
    """``850 ns``, ``43.1 µs``, ``12.3 ms``, ``1.25 s``; ``–`` where there is no number."""
    if math.isnan(nanoseconds):
        return "–"
    size = float(nanoseconds)
    if abs(size) < 1e3:
        return f"{size:.0f} ns"
    for unit, scale in (("µs", 1e3), ("ms", 1e6), ("s", 1e9)):
        value = size / scale
        # 999.6 would be printed as 1000: the next unit says it better.
        if abs(value) < 999.5 or unit == "s":
            break
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f} {unit}"


def format_time(nanoseconds: int) -> str:
    """A moment of the session: ``12.345 s``, from a minute on ``3:05.250``."""
    seconds = nanoseconds / 1e9
    if seconds < 60:
        return f"{seconds:.3f} s"
    return f"{int(seconds // 60)}:{seconds % 60:06.3f}"


def nice_ceiling(value: float, steps: tuple[float, ...] = (1, 2, 5, 10)) -> float:
    """The smallest of ``steps`` (1 to 10) × a power of ten that is not below ``value``; 1 for anything that is not above 0."""
    if not (value > 0 and math.isfinite(value)):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(step * power for step in steps if step * power >= value * (1 - 1e-9)))
