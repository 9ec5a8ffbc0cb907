"""Which experts a synthetic model is to use at each step: taken from a recorded trace, or drawn with a real one's habits.

N steps, S MoE layers, E experts a layer, k experts a token. A routing is uint16 [N, S, k], likeliest expert first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError

Routing = NDArray[np.uint16]

SKEW = 0.55
"""Exponent of the experts' popularity within a layer."""
STAY = 1.4
"""How much likelier, in nats, an expert is that the token before used. Both are set to what gpt-oss-20b shows within
a request: 42 to 45% of a token's experts are those of the token before, and the k most used of a layer make up 38 to 41% of its uses."""


def draw_routing(steps: int, layers: int, experts: int, top_k: int, seed: int = 0) -> Routing:
    """A routing with skew (some experts are popular) and locality (a token tends to use the experts of the one before)."""
    random = np.random.default_rng(seed)
    popularity = -SKEW * np.log(np.arange(1, experts + 1))
    likely = np.stack([random.permutation(popularity) for _ in range(layers)])
    routing = np.empty((steps, layers, top_k), np.uint16)
    before = np.zeros((layers, experts))
    for step in range(steps):
        scores = likely + STAY * before + random.gumbel(size=(layers, experts))
        routing[step] = np.argsort(-scores, axis=1)[:, :top_k]
        before[:] = 0
        np.put_along_axis(before, routing[step].astype(np.int64), 1, axis=1)
    return routing


def load_routing(path: Path, steps: int, layers: int, experts: int, top_k: int, seed: int = 0) -> Routing:
    """The routing recorded in ``path`` (.npz with ``experts`` [tokens, layers, k]), fitted to a model of another shape.

    Recordings of different requests lie side by side, each over its own share of the model's experts; layers are taken at
    even distances, in order.

    Raises:
        EngineError: the file is no such recording, too short, or does not go into the model's experts a whole number of times.
    """
    recorded, lengths = _read(path)
    tokens, depth, width = recorded.shape
    sides = top_k // width
    if sides * width != top_k or experts % sides:
        raise EngineError(f"{path} records {width} experts a token, which do not go evenly into {top_k} of {experts}")
    share = experts // sides
    if int(recorded.max()) >= share:
        raise EngineError(f"{path} names expert {int(recorded.max())}; {sides} of it side by side leave {share} experts to each")
    if tokens < sides * steps:
        raise EngineError(f"{path} holds {tokens} tokens; {sides * steps} are needed")
    starts = _starts(lengths, tokens, sides, steps, np.random.default_rng(seed))
    chosen = np.linspace(0, depth - 1, layers).round().astype(int)
    parts = [recorded[start : start + steps, chosen] + side * share for side, start in enumerate(starts)]
    # By rank, so that the likeliest of every side come before the second likeliest of any.
    return np.stack(parts, axis=-1).reshape(steps, layers, top_k)


def _read(path: Path) -> tuple[Routing, NDArray[np.int64]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            recorded = file["experts"].astype(np.uint16)
            lengths = file["lengths"].astype(np.int64) if "lengths" in file else np.array([len(recorded)])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path} is no recorded routing (.npz with experts [tokens, layers, k]): {error}") from None
    if recorded.ndim != 3:
        raise EngineError(f"{path}: experts must be [tokens, layers, k], not {list(recorded.shape)}")
    return recorded, lengths


def _starts(lengths: NDArray[np.int64], tokens: int, sides: int, steps: int, random: np.random.Generator) -> list[int]:
    """Where each side begins: at a request, each in its own stretch of the recording, so that no two are the same text."""
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    stretch = tokens // sides
    found = []
    for side in range(sides):
        first, last = side * stretch, (side + 1) * stretch - steps
        candidates = begins[(begins >= first) & (begins <= last)]
        found.append(int(random.choice(candidates)) if len(candidates) else first)
    return found
