"""What if: hit rate and tokens/s against the budget, a curve a policy and the oracle's, replayed from the session so far."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, Qt, Slot
from PySide6.QtGui import QHideEvent, QMouseEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QStackedLayout, QVBoxLayout, QWidget

from engine.events import MISSES, Phase
from engine.residency import DEFAULT
from engine.settings import Value
from engine.simulate.replay import ORACLE
from views.fonts import smaller
from views.legend import Entry, Legend
from views.panel import Panel
from views.segments import Segments
from views.theme import Theme
from views.timeaxis import rows_within
from views.units import format_bytes
from views.whatif_model import Asker, Curve, WhatIf

ROLES = {DEFAULT: "hit", "lru": "capacity", "edgemoe": "router", ORACLE: "text"}
STYLES = {DEFAULT: Qt.PenStyle.SolidLine, "lru": Qt.PenStyle.DashLine, "edgemoe": Qt.PenStyle.DotLine, ORACLE: Qt.PenStyle.DashDotLine}
NAMES = {DEFAULT: f"{DEFAULT} (default)", ORACLE: "oracle"}


class WhatIfPanel(Panel):
    """Computed when a request ends, or when asked for: a replay takes a core, so that it is not begun by itself while the model runs."""

    key = "whatif"
    title = "What if"
    every = 6

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.model = WhatIf(self)
        self.model.answered.connect(self._answered)
        self.model.done.connect(self._complete)
        self._asker, self._question, self._curves = Asker(self.recording), None, []  # type: Asker, Question | None, list[Curve]
        self._job, self._asked = 0, (-1, -1)
        self.build()
        self.selection.changed.connect(self._tell)

    def build(self) -> None:
        self.legend = Legend(self.theme, tuple(
            Entry(NAMES.get(policy, policy), role, "100.0% · 0000 t/s", line=True,
                  help="Hit rate and predicted tokens/s at the budget in force")
            for policy, role in ROLES.items()
        ))  # fmt: skip
        self.note, self.button = QLabel(), QPushButton("Compute")
        self.note.setWordWrap(True)
        self.note.setFont(smaller(self.font()))
        self.button.setToolTip("Replay the session so far with other budgets and policies. It takes a core, also from a running model")
        self.button.clicked.connect(self.compute)
        self.plot = _Plot(self)
        self.plot.clicked = self._click
        self.choice = Segments((
            ("rate", "Hits", "Hit rate of decoded tokens, %"),
            ("speed", "Tokens/s", "Decode speed by a cost model calibrated on this session"),
        ))  # fmt: skip
        self.choice.changed.connect(self._choose)
        foot = QHBoxLayout()
        foot.setContentsMargins(8, 2, 6, 4)
        foot.addWidget(self.choice, 0)
        foot.addStretch(1)
        foot.addWidget(self.button, 0)
        full, body = QWidget(), QVBoxLayout()
        body.setContentsMargins(4, 4, 4, 0)
        body.setSpacing(2)
        body.addWidget(self.legend)
        body.addWidget(self.plot, 1)
        body.addWidget(self.note)
        body.addLayout(foot)
        full.setLayout(body)
        empty = QLabel("Run a prompt: once it is done, what other budgets and policies would have made of it appears here.")
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        empty.setWordWrap(True)
        empty.setMargin(16)
        self._pages = QStackedLayout(self)
        self._pages.addWidget(empty)
        self._pages.addWidget(full)
        self.restyle(self.theme)

    # --- Panel --------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        self.model.stop()
        self._asker, self._question, self._curves, self._asked = Asker(self.recording), None, [], (-1, -1)
        self._draw()

    def refresh(self) -> None:
        self._pages.setCurrentIndex(int(len(self.recording.tokens) > 1))
        state = (len(self.recording.finished), len(self.recording.changes))
        running = len(self.recording.requests) > len(self.recording.finished)
        if state != self._asked and not running and len(self.recording.tokens) > 1:
            self.compute()
        self._tell()

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        self.legend.restyle(theme)
        self.plot.restyle(theme)
        self.choice.restyle(theme)
        self._draw()

    def hideEvent(self, event: QHideEvent) -> None:
        self.model.stop()
        self._asked = (-1, -1)
        super().hideEvent(event)

    # --- the question and the answer ----------------------------------------------------------------------------------

    @Slot()
    def compute(self) -> None:
        """Replay the session so far."""
        self._asked = (len(self.recording.finished), len(self.recording.changes))
        self._question = self._asker.question()
        if self._question is not None:
            self._job = self.model.ask(self._question)
            self.button.setText("Computing…")

    @Slot(int, object)
    def _answered(self, job: int, curves: list[Curve]) -> None:
        if job == self._job:
            self._curves = curves
            self._draw()

    @Slot(int)
    def _complete(self, job: int) -> None:
        if job == self._job:
            self.button.setText("Compute")
            self._tell()

    @Slot(str)
    def _choose(self, key: str) -> None:
        self._draw()

    def _draw(self) -> None:
        question = self._question
        rate = self.choice.key == "rate"
        curves = [(c.policy, c.budgets, [100 * v for v in c.hit_rates] if rate else c.tok_s) for c in self._curves]
        self.plot.show_curves(curves, rate, self.theme)
        if question is not None:
            self.plot.mark(question.budget, question.cycle, _knee(self._curves), question.records.full, self.theme)
        told = {}
        for curve in self._curves:
            if question is not None and question.budget in curve.budgets:
                at = curve.budgets.index(question.budget)
                told[NAMES.get(curve.policy, curve.policy)] = f"{curve.hit_rates[at]:.1%} · {curve.tok_s[at]:.0f} t/s"
        self.legend.set_values(told)
        self._tell()

    @Slot()
    def _tell(self) -> None:
        """One line: what was replayed, or for a range what the oracle would have missed in it."""
        question = self._question
        if question is None:
            self.note.setText("")
            return
        picked, oracle = self.selection.picked, next((c for c in self._curves if c.policy == ORACLE), None)
        if picked.start is not None and picked.end is not None and oracle is not None and oracle.misses:
            low, high = rows_within(self.recording, (picked.start, picked.end))
            rows = self.recording.tokens.rows(low, high)
            self.note.setText(self._of_range(rows, low, high, oracle))
            return
        count = question.routing.tokens
        self.note.setText(f"{count:,} tokens replayed, nothing read ahead. Click: take this budget and policy")

    def _of_range(self, rows: np.ndarray, low: int, high: int, oracle: Curve) -> str:
        """What was missed in token rows ``low`` to ``high``, and what the oracle would have missed with the budget they had."""
        decoded = rows["phase"] == Phase.DECODE
        budgets = np.unique(rows["budget_bytes"][decoded])
        misses = oracle.misses.get(int(budgets[0])) if len(budgets) == 1 else None
        if misses is None:
            return "The range has several budgets, or one that was not replayed; choose tokens of one budget"
        all_decoded = self.recording.tokens.column("phase") == Phase.DECODE
        where = (np.cumsum(all_decoded) - 1 - (int(all_decoded.sum()) - len(misses)))[low:high][decoded]
        inside = where[(where >= 0) & (where < len(misses))]
        ours = int(sum(rows[name][decoded].sum() for name in MISSES))
        return (f"Range of {len(inside)} tokens at {format_bytes(int(budgets[0]))}: {ours:,} misses; oracle without reading ahead: "
                f"{int(misses[inside].sum()):,}")  # fmt: skip

    def _click(self, budget_bytes: float, value: float) -> None:
        """Take the budget under the pointer, and the policy whose curve is nearest."""
        if self._question is None or not self._curves:
            return
        full = self._question.records.full
        nearest = None
        for curve in self._curves:
            if curve.policy != ORACLE:
                values = [100 * v for v in curve.hit_rates] if self.choice.key == "rate" else curve.tok_s
                gap = abs(float(np.interp(np.log(budget_bytes), np.log(curve.budgets), values)) - value)
                nearest = min(nearest or (gap, curve.policy), (gap, curve.policy))
        wanted: dict[str, Value] = {"budget": f"{min(100.0, 100 * budget_bytes / full):.3g}%"}
        if nearest is not None and self.settings.effective.get("eviction") != nearest[1]:
            wanted["eviction"] = "default" if nearest[1] == DEFAULT else nearest[1]
        self.settings.request_all("what-if choice", wanted)


def _knee(curves: list[Curve]) -> int:
    """The budget from which on the default policy gains less than an even share of what is left: where its curve stands highest above the
    straight line between its ends."""
    curve = next((c for c in curves if c.policy == DEFAULT), None)
    if curve is None or len(curve.budgets) < 3:
        return 0
    x, y = np.array(curve.budgets, float), np.array(curve.hit_rates)
    line = y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
    return int(x[int(np.argmax(y - line))])


class _Plot(pg.PlotWidget):
    """Curves over budgets on a log scale."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.clicked: Callable[[float, float], None] = lambda budget, value: None
        plot = self.getPlotItem()
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(False, False)
        plot.hideButtons()
        plot.showGrid(x=False, y=True, alpha=0.25)
        plot.getAxis("left").setWidth(40)
        self._items = {policy: plot.plot([], []) for policy in ROLES}
        self._lines = [pg.InfiniteLine(angle=90, label="", labelOpts={"anchors": [(0, 0.5), (0, 0.5)], "fill": None}) for _ in range(3)]
        for line in self._lines:
            plot.addItem(line, ignoreBounds=True)
            line.hide()
        self.setMinimumHeight(96)

    def show_curves(self, curves: list[tuple[str, list[int], list[float]]], rate: bool, theme: Theme) -> None:
        told = {policy: (budgets, values) for policy, budgets, values in curves}
        for policy, item in self._items.items():
            budgets, values = told.get(policy, ([], []))
            item.setData(np.log2(np.array(budgets, float)) if budgets else np.empty(0), np.array(values, float))
            item.setPen(pg.mkPen(getattr(theme, ROLES[policy]), width=1.6, style=STYLES[policy]))
        highest = max((max(values) for _, _, values in curves if values), default=1.0)
        self.setYRange(0, 118 if rate else 1.18 * highest, padding=0)

    def mark(self, budget: int, cycle: int, knee: int, full: int, theme: Theme) -> None:
        """Where the session is, one token's cycle (under it LRU hits nothing), the knee; and the sizes below."""
        low, high = np.log2(full * 0.055), np.log2(full * 1.04)
        self.setXRange(low, high, padding=0)
        shares = (6.25, 12.5, 25, 50, 100)
        ticks = [(float(np.log2(full * share / 100)), f"{share:.3g}%") for share in shares]
        self.getPlotItem().getAxis("bottom").setTicks([[(x, text) for x, text in ticks if low <= x <= high]])
        where = ((budget, "you are here", "budget"), (cycle, "one token: LRU cliff", "capacity"), (knee, "knee", "muted"))
        for place, (line, (size, text, role)) in enumerate(zip(self._lines, where, strict=True)):
            line.setVisible(bool(size > 0 and low <= np.log2(max(1, size)) <= high))
            line.setPos(float(np.log2(max(1, size))))
            color = getattr(theme, role)
            line.setPen(pg.mkPen(color, width=1, style=Qt.PenStyle.SolidLine if role == "budget" else Qt.PenStyle.DashLine))
            line.label.setFormat(text)
            line.label.setColor(color)
            line.label.setPosition(0.9 - 0.2 * place)
            line.label.setFont(smaller(self.font()))
            line.label.fill = pg.mkBrush(theme.base)

    def restyle(self, theme: Theme) -> None:
        self.setBackground(theme.base)
        for side in ("left", "bottom"):
            axis = self.getPlotItem().getAxis(side)
            axis.setPen(pg.mkPen(theme.border))
            axis.setTextPen(pg.mkPen(theme.muted))
            axis.setStyle(tickFont=smaller(self.font()))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        point = self.getPlotItem().vb.mapSceneToView(QPointF(self.mapToScene(event.position().toPoint())))
        self.clicked(2.0 ** point.x(), point.y())
        event.accept()
