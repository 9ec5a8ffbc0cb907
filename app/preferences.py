"""What the window remembers between runs: one JSON file in the user's configuration folder."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import platformdirs

RECENT = 8


def config_folder() -> Path:
    return platformdirs.user_config_path("edgemoe-studio", appauthor=False)


class Preferences:
    """Theme, layout and recent files by key. A file that is missing or broken counts as empty: the window must open."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or config_folder() / "window.json"
        self._values: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(self.path.read_text("utf-8"))
            if isinstance(content, dict):
                self._values = content

    def get(self, key: str, default: str = "") -> str:
        value = self._values.get(key, default)
        return value if isinstance(value, str) else default

    def set(self, key: str, value: str) -> None:
        self._values[key] = value

    @property
    def recent(self) -> list[Path]:
        """Session files and model folders last opened, newest first, that are still there."""
        listed = self._values.get("recent", [])
        paths = [Path(text) for text in listed if isinstance(text, str)] if isinstance(listed, list) else []
        return [path for path in paths if path.exists()][:RECENT]

    def remember(self, path: Path) -> None:
        """Put a file or folder on top of the recent ones."""
        path = path.resolve()
        self._values["recent"] = [str(path), *(str(other) for other in self.recent if other != path)][:RECENT]

    def save(self) -> None:
        """Write the file; a folder that cannot be written costs the memory, not the program."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(".part")
            partial.write_text(json.dumps(self._values, indent=2) + "\n", "utf-8")
            partial.replace(self.path)
