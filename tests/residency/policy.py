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
            "policy_learned": (c_int64, (c_void_p, c_int32, POINTER(c_void_p))),
        })  # fmt: skip
        self.name, self.shape, self.count = name, shape, shape[0] * shape[1]
        self.handle = self._native.policy_new(name.encode(), *shape)
        assert self.handle, f"there is no policy {name!r}"

    def expect(self, odds: Sequence[float] | np.ndarray) -> None:
        self._native.policy_expect(self.handle, self._array(odds, np.float64, self.count).ctypes.data)

    def begin_request(self) -> None:
        self._native.policy_begin_request(self.handle)

    def used(self, experts: Sequence[int] | np.ndarray, at: tuple[int, int], prefill: bool = False) -> None:
        """``experts`` by number, in the router's order; ``at`` is (pass, layer)."""
        self._native.policy_used(self.handle, np.ascontiguousarray(experts, np.int32).ctypes.data, len(experts), *at, prefill)

    def loaded(self, expert: int, at: tuple[int, int]) -> None:
        self._native.policy_loaded(self.handle, expert, *at)

    def predicted(self, layer: int, odds: Sequence[float] | np.ndarray) -> None:
        self._native.policy_predicted(self.handle, layer, self._array(odds, np.float32, self.shape[1]).ctypes.data)

    def scores(self, at: tuple[int, int], nbytes: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """How evictable each expert is, [N], where ``nbytes`` [N] would be read again."""
        sizes = self._array(np.full(self.count, RECORD) if nbytes is None else nbytes, np.int64, self.count)
        out = np.full(self.count + 1, np.nan)  # what is never written is never finite
        out[-1] = -7.0
        self._native.policy_scores(self.handle, *at, sizes.ctypes.data, out.ctypes.data)
        assert out[-1] == -7.0, "a score too many"
        return out[:-1]

    def learned(self) -> list[np.ndarray]:
        """The memories that it keeps what it learned in, as bytes that may be written."""
        all_: list[np.ndarray] = []
        memory = c_void_p()
        while (nbytes := self._native.policy_learned(self.handle, len(all_), byref(memory))) >= 0:
            raw = (ctypes.c_uint8 * nbytes).from_address(memory.value or 0)
            all_.append(np.frombuffer(raw, np.uint8))
        return all_

    def learn_from(self, other: Tried) -> None:
        for mine, theirs in zip(self.learned(), other.learned(), strict=True):
            mine[:] = theirs

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
