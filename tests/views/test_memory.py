"""The memory panel: the stack by width under the budget line, and the process."""

from __future__ import annotations

import numpy as np
import pytest

from engine.events import TABLES, Batch
from engine.recording.recording import Recording
from tests.factory import make_messages
from views.memory import WIDTHS, MemoryPanel
from views.timeaxis import token_window
from views.units import format_bytes


def changed(column_changes, tokens: int = 30) -> Recording:
    """A recording whose token and sample rows went through ``column_changes(rows, times)``."""
    recording = Recording()
    for message in make_messages(tokens=tokens):
        if isinstance(message, Batch):
            tables = dict(message.tables)
            for name, time in (("tokens", "start"), ("samples", "time")):
                if name in tables:
                    rows = np.frombuffer(tables[name], TABLES[name]).copy()
                    column_changes(rows, rows[time])
                    tables[name] = rows.tobytes()
            message = Batch(tables=tables, pieces=message.pieces)
        recording.append(message)
    return recording


def test_the_stack_is_what_was_resident(make_panel, recording, theme):
    panel = make_panel(MemoryPanel, recording, theme=theme, size=(640, 240))
    panel.tick()
    tops = panel.widths.items[-1].opts["y1"]
    assert tops == pytest.approx(recording.tokens.column("resident_bytes"))
    four = panel.widths.items[WIDTHS.index(4)].opts
    assert four["y1"] - four["y0"] == pytest.approx(recording.tokens.column("resident_4"))


def test_the_scale_is_the_budgets_not_the_contents(make_panel):
    def small(rows, times):
        rows["budget_bytes"] = 64 << 20

    panel = make_panel(MemoryPanel, changed(small))
    panel.tick()
    assert panel.experts.top == pytest.approx(1.12 * (64 << 20))
    assert "budget 64.0 MiB" in [level.text for level in panel.levels(panel.experts)]


def test_the_budget_line_steps_where_it_was_lowered(make_panel):
    def lowered(rows, times):
        rows["budget_bytes"][times >= 100_000_000] = 1 << 20

    recording = changed(lowered)
    panel = make_panel(MemoryPanel, recording)
    panel.tick()
    x, y = panel.budget.getData()
    before = int(recording.tokens.column("budget_bytes")[0])
    assert y.tolist() == [before, before, 1 << 20, 1 << 20]
    assert x[1] == x[2]
    assert x[1] >= 0.1
    assert panel.legend.values["budget"] == "1.00 MiB"


def test_peaks_are_of_the_range(make_panel, recording):
    panel = make_panel(MemoryPanel, recording)
    panel.tick()
    whole = panel.levels(panel.experts)[1]
    start, end = token_window(recording, 1)[0], token_window(recording, 3)[1]
    panel.selection.pick(start=start, end=end)
    panel.tick()
    part = panel.levels(panel.experts)[1]
    assert part.y < whole.y
    assert part.text == f"peak {format_bytes(part.y)}"


def test_process_parts_sum_to_its_resident_memory(make_panel, recording):
    panel = make_panel(MemoryPanel, recording)
    panel.tick()
    assert panel.parts.items[-1].opts["y1"] == pytest.approx(recording.samples.column("rss"))


def test_pointing_tells_how_it_was_then(make_panel, recording):
    panel = make_panel(MemoryPanel, recording)
    panel.selection.hover(token=2)
    panel.tick()
    assert panel.legend.values[""] == "token 2"
    assert panel.legend.values["4 bit"] == format_bytes(int(recording.tokens.column("resident_4")[2]))


def test_samples_alone_are_shown(make_panel):
    """A model is loaded and nothing was run yet."""
    recording = Recording()
    rows = np.zeros(5, TABLES["samples"])
    rows["time"], rows["rss"], rows["budget_bytes"] = np.arange(5) * 10**8, 300 << 20, 12 << 20
    recording.append(Batch(tables={"samples": rows.tobytes()}, pieces=[]))
    panel = make_panel(MemoryPanel, recording)
    panel.tick()
    assert panel.canvas.isVisible()
    assert panel.legend.values["process"] == "300 MiB"
    assert panel.experts.top >= 12 << 20


def test_an_empty_recording_gets_a_hint(make_panel):
    panel = make_panel(MemoryPanel)
    panel.tick()
    assert not panel.canvas.isVisible()
