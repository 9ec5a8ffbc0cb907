"""`main.py run`: generate from a model that streams its experts, without a screen."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from app.demo import resolve_model
from engine.settings import BY_NAME, Value
from profiles.devices import load_devices
from profiles.profile import find

_SETTINGS = ("budget", "bits", "plan", "eviction", "warm_start", "predictor", "device", "seed", "temperature", "top_k",
             "top_p", "repetition_penalty", "io_threads", "compute_threads", "kernels", "dtype", "skeleton_bits",
             "verify", "ignore_eos")  # fmt: skip


def add_parser(subparsers: Any) -> None:
    """Declare the command; ``run`` is found at ``args.run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("run", help="generate text without a screen", description=__doc__)
    parser.add_argument("--model", default="demo", metavar="DIR", help="checkpoint or store folder, or demo (default)")
    parser.add_argument("--prompt", default="Once upon a time", metavar="TEXT")
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="new tokens (default %(default)s)")
    add_settings(parser)
    parser.add_argument("--session", type=Path, metavar="OUT", help="record the session to this file")
    parser.add_argument("--trace", type=Path, metavar="OUT.json.gz", help="write a trace for Perfetto")
    parser.add_argument("--no-recording", action="store_true", help="keep totals only")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def add_settings(parser: argparse.ArgumentParser, names: tuple[str, ...] = _SETTINGS) -> None:
    """The engine's settings as options, with the help they carry, and ``--profile``."""
    for name in names:
        setting = BY_NAME[name]
        parser.add_argument(f"--{name.replace('_', '-')}", default=None, metavar=setting.unit.upper() or "VALUE",
                            help=f"{setting.help} Default: {setting.default}".replace("%", "%%"))  # fmt: skip
    parser.add_argument("--profile", metavar="NAME", help="a tuning profile, by name or file; options override it")


def chosen_settings(args: argparse.Namespace) -> dict[str, Value]:
    """Profile overlaid with options.

    Raises:
        EngineError: there is no such profile, or it cannot be read.
    """
    values: dict[str, Value] = dict(find(args.profile).settings) if args.profile else {}
    values.update({name: given for name in _SETTINGS if (given := getattr(args, name, None)) is not None})
    return values


def run(args: argparse.Namespace) -> int:
    """Generate, streaming the text to stdout (or one JSON object), all else to stderr.

    Raises:
        EngineError: the model, a setting or an output cannot be used.
    """
    from app.headless import Headless

    values = chosen_settings(args) | {"max_tokens": args.tokens}
    with Headless(resolve_model(args.model), values, load_devices(), args.session, args.trace, not args.no_recording) as headless:
        previous = signal.signal(signal.SIGINT, lambda *_: headless.stop())
        try:
            headless.fill()
            report = headless.generate(args.prompt, None if args.json else _write)
        finally:
            signal.signal(signal.SIGINT, previous)
        # Before the trace is written, which a full disk may prevent.
        print(json.dumps(report) if args.json else "\n" + _sentence(report), file=sys.stdout if args.json else sys.stderr)
    return 0


def _write(piece: str) -> None:
    print(piece, end="", flush=True)


def _warm(report: dict[str, Any]) -> str:
    return f" and {report['warm_bytes'] / 1e6:.1f} MB before" if report["warm_bytes"] else ""


def _sentence(report: dict[str, Any]) -> str:
    return (
        f"{len(report['token_ids'])} tokens, prefill {report['prefill_s']:.2f} s, decode {report['decode_tok_s']:.1f} tokens/s, "
        f"hit rate {report['hit_rate']:.1%}, {report['demand_bytes'] / 1e6:.1f} MB read{_warm(report)}, stalled {report['stall_s']:.2f} s, "
        f"experts at most {report['peak_resident_bytes'] / 2**20:.2f} of {report['budget_bytes'] / 2**20:.2f} MiB"
    )
