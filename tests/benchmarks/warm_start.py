"""What a warm start saves: time to first token, hit rate and bytes of the first tokens, cold against warm, turn by turn in one run.

    python tests/benchmarks/warm_start.py

Every request is the first of its model: the sample prompts, with the counts that the demo model ships, and the same with the counts of
requests of the same kind, as a user's own are after a while. Reads are as fast as this machine's storage and as a microSD card's.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _demo import demo_model_path, demo_store, open_session, prompts

from engine.events import TOKEN, Batch, Filled
from engine.recording.statistics import uses_of
from engine.residency.usage import SHIPPED, Usage
from engine.store import Store
from engine.warm import fill

FIRST, KINDS, PROMPTS = 20, ("prose", "code"), 3
RUNS = (("25%", "native"), ("50%", "native"), ("25%", "microsd"), ("50%", "microsd"), ("100%", "microsd"))
SHORT = 8  # words of a prompt that a user types; a long one's prefill uses nearly every expert


def main() -> int:
    store = demo_store()
    with tempfile.TemporaryDirectory() as folder:
        own = {kind: counted(store, kind, Path(folder)) for kind in KINDS}
        for short in (False, True):
            print(f"\n{'short' if short else 'whole'} prompts; medians of {len(KINDS) * PROMPTS} requests, the first {FIRST} decode tokens")
            titles = ("budget", "storage", "start", "fill ms", "fill MB", "TTFT ms", "hit %", "prefill MB", "MB/token")
            print("".join(f"{title:>11}" for title in titles))
            for budget, device in RUNS:
                rows: dict[str, list[tuple[float, ...]]] = {"cold": [], "shipped": [], "own": []}
                for kind in KINDS:
                    for number, text in enumerate(prompts(kind, PROMPTS)):
                        text = " ".join(text.split()[:SHORT]) if short else text
                        usages = {"cold": None, "shipped": shipped(store), "own": own[kind][number]}
                        for start in rows:
                            rows[start].append(measure(store, text, usages[start], budget, device))
                for start, figures in rows.items():
                    numbers = "".join(f"{value:11.2f}" for value in np.median(np.array(figures), axis=0))
                    print(f"{budget:>11}{device:>11}{start:>11}{numbers}", flush=True)
    return 0


def shipped(store: Store) -> Usage:
    usage = Usage(Path("nowhere"), store.model_hash, store.spec.layers, store.spec.experts)
    assert usage.read(demo_model_path() / SHIPPED)
    return usage


def counted(store: Store, kind: str, folder: Path) -> list[Usage]:
    """For every prompt of a kind, what the requests of the others used."""
    found = []
    for left_out in range(PROMPTS):
        usage = Usage(folder / f"{kind}{left_out}.json", store.model_hash, store.spec.layers, store.spec.experts)
        session = open_session(store, usage.hear, budget="100%", max_tokens=150)
        for number, text in enumerate(prompts(kind, PROMPTS)):
            if number != left_out:
                session.begin(text)
                while session.request is not None:
                    session.step()
        session.close()
        found.append(usage)
    return found


def measure(store: Store, text: str, usage: Usage | None, budget: str, device: str) -> tuple[float, ...]:
    """ms and MB of the filling, ms to the first token, hit rate in percent, MB of the prefill and MB a decode token."""
    notices: list[object] = []
    session = open_session(store, notices.append, budget=budget, device=device, max_tokens=FIRST + 1)
    began = time.perf_counter()
    if usage is not None:
        fill(session, usage, lambda done, total: None)
    ms = 1e3 * (time.perf_counter() - began)
    session.begin(text)
    while session.request is not None:
        session.step()
    session.close()
    tokens = np.concatenate([np.frombuffer(n.tables.get("tokens", b""), TOKEN) for n in notices if isinstance(n, Batch)])
    decode, bytes_ = tokens[1:], sum(n.bytes for n in notices if isinstance(n, Filled))
    hits = 100 * decode["hits"].sum() / uses_of(decode).sum()
    return ms, bytes_ / 1e6, tokens["duration"][0] / 1e6, hits, tokens["demand_bytes"][0] / 1e6, decode["demand_bytes"].mean() / 1e6


if __name__ == "__main__":
    sys.exit(main())
