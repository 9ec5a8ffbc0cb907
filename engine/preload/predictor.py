"""What learned predictors (predictor.h) have in common: a native object, the shape it is for, where it is saved.

T tokens, S MoE layers, E experts a layer, k experts a token, R requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from ctypes import c_int32, c_void_p
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from engine.binding import bind

VERSION = 1
Report = Callable[[float], bool]
"""Told the share of the training that is done; says whether to go on."""

GATE_REACH, LEARNED_REACH = 2, 4
"""Layers ahead that are worth a guess: beyond two, a router asked early is mostly wrong; a learned predictor is right for three of four
experts at four."""


class About(msgspec.Struct, frozen=True):
    """What a saved predictor is: for which shape of model, learned from what (the trace's hash, its requests and tokens)."""

    predictor: str
    layers: int
    experts: int
    top_k: int
    trace: str
    requests: int
    tokens: int
    version: int = VERSION

    def fits(self, layers: int, experts: int, top_k: int) -> bool:
        return self.version == VERSION and (self.layers, self.experts, self.top_k) == (layers, experts, top_k)


class Learned:
    """A native predictor; ``handle`` is what a stream is told to predict by."""

    name: ClassVar[str]
    file: ClassVar[str]
    """Its name in the folder of a store or a model."""

    def __init__(self, layers: int, experts: int, top_k: int, native: int) -> None:
        self.shape = (layers, experts, top_k)
        self.handle: int = native
        self._common = bind({
            "predictor_free": (None, (c_void_p,)),
            "predictor_judge": (None, (c_void_p, c_int32, c_int32, c_void_p, c_void_p, c_int32, c_int32, c_int32, c_void_p)),
        })  # fmt: skip

    def judge(self, experts: npt.NDArray[np.int16], lengths: npt.NDArray[np.int64], ahead: int = 1) -> npt.NDArray[np.float32]:
        """The odds [T, S, E] it gives to every expert that many layers before its layer's turn, on hearing the requests in ``experts``
        [T, S, k], of ``lengths`` [R] tokens; 0 where it cannot say."""
        layers, count, top_k = self.shape
        trace, sizes = np.ascontiguousarray(experts, np.int16), np.ascontiguousarray(lengths, np.int32)
        odds = np.zeros((len(trace), layers, count), np.float32)
        self._common.predictor_judge(
            self.handle, layers, count, trace.ctypes.data, sizes.ctypes.data, len(sizes), top_k, ahead, odds.ctypes.data
        )
        return odds

    def train(self, experts: npt.NDArray[np.int16], lengths: npt.NDArray[np.int64], report: Report = lambda share: True) -> bool:
        """Learn from the routing of ``lengths`` [R] tokens in ``experts`` [T, S, k] (-1: none); False where ``report`` ended it."""
        raise NotImplementedError

    def copy(self) -> Learned:
        """Another that learned the same, to be told of another stream meanwhile. It can neither be trained nor saved."""
        made = Learned(*self.shape, self._copied())
        made.name = self.name  # type: ignore[misc]
        return made

    def _copied(self) -> int:
        raise NotImplementedError

    def save(self, path: Path, about: About) -> None:
        """Write the file, whole or not at all."""
        raise NotImplementedError

    def close(self) -> None:
        if self.handle:
            self._common.predictor_free(self.handle)
            self.handle = 0

    def __del__(self) -> None:
        self.close()


def trace_hash(experts: npt.NDArray[np.int16]) -> str:
    """Tells one routing from another."""
    return hashlib.sha256(np.ascontiguousarray(experts, np.int16).tobytes()).hexdigest()[:16]
