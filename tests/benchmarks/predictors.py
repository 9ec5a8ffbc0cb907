"""How much predictors get right, how sure they may be of it, and what they cost: on recorded routing and on the demo model's own.

    python tests/benchmarks/predictors.py [ROUTING ...] [--no-demo]

Of each ROUTING every other request is learned from, and the others judge. On the demo model the shipped predictors are judged by requests
from the sample prompts, and there the gate (the routers of the next layers, asked early) is judged too, by sessions that predict by it.

recall@m: the share of the experts chosen that are among the m thought likeliest, k a token; means are over the layers from the third on,
which have something before them. Calibration error: how far the probability said is from what then was, a mean over tenths of it weighted
by how often each was said. Letters in shapes: T tokens, S layers, E experts, k experts a token.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _demo import demo_model_path, demo_store, generate, open_session, prompts

from engine.errors import EngineError
from engine.events import ACCESS, PREDICTION, Batch, Phase
from engine.preload.learned import KINDS, load
from engine.preload.predictor import Learned
from engine.preload.recall import hits
from engine.simulate.routing import Routing
from engine.simulate.traces import read_routing

FIRST = 3  # layer of the means
SEEDS, TOKENS, BITS, BUDGET = 3, 250, 4, "25%"

Judge = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Odds [T, S, E] that many layers ahead, on hearing [T, S, k] experts of requests of such lengths."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("routing", type=Path, nargs="*", help="traces to learn from and to judge by")
    parser.add_argument("--no-demo", action="store_true", help="leave out the demo model")
    args = parser.parse_args()
    for path in args.routing:
        try:
            routing = read_routing(path)
        except EngineError as error:
            print(f"left out: {error}")
            continue
        learned, judged = (routing.take(range(start, routing.requests, 2)) for start in (0, 1))
        compare(path.name, judged, marginal(learned), {name: trained(name, learned) for name in KINDS})
    if not args.no_demo:
        judge_demo()


def trained(name: str, routing: Routing) -> Learned:
    predictor, began = KINDS[name](routing.layers, routing.expert_count, routing.top_k), time.monotonic()
    predictor.train(routing.experts, routing.lengths)
    print(f"{name}: learned {routing.tokens:,} tokens in {time.monotonic() - began:.1f} s", flush=True)
    return predictor


def marginal(routing: Routing) -> np.ndarray:
    """How often each expert is chosen at all, [S, E]."""
    chosen = [np.bincount(layer[layer >= 0], minlength=routing.expert_count) for layer in routing.experts.transpose(1, 0, 2)]
    return np.array(chosen) / max(1, routing.tokens)


def compare(title: str, judged: Routing, always: np.ndarray, predictors: dict[str, Learned]) -> None:
    layers, top_k = judged.layers, judged.top_k
    print(f"\n{title}: {layers} layers of {judged.expert_count} experts, top {top_k}")
    print(f"judged by {judged.tokens:,} tokens of {judged.requests} requests")
    recalls = f"{f'recall@{top_k}':>11}{f'recall@{2 * top_k}':>11}"
    print(f"{'predictor':12}{'ahead':>8}{recalls}{'calibration':>13}{'µs each':>9}   recall@{top_k} by layer")
    judges: dict[str, Judge] = {"marginal": lambda experts, lengths, ahead: np.broadcast_to(always, (len(experts), *always.shape))}
    judges |= {name: predictor.judge for name, predictor in predictors.items()}
    for name, judge in judges.items():
        for ahead in {"marginal": (1,), "path": (1,)}.get(name, (1, 2, 4, layers)):
            tally(name, f"{ahead}" if ahead < layers else "a token", judged, lambda *heard, j=judge, a=ahead: j(*heard, a))


def tally(name: str, ahead: str, judged: Routing, judge: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Judge request by request, and print a line."""
    found, spent, said = np.zeros((2, judged.layers)), 0.0, np.zeros((3, 10))
    for begin, end in zip(judged.starts[:-1], judged.starts[1:], strict=True):
        experts, began = judged.experts[begin:end], time.perf_counter()
        odds = judge(experts, np.array([end - begin]))
        spent += time.perf_counter() - began
        found += [hits(odds, experts, count) for count in (judged.top_k, 2 * judged.top_k)]
        was = (experts[..., None] == np.arange(judged.expert_count)).any(axis=2)
        said += in_tenths(odds[1:, FIRST:].ravel(), was[1:, FIRST:].ravel())
    once, twice = found / (judged.experts >= 0).sum(axis=(0, 2))
    each = spent / (judged.tokens * judged.layers) * 1e6 if name != "marginal" else 0.0
    by_layer = " ".join(f"{100 * value:.0f}" for value in once)
    error = f"{100 * calibration(said):.1f} %"
    print(f"{name:12}{ahead:>8}{once[FIRST:].mean():11.1%}{twice[FIRST:].mean():11.1%}{error:>13}{each:9.1f}   {by_layer}", flush=True)


def in_tenths(said: np.ndarray, was: np.ndarray) -> np.ndarray:
    """By tenth of probability: how often it was said, the sum of it, how often it came true; [3, 10]."""
    tenth = np.minimum(9, (10 * said).astype(int))
    return np.stack([np.bincount(tenth, weights, 10) for weights in (None, said, was)])


def calibration(sums: np.ndarray) -> float:
    count, said, was = sums
    return float(np.abs(said - was).sum() / max(1, count.sum()))


# --- the demo model ---


def judge_demo() -> None:
    store, spec = demo_store(), demo_store().spec
    rows = session_rows("accesses", ACCESS, budget="100%", predictor="none")
    rows = rows[rows["phase"] == Phase.DECODE]
    experts = rows["expert"].reshape(-1, spec.layers, spec.top_k)
    passes = rows["token"].reshape(-1, spec.layers * spec.top_k)[:, 0]
    lengths = np.diff(np.flatnonzero(np.concatenate([[True], np.diff(passes) > 1, [True]])))  # a prefill lies between two requests
    judged = Routing(experts.astype(np.int16), lengths, spec.experts)
    folders = [demo_model_path()]
    shipped = {name: load(name, folders, spec.layers, spec.experts, spec.top_k) for name in KINDS}
    there = {name: predictor for name, predictor in shipped.items() if predictor is not None}
    compare(f"demo model at {BITS} bits", judged, marginal(judged), there)
    for depth in (1, 2):
        judge_gate(store.spec.top_k, depth)


def session_rows(table: str, dtype: np.dtype, **values: object) -> np.ndarray:
    """Rows that requests from all sample prompts, each with a few seeds, leave in a table."""
    notices: list[object] = []
    session = open_session(demo_store(), notices.append, bits=BITS, max_tokens=TOKENS, **values)
    for seed in range(SEEDS):
        session.change("seed", seed)
        for prompt in (*prompts("prose", 9), *prompts("code", 9)):
            generate(session, prompt)
    session.close()
    return np.concatenate([np.frombuffer(n.tables[table], dtype) for n in notices if isinstance(n, Batch) and table in n.tables])


def judge_gate(top_k: int, depth: int) -> None:
    """Told when a router spoke: of several guesses at a layer only the last is. Those are of layers of which an expert was not resident."""
    rows = session_rows("predictions", PREDICTION, budget=BUDGET, predictor="gate", preload_depth=depth, preload_width=4)
    for ahead in np.unique(rows["ahead"]).tolist():
        told = rows[rows["ahead"] == ahead]
        asked = np.bincount(told["layer"][told["rank"] == 0])
        once, twice = (np.bincount(told["layer"], told["chosen"] * (told["rank"] < m), len(asked)) for m in (top_k, 2 * top_k))
        usable = np.maximum(1, top_k * asked)
        late = asked > 0
        late[:FIRST] = False
        error = f"{100 * calibration(in_tenths(told['probability'], told['chosen'])):.1f} %"
        by_layer = " ".join(f"{100 * value:.0f}" if count else "-" for value, count in zip(once / usable, asked, strict=True))
        means = [float((found / usable)[late].mean()) if late.any() else float("nan") for found in (once, twice)]
        print(f"{f'gate, {depth} deep':12}{ahead:>8}{means[0]:11.1%}{means[1]:11.1%}{error:>13}{'':9}   {by_layer}", flush=True)


if __name__ == "__main__":
    main()
