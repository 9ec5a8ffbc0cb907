"""The predictor that is learned from routing alone (transition.h): a network a layer. Saved as safetensors of float16.

T tokens, S MoE layers, E experts a layer, k experts a token, R requests.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ctypes import CFUNCTYPE, POINTER, c_double, c_float, c_int32, c_int64, c_void_p
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from engine.binding import bind
from engine.errors import EngineError
from engine.preload.predictor import About, Learned, Report
from engine.recording.output import whole_file

_TOLD = CFUNCTYPE(c_int32, c_double)
_FUNCTIONS = {
    "transition_new": (c_void_p, (c_int32, c_int32, c_int32)),
    "transition_copy": (c_void_p, (c_void_p,)),
    "transition_predictor": (c_void_p, (c_void_p,)),
    "transition_learning": (None, (c_void_p, c_int32)),
    "transition_arrays": (c_int32, (c_void_p,)),
    "transition_size": (c_int64, (c_void_p, c_int32)),
    "transition_array": (POINTER(c_float), (c_void_p, c_int32)),
    "transition_train": (c_int32, (c_void_p, c_void_p, c_void_p, c_int32, c_int32, c_int32, c_int32, _TOLD)),
}
STEPS = 400_000
"""Tokens learned from, each again in every round over the trace: what 40,000 tokens of a 24-layer model took to stop getting better."""
MOST_ROUNDS = 12


class Transition(Learned):
    """``train`` it, or ``load`` it; ``learning`` True goes on learning from what it hears while running."""

    name = "transition"
    file = "predictor-transition.safetensors"

    def __init__(self, layers: int, experts: int, top_k: int, learning: bool = False) -> None:
        self._native = bind(_FUNCTIONS)
        self._own = self._native.transition_new(layers, experts, top_k)
        super().__init__(layers, experts, top_k, self._native.transition_predictor(self._own))
        self._native.transition_learning(self._own, learning)

    def train(self, experts: npt.NDArray[np.int16], lengths: npt.NDArray[np.int64], report: Report = lambda share: True) -> bool:
        """See ``Learned``; with all cores but for short traces, some ten rounds."""
        trace, sizes = np.ascontiguousarray(experts, np.int16), np.ascontiguousarray(lengths, np.int32)
        rounds = max(2, min(MOST_ROUNDS, STEPS // max(1, len(trace))))
        told = _TOLD(lambda share: int(report(share)))
        threads, top_k = os.cpu_count() or 1, self.shape[2]
        return bool(self._native.transition_train(
            self._own, trace.ctypes.data, sizes.ctypes.data, len(sizes), top_k, rounds, threads, told
        ))  # fmt: skip

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Its weights by name: the memory itself."""
        names = ("rows", "bias", "outputs", "base", "decays")
        arrays = {}
        for index in range(self._native.transition_arrays(self._own)):
            size = self._native.transition_size(self._own, index)
            layer, which = divmod(index, len(names))
            arrays[f"{layer}.{names[which]}"] = np.ctypeslib.as_array(self._native.transition_array(self._own, index), (size,))
        return arrays

    def _copied(self) -> int:
        return int(self._native.transition_predictor(self._native.transition_copy(self._own)))

    def save(self, path: Path, about: About) -> None:
        with whole_file(path) as file:
            file.write(save({name: array.astype(np.float16) for name, array in self.arrays().items()}, _metadata(about)))

    @classmethod
    def load(cls, path: Path, layers: int, experts: int, top_k: int) -> Transition:
        """Read what ``save`` wrote.

        Raises:
            EngineError: it is damaged, of another version, or for a model of another shape.
        """
        made = cls(layers, experts, top_k)
        try:
            with safe_open(path, framework="numpy") as file:
                _check(path, file.metadata(), made)
                for name, array in made.arrays().items():
                    read = file.get_tensor(name)
                    if read.shape != array.shape or not np.isfinite(read).all():
                        raise ValueError(name)
                    array[:] = read
        except (OSError, SafetensorError, ValueError, msgspec.MsgspecError) as error:
            raise EngineError(f"{path} is no predictor that can be used ({error}); train it again with `train`") from None
        return made


def _metadata(about: About) -> dict[str, str]:
    return {name: str(value) for name, value in msgspec.structs.asdict(about).items()}


def _check(path: Path, metadata: Mapping[str, str] | None, made: Transition) -> None:
    about = msgspec.convert(dict(metadata or {}), About, strict=False)
    if about.predictor != Transition.name or not about.fits(*made.shape):
        shape = "{} layers of {} experts, top {}".format(*made.shape)
        raise EngineError(f"{path} is a predictor for another model or of another version, not for {shape}; train it again with `train`")
