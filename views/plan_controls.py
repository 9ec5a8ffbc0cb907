"""The strips of the bitwidth panel: text and calibration above, the tolerance below, and the brush."""

from __future__ import annotations

import math

from PySide6.QtCore import QSignalBlocker, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QActionGroup
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout, QLabel, QMenu, QPushButton, QSizePolicy, QSlider, QToolButton, QWidget

from engine.events import WIDTHS
from views import plan_words as words
from views.colors import readable
from views.fonts import smaller
from views.pareto_plot import TOLERANCES
from views.plan_model import SIZES, PlanModel
from views.segments import Segments
from views.theme import Theme

STEPS = 1000
QUIET = 600  # ms without a change after which a tolerance counts as chosen
MEASURES = (
    ("perplexity", "Perplexity", "By how much perplexity rises, with its 95% interval over blocks of text"),
    ("kl", "KL", "Divergence from the model at its highest width, nats a token, with its 95% interval"),
)
CHOICES = (
    ("all", "All experts"), ("none", "None"), ("invert", "The others"), ("", ""), ("layer", "Layer of the pinned expert"),
    ("rarest", "Rarest 20%"), ("unimportant", "Least important 20%"), ("", ""),
    *((f"at {bits}", f"All at {bits} bits") for bits in WIDTHS),
)  # fmt: skip


class Header(QWidget):
    """On which text, Calibrate or Cancel, how far it is, and what the plot shows."""

    def __init__(self, plans: PlanModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._plans = plans
        self.text, self.go, self.state, self.measure = QToolButton(), QPushButton("Calibrate"), QLabel(), Segments(MEASURES)
        self.text.setToolTip("Texts to calibrate on: UTF-8, plain or .gz, form feeds part works. Every other work is for measuring.")
        self.text.setMenu(self._menu())
        self.text.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.go.clicked.connect(self._pressed)
        self.state.setFont(smaller(self.font()))
        self.state.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row = _row(self)
        row.addWidget(self.text)
        row.addWidget(self.go)
        row.addWidget(self.state, 1)
        row.addWidget(self.measure)

    def _menu(self) -> QMenu:
        """On what, on how much, and when."""
        plans, menu, sizes = self._plans, QMenu(self), QActionGroup(self)
        menu.setToolTipsVisible(True)
        menu.addAction("Choose texts…", lambda: plans.asked_for.emit("texts"))
        menu.addAction("This program's own sources", lambda: plans.asked_for.emit("sample"))
        menu.addSeparator()
        for tokens in SIZES:
            action = sizes.addAction(f"{tokens:,} tokens")
            action.setCheckable(True)
            action.setToolTip("To learn from, and as many to measure on: more take longer and make the intervals narrower")
            action.triggered.connect(lambda _=False, tokens=tokens: plans.use_tokens(tokens))
            menu.addAction(action)
        menu.addSeparator()
        beside = menu.addAction("Measure also while the model runs")
        beside.setCheckable(True)
        beside.setToolTip("Else it is held meanwhile. It takes time from the model, which is marked on the time axes")
        beside.toggled.connect(plans.let_beside)
        self.sizes, self.beside = dict(zip(SIZES, sizes.actions(), strict=True)), beside
        return menu

    def restyle(self, theme: Theme) -> None:
        self.measure.restyle(theme)
        self.state.setStyleSheet(f"color: {theme.muted}")

    def update_state(self) -> None:
        plans = self._plans
        names = [path.name for path in plans.texts]
        self.sizes[plans.tokens].setChecked(True)
        self.beside.setChecked(plans.beside)
        self.text.setText(f"Text: {names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)}" if names else "Text…")
        begun = plans.known.studied is not None
        self.go.setText("Cancel" if plans.busy else "Go on" if begun and not plans.known.covered else "Calibrate")
        wanted = plans.subject is not None and bool(plans.texts) and not plans.known.covered
        self.go.setEnabled(not plans.stopping if plans.busy else wanted)
        when = "also while the model runs" if plans.beside else "held while the model runs"
        self.go.setToolTip(
            "Stop measuring; what was found out is kept" if plans.busy else
            "This model is calibrated on these texts" if plans.known.covered else
            "Measure the plans of the curve that are not measured yet" if begun else
            f"Estimate every expert's importance and measure the plans of the curve. At low priority, {when}"
        )  # fmt: skip
        told = words.under_way(plans.progress, plans.held, plans.pace.left()) if plans.busy else ""
        told = "stopping…" if plans.stopping else told
        if plans.known.studied is not None and not plans.busy:
            told = words.in_force(plans.known.weighed.get(plans.in_force))
        self.state.setText(told)
        self.state.setToolTip(f"{told}\nOf the plan in force against the highest width: KL in nats a token, rise of perplexity. "
                              "Measured at low priority while the model rests")  # fmt: skip

    @Slot()
    def _pressed(self) -> None:
        if self._plans.busy:
            self._plans.cancel()
        else:
            self._plans.study()


class ToleranceRow(QWidget):
    """The tolerance as slider and number: the draft follows while it moves and is measured when it is let go of; Find corrects it."""

    def __init__(self, plans: PlanModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._plans = plans
        self.slider, self.number = QSlider(Qt.Orientation.Horizontal), QDoubleSpinBox()
        self.objective, self.find = QComboBox(), QToolButton()
        self.slider.setRange(0, STEPS)
        self.slider.setPageStep(STEPS // 10)
        self.slider.setMinimumWidth(70)
        self.slider.setAccessibleName("Tolerated rise of perplexity: slider")
        self.number.setRange(100 * TOLERANCES[0], 100 * TOLERANCES[1])
        self.number.setDecimals(2)
        self.number.setSingleStep(0.1)
        self.number.setSuffix(" %")
        self.number.setKeyboardTracking(False)
        self.number.setAccessibleName("Tolerated rise of perplexity")
        for editor in (self.slider, self.number):
            editor.setToolTip("By how much perplexity may rise over that at 16 bits, with the upper end of its 95% interval")
        for key, title, tip in words.OBJECTIVES:
            self.objective.addItem(title, key)
            self.objective.setItemData(self.objective.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.objective.setToolTip("What the plan makes least, within the tolerance")
        self.objective.setAccessibleName("Objective")
        self.find.setText("Find")
        self.find.setToolTip("Measure plans and correct until what is measured is within the tolerance, with the upper end of its interval")
        menu = QMenu(self.find)
        menu.addAction("The paper's procedure: two widths, importance by trial", lambda: self._plans.find(self.tolerance, "paper"))
        self.find.setMenu(menu)
        self.find.setPopupMode(QToolButton.ToolButtonPopupMode.MenuButtonPopup)
        self.find.clicked.connect(lambda: self._plans.find(self.tolerance))
        self._quiet = QTimer(self, interval=QUIET, singleShot=True)
        self._quiet.timeout.connect(self._plans.weigh)
        self.slider.valueChanged.connect(lambda place: self.set_tolerance(tolerance_at(place), not self.slider.isSliderDown()))
        self.slider.sliderReleased.connect(self._quiet.start)
        self.number.valueChanged.connect(lambda percent: self.set_tolerance(percent / 100, True))
        self.objective.currentIndexChanged.connect(self._aim)
        row = _row(self)
        row.addWidget(QLabel("Tolerate"))
        row.addWidget(self.slider, 1)
        row.addWidget(self.number)
        row.addWidget(self.objective)
        row.addWidget(self.find)
        self.tolerance = 0.02
        self._show()

    def restyle(self, theme: Theme) -> None:
        """Nothing here has a colour of its own."""

    def update_state(self) -> None:
        """Follow the draft, where it was made for a tolerance: undo takes the slider back too."""
        plans = self._plans
        known = plans.known.studied is not None
        for widget in (self.slider, self.number, self.objective):
            widget.setEnabled(known)
        self.find.setEnabled(known and not plans.busy)
        if plans.draft.tolerance is not None and not self.slider.isSliderDown():
            self.tolerance = plans.draft.tolerance
            self._show()

    @Slot(float, bool)
    def set_tolerance(self, tolerance: float, let_go: bool) -> None:
        """Propose the plan for it; where the user ``let_go``, measure it as well."""
        self.tolerance = tolerance
        self._show()
        self._plans.tolerate(tolerance)
        if let_go:
            self._quiet.start()
        else:
            self._quiet.stop()

    @Slot(int)
    def _aim(self, index: int) -> None:
        self._plans.objective = self.objective.itemData(index)
        self.set_tolerance(self.tolerance, True)

    def _show(self) -> None:
        with QSignalBlocker(self.slider), QSignalBlocker(self.number):
            self.slider.setValue(place_of(self.tolerance))
            self.number.setValue(100 * self.tolerance)


class Brush(QWidget):
    """What is selected, and to how many bits; files, and taking the plan into use."""

    painted = Signal(int)
    choosing = Signal(str)  # a key of CHOICES

    def __init__(self, plans: PlanModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._plans = plans
        self.count, self.choose = QLabel(), QToolButton()
        self.count.setFont(smaller(self.font()))
        self.count.setMinimumWidth(self.count.fontMetrics().horizontalAdvance("9,999 to") + 4)
        self.choose.setText("Select")
        self.choose.setToolTip("Select experts by what they are; or click, drag and Ctrl-click in the grids, or click a layer's number")
        menu = QMenu(self.choose)
        for key, title in CHOICES:
            if key:
                menu.addAction(title, lambda key=key: self.choosing.emit(key))
            else:
                menu.addSeparator()
        self.choose.setMenu(menu)
        self.choose.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.bits = {bits: QToolButton() for bits in WIDTHS}
        row = _row(self)
        row.setSpacing(3)
        row.addWidget(self.choose)
        row.addWidget(self.count)
        for bits, button in self.bits.items():
            button.setText(str(bits))
            button.setToolTip(f"Give the selected experts {bits} bits ({'6' if bits == 16 else bits})")
            button.setAccessibleName(f"{bits} bits for the selected experts")
            button.clicked.connect(lambda _=False, bits=bits: self.painted.emit(bits))
            row.addWidget(button)
        row.addStretch(1)
        self.open, self.save, self.back, self.take = (QPushButton(text) for text in ("Open…", "Save…", "Revert", "Apply"))
        self.open.clicked.connect(lambda: plans.asked_for.emit("open"))
        self.save.clicked.connect(lambda: plans.asked_for.emit("save"))
        self.back.clicked.connect(plans.revert)
        self.take.clicked.connect(plans.take)
        self.open.setToolTip("Edit a plan from a file")
        self.save.setToolTip("Keep this plan in a file, for here and for main.py run --plan")
        self.back.setToolTip("Edit the plan in force")
        self.take.setToolTip("Run with this plan: every expert takes its new bits when it is loaded next, nothing is reloaded")
        for button in (self.open, self.save, self.back, self.take):
            row.addWidget(button)

    def restyle(self, theme: Theme) -> None:
        for bits, button in self.bits.items():
            color = theme.bits(bits)
            button.setStyleSheet(
                f"QToolButton {{ background: {color}; color: {readable(color)}; border: 1px solid {theme.border}; border-radius: 3px;"
                f" padding: 2px 6px; }} QToolButton:disabled {{ background: {theme.raised}; color: {theme.muted}; }}"
                f" QToolButton:focus {{ border-color: {theme.text}; }}"
            )

    def update_state(self, read_only: bool) -> None:
        plans, chosen = self._plans, int(self._plans.selected.sum())
        self.count.setText(f"{chosen:,} to" if chosen else "none")
        for bits, button in self.bits.items():
            there = plans.subject is not None and bits in plans.subject.record_bytes
            button.setVisible(there)
            button.setEnabled(there and chosen > 0 and not read_only)
        self.back.setEnabled(plans.dirty)
        self.take.setEnabled(plans.dirty and not read_only)
        self.take.setDefault(plans.dirty)


def place_of(tolerance: float) -> int:
    """Where a tolerance lies on the slider, on a log scale."""
    low, high = TOLERANCES
    return round(STEPS * math.log(min(max(tolerance, low), high) / low) / math.log(high / low))


def tolerance_at(place: int) -> float:
    """The tolerance at a place of the slider, in whole hundredths of a percent."""
    low, high = TOLERANCES
    return min(max(round(low * (high / low) ** (place / STEPS), 4), low), high)


def _row(widget: QWidget) -> QHBoxLayout:
    row = QHBoxLayout(widget)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(6)
    return row
