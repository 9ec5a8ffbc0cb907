"""Output never depends on residency: the same token ids at every budget, policy, predictor, depth and device. Exit status 1 where not."""

from __future__ import annotations

import sys
import time

from _demo import demo_store, generate, open_session

from engine.residency import DEFAULT, POLICIES

BITS, TOKENS, SEED = 4, 200, 7
BUDGETS = ("10%", "25%", "50%", "100%")
DEVICES = ("native", "emmc-5.1")
CASES = (*((policy, "none", "auto") for policy in POLICIES), *((DEFAULT, predictor, depth) for predictor, depth in (
    ("auto", "auto"), ("gate", "1"), ("gate", "2"), ("transition", "1"), ("transition", "4"), ("transition", "8"), ("path", "1"),
)))  # fmt: skip


def main() -> int:
    store, began = demo_store(), time.perf_counter()
    print(f"demo model, {BITS} bits, {TOKENS} tokens drawn at temperature 0.8, seed {SEED}")
    wanted: list[int] = []
    different = 0
    for device in DEVICES:
        for budget in BUDGETS:
            line = []
            for policy, predictor, depth in CASES:
                session = open_session(
                    store, bits=BITS, budget=budget, eviction=policy, predictor=predictor, preload_depth=depth, device=device,
                    max_tokens=TOKENS, seed=SEED, verify=True,
                )  # fmt: skip
                ids, evictions = generate(session), session.buffer.evictions
                session.close()
                wanted = wanted or ids
                different += ids != wanted
                line.append(f"{policy}, {predictor} {depth}: {_verdict(ids, wanted)}, {evictions} evictions")
            print(f"{device:>8} {budget:>4}  {'; '.join(line)}", flush=True)
    runs = len(DEVICES) * len(BUDGETS) * len(CASES)
    print(f"{len(set(wanted))} distinct ids; {runs - different} of {runs} runs identical ({time.perf_counter() - began:.0f} s)")
    return 1 if different or len(wanted) != TOKENS else 0


def _verdict(ids: list[int], wanted: list[int]) -> str:
    if ids == wanted:
        return "identical"
    return f"differs at token {next((n for n, (a, b) in enumerate(zip(ids, wanted, strict=False)) if a != b), len(ids))}"


if __name__ == "__main__":
    sys.exit(main())
