"""What the timeline is painted from: lanes in their room, spans as pixels, and what is kept of them between frames."""

from __future__ import annotations

import numpy as np
import pytest

from engine.events import SpanKind
from engine.recording.recording import Recording
from tests.factory import make_recording
from views.lanes import Lanes
from views.spancache import SpanCache
from views.spantotals import SpanTotals
from views.theme import Theme
from views.timeline_shades import SHADE_OF, averaged, bins, code, colors, coverage, stacked


@pytest.mark.parametrize(("layers", "slots", "height"), [(48, 4, 230), (8, 16, 180), (2, 1, 700), (0, 4, 120)])
@pytest.mark.parametrize("expanded", [False, True])
def test_lanes_lie_below_each_other_within_their_room(layers, slots, height, expanded):
    lanes = Lanes()
    lanes.expanded = expanded
    lanes.arrange(layers, slots, 32, height)
    assert [lane.top for lane in lanes.shown] == [32, *(lane.bottom for lane in lanes.shown[:-1])]
    assert sum(lane.kind == "slot" for lane in lanes.shown) == slots
    assert (sum(lane.kind == "layer" for lane in lanes.shown) > 0) == (expanded and layers > 0)
    assert lanes.bottom <= height
    assert lanes.at(lanes.shown[0].top) is lanes.shown[0] and lanes.at(31) is None


def test_layers_scroll_as_far_as_there_are_any():
    lanes = Lanes()
    lanes.expanded = True
    lanes.arrange(48, 4, 20, 250)
    lanes.scroll_to(1000)
    lanes.arrange(48, 4, 20, 250)
    layers = [lane.index for lane in lanes.shown if lane.kind == "layer"]
    assert layers == list(range(48 - lanes.fits, 48))


def test_coverage_is_exact_within_pixels():
    covered = coverage(np.array([0, 0, 1]), np.array([0.25, 3.5, -4.0]), np.array([2.5, 3.75, 99.0]), 2, 5)
    assert covered == pytest.approx(np.array([[0.75, 1, 0.5, 0.25, 0], [1, 1, 1, 1, 1]]))


def test_columns_are_stacked_from_the_bottom():
    shares = np.array([[[1.0, 0.25, 0.0], [0.0, 0.5, 0.0]]])
    assert stacked(shares, 4)[0].T.tolist() == [[0, 0, 0, 0], [2, 1, 1, 0], [2, 2, 2, 2]]


def test_bins_are_never_below_a_pixel_and_leave_pauses():
    begins, owner = bins(np.array([0.0, 0.3, 1.2, 4.0]), np.array([0.3, 1.2, 1.9, 6.0]), 7)
    assert begins.tolist() == [0, 2, 3]
    assert owner.tolist() == [0, 1, -1, -1, 2, 2, -1]


def test_averages_keep_each_tokens_sum():
    covered = np.array([[1.0, 0, 0, 0.5, 0], [0, 1.0, 1.0, 0.5, 0]])
    even = averaged(covered, np.array([0.0, 3.0]), np.array([3.0, 4.0]))
    assert even == pytest.approx(np.array([[1 / 3, 1 / 3, 1 / 3, 0.5, 0], [2 / 3, 2 / 3, 2 / 3, 0.5, 0]]))


def test_every_colour_can_be_told_from_the_ground(theme: Theme):
    assert all(color != theme.base for color in colors(theme))
    last = code("tokens", 1)
    assert len(colors(theme)) == last


def test_span_cache_holds_what_a_fresh_look_finds(monkeypatch):
    whole = make_recording(tokens=40)
    rows, growing, cache = whole.spans.rows(), Recording(), SpanCache()
    look, looks = growing.spans.between, []
    monkeypatch.setattr(growing.spans, "between", lambda *window: looks.append(window) or look(*window))
    for stop in range(0, len(rows), 150):
        growing.spans.append(rows[stop : stop + 150])
        end = int((rows["start"] + rows["duration"])[: stop + 150].max())
        growing.duration = end
        window = max(0, end - 20_000_000), end
        cache.show(growing, window)
        seen = np.sort(cache.rows[(cache.rows["start"] <= window[1]) & (cache.rows["start"] + cache.rows["duration"] >= window[0])])
        assert seen.tolist() == np.sort(look(*window)).tolist()
    assert len(cache.rows) < len(rows)
    assert len(looks) == 1, "only the tail is read while following"


def test_totals_are_the_sums_of_the_spans(recording, monkeypatch):
    monkeypatch.setattr("views.spantotals.CHUNK", 333)
    totals = SpanTotals(8)
    while not totals.catch_up(recording):
        pass
    table = recording.tokens
    for kind, name in ((SpanKind.ATTENTION, "attention"), (SpanKind.STALL, "stall"), (SpanKind.EXPERT, "compute"), (SpanKind.HEAD, "head")):
        assert totals.work[: len(table), :, SHADE_OF[kind]].sum(axis=1) == pytest.approx(table.column(name))
    assert totals.spans.sum() == len(recording.spans)
    rows = recording.spans.rows()
    reads = rows[rows["kind"] == SpanKind.READ]
    assert totals.slots == reads["lane"].max()
    assert totals.reads[:, 0].sum() == pytest.approx(reads["duration"][reads["lane"] == 1].sum())
