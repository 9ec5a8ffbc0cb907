"""Sample prompts: text files below ``assets/prompts``, one folder a kind, the file's name its title."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "prompts"
KINDS = ("prose", "code")  # in the order of the menu; other folders follow by name


@dataclass(frozen=True)
class Prompt:
    """One sample: ``kind`` is its folder, ``text`` goes to the model as it is."""

    kind: str
    title: str
    text: str


def load_prompts(folder: Path = FOLDER) -> tuple[Prompt, ...]:
    """Every prompt below ``folder``, prose first, then code, then other kinds, each by title.

    The line end that editors put at the end of a file is not part of the text. A folder that is missing has no prompts;
    files that are empty or no UTF-8 are left out, since a sample must never keep the window from opening.
    """
    found = []
    for path in folder.glob("*/*.txt"):
        try:
            text = path.read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError):
            continue
        if text.strip():
            found.append(Prompt(path.parent.name, path.stem.replace("_", " "), text))
    return tuple(sorted(found, key=_order))


def _order(prompt: Prompt) -> tuple[int, str, str]:
    place = KINDS.index(prompt.kind) if prompt.kind in KINDS else len(KINDS)
    return place, prompt.kind, prompt.title
