"""How far decoding is from what no engine could beat: its time over the longer of computing alone and reading alone.

    python tests/benchmarks/limit.py [--budgets 25%,50%] [--devices native,emmc-5.1,ufs-3.1] [--tokens 250] [--made WORK/NAME]

Computing alone: the same tokens with everything resident. Reading alone: what Belady's oracle would have read of the very routing, at the
bandwidth that the storage showed while it was busy. --made: not the demo model, but a synthetic one that `main.py bench --shape olmoe
--routing FILE --against none --prepare --work WORK` left in WORK, with its store beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from _demo import demo_store, open_session, prompts

from app.race.planted import Planted
from engine.events import Phase, Ready
from engine.recording.recording import Recording
from engine.simulate.cost import calibrated
from engine.simulate.live import routing_of
from engine.simulate.replay import ORACLE, Cell, Records, Replay
from engine.store import Store

BITS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", default="25%,50%")
    parser.add_argument("--devices", default="native,emmc-5.1,ufs-3.1")
    parser.add_argument("--tokens", type=int, default=250)
    parser.add_argument("--made", type=Path)
    args = parser.parse_args()
    store = Store.open(args.made.with_name(f"{args.made.name}-{BITS}bit")) if args.made else demo_store()
    planted = Planted.read(args.made) if args.made else None
    alone, _ = decoded(store, "native", "100%", args.tokens, planted, rounds=2)
    print(f"computing alone {alone:.2f} ms a token")
    for device in args.devices.split(","):
        for budget in args.budgets.split(","):
            took, recording = decoded(store, device, budget, args.tokens, planted)
            rows, routing = recording.tokens.rows(), routing_of(recording)
            reads = [rows[name].sum(dtype=np.int64) for name in ("demand_bytes", "preload_useful_bytes", "preload_wasted_bytes")]
            bandwidth = float(sum(reads)) / float(rows["io"].sum())  # bytes/ns
            assert recording.budget is not None
            records = Records({BITS: store.record_bytes(BITS)}, np.full(routing.shape.total, BITS))
            told = Replay(routing, records, calibrated(recording)).run(Cell(recording.budget.granted, ORACLE))
            assert told is not None
            reading = told.demand_bytes / told.tokens / bandwidth / 1e6
            print(f"{device:10}{budget:>5}: {took:6.2f} ms a token, reading alone {reading:6.2f} ms at {1e3 * bandwidth:5.0f} MB/s: "
                  f"{took / max(alone, reading):.2f} times the limit", flush=True)  # fmt: skip


def decoded(store: Store, device: str, budget: str, tokens: int, planted: Planted | None, rounds: int = 1) -> tuple[float, Recording]:
    """ms a decoded token of the last round's second and later requests, and the session."""
    recording = Recording()
    folder = {} if planted is None else {"model": None}
    session = open_session(store, recording.append, **folder, bits=BITS, device=device, budget=budget, max_tokens=tokens)
    recording.append(Ready(0, session.info(), session.values, session.effective(), session.budget))
    texts = prompts("prose", 3)
    for number, text in [*enumerate(texts)] * rounds:
        if planted is None:
            session.begin(text)
        else:
            session.begin_ids(torch.tensor([[planted.following(planted.first + tokens * number + step) for step in range(16)]]))
        while session.request is not None:
            session.step()
    session.close()
    rows = recording.tokens.rows()
    return float(rows["duration"][(rows["phase"] == Phase.DECODE) & (rows["request"] > len(texts) * (rounds - 1))].mean()) / 1e6, recording


if __name__ == "__main__":
    main()
