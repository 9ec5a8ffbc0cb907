"""What one frame of the timeline costs: refresh and paint, live and reopened, near and far, without and with reading ahead.

    QT_QPA_PLATFORM=offscreen python tests/benchmarks/timeline.py

Times are of the processor, so that a busy machine blurs them less. The aim is a frame below 8 ms at 48 × 128 experts, both of
20 tokens that are followed and of all of a million spans.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PySide6.QtCore import QPointF
from PySide6.QtWidgets import QApplication

from engine.events import Batch
from engine.recording.recording import Recording
from tests.factory import make_messages
from views.selection import Selection
from views.spantotals import CHUNK
from views.theme import DARK
from views.timeline import TimelinePanel
from views.tuning_model import TuningModel

SHAPE = (48, 128, 8)
TOKENS = 1500
SIZE = (620, 400)


class Bench:
    """A shown panel over a recording, and a clock around its frames."""

    def __init__(self, app: QApplication, recording: Recording) -> None:
        self.app, self.panel = app, TimelinePanel(recording, Selection(), TuningModel(), DARK)
        self.panel.resize(*SIZE)
        self.panel.show()
        app.processEvents()

    def frames(self, name: str, change: Callable[[int], None], count: int = 60) -> None:
        """Print what ``count`` frames cost, each after ``change``."""
        times = []
        for number in range(count):
            change(number)
            begin = time.thread_time()
            self.panel.tick(force=True)
            between = time.thread_time()
            self.panel.repaint()
            self.app.processEvents()
            times.append((between - begin, time.thread_time() - between))
        cost = 1000 * np.array(times)
        (refresh, paint), total = np.median(cost, axis=0), cost.sum(axis=1)
        print(f"{name:<34} refresh {refresh:6.2f} ms  paint {paint:6.2f} ms  "
              f"p50 {np.median(total):6.2f}  p99 {np.percentile(total, 99):6.2f} ms")  # fmt: skip

    def close(self) -> None:
        self.panel.close()
        self.panel.deleteLater()
        self.app.processEvents()


def live(app: QApplication, messages: list) -> None:
    batches = [message for message in messages if isinstance(message, Batch)]
    recording = Recording()
    for message in messages[: messages.index(batches[20]) + 1]:
        recording.append(message)
    bench = Bench(app, recording)
    rest = iter(batches[21:])
    for name in ("follow 20 tokens", "the same, by layer"):
        bench.frames(name, lambda _: recording.append(next(rest)), count=40)
        bench.panel.canvas.fold()
    bench.close()
    recording.close()


def reopened(app: QApplication, path: Path) -> None:
    recording = Recording.open(path)
    print(f"{len(recording.tokens):,} tokens, {len(recording.spans):,} spans, reopened")
    bench = Bench(app, recording)
    selection = bench.panel.selection
    whole = recording.duration
    bench.frames("counting the spans of each token", lambda _: None, count=len(recording.spans) // CHUNK + 1)
    bench.frames("all of it", lambda number: selection.show((number, whole)))
    shown, step = 20 * whole // len(recording.tokens), 2 * whole // len(recording.tokens)
    bench.frames("pan over 20 tokens", lambda number: selection.show((whole // 3 + number * step, whole // 3 + number * step + shown)))
    bench.frames("jump by 30 tokens", lambda number: selection.show((number * whole // 75, number * whole // 75 + shown)))
    bench.frames("zoom into one token", lambda number: selection.show((whole // 2, whole // 2 + int(shown * 0.95**number))))
    bench.frames("point at slices", lambda number: bench.panel.hover_at(QPointF(100 + 5 * number, 200)))
    bench.frames("expert pointed at elsewhere", lambda number: (bench.panel._left(), selection.hover(expert=(number % 48, 3))))
    bench.panel.canvas.fold()
    bench.frames("all of it, by layer", lambda number: selection.show((number, whole)))
    bench.close()
    recording.close()


def main() -> None:
    app = QApplication.instance() or QApplication([])
    for ahead, tokens in ((False, TOKENS), (True, TOKENS // 3)):
        print("with reading ahead" if ahead else "without reading ahead")
        messages = list(make_messages(*SHAPE, tokens=tokens, ahead=ahead))
        live(app, messages)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.edgemoe"
            recording = Recording(path)
            for message in messages:
                recording.append(message)
            recording.close()
            reopened(app, path)


if __name__ == "__main__":
    main()
