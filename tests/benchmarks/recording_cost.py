"""What recording costs the token loop: two sessions in one process, recording on and off, token by token in turns.

Both generate the same tokens. The ratio is of medians over blocks of tokens, its interval a bootstrap over the blocks.
Exit status 1 where recording is dearer than 2% beyond doubt (the interval lies above).
"""

from __future__ import annotations

import sys
import time

import numpy as np
from _demo import PROMPT, demo_store, open_session

from engine.recording.recording import Recording
from engine.session import Session

TARGET = 0.02
REQUESTS, TOKENS = 5, 250
BUDGETS = ("100%", "25%")


def main() -> int:
    store, failed = demo_store(), False
    for budget in BUDGETS:
        recordings = [Recording(), Recording()]
        on, off = (
            open_session(store, recording.append, recording=recorded, bits=4, budget=budget, max_tokens=TOKENS)
            for recording, recorded in zip(recordings, (True, False), strict=True)
        )
        times = np.concatenate([request(on, off) for _ in range(REQUESTS)])  # [tokens, 2] ns
        rows = len(recordings[0].spans) / REQUESTS / TOKENS
        for session, recording in zip((on, off), recordings, strict=True):
            session.close()
            recording.close()
        cost, low, high = ratio(times)
        failed |= low - 1 > TARGET
        print(f"budget {budget}: {len(times)} tokens each, {np.median(times[:, 1]) / 1e6:.2f} ms/token without, {rows:.0f} spans a token; "
              f"recording adds {cost - 1:+.2%} (95% interval {low - 1:+.2%} to {high - 1:+.2%}), target {TARGET:.0%}")  # fmt: skip
    return 1 if failed else 0


def request(on: Session, off: Session) -> np.ndarray:
    """ns of every decode step [tokens, 2] of one request run by both, who goes first alternating."""
    sessions = (on, off)
    for session in sessions:
        session.begin(PROMPT)
        session.step()
    times = np.empty((TOKENS - 1, 2))
    for token in range(TOKENS - 1):
        for which in (0, 1) if token % 2 else (1, 0):
            began = time.perf_counter_ns()
            sessions[which].step()
            times[token, which] = time.perf_counter_ns() - began
    return times


def ratio(times: np.ndarray) -> tuple[float, float, float]:
    """On over off: the median of paired ratios, and its 95% interval."""
    ratios = times[:, 0] / times[:, 1]
    blocks = np.array_split(ratios, 60)
    dice = np.random.default_rng(0)
    drawn = [np.median(np.concatenate([blocks[i] for i in dice.integers(0, len(blocks), len(blocks))])) for _ in range(1000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
