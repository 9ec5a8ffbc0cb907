"""The same figure is the same number wherever it is shown: readouts, charts, timeline, inspector and statistics."""

from __future__ import annotations

import pytest

from engine.recording.recording import Recording
from engine.recording.statistics import peak_resident, summarize
from views.cache import CachePanel
from views.inspector_facts import facts_of_token
from views.latency import LatencyPanel
from views.memory import MemoryPanel
from views.readouts import Readouts
from views.selection import Selection
from views.timeline_stats import figures
from views.units import format_bytes, format_read


def number(text: str) -> float:
    """The first number in a text."""
    return float("".join(c for c in text.split("%")[0].split()[-1 if "%" in text else 0] if c.isdigit() or c in ".-"))


@pytest.fixture
def ranged(recording: Recording) -> tuple[Selection, tuple[int, int]]:
    """Ten decode tokens of the second request, selected."""
    starts, ends = recording.tokens.column("start"), recording.tokens.column("start") + recording.tokens.column("duration")
    span = int(starts[30]), int(ends[39])
    selection = Selection()
    selection.pick(start=span[0], end=span[1])
    return selection, span


def test_a_range_of_decode_tokens(make_panel, recording, ranged):
    selection, span = ranged
    told = summarize(recording, span[0] + 1, span[1] - 1)
    assert (told.tokens, told.decode_tokens) == (10, 10)
    strip = {key: tile.value for key, tile in make_panel(Readouts, recording, selection=selection, size=(1400, 60)).tiles.items()}
    cache, latency, memory = (make_panel(kind, recording, selection=selection) for kind in (CachePanel, LatencyPanel, MemoryPanel))
    for panel in (cache, latency, memory):
        panel.tick(force=True)
    lane = figures(told, span, selected=True)
    hits, read = cache.legend.values["hit rate"], cache.legend.values["read on demand"]
    assert hits == f"{told.hit_rate:.1%}"
    assert (lane["first touch"], lane["capacity"]) == (str(told.first_touch), str(told.capacity))
    assert number(cache.legend.values["first touch"]) == pytest.approx(told.first_touch / 10, abs=0.05)
    assert number(strip["hits"]) == pytest.approx(100 * told.hit_rate, abs=0.05)
    assert number(read) == pytest.approx(told.mb_per_token, abs=0.005)
    assert number(lane["read"]) == pytest.approx(10 * told.mb_per_token, abs=0.05)
    assert number(strip["read"]) == pytest.approx(told.mb_per_token, abs=0.05)
    assert number(strip["speed"]) == pytest.approx(told.decode_tok_s, abs=0.5)  # three digits
    assert number(strip["stall"]) == pytest.approx(told.stall_ms_per_token, abs=0.05)
    assert number(latency.legend.values["demand stall"]) == pytest.approx(told.stall_ms_per_token, abs=0.05)
    assert latency.legend.values[""].endswith(f": {told.tpot_ms:.1f} ms")
    assert number(strip["bits"]) == pytest.approx(told.average_bits, abs=0.01)
    peak = peak_resident(recording, *span)
    assert f"peak {format_bytes(peak)}" in [level.text for level in memory.levels(memory.experts)]
    assert told.peak_resident_bytes <= peak


def test_one_token(make_panel, recording):
    selection = Selection()
    selection.hover(token=33)
    row, told = recording.tokens.rows(33, 34)[0], summarize(recording, *_inside(recording, 33))
    facts = {fact.name: fact.value for fact in facts_of_token(recording, 33)}
    strip = {key: tile.value for key, tile in make_panel(Readouts, recording, selection=selection, size=(1400, 60)).tiles.items()}
    cache = make_panel(CachePanel, recording, selection=selection)
    cache.tick(force=True)
    assert facts["Hits"] == f"{row['hits']} of {told.hits + told.misses}"
    assert cache.legend.values["hit rate"] == f"{told.hit_rate:.1%}"
    assert number(strip["hits"]) == pytest.approx(100 * told.hit_rate, abs=0.05)
    assert facts["Read"] == format_read(told.demand_bytes)
    assert number(strip["read"]) == pytest.approx(told.demand_bytes / 1e6, abs=0.005)


def _inside(recording: Recording, token: int) -> tuple[int, int]:
    start = int(recording.tokens.column("start")[token])
    return start + 1, start + int(recording.tokens.column("duration")[token]) - 1
