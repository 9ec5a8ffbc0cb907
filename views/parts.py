"""The components of a token's time, as charts and figures show them. No Qt here."""

from __future__ import annotations

import numpy as np

PARTS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("attention and other", "attention", ("attention", "head", "sampling"),
     "Attention, shared experts and the rest of the skeleton, head and sampling"),
    ("router", "router", ("router",), "Gates: which experts each token goes to"),
    ("expert compute", "compute", ("compute",), "Multiplying with expert weights"),
    ("demand stall", "stall", ("stall",), "The token loop waited for expert weights to be read"),
    ("framework", "framework", ("framework",),
     "What is left of the token's time: the program around the model, and the engine's bookkeeping"),
)  # fmt: skip
"""Name, theme role, columns of ``tokens`` (ns), help."""


def parts_of(rows: np.ndarray) -> list[np.ndarray]:
    """The components of ``tokens`` rows in ms, one [n] each in the order of PARTS."""
    return [sum((rows[column] for column in columns), np.zeros(len(rows))) / 1e6 for _, _, columns, _ in PARTS]
