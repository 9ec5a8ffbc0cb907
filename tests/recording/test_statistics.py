"""Statistics of a range, and the history of one expert."""

from __future__ import annotations

from math import isnan

import pytest

from engine.recording.history import expert_history
from engine.recording.recording import Recording
from engine.recording.statistics import summarize
from tests.factory import PROMPT, make_recording


@pytest.fixture(scope="module")
def recording() -> Recording:
    return make_recording()


def test_whole_session(recording: Recording) -> None:
    tokens, about = recording.tokens.rows(), summarize(recording)
    decode = tokens[tokens["phase"] == 1]
    assert (about.tokens, about.decode_tokens, about.prefill_tokens) == (50, 48, 2 * len(PROMPT))
    assert about.hits + about.misses == tokens["hits"].sum() + tokens["first_touch"].sum() + tokens["capacity"].sum()
    assert about.hit_rate == pytest.approx(about.hits / (about.hits + about.misses))
    assert about.decode_tok_s == pytest.approx(48e9 / decode["duration"].sum())
    assert about.ttft_s == pytest.approx(tokens["duration"][25] / 1e9)
    assert about.mb_per_token == pytest.approx(decode["demand_bytes"].sum() / 48e6)
    parts = ("attention_ms", "router_ms", "compute_ms", "stall_ms_per_token", "head_ms", "sampling_ms", "framework_ms")
    assert sum(getattr(about, name) for name in parts) == pytest.approx(about.tpot_ms)
    assert 4 < about.average_bits < 8
    assert about.peak_rss == recording.samples.column("rss").max()
    assert about.budget_bytes == tokens["budget_bytes"][-1]


def test_range_counts_the_passes_it_overlaps(recording: Recording) -> None:
    tokens = recording.tokens.rows()
    middle = int(tokens["start"][10] + tokens["duration"][10] // 2)
    about = summarize(recording, middle, int(tokens["start"][12]) + 1)
    assert about.tokens == 3
    assert about.demand_bytes == tokens["demand_bytes"][10:13].sum()
    assert isnan(about.ttft_s)
    assert about.average_bits == 4
    assert about.read_bytes == recording.samples.column("read_bytes")[11] - recording.samples.column("read_bytes")[10]


def test_prefill_alone_has_no_decode_speed(recording: Recording) -> None:
    about = summarize(recording, 0, int(recording.tokens.column("start")[0]))
    assert about.tokens == 1
    assert about.ttft_s > 0
    assert isnan(about.decode_tok_s)
    assert isnan(about.mb_per_token)


def test_nothing_recorded_is_nan_and_zero() -> None:
    about = summarize(Recording())
    assert about.tokens == about.hits == 0
    assert isnan(about.hit_rate)
    assert isnan(about.peak_rss)
    assert summarize(Recording(), 0, 10).tokens == 0


def test_history_of_an_expert(recording: Recording) -> None:
    layer, expert = divmod(int(recording.grid.uses.argmax()), 16)
    events = expert_history(recording, layer, expert, limit=10_000)
    uses = [event for event in events if event.what == "used"]
    assert len(uses) == recording.grid.uses[layer, expert]
    assert sum(event.outcome == "hit" for event in uses) == recording.grid.hits[layer, expert]
    assert [event.time for event in events] == sorted([event.time for event in events], reverse=True)
    assert {event.what for event in events} >= {"used", "loading", "loaded"}
    assert [event.what for event in events[-2:]] == ["used", "loading"]
    assert expert_history(recording, layer, expert, limit=3) == events[:3]
    assert expert_history(recording, layer, 99) == []
