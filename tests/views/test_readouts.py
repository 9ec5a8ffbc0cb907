"""The strip of figures: what it says equals what the recording says, of the tokens it names."""

from __future__ import annotations

import numpy as np
import pytest

from engine.events import Phase
from engine.recording.recording import Recording
from engine.recording.statistics import summarize
from tests.factory import make_messages, make_recording
from tests.views.test_bitwidth import studied, weighed
from views.readouts import Readouts
from views.scope import RECENT
from views.timeaxis import token_window

WIDE = (1268, 52)


def values(panel: Readouts) -> dict[str, str]:
    return {key: tile.value for key, tile in panel.tiles.items()}


def three(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


@pytest.fixture
def long() -> Recording:
    return make_recording(tokens=120)


def test_the_newest_decode_tokens_by_default(make_panel, long, theme):
    panel = make_panel(Readouts, long, theme=theme, size=WIDE)
    rows = long.tokens.rows()[-RECENT:]
    shown = values(panel)
    assert shown["scope"] == "last 32 tokens"
    assert shown["speed"] == three(1e9 * RECENT / rows["duration"].sum())
    assert shown["read"] == three(rows["demand_bytes"].sum() / RECENT / 1e6)
    assert shown["stall"] == three(rows["stall"].mean() / 1e6)
    uses = sum(rows[name].sum() for name in ("hits", "first_touch", "capacity", "mispredicted", "late"))
    assert shown["hits"] == three(100 * rows["hits"].sum() / uses)
    assert shown["bits"] == "8.00"
    assert shown["rss"] == f"{long.samples.column('rss')[-1] / 2**20:.0f}"
    assert panel.tiles["resident"].unit == f"of {rows['budget_bytes'][-1] / 2**20:.2f} MiB"
    assert shown["resident"] == f"{rows['resident_bytes'][-1] / 2**20:.2f}"


def test_prefill_is_never_in_decode_speed(make_panel):
    recording = make_recording(tokens=20)  # its second prefill lies among the last 32 rows
    panel = make_panel(Readouts, recording, size=WIDE)
    tokens = recording.tokens.rows()
    decode, prefill = (tokens[tokens["phase"] == phase] for phase in (Phase.DECODE, Phase.PREFILL))
    assert values(panel)["scope"] == "last 18 tokens"
    assert values(panel)["speed"] == three(1e9 * 18 / decode["duration"].sum())
    assert values(panel)["ttft"] == three(prefill["duration"][-1] / 1e6)
    assert "Request 2: 4 prompt tokens" in panel.tiles["ttft"].toolTip()


def test_a_range_and_its_tokens(make_panel, long, theme):
    panel = make_panel(Readouts, long, theme=theme, size=WIDE)
    start, end = token_window(long, 10)[0] + 1, token_window(long, 43)[1] - 1
    panel.selection.pick(start=start, end=end)
    panel.tick()
    told, shown = summarize(long, start, end), values(panel)
    assert shown["scope"] == "range, 34 tokens"
    assert shown["speed"] == three(told.decode_tok_s)
    assert shown["hits"] == three(100 * told.hit_rate)
    assert shown["read"] == three(told.mb_per_token)
    assert shown["bits"] == "4.00"
    assert shown["ttft"] == three(long.tokens.column("duration")[0] / 1e6), "of the request that the range lies in"
    assert panel.tiles["scope"].marked
    panel.selection.clear()
    panel.tick()
    assert values(panel)["scope"] == "last 32 tokens"


def test_a_range_of_a_prefill_has_no_decode_figures(make_panel, long):
    panel = make_panel(Readouts, long, size=WIDE)
    start, end = token_window(long, 60)
    panel.selection.pick(start=start + 1, end=end - 1)
    panel.tick()
    shown = values(panel)
    assert (shown["scope"], shown["speed"], shown["read"], shown["stall"]) == ("range, prefill", "–", "–", "–")
    assert shown["ttft"] == three(long.tokens.column("duration")[60] / 1e6)
    assert shown["hits"] != "–"


def test_hovered_and_pinned_tokens(make_panel, long):
    panel = make_panel(Readouts, long, size=WIDE)
    rows = long.tokens.rows()
    panel.selection.pick(token=30)
    panel.tick()
    assert values(panel)["scope"] == "token 30, pinned"
    assert values(panel)["speed"] == three(1e9 / rows["duration"][30])
    panel.selection.hover(token=70)
    panel.tick()
    shown = values(panel)
    assert shown["scope"] == "token 70"
    assert shown["stall"] == three(rows["stall"][70] / 1e6)
    assert shown["ttft"] == three(rows["duration"][60] / 1e6)
    assert shown["rss"] == f"{long.samples.column('rss')[70] / 2**20:.0f}"
    panel.selection.hover(token=60)
    panel.tick()
    assert values(panel)["scope"] == "token 60, prefill"
    assert values(panel)["speed"] == "–"


def test_nothing_ran_keeps_the_layout(make_panel, long):
    panel = make_panel(Readouts, size=WIDE)
    shown = values(panel)
    assert shown.pop("scope") == "no tokens yet"
    assert set(shown.values()) == {"–"}
    before = {key: tile.geometry() for key, tile in panel.tiles.items()}
    panel.show_recording(long)
    assert values(panel)["speed"] != "–"
    assert {key: tile.geometry() for key, tile in panel.tiles.items()} == before


def test_only_a_prefill_so_far(make_panel):
    recording = Recording()
    for message in make_messages(tokens=1):
        recording.append(message)
    panel = make_panel(Readouts, recording, size=WIDE)
    shown = values(panel)
    assert (shown["scope"], shown["speed"]) == ("prefill", "–")
    assert shown["ttft"] == three(recording.tokens.column("duration")[0] / 1e6)


def test_nothing_is_clipped_at_any_width(make_panel, long):
    panel = make_panel(Readouts, long, size=WIDE)
    for width, count, trends in ((1428, 10, True), (1268, 10, True), (1000, 9, False), (700, 6, False), (200, 1, False)):
        panel.resize(width, 52)
        tiles = [tile for tile in panel.tiles.values() if tile.isVisible()]
        assert len(tiles) == count
        assert panel.tiles["speed"].with_trend == trends
        assert all(tile.width() >= tile.least(trends) for tile in tiles[1:])
        assert tiles[-1].geometry().right() < width or count == 1
        assert all(a.geometry().right() < b.geometry().left() + 1 for a, b in zip(tiles, tiles[1:], strict=False))


def test_tooltips_say_how_and_over_what(make_panel, long):
    panel = make_panel(Readouts, long, size=WIDE)
    for key in ("speed", "read", "stall", "bits"):
        assert "the last 32 decode tokens" in panel.tiles[key].toolTip()
    rows = long.tokens.rows()[-RECENT:]
    assert f"{rows['hits'].sum():,} hits of" in panel.tiles["hits"].toolTip()


def test_long_ranges_are_drawn_as_means(make_panel):
    recording = make_recording(layers=2, experts=4, tokens=600)
    panel = make_panel(Readouts, recording, size=WIDE)
    panel.selection.pick(start=1, end=recording.duration)
    panel.tick()
    assert values(panel)["scope"] == "range, 598 tokens"
    speeds, rates = panel._trends(np.flatnonzero(recording.tokens.column("phase") == Phase.DECODE))
    assert 30 <= len(speeds) <= 42
    assert (rates >= 0).all() and (rates <= 100).all()


def test_figures_keep_still_between_ticks(make_panel, long, monkeypatch):
    panel = make_panel(Readouts, long, size=WIDE)
    panel.tick()
    calls: list[int] = []
    monkeypatch.setattr(panel, "refresh", lambda: calls.append(1))
    for _ in range(20):
        panel.tick()
    assert calls == []
    panel.selection.hover(token=3)
    panel.tick()
    assert calls == [1]


def test_what_the_plan_in_force_loses_is_told_once_it_is_measured(make_panel, long):
    panel = make_panel(Readouts, long, size=(1600, 52))
    plans, tile = panel.settings.plans, panel.tiles["loss"]
    plans.hear_model(long.model, bytes([4]) * 128)
    panel.tick(force=True)
    assert tile.value == "–" and "Calibrate" in tile.toolTip()
    told = studied(long.model)
    plans.hear_studied(told)
    measured = weighed(told, bytes([4]) * 128, "uniform")
    plans.hear_weighed(measured)
    panel.tick()
    for _ in range(panel.every):
        panel.tick()
    assert tile.value == f"{100 * measured.loss:+.2f}" and f"KL {measured.kl:.4f}" in tile.toolTip()
    plans.hear_model(long.model, bytes([8]) * 128)
    panel.tick(force=True)
    assert tile.value == "–" and "in a pause" in tile.toolTip()
