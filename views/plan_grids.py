"""Two linked grids, layers by experts: what each expert matters, and the bits that a plan gives it. The second is painted by hand.

N = S · E experts, by number layer · E + expert.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from engine.events import WIDTHS
from views.colors import argb, channels, mix, pack, ramp
from views.fonts import smaller
from views.grid_canvas import FRAMED, Cell, GridCanvas
from views.key import Key
from views.key_legend import KeyLegend
from views.plan_choices import box, layer_of
from views.theme import Theme

Captions = Callable[[], list[tuple[int, str, str]]]
"""Makes the number of an expert, what is written on it, and the colour under that, of each."""
STEPS = 48
BACK = 0.62  # how far what is not selected steps back to the base
DECADES = 4  # of importance that colours tell apart
ARROWS = {Qt.Key.Key_Left: (0, -1), Qt.Key.Key_Right: (0, 1), Qt.Key.Key_Up: (-1, 0), Qt.Key.Key_Down: (1, 0)}


class SelectCanvas(GridCanvas):
    """A grid whose cells are selected by click and drag, Ctrl adds, Shift extends; a click on a layer's number takes the layer."""

    swept = Signal(object, object, bool)  # from cell, to cell, whether to add
    layer_clicked = Signal(int, bool)

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(theme, parent)
        self._from: Cell | None = None
        self._adding = False

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return
        keys = event.modifiers()
        self._adding = bool(keys & Qt.KeyboardModifier.ControlModifier)
        cell = self.cell_at(event.position())
        if cell is None:
            layer = self._layer_at(event)
            if layer is not None:
                self.layer_clicked.emit(layer, self._adding)
            return
        if keys & Qt.KeyboardModifier.ShiftModifier and self.pinned is not None:
            self._from = self.pinned
        else:
            self._from = cell
            self.clicked.emit(*cell)
        self.swept.emit(self._from, cell, self._adding)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        super().mouseMoveEvent(event)
        cell = self.cell_at(event.position())
        if self._from is not None and cell is not None and event.buttons() & Qt.MouseButton.LeftButton:
            self.swept.emit(self._from, cell, self._adding)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._from = None

    def _layer_at(self, event: QMouseEvent) -> int | None:
        """The layer whose number is beside the grid at a point."""
        for layer in range(self.shape[0]):
            rect = self.cell_rect((layer, 0))
            if event.position().x() < rect.left() and rect.top() <= event.position().y() < rect.bottom():
                return layer
        return None


class PlanGrids(QWidget):
    """Shows importance [N] (nats a token; empty: not known) over bits [N], with what is selected."""

    pointed = Signal(object)  # cell or None
    pinned = Signal(int, int)
    selected = Signal(object)  # bool [N]
    painted = Signal(int)  # bits, by a key

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.theme = theme
        self.canvases = SelectCanvas(theme, self), SelectCanvas(theme, self)
        self.legends = KeyLegend(theme, self), KeyLegend(theme, self)
        self.titles = QLabel("Importance: what lowering an expert alone costs"), QLabel("Bits of the plan")
        self._shape = (0, 0)
        self._chosen = self._before = np.zeros(0, bool)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for canvas, legend, title, name in zip(self.canvases, self.legends, self.titles, ("Importance", "Bits of the plan"), strict=True):
            title.setFont(smaller(self.font()))
            legend.setFont(smaller(self.font()))
            canvas.setAccessibleName(f"{name} by layer and expert")
            canvas.setMinimumHeight(40)
            layout.addWidget(title)
            layout.addWidget(canvas, 1)
            layout.addWidget(legend)
            canvas.pointed.connect(self.pointed)
            canvas.clicked.connect(self._clicked)
            canvas.swept.connect(self._swept)
            canvas.layer_clicked.connect(self._take_layer)
        self.canvases[0].message = "Not known yet: calibrate to see which experts matter."
        self.canvases[1].message = "Load a model to see and paint the bits of its experts."

    def show_plan(
        self, shape: tuple[int, int], bits: np.ndarray, importance: np.ndarray, widths: tuple[int, ...], chosen: np.ndarray
    ) -> None:
        """Draw both grids of ``shape`` (S, E); ``widths`` are those that importance and legend can speak of."""
        self._shape, self._chosen = shape, chosen
        theme, colors = self.theme, [self.theme.absent, *(self.theme.bits(width) for width in WIDTHS)]
        lookup = np.zeros(256, np.uint8)
        lookup[list(WIDTHS)] = range(1, len(WIDTHS) + 1)
        self._draw(self.canvases[1], np.array([channels(c) for c in colors], np.float32)[lookup[bits]], lambda: [
            (number, str(width), colors[lookup[width]]) for number, width in enumerate(bits.tolist())
        ])  # fmt: skip
        self.legends[1].set_keys([
            Key((theme.bits(width),), f"{width}{' bits' * (width == widths[0])}: {int((bits == width).sum())}",
                help=f"Experts of {width} bits in the plan")
            for width in widths
        ])  # fmt: skip
        if len(importance) != len(bits):
            self._clear(self.canvases[0])
            self.legends[0].set_keys([])
            return
        heat = heat_of(theme)
        high = float(importance.max(initial=0.0)) or 1.0
        place = np.clip(1 + np.log10(np.maximum(importance, 1e-30) / high) / DECADES, 0, 1)
        index = np.where(importance > 0, 1 + np.round(place * (STEPS - 1)), 0).astype(int)
        self._draw(self.canvases[0], np.array([channels(c) for c in heat], np.float32)[index], list)
        self.legends[0].set_keys([
            *([Key((heat[0],), "never used", help="No token of the text used it")] if not importance.all() else []),
            Key(tuple(heat[1:]), f"{high:.2g} nats/token", f"{high / 10**DECADES:.1g}",
                help=f"By how much a token's loss is estimated to rise where this expert alone has {min(widths)} bits, on a log scale"),
        ])  # fmt: skip

    def point_at(self, pinned: Cell | None, hovered: Cell | None) -> None:
        for canvas in self.canvases:
            canvas.pinned, canvas.hovered = pinned, hovered
            canvas.update()

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        for canvas, legend, title in zip(self.canvases, self.legends, self.titles, strict=True):
            canvas.restyle(theme)
            legend.theme = theme
            title.setStyleSheet(f"color: {theme.muted}")

    def _draw(self, canvas: SelectCanvas, fill: np.ndarray, captions: Captions) -> None:
        """Fill [N, 3]; ``captions`` are asked for where they fit. What is not selected steps back where anything is."""
        theme, chosen = self.theme, self._chosen
        if chosen.any():
            base = np.array(channels(theme.base), np.float32)
            fill = np.where(chosen[:, None], fill, fill + (base - fill) * BACK)
        shown = pack(fill).reshape(self._shape)
        frame = np.where(chosen.reshape(self._shape), np.uint32(argb(theme.text)), shown)
        canvas.set_cells(shown, frame if self._framed(canvas) else shown)
        fits = canvas.captions_fit()
        plain = not chosen.any()
        canvas.set_captions([
            (*divmod(number, self._shape[1]), text, color if plain or chosen[number] else mix(color, theme.base, BACK))
            for number, text, color in captions()
        ] if fits else [])  # fmt: skip

    def _framed(self, canvas: SelectCanvas) -> bool:
        ratio = canvas.devicePixelRatioF()
        return min(canvas.width() * ratio / self._shape[1], canvas.height() * ratio / self._shape[0]) >= FRAMED + 1

    def _clear(self, canvas: SelectCanvas) -> None:
        nothing = np.zeros((0, 0), np.uint32)
        canvas.set_cells(nothing, nothing)
        canvas.set_captions([])

    # --- selecting -----------------------------------------------------------------------------------------------------

    @Slot(int, int)
    def _clicked(self, layer: int, expert: int) -> None:
        self._before = self._chosen
        self.pinned.emit(layer, expert)

    @Slot(object, object, bool)
    def _swept(self, first: Cell, last: Cell, adding: bool) -> None:
        """Between two cells; with ``adding`` besides what was selected, and a single one that was is let go."""
        found = box(len(self._chosen), self._shape[1], first, last)
        if adding and first == last and len(self._before) == len(found):
            found = self._before ^ found
        elif adding and len(self._before) == len(found):
            found = self._before | found
        self._select(found)

    def _select(self, found: np.ndarray) -> None:
        self._chosen = found
        self.selected.emit(found)

    @Slot(int, bool)
    def _take_layer(self, layer: int, adding: bool) -> None:
        found = layer_of(len(self._chosen), self._shape[1], layer)
        self._select(self._chosen | found if adding else found)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        if not len(self._chosen):
            super().keyPressEvent(event)
        elif key in ARROWS:
            self._move(*ARROWS[key], extend=bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier))
        elif key == Qt.Key.Key_Escape and self._chosen.any():
            self._select(np.zeros(len(self._chosen), bool))
        elif event.text() in PAINTS and not event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            self.painted.emit(PAINTS[event.text()])
        else:
            super().keyPressEvent(event)

    def _move(self, down: int, right: int, extend: bool) -> None:
        """Pin and select the neighbour; ``extend``: besides what is selected."""
        layers, experts = self._shape
        pinned = self.canvases[1].pinned
        layer, expert = (0, 0) if pinned is None else (pinned[0] + down, pinned[1] + right)
        cell = min(max(layer, 0), layers - 1), min(max(expert, 0), experts - 1)
        self.pinned.emit(*cell)
        found = box(len(self._chosen), experts, cell, cell)
        self._select(self._chosen | found if extend else found)


PAINTS = {"2": 2, "3": 3, "4": 4, "8": 8, "6": 16}
"""Keys that paint, and the bits."""


def heat_of(theme: Theme) -> list[str]:
    """Colours of importance: of nothing, then from little to much, away from the background."""
    low, far = (mix(theme.absent, theme.router, 0.35), "#efe4ff") if theme.dark else (mix(theme.absent, theme.router, 0.3), "#24104f")
    return [theme.absent, *ramp([low, theme.router, far], STEPS)]
