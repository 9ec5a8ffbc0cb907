"""Every action of the window with its keys, and the menus they stand in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QObject
from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QMenu, QMenuBar

Slot = Callable[[], object]


class Actions:
    """Actions by name. The window gives each its slot and switches it on and off; texts and keys are decided here."""

    TEXTS: dict[str, tuple[str, tuple[str, ...], str]] = {
        "open_model": ("Open &model folder…", ("Ctrl+M",), "Load a checkpoint or a store"),
        "open_demo": ("Open &demo model", (), "Load the model that comes with the program"),
        "open_session": ("&Open session…", ("Ctrl+O",), "Show a recorded session"),
        "save_session": ("&Save session as…", ("Ctrl+S",), "Keep a copy of the session shown"),
        "export_trace": ("Export &trace (.json.gz)…", ("Ctrl+E",), "For ui.perfetto.dev or chrome://tracing"),
        "export_csv": ("Export &CSV…", ("Ctrl+Shift+E",), "One row a token"),
        "back_to_live": ("Back to &live", ("Ctrl+B",), "Leave the recorded session"),
        "quit": ("&Quit", ("Ctrl+Q",), ""),
        "undo": ("&Undo", ("Ctrl+Z",), "Take back the last setting change"),
        "redo": ("&Redo", ("Ctrl+Shift+Z", "Ctrl+Y"), "Make the setting change again"),
        "select_back": ("Previous &selection", ("Alt+Left",), ""),
        "select_forth": ("Next s&election", ("Alt+Right",), ""),
        "select_none": ("&Clear selection", ("Ctrl+D",), "Drop range, expert and token"),
        "run": ("&Run", ("F5", "Ctrl+Return"), "Generate from the prompt"),
        "pause": ("&Pause", ("Space", "F6"), "Hold before the next token"),
        "step": ("S&tep", ("F10",), "Produce one token, then hold"),
        "stop": ("&Stop", ("Shift+F5", "Ctrl+."), "End the request, or cancel the loading"),
        "restart": ("Restart &engine", ("Ctrl+Shift+R",), "A fresh engine process, same model and settings"),
        "prompt": ("&Edit prompt", ("Ctrl+L",), ""),
        "save_profile": ("&Save settings as profile…", (), ""),
        "delete_profile": ("&Delete profile", (), ""),
        "reset_layout": ("&Reset layout", ("Ctrl+0",), "Put every panel back"),
        "help": ("&Keyboard", ("?", "F1"), "Every key on one page"),
        "about": ("&About EdgeMoE Studio", (), ""),
    }

    def __init__(self, parent: QObject) -> None:
        self._by_name: dict[str, QAction] = {}
        for name, (text, keys, tip) in self.TEXTS.items():
            action = QAction(text, parent)
            action.setShortcuts([QKeySequence(key) for key in keys])
            plain = text.replace("&", "").rstrip("…")
            action.setToolTip(f"{tip or plain}" + (f" ({', '.join(keys)})" if keys else ""))
            action.setStatusTip(tip)
            self._by_name[name] = action

    def __getitem__(self, name: str) -> QAction:
        return self._by_name[name]

    def connect(self, slots: dict[str, Slot]) -> None:
        """Give every action its slot.

        Raises:
            KeyError: an action that is not there, or one left without a slot.
        """
        missing = set(self._by_name) - set(slots)
        if missing:
            raise KeyError(f"actions without a slot: {sorted(missing)}")
        for name, slot in slots.items():
            self._by_name[name].triggered.connect(_bare(slot))

    def enable(self, **states: bool) -> None:
        for name, state in states.items():
            self._by_name[name].setEnabled(state)


def build_menus(bar: QMenuBar, actions: Actions, panels: Sequence[QAction], themes: QActionGroup) -> dict[str, QMenu]:
    """The menu bar; ``recent`` is filled by the window."""
    menus = {name: bar.addMenu(title) for name, title in (
        ("file", "&File"), ("edit", "&Edit"), ("run", "&Run"), ("view", "&View"), ("help", "&Help"),
    )}  # fmt: skip
    recent = QMenu("&Recent", bar)
    _fill(menus["file"], actions, "open_model", "open_demo", "open_session", recent, None, "back_to_live", "save_session", "export_trace",
          "export_csv", None, "quit")  # fmt: skip
    _fill(menus["edit"], actions, "undo", "redo", None, "select_back", "select_forth", "select_none", None, "save_profile",
          "delete_profile")  # fmt: skip
    _fill(menus["run"], actions, "run", "pause", "step", "stop", None, "prompt", None, "restart")
    menus["view"].addActions(list(panels))
    menus["view"].addSeparator()
    theme = menus["view"].addMenu("&Theme")
    theme.addActions(themes.actions())
    _fill(menus["view"], actions, "reset_layout")
    _fill(menus["help"], actions, "help", "about")
    return {**menus, "recent": recent}


def _fill(menu: QMenu, actions: Actions, *items: str | QMenu | None) -> None:
    for item in items:
        if item is None:
            menu.addSeparator()
        elif isinstance(item, QMenu):
            menu.addMenu(item)
        else:
            menu.addAction(actions[item])


def _bare(slot: Slot) -> Callable[[bool], None]:
    """``triggered`` brings a checked state that no slot here wants."""

    def called(_checked: bool = False) -> None:
        slot()

    return called
