"""The window: strips, docks and menus around one engine and one recording that is shown."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, QTimer, Slot
from PySide6.QtGui import QActionGroup, QCloseEvent, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QMainWindow, QVBoxLayout, QWidget

from app import theme as themes
from app.actions import Actions, build_menus
from app.banner import Banners, ProgressStrip
from app.calibrator import Calibrator
from app.demo import demo_model_path
from app.files import Files
from app.help import HelpOverlay, groups_of
from app.keyboard import KeyGuard
from app.layouts import DockArea, packed, unpacked
from app.live import Live
from app.planning import Planning
from app.preferences import Preferences
from app.profile_choice import ProfileChoice
from app.pulse import Pulse
from app.statusbar import StatusBar
from app.toolbar import RunBar
from app.wiring import build_panels, build_readouts
from engine.recording.recording import Recording
from engine.settings import Value
from views.selection import Selection
from views.tuning_model import TuningModel

TITLE = "EdgeMoE Studio"
DRAIN_MS = 33
REFUSAL_MS = 8000
SIZE = (1440, 900)
FRAME = 40  # px that a desktop puts around a window; one that does not fit with them is shown maximized


class Window(QMainWindow):
    """Everything the user sees. ``begin`` starts the engine; ``shown`` is the live recording or a reopened one."""

    def __init__(self, live: Live, preferences: Preferences) -> None:
        super().__init__()
        self.live, self.preferences = live, preferences
        self.calibrator = Calibrator(live, parent=self)
        self.theme = themes.choose(preferences.get("theme", themes.SYSTEM), QApplication.instance())
        themes.apply(self.theme, QApplication.instance())  # before there are widgets, each of which would be coloured anew
        self.selection, self.tuning = Selection(self), TuningModel(self)
        self._picked = self.selection.picked
        self.tuning.offer("device", tuple(live.devices))
        self.shown = live.recording
        self._opened: Recording | None = None
        self.setWindowTitle(TITLE)
        self.setWindowIcon(themes.icon("app", "#56b4e9"))
        self.setAcceptDrops(True)
        self.actions_ = Actions(self)
        self.banners, self.progress = Banners(self), ProgressStrip(self)
        self.bar = RunBar(self.actions_, self.tuning, self)
        self.status = StatusBar(self)
        self.panels = build_panels(self.shown, self.selection, self.tuning, self.theme)
        self.readouts = build_readouts(self.shown, self.selection, self.tuning, self.theme)
        self.area = DockArea(self)
        self._assemble()
        self.files = Files(self)
        self.profiles = ProfileChoice(self)
        self.planning = Planning(self)
        self.overlay = HelpOverlay(self)
        self.guard = KeyGuard(self)
        self.pulse = Pulse([self.readouts, *self.panels.values()])
        self._connect()
        self.apply_theme(preferences.get("theme", themes.SYSTEM))
        self._restore()
        self.timer = QTimer(self, interval=DRAIN_MS)
        self.timer.timeout.connect(self.tick)
        self.timer.start()

    def begin(self, model: Path, name: str = "", autorun: bool = True) -> None:
        """Start the engine with a model; ``autorun``: the prompt in the text panel runs as soon as it is loaded."""
        self.show_live()
        self.setFocus()  # not in the prompt: Space is to pause what runs by itself
        self.live.open_model(model, name, self.prompt() if autorun else "")

    def prompt(self) -> str:
        return self.panels["text"].prompt()

    # --- what is shown

    def show_recording(self, recording: Recording) -> None:
        """Show a reopened recording, read-only; the engine goes on behind it."""
        former, self._opened = self._opened, recording
        self.tuning.read_only = True
        self._show(recording)
        if former is not None:
            former.close()
        values = {**recording.settings}
        for change in recording.changes:
            values[change.name] = change.new
        self._show_values(values, recording.effective)
        name = recording.path.name if recording.path else ""
        text = f"Recorded session {name}" + (f" — {recording.damage}" if recording.damage else "")
        self.banners.say("recorded", "info", text, {"Back to live": self.show_live}, closable=False)
        self._update()

    def show_live(self) -> None:
        """Show what the engine is doing now."""
        self.banners.clear("recorded", "open")
        self.tuning.read_only = False
        self._show(self.live.recording)
        self._let_go()
        self._show_values(self.live.values, self.live.effective)
        self._update()

    @property
    def is_live(self) -> bool:
        return self.shown is self.live.recording

    def apply_theme(self, name: str) -> None:
        """Colour everything anew and remember it."""
        self.preferences.set("theme", name)
        application = QApplication.instance()
        self.theme = themes.choose(name, application)
        themes.apply(self.theme, application)
        for panel in self.pulse.panels:
            panel.restyle(self.theme)
        self.bar.restyle(self.theme)
        self._update()

    @Slot()
    def tick(self) -> None:
        """Thirty times a second: take in what is new, repaint what shows it."""
        self.live.drain()
        self.calibrator.drain()
        self.planning.meter()
        self.pulse.beat()
        if self.pulse.beats % 8 == 0:
            self.status.show_recording(self.shown)

    # --- construction

    def _assemble(self) -> None:
        for key, panel in self.panels.items():
            self.area.add(key, panel.title, panel)
        toggles = list(self.area.toggles.values())
        for number, toggle in enumerate(toggles):
            toggle.setShortcut(f"Ctrl+{number + 1}" if number < 9 else f"Ctrl+Shift+{number - 8}")
        self.theme_group = QActionGroup(self)
        for name, text in (("dark", "&Dark"), ("light", "&Light"), (themes.SYSTEM, "As the &system")):
            action = self.theme_group.addAction(text)
            action.setCheckable(True)
            action.setData(name)
            action.setChecked(self.preferences.get("theme", themes.SYSTEM) == name)
        self.menus = build_menus(self.menuBar(), self.actions_, toggles, self.theme_group)
        self.addToolBar(self.bar)
        self.setStatusBar(self.status)
        body = QWidget(self)
        column = QVBoxLayout(body)
        column.setContentsMargins(6, 4, 6, 4)
        column.setSpacing(4)
        for strip in (self.readouts, self.progress, self.banners):
            column.addWidget(strip)
        column.addWidget(self.area, 1)
        self.setCentralWidget(body)

    def _connect(self) -> None:
        live = self.live
        self.actions_.connect({
            "open_model": self.files.ask_model, "open_demo": self._open_demo, "open_session": self.files.ask_session,
            "save_session": self.files.save_session, "export_trace": self.files.export_trace, "export_csv": self.files.export_csv,
            "back_to_live": self.show_live, "quit": self.close, "undo": live.undo.step_back, "redo": live.undo.step_forth,
            "select_back": self.selection.back, "select_forth": self.selection.forward, "select_none": self.selection.clear,
            "run": self._run, "pause": live.pause_or_resume, "step": self._step, "stop": live.stop, "restart": self._restart,
            "prompt": self._edit_prompt, "save_profile": self.profiles.ask_save, "delete_profile": self.profiles.delete,
            "reset_layout": self.area.arrange, "help": self._help, "about": self.files.about,
        })  # fmt: skip
        self.menus["recent"].aboutToShow.connect(self._fill_recent)
        self.theme_group.triggered.connect(lambda action: self.apply_theme(action.data()))
        self.progress.cancelled.connect(live.stop)
        self.tuning.requested.connect(live.undo.change)
        self.tuning.requested_all.connect(live.undo.change_all)
        live.undo.indexChanged.connect(self._update)
        live.state_changed.connect(self._update)
        live.progressed.connect(self.progress.show_progress)
        live.troubled.connect(self._on_trouble)
        live.recording_changed.connect(self._on_recording)
        live.model_changed.connect(self._update)
        live.setting_changed.connect(self._on_setting)
        live.setting_refused.connect(self._on_refused)
        self.panels["text"].submitted.connect(self._submit)
        self.selection.changed.connect(self._on_picked)

    def _restore(self) -> None:
        if not self.restoreGeometry(unpacked(self.preferences.get("geometry"))):
            self.resize(*SIZE)
            screen = self.screen().availableGeometry()
            if screen.width() < SIZE[0] + FRAME or screen.height() < SIZE[1] + FRAME:
                self.setWindowState(Qt.WindowState.WindowMaximized)
        self._fresh = not self.area.restore(self.preferences.get("layout"))
        if self._fresh:
            self.area.arrange()

    def showEvent(self, event) -> None:
        super().showEvent(event)
        if self._fresh:  # proportions need the true size, known only now
            self._fresh = False
            QTimer.singleShot(0, self.area.arrange)

    # --- slots

    def _run(self) -> None:
        self._submit(self.prompt())

    def _submit(self, prompt: str) -> None:
        if not self.is_live:
            self.show_live()
        if not prompt.strip():
            self.banners.say("prompt", "warning", "The prompt is empty: write one in the Text panel, or choose a sample there.")
            return
        self.banners.clear("failed", "prompt")
        self.live.run(prompt)

    def _step(self) -> None:
        if not self.is_live:
            self.show_live()
        self.live.step(self.prompt())

    def _restart(self) -> None:
        self.banners.clear("died", "failed", "reload")
        self.show_live()
        self.live.restart()

    def _reload(self) -> None:
        self.banners.clear("reload")
        self.live.reload()

    def _open_demo(self) -> None:
        self.begin(demo_model_path(), "demo", autorun=False)

    def _edit_prompt(self) -> None:
        self.area.bring("text")

    def _help(self) -> None:
        self.overlay.open(groups_of([self.menus[name] for name in ("run", "file", "edit", "view", "help")], list(self.panels.values())))

    def _fill_recent(self) -> None:
        menu = self.menus["recent"]
        menu.clear()
        for path in self.preferences.recent:
            menu.addAction(str(path), lambda path=path: self.files.open_path(path))
        if menu.isEmpty():
            menu.addAction("Nothing yet").setEnabled(False)

    def _on_recording(self) -> None:
        self.banners.clear("died", "failed", "reload", "file")
        self.progress.show_stage("Starting the engine")
        self.show_live()

    def _on_setting(self, name: str) -> None:
        if self.is_live:
            self.tuning.accept(name, self.live.values[name], self.live.effective.get(name, self.live.values[name]))
            self._show_budget()
        self.profiles.show()
        self.planning.follow()

    def _on_refused(self, name: str, reason: str) -> None:
        self.tuning.refuse(name, reason)
        self.status.showMessage(reason, REFUSAL_MS)

    def _on_picked(self) -> None:
        """What was pinned just now is told by the inspector."""
        former, picked = self._picked, self.selection.picked
        self._picked = picked
        pinned = (picked.layer, picked.expert, picked.token)
        if pinned != (former.layer, former.expert, former.token) and pinned != (None, None, None):
            self.area.turn_to("inspector")

    def _on_trouble(self, topic: str, text: str) -> None:
        kind = {"died": "error", "failed": "error"}.get(topic, "warning")
        remedies = {"died": {"Restart": self._restart}, "reload": {"Reload now": self._reload}}.get(topic, {})
        if topic == "failed" and self.live.info is None:
            remedies = {"Open model…": self.files.ask_model, "Open demo model": self._open_demo}
        self.banners.say(topic, kind, text, remedies)
        self._update()

    def _update(self) -> None:
        """Bring buttons, names and the state light in line with the engine."""
        live, busy = self.live, self.live.busy
        self.planning.follow()
        self.actions_.enable(
            run=live.can_run, pause=busy, step=live.can_run or busy, stop=busy or live.state in ("starting", "loading"),
            restart=live.model is not None, back_to_live=not self.is_live, undo=self.is_live and live.undo.canUndo(),
            redo=self.is_live and live.undo.canRedo(), save_session=self.shown.path is not None,
        )  # fmt: skip
        self.actions_["undo"].setText(f"&Undo {live.undo.undoText()}".strip())
        self.actions_["redo"].setText(f"&Redo {live.undo.redoText()}".strip())
        state = live.state if self.is_live else "recorded"
        self.bar.show_state("empty" if state == "idle" and live.info is None else state, self.theme)
        info = self.shown.model
        name = live.name if self.is_live else (info.name if info else "")
        self.bar.show_model(name, f"{info.architecture}, {info.layers} layers × {info.experts} experts, top-{info.top_k}" if info else "")
        self.profiles.show()
        self.status.show_recording(self.shown)
        shown = f"{self.shown.path.name} (recorded)" if self.shown.path and not self.is_live else name
        self.setWindowTitle(f"{shown} — {TITLE}" if shown else TITLE)

    # --- showing another recording

    def _show(self, recording: Recording) -> None:
        self.shown = recording
        self.selection.reset()
        for panel in self.pulse.panels:
            panel.show_recording(recording)

    def _let_go(self) -> None:
        """Close the reopened recording, if one is shown; the live one is not the window's to close."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _show_values(self, values: dict[str, Value], effective: dict[str, Value]) -> None:
        for name, value in values.items():
            self.tuning.accept(name, value, effective.get(name, value))
        self._show_budget()

    def _show_budget(self) -> None:
        """What the budget comes to and what it can be: both follow the widths in use, which the engine knows."""
        budget, wanted = self.shown.budget, self.tuning.values["budget"]
        limits = (budget.least, budget.full) if budget else None
        granted = budget.granted if budget else wanted
        model = self.shown.model
        # One token uses k of every layer's E experts: that share of all experts, whatever their widths.
        cycle = budget.full * model.top_k // model.experts if budget and model else 0
        known = (self.tuning.budget_range, self.tuning.cycle, self.tuning.effective.get("budget"))
        if known != (limits, cycle, granted):
            self.tuning.budget_range, self.tuning.cycle = limits, cycle
            self.tuning.accept("budget", wanted, granted)

    # --- files dropped, end

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasUrls() and event.mimeData().urls()[0].isLocalFile():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        event.acceptProposedAction()
        self.files.open_path(Path(event.mimeData().urls()[0].toLocalFile()))

    def closeEvent(self, event: QCloseEvent) -> None:
        self.timer.stop()
        self.preferences.set("geometry", packed(self.saveGeometry()))
        self.preferences.set("layout", self.area.save())
        self.preferences.save()
        self.files.wait()
        self._let_go()
        self.calibrator.shut_down()
        self.live.shut_down()
        super().closeEvent(event)
