"""What the engine runs on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import psutil

from engine import __version__
from engine.events import Machine

VERSION = __version__


def pid() -> int:
    return os.getpid()


def give_back() -> None:
    """Return memory that was freed to the system, which the C library otherwise keeps for later."""
    with contextlib.suppress(OSError, AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def describe() -> Machine:
    """System, processor, cores, memory in bytes, and the versions of what computes."""
    return Machine(
        platform.platform(), _processor(), os.cpu_count() or 1, psutil.virtual_memory().total,
        platform.python_version(), _version("torch"), _version("transformers"),
    )  # fmt: skip


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
