"""A tuning profile: settings under one name, the program's own or the user's, as one readable JSON file each."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import platformdirs

from engine.errors import EngineError
from engine.settings import BY_NAME, Value, defaults

FORMAT = 1
DEFAULT = "default"
BUILT_IN = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class Profile:
    """``settings`` holds only what the profile decides; every other setting is at its default when the profile is chosen."""

    name: str
    title: str = ""
    help: str = ""
    settings: dict[str, Value] = field(default_factory=dict)
    built_in: bool = False

    def values(self) -> dict[str, Value]:
        """Every setting by name, as this profile wants it."""
        return {**defaults(), **self.settings}

    def matches(self, values: dict[str, Value]) -> bool:
        """Whether ``values`` are this profile's."""
        return all(values.get(name) == value for name, value in self.values().items())


def folder() -> Path:
    """Where the user's own profiles are kept."""
    return platformdirs.user_config_path("edgemoe-studio", appauthor=False) / "profiles"


def load(path: Path) -> Profile:
    """Read one profile.

    Raises:
        EngineError: no such file, no profile, or a setting or value that does not exist.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise EngineError(f"{path} is no profile: it is not JSON") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("settings"), dict):
        raise EngineError(f"{path} is no profile of format {FORMAT}; it needs a \"format\" and \"settings\"")
    settings = {str(name): _parsed(path, str(name), value) for name, value in content["settings"].items()}
    name = str(content.get("name") or path.stem)
    return Profile(name, str(content.get("title", "")), str(content.get("help", "")), settings, path.parent == BUILT_IN)


def save(profile: Profile, into: Path | None = None) -> Path:
    """Write the profile under its name, replacing its former self; returns the file.

    Raises:
        EngineError: the name is taken by a built-in profile or holds no letter, or the file cannot be written.
    """
    if profile.name in {known.name for known in built_in()}:
        raise EngineError(f"{profile.name} is a built-in profile; choose another name")
    into = into or folder()
    path = into / f"{_stem(profile.name)}.json"
    content = {"format": FORMAT, "name": profile.name, "title": profile.title, "help": profile.help, "settings": profile.settings}
    try:
        into.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        partial.replace(path)
    except OSError as error:
        raise EngineError(f"{path} cannot be written: {error.strerror}") from None
    return path


def remove(name: str, out_of: Path | None = None) -> None:
    """Delete one of the user's profiles; a name that is not there is no error."""
    ((out_of or folder()) / f"{_stem(name)}.json").unlink(missing_ok=True)


def built_in() -> list[Profile]:
    """``default`` first, then the profiles that come with the program."""
    default = Profile(DEFAULT, "Default", "Every setting at its default.", {}, built_in=True)
    return [default, *(load(path) for path in sorted(BUILT_IN.glob("*.json")))]


def all_profiles(own: Path | None = None) -> list[Profile]:
    """Built-in profiles, then the user's by name; a file that is no profile is left out."""
    found = []
    for path in sorted((own or folder()).glob("*.json")):
        try:
            found.append(load(path))
        except EngineError:
            continue  # a broken file of the user's must not keep the window from opening
    return [*built_in(), *found]


def find(text: str) -> Profile:
    """The profile called ``text``, or the one in the file ``text``.

    Raises:
        EngineError: there is none, with the names that there are; or the file is no profile.
    """
    known = {profile.name: profile for profile in all_profiles()}
    if text in known:
        return known[text]
    if Path(text).is_file():
        return load(Path(text))
    raise EngineError(f"There is no profile {text!r}; the profiles are {', '.join(known)}, or give a file")


def _parsed(path: Path, name: str, value: object) -> Value:
    if name not in BY_NAME:
        raise EngineError(f"{path}: there is no setting {name!r}; the settings are {', '.join(BY_NAME)}")
    if not isinstance(value, str | int | float | bool):
        raise EngineError(f"{path}: {name} must be a plain value")
    setting = BY_NAME[name]
    if isinstance(setting.default, str):
        setting = replace(setting, choices=())  # names of devices, policies and predictors grow; the engine knows which there are
    try:
        return setting.parse(value)
    except EngineError as error:
        raise EngineError(f"{path}: {error}") from None


def _stem(name: str) -> str:
    stem = re.sub(r"[^\w.-]+", "-", name.strip().lower()).strip("-.")
    if not stem:
        raise EngineError("A profile's name needs a letter or a digit")
    return stem
