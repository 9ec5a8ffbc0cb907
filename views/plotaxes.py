"""The axes of the charts: values with few round ticks, and session time or token rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyqtgraph as pg

from views.timeaxis import second_ticks
from views.units import nice_ceiling

AXIS = 64  # px of every left axis, so that panels above each other line up


class ValueAxis(pg.AxisItem):
    """A left axis from 0 to a fixed top, with few round ticks."""

    def __init__(self, text: Callable[[float], str]) -> None:
        super().__init__("left")
        self.text, self.unit = text, 1.0

    def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
        top = high / 1.06 / self.unit
        step = nice_ceiling(top / max(1.0, min(5.0, size / 26)))
        if step > top:  # no room for more than one: the roundest value that can be shown
            step = max((s * 10.0 ** np.floor(np.log10(top)) for s in (1, 2, 5)), key=lambda s: s if s <= top else 0.0)
        return [(step * self.unit, [i * step * self.unit for i in range(int(top / step + 1e-6) + 1)])]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        return [self.text(value) for value in values]


class BottomAxis(pg.AxisItem):
    """Session time, or token rows."""

    def __init__(self) -> None:
        super().__init__("bottom")
        self.by_token = False

    def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
        count = max(2, int(size / 90))
        if not self.by_token:
            self._texts = dict(zip(*second_ticks(low, high, count), strict=True))
            return [(1.0, list(self._texts))]
        step = max(1, int(nice_ceiling((high - low) / count)))
        rows = range(-(-int(max(0, low)) // step) * step, int(high) + 1, step)
        self._texts = {row + 0.5: f"token {row}" for row in rows}
        return [(1.0, list(self._texts))]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        return [self._texts.get(value, "") for value in values]
