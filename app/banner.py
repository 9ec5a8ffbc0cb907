"""What the window has to say, said in the window and not over it: banners with their remedy, and the progress of long work."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from engine.events import Progress
from views.units import format_bytes


class Banner(QFrame):
    """One line with what can be done about it. ``kind`` is info, warning or error."""

    def __init__(self, kind: str, text: str, remedies: dict[str, Callable[[], None]], closable: bool, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("banner")
        self.setProperty("kind", kind)
        self.label = QLabel(text, self)
        self.label.setWordWrap(True)
        self.label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)  # a long line takes two
        self.label.setSizePolicy(policy)
        row = QHBoxLayout(self)
        row.setContentsMargins(10, 5, 8, 5)
        row.addWidget(self.label, 1)
        self.buttons: dict[str, QPushButton] = {}
        for name, remedy in remedies.items():
            button = QPushButton(name, self)
            button.clicked.connect(remedy)
            row.addWidget(button)
            self.buttons[name] = button
        if closable:
            close = QToolButton(self)
            close.setText("✕")
            close.setAutoRaise(True)
            close.setToolTip("Dismiss")
            close.setAccessibleName("Dismiss")
            close.clicked.connect(self.dismiss)
            row.addWidget(close)

    def dismiss(self) -> None:
        parent = self.parentWidget()
        if isinstance(parent, Banners):
            parent.withdraw(self)


class Banners(QWidget):
    """The banners shown at present, one a topic: a newer one takes its place."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)
        self._shown: dict[str, Banner] = {}
        self.hide()

    def say(
        self, topic: str, kind: str, text: str, remedies: dict[str, Callable[[], None]] | None = None, closable: bool = True
    ) -> Banner:
        """Show a line until its topic is cleared or the user dismisses it."""
        self.clear(topic)
        banner = Banner(kind, text, remedies or {}, closable, self)
        self._shown[topic] = banner
        self._column.addWidget(banner)
        self.show()
        return banner

    def clear(self, *topics: str) -> None:
        for topic in topics:
            if topic in self._shown:
                self.withdraw(self._shown[topic])

    def withdraw(self, banner: Banner) -> None:
        self._shown = {topic: other for topic, other in self._shown.items() if other is not banner}
        self._column.removeWidget(banner)
        banner.hide()
        banner.deleteLater()
        self.setVisible(bool(self._shown))

    def text(self, topic: str) -> str:
        """The line of a topic; empty where there is none."""
        return self._shown[topic].label.text() if topic in self._shown else ""

    def banner(self, topic: str) -> Banner | None:
        return self._shown.get(topic)


class ProgressStrip(QFrame):
    """Stage, share, amount and Cancel of a load or a conversion; a bar that moves where the amount is not known."""

    cancelled = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("progress")
        self.stage, self.amount, self.bar = QLabel(self), QLabel(self), QProgressBar(self)
        self.amount.setProperty("role", "caption")
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(10)
        self.cancel = QPushButton("Cancel", self)
        self.cancel.clicked.connect(self._on_cancel)
        row = QHBoxLayout(self)
        row.setContentsMargins(10, 5, 8, 5)
        row.setSpacing(10)
        row.addWidget(self.stage)
        row.addWidget(self.bar, 1)
        row.addWidget(self.amount)
        row.addWidget(self.cancel)
        self.hide()

    def show_stage(self, text: str) -> None:
        """Work whose size is not known yet."""
        self.stage.setText(text)
        self.amount.setText("")
        self.bar.setRange(0, 0)
        self.cancel.setEnabled(True)
        self.show()

    def show_progress(self, progress: Progress | None) -> None:
        """``None``: the work is over."""
        if progress is None:
            self.hide()
            return
        if progress.total <= 0:
            self.show_stage(progress.stage)
            return
        if progress.stage != self.stage.text() or self.isHidden():
            self.show_stage(progress.stage)
        done = min(progress.done, progress.total)
        self.bar.setRange(0, 1000)
        self.bar.setValue(1000 * done // progress.total)
        share = f"{100 * done // progress.total}%"
        amounts = (format_bytes(done), format_bytes(progress.total)) if progress.unit == "bytes" else (f"{done:,}", f"{progress.total:,}")
        unit = "" if progress.unit == "bytes" else f" {progress.unit}"
        self.amount.setText(f"{share} · {amounts[0]} of {amounts[1]}{unit}")

    def _on_cancel(self) -> None:
        self.cancel.setEnabled(False)
        self.stage.setText("Stopping…")
        self.cancelled.emit()
