"""What computing and reading cost, to say how fast a replay would have run: from a recorded session, or a guess that says so."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from engine.errors import EngineError
from engine.events import Phase, SpanKind
from engine.preload.device import NATIVE, Device
from engine.recording.recording import Recording


@dataclass(frozen=True)
class Costs:
    """In ns: ``layer_ns`` a MoE layer besides its experts, ``token_ns`` a token besides its layers, ``expert_ns`` an expert by its bits.

    Reads go to ``device`` (bandwidth in bytes/s, latency in s) over ``lanes`` threads; ``wake_ns`` pass until the token loop goes on with
    one.
    """

    device: Device
    layer_ns: int = 100_000
    token_ns: int = 500_000
    expert_ns: dict[int, int] = field(default_factory=dict)
    lanes: int = 4
    wake_ns: int = 20_000

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

    Native storage is told as it was seen: bytes by the time in which reads were in flight, and what a read took beyond that.

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
    experts = spans[(spans["kind"] == SpanKind.EXPERT) & (spans["token"] > 0)]
    reads = spans[(spans["kind"] == SpanKind.READ) & (spans["token"] > 0)]
    by_bits = {int(bits): int(np.median(experts["duration"][experts["bits"] == bits])) for bits in np.unique(experts["bits"])}
    seen = _seen(reads, decoded) if device.name == NATIVE.name else device
    lanes = int(recording.effective.get("io_threads", 4))
    return Costs(
        seen, int(np.median(layers) / model.layers), int(np.median(rest)), by_bits, min(lanes, seen.queue_depth), _wake(spans, reads),
    )  # fmt: skip


def _seen(reads: np.ndarray, decoded: np.ndarray) -> Device:
    """This machine's storage: its bandwidth while it was busy, and the latency that is left of a read."""
    busy = float(decoded["io"].sum())
    if not len(reads) or not busy:
        return Device(NATIVE.name, NATIVE.title, 1e9, 1e-4, 4)
    bandwidth = float(reads["bytes"].sum(dtype=np.int64)) / busy * 1e9
    alone = float(np.percentile(reads["duration"], 10)) - float(np.median(reads["bytes"])) / bandwidth * 1e9
    return Device(NATIVE.name, NATIVE.title, bandwidth, max(0.0, alone) / 1e9, 64)


def _wake(spans: np.ndarray, reads: np.ndarray) -> int:
    """ns from the end of a read to the end of the stall that waited for it."""
    stalls = spans[(spans["kind"] == SpanKind.STALL) & (spans["expert"] >= 0)]
    if not len(stalls) or not len(reads):
        return 20_000
    ends = np.sort(reads["start"] + reads["duration"])
    over = stalls["start"] + stalls["duration"]
    before = np.searchsorted(ends, over, side="right") - 1
    late = (over - ends[np.maximum(before, 0)])[before >= 0]
    return int(np.median(late)) if len(late) else 20_000
