"""Setting changes on an undo stack. Each is a request to the engine, which may refuse it later."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6.QtGui import QUndoCommand, QUndoStack
from shiboken6 import isValid

from engine.settings import BY_NAME, Value
from views.plan_model import Draft

Send = Callable[[str, Value], None]
MERGE_S = 0.8
_IDS = {name: number for number, name in enumerate(BY_NAME)}


class SettingChange(QUndoCommand):
    """One setting from ``old`` to ``new``; quick changes of the same setting (a dragged slider) become one step."""

    def __init__(self, stack: ChangeStack, name: str, old: Value, new: Value) -> None:
        super().__init__()
        self.stack, self.name, self.old, self.new = stack, name, old, new
        self.when = time.monotonic()
        self.into: SettingChange | None = None
        self._describe()

    def redo(self) -> None:
        if not self.isObsolete():
            self.stack.request(self.name, self.new, self)

    def undo(self) -> None:
        if not self.isObsolete():
            self.stack.request(self.name, self.old, None)

    def id(self) -> int:
        return _IDS[self.name]

    def mergeWith(self, other: QUndoCommand) -> bool:
        if not isinstance(other, SettingChange) or other.name != self.name or other.when - self.when > MERGE_S:
            return False
        other.into = self
        self.when = other.when
        self.become(other.new)
        return True

    def become(self, new: Value) -> None:
        """Lead to another value; to the one it came from means that nothing changed."""
        self.new = new
        self.setObsolete(new == self.old)
        self._describe()

    def _describe(self) -> None:
        self.setText(f"{BY_NAME[self.name].title}: {_shown(self.name, self.old)} → {_shown(self.name, self.new)}")


class PlanEdit(QUndoCommand):
    """One draft of the bitwidth plan after another; a tolerance that is dragged becomes one step."""

    def __init__(self, accept: Callable[[Draft], None], old: Draft, new: Draft) -> None:
        super().__init__(f"plan: {new.label}")
        self.accept, self.old, self.new, self.when = accept, old, new, time.monotonic()

    def redo(self) -> None:
        self.accept(self.new)

    def undo(self) -> None:
        self.accept(self.old)

    def id(self) -> int:
        return len(_IDS) if self.new.tolerance is not None else -1

    def mergeWith(self, other: QUndoCommand) -> bool:
        if not isinstance(other, PlanEdit) or other.when - self.when > MERGE_S:
            return False
        self.new, self.when = other.new, other.when
        self.setText(other.text())
        return True


class ChangeStack(QUndoStack):
    """``change`` and ``change_all`` request through ``send``; the engine's answers come back through ``accepted`` and ``refused``."""

    def __init__(self, send: Send, wanted: Callable[[], dict[str, Value]]) -> None:
        super().__init__()
        self._send, self._wanted = send, wanted
        self._flying: list[tuple[str, Value, SettingChange | None]] = []  # requests that the engine has not answered yet

    def change(self, name: str, value: Value) -> None:
        """Request one change."""
        old = self._wanted()[name]
        if value != old:
            self.push(SettingChange(self, name, old, value))

    def change_all(self, text: str, values: dict[str, Value]) -> None:
        """Request several changes as one step; those that change nothing are left out."""
        wanted = self._wanted()
        news = {name: value for name, value in values.items() if value != wanted[name]}
        if not news:
            return
        self.beginMacro(text)
        for name, value in news.items():
            self.change(name, value)
        self.endMacro()

    def edit(self, accept: Callable[[Draft], None], old: Draft, new: Draft) -> None:
        """Put another draft of the plan in place of one; ``accept`` shows it."""
        self.push(PlanEdit(accept, old, new))

    def request(self, name: str, value: Value, command: SettingChange | None) -> None:
        """Called by commands: send, and remember who asked until the answer is there."""
        self._flying.append((name, value, command))
        self._send(name, value)

    def accepted(self, name: str, value: Value) -> None:
        self._landed(name, value)

    def refused(self, name: str, value: Value, holding: Value) -> None:
        """The engine kept ``holding``: the change leaves the stack, or ends where the engine still followed."""
        command = self._landed(name, value)
        while command is not None and command.into is not None:
            command = command.into
        if command is not None and isValid(command) and command.new == value:
            command.become(holding)
        self._drop_top()

    def step_back(self) -> None:
        """Undo the newest change that holds."""
        self._drop_top()
        self.undo()

    def step_forth(self) -> None:
        self.redo()

    def forget(self) -> None:
        """Another engine, another history."""
        self.clear()
        self._flying.clear()

    def _landed(self, name: str, value: Value) -> SettingChange | None:
        for index, (flying, wanted, command) in enumerate(self._flying):
            if (flying, wanted) == (name, value):
                del self._flying[index]
                return command
        return None

    def _drop_top(self) -> None:
        """Obsolete commands leave the stack when they are undone, and send nothing then."""
        while self.index() > 0 and _void(self.command(self.index() - 1)):
            self.undo()


def _void(command: QUndoCommand) -> bool:
    children = [command.child(index) for index in range(command.childCount())]
    if children and all(child.isObsolete() for child in children):
        command.setObsolete(True)
    return command.isObsolete()


def _shown(name: str, value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    setting = BY_NAME[name]
    return (str(value) if setting.kind == "bytes" else setting.with_unit(value)) or "none"
