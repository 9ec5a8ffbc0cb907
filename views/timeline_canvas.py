"""The painted part of the timeline: time axis, lanes, what is highlighted, and where the mouse is."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtCore import QEvent, QLineF, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontMetrics, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF, QWheelEvent
from PySide6.QtWidgets import QScrollBar, QSizePolicy, QWidget

from views.lanes import Lanes
from views.navigator import Navigator
from views.plot import AXIS
from views.plotitems import Band, draw_marks
from views.theme import Theme
from views.timeaxis import Window, second_ticks
from views.timeline_arrows import Arrow
from views.timeline_arrows import paint as paint_arrows
from views.timeline_picture import Picture, Slice
from views.timeline_shades import code, inks, plates
from views.timeline_text import names, token_names

LEFT, RIGHT = AXIS + 3, 10  # px beside the lanes: as beside the charts with their margins, so that time lines up
TICK_SPACE = 90  # px
FRAMED = 6  # px: smaller slices get a dot instead of a frame
TEXT_LANE = 12  # px: lower lanes hold no text


class TimelineCanvas(QWidget):
    """Paints ``picture``. Mouse and keys over the lanes go to the navigator; the headers at the left unfold and scroll the layers."""

    resized = Signal()
    folded = Signal()  # the layers were unfolded or folded
    scrolled = Signal()

    def __init__(self, navigator: Navigator, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.navigator, self.theme = navigator, theme
        self.lanes = Lanes()
        self.window_shown: Window = (0, 1)
        self.picture: Picture | None = None
        self.bands: list[Band] = []
        self.edges: list[tuple[float, str]] = []  # ns and colour
        self.marks: list[tuple[int, str]] = []  # ns and text
        self.pointed: Slice | None = None
        self.arrows: list[Arrow] = []
        self.marked: tuple[int, int] | None = None  # expert whose slices are framed
        self.lit: tuple[int, int] | None = None  # expert beside whose slices all others recede
        self._image = QImage()
        self._texts: list[tuple[QRectF, str, QColor, str]] = []
        self._widths: dict[str, int] = {}
        self._small = QFont(self.font())
        self._small.setPointSizeF(max(7.0, self.font().pointSizeF() - 1))
        self._metrics = QFontMetrics(self._small)
        self._axis_height = self._metrics.height() + 2
        self.bar = QScrollBar(Qt.Orientation.Vertical, self)
        self.bar.hide()
        self.bar.valueChanged.connect(self._scroll)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Timeline")

    def minimumSizeHint(self) -> QSize:
        return QSize(200, 110)

    # --- places --------------------------------------------------------------------------------------------------------

    @property
    def ratio(self) -> float:
        return self.devicePixelRatioF()

    @property
    def span(self) -> int:
        """px over which the window is spread."""
        return max(1, self.width() - LEFT - RIGHT)

    def time_at(self, x: float) -> int:
        start, end = self.window_shown
        return int(start + (x - LEFT) / self.span * (end - start))

    def x_of(self, time: float) -> float:
        start, end = self.window_shown
        return LEFT + (time - start) / (end - start) * self.span

    def slice_at(self, place: QPointF) -> Slice | None:
        lane = self.lanes.at(place.y())
        if lane is None or self.picture is None or not LEFT <= place.x() <= LEFT + self.span:
            return None
        return self.picture.at(lane, (place.x() - LEFT) * self.ratio)

    def arrange(self, layers: int, slots: int) -> None:
        """Give every lane its place."""
        self.lanes.arrange(layers, slots, self._axis_height * (2 if self.marks else 1) + 1, self.height())
        hidden = layers - self.lanes.fits if self.lanes.fits else 0
        if hidden > 0:
            top, bottom = self.lanes.span("layer") or (0, 0)
            self.bar.setGeometry(self.width() - RIGHT, top, RIGHT, bottom - top)
            self.bar.setRange(0, hidden)
            self.bar.setPageStep(self.lanes.fits)
            self.bar.setValue(self.lanes.first)
        self.bar.setVisible(hidden > 0)

    def show_picture(self, picture: Picture, window: Window, lit: tuple[int, int] | None) -> None:
        """Paint another picture; ``lit`` is the expert beside which all others recede."""
        self.window_shown, self.picture = window, picture
        self._texts = list(self._fitting(picture))
        self.light(lit)

    def light(self, lit: tuple[int, int] | None) -> None:
        if self.picture is not None:
            self._image = self.picture.paint(self.theme, lit)
        self.lit = lit
        self.update()

    def _fitting(self, picture: Picture) -> Iterator[tuple[QRectF, str, QColor, str]]:
        """The texts that fit into their slices, with a colour that can be read on them, and that of their plate or nothing."""
        ratio, colors, under = self.ratio, [QColor(ink) for ink in inks(self.theme)], plates(self.theme)
        for found, x0, x1, shade in picture.texts():
            if found.lane.height < TEXT_LANE:
                continue
            room = (x1 - x0) / ratio - 5
            choices = names(found.span) if found.span is not None else token_names(picture.recording, found.token)
            text = next((text for text in choices if self._width(text) <= room), None)
            if text is not None:
                rect = QRectF(LEFT + x0 / ratio, found.lane.top, (x1 - x0) / ratio - 1, found.lane.height - 1)
                ink = code(found.lane.kind, shade) - 1
                yield rect, text, colors[ink], under[ink]

    def _width(self, text: str) -> int:
        width = self._widths.get(text)
        if width is None:
            if len(self._widths) > 5000:
                self._widths.clear()
            width = self._widths[text] = self._metrics.horizontalAdvance(text)
        return width

    # --- painting ------------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        if self.picture is None:
            return
        painter = QPainter(self)
        painter.setFont(self._small)
        theme, top, bottom = self.theme, self.lanes.top, self.lanes.bottom
        area = QRectF(LEFT, top, self.span, bottom - top)
        painter.fillRect(self.rect(), QColor(theme.window))
        painter.fillRect(area, QColor(theme.base))
        painter.save()
        painter.setClipRect(area)
        for band in self.bands:
            left, right = self.x_of(band.start), self.x_of(band.end)
            painter.fillRect(QRectF(left, top, max(1.0, right - left), bottom - top), QColor(band.color))
        painter.restore()
        self._paint_axis(painter, area)
        image = self._image
        painter.drawImage(QRectF(LEFT, top, image.width() / self.ratio, image.height() / self.ratio), image, QRectF(image.rect()))
        for rect, text, ink, plate in self._texts:
            if self.lit is None or rect.top() == top:  # on receding slices no ink can be read; those of tokens stay
                if plate:
                    room, high = min(rect.width(), self._width(text) + 4.0), min(rect.height() - 2, self._metrics.height())
                    painter.fillRect(QRectF(rect.center().x() - room / 2, rect.center().y() - high / 2, room, high), QColor(plate))
                painter.setPen(ink)
                painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, text)
        self._paint_headers(painter)
        painter.setClipRect(QRectF(LEFT, top - self._axis_height, self.span + 1, self.height()))
        self._paint_marked(painter)
        if self.arrows:
            paint_arrows(painter, self.arrows, theme, LEFT, self.ratio)
        for time, color in self.edges:
            self._upright(painter, self.x_of(time), top, bottom, color)
        if self.marks:
            places = [(self.x_of(time), text) for time, text in self.marks if self.window_shown[0] <= time <= self.window_shown[1]]
            strip = area.adjusted(0, -self._axis_height, 0, 0)
            draw_marks(painter, places, strip, QColor(theme.mark), QColor(theme.window))
        self._outline(painter, self.pointed)
        painter.setClipping(False)
        if self.hasFocus():
            painter.setPen(QPen(QColor(theme.accent), 1))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        painter.end()

    def _paint_axis(self, painter: QPainter, area: QRectF) -> None:
        start, end = self.window_shown
        places, texts = second_ticks(start / 1e9, end / 1e9, max(2, self.span // TICK_SPACE))
        for place, text in zip(places, texts, strict=True):
            x = self.x_of(place * 1e9)
            self._upright(painter, x, area.top(), area.bottom(), self.theme.grid)
            self._upright(painter, x, self._axis_height - 3, self._axis_height, self.theme.border)
            width = self._metrics.horizontalAdvance(text)
            if x - width / 2 >= LEFT - 20 and x + width / 2 <= self.width():
                painter.setPen(QColor(self.theme.muted))
                painter.drawText(QPointF(x - width / 2, self._metrics.ascent()), text)

    def _paint_headers(self, painter: QPainter) -> None:
        theme, height = self.theme, self._metrics.height()
        painter.setPen(QPen(QColor(theme.grid), 1))
        painter.drawLines([QLineF(0, lane.bottom - 0.5, LEFT + self.span, lane.bottom - 0.5) for lane in self.lanes.shown])
        free = 0.0
        for lane in self.lanes.shown:
            middle = lane.top + lane.height / 2
            # Where lanes are lower than text only every second or third is named.
            if middle - height / 2 < free - 2:
                continue
            free = middle + height / 2
            painter.setPen(QColor(theme.text if lane.kind == "compute" else theme.muted))
            rect = QRectF(4, middle - height / 2, LEFT - 10, height)
            painter.drawText(rect, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, lane.title)
            if lane.kind == "compute" and self.lanes.layers:
                self._arrow(painter, QPointF(6, middle))
        if self.marks:
            painter.setPen(QColor(theme.muted))
            rect = QRectF(4, self._axis_height, LEFT - 10, self._axis_height)
            painter.drawText(rect, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, "Settings")

    def _arrow(self, painter: QPainter, middle: QPointF) -> None:
        """Points down where the layers are unfolded, right where they are not."""
        right, down = ((-2, -4), (3, 0), (-2, 4)), ((-4, -2), (4, -2), (0, 3))
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self.theme.muted))
        painter.drawPolygon(QPolygonF([middle + QPointF(*point) for point in (down if self.lanes.expanded else right)]))
        painter.restore()

    def _paint_marked(self, painter: QPainter) -> None:
        """The pinned or hovered expert's slices, framed, or a dot below them where they are small."""
        if self.picture is None or self.marked is None:
            return
        frames, dots = [], []
        for lane, x0, x1 in self.picture.places(self.marked):
            left, width = LEFT + x0 / self.ratio, (x1 - x0) / self.ratio
            if width >= FRAMED:
                frames.append(QRectF(round(left), lane.top, round(width) - 2.0, lane.height - 2))
            else:
                dots.append(QRectF(round(left + width / 2) - 1.0, lane.bottom - 5, 3, 4))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(self.theme.text), 1))
        painter.drawRects(frames)
        painter.setPen(QPen(QColor(self.theme.base), 1))
        painter.setBrush(QColor(self.theme.text))
        painter.drawRects(dots)

    def _outline(self, painter: QPainter, pointed: Slice | None) -> None:
        if pointed is None or (lane := self.lanes.like(pointed.lane)) is None:
            return
        left, right = max(LEFT - 2.0, self.x_of(pointed.start)), min(LEFT + self.span + 2.0, self.x_of(pointed.end))
        rect = QRectF(round(left), lane.top, max(2.0, round(right - left)), lane.height - 1)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(self.theme.base), 1))
        painter.drawRect(rect.adjusted(0, 0, -1, -1))
        painter.setPen(QPen(QColor(self.theme.text), 1))
        painter.drawRect(rect.adjusted(-1, -1, 0, 0))

    def _upright(self, painter: QPainter, x: float, top: float, bottom: float, color: str) -> None:
        painter.setPen(QPen(QColor(color), 1))
        painter.drawLine(QLineF(round(x) + 0.5, top, round(x) + 0.5, bottom))

    # --- events --------------------------------------------------------------------------------------------------------

    def scroll_by(self, layers: int) -> None:
        self.bar.setValue(self.bar.value() + layers)

    def _scroll(self, first: int) -> None:
        if first != self.lanes.first:
            self.lanes.scroll_to(first)
            self.scrolled.emit()

    def fold(self) -> None:
        """Unfold the layers, or fold them."""
        self.lanes.expanded = not self.lanes.expanded
        self.folded.emit()

    def resizeEvent(self, event: object) -> None:
        self.resized.emit()

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.DevicePixelRatioChange:
            self.resized.emit()
        return super().event(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        if event.position().x() < LEFT:
            self.scroll_by(-round(event.angleDelta().y() / 40))
            event.accept()
        else:
            self.navigator.wheel(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.position().x() >= LEFT:
            self.navigator.press(event)
        elif event.button() == Qt.MouseButton.LeftButton:
            lane = self.lanes.at(event.position().y())
            if lane is not None and lane.kind in ("compute", "layer"):
                self.fold()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        over = self.lanes.at(event.position().y()) if event.position().x() < LEFT else None
        foldable = over is not None and over.kind in ("compute", "layer")
        self.setCursor(Qt.CursorShape.PointingHandCursor if foldable else Qt.CursorShape.ArrowCursor)
        self.navigator.move(event, self.span)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self.navigator.release(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.position().x() >= LEFT:
            self.navigator.fit()

    def leaveEvent(self, event: object) -> None:
        self.navigator.leave()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        page = max(1, self.lanes.fits - 1)
        steps = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1, Qt.Key.Key_PageUp: -page, Qt.Key.Key_PageDown: page}
        if self.navigator.key(event):
            return
        if event.key() == Qt.Key.Key_E and not event.modifiers():
            self.fold()
        elif event.key() in steps and self.bar.isVisible():
            self.scroll_by(steps[event.key()])
        else:
            event.ignore()
