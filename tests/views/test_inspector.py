"""The inspector: what it says of an expert and of a token equals what the recording holds."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt

from engine.events import Outcome, Phase, Residency, SpanKind
from engine.recording.recording import Recording
from engine.residency import POLICIES
from tests.factory import RECORD_BYTES, make_messages, make_recording
from views import inspector, inspector_reasons
from views.grid_shades import OUTCOMES
from views.inspector import InspectorPanel
from views.inspector_tables import EventsModel
from views.theme import DARK
from views.timeaxis import token_window
from views.units import format_duration, format_read

SMALL = (330, 320)


def reloaded(recording: Recording) -> tuple[int, int]:
    """The layer and expert that was loaded most often."""
    rows = recording.residency.rows()
    rows = rows[rows["state"] == Residency.RESIDENT]
    return divmod(int(np.bincount(rows["layer"] * 16 + rows["expert"]).argmax()), 16)


def of_expert(rows: np.ndarray, layer: int, expert: int) -> np.ndarray:
    return rows[(rows["layer"] == layer) & (rows["expert"] == expert)]


@pytest.fixture
def place(recording) -> tuple[int, int]:
    return reloaded(recording)


@pytest.fixture
def panel(make_panel, recording, place) -> InspectorPanel:
    """With that expert pinned."""
    panel = make_panel(InspectorPanel, recording, size=(370, 420))
    panel.selection.pick(layer=place[0], expert=place[1])
    panel.tick()
    return panel


def click_row(panel: InspectorPanel, qtbot, row: int) -> None:
    table = panel.event_table
    middle = table.visualRect(table.model().index(row, 2)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=middle)
    panel.tick()


def test_nothing_pinned_says_what_to_do(make_panel, recording, theme):
    for shown in (Recording(), recording):
        panel = make_panel(InspectorPanel, shown, theme=theme, size=SMALL)
        assert panel._hint.isVisible()
        assert "Click an expert" in panel._hint.text()
        assert not panel.facts.isVisible()


def test_an_expert_in_figures(make_panel, recording, place, theme):
    panel = make_panel(InspectorPanel, recording, theme=theme, size=SMALL)
    panel.selection.pick(layer=place[0], expert=place[1])
    panel.tick()
    layer, expert = place
    uses, spans = of_expert(recording.accesses.rows(), *place), of_expert(recording.spans.rows(), *place)
    reads, changes = spans[spans["kind"] == SpanKind.READ], of_expert(recording.residency.rows(), *place)
    value, hits = panel.facts.value, int((uses["outcome"] == Outcome.HIT).sum())
    assert panel.heading.text() == f"Layer {layer}, expert {expert}"
    assert value("Uses") == str(len(uses))
    assert value("Last used") == f"token {uses['token'][-1]}"
    assert value("Hit rate") == f"{100 * hits / len(uses):.1f}%"
    assert value("Misses") == f"1 first touch, {len(uses) - hits - 1} capacity"
    share = len(uses) / (recording.accesses.column("layer") == layer).sum()
    assert value("Layer share") == f"{100 * share:.1f}% of uses, {16 * share:.2f} × an even share"
    assert value("Loaded") == f"{len(reads)} ×"
    assert value("Evicted") == f"{(changes['state'] == Residency.ABSENT).sum()} ×"
    assert value("Mean read") == format_duration(reads["duration"].mean())
    assert value("Read") == format_read(reads["bytes"].sum())
    assert value("Gate weight") == f"{np.average(uses['weight'], weights=uses['tokens']):.3f}"
    assert value("Record") == ", ".join(f"{bits}: {size / 1024:.0f}" for bits, size in RECORD_BYTES.items()) + " KiB"
    assert "pinned" in panel.state.text()


def test_state_follows_the_grid(panel, recording, place):
    state, bits = recording.grid.state[place], recording.grid.bits[place]
    assert ("resident" if state == Residency.RESIDENT else "absent") in panel.state.text()
    assert (f"at {bits} bits" in panel.state.text()) == bool(bits)


def test_why_it_left_names_who_came_and_the_next_in_line(make_panel, recording):
    rows = recording.residency.rows()
    gone = rows[(rows["state"] == Residency.ABSENT) & (rows["newcomer"] > 0)]
    last = next(row for row in gone[::-1] if of_expert(rows, row["layer"], row["expert"])[-1]["time"] == row["time"])
    panel = make_panel(InspectorPanel, recording, size=SMALL)
    panel.selection.pick(layer=int(last["layer"]), expert=int(last["expert"]))
    panel.tick()
    layer, expert = divmod(int(last["newcomer"]) - 1, 16)
    lines = panel.reason.text().split("\n")
    assert lines[0].startswith(f"Evicted at token {last['token']} (") and lines[0].endswith(f"for layer {layer}, expert {expert}")
    assert lines[1] == "Score 0.5, the highest; the next, 0.25, stayed (lru; higher: longer unused)"
    assert "number of its last use" in panel.reason.toolTip()


def test_why_it_stays_tells_its_uses_and_what_another_left_with(make_panel, recording):
    rows, uses = recording.residency.rows(), recording.accesses.rows()
    layer, expert = (int(place) for place in np.argwhere(recording.grid.state == Residency.RESIDENT)[0])
    since = int(of_expert(rows, layer, expert)[-1]["token"])
    used = of_expert(uses, layer, expert)
    count = int((used["token"] >= since).sum())
    panel = make_panel(InspectorPanel, recording, size=SMALL)
    panel.selection.pick(layer=layer, expert=expert)
    panel.tick()
    came, told, *more = panel.reason.text().split("\n")
    assert came.startswith(f"Read on demand at token {since} (")
    assert told == f"Used {'once' if count == 1 else f'{count} times'} since, last by token {used['token'][-1]}"
    assert more[0] == "Nobody has had to leave since" or "left with score 0.5; this one's was 0.25 at most" in more[0]


def test_every_policy_says_what_its_score_is():
    assert set(inspector_reasons.SCORES) == set(POLICIES)


def test_colours_have_a_key_of_what_occurs(panel, recording, place):
    outcomes = set(of_expert(recording.accesses.rows(), *place)["outcome"].tolist())
    names = [key.text for key in panel.legend.keys]
    assert {OUTCOMES[Outcome(outcome)][1] for outcome in outcomes} <= set(names) and any(name.endswith(" bits") for name in names)
    panel.selection.pick(layer=None, expert=None, token=12)
    panel.tick()
    token = set(recording.accesses.rows()[recording.accesses.rows()["token"] == 12]["outcome"].tolist())
    assert [key.text for key in panel.legend.keys][: len(token)] == [name for outcome, (_, name) in OUTCOMES.items() if outcome in token]


def test_an_expert_never_used(make_panel):
    recording = make_recording(layers=4, experts=64, tokens=6)
    layer, expert = np.argwhere(recording.grid.uses == 0)[0].tolist()
    panel = make_panel(InspectorPanel, recording)
    panel.selection.pick(layer=layer, expert=expert)
    panel.tick()
    assert panel.facts.value("Uses") == "0"
    assert panel.facts.value("Last used") == "never"
    assert panel.facts.value("Hit rate") == panel.facts.value("Mean stay") == panel.facts.value("Mean read") == "–"
    assert panel.events.rowCount() == 0


def test_events_newest_first_in_words(panel, recording, place):
    events, model = panel.events.events, panel.events
    texts = [model.data(model.index(row, 2)) for row in range(model.rowCount())]
    uses = of_expert(recording.accesses.rows(), *place)
    assert texts.count("used: hit") == (uses["outcome"] == Outcome.HIT).sum()
    assert texts.count("used: miss, capacity") == (uses["outcome"] == Outcome.CAPACITY).sum()
    changes = of_expert(recording.residency.rows(), *place)
    gone = changes[(changes["state"] == Residency.ABSENT) & (changes["newcomer"] > 0)]
    told = [f"evicted for L{number // 16} E{number % 16}, score 0.5" for number in (gone["newcomer"] - 1).tolist()]
    assert told and sorted(text for text in texts if text.startswith("evicted for")) == sorted(told)
    loaded = next(event for event in events if event.what == "loaded")
    assert f"loaded at {loaded.bits} bits in {format_duration(loaded.duration)}" in texts
    assert [event.time for event in events] == sorted((event.time for event in events), reverse=True)
    assert model.data(model.index(0, 1)) == str(events[0].token)


def test_a_row_pins_its_token_and_the_expert_stays(panel, qtbot):
    heading, event = panel.heading.text(), panel.events.events[2]
    click_row(panel, qtbot, 2)
    assert panel.selection.picked.token == event.token
    assert panel.heading.text() == heading
    brush = panel.events.data(panel.events.index(2, 0), Qt.ItemDataRole.BackgroundRole)
    assert brush is not None and brush.color().isValid()
    assert panel.choice.isVisible(), "both are pinned now: one can choose"
    panel.choice.choose("token")
    panel.tick()
    assert panel.heading.text().startswith(f"Token {event.token} ")


def test_the_newest_pin_is_shown(panel, place):
    panel.selection.pick(token=9)
    panel.tick()
    assert panel.heading.text().startswith("Token 9 ")
    panel.selection.pick(layer=0, expert=1)
    panel.tick()
    assert panel.heading.text() == "Layer 0, expert 1"
    panel.selection.pick(layer=None, expert=None)
    panel.tick()
    assert panel.heading.text().startswith("Token 9 ")


def test_hover_shows_while_nothing_is_pinned(make_panel, recording, place):
    panel = make_panel(InspectorPanel, recording)
    panel.selection.hover(expert=place)
    panel.tick()
    assert panel.heading.text() == f"Layer {place[0]}, expert {place[1]}"
    assert "pointed at" in panel.state.text()
    panel.selection.hover(token=7)
    panel.tick()
    assert panel.heading.text().startswith("Token 7 ")
    panel.selection.pick(token=12)
    panel.selection.hover(expert=place)
    panel.tick()
    assert panel.heading.text().startswith("Token 12 ")
    panel.selection.clear()
    panel.selection.hover()
    panel.tick()
    assert panel._hint.isVisible()


def test_a_token_in_figures(make_panel, recording, theme):
    panel = make_panel(InspectorPanel, recording, theme=theme, size=SMALL)
    panel.selection.pick(token=11)
    panel.tick()
    row, value = recording.tokens.rows(11, 12)[0], panel.facts.value
    assert recording.pieces[11].strip() in panel.heading.text()
    assert value("Phase") == "decode"
    assert value("Duration") == format_duration(row["duration"])
    assert value("Probability") == f"{100 * np.exp(row['logprob']):.1f}%"
    assert value("Hits") == f"{row['hits']} of 16"
    assert value("Read") == format_read(row["demand_bytes"])
    assert value("stall") == format_duration(row["stall"])
    assert sum(ms for _, ms in panel.shares.shares) == pytest.approx(row["duration"] / 1e6)


def test_the_experts_of_a_token_by_layer_and_rank(make_panel, recording, qtbot):
    panel = make_panel(InspectorPanel, recording, size=(370, 420))
    panel.selection.pick(token=11)
    panel.tick()
    rows, model = recording.accesses.rows(), panel.path
    rows = rows[rows["token"] == 11]
    assert (model.rowCount(), model.columnCount()) == (8, 2)
    for access in rows:
        index = model.index(int(access["layer"]), int(access["rank"]))
        assert model.data(index) == f"E{access['expert']} 0.50"
        tip = model.data(index, Qt.ItemDataRole.ToolTipRole)
        assert f"{access['bits']} bits" in tip
        assert ("hit" in tip) == (access["outcome"] == Outcome.HIT)
    place = panel.path_table.visualRect(model.index(3, 1)).center()
    qtbot.mouseClick(panel.path_table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    panel.tick()
    wanted = rows[(rows["layer"] == 3) & (rows["rank"] == 1)][0]
    assert (panel.selection.picked.layer, panel.selection.picked.expert) == (3, wanted["expert"])
    assert panel.heading.text() == f"Layer 3, expert {wanted['expert']}"


def test_a_prefill_lists_every_expert_of_a_layer(make_panel, recording):
    panel = make_panel(InspectorPanel, recording)
    panel.selection.pick(token=25)
    panel.tick()
    assert recording.tokens.column("phase")[25] == Phase.PREFILL
    assert panel.facts.value("Phase") == "prefill of 4"
    assert (panel.path.rowCount(), panel.path.columnCount()) == (8, 4)
    assert "prompt tokens" in panel.path.data(panel.path.index(0, 0), Qt.ItemDataRole.ToolTipRole)


def test_the_strip_lies_on_the_shared_axis(panel, recording, place, qtbot):
    uses = of_expert(recording.accesses.rows(), *place)
    pixels, _ = panel.strip.ticks()
    assert len(pixels) == len(np.unique(panel.strip.x_of(uses["time"]).astype(int)))
    start, end = token_window(recording, 20)[0], token_window(recording, 30)[1]
    panel.selection.show((start, end))
    panel.tick()
    assert len(panel.strip.ticks()[0]) == ((uses["time"] >= start) & (uses["time"] <= end)).sum()
    assert panel.time_at(panel.strip.plot.left()) == pytest.approx(start, abs=1)
    inside = QPoint(int(panel.strip.x_of(np.array(sum(token_window(recording, 25)) / 2))), 5)
    qtbot.wait(30)
    qtbot.mouseMove(panel.strip, inside)
    panel.tick()
    assert panel.selection.hover_token == 25
    qtbot.mouseClick(panel.strip, Qt.MouseButton.LeftButton, pos=inside)
    assert panel.selection.picked.token == 25
    panel.tick()
    assert panel.heading.text().startswith("Layer"), "pinning from the inspector does not turn it away"


def test_predictions_of_the_expert_are_on_the_strip_rightly_or_not(make_panel, panel):
    ahead, height = make_recording(ahead=True), panel.strip.height()
    rows = ahead.predictions.rows()
    rows = rows[rows["rank"] < 2]
    layer, expert = rows[rows["chosen"] == 0][["layer", "expert"]][0].tolist()
    mine = of_expert(rows, layer, expert)
    panel = make_panel(InspectorPanel, ahead)
    panel.selection.pick(layer=layer, expert=expert)
    panel.selection.show((0, ahead.duration))
    panel.tick()
    for pixels, chosen in zip(panel.strip.guesses(), (1, 0), strict=True):
        assert pixels.tolist() == np.unique(panel.strip.x_of(mine["time"][mine["chosen"] == chosen]).astype(int)).tolist()
    assert panel.strip.height() > height, "a line of its own, where there are any"
    image, (right, wrong) = panel.strip.grab().toImage(), panel.strip.guesses()
    heights = [{y for y in range(18, 29) if image.pixelColor(int(x), y).name() == color} for x, color in (
        (np.setdiff1d(right, wrong)[0], panel.theme.preloaded), (np.setdiff1d(wrong, right)[0], panel.theme.muted))]  # fmt: skip
    assert len(heights[0]) > 2 * len(heights[1]) > 0, "told apart by shape"


def test_stays_are_coloured_by_bits(panel, recording, place):
    panel.selection.show((0, recording.duration))
    panel.tick()
    stays = [stay for stay in panel.strip.stays() if stay[2] != "loading"]
    changes = of_expert(recording.residency.rows(), *place)
    resident = changes[changes["state"] == Residency.RESIDENT]
    assert [role for _, _, role in stays] == [f"bits{bits}" for bits in resident["bits"]]
    assert [left for left, _, _ in stays] == pytest.approx(panel.strip.x_of(resident["time"]).tolist())


def test_a_range_and_the_hovered_token_are_marked(panel, recording):
    start, end = token_window(recording, 5)[0], token_window(recording, 9)[1]
    panel.selection.pick(start=start, end=end)
    panel.selection.hover(token=30)
    panel.tick()
    assert [window for window, _ in panel.strip.bands] == [(start, end), token_window(recording, 30)]


def test_escape_lets_go(panel, qtbot):
    panel.event_table.setFocus()
    qtbot.keyClick(panel.event_table, Qt.Key.Key_Escape)
    assert panel.selection.picked.expert is None
    panel.tick()
    assert panel._hint.isVisible()


def test_a_long_session_is_read_in_steps(make_panel, recording, place, monkeypatch):
    monkeypatch.setattr(inspector, "STEP", 300)
    panel = make_panel(InspectorPanel, recording)
    panel.selection.pick(layer=place[0], expert=place[1])
    panel.tick()
    assert "reading the session" in panel.state.text()
    for _ in range(30):
        panel.tick()
    assert "pinned" in panel.state.text()
    assert panel.facts.value("Uses") == str(recording.grid.uses[place])
    calls: list[int] = []
    monkeypatch.setattr(panel, "refresh", lambda: calls.append(1))
    for _ in range(12):
        panel.tick()
    assert calls == [], "nothing is drawn where nothing is new"


def test_live_figures_grow_with_the_recording(make_panel, place):
    live = Recording()
    panel = make_panel(InspectorPanel, live)
    panel.selection.pick(layer=place[0], expert=place[1])
    for message in make_messages():
        live.append(message)
        panel.tick(force=True)
    assert panel.facts.value("Uses") == str(live.grid.uses[place])
    whole = make_panel(InspectorPanel, live, selection=panel.selection)
    whole.tick(force=True)
    assert panel.events.events == whole.events.events


def test_new_events_leave_old_rows_in_place(panel, qtbot):
    events = panel.events.events
    model = EventsModel(DARK)
    model.show_events(events[3:20])
    inserted: list[tuple[int, int]] = []
    model.rowsInserted.connect(lambda _parent, first, last: inserted.append((first, last)))
    with qtbot.assertNotEmitted(model.modelReset):
        assert model.show_events(events[:17]) == 3
    assert inserted == [(0, 2)]
    assert model.events == events[:17]
    assert model.rowCount() == 17


def test_another_recording_and_theme(panel, theme):
    panel.restyle(theme)
    assert panel.strip.theme is panel.facts.theme is panel.events.theme is panel.cells.theme is theme
    panel.show_recording(make_recording(tokens=10, seed=3))
    assert panel.facts.value("Uses") == str(panel.recording.grid.uses[panel.subject[1:]])
    panel.show_recording(Recording())
    assert panel._hint.isVisible()
