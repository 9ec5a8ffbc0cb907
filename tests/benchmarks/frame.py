"""What one frame of the expert grid and of the other panels costs: refresh and paint, with news in the recording each time; and of the
Bitwidth panel while the tolerance is dragged: the plan for another tolerance, and its picture.

    QT_QPA_PLATFORM=offscreen python tests/benchmarks/frame.py

Times are of the processor, so that a busy machine blurs them less. The aim is a frame far below 16 ms at 48 × 128 experts.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PySide6.QtWidgets import QApplication

from engine.events import Batch
from engine.recording.recording import Recording
from tests.factory import make_messages, make_recording
from tests.views.test_bitwidth import studied
from views.bitwidth import BitwidthPanel
from views.cache import CachePanel
from views.grid import GridPanel
from views.grid_shades import MODES
from views.inspector import InspectorPanel
from views.latency import LatencyPanel
from views.memory import MemoryPanel
from views.panel import Panel
from views.readouts import Readouts
from views.selection import Selection
from views.text import TextPanel
from views.theme import DARK
from views.tuning_model import TuningModel

SHAPES = ((8, 16, 2), (48, 128, 8))
SIZE = (1000, 520)


def measure(app: QApplication, panel: Panel, messages: list) -> np.ndarray:
    """Milliseconds of refresh and paint for each message fed, [n, 2]."""
    times = []
    for message in messages:
        panel.recording.append(message)
        begin = time.thread_time()
        panel.tick(force=True)
        between = time.thread_time()
        panel.repaint()
        app.processEvents()
        times.append((between - begin, time.thread_time() - between))
    return 1000 * np.array(times)


def drag(app: QApplication, layers: int, experts: int, top_k: int) -> np.ndarray:
    """Milliseconds of plan and paint for each of many tolerances, [n, 2]."""
    panel = BitwidthPanel(make_recording(layers, experts, top_k, tokens=30), Selection(), TuningModel(), DARK)
    plans, model = panel.plans, panel.recording.model
    assert model is not None
    plans.proposed.connect(plans.accept)
    plans.hear_model(model, panel.recording.wanted().tobytes())
    plans.hear_studied(studied(model, layers * experts))
    panel.resize(*SIZE)
    panel.show()
    app.processEvents()
    times = []
    for tolerance in np.geomspace(0.002, 0.1, 60):
        begin = time.thread_time()
        plans.tolerate(float(tolerance))
        between = time.thread_time()
        panel._draw()
        panel.repaint()
        app.processEvents()
        times.append((between - begin, time.thread_time() - between))
    panel.speed.stop()
    panel.close()
    panel.deleteLater()
    return 1000 * np.array(times[5:])


def report(name: str, times: np.ndarray) -> None:
    total = times.sum(axis=1)
    refresh, paint = np.median(times, axis=0)
    print(f"{name:<28} refresh {refresh:6.2f} ms  paint {paint:6.2f} ms  "
          f"p50 {np.median(total):6.2f}  p99 {np.percentile(total, 99):6.2f} ms")  # fmt: skip


def main() -> None:
    app = QApplication.instance() or QApplication([])
    for layers, experts, top_k in SHAPES:
        everything = list(make_messages(layers, experts, top_k, tokens=180))
        cut = next(index for index, message in enumerate(everything) if isinstance(message, Batch)) + 1
        rest = [message for message in everything[cut:] if isinstance(message, Batch)]
        panels: list[tuple[str, type[Panel], str]] = [(f"grid {title}", GridPanel, key) for key, title, _ in MODES]
        panels += [(kind.key, kind, "") for kind in (TextPanel, InspectorPanel, LatencyPanel, CachePanel, MemoryPanel, Readouts)]
        for name, kind, mode in panels:
            recording, selection = Recording(), Selection()
            for message in everything[:cut]:
                recording.append(message)
            panel = kind(recording, selection, TuningModel(), DARK)
            panel.resize(*SIZE)
            panel.show()
            app.processEvents()
            if isinstance(panel, GridPanel):
                panel.modes.choose(mode)
            selection.pick(layer=1, expert=3)
            measure(app, panel, rest[:5])
            report(f"{layers}x{experts} {name}", measure(app, panel, rest[5:]))
            panel.close()
            panel.deleteLater()
            app.processEvents()
        report(f"{layers}x{experts} tolerance dragged", drag(app, layers, experts, top_k))


if __name__ == "__main__":
    main()
