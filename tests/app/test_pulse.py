"""Beats of the window: every panel gets its turn, and drawing keeps to its share of a core."""

from __future__ import annotations

import time

import pytest

from app.pulse import PATIENCE, Pulse


class Counting:
    """A panel that counts its ticks, each of which takes ``seconds``."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.ticks = seconds, 0

    def tick(self) -> None:
        self.ticks += 1
        time.sleep(self.seconds)


def test_all_panels_tick_in_a_beat_that_has_the_time() -> None:
    panels = [Counting() for _ in range(4)]
    pulse = Pulse(panels, budget=10.0, share=1.0)
    for _ in range(5):
        pulse.beat()
    assert [panel.ticks for panel in panels] == [5, 5, 5, 5]


def test_what_does_not_fit_into_a_beat_comes_first_in_the_next() -> None:
    panels = [Counting(0.002) for _ in range(4)]
    pulse = Pulse(panels, budget=0.001, share=1.0)
    for _ in range(8):
        pulse.beat()
    assert [panel.ticks for panel in panels] == [2, 2, 2, 2]


@pytest.mark.parametrize("beats", [1, 2, 3, 9])
def test_without_a_share_only_few_beats_are_left_out_in_a_row(beats: int) -> None:
    panel = Counting()
    pulse = Pulse([panel], share=0.0)
    for _ in range(beats):
        pulse.beat()
    assert pulse.beats == beats
    assert panel.ticks == beats // (PATIENCE + 1)
