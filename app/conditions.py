"""What `calibrate --objective speed` is asked about: under which budget, policy and device plans are to be fast, and on which routing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from app.replaying import check_decoded, check_named, check_shape, costs_of, plain_costs, sessions, usual_bits
from engine.bitwidth.messages import Setup
from engine.errors import EngineError
from engine.residency import POLICIES, policy_name
from engine.settings import BY_NAME, parse_budget
from engine.simulate.routing import Routing
from engine.simulate.traces import read_routing, routing_of
from profiles.devices import load_devices

if TYPE_CHECKING:
    from engine.bitwidth.speed import Speed
    from engine.store import Store

OPTIONS = ("budget", "eviction", "device", "routing", "session")
"""Of no meaning for any other objective."""


@dataclass(frozen=True)
class Conditions:
    """Replays are of ``routing``, which is in the file ``named``, or where there is none, of what the text itself uses. ``assumed``: nobody
    measured the costs. A share as a budget is of all experts at ``share_bits``."""

    setup: Setup
    routing: Routing | None
    assumed: bool
    share_bits: int
    named: str | None

    def plain(self, speed: Speed, plans: dict[str, Sequence[int]]) -> dict[str, Any]:
        """What was predicted, and under what: a row for each plan, in which figures are None where the budget cannot hold it."""
        setup, routing = self.setup, speed.routing
        return {
            "budget_bytes": setup.budget, "share_bits": self.share_bits, "eviction": setup.eviction, "routing": self.named,
            "tokens": routing.tokens, "requests": routing.requests, "assumed": self.assumed, "costs": plain_costs(setup.costs),
            "rows": [_row(name, bits, speed) for name, bits in plans.items()],
        }  # fmt: skip


def _row(name: str, bits: Sequence[int], speed: Speed) -> dict[str, Any]:
    told, size = speed.predicted(bits), sum(speed.record_bytes[width] for width in bits)
    figures = (told.tok_s, told.mb_per_token, told.hit_rate) if told else (None, None, None)
    return {"plan": name, "bytes": size} | dict(zip(("tok_s", "mb_per_token", "hit_rate"), figures, strict=True))


def check(args: argparse.Namespace) -> None:
    """Refuse names that there are not, and options that nothing would come of, before any file is read.

    Raises:
        EngineError: with what to do instead.
    """
    given = [name for name in OPTIONS if getattr(args, name) is not None]
    if args.objective != "speed" and given:
        raise EngineError(f"--{given[0]}: {args.objective} does not depend on it; leave it out, or add --objective speed")
    if args.objective != "storage" and args.method == "paper":
        raise EngineError(f"--objective {args.objective}: the paper's method knows bytes on storage only; leave out one of them")
    if args.budget is not None:
        BY_NAME["budget"].parse(args.budget)
    if args.eviction is not None:
        check_named("eviction", args.eviction, ("default", *POLICIES))
    if args.device is not None:
        check_named("device", args.device, load_devices())


def conditions_of(args: argparse.Namespace, store: Store) -> Conditions:
    """What the options name, for a model; defaults are those of `run` and `simulate`.

    Raises:
        EngineError: a file cannot be used, or is of another model; nobody knows how fast the device is.
    """
    sizes, spec = {bits: store.record_bytes(bits) for bits in store.widths}, store.spec
    with ExitStack() as opened:
        recording, measured = sessions(args, opened)
        routing = None
        if args.routing:
            routing = routing_of(recording) if recording else read_routing(args.routing)
            check_shape(args.routing, routing, store)
            check_decoded(args.routing, routing)
            routing = replace(routing, expert_count=spec.experts)
        costs, share_bits = costs_of(args.device, sizes, measured), usual_bits(sizes, recording)
    size = sizes[share_bits]
    budget = parse_budget(args.budget or str(BY_NAME["budget"].default), size * spec.layers * spec.experts, size * spec.top_k)
    setup = Setup(budget, policy_name(args.eviction or str(BY_NAME["eviction"].default)), costs)
    return Conditions(setup, routing, measured is None, share_bits, str(args.routing) if args.routing else None)
