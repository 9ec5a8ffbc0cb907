"""What `simulate` costs on a long trace, and how near a sample comes: seconds, tokens replayed a second and hit rates, policy by policy.

    python tests/benchmarks/simulate.py [--routing FILE] [--tokens 200000] [--budget 25%] [--policies lru,forecast,oracle]

The trace is made of the requests of FILE, drawn with replacement, or is FILE's own with --tokens 0; policies that learn gain from requests
that come again. Without FILE: gpt-oss-20b's, where they lie beside the project, else requests drawn with its habits. Each policy replays
the sample that `simulate` takes by default, and then all; LRU's hits of all, and the least that any policy must read, come from one pass
as well.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from policies import GPT_OSS, RECORD_BYTES

from app.race.routing import draw_routing
from engine.preload.device import Device
from engine.residency import POLICIES
from engine.settings import parse_budget
from engine.simulate.cost import Costs
from engine.simulate.replay import ORACLE, Cell, Records, Replay
from engine.simulate.routing import Routing
from engine.simulate.traces import read_routing

REQUEST = 300  # tokens of one that is drawn
Made = TypeVar("Made")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routing", type=Path)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--budget", default="25%")
    parser.add_argument("--policies", default=",".join((*POLICIES, ORACLE)))
    args = parser.parse_args()
    source = args.routing or (GPT_OSS if GPT_OSS.is_file() else None)
    routing = repeated(read_routing(source), args.tokens) if source else drawn(args.tokens or 200_000)
    whole, sample = replay_of(routing), replay_of(routing.sample())
    budget = parse_budget(args.budget, whole.records.full, whole.records.least(routing.top_k))
    print(f"{source.name if source else 'drawn'}: {routing.tokens:,} tokens of {routing.requests} requests, {routing.layers} layers x "
          f"{routing.expert_count} experts, top {routing.top_k}; {args.budget} of them in memory; the sample is {sample.routing.tokens:,} "
          f"tokens of {sample.routing.requests} requests")  # fmt: skip
    before = peak()
    hits, took = timed(whole.lru_hits)
    print(f"LRU of all budgets in one pass: {took:.1f} s, hit rate {hits.rates[min(budget // RECORD_BYTES, len(hits.hits) - 1)]:.2%}")
    least, took = timed(lambda: whole.least_mb_per_token(budget))
    print(f"least that any policy reads: {took:.1f} s, {least:.2f} MB/token (sample {sample.least_mb_per_token(budget):.2f})")
    print(f"memory: {peak() - before:,} MiB beside the trace's {routing.experts.nbytes >> 20:,} MiB")
    print(f"{'':16}{'sample':>34}{'all':>34}{'sample off':>14}")
    for policy in args.policies.split(","):
        near, far = told(sample, policy, budget), told(whole, policy, budget)
        print(f"{policy:16}{near[0]}{far[0]}{100 * (near[1] - far[1]):>+12.2f} %", flush=True)


def repeated(source: Routing, tokens: int) -> Routing:
    """Requests of a routing, drawn with replacement, of about so many tokens; 0: as they are."""
    if not tokens:
        return source
    count = max(1, round(tokens * source.requests / source.tokens))
    return source.take(np.random.default_rng(0).integers(0, source.requests, count))


def drawn(tokens: int) -> Routing:
    experts = draw_routing(tokens, 24, 32, 4).astype(np.int16)
    lengths = np.diff(np.append(np.arange(0, tokens, REQUEST), tokens))
    return Routing(experts, lengths.astype(np.int64), 32)


def replay_of(routing: Routing) -> Replay:
    return Replay(routing, Records({4: RECORD_BYTES}, np.full(routing.shape.total, 4)), Costs(Device("any", "Any", 1e9, 1e-4, 4)))


def told(replay: Replay, policy: str, budget: int) -> tuple[str, float]:
    """Seconds, tokens a second and hit rate, as they are printed, and the hit rate."""
    replayed, took = timed(lambda: replay.run(Cell(budget, policy)))
    assert replayed is not None
    return f"{took:>10.1f} s{replayed.tokens / took:>9,.0f}/s{replayed.hit_rate:>11.2%}", replayed.hit_rate


def timed(make: Callable[[], Made]) -> tuple[Made, float]:
    began = time.perf_counter()
    return make(), time.perf_counter() - began


def peak() -> int:
    """The most memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
