"""What a contender's process tells of its tokens, as it goes: so nothing told is lost when it is killed.

Lines of JSON on the process's own stdout; what libraries print there goes to stderr. Kernel counters are read each time
tokens are told, at most ten times a second, so that asking costs the fast nothing.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

PERIOD = 100_000_000
"""ns between two lines."""


class Meter:
    """In the contender's process: ``ready`` when loaded, ``token`` for each, ``end``."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._pending: list[tuple[int, int]] = []
        self._told = 0

    def ready(self, **about: object) -> None:
        """The model is loaded; the prompt comes next. ``about`` says how it runs."""
        self._tell({"ready": time.perf_counter_ns(), "read": bytes_read(), **about})

    def token(self, identity: int) -> None:
        """A token has come out; -1 where the engine does not say which."""
        now = time.perf_counter_ns()
        self._pending.append((now, identity))
        if now - self._told > PERIOD:
            self._flush()

    def end(self, **about: object) -> None:
        """All tokens have come out."""
        self._flush()
        self._tell({"end": True, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, **about})

    def _flush(self) -> None:
        if self._pending:
            self._tell({"tokens": self._pending, "read": bytes_read()})
            self._pending, self._told = [], time.perf_counter_ns()

    def _tell(self, line: dict[str, object]) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


def bytes_read() -> int:
    """Bytes that storage delivered for this process, by the kernel's count, page faults included; -1 where it does not say."""
    try:
        with open("/proc/self/io", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("read_bytes"))
    except (OSError, StopIteration):
        return -1


def fail(reason: object) -> None:
    """End the process with one line that says why."""
    sys.exit(f"race: {reason}")
