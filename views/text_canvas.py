"""The painted text: the lines that are on the screen, each token on its tint, and where the mouse is."""

from __future__ import annotations

import math
from collections.abc import Callable, Set

from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, QSize, Qt, Signal, Slot
from PySide6.QtGui import (
    QBrush,
    QColor,
    QFocusEvent,
    QFontMetricsF,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QStaticText,
    QTransform,
)
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QSizePolicy, QToolButton, QWidget

from views.text_layout import PROMPT, Box, Line, TextLayout
from views.text_tints import PREFILL, UNKNOWN
from views.theme import Theme

MARGIN = 8
HANGING = 14.0  # px at the right, where a line's newline may stand
GAP = 6  # px between lines, where the underlines are
CORNER = 6  # px of the triangle on a token that is marked
_KEPT = 20_000  # texts kept ready to be drawn
_SCROLLING = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)

Rows = Callable[[int, int], Set[int]]


class TextCanvas(QAbstractScrollArea):
    """Scrolls over ``text`` and follows its end until the user scrolls up.

    Asks for what it is about to paint, token rows from first to stop: ``steps`` their place in ``palette``, ``used`` those that the
    expert shown has worked for; ``differing`` those to mark in the corner; ``heading`` the words over a request.
    """

    pointed = Signal(object)  # the row under the mouse, or None
    clicked = Signal(int)

    def __init__(
        self, theme: Theme, steps: Callable[[int, int], list[int]], used: Rows, differing: Rows, heading: Callable[[int], str],
        parent: QWidget | None = None,
    ) -> None:  # fmt: skip
        super().__init__(parent)
        self.theme, self._steps, self._used, self._differing, self._heading = theme, steps, used, differing, heading
        self.text = TextLayout(self._metrics().horizontalAdvance)
        self.palette_: list[QColor] = []
        self.message = ""
        self.pinned: int | None = None
        self.hovered: int | None = None
        self.marked = range(0)  # rows of the selected range
        self.following = True
        self._ready: dict[str, QStaticText] = {}
        self._fit()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Generated text")
        self.viewport().setMouseTracking(True)
        self.verticalScrollBar().valueChanged.connect(self._scrolled)
        self.newest = QToolButton(self.viewport())
        self.newest.setText("↓ Newest")
        self.newest.setToolTip("Follow the newest token again")
        self.newest.setCursor(Qt.CursorShape.ArrowCursor)
        self.newest.clicked.connect(self.follow)
        self.newest.hide()

    def sizeHint(self) -> QSize:
        return QSize(320, 5 * self._height)

    def minimumSizeHint(self) -> QSize:
        return QSize(120, 2 * self._height)

    def extend(self) -> None:
        """The text has grown, or is another: bring scroll bar and picture in line."""
        page = self.viewport().height()
        self.verticalScrollBar().setRange(0, max(0, len(self.text.lines) * self._height + MARGIN - page))
        self.verticalScrollBar().setPageStep(page)
        self.verticalScrollBar().setSingleStep(self._height)
        if self.following:
            self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())
        self.viewport().update()

    @Slot()
    def follow(self) -> None:
        """Show the end, and go along with it."""
        self.following = True
        self.newest.hide()
        self.extend()

    def reveal(self, row: int) -> None:
        """Scroll as little as it takes to see a token."""
        if not 0 <= row < self.text.rows:
            return
        top, bar = self.text.line_of(row) * self._height, self.verticalScrollBar()
        # A line of context stays above and below, where there is room for it.
        around = self._height if bar.pageStep() > 4 * self._height else 0
        if top < bar.value():
            bar.setValue(top - around)
        elif top + self._height > bar.value() + bar.pageStep():
            bar.setValue(top + self._height + around - bar.pageStep())

    def row_at(self, place: QPointF) -> int | None:
        """The token at a place of the viewport."""
        y = int(place.y()) + self.verticalScrollBar().value()
        return self.text.row_at(y // self._height, place.x() - MARGIN)

    def boxes_of(self, row: int) -> list[QRect]:
        """Where a token is in the viewport, one rectangle a line."""
        if not 0 <= row < self.text.rows:
            return []
        found = []
        for index in range(self.text.line_of(row), len(self.text.lines)):
            line = self.text.lines[index]
            if line.first > row:
                break
            boxes = [box for box in line.boxes if box.row == row]
            if boxes:
                found.append(self._rect(index, boxes[0], boxes[-1]))
        return found

    def restyle(self, theme: Theme, palette: list[str]) -> None:
        """Take another theme, and the tints from least to most."""
        self.theme = theme
        self.palette_ = [QColor(color) for color in palette]
        dot = QPixmap(4, 2)
        dot.fill(Qt.GlobalColor.transparent)
        painter = QPainter(dot)
        painter.fillRect(0, 0, 2, 2, QColor(theme.text))
        painter.end()
        self._dots = QBrush(dot)
        self.newest.setStyleSheet(
            f"QToolButton {{ background: {theme.raised}; color: {theme.text}; border: 1px solid {theme.accent}; border-radius: 4px;"
            " padding: 2px 8px; }"
            f"QToolButton:hover {{ background: {theme.border}; }}"
        )
        self.viewport().update()

    # --- painting --------------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        painter.fillRect(self.viewport().rect(), QColor(self.theme.base))
        if self.text.lines:
            self._paint_lines(painter)
        else:
            painter.setPen(QColor(self.theme.muted))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.viewport().rect().adjusted(12, 8, -12, -8), flags, self.message)
        if self.hasFocus():
            painter.setPen(QPen(QColor(self.theme.accent), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(self.viewport().rect().adjusted(0, 0, -1, -1))
        painter.end()

    def _paint_lines(self, painter: QPainter) -> None:
        begin, end = self._visible()
        lines = self.text.lines
        first, stop = lines[begin].first, lines[end].first + 1 if end < len(lines) else self.text.rows
        stop = min(stop, self.text.rows)
        steps, used = self._steps(first, stop), self._used(first, stop)
        for index in range(begin, end):
            if lines[index].request >= 0:
                self._paint_heading(painter, index, lines[index])
            self._paint_boxes(painter, index, lines[index].boxes, steps, first, used)
        self._paint_corners(painter, self._differing(first, stop))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for row, thick in ((self.pinned, 2), (self.hovered, 1)):
            if row is not None and first <= row < stop:
                painter.setPen(QPen(QColor(self.theme.text), thick))
                for rect in self.boxes_of(row):
                    painter.drawRect(QRectF(rect).adjusted(-0.5, -0.5, 0.5, 0.5) if thick > 1 else QRectF(rect).adjusted(0, 0, -1, 0))

    def _paint_heading(self, painter: QPainter, index: int, line: Line) -> None:
        """The words, and a rule from there to the edge."""
        rect = QRect(MARGIN, self._top(index), self.viewport().width() - 2 * MARGIN, self._height - 2)
        text = self.fontMetrics().elidedText(self._heading(line.request), Qt.TextElideMode.ElideRight, rect.width())
        painter.setPen(QColor(self.theme.muted))
        painter.drawText(rect, Qt.AlignmentFlag.AlignVCenter, text)
        left = rect.left() + self.fontMetrics().horizontalAdvance(text) + 8
        if left < rect.right():
            painter.fillRect(left, rect.center().y() + 1, rect.right() - left, 1, QColor(self.theme.border))

    def _paint_boxes(self, painter: QPainter, index: int, boxes: list[Box], steps: list[int], first: int, used: Set[int]) -> None:
        top, high = self._top(index), self._high
        accent, muted, ink = QColor(self.theme.accent), QColor(self.theme.muted), QColor(self.theme.text)
        painter.setPen(muted)
        prompt = True
        for box in boxes:
            x, row = round(box.x) + MARGIN, box.row
            width = round(box.x + box.width) + MARGIN - x
            if row == PROMPT:
                painter.drawStaticText(x, top + 1, self._static(box.text))
                continue
            if prompt:
                painter.setPen(ink)
                prompt = False
            if steps[row - first] == PREFILL:
                painter.setPen(muted)
                painter.drawRect(x, top, width - 2, high - 1)
                painter.setPen(ink)
            elif steps[row - first] != UNKNOWN:
                painter.fillRect(x, top, max(1, width - 1), high, self.palette_[steps[row - first]])
            if row in self.marked:
                painter.fillRect(x, top + high + 3, width, 2, accent)
            if row in used:
                painter.setBrushOrigin(x, top + high)
                painter.fillRect(x, top + high, width - 1, 2, self._dots)
            if box.text:
                painter.drawStaticText(x, top + 1, self._static(box.text))

    def _paint_corners(self, painter: QPainter, rows: Set[int]) -> None:
        """A triangle in the upper right of each of these."""
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self.theme.text))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for row in rows:
            boxes = self.boxes_of(row)
            if boxes:
                right, top = boxes[0].right(), boxes[0].top() + 1
                painter.drawPolygon([QPointF(right - CORNER, top), QPointF(right, top), QPointF(right, top + CORNER)])
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)

    def _static(self, text: str) -> QStaticText:
        """A text laid out once: the same pieces come again and again."""
        ready = self._ready.get(text)
        if ready is None:
            if len(self._ready) > _KEPT:
                self._ready.clear()
            ready = QStaticText(text)
            ready.setTextFormat(Qt.TextFormat.PlainText)
            ready.setPerformanceHint(QStaticText.PerformanceHint.AggressiveCaching)
            ready.prepare(QTransform(), self.font())
            self._ready[text] = ready
        return ready

    # --- places --------------------------------------------------------------------------------------------------------

    def _metrics(self) -> QFontMetricsF:
        return QFontMetricsF(self.font())

    def _fit(self) -> None:
        """Sizes that follow from the font."""
        self._high = math.ceil(self._metrics().height()) + 2
        self._height = self._high + GAP

    def _visible(self) -> tuple[int, int]:
        """First and one past the last line on the screen."""
        value = self.verticalScrollBar().value()
        begin = min(value // self._height, len(self.text.lines) - 1)
        return begin, min(len(self.text.lines), (value + self.viewport().height()) // self._height + 1)

    def _top(self, index: int) -> int:
        """Where the boxes of a line begin in the viewport."""
        return index * self._height - self.verticalScrollBar().value() + 3

    def _rect(self, index: int, first: Box, last: Box) -> QRect:
        left = round(first.x) + MARGIN
        return QRect(left, self._top(index) - 1, max(3, round(last.x + last.width) + MARGIN - left), self._high + 1)

    # --- events --------------------------------------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        # The scroll bar's room is always left free, so that its coming does not break the lines anew.
        self.text.resize(max(40.0, self.width() - MARGIN - HANGING - self.verticalScrollBar().sizeHint().width()))
        hint = self.newest.sizeHint()
        self.newest.setGeometry(self.viewport().width() - hint.width() - 6, self.viewport().height() - hint.height() - 6, *hint.toTuple())
        self.extend()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._ready.clear()
            self._fit()
            self.text.remeasure(self._metrics().horizontalAdvance)
            self.extend()

    @Slot(int)
    def _scrolled(self, value: int) -> None:
        self.following = value >= self.verticalScrollBar().maximum()
        self.newest.setVisible(not self.following)

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        self.viewport().update()  # moving the picture would move the button on it

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self.pointed.emit(self.row_at(event.position()))

    def leaveEvent(self, event: QEvent) -> None:
        self.pointed.emit(None)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        row = self.row_at(event.position())
        if row is not None and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit(row)

    def focusInEvent(self, event: QFocusEvent) -> None:
        self.viewport().update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        self.viewport().update()

    def event(self, event: QEvent) -> bool:
        # Esc lets go of a pinned token before it means anything to the window.
        escape = event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Escape
        if escape and self.pinned is not None:
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in _SCROLLING:
            super().keyPressEvent(event)
        else:
            event.ignore()  # the panel moves the pin
