"""Profiles in the window: chosen in the toolbar, saved from the settings in force, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QInputDialog

from app.toolbar import CUSTOM
from engine.errors import EngineError
from engine.settings import defaults
from profiles import profile as profiles
from profiles.profile import Profile

if TYPE_CHECKING:
    from app.window import Window


class ProfileChoice(QObject):
    """Keeps the toolbar's list true: the profile whose values are in force, or ``custom``."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._window = window
        self._profiles = profiles.all_profiles()
        self._chosen = profiles.DEFAULT
        self._shown: tuple[object, ...] = ()
        window.bar.profile_chosen.connect(self.choose)

    def choose(self, name: str) -> None:
        """Change every setting that differs, as one step of undo."""
        profile = self._find(name)
        if profile is not None and self._window.is_live:
            self._chosen = name
            self._window.live.undo.change_all(f"profile {profile.title or profile.name}", profile.values())
        self._shown = ()
        self.show()

    def current(self) -> str:
        """The name of the profile in force; the one chosen last wins where several are alike."""
        values = self._window.tuning.values
        chosen = self._find(self._chosen)
        if chosen is not None and chosen.matches(values):
            return chosen.name
        return next((profile.name for profile in self._profiles if profile.matches(values)), CUSTOM)

    def show(self) -> None:
        current, live = self.current(), self._window.is_live
        shown = (current, live, tuple(profile.name for profile in self._profiles))
        if shown != self._shown:
            self._shown = shown
            self._window.bar.show_profiles(self._profiles, current)
            self._window.bar.profile.setEnabled(live)
            own = self._find(current)
            self._window.actions_["delete_profile"].setEnabled(own is not None and not own.built_in)

    def ask_save(self) -> None:
        name, ok = QInputDialog.getText(self._window, "Save settings as profile", "Name of the profile:")
        if ok and name.strip():
            self.save(name.strip())

    def save(self, name: str) -> None:
        """Keep the settings in force under a name; a banner tells why not."""
        base = defaults()
        changed = {key: value for key, value in self._window.tuning.values.items() if value != base[key]}
        try:
            profiles.save(Profile(name, settings=changed))
        except EngineError as error:
            self._window.banners.say("profile", "error", str(error))
            return
        self._window.banners.clear("profile")
        self._chosen = name
        self._read()

    def delete(self) -> None:
        """Delete the profile in force; the settings stay."""
        current = self._find(self.current())
        if current is not None and not current.built_in:
            profiles.remove(current.name)
            self._read()

    def _read(self) -> None:
        self._profiles = profiles.all_profiles()
        self._shown = ()
        self.show()

    def _find(self, name: str) -> Profile | None:
        return next((profile for profile in self._profiles if profile.name == name), None)
