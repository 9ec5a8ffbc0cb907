"""EdgeMoE Studio: the window without a subcommand, the same work without a screen with one. No Qt is imported for the latter."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

import app.commands
from engine.errors import Cancelled, EngineError

COMMANDS = tuple(module.name for module in pkgutil.iter_modules(app.commands.__path__))
UNUSABLE = 2


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand that is there."""
    parser = argparse.ArgumentParser(prog="main.py", description=__doc__, epilog="main.py FILE opens a recorded session in the window.")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"app.commands.{name}").add_parser(subparsers)
    return parser


def main(argv: list[str]) -> int:
    """Run one subcommand, or the window. Returns the exit status: 0 done, 2 wrong usage or unusable input, 1 anything else."""
    try:
        if not argv or argv[0] not in (*COMMANDS, "-h", "--help"):
            return _window(argv)
        args = build_parser().parse_args(argv)
        return int(args.run(args))
    except EngineError as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    except (Cancelled, KeyboardInterrupt):
        print("Stopped.", file=sys.stderr)
        return 1


def _window(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="main.py", description=f"Open the window. Without a screen: {', '.join(COMMANDS)}.")
    parser.add_argument("session", nargs="?", type=Path, metavar="FILE", help="a recorded session to open")
    args = parser.parse_args(argv)
    from app.gui import open_window

    return int(open_window(args.session))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
