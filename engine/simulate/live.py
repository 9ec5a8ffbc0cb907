"""The routing of a recording, also of one that is still growing.

S MoE layers, E experts a layer, k experts a token.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.errors import EngineError
from engine.events import Phase, Residency
from engine.recording.recording import Recording
from engine.simulate.routing import NONE, Routing, Uses, no_uses

_NO_MODEL = "This session has no model, so that there is no routing; record a request first"
Numbers = npt.NDArray[np.int32]
_STRIDE = 1 << 18  # rows of accesses looked at in one go


class LiveRouting:
    """``follow`` takes in the passes recorded since it was called last; what it returned before stays as it was."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._begin()

    def follow(self) -> Routing:
        """The routing of the model of now, as far as its passes are complete. Costs as much as there is new.

        Raises:
            EngineError: no model was recorded.
        """
        if self._model != self._recorded():
            self._begin()
        self._count()
        self._look()
        tokens, prefill = sum(self._lengths), np.concatenate([no_uses(), *self._prefill])
        return Routing(self._experts[:tokens], np.array(self._lengths, np.int64), self._expert_count, prefill, self._weights[:tokens])

    def _recorded(self) -> tuple[str, int]:
        model = self.recording.model
        if model is None:
            raise EngineError(_NO_MODEL)
        return model.model_hash, self.recording.loaded

    def _begin(self) -> None:
        """Nothing is known: begin where the model of now was loaded."""
        self._model, model = self._recorded(), self.recording.model
        assert model is not None
        self._expert_count = model.experts
        self._row = self.recording.accesses.search("time", self.recording.loaded)
        self._first = self.recording.tokens.search("start", self.recording.loaded)
        self._place = np.empty(0, np.int64)  # by pass from ``_first`` on: its decoded token, or -1 - request where it is a prefill
        self._request = -1  # the last one's number in the recording
        self._lengths: list[int] = []
        self._prefill: list[Uses] = []
        self._experts = np.empty((0, model.layers, model.top_k), np.int16)
        self._weights = np.empty((0, model.layers, model.top_k), np.float32)

    def _count(self) -> None:
        """Give every new pass its place."""
        begin, done = self._first + len(self._place), sum(self._lengths)
        places = []
        tokens = self.recording.tokens
        for request, phase in zip(tokens.column("request", begin).tolist(), tokens.column("phase", begin).tolist(), strict=False):
            if phase == Phase.PREFILL or request != self._request:
                self._lengths.append(0)
                self._request = request
            if phase == Phase.PREFILL:
                places.append(-len(self._lengths))
            else:
                self._lengths[-1] += 1
                places.append(done)
                done += 1
        self._place = np.concatenate([self._place, np.array(places, np.int64)])
        if done > len(self._experts):
            self._experts, self._weights = _grown(self._experts, done, NONE), _grown(self._weights, done, 0)

    def _look(self) -> None:
        """Put the new uses of the passes counted in their places."""
        accesses, passes = self.recording.accesses, self._first + len(self._place)
        while self._row < len(accesses):
            rows = accesses.rows(self._row, self._row + _STRIDE)
            complete = int(np.searchsorted(rows["token"], passes))
            self._put(rows[:complete])
            self._row += complete
            if complete < len(rows):
                break  # of a pass under way

    def _put(self, rows: np.ndarray) -> None:
        # The accesses of a model before may end in the same instant as this one was loaded.
        fits = (rows["layer"] < self._experts.shape[1]) & (rows["expert"] < self._expert_count)
        rows = rows[(rows["token"] >= self._first) & fits]
        place = self._place[rows["token"] - self._first]
        told = (place >= 0) & (rows["rank"] < self._experts.shape[2])
        where = place[told], rows["layer"][told], rows["rank"][told]
        self._experts[where], self._weights[where] = rows["expert"][told], rows["weight"][told]
        before = place < 0
        if before.any():
            used = rows[before]
            self._prefill.append(np.stack([-1 - place[before], used["layer"], used["expert"], used["tokens"]], axis=1).astype(np.int32))


def routing_of(recording: Recording) -> Routing:
    """The routing of the model that a recording ended with.

    Raises:
        EngineError: no model was recorded.
    """
    return LiveRouting(recording).follow()


def resident_before(recording: Recording) -> Numbers:
    """Numbers of the experts that were in memory before the first pass of the model that a recording ended with, in the order of loading.

    Raises:
        EngineError: no model was recorded.
    """
    if recording.model is None:
        raise EngineError(_NO_MODEL)
    layers, experts = recording.model.layers, recording.model.experts
    changes, first = recording.residency, recording.residency.search("time", recording.loaded)
    rows = changes.rows(first, first + 4 * layers * experts)  # each was asked for, and came or did not
    rows = rows[np.logical_and.accumulate(rows["token"] < 0)]
    known = (rows["layer"] >= 0) & (rows["layer"] < layers) & (rows["expert"] >= 0) & (rows["expert"] < experts)
    filled = rows[known & (rows["state"] == Residency.RESIDENT)]
    numbers = filled["layer"].astype(np.int32) * experts + filled["expert"]
    first_come: Numbers = numbers[np.sort(np.unique(numbers, return_index=True)[1])]
    return first_come


def _grown(array: np.ndarray, length: int, fill: int) -> np.ndarray:
    """A copy with room for ``length`` tokens and as many again."""
    out = np.full((max(1024, 2 * length), *array.shape[1:]), fill, array.dtype)
    out[: len(array)] = array
    return out
