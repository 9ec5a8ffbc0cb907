"""Where Qt begins: the application object, the window, and what to do where there is no screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

NO_AUTORUN = "EDGEMOE_NO_AUTORUN"
SHOTS = Path("out")
WATCHABLE = 25
"""Tokens a second of the demo that runs by itself: unpaced it would be over before anybody had looked."""


def has_display(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether a window can be shown, or a platform was asked for by name."""
    if not platform.startswith("linux"):
        return True
    return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"))


def open_window(session: Path | None = None) -> int:
    """Show the window, with a recorded session or with the demo model; returns the exit status when it is closed."""
    if not has_display():
        return _without_display(session)
    from PySide6.QtCore import QTimer

    from app.live import Live
    from app.preferences import Preferences
    from app.window import Window

    application = create_application()
    window = Window(Live(), Preferences())
    window.show()
    QTimer.singleShot(0, lambda: _begin(window, session))
    _obey_interrupt(application)
    return int(application.exec())


def create_application():
    """The one QApplication, named; made once and used again."""
    from PySide6.QtWidgets import QApplication

    application = QApplication.instance() or QApplication(sys.argv[:1])
    application.setApplicationName("EdgeMoE Studio")
    application.setDesktopFileName("edgemoe-studio")
    return application


def _begin(window, session: Path | None) -> None:
    """With the window on the screen: start the engine, and open what was asked for."""
    from app import sessions
    from app.demo import NAME, demo_model_path

    sessions.prune()
    autorun = session is None and not os.environ.get(NO_AUTORUN)
    if autorun:
        window.live.wanted["pace"] = WATCHABLE
    window.begin(demo_model_path(), NAME, autorun=autorun)
    if session is not None:
        window.files.open_path(session)


def _obey_interrupt(application) -> None:
    """Ctrl+C in the terminal closes the window as its button would; the window's timer lets Python see the signal."""
    import signal

    signal.signal(signal.SIGINT, lambda *_: application.closeAllWindows())


def _without_display(session: Path | None) -> int:
    from app.commands import shot

    print("There is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set), so no window can be shown.", file=sys.stderr)
    if session is not None:
        print(f"To look at {session} without one: main.py export {session} trace.json.gz, then open it in ui.perfetto.dev", file=sys.stderr)
        return 2
    print(f"Instead the demo model runs now, and its pictures, its session and its trace go to {SHOTS}/.", file=sys.stderr)
    return shot.shoot(shot.Wanted(out=SHOTS))
