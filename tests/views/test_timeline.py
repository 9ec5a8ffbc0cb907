"""The timeline: lanes and slices that are where the recording says, and what pointing, clicking, zooming and folding do."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtWidgets import QApplication, QLabel

from engine.events import SPAN, Batch, SpanKind
from engine.recording.recording import Recording
from engine.recording.statistics import summarize
from tests.factory import _Run, make_recording
from views import timeline
from views.latency import LatencyPanel
from views.timeaxis import token_window
from views.timeline import HINT, TimelinePanel
from views.timeline_canvas import LEFT
from views.timeline_shades import FRAMEWORK, SHADE_OF, code
from views.timeline_text import names, told


@pytest.fixture
def panel(make_panel, recording) -> TimelinePanel:
    panel = make_panel(TimelinePanel, recording, size=(620, 400))
    panel.tick()
    return panel


def zoom(panel: TimelinePanel, token: int, tokens: int = 1) -> None:
    """Show some tokens from ``token`` on."""
    panel.selection.show((token_window(panel.recording, token)[0], token_window(panel.recording, token + tokens - 1)[1]))
    panel.tick()


def lane_of(panel: TimelinePanel, kind: str, index: int = 0):
    return next(lane for lane in panel.canvas.lanes.shown if (lane.kind, lane.index) == (kind, index))


def spans_of(panel: TimelinePanel, token: int, kind: SpanKind) -> np.ndarray:
    rows = panel.recording.spans.between(*token_window(panel.recording, token))
    return rows[(rows["token"] == token) & (rows["kind"] == kind)]


def place(panel: TimelinePanel, span: np.void) -> QPointF:
    """The middle of a span on its lane."""
    lane = lane_of(panel, "slot", int(span["lane"])) if span["kind"] == SpanKind.READ else lane_of(panel, "compute")
    return QPointF(panel.canvas.x_of(span["start"] + span["duration"] / 2), lane.top + lane.height / 2)


def longest(rows: np.ndarray) -> np.void:
    return rows[rows["duration"].argmax()]


def test_an_empty_recording_says_what_will_be_here(make_panel):
    panel = make_panel(TimelinePanel)
    panel.tick()
    assert not panel.canvas.isVisible()
    assert "Run a prompt" in " ".join(label.text() for label in panel.findChildren(QLabel) if label.isVisible())


def test_follows_twenty_tokens_and_time_lines_up_with_the_charts(panel, make_panel, recording):
    assert panel.window() == (token_window(recording, 30)[0], token_window(recording, 49)[1])
    chart = make_panel(LatencyPanel, recording, size=(620, 400))
    panel.selection.show((0, 1_000_000_000))
    chart.selection.show((0, 1_000_000_000))
    chart.tick()
    panel.tick()
    QApplication.processEvents()  # the charts are laid out
    for x in (LEFT, 300, 609):
        assert panel.time_at(x) == pytest.approx(chart.time_at(x), abs=2e9 / 544)


def test_pixels_show_the_spans_colours(make_panel, recording, theme):
    panel = make_panel(TimelinePanel, recording, theme=theme, size=(620, 400))
    zoom(panel, 10)
    image = panel.canvas.grab().toImage()
    for kind, role in ((SpanKind.STALL, "stall"), (SpanKind.HEAD, "head"), (SpanKind.READ, "first_touch")):
        span = longest(spans_of(panel, 10, kind))
        at = place(panel, span)
        # Near the top of the slice: the text is in its middle.
        lane = panel.canvas.lanes.at(at.y())
        assert image.pixelColor(round(at.x()), lane.top + 2).name() == getattr(theme, role)


def test_what_is_pointed_at_is_told(panel, recording, qtbot):
    zoom(panel, 10)
    assert panel.line.full == HINT
    span = longest(spans_of(panel, 10, SpanKind.READ))
    qtbot.wait(30)
    qtbot.mouseMove(panel.canvas, place(panel, span).toPoint())
    panel.tick()
    assert panel.selection.hover_token == 10
    assert panel.selection.hover_expert == (span["layer"], span["expert"])
    assert panel.line.full == told(recording, span, panel.preloads)
    for part in (f"layer {span['layer']}, expert {span['expert']}", "4 bit", "110 kB", "MB/s", "first touch", "token 10"):
        assert part in panel.line.full
    panel.navigator.leave()
    panel.tick()
    assert panel.line.full == HINT and panel.selection.hover_token is None


def test_a_token_hovered_elsewhere_is_told_and_framed(panel, recording):
    panel.selection.hover(token=40)
    panel.tick()
    assert panel.line.full.startswith("Token 40")
    assert token_window(recording, 40) in {(band.start, band.end) for band in panel.canvas.bands}


def test_a_click_pins_token_and_expert_and_again_lets_go(panel, qtbot):
    zoom(panel, 10)
    span = longest(spans_of(panel, 10, SpanKind.READ))
    at = place(panel, span).toPoint()
    qtbot.mouseClick(panel.canvas, Qt.MouseButton.LeftButton, pos=at)
    picked = panel.selection.picked
    assert (picked.token, picked.layer, picked.expert) == (10, span["layer"], span["expert"])
    panel.tick()
    assert panel.canvas.marked == (span["layer"], span["expert"])
    qtbot.mouseClick(panel.canvas, Qt.MouseButton.LeftButton, pos=at)
    assert panel.selection.picked.token is None and panel.selection.picked.expert is None


def test_an_expert_hovered_elsewhere_stays_lit_while_others_recede(panel, theme):
    panel.restyle(theme)
    zoom(panel, 10)
    stalls = spans_of(panel, 10, SpanKind.STALL)
    span, head = longest(stalls), longest(spans_of(panel, 10, SpanKind.HEAD))
    panel.selection.hover(expert=(int(span["layer"]), int(span["expert"])))
    panel.tick()
    image, lane = panel.canvas._image, lane_of(panel, "compute")
    row = lane.top + 2 - panel.canvas.lanes.top
    assert image.pixelColor(round(place(panel, span).x() - LEFT), row).name() == theme.stall
    assert image.pixelColor(round(place(panel, head).x() - LEFT), row).name() != theme.head
    panel.hover_at(place(panel, span))
    panel.tick()
    assert panel.canvas.lit is None, "nothing recedes under the user's own pointer"


def test_shift_drag_selects_a_range_whose_figures_are_told(panel, recording, qtbot):
    begin, end = QPoint(200, 100), QPoint(420, 100)
    shift = Qt.KeyboardModifier.ShiftModifier
    qtbot.mousePress(panel.canvas, Qt.MouseButton.LeftButton, shift, begin)
    qtbot.mouseMove(panel.canvas, end)
    qtbot.mouseRelease(panel.canvas, Qt.MouseButton.LeftButton, shift, end)
    picked = panel.selection.picked
    panel.tick()
    panel._figures.flush()
    told_ = summarize(recording, picked.start, picked.end)
    values = panel.stats.figures.values
    assert values[""].startswith(f"range: {told_.tokens} tokens, ")
    assert values["read"] == f"{told_.demand_bytes / 1e6:.1f} MB"
    assert values["capacity"] == str(told_.capacity)
    assert sum(int(share.rstrip("%")) for share in panel.stats.work.values.values()) == pytest.approx(100, abs=3)
    qtbot.keyClick(panel.canvas, Qt.Key.Key_Escape)
    panel.tick()
    panel._figures.flush()
    assert panel.stats.figures.values[""].startswith("in view: 20 tokens")


def test_a_token_pinned_elsewhere_comes_into_sight(panel, recording):
    panel.selection.pick(token=3)
    panel.tick()
    start, end = panel.window()
    assert start == token_window(recording, 3)[0] and end == token_window(recording, 22)[1]
    panel.selection.pick(token=49)
    assert panel.window()[1] == token_window(recording, 49)[1], "one that is in sight moves nothing"
    panel.selection.pick(token=None)
    assert panel.window()[1] == token_window(recording, 49)[1]


def test_buttons_and_keys_zoom_fit_and_follow(panel, recording, qtbot):
    assert panel.follow.isChecked()
    qtbot.keyClick(panel.canvas, Qt.Key.Key_W)
    panel.tick()
    assert not panel.follow.isChecked() and panel.selection.view is not None
    panel.follow.click()
    assert panel.selection.view is None
    qtbot.keyClick(panel.canvas, Qt.Key.Key_F)
    panel.tick()
    assert panel.window()[0] == token_window(recording, 0)[0]


def test_layers_unfold_by_key_and_by_header_and_scroll(panel, qtbot):
    header = QPoint(20, lane_of(panel, "compute").top + 5)
    qtbot.mouseClick(panel.canvas, Qt.MouseButton.LeftButton, pos=header)
    panel.tick()
    assert [lane.index for lane in panel.canvas.lanes.shown if lane.kind == "layer"] == list(range(8))
    assert not panel.canvas.bar.isVisible()
    panel.resize(620, 240)
    panel.tick()
    assert panel.canvas.bar.isVisible()
    qtbot.keyClick(panel.canvas, Qt.Key.Key_PageDown)
    qtbot.keyClick(panel.canvas, Qt.Key.Key_PageDown)
    qtbot.keyClick(panel.canvas, Qt.Key.Key_PageDown)
    panel.tick()
    assert [lane.index for lane in panel.canvas.lanes.shown if lane.kind == "layer"][-1] == 7
    qtbot.keyClick(panel.canvas, Qt.Key.Key_E)
    panel.tick()
    assert {lane.kind for lane in panel.canvas.lanes.shown} == {"tokens", "compute", "slot"}


def test_a_layers_slices_lie_on_its_lane(panel):
    panel.canvas.fold()
    zoom(panel, 10)
    span = longest(spans_of(panel, 10, SpanKind.ATTENTION))
    lane = lane_of(panel, "layer", int(span["layer"]))
    found = panel.canvas.slice_at(QPointF(place(panel, span).x(), lane.top + 3))
    assert found.span == span
    other = lane_of(panel, "layer", (int(span["layer"]) + 4) % 8)
    assert panel.canvas.slice_at(QPointF(place(panel, span).x(), other.top + 3)) is None


def test_far_out_totals_stand_for_spans(panel, monkeypatch, recording):
    monkeypatch.setattr(timeline, "MOST_SPANS", 100)
    monkeypatch.setattr(panel.spans, "show", lambda *_: pytest.fail("spans were read"))
    panel.canvas.fold()
    panel.navigator.fit()
    panel.tick()
    picture = panel.canvas.picture
    assert not picture.detailed
    lane = lane_of(panel, "compute")
    x = panel.canvas.x_of(sum(token_window(recording, 20)) / 2)
    shades = picture._rows(picture._codes, picture.lanes.index(lane))[:, int(x - LEFT)]
    row = recording.tokens.rows(20, 21)[0]
    assert (shades == code("compute", SHADE_OF[SpanKind.STALL])).mean() == pytest.approx(row["stall"] / row["duration"], abs=0.03)
    found = panel.canvas.slice_at(QPointF(x, lane.top + 5))
    assert found.token == 20 and found.span is None


@pytest.fixture
def native(make_panel) -> TimelinePanel:
    """Over a run of the native decoder: short spans, shared experts, and bookkeeping between them."""
    panel = make_panel(TimelinePanel, make_recording(tokens=60, native=True), size=(620, 400))
    panel.tick()
    return panel


def test_shared_experts_and_bookkeeping_are_work_of_the_token_loop(native):
    zoom(native, 40)
    native.canvas.fold()
    native.tick()
    picture, table = native.canvas.picture, native.recording.tokens
    for kind in (SpanKind.SHARED, SpanKind.ACCOUNT, SpanKind.PREDICT):
        span = longest(spans_of(native, 40, kind))
        at = place(native, span)
        assert native.canvas.slice_at(at).span == span
        assert native.canvas.slice_at(QPointF(at.x(), lane_of(native, "layer", int(span["layer"])).top + 3)).span == span
        codes = picture._rows(picture._codes, picture.lanes.index(lane_of(native, "compute")))
        assert (codes[:, round(at.x() - LEFT)] == code("compute", SHADE_OF[kind])).all()
        words = {7: "Shared experts or dense layer: layer", 8: "The engine's own book", 9: "Predicting"}
        assert told(native.recording, span, native.preloads).startswith(words[kind])
    accounted = sum(sum(spans_of(native, 40, kind)["duration"].tolist()) for kind in (SpanKind.ACCOUNT, SpanKind.PREDICT))
    assert 0 < accounted < table.column("framework", 40, 41)[0]
    assert native.totals.work[40, :, FRAMEWORK].sum() == accounted


@pytest.mark.parametrize("far", [False, True])
def test_shared_time_is_told_apart_from_attention_near_and_far(native, monkeypatch, far):
    if far:
        monkeypatch.setattr(timeline, "MOST_SPANS", 100)
    native.navigator.fit()
    native.tick()
    native._figures.flush()
    rows, spans = native.recording.tokens.rows(), native.recording.spans.rows()
    shared = spans["duration"][spans["kind"] == SpanKind.SHARED].sum()
    assert native.stats.work.values["shared"] == f"{shared / rows['duration'].sum():.0%}" != "0%"
    assert native.stats.work.values["attention"] == f"{(rows['attention'].sum() - shared) / rows['duration'].sum():.0%}"
    picture = native.canvas.picture
    codes = picture._rows(picture._codes, picture.lanes.index(lane_of(native, "compute")))
    drawn = (codes == code("compute", SHADE_OF[SpanKind.SHARED])).sum() / (codes > 0).sum()
    assert drawn == pytest.approx(shared / rows["duration"].sum(), abs=0.02)


def test_reads_that_filled_the_buffer_belong_to_no_token(panel):
    start, end = token_window(panel.recording, 24)
    row = np.zeros(1, SPAN)
    row["start"], row["duration"], row["token"], row["layer"], row["expert"] = start, end - start, -1, 2, 7
    row["kind"], row["lane"], row["bits"], row["bytes"] = SpanKind.READ, 4, 4, 110_000
    panel.recording.append(Batch({"spans": row.tobytes()}, []))
    zoom(panel, 24)
    at = place(panel, row[0])
    found = panel.canvas.slice_at(at)
    assert found.token is None and found.expert == (2, 7)
    assert told(panel.recording, found.span, panel.preloads).endswith("read ahead · warm start")
    panel.hover_at(at)
    assert panel.selection.hover_token is None and panel.selection.hover_expert == (2, 7)
    panel.click_at(at)
    assert (panel.selection.picked.token, panel.selection.picked.expert) == (None, 7)


def test_what_does_not_occur_is_not_in_the_legend(panel, native):
    for shown, there in ((panel, False), (native, True)):
        shown._figures.flush()
        assert ("shared" in {entry.name for entry in shown.stats.work.entries}) is there


def test_followed_tokens_of_tiny_slices_are_drawn_evenly(make_panel, monkeypatch):
    post = _Run.__post_init__
    monkeypatch.setattr(_Run, "__post_init__", lambda run: (post(run), setattr(run, "capacity", 1000)))
    panel = make_panel(TimelinePanel, make_recording(tokens=150, native=True), size=(620, 400))
    panel.tick()
    picture, lane = panel.canvas.picture, lane_of(panel, "compute")
    codes = picture._rows(picture._codes, picture.lanes.index(lane))
    for token in (135, 140, 145):
        start, end = token_window(panel.recording, token)
        columns = codes[:, int(panel.canvas.x_of(start) - LEFT) + 2 : int(panel.canvas.x_of(end) - LEFT) - 3]
        assert (columns == columns[:, :1]).all(), "one look for all of a token"
    x = panel.canvas.x_of(sum(token_window(panel.recording, 140)) / 2)
    found = panel.canvas.slice_at(QPointF(x, lane.top + 5))
    assert found.span is None and found.token == 140
    zoom(panel, 140)
    assert panel.canvas.slice_at(place(panel, longest(spans_of(panel, 140, SpanKind.EXPERT)))).span is not None


def test_a_setting_change_is_marked(panel):
    panel.navigator.fit()
    panel.tick()
    assert [text for _, text in panel.canvas.marks] == ["Expert bits 8"]
    at = QPointF(panel.canvas.x_of(panel.canvas.marks[0][0]), 60)
    panel.hover_at(at)
    assert panel.canvas.toolTip() == "Expert bits 4 → 8 from token 25"


def test_another_recording_replaces_what_was_drawn(panel):
    other = make_recording(layers=4, experts=8, tokens=10, seed=3)
    panel.show_recording(other)
    assert panel.totals.layers == 4
    assert set(panel.spans.rows["token"].tolist()) == set(range(10))
    panel.show_recording(Recording())
    assert not panel.canvas.isVisible()


def test_texts_get_shorter_not_cut():
    span = np.zeros(1, SPAN)[0]
    span["kind"], span["layer"], span["expert"], span["bits"] = SpanKind.EXPERT, 3, 17, 4
    choices = names(span)
    assert choices[0] == "L3 E17 4 bit"
    assert sorted(map(len, choices), reverse=True) == [len(text) for text in choices]


def test_help_lists_the_keys():
    assert {"E", "L", "F", "R", "Esc"} <= {keys for keys, _ in TimelinePanel.keys}
