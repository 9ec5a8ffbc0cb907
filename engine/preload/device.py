"""A storage device to be slowed down to, and what it can do."""

from __future__ import annotations

import msgspec


class Device(msgspec.Struct, frozen=True):
    """``bandwidth`` in bytes/s of sequential reads, ``latency`` in s of one read, ``queue_depth`` reads served at once.

    ``source`` says where the figures come from.
    """

    name: str
    title: str
    bandwidth: float
    latency: float
    queue_depth: int
    source: str = ""


NATIVE = Device("native", "This machine", float("inf"), 0.0, 64)

