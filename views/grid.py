"""Layers by experts, one cell each: what is in memory, how hot it is, at how many bits, and what hits and misses."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QLabel, QVBoxLayout, QWidget

from engine.events import Residency
from engine.recording.recording import Recording
from views.colors import channels, pack
from views.grid_canvas import FRAMED, Cell, GridCanvas
from views.grid_marks import Foreseen, foresee
from views.grid_shades import MODES, OUTCOMES, STAGED, Counts, caption, count_range, legend, palette, shade
from views.inspector_facts import state_of
from views.key import Key
from views.key_legend import KeyLegend
from views.panel import Panel
from views.segments import Segments
from views.selection import Selection
from views.theme import Theme
from views.throttle import Throttle
from views.tuning_model import TuningModel

FLASH = (1.0, 0.78, 0.58, 0.4, 0.26, 0.14)  # strength of the frame by age in tokens
TINT = (0.75, 0.4, 0.15, 0.0, 0.0, 0.0)  # the same where whole cells are tinted, whose own colour must stay readable
USED_HELP = ("One of the k experts thought likeliest for its layer, and the router chose it. Of the token shown, else of the newest; "
             "of the selected range in Heat and Hit–miss")
UNUSED_HELP = "One of the k experts thought likeliest for its layer, and the router chose others"
HOVER_INTERVAL = 33  # ms: every other panel redraws when the mouse moves here
OF_RANGE = ("heat", "hits")  # modes that show the selected range
ARROWS = {Qt.Key.Key_Left: (0, -1), Qt.Key.Key_Right: (0, 1), Qt.Key.Key_Up: (-1, 0), Qt.Key.Key_Down: (1, 0)}


class GridPanel(Panel):
    """The expert grid with its modes, legend and a line about the expert pointed at."""

    key = "grid"
    title = "Experts"
    every = 2

    def __init__(
        self, recording: Recording, selection: Selection, settings: TuningModel, theme: Theme, parent: QWidget | None = None
    ) -> None:
        super().__init__(recording, selection, settings, theme, parent)
        self._ranged: tuple[tuple[int, int, int], Counts] | None = None
        self._causes: set[int] = set()
        self._told: tuple[object, Foreseen] | None = None  # of which rows, and what the marks say of them
        self.build()
        self.restyle(theme)
        selection.changed.connect(self._selected)
        selection.hovered.connect(self._hovered)

    def build(self) -> None:
        self.modes = Segments(MODES, self)
        self.legend = KeyLegend(self.theme, self)
        self.canvas = GridCanvas(self.theme, self)
        self.status = QLabel(self)
        self.status.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self._hover = Throttle(HOVER_INTERVAL, self)
        self._hover.ready.connect(self._tell_hover)
        top = self._top = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        top.setSpacing(6)
        top.addWidget(self.modes)
        top.addWidget(self.legend, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 4)
        layout.setSpacing(5)
        layout.addLayout(top)
        layout.addWidget(self.canvas, 1)
        layout.addWidget(self.status)
        self.modes.changed.connect(self._mode_changed)
        self.canvas.pointed.connect(self._hover.offer)
        self.canvas.clicked.connect(self._pin)

    @property
    def mode(self) -> str:
        """Key of the mode shown."""
        return self.modes.key

    def reset(self) -> None:
        self._ranged = self._told = None
        self._causes.clear()

    def restyle(self, theme: Theme) -> None:
        self.canvas.restyle(theme)
        self.legend.theme = theme
        self.modes.restyle(theme)
        super().restyle(theme)

    def refresh(self) -> None:
        grid = self.recording.grid
        picked = self.selection.picked
        self.canvas.pinned = (picked.layer, picked.expert) if picked.layer is not None and picked.expert is not None else None
        self.canvas.hovered = self.selection.hover_expert
        counts = self._counts()
        if not grid.state.size:
            self.canvas.message = "Load a model to see its experts: one row a layer, one cell an expert."
            self.canvas.set_cells(np.zeros((0, 0), np.uint32), np.zeros((0, 0), np.uint32))
            self.canvas.set_captions([])
        else:
            self._draw(counts)
        keys = self._keys(counts)
        self.legend.set_keys(keys)
        self._arrange()
        self._describe(counts)

    def _keys(self, counts: Counts) -> list[Key]:
        """The mode's legend, and what the frames mean. Causes once seen stay listed, so that the cells do not jump."""
        keys = legend(self.mode, self.theme, counts, tuple(self.recording.model.widths) if self.recording.model else ())
        if not self._ahead():
            keys = [key for key in keys if key.text != STAGED]
        if self.mode == "hits":
            grid = self.recording.grid
            self._causes.update(np.unique(grid.last_outcome[grid.last_token >= 0]).tolist())
            seen = [names for code, names in OUTCOMES.items() if code in self._causes]
            keys += [Key((getattr(self.theme, role),), name, frame=True) for role, name in seen]
        else:
            token = self._token_shown()
            color, text = (self.theme.text, "just used") if token is None else (self.theme.accent, f"token {token}")
            keys.append(Key((color,), text, frame=True))
        if not self._ahead() or not self.canvas.shape_of(True):
            return keys
        ink, shape = (self.theme.text,), self.canvas.shape_of
        return [*keys, Key(ink, "right", "guess", mark=shape(True), help=USED_HELP),
                Key(ink, "wrong", mark=shape(False), help=UNUSED_HELP)]  # fmt: skip

    def _ahead(self) -> bool:
        """Whether anything was predicted or read ahead in this recording."""
        return len(self.recording.predictions) > 0

    def _arrange(self) -> None:
        """The legend beside the modes where it fits in one line, else below."""
        wanted = self.modes.sizeHint().width() + self.legend.sizeHint().width() + 30
        beside = self.width() >= wanted
        self._top.setDirection(QBoxLayout.Direction.LeftToRight if beside else QBoxLayout.Direction.TopToBottom)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def _draw(self, counts: Counts) -> None:
        grid, theme = self.recording.grid, self.theme
        colors = palette(self.mode, theme)
        index = shade(self.mode, grid, counts)
        fill = np.array([channels(color) for color in colors], np.float32)[index]  # [L, E, 3]
        token = self._token_experts()
        strength, flash = self._flash(token)
        if token is not None:
            # What the token did not use steps back, so that its path can be followed at any cell size.
            fill = np.where(token[..., None], fill, fill + (np.array(channels(theme.base), np.float32) - fill) * 0.62)
        frame = pack(fill + (flash - fill) * strength[..., None])
        self.canvas.set_cells(pack(fill) if self._framed() else frame, frame)
        captions = []
        if self.canvas.captions_fit():
            for layer, expert in np.argwhere(index > 0).tolist():
                if (text := caption(self.mode, grid, counts, layer, expert)) and (token is None or token[layer, expert]):
                    captions.append((layer, expert, text, colors[index[layer, expert]]))
        self.canvas.set_captions(captions)
        told = self._foreseen()
        self.canvas.set_marks(told.unused, told.predicted & ~told.unused)

    def _framed(self) -> bool:
        """Cells are large enough to be framed by the canvas; smaller ones are tinted as a whole."""
        layers, experts = self.recording.grid.shape
        ratio = self.canvas.devicePixelRatioF()
        return min(self.canvas.width() * ratio / experts, self.canvas.height() * ratio / layers) >= FRAMED + 1

    def _flash(self, token: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Strength, [L, E] from 0 to 1, and colour, [L, E, 3], of the frames that tell the latest uses."""
        grid, theme = self.recording.grid, self.theme
        if token is not None:
            strength = token * np.float32(1 if self._framed() else 0.5)
            return strength, np.broadcast_to(np.array(channels(theme.accent), np.float32), (*grid.shape, 3))
        age = np.clip(len(self.recording.tokens) - 1 - grid.last_token, 0, len(FLASH))
        strength = np.array([*(FLASH if self._framed() else TINT), 0], np.float32)[age]
        strength[grid.last_token < 0] = 0
        if self.mode in OF_RANGE and self._range():
            strength[:] = 0
        names = [role for role, _ in OUTCOMES.values()] if self.mode == "hits" else ["text"] * len(OUTCOMES)
        colors = np.array([channels(getattr(theme, name)) for name in names], np.float32)
        return strength, colors[np.minimum(grid.last_outcome, len(colors) - 1)]

    def _token_shown(self) -> int | None:
        """The token whose experts are shown: the one hovered, else the one pinned."""
        return self.selection.hover_token if self.selection.hover_token is not None else self.selection.picked.token

    def _token_experts(self) -> np.ndarray | None:
        """The experts of the token shown, bool [L, E]."""
        token = self._token_shown()
        if token is None:
            return None
        table = self.recording.accesses
        first, last = table.search("token", token), table.search("token", token + 1)
        return count_range(table.rows(first, last), self.recording.grid.shape).uses > 0

    def _foreseen(self) -> Foreseen:
        """What was predicted for the token shown; else in the selected range where that is what is drawn, else for the newest token."""
        table, token, chosen = self.recording.predictions, self._token_shown(), self._range()
        if token is None and chosen is not None and self.mode in OF_RANGE:
            scope = ("time", *chosen)
        else:
            row = len(self.recording.tokens) - 1 if token is None else token
            scope = ("token", row, row)
        if self._told is None or self._told[0] != (scope, len(table)):
            column, first, last = scope
            told = foresee(self.recording, table.search(column, first), table.search(column, last + 1))
            self._told = (scope, len(table)), told
        return self._told[1]

    def _range(self) -> tuple[int, int] | None:
        picked = self.selection.picked
        return (picked.start, picked.end) if picked.start is not None and picked.end is not None else None

    def _counts(self) -> Counts:
        """Uses and hits of the selected range, or of everything. A range is counted again only when there is more of it."""
        grid, chosen = self.recording.grid, self._range()
        if chosen is None:
            return Counts(grid.uses, grid.hits)
        table = self.recording.accesses
        first, last = table.search("time", chosen[0]), table.search("time", chosen[1] + 1)
        if self._ranged is None or self._ranged[0] != (first, last, grid.uses.size):
            self._ranged = (first, last, grid.uses.size), count_range(table.rows(first, last), grid.shape)
        return self._ranged[1]

    def _describe(self, counts: Counts) -> None:
        grid = self.recording.grid
        cell = self.selection.hover_expert or self.canvas.pinned
        self.status.setMinimumHeight(self.status.fontMetrics().lineSpacing() * (1 if self.width() >= 540 else 2))
        if not grid.state.size:
            self.status.setText("")
        elif cell and cell[0] < grid.shape[0] and cell[1] < grid.shape[1]:
            self.status.setText(self._expert_line(*cell, counts))
        else:
            states = (Residency.RESIDENT, Residency.STAGED, Residency.LOADING)
            resident, staged, loading = (int((grid.state == state).sum()) for state in states)
            ahead = f"{staged} {STAGED}, " if self._ahead() else ""
            count = f"{resident} of {grid.state.size} experts resident, {ahead}{loading} loading"
            self.status.setText(f"{count}. Point at a cell; click to pin it.")

    def _expert_line(self, layer: int, expert: int, counts: Counts) -> str:
        grid = self.recording.grid
        _, state = state_of(self.recording, layer, expert)
        uses, hits = int(counts.uses[layer, expert]), int(counts.hits[layer, expert])
        where = " in the range" if self._range() else ""
        used = f"{uses:,} {'use' if uses == 1 else 'uses'}{where}, {100 * hits / uses:.0f}% hits" if uses else f"never used{where}"
        last = int(grid.last_token[layer, expert])
        name = OUTCOMES.get(int(grid.last_outcome[layer, expert]), ("", "unknown"))[1]
        tail = f" · last at token {last}: {name}" if last >= 0 else ""
        return f"Layer {layer}, expert {expert}: {state} · {used}{tail}{self._foretold(layer, expert)}"

    def _foretold(self, layer: int, expert: int) -> str:
        """Whether it was predicted, and whether rightly."""
        told = self._foreseen()
        if not told.predicted[layer, expert]:
            return ""
        return f" · predicted at {told.odds[layer, expert]:.0%}, {'not used' if told.unused[layer, expert] else 'used'}"

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        if Qt.Key.Key_1 <= key <= Qt.Key.Key_4:
            self.modes.choose(MODES[key - Qt.Key.Key_1][0])
        elif key in ARROWS and self.canvas.shape[0]:
            self._move(*ARROWS[key])
        elif key == Qt.Key.Key_Escape and self.canvas.pinned:
            self.selection.pick(layer=None, expert=None)
        else:
            super().keyPressEvent(event)

    def _move(self, down: int, right: int) -> None:
        """Pin the neighbour of the pinned cell, the first cell when there is none."""
        layers, experts = self.canvas.shape
        if self.canvas.pinned is None:
            layer, expert = 0, 0
        else:
            layer, expert = self.canvas.pinned[0] + down, self.canvas.pinned[1] + right
        self.selection.pick(layer=min(max(layer, 0), layers - 1), expert=min(max(expert, 0), experts - 1))

    @Slot(object)
    def _tell_hover(self, cell: Cell | None) -> None:
        self.selection.hover(expert=cell)

    @Slot(int, int)
    def _pin(self, layer: int, expert: int) -> None:
        if self.canvas.pinned == (layer, expert):
            self.selection.pick(layer=None, expert=None)
        else:
            self.selection.pick(layer=layer, expert=expert)

    @Slot(str)
    def _mode_changed(self, mode: str) -> None:
        self.refresh()

    @Slot()
    def _selected(self) -> None:
        if self.isVisible():
            self.refresh()

    @Slot()
    def _hovered(self) -> None:
        if self.isVisible():
            self.refresh()
