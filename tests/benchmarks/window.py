"""Whether the window stays quick while the engine generates, and what it costs the engine.

    python tests/benchmarks/window.py [--tokens N] [--pairs N] [--model DIR] [--set NAME=VALUE]

Offscreen, with the real engine process. It prints the gaps of the event loop while generating (a timer that should fire every
5 ms: how much later it fired), the time of one beat (taking in what is new and repainting), and decode speed with the window
drawing against the same worker process without a window, in turns. Targets: gaps under 50 ms at p99, cost at most 5%.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PySide6.QtCore import QElapsedTimer, Qt, QTimer

from app.demo import resolve_model
from app.gui import create_application
from app.live import Live
from app.photographer import Photographer
from engine.events import Phase
from engine.recording.recording import Recording

PROMPT = "Once upon a time there was a"
PROBE_MS = 5


class Probe:
    """Measures how late a timer fires, in ms."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._clock = QElapsedTimer()
        self._timer = QTimer(timerType=Qt.TimerType.PreciseTimer, interval=PROBE_MS)
        self._timer.timeout.connect(self._fired)

    def __enter__(self) -> Probe:
        self._clock.start()
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()

    def _fired(self) -> None:
        self.gaps.append(self._clock.nsecsElapsed() / 1e6)
        self._clock.start()


def decode_speed(recording: Recording, first: int) -> float:
    """Decode tokens/s of the rows from ``first`` on: by the median duration, which a stray disturbance does not move."""
    rows = recording.tokens.rows(first)
    return 1e9 / float(np.median(rows["duration"][rows["phase"] == Phase.DECODE]))


def generate(live: Live, tokens: int, wait) -> float:
    """One request of ``tokens`` tokens; its decode speed."""
    first = len(live.recording.tokens)
    live.run(PROMPT)
    wait(lambda: len(live.recording.finished) and live.state == "idle" and len(live.recording.tokens) - first >= tokens)
    return decode_speed(live.recording, first)


def set_tokens(live: Live, tokens: int, wait) -> None:
    for name, value in (("max_tokens", tokens), ("ignore_eos", True)):
        live.undo.change(name, value)
    wait(lambda: live.values["max_tokens"] == tokens and live.values["ignore_eos"] is True)


def windowless(live: Live):
    """A wait that only takes in what the engine sends, thirty times a second, and draws nothing."""

    def wait(condition) -> None:
        while not condition():
            live.drain()
            time.sleep(0.033)

    return wait


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, such as budget=100%% or kernels=torch")
    options = parser.parse_args()
    model = resolve_model(options.model)
    create_application()
    with tempfile.TemporaryDirectory() as folder, Photographer(Path(folder)) as photographer:
        window = photographer.window
        window.live.wanted.update(text.split("=", 1) for text in options.set)
        window.begin(model, options.model, autorun=False)
        photographer.until(lambda: window.live.can_run)
        set_tokens(window.live, options.tokens, photographer.until)
        beats: list[float] = []
        window.timer.timeout.disconnect()
        window.timer.timeout.connect(lambda: beats.append(timed(window.tick)))
        generate(window.live, options.tokens, photographer.until)
        with Probe() as probe:
            generate(window.live, options.tokens, photographer.until)
        print(f"event loop while generating, {len(probe.gaps)} firings of a {PROBE_MS} ms timer: {quantiles(probe.gaps)}")
        print(f"one beat of the window (30 a second): {quantiles(beats)}")
        drawn, bare = [], []
        wait = windowless(window.live)
        for pair in range(options.pairs):
            for shown in (True, False) if pair % 2 else (False, True):
                if shown:
                    window.timer.start()
                    drawn.append(generate(window.live, options.tokens, photographer.until))
                else:
                    window.timer.stop()
                    bare.append(generate(window.live, options.tokens, wait))
        window.timer.start()
        ratios = np.array(drawn) / np.array(bare)
        error = 1.96 * ratios.std(ddof=1) / len(ratios) ** 0.5
        print(f"decode with the window drawing {np.median(drawn):.1f} tokens/s, without {np.median(bare):.1f} tokens/s")
        print(f"ratio of {len(ratios)} pairs: mean {ratios.mean():.3f} ± {error:.3f} (95%), median {np.median(ratios):.3f}")


def timed(work) -> float:
    begin = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begin)


def quantiles(values: list[float]) -> str:
    p50, p99 = np.percentile(values, (50, 99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {max(values):.1f} ms"


if __name__ == "__main__":
    main()
