"""One eviction policy by itself (residency/api.cpp). S layers, E experts a layer, N = S · E; an expert's number is layer · E + expert."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_int32, c_int64, c_void_p

import numpy as np

from engine.binding import bind

RECORD = 4096  # bytes of a record, where a test does not say otherwise


class Tried:
    """A policy driven by hand; ``shape`` is (S, E)."""

    def __init__(self, name: str, shape: tuple[int, int]) -> None:
        self._native = bind({
            "policy_new": (c_void_p, (c_char_p, c_int32, c_int32)),
            "policy_free": (None, (c_void_p,)),
            "policy_expect": (None, (c_void_p, c_void_p)),
            "policy_begin_request": (None, (c_void_p,)),
            "policy_used": (None, (c_void_p, c_void_p, c_int32, c_int64, c_int32, c_int32)),
            "policy_loaded": (None, (c_void_p, c_int32, c_int64, c_int32)),
            "policy_predicted": (None, (c_void_p, c_int32, c_void_p)),
            "policy_scores": (None, (c_void_p, c_int64, c_int32, c_void_p, c_void_p)),
            "policy_learned": (c_int64, (c_void_p, c_int32, POINTER(c_char_p), POINTER(c_void_p))),
        })  # fmt: skip
        self.name, self.shape, self.count = name, shape, shape[0] * shape[1]
        self.handle = self._native.policy_new(name.encode(), *shape)
        assert self.handle, f"there is no policy {name!r}"

    def expect(self, odds: Sequence[float] | np.ndarray) -> None:
        self._native.policy_expect(self.handle, self._array(odds, np.float64, self.count).ctypes.data_as(c_void_p))

    def begin_request(self) -> None:
        self._native.policy_begin_request(self.handle)

    def used(self, experts: Sequence[int] | np.ndarray, at: tuple[int, int], prefill: bool = False) -> None:
        """``experts`` by number, in the router's order; ``at`` is (pass, layer)."""
        self._native.policy_used(self.handle, np.ascontiguousarray(experts, np.int32).ctypes.data_as(c_void_p), len(experts), *at, prefill)

    def loaded(self, expert: int, at: tuple[int, int]) -> None:
        self._native.policy_loaded(self.handle, expert, *at)

    def predicted(self, layer: int, odds: Sequence[float] | np.ndarray) -> None:
        self._native.policy_predicted(self.handle, layer, self._array(odds, np.float32, self.shape[1]).ctypes.data_as(c_void_p))

    def scores(self, at: tuple[int, int], nbytes: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """How evictable each expert is, [N], where ``nbytes`` [N] would be read again."""
        sizes = self._array(np.full(self.count, RECORD) if nbytes is None else nbytes, np.int64, self.count)
        out = np.full(self.count + 1, np.nan)  # what is never written is never finite
        out[-1] = -7.0
        self._native.policy_scores(self.handle, *at, sizes.ctypes.data_as(c_void_p), out.ctypes.data_as(c_void_p))
        assert out[-1] == -7.0, "a score too many"
        return out[:-1]

    def learned(self) -> dict[str, np.ndarray]:
        """The memories that it keeps what it learned in, as bytes that may be written, by name."""
        memories: dict[str, np.ndarray] = {}
        name, memory = c_char_p(), c_void_p()
        while (nbytes := self._native.policy_learned(self.handle, len(memories), byref(name), byref(memory))) >= 0:
            raw = (ctypes.c_uint8 * nbytes).from_address(memory.value or 0)
            memories[(name.value or b"").decode()] = np.frombuffer(raw, np.uint8)
        return memories

    def learn_from(self, other: Tried) -> None:
        theirs = other.learned()
        for name, memory in self.learned().items():
            memory[:] = theirs[name]

    def close(self) -> None:
        self._native.policy_free(self.handle)
        self.handle = None

    def __enter__(self) -> Tried:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _array(values: Sequence[float] | np.ndarray, kind: type, length: int) -> np.ndarray:
        array = np.ascontiguousarray(values, kind)
        assert array.shape == (length,)
        return array
