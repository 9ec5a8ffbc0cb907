"""Where a decode token's time goes, all experts resident, natively and through transformers and torch: tokens/s, shares, and whether
the spans account for the whole of it.

    python tests/benchmarks/one_token.py [--bits 4] [--budget 100%] [--rounds 3] [--tokens 200]

Rounds alternate between the two, so that both meet the same machine; ratios are of medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
from _demo import demo_store, generate, open_session

from engine.events import SPAN, TOKEN, Batch, Phase, SpanKind
from engine.session import Session
from engine.store import Store

_PARTS = ("compute", "attention", "head", "stall", "router", "sampling", "framework")


def decoded(session: Session, batches: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of TOKEN and lane-0 rows of SPAN of one request's decode tokens."""
    batches.clear()
    generate(session)
    tokens = np.frombuffer(b"".join(b.tables.get("tokens", b"") for b in batches), TOKEN)
    spans = np.frombuffer(b"".join(b.tables.get("spans", b"") for b in batches), SPAN)
    decode = tokens["phase"] == Phase.DECODE
    numbers = np.flatnonzero(decode) + spans["token"].min()
    tokens = tokens[decode]
    return tokens, spans[(spans["lane"] == 0) & np.isin(spans["token"], numbers)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--budget", default="100%")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=200)
    args = parser.parse_args()
    store = demo_store()
    rates = compare(store, args)
    print(f"native is {rates['auto'] / rates['torch']:.1f} times as fast")


def compare(store: Store, args: argparse.Namespace) -> dict[str, float]:
    """Tokens/s of each, having printed what they are made of."""
    opened, batches = {}, dict[str, list[Batch]](auto=[], torch=[])
    for kernels, taken in batches.items():

        def take(notice: object, taken: list[Batch] = taken) -> None:
            if isinstance(notice, Batch):
                taken.append(notice)

        opened[kernels] = open_session(store, take, kernels=kernels, bits=args.bits, budget=args.budget, max_tokens=args.tokens)
        generate(opened[kernels])
    rates: dict[str, list[float]] = {kernels: [] for kernels in opened}
    last = {}
    for _ in range(args.rounds):
        for kernels, session in opened.items():
            last[kernels] = decoded(session, batches[kernels])
            rates[kernels].append(len(last[kernels][0]) / (last[kernels][0]["duration"].sum() / 1e9))
    for kernels, session in opened.items():
        tokens, spans = last[kernels]
        total = tokens["duration"].sum()
        shares = ", ".join(f"{part} {tokens[part].sum() / total:.1%}" for part in _PARTS)
        spanned = spans[np.isin(spans["kind"], [SpanKind.READ], invert=True)]["duration"].sum()
        print(f"{session.info().decode} decode, {session.info().kernel}: {statistics.median(rates[kernels]):.1f} tokens/s "
              f"({', '.join(f'{rate:.0f}' for rate in rates[kernels])}), {total / len(tokens) / 1e6:.2f} ms a token: {shares}; "
              f"spans cover {spanned / total:.1%}")  # fmt: skip
        session.close()
    return {kernels: statistics.median(found) for kernels, found in rates.items()}


if __name__ == "__main__":
    main()
