"""What computing and reading cost, to say how fast a replay would have run: from a recorded session, or a guess that says so."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from engine.errors import EngineError
from engine.events import Outcome, Phase, SpanKind
from engine.preload.device import NATIVE, Device
from engine.preload.learned import KINDS
from engine.preload.predictor import GATE_REACH, LEARNED_REACH
from engine.recording.recording import Recording

_TOGETHER = 40_000  # ns within which reads count as sent together
_LEAST_SLOPE = 0.01  # ns a byte: no storage reads 100 GB/s


@dataclass(frozen=True)
class Costs:
    """In ns: ``layer_ns`` a MoE layer besides its experts, ``token_ns`` a token besides its layers, ``expert_ns`` an expert by its bits,
    ``predict_ns`` predicting a layer.

    Reads go to ``device`` (bandwidth in bytes/s, latency in s) over ``lanes`` threads; ``wake_ns`` pass until the token loop goes on with
    one.
    """

    device: Device
    layer_ns: int = 100_000
    token_ns: int = 500_000
    expert_ns: dict[int, int] = field(default_factory=dict)
    lanes: int = 4
    wake_ns: int = 20_000
    predict_ns: int = 5_000

    def at(self, device: Device) -> Costs:
        """The same machine with another storage."""
        return replace(self, device=device, lanes=min(self.lanes, device.queue_depth))


_COMPUTED = 8e9  # bytes/s of expert weights multiplied by one thread, at 4 bits on an AVX2 machine


def assumed(device: Device, bytes_by_bits: dict[int, int]) -> Costs:
    """A guess, where no session tells: an expert takes as long as it takes to go through its bytes."""
    expert_ns = {bits: int(size / _COMPUTED * 1e9) for bits, size in bytes_by_bits.items()}
    return Costs(device, expert_ns=expert_ns, lanes=min(4, device.queue_depth))


def calibrated(recording: Recording, device: Device = NATIVE, newest: int = 4000) -> Costs:
    """What the ``newest`` passes of a recorded session cost; ``device`` is what its storage was slowed down to.

    Storage is told as it was seen: an imitated device is never faster than the disk behind it.

    Raises:
        EngineError: it holds no decoded token.
    """
    first = max(recording.tokens.search("start", recording.loaded), len(recording.tokens) - newest)
    tokens, model = recording.tokens.rows(first), recording.model
    decoded = tokens[tokens["phase"] == Phase.DECODE]
    if model is None or not len(decoded):
        raise EngineError("The session to calibrate by holds no decoded token; record a request of more than one new token")
    spans = recording.spans.rows(recording.spans.search("start", int(tokens["start"][0])))
    layers = decoded["attention"].astype(np.float64) + decoded["router"]
    rest = decoded["head"].astype(np.float64) + decoded["sampling"] + decoded["framework"]
    own = spans[np.isin(spans["token"], first + np.flatnonzero(tokens["phase"] == Phase.DECODE))]
    experts = own[own["kind"] == SpanKind.EXPERT]
    reads = spans[(spans["kind"] == SpanKind.READ) & (spans["token"] > 0)]
    by_bits = {int(bits): int(np.mean(experts["duration"][experts["bits"] == bits])) for bits in np.unique(experts["bits"])}
    predicting = own["duration"][own["kind"] == SpanKind.PREDICT]
    storage = seen(reads, device)
    lanes = int(recording.effective.get("io_threads", 4))
    return Costs(
        storage, int(np.mean(layers) / model.layers), int(np.mean(rest) - predicting.sum() / len(decoded)), by_bits,
        min(lanes, storage.queue_depth), _wake(spans, reads),
        int(np.mean(predicting) / _depth(recording)) if len(predicting) else Costs.predict_ns,
    )  # fmt: skip


def _depth(recording: Recording) -> int:
    """Layers ahead that a recorded session predicted each time."""
    depth = str(recording.effective.get("preload_depth", "auto"))
    learned = any(name in str(recording.effective.get("predictor", "")) for name in KINDS)
    return int(depth) if depth != "auto" else LEARNED_REACH if learned else GATE_REACH


def seen(reads: np.ndarray, device: Device) -> Device:
    """The storage as spans of ``reads`` show it: what a burst of reads on demand that went out together took, against its bytes, is a line
    whose height is the latency and whose slope is the transfer. An imitated device is nowhere faster than it says.

    Where all bursts were of one size, ``device`` is slower as a whole; where there were too few, it is as it says.
    """
    told = device if device.name != NATIVE.name else Device(NATIVE.name, NATIVE.title, 1e9, 1e-4, NATIVE.queue_depth)
    if len(reads) < 20:
        return told
    reads = reads[np.argsort(reads["start"])]
    end = np.maximum.accumulate(reads["start"] + reads["duration"])
    first = np.concatenate([[0], np.flatnonzero(reads["start"][1:] >= end[:-1]) + 1])  # of every busy stretch
    last = np.append(first[1:], len(reads)) - 1
    ahead = np.add.reduceat(reads["outcome"] == Outcome.PRELOADED, first) > 0
    bursts = (reads["start"][last] - reads["start"][first] < _TOGETHER) & ~ahead
    took = (end[last] - reads["start"][first])[bursts].astype(np.float64)
    sizes = np.add.reduceat(reads["bytes"].astype(np.float64), first)[bursts]
    if not len(sizes):
        return told
    if len(np.unique(sizes)) > 1:
        slope, height = _line(sizes, took, max(1e9 / device.bandwidth, _LEAST_SLOPE), device.latency * 1e9)
        return Device(device.name, device.title, 1e9 / slope, height / 1e9, device.queue_depth)
    times = float(took.mean()) / 1e9 / (sizes[0] / told.bandwidth + told.latency)
    return Device(device.name, device.title, told.bandwidth / times, told.latency * times, device.queue_depth)


def _line(x: np.ndarray, y: np.ndarray, least_slope: float, least_height: float) -> tuple[float, float]:
    """Slope and height of the line nearest to points, neither under its least: noise may tilt it."""
    slope, height = np.polyfit(x, y, 1)
    if slope < least_slope:
        return least_slope, max(least_height, float(np.mean(y - least_slope * x)))
    if height < least_height:
        return max(least_slope, float(np.mean((y - least_height) * x) / np.mean(x * x))), least_height
    return float(slope), float(height)


def _wake(spans: np.ndarray, reads: np.ndarray) -> int:
    """ns from the end of a read to the end of the stall that waited for it."""
    stalls = spans[(spans["kind"] == SpanKind.STALL) & (spans["expert"] >= 0)]
    if not len(stalls) or not len(reads):
        return 20_000
    ends = np.sort(reads["start"] + reads["duration"])
    over = stalls["start"] + stalls["duration"]
    before = np.searchsorted(ends, over, side="right") - 1
    late = (over - ends[np.maximum(before, 0)])[before >= 0]
    return int(np.mean(np.minimum(late, 200_000))) if len(late) else 20_000
