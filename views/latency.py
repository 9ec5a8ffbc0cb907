"""Latency per token: where each decode token's time went, stacked; prefill apart, on its own scale."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from views.fonts import smaller
from views.legend import Entry
from views.parts import PARTS, parts_of
from views.plot import ChartPanel
from views.scope import prefill_row
from views.theme import Theme
from views.timeaxis import rows_within
from views.units import format_duration


class PrefillStrip(QWidget):
    """One request's prefill as one bar over the full width: its own scale, so that it cannot dwarf the decode tokens."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.theme = theme
        self.text, self.shares = "", [0.0] * len(PARTS)
        self.setFont(smaller(self.font()))
        self.setFixedHeight(self.fontMetrics().height() + 4)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_row(self, row: np.void | None, requests: int) -> None:
        """Show a prefill row of ``tokens``."""
        if row is None:
            text, shares = "", [0.0] * len(PARTS)
        else:
            parts = [sum(float(row[column]) for column in columns) for _, _, columns, _ in PARTS]
            shares = [part / max(1.0, sum(parts)) for part in parts]
            which = f" of request {int(row['request']) + 1}" if requests > 1 else ""
            count = int(row["tokens"])
            text = f"Prefill{which}: {format_duration(float(row['duration']))}, {count} prompt token{'s' * (count != 1)}"
            told = "\n".join(f"{part[0]}: {format_duration(ns)}" for part, ns in zip(PARTS, parts, strict=True))
            self.setToolTip(f"{text}\n{told}")
        if (text, shares) != (self.text, self.shares):
            self.text, self.shares = text, shares
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self.text:
            return
        painter = QPainter(self)
        width = self.fontMetrics().horizontalAdvance(self.text)
        painter.setPen(QColor(self.theme.muted))
        painter.drawText(QRect(8, 0, width + 4, self.height()), Qt.AlignmentFlag.AlignVCenter, self.text)
        x, room = 8.0 + width + 10, self.width() - width - 30
        if room >= 40:
            for share, (_, role, _, _) in zip(self.shares, PARTS, strict=True):
                end = x + share * room
                painter.fillRect(QRect(round(x), self.height() // 2 - 4, round(end) - round(x), 9), QColor(getattr(self.theme, role)))
                x = end
        painter.end()


class LatencyPanel(ChartPanel):
    """Stacked bars, one a decode token."""

    key = "latency"
    title = "Latency per token"
    hint = "Run a prompt: every token gets a bar of what its time was spent on."

    def build(self) -> None:
        self.row = self.add_row("ms per token", lambda value: f"{value:g}")
        self.stack = self.row.add_stack(tuple(role for _, role, _, _ in PARTS), self.theme)
        self.prefill = PrefillStrip(self.theme)
        self.body.insertWidget(1, self.prefill)
        self.legend.set_entries((
            Entry("", "", "mean of 0000 tokens: 000.0 ms", help="Time per token: of the one pointed at, else the mean of "
                  "the decode tokens in the range or shown"),
            *(Entry(name, role, "000.0", help=f"{text}; ms per token") for name, role, _, text in PARTS),
        ))  # fmt: skip

    def draw(self) -> None:
        rows, x0, x1 = self.decode_bars()
        x0, x1, parts = self.means(x0, x1, parts_of(rows))
        self.stack.set(x0, self.gapped(x0, x1), parts)
        if len(x0):
            self.row.scale(float(np.sum(parts, axis=0).max()))
        self._show_prefill()

    def figures(self) -> None:
        scope, rows = self.scope()
        means = [float(part.mean()) if len(part) else float("nan") for part in parts_of(rows)]
        texts = [f"{mean:.1f}" if mean == mean else "–" for mean in (sum(means), *means)]
        self.legend.set_values({"": f"{scope}: {texts[0]} ms", **dict(zip((part[0] for part in PARTS), texts[1:], strict=True))})
        self._show_prefill()

    def restyle(self, theme: Theme) -> None:
        self.prefill.theme = theme
        self.prefill.update()
        super().restyle(theme)

    def _show_prefill(self) -> None:
        """The prefill of the request pointed at, else of the last one in the range or view."""
        table, hovered = self.recording.tokens, self.selection.hover_token
        if hovered is not None and hovered < len(table):
            last = hovered
        else:
            span = self.range()
            last = (rows_within(self.recording, span)[1] if span is not None else self.high) - 1
        first = prefill_row(self.recording, max(0, last))
        self.prefill.show_row(None if first is None else table.rows(first, first + 1)[0], len(self.recording.requests))
