"""What the engine runs on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
from importlib.metadata import PackageNotFoundError, version

import psutil

from engine import __version__
from engine.events import Machine

VERSION = __version__
_PR_SET_PDEATHSIG = 1


def pid() -> int:
    return os.getpid()


def give_back() -> None:
    """Return memory that was freed to the system, which the C library otherwise keeps for later."""
    with contextlib.suppress(OSError, AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def be_harmless() -> None:
    """Let this thread, and those that it starts from now on, compute and read only when nobody else wants to; end with the parent process,
    also while held."""
    process = psutil.Process()
    with contextlib.suppress(psutil.Error, OSError):
        if hasattr(os, "nice"):
            os.nice(19)
        else:
            process.nice(psutil.IDLE_PRIORITY_CLASS)
    with contextlib.suppress(AttributeError, OSError):  # a system without it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(AttributeError, psutil.Error, OSError):
        process.ionice(psutil.IOPRIO_CLASS_IDLE if hasattr(psutil, "IOPRIO_CLASS_IDLE") else psutil.IOPRIO_VERYLOW)
    with contextlib.suppress(AttributeError, OSError):  # elsewhere the end of the connection tells
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def spare_cores() -> int:
    """All cores but one, at least one."""
    return max(1, (os.cpu_count() or 2) - 1)


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
