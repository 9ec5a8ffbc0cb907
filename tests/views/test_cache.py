"""The cache panel: rolling hit rate, misses by cause, bytes read."""

from __future__ import annotations

import numpy as np
import pytest

from engine.events import MISSES, TABLES, Batch, Phase
from engine.recording.recording import Recording
from engine.recording.statistics import summarize, uses_of
from tests.factory import make_messages
from views.cache import WINDOW, CachePanel, rolling
from views.timeaxis import token_window


def test_rolling_rate_counts_uses_not_tokens():
    hits, uses = np.array([1, 0, 3, 4]), np.array([2, 2, 4, 4])
    assert rolling(hits, uses, window=2).tolist() == [50.0, 25.0, 50.0, 87.5]
    assert np.isnan(rolling(np.zeros(1, int), np.zeros(1, int))[0])


def test_curve_and_bars_show_the_decode_tokens(make_panel, recording, theme):
    panel = make_panel(CachePanel, recording, theme=theme, size=(420, 220))
    panel.tick()
    rows = recording.tokens.rows()
    rows = rows[rows["phase"] == Phase.DECODE]
    _, rate = panel.curve.getData()
    last = rows[-WINDOW:]
    assert rate[-1] == pytest.approx(100 * last["hits"].sum() / uses_of(last).sum())
    assert panel.causes.items[-1].opts["y1"] == pytest.approx(sum(rows[cause] for cause in MISSES))
    assert panel.bytes.items[0].opts["y1"] == pytest.approx(rows["demand_bytes"] / 1e6)
    assert panel.rate.top == 100


def test_a_narrow_view_knows_the_tokens_before_it(make_panel, recording):
    panel = make_panel(CachePanel, recording)
    panel.tick()
    whole = panel.curve.getData()[1]
    panel.selection.show((token_window(recording, 30)[0], token_window(recording, 44)[1]))
    panel.tick()
    assert panel.curve.getData()[1] == pytest.approx(whole[28:43])


def test_figures_of_a_range_agree_with_its_statistics(make_panel, recording):
    panel = make_panel(CachePanel, recording)
    start, end = token_window(recording, 5)[0] + 1, token_window(recording, 20)[1] - 1
    panel.selection.pick(start=start, end=end)
    panel.tick()
    told = summarize(recording, start, end)
    assert panel.legend.values["hit rate"] == f"{100 * told.hit_rate:.1f}%"
    assert panel.legend.values["capacity"] == f"{told.capacity / told.tokens:.1f}"
    assert panel.legend.values["read on demand"] == f"{told.mb_per_token:.2f} MB"


def test_preload_series_are_named_only_when_there_are_any(make_panel, recording):
    panel = make_panel(CachePanel, recording)
    panel.tick()
    assert [entry.name for entry in panel.legend.entries] == ["", "hit rate", "first touch", "capacity", "read on demand"]
    preloading = Recording()
    for message in make_messages(tokens=10):
        if isinstance(message, Batch) and "tokens" in message.tables:
            rows = np.frombuffer(message.tables["tokens"], TABLES["tokens"]).copy()
            rows["late"], rows["preload_useful_bytes"] = 1, 100_000
            message = Batch(tables={**message.tables, "tokens": rows.tobytes()}, pieces=message.pieces)
        preloading.append(message)
    panel.show_recording(preloading)
    names = [entry.name for entry in panel.legend.entries]
    assert "late" in names
    assert "preloaded, used" in names
    assert "mispredicted" not in names


def test_pointing_at_a_prefill_reads_it_out(make_panel, recording):
    panel = make_panel(CachePanel, recording)
    panel.selection.hover(token=0)
    panel.tick()
    assert panel.legend.values[""] == "token 0 (prefill)"
    assert panel.legend.values["first touch"] == f"{recording.tokens.column('first_touch')[0]:.1f}"


def test_nothing_is_clipped_at_a_small_size(make_panel, recording):
    panel = make_panel(CachePanel, recording, size=(420, 220))
    panel.tick()
    assert panel.height() == 220
    assert all(panel.legend.rect().contains(place) for place in panel.legend._places)
