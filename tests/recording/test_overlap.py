"""How much of the reading was overlapped by computing: against a count moment by moment."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import SPAN, SpanKind
from engine.recording import overlap as module
from engine.recording.overlap import COMPUTING, Overlap, Stretches
from engine.recording.recording import Recording
from tests.factory import covered, make_messages, make_recording

LONG = 60  # ns that the counts go over
SPANS = st.lists(st.tuples(st.integers(0, LONG), st.integers(0, 20), st.sampled_from(list(SpanKind))), max_size=40)


def moments(rows: list[tuple[int, int, int]], kinds: tuple[SpanKind, ...]) -> set[int]:
    """The ns, by their number, in which spans of these kinds go on."""
    return {ns for start, duration, kind in rows if kind in kinds for ns in range(start, start + duration)}


def recorded(rows: list[tuple[int, int, int]]) -> Recording:
    recording, spans = Recording(), np.zeros(len(rows), SPAN)
    for name, values in zip(("start", "duration", "kind"), zip(*rows, strict=True), strict=True):
        spans[name] = values
    spans["lane"] = spans["kind"] == SpanKind.READ
    recording._add("spans", spans)
    return recording


@given(SPANS, st.integers(0, LONG), st.integers(0, LONG), st.integers(1, 9))
def test_share_is_what_a_count_of_moments_says(rows, start, end, chunk):
    overlap = Overlap()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        if rows:
            recording = recorded(rows)
            while not overlap.catch_up(recording):
                pass
    window = set(range(start, end))
    reading, computing = moments(rows, (SpanKind.READ,)) & window, moments(rows, COMPUTING)
    share = overlap.share(start, end)
    assert isnan(share) if not reading else share == len(reading & computing) / len(reading)


@given(st.lists(st.lists(st.tuples(st.integers(0, LONG), st.integers(0, 9)), max_size=6), max_size=12), st.integers(0, LONG))
def test_stretches_are_a_set_of_moments(batches, start):
    stretches, known = Stretches(), set[int]()
    for batch in batches:
        begins, ends = np.array([b for b, _ in batch], np.int64), np.array([b + length for b, length in batch], np.int64)
        stretches.add(begins, ends)
        known |= {ns for begin, end in zip(begins.tolist(), ends.tolist(), strict=True) for ns in range(begin, end)}
        assert stretches.within(start, start + 17) == len(known & set(range(start, start + 17)))
        assert stretches.within(start + 5, start) == 0


def test_a_session_growing_comes_to_the_same_as_reopened():
    whole, growing, grown = Overlap(), Overlap(), Recording()
    recording = make_recording(ahead=True, tokens=40)
    assert whole.catch_up(recording)
    for message in make_messages(ahead=True, tokens=40):
        grown.append(message)
        growing.catch_up(grown)
    spans = recording.spans.rows()
    reads = spans[spans["kind"] == SpanKind.READ]
    stretches = list(zip(reads["start"].tolist(), (reads["start"] + reads["duration"]).tolist(), strict=True))
    assert whole.reading.within(0, recording.duration) == covered(stretches)
    for start in range(0, recording.duration, recording.duration // 7):
        shares = whole.share(start, start + 3_000_000), growing.share(start, start + 3_000_000)
        assert shares[0] == shares[1] or isnan(shares[0])
    assert 0 < whole.share(0, recording.duration) < 1
