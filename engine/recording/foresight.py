"""What predictions were worth: how many of the experts that routers chose were foreseen, and how true the probabilities were.

Shapes: T tokens, L layers, B bins of probability. k is the model's top-k: a router chooses k experts, and twice as many predictions are
told.
"""

from __future__ import annotations

from math import nan

import numpy as np

from engine.events import Asked
from engine.recording.recording import Recording

BINS = 10
CHUNK = 1 << 17  # predictions taken in at once, so that a reopened session holds up no frame


def recall_of(recording: Recording, first: int, stop: int) -> float:
    """Share (0..1) of the k experts chosen that were among the k thought likeliest, over the predicted turns of the token rows ``first`` to
    ``stop``; nan where nothing was predicted."""
    table, model = recording.predictions, recording.model
    if model is None or not len(table):
        return nan
    low, high = table.search("token", first), table.search("token", stop)
    rank, chosen = table.column("rank", low, high), table.column("chosen", low, high)
    turns = int((rank == 0).sum())
    return float((chosen[rank < model.top_k] != 0).sum()) / (turns * model.top_k) if turns else nan


class Foresight:
    """Sums per token, kept up with the recording: ``turns`` [T, L] predicted, ``right`` [T, L] experts chosen among the k likeliest;
    by bins of probability the predictions ``told`` and those that ``came`` true, and those ``unused`` for which a read was made, [T, B]."""

    def __init__(self, layers: int, top_k: int) -> None:
        self.layers, self.top_k = layers, max(1, top_k)
        self._seen = 0
        self._arrays = self._allocate(256)

    @property
    def turns(self) -> np.ndarray:
        return self._arrays[0]

    @property
    def right(self) -> np.ndarray:
        return self._arrays[1]

    @property
    def told(self) -> np.ndarray:
        return self._arrays[2]

    @property
    def came(self) -> np.ndarray:
        return self._arrays[3]

    @property
    def unused(self) -> np.ndarray:
        return self._arrays[4]

    def catch_up(self, recording: Recording) -> bool:
        """Take in what is new, at most CHUNK predictions of it; False while there is more."""
        table = recording.predictions
        stop = min(len(table), self._seen + CHUNK)
        if stop > self._seen:
            rows = table.rows(self._seen, stop)
            self._add(rows.take(np.flatnonzero((rows["time"] >= recording.loaded) & (rows["layer"] < self.layers))))
            self._seen = stop
        return stop == len(table)

    def recall(self, tokens: slice) -> np.ndarray:
        """Recall@k of each layer over these token rows, 0..1, [L]; nan where nothing was predicted."""
        turns, right = (array[tokens].sum(axis=0, dtype=np.int64) for array in (self.turns, self.right))
        return np.where(turns > 0, right / np.maximum(1, turns * self.top_k), np.nan)

    def calibration(self, tokens: slice) -> tuple[np.ndarray, np.ndarray]:
        """Predictions by bins of probability over these token rows, and how many of them came true, [B] each."""
        return self.told[tokens].sum(axis=0, dtype=np.int64), self.came[tokens].sum(axis=0, dtype=np.int64)

    def _add(self, rows: np.ndarray) -> None:
        if not len(rows):
            return
        first, last = int(rows["token"].min()), int(rows["token"].max()) + 1
        self._reserve(last)
        token, layer, count = rows["token"].astype(np.int64) - first, rows["layer"].astype(np.int64), last - first
        chosen, likeliest = rows["chosen"] != 0, rows["rank"] < self.top_k
        binned = np.clip((rows["probability"] * BINS).astype(np.int64), 0, BINS - 1)
        unused = (rows["asked"] == Asked.READ) & ~chosen
        for array, place, picked in (
            (self.turns, layer, rows["rank"] == 0), (self.right, layer, chosen & likeliest),
            (self.told, binned, slice(None)), (self.came, binned, chosen), (self.unused, binned, unused),
        ):  # fmt: skip
            width = array.shape[1]
            sums = np.bincount((token * width + place)[picked], minlength=count * width)
            array[first:last] += sums.reshape(count, width).astype(array.dtype)

    def _allocate(self, tokens: int) -> tuple[np.ndarray, ...]:
        shapes = (self.layers, self.layers, BINS, BINS, BINS)
        return tuple(np.zeros((tokens, width), np.uint16) for width in shapes)

    def _reserve(self, tokens: int) -> None:
        old = self._arrays
        if tokens > len(old[0]):
            self._arrays = self._allocate(max(tokens, 2 * len(old[0])))
            for new, former in zip(self._arrays, old, strict=True):
                new[: len(former)] = former
