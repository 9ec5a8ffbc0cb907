"""Statistics of a range, and the history of one expert."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest

from engine.events import Residency, SpanKind
from engine.recording.history import ExpertHistory
from engine.recording.recording import Recording
from engine.recording.statistics import summarize, summarize_passes
from tests.factory import PROMPT, make_messages, make_recording


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


def test_passes_picked_by_row(recording: Recording) -> None:
    tokens, samples = recording.tokens.rows(), recording.samples.rows()
    rows = np.array([3, 4, 24, 26])
    about = summarize_passes(recording, rows, int(tokens["start"][26] + tokens["duration"][26]))
    assert (about.tokens, about.decode_tokens, about.prefill_tokens) == (4, 4, 0)
    assert about.decode_tok_s == pytest.approx(4e9 / tokens["duration"][rows].sum())
    assert about.hits == tokens["hits"][rows].sum()
    assert about.rss == samples["rss"][26]
    assert summarize_passes(recording, rows).rss == samples["rss"][-1], "memory is told as of now unless a moment is named"
    assert summarize_passes(recording, rows[:0]).tokens == 0


def test_a_pass_without_a_sample_takes_the_one_before(recording: Recording) -> None:
    tokens = recording.tokens.rows()
    about = summarize_passes(recording, np.array([7]), int(tokens["start"][7] + tokens["duration"][7]) - 1)
    assert about.rss == recording.samples.column("rss")[6]
    assert about.resident_bytes == tokens["resident_bytes"][7]


def reloaded(recording: Recording) -> tuple[int, int]:
    """The layer and expert that was loaded most often."""
    rows = recording.residency.rows()
    rows = rows[rows["state"] == Residency.RESIDENT]
    return divmod(int(np.bincount(rows["layer"] * 16 + rows["expert"]).argmax()), 16)


def test_history_of_an_expert(recording: Recording) -> None:
    layer, expert = reloaded(recording)
    history = ExpertHistory(recording, layer, expert)
    assert history.follow() == 1.0
    events = history.events(10_000)
    uses = [event for event in events if event.what == "used"]
    assert len(uses) == recording.grid.uses[layer, expert]
    assert sum(event.outcome == "hit" for event in uses) == recording.grid.hits[layer, expert]
    assert [event.time for event in events] == sorted([event.time for event in events], reverse=True)
    assert {event.what for event in events} == {"used", "loaded", "evicted"}, "a load that is over is one event"
    loaded = [event for event in events if event.what == "loaded"][-1]
    mine = recording.residency.rows()
    mine = mine[(mine["layer"] == layer) & (mine["expert"] == expert)]
    assert loaded.duration == mine["time"][1] - mine["time"][0]
    assert [event.score for event in events if event.what == "evicted"] == [0.5] * int((mine["state"] == Residency.ABSENT).sum())
    assert history.events(3) == events[:3]
    assert history.events(0) == []


def test_account_of_an_expert(recording: Recording) -> None:
    layer, expert = reloaded(recording)
    history = ExpertHistory(recording, layer, expert)
    history.follow()
    told, spans = history.account(), recording.spans.rows()
    reads = spans[(spans["kind"] == SpanKind.READ) & (spans["layer"] == layer) & (spans["expert"] == expert)]
    assert told.uses == recording.grid.uses[layer, expert]
    assert told.outcomes[0] == recording.grid.hits[layer, expert]
    assert sum(told.outcomes) == told.uses
    assert told.last_token == recording.grid.last_token[layer, expert]
    assert (told.reads, told.read_bytes) == (len(reads), reads["bytes"].sum())
    assert told.read_ns == pytest.approx(reads["duration"].mean())
    assert told.loads == told.reads
    assert told.loads - told.evictions in (0, 1)
    stays = history.stretches()
    ended = np.flatnonzero(stays.state[:-1] == Residency.RESIDENT)
    assert told.stay_ns == pytest.approx((stays.start[ended + 1] - stays.start[ended]).mean())
    assert stays.end[-1] == recording.duration


def test_an_expert_never_used(recording: Recording) -> None:
    history = ExpertHistory(recording, 0, 99)
    history.follow()
    told = history.account()
    assert (told.uses, told.loads, told.last_token, told.read_bytes) == (0, 0, -1, 0)
    assert isnan(told.hit_rate) and isnan(told.weight) and isnan(told.stay_ns)
    assert history.events() == []


def test_history_grows_in_steps_and_with_the_recording() -> None:
    whole, growing = make_recording(), Recording()
    layer, expert = reloaded(whole)
    wanted, history = ExpertHistory(whole, layer, expert), ExpertHistory(growing, layer, expert)
    wanted.follow()
    for message in make_messages():
        growing.append(message)
        history.follow(limit=40)
    assert 0 < history.follow(limit=1) < 1
    while history.follow(limit=40) < 1:
        pass
    assert history.events() == wanted.events()
    assert history.account() == wanted.account()
