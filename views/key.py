"""What a colour means. No Qt here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a swatch (one colour) or a scale (several) with the words around it."""

    colors: tuple[str, ...]
    text: str
    before: str = ""
    frame: bool = False  # an outline rather than a fill
    mark: str = ""  # a shape of grid_marks rather than a fill
    help: str = ""
