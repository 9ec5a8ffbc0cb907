"""The prompt: an editor of plain text, and the samples to begin with."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent, QTextCursor
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QPlainTextEdit, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from profiles.prompts import Prompt
from views.theme import Theme

LINES, FEWEST = 3, 2  # of text that are seen unless the user wants more: with room, and without
HINT = "Write a prompt, or choose a sample. Ctrl+Return runs it."


class PromptEditor(QPlainTextEdit):
    """Ctrl+Return submits, Tab leaves; every other key is text."""

    submitted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setPlaceholderText(HINT)
        self.setTabChangesFocus(True)
        self.setAccessibleName("Prompt")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def height_of(self, lines: int) -> int:
        """Pixels that so many lines of text take, and none of the next one."""
        return lines * self.fontMetrics().lineSpacing() + 2 * self.frameWidth() + int(self.document().documentMargin())

    def sizeHint(self) -> QSize:
        return QSize(280, self.height_of(LINES))

    def minimumSizeHint(self) -> QSize:
        return QSize(80, self.height_of(FEWEST))

    def event(self, event: QEvent) -> bool:
        # Else the window's shortcut takes the key, which does nothing while a request runs.
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and _submits(event):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if _submits(event):
            self.submitted.emit()
        else:
            super().keyPressEvent(event)


class PromptBox(QWidget):
    """The editor under a line with the chooser of samples. Starts with the first sample."""

    submitted = Signal(str)

    def __init__(self, prompts: Sequence[Prompt], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.editor = PromptEditor(self)
        self.editor.submitted.connect(self._submit)
        self.samples = QToolButton(self)
        self.samples.setText("Samples")
        self.samples.setAutoRaise(True)
        self.samples.setToolTip("Put a sample prompt in the editor")
        self.samples.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.samples.setMenu(self._menu(prompts))
        self.samples.setEnabled(bool(prompts))
        title = QLabel("Prompt", self)
        title.setProperty("role", "caption")
        top = QHBoxLayout()
        top.addWidget(title)
        top.addStretch(1)
        top.addWidget(self.samples)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(top)
        column.addWidget(self.editor)
        self.setFocusProxy(self.editor)
        if prompts:
            self.editor.setPlainText(prompts[0].text)

    def text(self) -> str:
        """The prompt as it stands in the editor."""
        return self.editor.toPlainText()

    def height_of(self, lines: int) -> int:
        """Pixels of all of it with so many lines in the editor."""
        return self.sizeHint().height() - self.editor.sizeHint().height() + self.editor.height_of(lines)

    def restyle(self, theme: Theme) -> None:
        """Frame the editor in the theme's colours, brighter while it has the keyboard."""
        self.editor.setStyleSheet(
            f"QPlainTextEdit {{ background: {theme.base}; color: {theme.text}; border: 1px solid {theme.border}; border-radius: 4px; }}"
            f"QPlainTextEdit:focus {{ border-color: {theme.accent}; }}"
        )

    def choose(self, prompt: Prompt) -> None:
        """Put a sample in the place of what is there; undo brings that back."""
        cursor = self.editor.textCursor()
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.insertText(prompt.text)
        self.editor.setFocus()

    def _menu(self, prompts: Sequence[Prompt]) -> QMenu:
        """The samples under the names of their kinds."""
        menu, kind = QMenu(self), ""
        for prompt in prompts:
            if prompt.kind != kind:
                kind = prompt.kind
                menu.addAction(kind.capitalize()).setEnabled(False)
            menu.addAction(f"   {prompt.title}").triggered.connect(lambda _=False, prompt=prompt: self.choose(prompt))
        return menu

    def _submit(self) -> None:
        self.submitted.emit(self.text())


def _submits(event: QKeyEvent) -> bool:
    control = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier == Qt.KeyboardModifier.ControlModifier
    return control and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
