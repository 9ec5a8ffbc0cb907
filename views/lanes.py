"""The lanes of the timeline: which there are, and where each lies."""

from __future__ import annotations

from dataclasses import dataclass

TOKENS, COMPUTE, SLOT, LAYER = 18, 24, 18, 12  # least heights, px; slots shrink further where there are many
SMALLEST = 5


@dataclass(frozen=True)
class Lane:
    """``kind`` is tokens, compute, layer or slot; ``index`` the layer, or the number of the I/O lane (from 1)."""

    kind: str
    index: int
    title: str
    top: int
    height: int

    @property
    def bottom(self) -> int:
        return self.top + self.height


class Lanes:
    """Lanes below each other. Tokens and compute stay on top and the I/O slots at the bottom; only the layers between them scroll."""

    def __init__(self) -> None:
        self.expanded = False
        self.first = 0  # layer that is the uppermost shown
        self.fits = 0  # layers that are shown at once
        self.layers = 0
        self.top = 0
        self.shown: list[Lane] = []

    def arrange(self, layers: int, slots: int, top: int, bottom: int) -> None:
        """Share the room between ``top`` and ``bottom``, px."""
        self.layers, self.top = layers, top
        room = bottom - top - TOKENS - COMPUTE
        if self.expanded and layers:
            slot = _bounded(room // (2 * slots), SMALLEST, SLOT)
            height = _bounded((room - slot * slots) // layers, LAYER, TOKENS)
            self.fits = _bounded((room - slot * slots) // height, 1, layers)
            compute = COMPUTE
        else:
            slot = _bounded(room * 2 // (3 * slots), SMALLEST, 2 * SLOT)
            compute = _bounded(COMPUTE + room - slot * slots, COMPUTE, 6 * COMPUTE)
            height = self.fits = 0
        self.scroll_to(self.first)
        plan = [("tokens", 0, "Tokens", TOKENS), ("compute", 0, "Compute", compute)]
        plan += [("layer", layer, f"layer {layer}", height) for layer in range(self.first, self.first + self.fits)]
        plan += [("slot", number, f"I/O slot {number}", slot) for number in range(1, slots + 1)]
        self.shown = []
        for kind, index, title, tall in plan:
            self.shown.append(Lane(kind, index, title, top, tall))
            top += tall

    @property
    def bottom(self) -> int:
        """Where the last lane ends."""
        return self.shown[-1].bottom if self.shown else self.top

    def scroll_to(self, layer: int) -> None:
        """Let a layer be the uppermost, as far as there are enough below it."""
        self.first = _bounded(layer, 0, max(0, self.layers - self.fits)) if self.fits else 0

    def at(self, y: float) -> Lane | None:
        return next((lane for lane in self.shown if lane.top <= y < lane.bottom), None)

    def like(self, lane: Lane) -> Lane | None:
        """The same lane where it is now."""
        return next((shown for shown in self.shown if (shown.kind, shown.index) == (lane.kind, lane.index)), None)

    def span(self, kind: str) -> tuple[int, int] | None:
        """Top and bottom of all lanes of a kind."""
        found = [lane for lane in self.shown if lane.kind == kind]
        return (found[0].top, found[-1].bottom) if found else None


def _bounded(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
