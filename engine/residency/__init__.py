"""The expert buffer under its byte budget, and the policies that say which expert leaves it; one policy a file."""

from __future__ import annotations

from collections.abc import Callable

from engine.errors import EngineError
from engine.residency.edgemoe import EdgeMoE
from engine.residency.edgemoe_printed import EdgeMoEPrinted
from engine.residency.fifo import Fifo
from engine.residency.lfu import Lfu
from engine.residency.lru import Lru
from engine.residency.policy import Clock, Eviction

DEFAULT = "edgemoe"
POLICIES: dict[str, Callable[[int, int], Eviction]] = {
    policy.name: policy for policy in (EdgeMoE, EdgeMoEPrinted, Lru, Lfu, Fifo)
}


def policy_named(name: str, layers: int, experts: int) -> Eviction:
    """A fresh policy for a model of ``layers`` × ``experts``; "default" is the one that measured best.

    Raises:
        EngineError: there is none of that name.
    """
    name = DEFAULT if name == "default" else name
    if name not in POLICIES:
        raise EngineError(f"Eviction policy {name!r} is not known; choose one of default, {', '.join(POLICIES)}")
    return POLICIES[name](layers, experts)


__all__ = ["DEFAULT", "POLICIES", "Clock", "Eviction", "policy_named"]
