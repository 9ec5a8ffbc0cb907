"""`main.py train`: learn from recorded routing which experts a model's next layers will choose."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.demo import resolve_model
from app.progress import Bar
from engine.errors import Cancelled, EngineError

if TYPE_CHECKING:
    from engine.simulate.routing import Routing
    from engine.store import Store

_HELD_OUT = 10  # one of so many requests is not learned from


def add_parser(subparsers: Any) -> None:
    """Declare the command; ``run`` is found at ``args.run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "train", help="learn to predict experts from recorded routing",
        description=f"{__doc__} A tenth of the requests is not learned from: on them it is told how much is predicted right.",
    )  # fmt: skip
    parser.add_argument("--model", default="demo", metavar="DIR", help="checkpoint or store folder, or demo (default)")
    parser.add_argument("--routing", type=Path, nargs="+", required=True, metavar="FILE", help="routing traces, or sessions of this model")
    parser.add_argument("--predictor", default="transition,path", metavar="NAMES", help="which to train (default %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to keep them (default the model's store)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, with progress on stderr.

    Raises:
        EngineError: the model, the routing, a name or the folder cannot be used.
        Cancelled: interrupted; the files that were there are as they were.
    """
    from app.headless import open_store
    from engine.preload.learned import KINDS
    from engine.recording.output import check_writable

    names = _names(args.predictor, tuple(KINDS))
    store = open_store(resolve_model(args.model))
    out = args.out or store.path
    for name in names:
        check_writable(out / KINDS[name].file)
    learned, held_out = _split([_fitting(path, store) for path in args.routing])
    trained = [_train(name, store, learned, held_out, out) for name in names]
    about = {
        "model": store.name, "routing": [str(path) for path in args.routing], "requests": learned.requests, "tokens": learned.tokens,
        "held_out_requests": held_out.requests, "held_out_tokens": held_out.tokens, "predictors": trained,
    }  # fmt: skip
    print(json.dumps(about) if args.json else _sentences(about, store.spec.top_k), file=sys.stdout)
    return 0


def _names(text: str, known: tuple[str, ...]) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise EngineError(f"--predictor {name}: there is none of that name to train; choose from {','.join(known)}")
    return names


def _fitting(path: Path, store: Store) -> Routing:
    """The routing in a file, which must be of a model of the store's shape."""
    from engine.simulate.traces import read_routing

    routing, spec = read_routing(path), store.spec
    if (routing.layers, routing.top_k) != (spec.layers, spec.top_k) or routing.expert_count > spec.experts:
        theirs, ours = _shape(routing.layers, routing.expert_count, routing.top_k), _shape(spec.layers, spec.experts, spec.top_k)
        raise EngineError(f"{path} is the routing of another model: it has {theirs}, {store.name} {ours}; record one of {store.name}")
    if not routing.tokens:
        raise EngineError(f"{path} holds no decoded token; record requests of more than one new token")
    return routing


def _shape(layers: int, experts: int, top_k: int) -> str:
    return f"{layers} layers of {experts} experts, top {top_k}"


def _split(routings: list[Routing]) -> tuple[Routing, Routing]:
    """All requests, those to learn from and those to judge by; none of the latter where there is but one."""
    from dataclasses import replace

    import numpy as np

    experts, lengths = (np.concatenate([getattr(routing, name) for routing in routings]) for name in ("experts", "lengths"))
    both = replace(routings[0], experts=experts, lengths=lengths, prefill=routings[0].prefill[:0], weights=None, softmax=None)
    asked = np.flatnonzero(lengths)
    kept = max(len(asked) // _HELD_OUT, int(len(asked) > 1))
    order = np.random.default_rng(0).permutation(asked)
    return both.take(np.sort(order[kept:])), both.take(np.sort(order[:kept]))


def _train(name: str, store: Store, learned: Routing, held_out: Routing, out: Path) -> dict[str, Any]:
    """Train one predictor, measure and save it; what there is to tell of it."""
    from engine.preload.learned import KINDS
    from engine.preload.predictor import About, trace_hash
    from engine.preload.recall import recall

    spec, kind, stopped, started = store.spec, KINDS[name], [False], time.monotonic()
    predictor = kind(spec.layers, spec.experts, spec.top_k)
    # Not as an exception: it would be raised in what the native training calls, and be lost there.
    previous = signal.signal(signal.SIGINT, lambda *_: stopped.__setitem__(0, True))
    try:
        with Bar() as bar:

            def report(share: float) -> bool:
                bar.show(f"training {name}", round(100 * share), 100, "percent")
                return not stopped[0]

            if not predictor.train(learned.experts, learned.lengths, report) or stopped[0]:
                raise Cancelled
    finally:
        signal.signal(signal.SIGINT, previous)
    seconds, path = time.monotonic() - started, out / kind.file
    predictor.save(path, About(name, spec.layers, spec.experts, spec.top_k, trace_hash(learned.experts), learned.requests, learned.tokens))
    told = {"predictor": name, "path": str(path), "bytes": path.stat().st_size, "seconds": round(seconds, 3)}
    if not held_out.tokens:
        return told | {"recall_at_k": None, "recall_at_2k": None, "recall_at_k_by_layer": []}
    once, twice = recall(predictor, held_out.experts, held_out.lengths, (spec.top_k, 2 * spec.top_k))
    return told | {
        "recall_at_k": float(once.mean()), "recall_at_2k": float(twice.mean()), "recall_at_k_by_layer": once.round(4).tolist(),
    }  # fmt: skip


def _sentences(about: dict[str, Any], top_k: int) -> str:
    others = about["held_out_requests"]
    lines = [f"Learned from {about['tokens']:,} tokens of {about['requests']:,} requests, judged by {others:,} others."]
    for one in about["predictors"]:
        once, twice = one["recall_at_k"], one["recall_at_2k"]
        right = "" if once is None else f"{once:.1%} of the experts are among {top_k} predicted, {twice:.1%} among {2 * top_k}; "
        lines.append(f"{one['predictor']}: {right}{one['bytes'] / 1e6:.2f} MB, learned in {one['seconds']:.1f} s: {one['path']}")
    return "\n".join(lines)
