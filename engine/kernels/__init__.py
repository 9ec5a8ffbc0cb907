"""One expert applied to the tokens routed to it. Native kernels can be added behind the same ``forward``."""

from engine.kernels.reference import forward

__all__ = ["forward"]
