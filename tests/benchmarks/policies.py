"""Hit rates of every eviction policy on the demo model's own routing, beside the field's gpt-oss-20b.

The routing of a few requests is recorded once and then replayed through the engine's buffer, policies and loading order,
with reads that take no time. Hits are of decoding; one access is one expert of one token.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import numpy as np
from _demo import demo_store, generate, open_session, prompts

from engine.events import ACCESS, Batch, Outcome, Phase
from engine.ledger import Ledger
from engine.residency import POLICIES, policy_named
from engine.residency.buffer import ExpertBuffer
from engine.residency.policy import Clock
from engine.settings import parse_budget
from engine.store import Store
from engine.streaming import ExpertStream, Use

BITS, REQUESTS, TOKENS, SEED = 4, 3, 250, 1
BUDGETS = ("10%", "12.5%", "25%", "37.5%", "50%")
GPT_OSS = {  # 24 layers × 32 experts, top 4, decode (field notes); edgemoe there at the same half-life of 8 tokens
    "edgemoe": (41.2, 47.9, 70.3, 84.2, 92.4), "edgemoe-printed": (26.9, 33.1, 56.9, 74.5, 86.5),
    "lru": (0.0, 36.6, 63.6, 80.8, 91.3), "lfu": (29.8, 35.5, 58.3, 74.6, 86.0),
}  # fmt: skip

Layer = tuple[int, int, int, list[int]]
"""Pass, its phase, the MoE layer, and the experts it used, in the router's order."""


class Instant:
    """A loader whose reads are complete at once."""

    def __init__(self) -> None:
        self._done: deque[Any] = deque()

    def submit(self, read: Any) -> None:
        self._done.append(read)

    def next(self) -> Any:
        return self._done.popleft()


def main() -> int:
    store = demo_store()
    recorded = {kind: record(store, prompts(kind, REQUESTS)) for kind in ("prose", "code")}
    both = recorded["prose"] + later(recorded["code"], recorded["prose"][-1][0] + 1)
    for title, routing in (recorded | {"prose, then code": both}).items():
        print(f"\ndemo model, {title}, {REQUESTS} requests of {TOKENS} tokens each: hit % of decoding by share of experts resident "
              "(in brackets gpt-oss-20b's)")  # fmt: skip
        print(f"{'':16}" + "".join(f"{budget:>16}" for budget in BUDGETS))
        for policy in POLICIES:
            theirs = GPT_OSS.get(policy)
            cells = []
            for place, budget in enumerate(BUDGETS):
                peer = f" ({theirs[place]:.1f})" if theirs else ""
                cells.append(f"{replay(store, routing, policy, budget):.1f}{peer}")
            print(f"{policy:16}" + "".join(f"{cell:>16}" for cell in cells), flush=True)
    return 0


def record(store: Store, texts: list[str]) -> list[Layer]:
    """The routing of ``texts``, one request after the other, with everything resident."""
    notices: list[object] = []
    session = open_session(store, notices.append, bits=BITS, budget="100%", max_tokens=TOKENS, seed=SEED)
    for text in texts:
        generate(session, text)
    session.close()
    rows = np.concatenate([np.frombuffer(n.tables["accesses"], ACCESS) for n in notices if isinstance(n, Batch) and "accesses" in n.tables])
    routing: list[Layer] = []
    for token, phase, layer, expert in rows[["token", "phase", "layer", "expert"]].tolist():
        if not routing or routing[-1][:3] != (token, phase, layer):
            routing.append((token, phase, layer, []))
        routing[-1][3].append(layer * store.spec.experts + expert)
    return routing


def later(routing: list[Layer], passes: int) -> list[Layer]:
    return [(token + passes, phase, layer, chosen) for token, phase, layer, chosen in routing]


def replay(store: Store, routing: list[Layer], policy: str, budget: str) -> float:
    """Percent of the accesses of decoding that ``policy`` would have made hits."""
    spec, ledger = store.spec, Ledger(store.spec.experts, on=False)
    full = spec.layers * spec.experts * store.record_bytes(BITS)
    buffer = ExpertBuffer(store, parse_budget(budget, full), policy_named(policy, spec.layers, spec.experts), ledger.residency)
    stream = ExpertStream(store, buffer, Instant(), ledger, lambda expert: BITS)  # type: ignore[arg-type]
    hits = accesses = 0
    for token, phase, layer, chosen in routing:
        ledger.begin_pass(token, Phase(phase))
        clock = Clock(token, layer)
        stream._account({expert: Use(None, None, 1, rank, 0.0) for rank, expert in enumerate(chosen)}, clock)
        for _ in stream._arrivals(chosen, clock):
            pass
        if phase == Phase.DECODE:
            hits += ledger.outcomes[Outcome.HIT]
            accesses += sum(ledger.outcomes)
    return 100 * hits / accesses


if __name__ == "__main__":
    sys.exit(main())
