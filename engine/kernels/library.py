"""The native kernels: their structs, their functions, and an engine of threads that runs them.

T tokens, R rows, C columns, d hidden.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_void_p, sizeof
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.binding import bind, loaded
from engine.errors import EngineError
from engine.kernels.reference import Floats, Ids

BFLOAT16, FLOAT16, FLOAT32 = 16, 17, 32
"""Kinds of plain matrices; those of quantized ones are their bits."""
ACTIVATIONS = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "relu": 3, "relu2": 4}


class NativeMatrix(Structure):
    """native/matrix.h."""

    _fields_ = [
        ("codes", c_void_p), ("scales", c_void_p), ("bias", c_void_p), ("kind", c_int32), ("bias_kind", c_int32),
        ("rows", c_int32), ("columns", c_int32), ("padded", c_int32), ("group", c_int32), ("unit", c_float), ("center", c_float),
        ("outliers", c_int32), ("outlier_counts", c_void_p), ("outlier_columns", c_void_p), ("outlier_values", c_void_p),
    ]  # fmt: skip


class Place(Structure):
    """A matrix in a record, native/expert.h."""

    _fields_ = [
        ("codes", c_int64), ("scales", c_int64), ("unit", c_int64), ("bias", c_int64), ("rows", c_int32), ("columns", c_int32),
        ("padded", c_int32), ("group", c_int32), ("center", c_float), ("kind", c_int32), ("bias_kind", c_int32),
        ("outliers", c_int32), ("outlier_counts", c_int64), ("outlier_columns", c_int64), ("outlier_values", c_int64),
    ]  # fmt: skip


class ExpertLayout(Structure):
    """native/expert.h."""

    _fields_ = [("up", Place), ("down", Place), ("bits", c_int32), ("gated", c_int32), ("interleaved", c_int32), ("activation", c_int32)]


class AttentionSpec(Structure):
    """native/model.h."""

    _fields_ = [
        ("q", NativeMatrix), ("k", NativeMatrix), ("v", NativeMatrix), ("o", NativeMatrix),
        ("q_norm", c_void_p), ("k_norm", c_void_p), ("inv_freq", c_void_p),
        ("q_norm_size", c_int32), ("k_norm_size", c_int32), ("norm_after_rotary", c_int32), ("heads", c_int32), ("kv_heads", c_int32),
        ("head_dim", c_int32), ("rotated", c_int32), ("interleaved", c_int32), ("window", c_int32),
        ("scale", c_float), ("clip", c_float), ("rotary_scale", c_float),
    ]  # fmt: skip


class Routing(Structure):
    """native/router.h."""

    _fields_ = [
        ("experts", c_int32), ("top_k", c_int32), ("scoring", c_int32), ("normalize", c_int32), ("groups", c_int32),
        ("top_groups", c_int32), ("epsilon", c_float), ("floor", c_float), ("scale", c_float), ("correction", c_void_p),
    ]  # fmt: skip


class LayerSpec(Structure):
    """native/model.h."""

    _fields_ = [
        ("attention_norm", c_void_p), ("mlp_norm", c_void_p), ("attention", AttentionSpec), ("moe", c_int32), ("router", NativeMatrix),
        ("routing", Routing), ("gate", NativeMatrix), ("up", NativeMatrix), ("down", NativeMatrix), ("mlp_gate", NativeMatrix),
    ]  # fmt: skip


class ModelSpec(Structure):
    """native/model.h."""

    _fields_ = [
        ("layers", POINTER(LayerSpec)), ("layer_count", c_int32), ("hidden", c_int32), ("vocabulary", c_int32), ("experts", c_int32),
        ("activation", c_int32), ("eps", c_float), ("embedding_scale", c_float), ("residual_scale", c_float), ("logits_scale", c_float),
        ("embedding", NativeMatrix), ("head", NativeMatrix), ("norm", c_void_p), ("layouts", POINTER(ExpertLayout)), ("records", c_void_p),
        ("layout_of", c_void_p),
    ]  # fmt: skip


_SIZES = (NativeMatrix, ExpertLayout, AttentionSpec, LayerSpec, ModelSpec)
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "size": (c_int64, (c_int32,)),
    "engine_new": (c_void_p, (c_char_p,)),
    "engine_free": (None, (c_void_p,)),
    "engine_name": (c_char_p, (c_void_p,)),
    "engine_threads": (c_int32, (c_void_p, c_int32)),
    "linear": (None, (c_void_p, POINTER(NativeMatrix), c_void_p, c_void_p, c_int32)),
    "expert": (None, (c_void_p, c_void_p, POINTER(ExpertLayout), c_void_p, c_void_p, c_int32)),
    "quantize8": (None, (c_void_p, c_void_p, c_int32, c_void_p, c_void_p, c_void_p)),
    "quantize16": (None, (c_void_p, c_void_p, c_int32, c_void_p, c_void_p, c_void_p)),
    "top": (c_float, (c_void_p, c_void_p, c_int32, c_int32, c_void_p, c_void_p)),
    "decoder_new": (c_void_p, (c_void_p, POINTER(ModelSpec), c_void_p)),
    "decoder_free": (None, (c_void_p,)),
    "decoder_gate": (None, (c_void_p, c_void_p)),
    "decoder_cache": (None, (c_void_p, c_void_p, c_void_p, c_int64)),
    "decoder_begin": (None, (c_void_p, c_int32, c_int32)),
    "decoder_run": (c_int32, (c_void_p, c_int64)),
    "decoder_logits": (c_void_p, (c_void_p,)),
}


@cache
def library() -> SimpleNamespace:
    """The functions of the kernels.

    Raises:
        EngineError: the library cannot be built or loaded.
    """
    return functions_of(loaded())


def functions_of(source: ctypes.CDLL) -> SimpleNamespace:
    """The functions of the kernels in a library."""
    bound = bind(_FUNCTIONS, source)
    assert [bound.size(i) for i in range(len(_SIZES))] == [*map(sizeof, _SIZES)], "structs differ from the library's"
    return bound


class Native:
    """Threads that run the products: one engine a session. ``products`` names an instruction set, empty for the best.

    Raises:
        EngineError: there is no library, this processor does not run ``products``, or a thread cannot be started.
    """

    handle = None  # where making one fails

    def __init__(self, threads: int = 1, products: str = "", library_: SimpleNamespace | None = None) -> None:
        self.library = library_ or library()
        self.handle = self.library.engine_new(products.encode())
        if not self.handle:
            raise EngineError(f"this processor does not run the {products} kernels")
        self._top_tokens: Ids = np.empty(0, np.int32)
        self.name = str(self.library.engine_name(self.handle).decode())
        self.set_threads(threads)

    def set_threads(self, threads: int) -> None:
        """Compute with that many threads from the next call on; the caller is one of them.

        Raises:
            EngineError: the system refuses so many; there are as many as before.
        """
        refused = self.library.engine_threads(self.handle, threads)
        if refused:
            raise EngineError(f"{threads} compute threads cannot be started ({os.strerror(refused)}); set fewer, or close other programs")

    def linear(self, matrix: NativeMatrix, x: Tensor) -> Tensor:
        """x W^T + bias: float32 [T, R] for x float32 [T, C], contiguous."""
        y = torch.empty(len(x), matrix.rows)
        self.library.linear(self.handle, matrix, x.data_ptr(), y.data_ptr(), len(x))
        return y

    def expert(self, record: int, layout: ExpertLayout, x: Tensor) -> Tensor:
        """The expert whose record lies at the address ``record``, applied to x float32 [T, d], contiguous: float32 [T, d]."""
        y = torch.empty(len(x), layout.down.rows)
        self.library.expert(self.handle, record, layout, x.data_ptr(), y.data_ptr(), len(x))
        return y

    def top(self, logits: Floats, count: int) -> tuple[Ids, Floats, float]:
        """See ``reference.Top``; ``logits`` contiguous. What is returned is overwritten by the next call."""
        if len(self._top_tokens) != count:
            self._top_tokens, self._top_scores = np.empty(count, np.int32), np.empty(count, np.float32)
            self._top_places = self._top_tokens.ctypes.data, self._top_scores.ctypes.data
        total = self.library.top(self.handle, logits.ctypes.data, len(logits), count, *self._top_places)
        return self._top_tokens, self._top_scores, total

    def close(self) -> None:
        """End the threads."""
        if self.handle:
            self.library.engine_free(self.handle)
            self.handle = None

    def __del__(self) -> None:
        self.close()
