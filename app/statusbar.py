"""The line at the bottom: where the model lies, how it is read and computed, what was lost, where the session goes."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QStatusBar, QWidget

from engine.recording.recording import Recording
from views.units import format_bytes


class StatusBar(QStatusBar):
    """Facts about the recording shown."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeGripEnabled(False)
        self.path = self._label("Folder of the model", 1)
        self.kernel = self._label("What multiplies expert weights, and what runs the model while decoding")
        self.reads = self._label("Whether expert reads bypass the page cache")
        self.lost = self._label("Records dropped because the window could not keep up")
        self.file = self._label("Where this session is recorded")

    def show_recording(self, recording: Recording) -> None:
        model = recording.model
        self._set(self.path, _short(_homely(model.path), 46) if model else "", model.path if model else "")
        self._set(self.kernel, f"{model.kernel} · {model.decode} decode" if model else "")
        self._set(self.reads, ("Direct I/O" if model.direct_io else "No direct I/O: page cache dropped") if model else "")
        self._alarm(self.reads, bool(model and not model.direct_io))
        self._set(self.lost, f"{recording.lost:,} records lost")
        self._alarm(self.lost, recording.lost > 0)
        if recording.path is None:
            self._set(self.file, "Not written to disk")
        else:
            size = _size(recording.path)
            self._set(self.file, f"{_short(recording.path.name, 40)} · {format_bytes(size)}" if size else _short(recording.path.name, 40),
                      str(recording.path))  # fmt: skip

    def _label(self, tip: str, stretch: int = 0) -> QLabel:
        label = QLabel(self)
        label.setToolTip(tip)
        label.setProperty("tip", tip)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.addPermanentWidget(label, stretch)
        return label

    def _set(self, label: QLabel, text: str, detail: str = "") -> None:
        if label.text() != text:
            label.setText(text)
            label.setToolTip(f"{label.property('tip')}\n{detail}".strip())

    def _alarm(self, label: QLabel, alarm: bool) -> None:
        if bool(label.property("alarm")) != alarm:
            label.setProperty("alarm", alarm)
            label.style().unpolish(label)
            label.style().polish(label)


def _homely(path: str) -> str:
    """With ~ for the user's own folder."""
    home = str(Path.home()).rstrip("/\\")
    return f"~{path[len(home) :]}" if path.startswith((f"{home}/", f"{home}\\")) else path


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length // 3]}…{text[-(length - length // 3 - 1) :]}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
