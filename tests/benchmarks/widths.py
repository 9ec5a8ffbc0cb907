"""What width buys on a small device: bytes a token and decode speed, the demo model under one budget in bytes.

    python tests/benchmarks/widths.py [PLAN.json ...] [--store DIR] [--device emmc-5.1] [--rounds 4] [--tokens 120]

Uniform 16, 8, 4 and 2 bits and each plan stand side by side and take turns with the same prompts; the budget is a quarter of all experts
at 4 bits. Ratios are to 16 bits, of the same prompt's decode time; their interval is of the mean over rounds (95%).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from _demo import demo_store, generate, open_session, prompts

from engine.events import Phase
from engine.recording.recording import Recording
from engine.store import Store

UNIFORM = (16, 8, 4, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plans", nargs="*", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--device", default="emmc-5.1")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=120)
    args = parser.parse_args()
    store = Store.open(args.store) if args.store else demo_store()
    budget = str(store.record_bytes(4) * store.spec.layers * store.spec.experts // 4)
    ways: dict[str, dict[str, str | int]] = {f"{bits} bits": {"bits": bits} for bits in UNIFORM}
    ways |= {plan.stem: {"plan": str(plan)} for plan in args.plans}
    recordings = {name: Recording() for name in ways}
    sessions = {
        name: open_session(store, recordings[name].append, device=args.device, budget=budget, max_tokens=args.tokens, **values)
        for name, values in ways.items()
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for text in prompts("prose", args.rounds):
        for name, session in sessions.items():
            first = len(recordings[name].tokens)
            generate(session, text)
            rows = recordings[name].tokens.rows(first)
            times[name].append(float(rows["duration"][rows["phase"] == Phase.DECODE].mean()) / 1e6)
    print(f"{args.device}, {int(budget):,} bytes of experts in memory, {args.rounds} x {args.tokens} tokens")
    print(f"{'':12} {'ms/token':>9} {'tokens/s':>9} {'MB/token':>9} {'hits':>7} {'x 16 bits':>10}")
    for name, session in sessions.items():
        session.close()
        rows = recordings[name].tokens.rows()
        rows = rows[rows["phase"] == Phase.DECODE]
        read = sum(rows[column].sum(dtype=np.int64) for column in ("demand_bytes", "preload_useful_bytes", "preload_wasted_bytes"))
        uses = store.spec.layers * store.spec.top_k * len(rows)
        taken, ratios = np.mean(times[name]), np.array(times["16 bits"]) / np.array(times[name])
        spread = 1.96 * ratios.std(ddof=1) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
        print(f"{name:12} {taken:>9.2f} {1e3 / taken:>9.1f} {read / len(rows) / 1e6:>9.3f} {rows['hits'].sum() / uses:>7.1%} "
              f"{ratios.mean():>6.2f} ± {spread:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
