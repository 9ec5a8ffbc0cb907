"""`main.py calibrate`: the fewest bytes for a tolerated loss, as a plan that gives every expert its own bitwidth."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.demo import resolve_model
from app.progress import Bar
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.bitwidth.calibration import Calibration

_TOKENS = 16_384
_EPILOG = """\
Loss is by how much perplexity is higher than at 16 bits (or the store's highest width), and the plan's is within the tolerance if the
upper end of its 95% interval is. Every other work of the text is learned from, the others are what the loss is told of. fast estimates all
experts at all widths from one look and corrects by measuring; paper lowers one expert after the other (EdgeMoE), which takes as many
measurements as there are experts. --objective speed replays what routers choose through the engine's own buffer, as simulate does, under
every plan that it considers, and is never slower by that than the plans of the fewest bytes. What was found out is kept in the cache: an
interrupted calibration goes on where it was."""


def add_parser(subparsers: Any) -> None:
    """Declare the command; ``run`` is found at ``args.run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "calibrate", help="find the fewest bytes for a tolerated loss", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--model", default="demo", metavar="DIR", help="checkpoint or store folder, or demo (default)")
    add("--text", type=Path, nargs="+", required=True, metavar="FILE",
        help="texts in UTF-8, plain or .gz, as many tokens of each; form feeds part works")  # fmt: skip
    add("--tolerance", default="2%", metavar="SHARE", help="by how much perplexity may rise (default %(default)s)")
    add("--out", type=Path, required=True, metavar="PLAN", help="the plan file to write")
    add("--objective", choices=("storage", "traffic", "speed"), default="storage",
        help="what is to be least: bytes on storage, or bytes of experts that a token uses; or most: predicted tokens/s (default "
             "%(default)s)")  # fmt: skip
    speed = parser.add_argument_group("for --objective speed", "replays, as simulate does, with experts read on demand")
    under = speed.add_argument
    under("--budget", metavar="BYTES", help="a size, a share of all experts at 4 bits (of a session: at its own), or least (default: 25%%)")
    under("--eviction", metavar="NAME", help="policy (default: the one that measured best)")
    under("--device", metavar="NAME", help="storage to imitate (default: the session's, or nvme)")
    under("--routing", type=Path, metavar="FILE", help="a session, an .npz or a .parquet of routing (default: what the text uses)")
    under("--session", type=Path, metavar="FILE", help="a session of this machine, to know what computing and reading cost")
    add("--method", choices=("fast", "paper"), default="fast", help="(default %(default)s)")
    add("--tokens", type=int, default=_TOKENS, metavar="N", help="to learn from, and as many to verify on (default %(default)s)")
    add("--threads", type=int, default=0, metavar="N", help="threads to compute with (default: all but one core)")
    add("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Calibrate, with progress on stderr.

    Raises:
        EngineError: the model, the text or an option cannot be used, or no plan is good enough.
        Cancelled: interrupted; what was found out is kept.
    """
    from app import conditions

    conditions.check(args)
    tolerance = _share(args.tolerance)
    if args.tokens < 1 or args.threads < 0:
        raise EngineError(f"--tokens {args.tokens} --threads {args.threads}: give at least one token")
    from app.headless import open_store
    from engine.recording.output import check_writable

    check_writable(args.out)
    import torch

    from engine.bitwidth.blocks import texts_of
    from engine.bitwidth.calibration import Calibration
    from engine.bitwidth.notebook import Notebook
    from engine.bitwidth.plan import Origin, Plan, Subject
    from engine.corpus import read_documents
    from engine.models.skeleton import load_skeleton

    kinds = [read_documents(path) for path in args.text]
    store = open_store(resolve_model(args.model))
    under = conditions.conditions_of(args, store) if args.objective == "speed" else None
    torch.set_num_threads(args.threads or max(1, (os.cpu_count() or 2) - 1))
    skeleton = load_skeleton(store, torch.float32)
    texts = texts_of(skeleton.tokenizer, kinds, args.tokens, skeleton.context)
    stopped = [False]
    previous = signal.signal(signal.SIGINT, lambda *_: stopped.__setitem__(0, True))
    try:
        with Bar() as bar, Calibration(
            skeleton, texts, Notebook(store, texts.digest), bar.show, lambda: stopped[0]
        ) as calibration:  # fmt: skip
            predicted = None
            if args.method == "paper":
                made = calibration.paper_plan(tolerance)
            elif under is None:
                made = calibration.plan(tolerance, calibration.objective(args.objective))
            else:
                speed = calibration.speed(under.setup, under.routing)
                made = calibration.plan(tolerance, speed)
                predicted = under.plain(speed, _beside(calibration, tolerance, made.bits))
            bound = made.packed.bound if made.packed and args.objective == "storage" else None
            size = calibration.bytes_of(made.bits)
    finally:
        signal.signal(signal.SIGINT, previous)
    loss = made.loss
    origin = Origin(args.method, tolerance, texts.digest, loss.share, loss.share_range, loss.kl)
    Plan(list(made.bits), origin).write(args.out, Subject.of(store))
    about = {
        "plan": str(args.out), "model": store.name, "quantizer": store.quantizer, "method": args.method, "objective": args.objective,
        "tolerance": tolerance, "bytes": size, "least_bytes": bound, "widths": dict(sorted(Counter(made.bits).items())),
        "loss_measured": loss.share, "loss_ci": loss.share_range, "kl": loss.kl, "kl_ci": loss.kl_range, "perplexity": loss.perplexity,
        "tokens": texts.learn[:, 1:].numel(), "verify_tokens": texts.verify[:, 1:].numel(), "works": texts.works, "seconds": made.seconds,
        "predicted": predicted,
    }  # fmt: skip
    print(json.dumps(about) if args.json else _sentences(about), file=sys.stdout)
    return 0


def _beside(calibration: Calibration, tolerance: float, plan: Sequence[int]) -> dict[str, Sequence[int]]:
    """The plan, those of the fewest bytes for the same tolerance, which were measured on the way, and one width for all."""
    fewest = {name: calibration.plan(tolerance, calibration.objective(name)).bits for name in ("storage", "traffic")}
    return {"speed": plan} | fewest | {f"{bits} bits": calibration.uniform(bits) for bits in reversed(calibration.store.widths)}


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share < 10:
        raise EngineError(f"--tolerance {text}: give a share such as 2% or 0.02")
    return share


def _sentences(about: dict[str, Any]) -> str:
    (low, high), widths = about["loss_ci"], about["widths"]
    mixed = ", ".join(f"{count} at {bits} bits" for bits, count in widths.items())
    best = "" if about["least_bytes"] is None else f" (by the estimate none needs less than {about['least_bytes'] / 1e6:,.2f} MB)"
    return (
        f"Experts: {mixed}; {about['bytes'] / 1e6:,.2f} MB on storage{best}.\n"
        f"Perplexity {about['perplexity']:.3f}, {about['loss_measured']:+.2%} ({low:+.2%} to {high:+.2%}, 95%) over that at 16 "
        f"bits; KL {about['kl']:.4f} nats a token.\n"
        f"Measured on {about['verify_tokens']:,} tokens of {about['works'][1]} works, learned from {about['tokens']:,} of "
        f"{about['works'][0]} others, in {about['seconds']:.0f} s.\n"
        f"{_prediction(about['predicted']) if about['predicted'] else ''}{about['plan']}"
    )


def _prediction(told: dict[str, Any]) -> str:
    """How fast, as a table."""
    titles = {"speed": "this plan", "storage": "fewest bytes", "traffic": "fewest bytes a token"}
    lines = [
        f"{titles.get(row['plan'], row['plan']):20} {row['bytes'] / 1e6:>9,.2f} "
        + ("does not fit" if row["tok_s"] is None else f"{row['mb_per_token']:>9.3f} {row['hit_rate']:>7.1%} {row['tok_s']:>9.1f}")
        for row in told["rows"]
    ]
    return (
        f"Predicted, with experts read on demand, by a replay of {told['tokens']:,} tokens of {told['routing'] or 'the text'}: "
        f"{told['budget_bytes'] / 1e6:,.2f} MB of experts in memory, {told['eviction']}, {told['costs']['device']}; costs are "
        f"{'assumed (--session tells them)' if told['assumed'] else 'of the session'}.\n"
        f"{'':20} {'MB':>9} {'MB/token':>9} {'hits':>7} {'tokens/s':>9}\n" + "\n".join(lines) + "\n"
    )
