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

from engine.events import Phase, Ready
from engine.recording.recording import Recording
from engine.settings import Value
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
    budget = store.record_bytes(4) * store.spec.layers * store.spec.experts // 4
    ways: dict[str, dict[str, Value]] = {f"{bits} bits": {"bits": bits} for bits in UNIFORM}
    ways |= {plan.stem: {"plan": str(plan)} for plan in args.plans}
    raced = race(store, args.device, budget, ways, prompts("prose", args.rounds), args.tokens)
    print(f"{args.device}, {budget:,} bytes of experts in memory, {args.rounds} x {args.tokens} tokens")
    print(f"{'':12} {'ms/token':>9} {'tokens/s':>9} {'MB/token':>9} {'hits':>7} {'x 16 bits':>10}")
    for name, ran in raced.items():
        print(f"{name:12} {np.mean(ran.ms):>9.2f} {ran.tok_s:>9.1f} {ran.mb_per_token:>9.3f} {ran.hit_rate:>7.1%} "
              f"{against(ran, raced['16 bits']):>10}")  # fmt: skip


class Ran:
    """One session, and the decoded tokens of each of its requests as they were recorded."""

    def __init__(self, store: Store, device: str, budget: int, tokens: int, values: dict[str, Value]) -> None:
        self.recording, self._uses, self._rounds = Recording(), store.spec.layers * store.spec.top_k, list[np.ndarray]()
        self.session = open_session(store, self.recording.append, device=device, budget=str(budget), max_tokens=tokens, **values)
        session = self.session
        self.recording.append(Ready(0, session.info(), session.values, session.effective(), session.budget))

    def answer(self, text: str, counted: bool = True) -> None:
        first = len(self.recording.tokens)
        generate(self.session, text)
        rows = self.recording.tokens.rows(first)
        if counted:
            self._rounds.append(rows[rows["phase"] == Phase.DECODE])

    @property
    def ms(self) -> np.ndarray:
        """A token, by request."""
        return np.array([rows["duration"].mean() for rows in self._rounds]) / 1e6

    @property
    def tok_s(self) -> float:
        return 1e3 / float(np.mean(self.ms))

    @property
    def mb_per_token(self) -> float:
        rows = np.concatenate(self._rounds)
        read = sum(rows[column].sum(dtype=np.int64) for column in ("demand_bytes", "preload_useful_bytes", "preload_wasted_bytes"))
        return float(read) / len(rows) / 1e6

    @property
    def hit_rate(self) -> float:
        rows = np.concatenate(self._rounds)
        return float(rows["hits"].sum()) / (self._uses * len(rows))


def race(
    store: Store, device: str, budget: int, ways: dict[str, dict[str, Value]], texts: list[str], tokens: int, warm_up: str = ""
) -> dict[str, Ran]:
    """Sessions of these settings side by side, each prompt given to all in turn; one of ``warm_up`` goes before, uncounted."""
    raced = {name: Ran(store, device, budget, tokens, values) for name, values in ways.items()}
    if warm_up:
        for ran in raced.values():
            ran.answer(warm_up, counted=False)
    for number, text in enumerate(texts):
        turn = number % len(raced)
        for ran in [*raced.values()][turn:] + [*raced.values()][:turn]:
            ran.answer(text)
    for ran in raced.values():
        ran.session.close()
    return raced


def against(ran: Ran, other: Ran) -> str:
    """How many times as fast on the same prompts, with the 95% interval of the mean."""
    ratios = other.ms / ran.ms
    spread = 1.96 * ratios.std(ddof=1) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
    return f"{ratios.mean():.2f} ± {spread:.2f}"


if __name__ == "__main__":
    main()
