"""The native library of the engine, loaded once: C++ beside the Python of each room, compiled by ``engine.kernels.build``."""

from __future__ import annotations

import ctypes
from functools import cache
from types import SimpleNamespace
from typing import Any

from engine.errors import EngineError
from engine.kernels.build import built

Signature = tuple[Any, tuple[Any, ...]]
"""Type of the result, types of the arguments."""


@cache
def loaded() -> ctypes.CDLL:
    """The library of these very sources, built if need be.

    Raises:
        EngineError: it cannot be built or loaded.
    """
    try:
        return ctypes.CDLL(str(built()))
    except OSError as error:
        raise EngineError(f"the native library cannot be loaded ({error})") from error


def bind(functions: dict[str, Signature], library: ctypes.CDLL | None = None) -> SimpleNamespace:
    """These functions of the library as attributes, without their prefix. The interpreter is released while one runs."""
    source, bound = library or loaded(), SimpleNamespace()
    for name, (result, arguments) in functions.items():
        function = getattr(source, f"edgemoe_{name}")
        function.restype, function.argtypes = result, arguments
        setattr(bound, name, function)
    return bound
