"""What recording costs the token loop: two sessions in one process, recording on and off, in turns of a few tokens.

Both generate the same tokens, request after request, and encode what they tell, as the engine process does for the window.
Turns are as long as a few batches, which go out by the clock: in turns of one token each session would send twice as many.
Of each turn the least time of all requests counts, since what else the machine does only ever adds. The cost is the sum over
turns, on against off, its interval a bootstrap over the turns; in processor time of the token loop, and by the clock.
Exit status 1 where it is dearer than 2% of processor time beyond doubt (the interval lies above).
"""

from __future__ import annotations

import sys
import time

import numpy as np
from _demo import PROMPT, demo_store, open_session

from engine.events import Notice, encode
from engine.session import Session
from engine.store import Store

TARGET = 0.02
REQUESTS, TURNS, TURN = 9, 20, 10  # tokens a turn
BUDGETS = ("100%", "25%")


def main() -> int:
    store, failed = demo_store(), False
    for budget in BUDGETS:
        sent = {True: 0, False: 0}
        on, off = (_opened(store, budget, recorded, sent) for recorded in (True, False))
        least = np.min([request(on, off) for _ in range(REQUESTS)], axis=0)  # [turns, 2, 2] ns
        on.close()
        off.close()
        kilobytes = (sent[True] - sent[False]) / REQUESTS / TURNS / TURN / 1e3
        print(f"budget {budget}: {REQUESTS * TURNS * TURN} tokens each, {kilobytes:.1f} kB of records a token; target {TARGET:.0%}")
        for name, spent in (("wall", least[..., 0]), ("processor", least[..., 1])):
            cost, low, high = ratio(spent)
            failed |= name == "processor" and low - 1 > TARGET
            print(f"  {name:>9} time: {spent[:, 1].mean() / TURN / 1e6:.2f} ms/token without, recording adds {cost - 1:+.2%} "
                  f"(95% interval {low - 1:+.2%} to {high - 1:+.2%})")  # fmt: skip
    return 1 if failed else 0


def _opened(store: Store, budget: str, recorded: bool, sent: dict[bool, int]) -> Session:
    def send(notice: Notice) -> None:
        sent[recorded] += len(encode(notice))

    return open_session(store, send, recording=recorded, bits=4, budget=budget, max_tokens=TURNS * TURN + 1)


def request(on: Session, off: Session) -> np.ndarray:
    """ns of every turn [turns, on and off, wall and processor] of decoding one request by both, who goes first alternating."""
    sessions = (on, off)
    for session in sessions:
        session.begin(PROMPT)
        session.step()
    times = np.empty((TURNS, 2, 2))
    for turn in range(TURNS):
        for which in (0, 1) if turn % 2 else (1, 0):
            wall, processor = time.perf_counter_ns(), time.thread_time_ns()
            for _ in range(TURN):
                sessions[which].step()
            times[turn, which] = time.perf_counter_ns() - wall, time.thread_time_ns() - processor
    return times


def ratio(spent: np.ndarray) -> tuple[float, float, float]:
    """On over off of [turns, on and off], and its 95% interval."""
    drawn = spent[np.random.default_rng(0).integers(0, len(spent), (2000, len(spent)))].sum(axis=1)  # [2000, 2]
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return float(spent[:, 0].sum() / spent[:, 1].sum()), float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
