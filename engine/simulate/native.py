"""What the native replay takes and gives (api.cpp), as ctypes has it.

T decoded tokens, S MoE layers, k experts a token, R requests, P uses by prefills.
"""

from __future__ import annotations

from ctypes import POINTER, Structure, c_char_p, c_double, c_int32, c_int64, c_void_p, sizeof
from functools import cache
from types import SimpleNamespace

import numpy as np

from engine.binding import bind
from engine.events import Outcome
from engine.simulate.routing import Routing


class TapeView(Structure):
    _fields_ = [
        ("layers", c_int32), ("experts_a_layer", c_int32), ("top_k", c_int32), ("requests", c_int32), ("experts", c_void_p),
        ("lengths", c_void_p), ("prefill", c_void_p), ("prefill_uses", c_int64),
    ]  # fmt: skip


class SetupView(Structure):
    _fields_ = [
        ("policy", c_char_p), ("predictor", c_void_p),
        *((name, c_int32) for name in ("clairvoyant", "depth", "width", "balanced", "widths", "initial_count")),
        ("budget", c_int64), ("bits", c_void_p), ("bytes", c_void_p), ("wanted", c_void_p), ("initial", c_void_p), ("expected", c_void_p),
        ("lesson", c_void_p), ("bandwidth", c_double),
        *((name, c_int64) for name in ("latency", "wake", "lanes", "layer_ns", "token_ns", "predict_ns")),
        *((name, c_void_p) for name in ("expert_ns", "misses", "expert_misses", "held")),
    ]  # fmt: skip


class OutcomesView(Structure):
    _fields_ = [
        ("tokens", c_int64), ("uses", c_int64 * len(Outcome)),
        *((name, c_int64) for name in (
            "demand_bytes", "useful_bytes", "wasted_bytes", "guessed", "guessed_right", "evictions", "ns", "stall_ns", "peak_bytes",
        )),
    ]  # fmt: skip


class Tape:
    """A routing as the native code reads it: ``view``, valid as long as this object."""

    def __init__(self, routing: Routing) -> None:
        self._experts = np.ascontiguousarray(routing.experts, np.int16)  # [T, S, k]
        self._lengths = np.ascontiguousarray(routing.lengths, np.int32)  # [R]
        self._prefill = np.ascontiguousarray(routing.prefill, np.int32)  # [P, 4]
        arrays = (array.ctypes.data for array in (self._experts, self._lengths, self._prefill))
        self.view = TapeView(*routing.shape, routing.top_k, routing.requests, *arrays, len(self._prefill))


@cache
def native() -> SimpleNamespace:
    """The functions of api.cpp. The interpreter is released while one runs; all look at ``stopped`` (int32) once a pass at the least.

    Raises:
        EngineError: there is no library, and none can be built.
    """
    tape, stopped = POINTER(TapeView), POINTER(c_int32)
    functions = bind({
        "replay": (c_int32, (tape, POINTER(SetupView), stopped, POINTER(OutcomesView))),
        "replay_size": (c_int64, (c_int32,)),
        "lesson_new": (c_void_p, (tape, c_char_p, stopped)),
        "lesson_free": (None, (c_void_p,)),
        "lru_hits": (c_int32, (tape, c_void_p, stopped)),
        "least_bytes": (c_int64, (tape, c_void_p, c_int64, c_void_p, c_int32, stopped)),
    })  # fmt: skip
    told = [functions.replay_size(i) for i in range(3)]
    assert told == [*map(sizeof, (TapeView, SetupView, OutcomesView))], "structs differ from the library's"
    return functions
