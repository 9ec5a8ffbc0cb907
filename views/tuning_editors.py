"""One editor widget for each kind of setting. An editor shows a value and says what the user wants; it decides nothing."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QSignalBlocker, Qt, Signal, Slot
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QWidget,
)

from engine.settings import Setting, Value


class Editor(QWidget):
    """``edited`` carries what the user wants, as typed or as a value; it is emitted for the user's doings only."""

    edited = Signal(object)

    def __init__(self, setting: Setting, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setting = setting
        self._layout = QHBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(4)

    def show_value(self, value: Value) -> None:
        """Show the value in force."""
        raise NotImplementedError

    def show_effective(self, effective: Value | None) -> None:
        """Take what the value came to; most editors have no use for it."""

    def offer(self, choices: tuple[Value, ...]) -> None:
        """Take the values there are to choose from."""

    def held(self) -> bool:
        """The user is in the middle of a gesture that must not be disturbed."""
        return False

    def _adopt(self, widget: QWidget, stretch: int = 1) -> None:
        """Place the widget, and keep the wheel for scrolling unless the widget has the keyboard."""
        widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        if stretch:  # as wide as the panel allows, not as wide as the longest choice
            widget.setSizePolicy(QSizePolicy.Policy.Ignored, widget.sizePolicy().verticalPolicy())
            widget.setMinimumWidth(60)
        widget.installEventFilter(self)
        self._layout.addWidget(widget, stretch)
        if self.focusProxy() is None:
            self.setFocusProxy(widget)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)


class ChoiceEditor(Editor):
    """A value out of a few."""

    def __init__(self, setting: Setting, parent: QWidget | None = None) -> None:
        super().__init__(setting, parent)
        self._box = QComboBox(self)
        self._adopt(self._box)
        self.offer(setting.choices)
        self._box.activated.connect(self._activated)

    def offer(self, choices: tuple[Value, ...]) -> None:
        shown = self._box.currentData()
        with QSignalBlocker(self._box):
            self._box.clear()
            for choice in choices:
                self._box.addItem(self.setting.with_unit(choice), choice)
        if shown is not None:
            self.show_value(shown)

    def show_value(self, value: Value) -> None:
        index = self._box.findData(value)
        if index < 0:  # a recorded session may come from a machine with other devices: show it all the same
            self._box.addItem(self.setting.with_unit(value), value)
            index = self._box.count() - 1
        self._box.setCurrentIndex(index)

    @Slot(int)
    def _activated(self, index: int) -> None:
        self.edited.emit(self._box.itemData(index))


class SwitchEditor(Editor):
    """Yes or no."""

    def __init__(self, setting: Setting, parent: QWidget | None = None) -> None:
        super().__init__(setting, parent)
        self._box = QCheckBox("Off", self)
        self._adopt(self._box)
        self._box.toggled.connect(self._toggled)
        self._box.clicked.connect(self._clicked)

    def show_value(self, value: Value) -> None:
        self._box.setChecked(bool(value))

    @Slot(bool)
    def _toggled(self, on: bool) -> None:
        self._box.setText("On" if on else "Off")

    @Slot(bool)
    def _clicked(self, on: bool) -> None:
        self.edited.emit(on)


class NumberEditor(Editor):
    """A number within a range, with its unit. What is typed counts when Enter is pressed or the field is left."""

    def __init__(self, setting: Setting, parent: QWidget | None = None) -> None:
        super().__init__(setting, parent)
        self._box: QSpinBox | QDoubleSpinBox
        step = setting.step or 1
        if isinstance(setting.default, int):
            self._box = QSpinBox(self)
            low, high = int(setting.minimum or 0), int(setting.maximum if setting.maximum is not None else 2**31 - 1)
            self._box.setRange(low, high)
            self._box.setSingleStep(int(step))
            self._box.setGroupSeparatorShown(high >= 10_000)
        else:
            self._box = QDoubleSpinBox(self)
            self._box.setDecimals(max(len(f"{step:g}".partition(".")[2]), 2))
            self._box.setRange(setting.minimum or 0.0, setting.maximum if setting.maximum is not None else 1e9)
            self._box.setSingleStep(step)
        self._box.setKeyboardTracking(False)
        self._adopt(self._box)
        self._box.valueChanged.connect(self._changed)

    def show_value(self, value: Value) -> None:
        with QSignalBlocker(self._box):
            self._box.setValue(value)  # type: ignore[arg-type]
            self._count()

    def _count(self) -> None:
        """One thread, two threads."""
        self._box.setSuffix(f" {self.setting.unit_of(self._box.value())}".rstrip())

    @Slot(int)
    @Slot(float)
    def _changed(self, value: float) -> None:
        self._count()
        # A double box shows two decimals and computes 0.8 + 0.05 as 0.8500000000000001.
        self.edited.emit(value if isinstance(self._box, QSpinBox) else round(float(value), self._box.decimals()))


class PathEditor(Editor):
    """A file: typed, chosen from the ones offered, or looked for with a dialog. Empty is a value too."""

    def __init__(self, setting: Setting, parent: QWidget | None = None) -> None:
        super().__init__(setting, parent)
        self._box = QComboBox(self)
        self._box.setEditable(True)
        self._box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self._adopt(self._box)
        line = self._box.lineEdit()
        line.setPlaceholderText("none")
        line.setClearButtonEnabled(True)
        self._browse = QToolButton(self)
        self._browse.setText("…")
        self._browse.setToolTip(f"Look for a file: {setting.title.lower()}")
        self._browse.setAccessibleName(f"{setting.title}: look for a file")
        self._adopt(self._browse, 0)
        self._shown = ""
        self.offer(setting.choices)
        self._box.activated.connect(self._finished)
        line.editingFinished.connect(self._finished)
        line.textChanged.connect(self._typed)
        self._browse.clicked.connect(self._look)

    def offer(self, choices: tuple[Value, ...]) -> None:
        with QSignalBlocker(self._box):
            self._box.clear()
            self._box.addItems([str(choice) for choice in choices])
            self._box.setEditText(self._shown)

    def show_value(self, value: Value) -> None:
        self._shown = str(value)
        self._box.setEditText(self._shown)
        self._box.lineEdit().setToolTip(self._shown)

    @Slot(str)
    def _typed(self, text: str) -> None:
        # The clear button leaves the field focused without an editingFinished: an emptied field is a choice.
        if not text and self._shown and not self._box.lineEdit().isModified():
            return
        if not text and self._shown:
            self._finished()

    @Slot()
    def _finished(self) -> None:
        text = self._box.currentText().strip()
        if text != self._shown:
            self._shown = text
            self.edited.emit(text)

    @Slot()
    def _look(self) -> None:
        dialog = QFileDialog(self, f"{self.setting.title}: choose a file", self._shown)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(self._chosen)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    @Slot(str)
    def _chosen(self, path: str) -> None:
        self._box.setEditText(path)
        self._finished()


class TextEditor(Editor):
    """Any other text."""

    def __init__(self, setting: Setting, parent: QWidget | None = None) -> None:
        super().__init__(setting, parent)
        self._line = QLineEdit(self)
        self._adopt(self._line)
        self._line.editingFinished.connect(self._finished)

    def show_value(self, value: Value) -> None:
        self._line.setText(str(value))

    @Slot()
    def _finished(self) -> None:
        if self._line.isModified():
            self._line.setModified(False)
            self.edited.emit(self._line.text().strip())
