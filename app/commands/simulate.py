"""`main.py simulate`: what other policies, predictors and budgets would have made of a recorded routing.

It is replayed through the engine's own code; time and storage are modelled. Hits are counted over decoded tokens.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.progress import Bar
from engine.errors import EngineError

if TYPE_CHECKING:
    from app.replaying import Subject
    from engine.simulate.sweep import Setting

_PREDICTORS = ("none", "path", "transition", "oracle")
_COLUMNS = (
    ("budget", "budget", "{}"), ("eviction", "eviction", "{}"), ("predictor", "predictor", "{}"), ("hit_rate", "hits", "{:.1%}"),
    ("misses_first_touch", "first", "{:.2%}"), ("misses_capacity", "capacity", "{:.1%}"), ("misses_mispredicted", "mispred.", "{:.1%}"),
    ("misses_late", "late", "{:.1%}"), ("recall_at_k", "recall", "{:.1%}"), ("misses_covered", "covered", "{:.1%}"),
    ("mb_per_token", "MB/token", "{:.2f}"), ("least_mb_per_token", "least", "{:.2f}"), ("stall_ms_per_token", "stall ms", "{:.2f}"),
    ("tok_s", "tokens/s", "{:.1f}"),
)  # fmt: skip
_CAUSES = ("misses_first_touch", "misses_capacity", "misses_mispredicted", "misses_late")
_EPILOG = """\
A row for every budget with every policy and every predictor. Hits, and misses by cause (never loaded before, evicted since, others read
ahead instead, read ahead too late), are shares of the experts used. recall: of the k experts predicted for a layer, how many it chose;
covered: of what would have been missed, how much was read ahead in time; MB/token: read on demand and ahead; least: what any policy would
have to read on demand, also of records of different sizes, were parts of records to be kept. Budgets begin empty,
or with what a session began with. Long routings are
sampled; LRU's hits, misses and bytes without a predictor are of all tokens even so, where records are of one size. --json counts them."""


def add_parser(subparsers: Any) -> None:
    """Declare the command; ``run`` is found at ``args.run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "simulate", help="replay a recorded routing with other settings", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--routing", type=Path, required=True, metavar="FILE", help="a session, an .npz or a .parquet of routing")
    add("--train", type=Path, metavar="FILE", help="other requests to learn from before: predictors of all, policies of a sample")
    add("--budget", default="10%,25%,50%", metavar="LIST", help="sizes, shares of all experts, or least (default %(default)s)")
    add("--eviction", default="lru,default,oracle", metavar="LIST",
        help="policies; default is the one that measured best, oracle Belady's (default %(default)s)")  # fmt: skip
    add("--predictor", default="none", metavar="LIST",
        help=f"of {', '.join(_PREDICTORS)} (default %(default)s); path and transition are --model's, or learn from --train, transition "
             "also as it goes")  # fmt: skip
    add("--preload-depth", type=int, default=4, metavar="LAYERS", help="read ahead for so many layers (default %(default)s)")
    add("--preload-width", type=int, default=0, metavar="EXPERTS", help="most read ahead and not used yet (default: depth × k)")
    add("--sample", type=int, metavar="TOKENS",
        help="replay whole requests, drawn at random, of so many tokens at most; 0: all (default: 100,000, fewer where a token uses "
             "more than 20 experts)")  # fmt: skip
    add("--experts", type=int, metavar="N", help="experts a layer, where the file does not tell (default: as many as it names)")
    add("--bits", type=int, metavar="BITS", help="width of every expert (default: the session's, or 4)")
    add("--plan", type=Path, metavar="FILE", help="a width for every expert; needs --model")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--model", metavar="DIR", help="take the records' sizes and the predictors of this model, or demo")
    sizes.add_argument("--record-bytes", metavar="SIZE", help="of an expert (default: the session's, or 1MiB)")
    add("--device", metavar="NAME", help="storage to imitate (default: the session's, or nvme)")
    add("--session", type=Path, metavar="FILE", help="a session of this machine, to know what computing and reading cost")
    add("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay every combination, with progress on stderr.

    Raises:
        EngineError: a file, a name or a budget cannot be used.
        Cancelled: interrupted.
    """
    import platformdirs

    from app.replaying import subject_of
    from engine.simulate.sweep import Sweep

    _check(args)
    subject = subject_of(args)
    settings = _settings(args, subject)
    keep = Path(platformdirs.user_cache_dir("edgemoe-studio", appauthor=False)) / "predictors"
    sweep = Sweep(
        subject.replay, subject.heard, subject.predictors, args.preload_depth, args.preload_width, keep, subject.whole, subject.initial,
        subject.listened,
    )  # fmt: skip
    # Not as an exception: it would be raised in what the native training calls, and be lost there.
    previous = signal.signal(signal.SIGINT, lambda *_: sweep.stop())
    try:
        with Bar() as bar:
            rows = [row.plain() for row in sweep.rows(settings, bar.show)]
    finally:
        signal.signal(signal.SIGINT, previous)
    about = subject.plain() | {"routing": str(args.routing), "train": str(args.train) if args.train else None, "rows": rows}
    print(json.dumps(about) if args.json else _table(about), file=sys.stdout)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing, and names that there are not, before any file is read."""
    from app.replaying import check_named
    from engine.residency import POLICIES
    from engine.simulate.replay import ORACLE

    for name, least in (("preload_depth", 1), ("preload_width", 0), ("sample", 0), ("experts", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise EngineError(f"--{name.replace('_', '-')} {value}: give at least {least}")
    for name, known in (("eviction", ("default", *POLICIES, ORACLE)), ("predictor", _PREDICTORS)):
        for one in _listed(args, name):
            if one == "gate":
                raise EngineError("--predictor gate: routers need the hidden states, which no routing holds; run the model with it instead")
            check_named(name, one, known)
    if args.plan and not args.model:
        raise EngineError("--plan: a plan gives widths of a model's experts; say of which with --model")


def _settings(args: argparse.Namespace, subject: Subject) -> list[Setting]:
    """Every combination, in the order given."""
    from engine.residency import policy_name
    from engine.settings import parse_budget
    from engine.simulate.replay import ORACLE
    from engine.simulate.sweep import Setting

    predictors = _listed(args, "predictor")
    if "path" in predictors and subject.heard is None and "path" not in subject.predictors:
        raise EngineError("--predictor path: the dictionary must be learned from other requests; give them with --train FILE")
    records = subject.replay.records
    least = records.least(subject.replay.routing.top_k)
    budgets = [(text, parse_budget(text, records.full, least)) for text in _listed(args, "budget")]
    evictions = dict.fromkeys(name if name == ORACLE else policy_name(name) for name in _listed(args, "eviction"))
    return [Setting(text, size, e, p) for text, size in budgets for e in evictions for p in predictors]


def _listed(args: argparse.Namespace, name: str) -> list[str]:
    parts = list(dict.fromkeys(part.strip() for part in getattr(args, name).split(",") if part.strip()))
    if not parts:
        raise EngineError(f"--{name}: give at least one")
    return parts


def _table(about: dict[str, Any]) -> str:
    shares = [row | {cause: row[cause] / max(1, row["uses"]) for cause in _CAUSES} for row in about["rows"]]
    rows = [["–" if row[key] is None else form.format(row[key]) for key, _, form in _COLUMNS] for row in shares]
    titles = [title for _, title, _ in _COLUMNS]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in (titles, *rows)]
    costs = about["costs"]
    experts = ", ".join(f"{ns / 1e6:.3g} ms an expert at {bits} bits" for bits, ns in costs["expert_ns"].items())
    begun = f"; as many of {about['initial_experts']} experts as fit are in memory to begin with" if about["initial_experts"] else ""
    drawn = f" drawn from {about['tokens_of']:,} of {about['requests_of']:,} (--sample 0: all)" if about["sampled"] else ""
    return "\n".join([
        f"{about['tokens']:,} tokens of {about['requests']:,} requests{drawn}, {about['layers']} layers × {about['experts']} experts, top "
        f"{about['top_k']}; default is {about['default']}{begun}",
        f"Costs {'assumed (--session tells them)' if about['assumed'] else 'of the session'}: {costs['layer_ns'] / 1e6:.3g} ms a layer and "
        f"{costs['token_ns'] / 1e6:.3g} ms a token without experts, {experts}, {costs['predict_ns'] / 1e3:.3g} µs to predict a layer; "
        f"{costs['device']} reads {costs['bandwidth'] / 1e6:,.0f} MB/s after {costs['latency_s'] * 1e3:.3g} ms",
        *lines,
        *_of_all(about),
    ])  # fmt: skip


def _of_all(about: dict[str, Any]) -> list[str]:
    """A line about the rows that are not of the sample."""
    rates = [f"{row['sampled_hit_rate']:.1%} at {row['budget']}" for row in about["rows"] if row["sampled_hit_rate"] is not None]
    of_all = f"lru without a predictor: hits and bytes of all {about['tokens_of']:,} tokens; its hit rate in the sample: "
    return [of_all + ", ".join(rates)] if rates else []
