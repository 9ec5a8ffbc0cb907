"""`main.py export SESSION OUT`: a recorded session as a trace for Perfetto, a table of its tokens, or the routing for `simulate`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from app.progress import Bar


def add_parser(subparsers: Any) -> None:
    """Declare the command; ``run`` is found at ``args.run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "export", help="export a recorded session as a trace or a table", description=__doc__
    )
    parser.add_argument("session", metavar="SESSION", type=Path, help="a session recorded by the window or by run --session")
    parser.add_argument(
        "out", metavar="OUT", type=Path,
        help="its end says the format: .json.gz or .json is a trace for ui.perfetto.dev, .csv and .parquet have one row a token, .npz and "
             ".routing.parquet tell which experts were chosen",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, with progress on stderr.

    Raises:
        EngineError: the session cannot be read, or the output not be written.
    """
    from engine.recording.exports import export, format_of
    from engine.recording.output import check_writable
    from engine.recording.recording import Recording

    unit = format_of(args.out).unit
    check_writable(args.out)
    recording = Recording.open(args.session)
    try:
        if recording.damage:
            print(recording.damage, file=sys.stderr)
        with Bar() as bar:
            count = export(recording, args.out, lambda done, total: bar.show("exporting", done, total, "spans"))
    finally:
        recording.close()
    about = {"path": str(args.out), unit: count, "bytes": args.out.stat().st_size}
    print(json.dumps(about) if args.json else f"{args.out}: {count:,} {unit}, {about['bytes']:,} bytes.")
    return 0
