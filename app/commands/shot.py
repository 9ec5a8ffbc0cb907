"""`main.py shot OUT_DIR`: run a model in the real window without a screen; leave its pictures, its session and its trace."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.demo import NAME, resolve_model
from engine.errors import EngineError

SIZES = ((1440, 900), (1280, 720))
THEMES = ("dark", "light")


@dataclass(frozen=True)
class Wanted:
    """What to photograph: a run of ``tokens`` tokens whose budget is cut from 25% to ``cut`` halfway (or after it, and it is run again)."""

    out: Path
    model: str = NAME
    tokens: int = 160
    cut: str = "12%"
    sizes: tuple[tuple[int, int], ...] = SIZES
    themes: tuple[str, ...] = THEMES


def add_parser(subparsers: Any) -> None:
    """Declare the command; ``run`` is found at ``args.run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("shot", help="pictures of the window after a real run", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="folder for the pictures, made if need be")
    parser.add_argument("--model", default=NAME, metavar="DIR", help="checkpoint or store folder, or demo (default)")
    parser.add_argument("--tokens", type=int, default=Wanted.tokens, metavar="N", help="new tokens (default %(default)s)")
    parser.set_defaults(run=lambda args: shoot(Wanted(args.out, args.model, args.tokens)))


def shoot(wanted: Wanted) -> int:
    """Run, photograph, export. Returns the exit status.

    Raises:
        EngineError: the folder cannot be written, or the model cannot be used.
    """
    model = resolve_model(wanted.model)
    try:
        wanted.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"{wanted.out} cannot be made ({error.strerror}); give another folder") from None
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from app.gui import create_application
    from app.photographer import Photographer

    create_application()
    with Photographer(wanted.out) as photographer:
        for path in photographer.tell_the_story(model, wanted):
            print(path, file=sys.stderr)
    return 0
