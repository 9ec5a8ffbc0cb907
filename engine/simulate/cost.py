"""What computing and reading cost, to say how fast a replay would have run."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.preload.device import Device


@dataclass(frozen=True)
class Costs:
    """In ns: ``layer_ns`` a MoE layer besides its experts, ``token_ns`` a token besides its layers, ``expert_ns`` an expert by its bits.

    Reads go to ``device`` (bandwidth in bytes/s, latency in s) over ``lanes`` threads; ``wake_ns`` pass until a thread hears of one.
    """

    device: Device
    layer_ns: int = 100_000
    token_ns: int = 500_000
    expert_ns: dict[int, int] = field(default_factory=dict)
    lanes: int = 4
    wake_ns: int = 20_000
