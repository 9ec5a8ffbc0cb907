"""Hit rates of every eviction policy, and how much of the gap from LRU to Belady's oracle each closes: real routing, split by request.

    python tests/benchmarks/policies.py [--routing FILE]

Every other request is what policies may hear before ("heard"); hit rates are of the others' decoded tokens, one access being one expert of
one token. Without a file: gpt-oss-20b's routing, where it lies beside the project, and the demo model's own, recorded here.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from _demo import ROOT, demo_store, generate, open_session, prompts

from engine.preload.device import Device
from engine.recording.recording import Recording
from engine.residency import DEFAULT, POLICIES
from engine.simulate.cost import Costs
from engine.simulate.live import routing_of
from engine.simulate.replay import ORACLE, Cell, Records, Replay
from engine.simulate.routing import Routing
from engine.simulate.traces import read_routing

SHARES = (0.10, 0.125, 0.25, 0.375, 0.50)
GPT_OSS = ROOT.parent / "shared" / "data" / "routing" / "gpt-oss-20b.npz"
RECORD_BYTES = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routing", type=Path)
    args = parser.parse_args()
    if args.routing:
        table(args.routing.name, read_routing(args.routing))
        return
    if GPT_OSS.is_file():
        table("gpt-oss-20b", read_routing(GPT_OSS))
    else:
        print(f"{GPT_OSS.name} is not there: left out")
    table("demo model", recorded())


def recorded() -> Routing:
    """The demo model's routing of prose and code, with everything resident."""
    recording = Recording()
    session = open_session(demo_store(), recording.append, budget="100%", predictor="none", max_tokens=250, seed=1)
    from engine.events import Ready

    recording.append(Ready(0, session.info(), session.values, session.effective(), session.budget))
    for text in [text for pair in zip(prompts("prose", 5), prompts("code", 5), strict=False) for text in pair]:
        generate(session, text)
    session.close()
    return routing_of(recording)


def table(name: str, routing: Routing) -> None:
    requests = np.arange(routing.requests)
    heard, judged = routing.take(requests[::2]), routing.take(requests[1::2])
    records = Records({4: RECORD_BYTES}, np.full(routing.shape.total, 4))
    replay = Replay(judged, records, Costs(Device("any", "Any", 1e9, 1e-4, 4)))
    layers, experts = routing.shape
    print(f"\n{name}: {layers} layers x {experts} experts, top {routing.top_k}; {judged.tokens:,} tokens judged, {heard.tokens:,} heard: "
          "hit % (of the gap from LRU to the oracle, closed %)")  # fmt: skip
    print(f"{'':20}" + "".join(f"{share:>18.1%}" for share in SHARES) + f"{'us an access':>14}")
    rates: dict[str, list[float]] = {}
    least = routing.top_k * RECORD_BYTES
    for policy in ("lru", ORACLE, *(policy for policy in POLICIES if policy != "lru"), f"{DEFAULT}, heard"):
        plain, _, hears = policy.partition(",")
        lesson = replay.learn(plain, heard) if hears else None
        cells = [Cell(max(least, int(records.full * share)), plain, lesson=lesson) for share in SHARES]
        began = time.perf_counter()
        rates[policy] = [told.hit_rate for told in map(replay.run, cells) if told is not None]
        accesses = len(cells) * judged.tokens * layers * routing.top_k
        row = []
        for rate, low, high in zip(rates[policy], rates["lru"], rates.get(ORACLE, rates[policy]), strict=True):
            closed = f" ({(rate - low) / (high - low):.0%})" if high > low and policy not in ("lru", ORACLE) else ""
            row.append(f"{rate:.1%}{closed}")
        took = (time.perf_counter() - began) / accesses * 1e6
        print(f"{policy:20}" + "".join(f"{cell:>18}" for cell in row) + f"{took:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
