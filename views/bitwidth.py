"""The bitwidth plan: which experts matter, how many bits each gets, what that loses and weighs; a tolerance to drag, and a brush."""

from __future__ import annotations

import math

import numpy as np
from PySide6.QtCore import QTimer, Slot
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QBoxLayout, QLabel, QLayout, QVBoxLayout, QWidget

from engine.bitwidth.messages import Setup
from engine.events import WIDTHS
from views import plan_choices as choices
from views import plan_words as words
from views.fonts import smaller
from views.panel import Panel, pages
from views.pareto_plot import TOLERANCES, ParetoPlot, Spot
from views.plan_controls import Brush, Header, ToleranceRow
from views.plan_grids import PlanGrids
from views.plan_model import Draft
from views.plan_speed import PlanSpeed, Wish
from views.theme import Theme
from views.throttle import Throttle
from views.whatif_question import Asker

NARROW = 470  # px under which the plot stands below the grids
LOW, LOWEST = 320, 270  # px of height under which the grids have no titles, under which neither they nor the plot have legends
CURVE = 24  # points of the estimated curve
SETTLE = 350  # ms without a change after which speed is predicted
METHOD_ROLES = {"fast": "accent", "paper": "capacity", "hand": "text"}


class BitwidthPanel(Panel):
    """Nothing is measured by itself but what follows a wish of the user."""

    key = "bitwidth"
    title = "Bitwidth"
    every = 4
    keys = (
        ("←  →  ↑  ↓", "Another expert (Shift: besides), or another measured plan"),
        ("2  3  4  8  6", "Set what is selected to 2, 3, 4, 8, 16 bits"),
        ("Enter", "Edit the plan pointed at"), ("+  −", "Tolerate more, less (in the plot)"), ("Esc", "Let go"),
    )  # fmt: skip

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.plans = self.settings.plans
        self.speed = PlanSpeed(self)
        self._asker = Asker(self.recording)
        self._importance = np.empty(0)
        self._curve: tuple[tuple[object, ...], list[tuple[int, float]]] = ((), [])
        self._drawn: tuple[object, ...] = ()
        self._news = Throttle(33, self)
        self._settled = QTimer(self, interval=SETTLE, singleShot=True)
        self.build()
        self.plans.changed.connect(self._note_plans)
        self._news.ready.connect(self._draw)
        self.speed.told.connect(self._draw)
        self._settled.timeout.connect(self._predict)
        self.selection.changed.connect(self._point)
        self.selection.hovered.connect(self._point)
        self.settings.changed.connect(self._note_setting)

    def build(self) -> None:
        self.header, self.tolerance, self.brush = Header(self.plans), ToleranceRow(self.plans), Brush(self.plans)
        self.grids, self.plot = PlanGrids(self.theme), ParetoPlot(self)
        self.legend, self.summary, self.note = QLabel(), QLabel(), QLabel()
        for label in (self.legend, self.summary, self.note):
            label.setFont(smaller(self.font()))
            label.setWordWrap(True)
        self.grids.pointed.connect(lambda cell: self.selection.hover(expert=cell))
        self.grids.pinned.connect(lambda layer, expert: self.selection.pick(layer=layer, expert=expert))
        self.grids.selected.connect(self.plans.select)
        self.grids.painted.connect(self._paint)
        self.brush.painted.connect(self._paint)
        self.brush.choosing.connect(self._choose)
        self.header.measure.changed.connect(self._draw)
        self.plot.chosen.connect(self._tell_spot)
        self.plot.taken.connect(self._take_spot)
        self.plot.tolerated.connect(self.tolerance.set_tolerance)
        chart, chart_column = QWidget(), QVBoxLayout()
        chart_column.setContentsMargins(0, 0, 0, 0)
        chart_column.setSpacing(2)
        chart_column.addWidget(self.legend)
        chart_column.addWidget(self.plot, 1)
        chart.setLayout(chart_column)
        self._middle = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._middle.setSpacing(8)
        self._middle.addWidget(self.grids, 5)
        self._middle.addWidget(chart, 6)
        full, column = QWidget(), QVBoxLayout()
        column.setContentsMargins(8, 5, 8, 4)
        column.setSpacing(4)
        column.addWidget(self.header)
        column.addLayout(self._middle, 1)
        column.addWidget(self.tolerance)
        column.addWidget(self.summary)
        column.addWidget(self.note)
        column.addWidget(self.brush)
        full.setLayout(column)
        hint = QLabel("Load a model to see what its experts may lose, and to give each its own bits.")
        self._pages = pages(self, hint, full)
        self._pages.setSizeConstraint(QLayout.SizeConstraint.SetNoConstraint)  # what is in it shall not make the window grow
        self.setMinimumSize(220, 160)
        self.setFocusProxy(self.grids.canvases[1])
        self.restyle(self.theme)

    # --- Panel ---------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        self._drawn = ()
        self.speed.forget()
        self.plans.setup = None
        self._asker = Asker(self.recording)

    def refresh(self) -> None:
        """Of the recording's news only its beginnings and ends show here."""
        state = (self.recording.state, len(self.recording.requests), len(self.recording.finished), len(self.recording.changes))
        if state != self._drawn:
            self._drawn = state
            self._draw()
        self._settled.start()

    def showEvent(self, event: QShowEvent) -> None:
        self._drawn = ()
        super().showEvent(event)

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        for part in (self.grids, self.plot, self.header, self.tolerance, self.brush):
            part.restyle(theme)
        self.note.setStyleSheet(f"color: {theme.muted}")
        self._draw()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._note_plans()  # what fits into a cell, and below the axis, follows the size
        narrow = self.width() < NARROW
        for title in self.grids.titles:
            title.setVisible(self.height() >= LOW)
        for legend in (*self.grids.legends, self.legend):
            legend.setVisible(self.height() >= LOWEST)
        self._middle.setDirection(QBoxLayout.Direction.TopToBottom if narrow else QBoxLayout.Direction.LeftToRight)

    def hideEvent(self, event: object) -> None:
        self.speed.stop()
        super().hideEvent(event)  # type: ignore[arg-type]

    # --- what is drawn -------------------------------------------------------------------------------------------------

    @Slot()
    def _draw(self) -> None:
        plans, subject = self.plans, self.plans.subject
        self._pages.setCurrentIndex(int(subject is not None and bool(plans.draft.plan)))
        if subject is None or not plans.draft.plan:
            return
        studied = plans.known.studied
        bits, widths = np.frombuffer(plans.draft.plan, np.uint8), tuple(sorted(subject.record_bytes))
        importance = plans.known.outlook.losses[:, 0] if plans.known.outlook is not None else np.empty(0)
        self.grids.show_plan((subject.layers, subject.experts), bits, importance, widths, plans.selected)
        self.plot.show_spots(self._spots(), self._estimated(), self.header.measure.key == "perplexity")
        self.plot.show_tolerance(self.tolerance.tolerance if studied else None)
        self.plot.show_draft(self._place(plans.draft.plan), self._place(plans.in_force))
        self.legend.setText(self._legend())
        full, expected = subject.bytes_of([max(widths)] * len(bits)), self._expected(plans.draft.plan)
        running = len(self.recording.requests) > len(self.recording.finished) and self.recording.state == "running"
        parts = [
            words.weight(plans.total, full, len(bits), float(bits.mean()), max(widths)),
            words.loss(plans.measured, expected, plans.draft.tolerance),
            words.speed(self.speed.speeds.get(plans.draft.plan), self.speed.speeds.get(plans.in_force), running),
        ]  # fmt: skip
        self.summary.setText(" · ".join(filter(None, parts)))
        self.summary.setToolTip(words.studied(studied) if studied else "")
        self.note.setText(plans.trouble or ("" if studied else words.START))
        self.note.setVisible(bool(self.note.text()))
        self.note.setStyleSheet(f"color: {self.theme.error if plans.trouble else self.theme.muted}")
        self.header.update_state()
        self.tolerance.update_state()
        self.brush.update_state(self.settings.read_only)
        self._point()
        self._tell_spot()

    def _spots(self) -> list[Spot]:
        """Everything that was measured."""
        subject, spots = self.plans.subject, []
        assert subject is not None
        kl = self.header.measure.key == "kl"
        for plan, told in self.plans.known.weighed.items():
            value, pair = (told.kl, told.kl_ci) if kl else (told.loss, told.loss_ci)
            color = self.theme.bits(plan[0]) if told.method == "uniform" else getattr(self.theme, METHOD_ROLES[told.method])
            spots.append(Spot(plan, told.method, subject.bytes_of(plan), value, *pair, told.method, color))
        return spots

    def _estimated(self) -> list[tuple[int, float]]:
        """The curve of plans that were not measured, in bytes and expected loss; made anew when more is known."""
        plans, outlook = self.plans, self.plans.known.outlook
        if outlook is None or plans.subject is None or self.header.measure.key == "kl":
            return []
        basis = (outlook, plans.objective)
        if len(self._curve[0]) != 2 or self._curve[0][0] is not outlook or self._curve[0][1] != plans.objective:
            found = {}
            for tolerance in np.geomspace(*TOLERANCES, CURVE):
                plan = outlook.cheapest(float(tolerance), plans.subject.record_bytes, plans.objective)
                if plan is not None:
                    found[plans.subject.bytes_of(plan)] = outlook.expected(outlook.estimate(plan))
            self._curve = basis, sorted(found.items())
        return self._curve[1]

    def _expected(self, plan: bytes) -> float | None:
        outlook = self.plans.known.outlook
        return outlook.expected(outlook.estimate(plan)) if outlook is not None else None

    def _place(self, plan: bytes) -> tuple[int, float] | None:
        """Bytes and loss of a plan, measured or expected; None where neither is known."""
        told, subject = self.plans.known.weighed.get(plan), self.plans.subject
        measured = None if told is None else told.kl if self.header.measure.key == "kl" else told.loss
        value = self._expected(plan) if measured is None and self.header.measure.key == "perplexity" else measured
        return (subject.bytes_of(plan), value) if subject and value is not None and math.isfinite(value) else None

    def _legend(self) -> str:
        theme = self.theme
        marks = (
            ("■", theme.muted, "one width"), ("●", theme.accent, "fast"), ("▲", theme.capacity, "paper"),
            ("◆", theme.text, "by hand"), ("◯", theme.accent, "edited"), ("✕", theme.text, "now"),
        )  # fmt: skip
        told = (f'<span style="color:{color}">{mark}</span> {name}'.replace(" ", "&nbsp;") for mark, color, name in marks)
        return " &nbsp; ".join(told).replace("<span&nbsp;", "<span ")

    @Slot()
    def _point(self) -> None:
        picked = self.selection.picked
        pinned = (picked.layer, picked.expert) if picked.layer is not None and picked.expert is not None else None
        self.grids.point_at(pinned, self.selection.hover_expert)

    @Slot()
    def _note_plans(self) -> None:
        if self.isVisible():
            self._news.offer(True)

    @Slot()
    def _tell_spot(self) -> None:
        spot = self.plot.spot
        told = self.plans.known.weighed.get(spot.plan) if spot else None
        self.plot.tell(words.spot(told, spot.size, self.speed.speeds.get(spot.plan)) if told and spot else "")

    # --- speed ---------------------------------------------------------------------------------------------------------

    @Slot(str)
    def _note_setting(self, name: str) -> None:
        if name in ("budget", "eviction", "device"):
            self._settled.start()

    @Slot()
    def _predict(self) -> None:
        """Predict the speed of the draft, of the plan in force and of what was measured; not while the model runs."""
        plans = self.plans
        if not self.isVisible() or self.recording.state == "running" or plans.subject is None:
            return
        question = self._asker.question()
        if question is None or question.routing.shape.total != len(plans.draft.plan):
            return
        policy = str(self.settings.effective.get("eviction", "default"))
        plans.setup = Setup(question.budget, policy, question.costs)
        wanted = tuple(dict.fromkeys((plans.in_force, plans.draft.plan, *plans.known.weighed)))
        self.speed.ask(Wish(question, wanted, str(self.settings.values["budget"]), policy))

    # --- editing -------------------------------------------------------------------------------------------------------

    @Slot(int)
    def _paint(self, bits: int) -> None:
        if self.plans.subject and bits in self.plans.subject.record_bytes and not self.settings.read_only:
            self.plans.paint(bits)
            self._settled.start()

    @Slot(bytes)
    def _take_spot(self, plan: bytes) -> None:
        told = self.plans.known.weighed.get(plan)
        if told is not None:
            self.plans.propose(Draft(plan, f"{plan[0]} bits for all" if told.method == "uniform" else f"measured plan ({told.method})"))

    @Slot(str)
    def _choose(self, what: str) -> None:
        """Select by a word of the brush's menu."""
        plans, outlook, subject = self.plans, self.plans.known.outlook, self.plans.subject
        if subject is None:
            return
        count, picked = len(plans.draft.plan), self.selection.picked
        uses = self.recording.grid.uses.reshape(-1)
        if len(uses) != count or not uses.any():
            uses = outlook.uses if outlook is not None else np.zeros(count)
        made = {
            "all": lambda: choices.everyone(count), "none": lambda: choices.nobody(count), "invert": lambda: ~plans.selected,
            "layer": lambda: choices.nobody(count) if picked.layer is None else choices.layer_of(count, subject.experts, picked.layer),
            "rarest": lambda: choices.least(uses), "unimportant": lambda: choices.least(outlook.losses[:, 0] if outlook else uses),
            **{f"at {bits}": lambda bits=bits: choices.at_bits(plans.draft.plan, bits) for bits in WIDTHS},
        }  # fmt: skip
        plans.select(made[what]())
