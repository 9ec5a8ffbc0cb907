"""What reading ahead did, in the timeline: told apart by colour and by texture, in words, and in numbers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from PySide6.QtCore import QPointF
from PySide6.QtGui import QImage

from engine.events import Outcome, SpanKind
from engine.recording.overlap import COMPUTING
from engine.recording.preloads import Fate, Preloads
from engine.recording.recording import Recording
from tests.factory import covered, make_recording
from views import timeline
from views.textures import receding, swatch
from views.theme import Theme
from views.timeaxis import token_window
from views.timeline import TimelinePanel
from views.timeline_arrows import MOST
from views.timeline_canvas import LEFT
from views.timeline_shades import DIMMED, FATED, code
from views.timeline_stats import BOTH
from views.timeline_text import told

WORDS = {
    Fate.USED: "before it was used by token", Fate.JOINED: "joined: wanted",
    Fate.WASTED: "never used: let go", Fate.PENDING: "not used yet",
}  # fmt: skip


@pytest.fixture(scope="module")
def ahead() -> Recording:
    return make_recording(ahead=True, tokens=60)


@pytest.fixture
def panel(make_panel, ahead) -> TimelinePanel:
    panel = make_panel(TimelinePanel, ahead, size=(620, 400))
    panel.tick()
    return panel


def read_of(panel: TimelinePanel, fate: Fate) -> tuple[np.void, np.void]:
    """The longest read ahead of a fate: its row of PRELOAD and its span."""
    rows = panel.preloads.rows
    row = max(rows[(rows["fate"] == fate) & (rows["duration"] > 0)], key=lambda row: row["duration"])
    spans = panel.recording.spans.between(row["start"], row["start"])
    return row, spans[(spans["start"] == row["start"]) & (spans["lane"] == row["lane"]) & (spans["kind"] == SpanKind.READ)][0]


def look_at(panel: TimelinePanel, row: np.void) -> np.ndarray:
    """Zoom to a read; the codes [H, W] of its slice, without its edges."""
    start, duration = int(row["start"]), int(row["duration"])
    panel.selection.show((start - duration, start + 2 * duration))
    panel.tick()
    picture = panel.canvas.picture
    number = next(number for number, lane in enumerate(picture.lanes) if (lane.kind, lane.index) == ("slot", row["lane"]))
    left, right = (round(float(picture.x_of(time))) for time in (start, start + duration))
    return picture._rows(picture._codes, number)[:, left + 1 : right - 3]


@pytest.mark.parametrize("size", [(5, 1), (5, 3), (18, 2), (30, 60)])
def test_textures_differ_at_any_size(size):
    looks = [~receding(fate, *size, 1.0) for fate in Fate]
    for first, second in combinations([np.ones(size, bool), *looks], 2):
        assert (first != second).any()
    assert all(look.any() for look in looks)


def test_swatches_differ_without_their_colour(theme: Theme):
    images = [swatch(theme, fate, 9, 1.0).convertToFormat(QImage.Format.Format_Grayscale8) for fate in Fate]
    edges = [[image.pixel(x, y) == image.pixel(0, 0) for x in range(9) for y in range(9)] for image in images]
    assert all(first != second for first, second in combinations(edges, 2))


@pytest.mark.parametrize("fate", [Fate.USED, Fate.WASTED])
def test_a_read_looks_like_its_fate(panel, fate):
    row, _ = read_of(panel, fate)
    codes, own = look_at(panel, row), code("slot", FATED + fate)
    assert set(np.unique(codes).tolist()) == {own, own | DIMMED}
    inside = codes[3:-3, 1:-1]
    assert (inside == own).any() == (fate == Fate.USED), "a wasted one is an outline"
    assert (codes[0] == own).all() == (fate == Fate.WASTED)


def test_a_joined_read_is_full_from_when_it_was_wanted(panel):
    row, _ = read_of(panel, Fate.JOINED)
    codes = look_at(panel, row)
    wanted = round((row["settled"] - row["start"]) / row["duration"] * codes.shape[1])
    own, late = code("slot", FATED + Fate.JOINED), code("slot", Outcome.LATE)
    assert {own, own | DIMMED} >= set(np.unique(codes[:, : wanted - 3]).tolist())
    assert (codes[:, wanted + 3 :] == late).all() and 5 < wanted < codes.shape[1] - 5


def test_what_is_not_settled_is_pending(panel):
    row, _ = read_of(panel, Fate.USED)
    panel.preloads.rows["fate"][panel.preloads.rows["asked"] == row["asked"]] = Fate.PENDING
    own = code("slot", FATED + Fate.PENDING)
    codes = look_at(panel, row)
    assert set(np.unique(codes).tolist()) == {own, own | DIMMED}
    assert (codes == own).mean() == pytest.approx(1 / 6, abs=0.05)


@pytest.mark.parametrize("fate", [Fate.USED, Fate.JOINED, Fate.WASTED])
def test_what_became_of_a_read_is_told(panel, ahead, fate):
    row, span = read_of(panel, fate)
    look_at(panel, row)
    lane = next(lane for lane in panel.canvas.lanes.shown if (lane.kind, lane.index) == ("slot", row["lane"]))
    panel.hover_at(QPointF(panel.canvas.x_of(row["start"] + row["duration"] // 2), lane.top + 4))
    panel.tick()
    assert panel.line.full == told(ahead, span, panel.preloads)
    assert WORDS[fate] in panel.line.full
    if fate != Fate.WASTED:
        assert f"by token {row['user']}" in panel.line.full
    assert WORDS[Fate.PENDING] in told(ahead, span, Preloads())


def test_counts_are_of_the_reads_within_the_window(panel, ahead):
    window = (token_window(ahead, 20)[0], token_window(ahead, 29)[1])
    panel.selection.show(window)
    panel.tick()
    panel._figures.flush()
    expected = dict.fromkeys(Fate, 0)
    for row in panel.preloads.rows[panel.preloads.rows["duration"] >= 0]:
        expected[Fate(row["fate"])] += window[0] - row["duration"] < row["start"] < window[1]
    mispredicted = ahead.tokens.column("mispredicted", 20, 30).sum()
    assert panel.stats.ahead.values == {
        **{fate.name.lower(): str(count) for fate, count in expected.items()}, "mispredicted": str(mispredicted)
    }
    assert expected[Fate.USED] > 0 and expected[Fate.WASTED] > 0


@pytest.mark.parametrize("far", [False, True])
def test_overlap_is_told_for_the_view_and_for_a_range(panel, ahead, monkeypatch, far):
    if far:
        monkeypatch.setattr(timeline, "MOST_SPANS", 100)
    panel.selection.show((token_window(ahead, 20)[0], token_window(ahead, 39)[1]))
    panel.tick()
    panel._figures.flush()
    whole = panel.stats.figures.values[BOTH]
    start = token_window(ahead, 25)[0] + 100_000
    panel.selection.pick(start=start, end=start + 500_000)
    panel.tick()
    panel._figures.flush()
    spans = ahead.spans.rows()
    marks = np.zeros((2, 500), bool)  # of each us whether a read is in flight, and whether the token loop computes
    for span in spans:
        first, last = (int(np.clip((time - start) / 1000, 0, 500)) for time in (span["start"], span["start"] + span["duration"]))
        if span["kind"] == SpanKind.READ or span["kind"] in COMPUTING:
            marks[int(span["kind"] != SpanKind.READ), first:last] = True
    assert 0 < marks.all(axis=0).sum() < marks[0].sum()
    share = int(panel.stats.figures.values[BOTH].rstrip("%")) / 100
    assert share == pytest.approx(marks.all(axis=0).sum() / marks[0].sum(), abs=0.02)
    assert panel.stats.figures.values[BOTH] != whole


def test_busy_is_the_share_of_the_passes_in_which_a_read_was_in_flight(panel, ahead):
    panel.selection.show((token_window(ahead, 20)[0], token_window(ahead, 39)[1]))
    panel.tick()
    panel._figures.flush()
    spans = ahead.spans.rows()
    reads = spans[spans["kind"] == SpanKind.READ]
    reading = whole = 0
    for token in range(20, 40):
        start, end = token_window(ahead, token)
        first, last = np.clip(reads["start"], start, end), np.clip(reads["start"] + reads["duration"], start, end)
        reading += covered(list(zip(first.tolist(), last.tolist(), strict=True)))
        whole += end - start
    assert panel.stats.figures.values["I/O busy"] == f"{reading / whole:.0%}"


def test_far_out_the_totals_are_told_apart_by_fate(panel, ahead, monkeypatch):
    monkeypatch.setattr(timeline, "MOST_SPANS", 100)
    panel.navigator.fit()
    panel.tick()
    picture = panel.canvas.picture
    assert not picture.detailed
    slots = [number for number, lane in enumerate(picture.lanes) if lane.kind == "slot"]
    codes = np.concatenate([picture._rows(picture._codes, number) for number in slots]) & ~np.uint8(DIMMED)
    durations = ahead.tokens.column("duration").sum()
    for fate in (Fate.USED, Fate.JOINED, Fate.WASTED):
        drawn = (codes == code("slot", FATED + fate)).sum() / (codes.shape[0] / len(slots))
        width = picture.x_of(np.array([token_window(ahead, 0)[0], token_window(ahead, 59)[1]]))
        share = panel.preloads.time[..., fate].sum() / durations
        assert drawn / (width[1] - width[0]) == pytest.approx(share, rel=0.25)


def test_without_reading_ahead_no_line_tells_of_it(make_panel, recording):
    panel = make_panel(TimelinePanel, recording, size=(620, 400))
    panel.tick()
    panel._figures.flush()
    assert panel.stats.ahead.entries == () and panel.stats.ahead.height() == 0
    assert panel.canvas.width() - LEFT > 0


# --- arrows -------------------------------------------------------------------------------------------------------------


def uses_of(panel: TimelinePanel, window: tuple[int, int]) -> list[tuple[int, int, int]]:
    """(slot, end of the read, start of the compute that used it first) of what was read ahead within a window, one by one."""
    spans, out = panel.recording.spans.rows(), []
    for row in panel.preloads.rows:
        end = row["start"] + row["duration"]
        if row["user"] >= 0 and end >= window[0] and row["start"] <= window[1]:
            same = (spans["kind"] == SpanKind.EXPERT) & (spans["token"] == row["user"]) & (spans["layer"] == row["layer"])
            out.append((int(row["lane"]), int(end), int(spans["start"][same & (spans["expert"] == row["expert"])].min())))
    return sorted(out)


def drawn(panel: TimelinePanel, strong: bool | None = None) -> list[tuple[int, float, float]]:
    return sorted((a.slot.index, a.end, a.start) for a in panel.canvas.arrows if strong is None or a.strong is strong)


def test_where_they_are_few_all_arrows_lead_to_the_first_use(panel, ahead):
    window = token_window(ahead, 20)[0], token_window(ahead, 21)[1]
    panel.selection.show(window)
    panel.tick()
    expected = uses_of(panel, window)
    assert 3 < len(expected) <= MOST
    inside = [(slot, end, start) for slot, end, start in expected if start < window[1]]
    x_of, shown = panel.canvas.picture.x_of, [arrow for arrow in drawn(panel) if arrow[2] <= panel.canvas.picture.width]
    for (slot, end, start), (lane, x0, x1) in zip(inside, shown, strict=True):
        assert slot == lane and x0 == pytest.approx(float(x_of(end))) and x1 == pytest.approx(max(float(x_of(end)), float(x_of(start))))
    assert drawn(panel, strong=True) == []
    assert {arrow.lane.kind for arrow in panel.canvas.arrows} == {"compute"}
    panel.canvas.fold()
    panel.tick()
    assert {arrow.lane.kind for arrow in panel.canvas.arrows} == {"layer"}


def test_where_they_are_many_only_those_of_what_is_pointed_at(panel, ahead):
    panel.selection.show((token_window(ahead, 10)[0], token_window(ahead, 50)[1]))
    panel.tick()
    assert len(uses_of(panel, panel.selection.view)) > MOST and drawn(panel) == []
    used = panel.preloads.rows[panel.preloads.rows["user"] == 31]
    panel.selection.hover(token=31)
    panel.tick()
    assert len(drawn(panel, strong=True)) == len(drawn(panel)) == len(used) > 0
    panel.selection.hover()
    panel.selection.pick(layer=int(used["layer"][0]), expert=int(used["expert"][0]))
    panel.tick()
    rows, (begin, end) = panel.preloads.rows, panel.selection.view
    inside = (rows["start"] <= end) & (rows["start"] + rows["duration"] >= begin) & (rows["user"] >= 0)
    assert len(drawn(panel)) == (inside & (rows["layer"] == used["layer"][0]) & (rows["expert"] == used["expert"][0])).sum()


@pytest.mark.parametrize("kind", [SpanKind.READ, SpanKind.EXPERT])
def test_a_slice_pointed_at_has_its_own_arrow(panel, ahead, kind, monkeypatch):
    monkeypatch.setattr("views.timeline_arrows.MOST", 1)
    row, span = read_of(panel, Fate.JOINED)  # in the token that it was read in
    panel.selection.show(token_window(ahead, row["user"]))
    panel.tick()
    if kind == SpanKind.EXPERT:
        spans = ahead.spans.rows()
        same = (spans["kind"] == kind) & (spans["token"] == row["user"]) & (spans["layer"] == row["layer"])
        span = spans[same & (spans["expert"] == row["expert"])][0]
    name, number = ("slot", span["lane"]) if kind == SpanKind.READ else ("compute", 0)
    lane = next(lane for lane in panel.canvas.lanes.shown if (lane.kind, lane.index) == (name, number))
    panel.canvas.pointed = panel.canvas.slice_at(QPointF(panel.canvas.x_of(span["start"] + span["duration"] // 2), lane.top + 2))
    assert panel.canvas.pointed.span == span
    panel.point()
    (arrow,) = panel.canvas.arrows
    assert arrow.strong and arrow.slot.index == row["lane"]


def test_arrows_are_painted(panel, ahead):
    panel.selection.show((token_window(ahead, 20)[0], token_window(ahead, 21)[1]))
    panel.tick()
    plain = panel.canvas.grab().toImage()
    assert panel.canvas.arrows
    panel.canvas.arrows = []
    assert panel.canvas.grab().toImage() != plain
