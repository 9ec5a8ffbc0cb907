"""Colours by role, so that a view never names a colour. The sets survive red-green blindness (Okabe and Ito's palette)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Roles as ``#rrggbb``. Categorical roles mean the same thing in every panel."""

    name: str
    dark: bool
    # surfaces and text
    window: str
    base: str
    raised: str
    border: str
    text: str
    muted: str
    accent: str
    # outcomes
    hit: str
    first_touch: str
    capacity: str
    mispredicted: str
    late: str
    preloaded: str
    wasted: str
    # where time goes
    attention: str
    shared: str
    router: str
    compute: str
    stall: str
    head: str
    framework: str
    read: str
    # widths, from few bits to many
    bits2: str
    bits3: str
    bits4: str
    bits8: str
    bits16: str
    # residency
    absent: str
    loading: str
    resident: str
    # lines
    budget: str
    grid: str
    warning: str
    error: str
    mark: str

    def bits(self, width: int) -> str:
        """The colour of a bitwidth."""
        return {2: self.bits2, 3: self.bits3, 4: self.bits4, 8: self.bits8, 16: self.bits16}[width]


DARK = Theme(
    name="dark", dark=True,
    window="#1b1e23", base="#14161a", raised="#262a31", border="#3a3f48", text="#e6e8eb", muted="#9aa3af", accent="#56b4e9",
    hit="#2a9d8f", first_touch="#f0e442", capacity="#e69f00", mispredicted="#cc79a7", late="#d55e00",
    preloaded="#7eb0ff", wasted="#8a8f98",
    attention="#4c78a8", shared="#a8d08d", router="#8f6be8", compute="#2a9d8f", stall="#e6550d", head="#7fb3d5", framework="#6b7280",
    read="#e69f00",
    bits2="#440154", bits3="#3b528b", bits4="#21918c", bits8="#5ec962", bits16="#fde725",
    absent="#22262c", loading="#e69f00", resident="#3a7ca5",
    budget="#f28e8e", grid="#2c3138", warning="#e69f00", error="#ff6b6b", mark="#cc79a7",
)

LIGHT = Theme(
    name="light", dark=False,
    window="#f4f5f7", base="#ffffff", raised="#e9ebee", border="#c5cad1", text="#1b1e23", muted="#5b6470", accent="#0072b2",
    hit="#1b8a7d", first_touch="#b8a800", capacity="#d98200", mispredicted="#b0578d", late="#c04d00",
    preloaded="#2f6bd8", wasted="#7d8590",
    attention="#3b6ea5", shared="#7cc46f", router="#7048d9", compute="#1b8a7d", stall="#d9480f", head="#5d9bc4", framework="#8a93a0",
    read="#d98200",
    bits2="#440154", bits3="#3b528b", bits4="#21918c", bits8="#5ec962", bits16="#e8d317",
    absent="#e4e7eb", loading="#d98200", resident="#6aa5c9",
    budget="#c92a2a", grid="#e3e6ea", warning="#b86e00", error="#c92a2a", mark="#b0578d",
)
