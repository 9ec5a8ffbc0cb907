"""Storage as a session shows it: bandwidth and latency of what was read, at any mix of sizes and with any noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.events import SPAN, Outcome
from engine.preload.device import NATIVE, Device
from engine.simulate.cost import seen

EMMC = Device("emmc", "eMMC", 250e6, 150e-6, 4)
CARD = Device("card", "A card", 90e6, 670e-6, 1)
SIZES = (57_344, 106_496, 397_312)


def bursts(
    device: Device, sizes: tuple[int, ...] = SIZES, most: int = 2, count: int = 200, slower: float = 1.0,
    noise: Callable[[], float] = lambda: 1.0, outcome: Outcome = Outcome.CAPACITY,
) -> np.ndarray:  # fmt: skip
    """Reads as the loader makes them of a device ``slower`` times as slow: of those together latencies overlap, transfers do not; a device
    that serves one at a time begins the next when the former is done."""
    random, rows, now = np.random.default_rng(0), list[tuple[int, int, int]](), 0.0
    for _ in range(count):
        end = start = now
        for _ in range(random.integers(1, most + 1)):
            size = int(random.choice(sizes))
            start = end if device.queue_depth == 1 else start
            first = max(end, start + device.latency * slower * noise())
            end = first + size / device.bandwidth * slower * noise()
            rows.append((round(start * 1e9), round((end - start) * 1e9), size))
        now = end + 1e-3
    reads = np.zeros(len(rows), SPAN)
    reads["start"], reads["duration"], reads["bytes"] = np.array(rows).T
    reads["outcome"] = outcome
    return reads


@pytest.mark.parametrize("device", [EMMC, CARD])
@pytest.mark.parametrize("slower", [1.0, 1.3])
def test_records_of_many_sizes_tell_latency_and_bandwidth(device: Device, slower: float) -> None:
    found = seen(bursts(device, slower=slower), device)
    assert found.bandwidth == pytest.approx(device.bandwidth / slower, rel=1e-3)
    assert found.latency == pytest.approx(device.latency * slower, rel=1e-3) and found.queue_depth == device.queue_depth


def test_reads_of_one_size_tell_both_by_how_many_went_out() -> None:
    found = seen(bursts(EMMC, SIZES[:1], slower=1.2), EMMC)
    assert (found.bandwidth, found.latency) == (pytest.approx(250e6 / 1.2, rel=1e-3), pytest.approx(180e-6, rel=1e-3))


def test_reads_of_one_size_and_one_at_a_time_slow_the_device_as_a_whole() -> None:
    found = seen(bursts(CARD, SIZES[:1], slower=1.5), CARD)
    assert (found.bandwidth, found.latency) == (pytest.approx(60e6, rel=1e-3), pytest.approx(1005e-6, rel=1e-3))


@pytest.mark.parametrize("device", [EMMC, CARD])
@pytest.mark.parametrize("sizes", [SIZES, SIZES[:1]])
def test_noise_makes_no_imitated_device_faster_than_it_is(device: Device, sizes: tuple[int, ...]) -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        found = seen(bursts(device, sizes, count=20, noise=lambda random=random: 1 + 3 * float(random.exponential())), device)
        assert found.bandwidth <= device.bandwidth * (1 + 1e-9) and found.latency >= device.latency * (1 - 1e-9)


def test_reads_ahead_that_hold_the_storage_up_do_not_count() -> None:
    reads = bursts(EMMC)
    stretches = np.flatnonzero(np.append(True, reads["start"][1:] >= (reads["start"] + reads["duration"])[:-1]))
    held_up = reads.copy()
    late = np.isin(np.arange(len(reads)), stretches[::2])
    held_up["duration"][late] += 5_000_000
    held_up["outcome"][late] = Outcome.PRELOADED
    held_up["start"] += np.cumsum(late) * 5_000_000  # what comes after comes later
    assert seen(held_up, EMMC).latency == pytest.approx(150e-6, rel=1e-3)


def test_too_little_tells_nothing() -> None:
    assert seen(bursts(EMMC, count=5), EMMC) == EMMC
    ahead = seen(bursts(EMMC, outcome=Outcome.PRELOADED), EMMC)
    assert ahead == EMMC
    assert 0 < seen(bursts(EMMC, count=5), NATIVE).bandwidth < np.inf, "native says nothing of how fast it is"
