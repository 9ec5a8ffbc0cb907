"""The editor of a byte budget: a slider over the budgets that work, on a log scale, and a field that takes sizes and shares."""

from __future__ import annotations

import math

from PySide6.QtCore import QSignalBlocker, Qt, Slot
from PySide6.QtWidgets import QBoxLayout, QLineEdit, QSlider, QWidget

from engine.errors import EngineError
from engine.settings import Setting, Value, parse_budget, parse_size
from views.tuning_editors import Editor

STEPS = 1000


def slider_text(position: int, low: int, high: int) -> str:
    """The budget at a place of the slider, as it is entered. The ends are exact: below ``low`` nothing works."""
    if position <= 0:
        return f"{low}B"
    if position >= STEPS:
        return f"{high}B"
    size = low * (high / low) ** (position / STEPS)
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            digits = 2 if size < 10 * scale else 1
            text = f"{size / scale:.{digits}f}{unit}"
            # Rounding must not leave the range.
            return text if low <= parse_size(text) <= high else f"{int(size)}B"
    return f"{int(size)}B"


def slider_position(size: int, low: int, high: int) -> int:
    """Where a budget lies on the slider, held within its ends."""
    if size <= low or high <= low:
        return 0
    return min(STEPS, round(STEPS * math.log(size / low) / math.log(high / low)))


def under_cycle(budget: int, full: int, cycle: int) -> str:
    """What is wrong with a ``budget`` in bytes that one token's experts of all layers, ``cycle`` bytes of ``full``, do not fit; "" where
    they do."""
    if not 0 < budget < cycle:
        return ""
    scale, unit = next(((scale, unit) for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)) if cycle >= scale), (1, "B"))
    least = math.ceil(cycle * 100 / scale) / 100  # rounded up, so that it can be entered as it is read
    share = math.ceil(1000 * cycle / full) / 10
    return (f"⚠ Under one token cycle: what a token uses in all layers does not fit, so that the next one finds most of it gone and LRU "
            f"hits nothing. The smallest that holds it is {least:g}{unit}, {share:g}%")  # fmt: skip


class BytesEditor(Editor):
    """A size or a share as text. ``set_range`` gives it the slider; without a range the text alone serves."""

    def __init__(self, setting: Setting, parent: QWidget | None = None) -> None:
        super().__init__(setting, parent)
        self._range: tuple[int, int] | None = None
        self._line = QLineEdit(self)
        self._line.setMinimumWidth(76)
        self._line.setPlaceholderText("12MiB or 25%")
        self._slider = QSlider(Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, STEPS)
        self._slider.setPageStep(STEPS // 20)
        self._slider.setSingleStep(STEPS // 200)
        self._slider.setMinimumWidth(60)
        self._slider.setAccessibleName(f"{setting.title}: slider")
        self._layout.setDirection(QBoxLayout.Direction.TopToBottom)
        self._layout.setSpacing(2)
        self._adopt(self._line)
        self._adopt(self._slider)
        self._slider.hide()
        self._line.editingFinished.connect(self._finished)
        self._slider.valueChanged.connect(self._moved)

    def set_range(self, limits: tuple[int, int] | None) -> None:
        """Smallest and largest budget in bytes, None when they are not known."""
        self._range = limits if limits and limits[1] > limits[0] > 0 else None
        self._slider.setVisible(self._range is not None)

    def show_value(self, value: Value) -> None:
        self._line.setText(str(value))
        self._line.setModified(False)
        if self._range is not None:
            try:
                self._place(parse_budget(str(value), self._range[1], self._range[0]))
            except EngineError:
                return

    def show_effective(self, effective: Value | None) -> None:
        if isinstance(effective, int | float):
            self._place(int(effective))

    def held(self) -> bool:
        return self._slider.isSliderDown() or (self._line.hasFocus() and self._line.isModified())

    def _place(self, size: int) -> None:
        if self._range is not None and not self._slider.isSliderDown():
            with QSignalBlocker(self._slider):
                self._slider.setValue(slider_position(size, *self._range))

    @Slot(int)
    def _moved(self, position: int) -> None:
        if self._range is not None:
            text = slider_text(position, *self._range)
            self._line.setText(text)
            self.edited.emit(text)

    @Slot()
    def _finished(self) -> None:
        if self._line.isModified():
            self._line.setModified(False)
            self.edited.emit(self._line.text().strip())
