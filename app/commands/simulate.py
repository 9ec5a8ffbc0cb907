"""`main.py simulate`: what other policies, predictors and budgets would have made of a recorded routing.

It is replayed through the engine's own code; time and storage are modelled. Hits are counted over decoded tokens.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.progress import Bar
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.simulate.cost import Costs
    from engine.simulate.replay import Records
    from engine.simulate.routing import Routing
    from engine.simulate.sweep import Row

_PREDICTORS = ("none", "path", "transition", "oracle")
_COLUMNS = (
    ("budget", "budget", "{}"), ("eviction", "eviction", "{}"), ("predictor", "predictor", "{}"), ("hit_rate", "hits %", "{:.1%}"),
    ("misses_first_touch", "first", "{:,}"), ("misses_capacity", "capacity", "{:,}"), ("misses_mispredicted", "mispred.", "{:,}"),
    ("misses_late", "late", "{:,}"), ("recall_at_k", "recall", "{:.1%}"), ("misses_covered", "covered", "{:.1%}"),
    ("mb_per_token", "MB/token", "{:.2f}"), ("stall_ms_per_token", "stall ms", "{:.2f}"), ("tok_s", "tokens/s", "{:.1f}"),
)  # fmt: skip


def add_parser(subparsers: Any) -> None:
    """Declare the command; ``run`` is found at ``args.run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "simulate", help="replay a recorded routing with other settings", description=__doc__
    )
    parser.add_argument("--routing", type=Path, required=True, metavar="FILE", help="a session, an .npz or a .parquet of routing")
    parser.add_argument("--train", type=Path, metavar="FILE", help="routing of other requests, which predictors and policies hear before")
    parser.add_argument("--budget", default="10%,25%,50%", metavar="LIST", help="sizes, or shares of all experts (default %(default)s)")
    parser.add_argument("--eviction", default="lru,default,oracle", metavar="LIST",
                        help="policies, default for the one that measured best, oracle for Belady's (default %(default)s)")  # fmt: skip
    parser.add_argument("--predictor", default="none", metavar="LIST", help=f"of {', '.join(_PREDICTORS)}; path needs --train "
                        "(default %(default)s)")  # fmt: skip
    parser.add_argument("--preload-depth", type=int, default=4, metavar="LAYERS", help="layers ahead (default %(default)s)")
    parser.add_argument("--preload-width", type=int, default=0, metavar="EXPERTS", help="most read ahead and unused (default: depth × k)")
    parser.add_argument("--experts", type=int, metavar="N", help="experts a layer, where the file does not tell")
    parser.add_argument("--model", metavar="DIR", help="take the records' sizes, and --plan, from this model, or demo")
    parser.add_argument("--bits", type=int, default=4, help="width of every expert (default %(default)s)")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="a width for every expert; needs --model")
    parser.add_argument("--record-bytes", default="1MiB", metavar="SIZE", help="of an expert, without --model (default %(default)s)")
    parser.add_argument("--device", default="nvme", metavar="NAME", help="storage to imitate (default %(default)s)")
    parser.add_argument("--session", type=Path, metavar="FILE", help="a session of this machine, to know what computing costs")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay every combination, with progress on stderr.

    Raises:
        EngineError: a file, a name or a budget cannot be used.
    """
    from engine.simulate.sweep import Sweep
    from engine.simulate.traces import read_routing

    routing = read_routing(args.routing, args.experts)
    heard = read_routing(args.train, routing.expert_count) if args.train else None
    records, costs = _records(args, routing), _costs(args)
    sweep = Sweep(routing, records, costs, heard, args.preload_depth, args.preload_width)
    cells = _cells(args, records)
    rows: list[Row] = []
    with Bar() as bar, ThreadPoolExecutor(2) as pool:
        sweep.prepare({predictor for _, _, _, predictor in cells}, lambda share: bar.show("learning", round(100 * share), 100, "percent"))
        try:
            for row in pool.map(lambda cell: sweep.row(*cell), cells):
                rows.append(row)
                bar.show("replaying", len(rows), len(cells), "settings")
        except KeyboardInterrupt:
            sweep.stop()
            raise
    about = {
        "routing": str(args.routing), "tokens": routing.tokens, "requests": routing.requests, "layers": routing.layers,
        "experts": routing.expert_count, "top_k": routing.top_k, "full_bytes": records.full, "device": args.device,
        "costs": "of the session" if args.session else "assumed", "rows": [row.plain() for row in rows],
    }  # fmt: skip
    print(json.dumps(about) if args.json else _table(about), file=sys.stdout)
    return 0


def _cells(args: argparse.Namespace, records: Records) -> list[tuple[str, int, str, str]]:
    """Budget as asked for and in bytes, policy, predictor: every combination, in the order given."""
    from engine.residency import POLICIES, policy_name
    from engine.settings import parse_budget
    from engine.simulate.replay import ORACLE

    budgets, evictions, predictors = (_listed(getattr(args, name)) for name in ("budget", "eviction", "predictor"))
    for name in evictions:
        if name not in (ORACLE, "default", *POLICIES):
            raise EngineError(f"--eviction {name}: there is none of that name; choose from default, {', '.join(POLICIES)}, {ORACLE}")
    for name in predictors:
        if name == "gate":
            raise EngineError("--predictor gate: routers need the hidden states, which no routing holds; run the model with it instead")
        if name not in _PREDICTORS:
            raise EngineError(f"--predictor {name}: there is none of that name; choose from {', '.join(_PREDICTORS)}")
        if name == "path" and not args.train:
            raise EngineError("--predictor path: the dictionary must be learned from other requests; give them with --train FILE")
    named = [(policy_name(name) if name != ORACLE else name) if name != "default" else policy_name(name) for name in evictions]
    return [(b, parse_budget(b, records.full), e, p) for b in budgets for e in named for p in predictors]


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _records(args: argparse.Namespace, routing: Routing) -> Records:
    """What experts weigh: as the model stores them, or all the same."""
    import numpy as np

    from engine.settings import parse_budget
    from engine.simulate.replay import Records

    if not args.model:
        if args.plan:
            raise EngineError("--plan: the plan gives widths of a model's experts; say of which with --model")
        return Records({args.bits: max(1, parse_budget(args.record_bytes, 1 << 20))}, np.full(routing.shape.total, args.bits))
    from app.demo import resolve_model
    from app.headless import open_store
    from engine.bitwidth.plan import Plan

    store = open_store(resolve_model(args.model))
    if (store.spec.layers, store.spec.experts) != (routing.layers, routing.expert_count):
        raise EngineError(
            f"{args.routing} is of {routing.layers} layers of {routing.expert_count} experts, {store.name} has {store.spec.layers} of "
            f"{store.spec.experts}; give its own routing, or --record-bytes instead of --model"
        )
    bits = Plan.read(args.plan, store).bits if args.plan else [args.bits] * routing.shape.total
    return Records({width: store.record_bytes(width) for width in sorted(set(bits))}, np.array(bits))


def _costs(args: argparse.Namespace) -> Costs:
    from engine.recording.recording import Recording
    from engine.simulate.cost import Costs, calibrated
    from profiles.devices import load_devices

    devices = load_devices()
    if args.device not in devices:
        raise EngineError(f"--device {args.device}: there is none of that name; choose from {', '.join(devices)}")
    if args.session is None:
        if args.device == "native":
            raise EngineError("--device native: how fast it is must be known; give a --session of this machine, or another device")
        return Costs(devices[args.device])
    recording = Recording.open(args.session)
    try:
        costs = calibrated(recording, devices.get(str(recording.effective.get("device", "native")), devices["native"]))
    finally:
        recording.close()
    return costs if args.device == "native" else costs.at(devices[args.device])


def _table(about: dict[str, Any]) -> str:
    rows = [[form.format(row[key]) for key, _, form in _COLUMNS] for row in about["rows"]]
    widths = [max(len(title), *(len(row[i]) for row in rows)) for i, (_, title, _) in enumerate(_COLUMNS)]
    titles = [title for _, title, _ in _COLUMNS]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in (titles, *rows)]
    assumed = "" if about["costs"] != "assumed" else "; tokens/s with assumed costs of computing: give a --session to know them"
    shape = f"{about['layers']} layers × {about['experts']} experts, top {about['top_k']}"
    head = f"{about['tokens']:,} tokens of {about['requests']:,} requests, {shape}"
    return "\n".join([f"{head}; storage as {about['device']}{assumed}", *lines])
