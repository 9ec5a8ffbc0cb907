"""The expert buffer under its byte budget, and the policies that say which expert leaves it; one policy a file (``*.h``)."""

from __future__ import annotations

from engine.errors import EngineError

DEFAULT = "forecast"
POLICIES = ("forecast", "edgemoe", "edgemoe-printed", "lru", "lfu", "fifo")
"""As policies.cpp knows them."""


def policy_name(name: str) -> str:
    """The name of a policy; "default" is the one that measured best.

    Raises:
        EngineError: there is none of that name.
    """
    name = DEFAULT if name == "default" else name
    if name not in POLICIES:
        raise EngineError(f"Eviction policy {name!r} is not known; choose one of default, {', '.join(POLICIES)}")
    return name


__all__ = ["DEFAULT", "POLICIES", "policy_name"]
