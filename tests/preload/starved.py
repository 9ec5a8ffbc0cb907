"""Run by test_loader.py in a process of its own: a session where the system refuses another thread.

No room in the address space for a thread's stack is what refuses it: a limit on processes would not hold for root.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import EngineError
from engine.preload.loader import Loader
from engine.session import Session
from engine.store import Store
from tests.session.conftest import generate

SLACK = 2 << 20  # bytes: less than a thread's stack


@contextmanager
def starved() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SLACK, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def threads() -> int:
    return sum(task.read_text() == "expert-io\n" for task in Path("/proc/self/task").glob("*/comm"))


def main(folder: str) -> None:
    store, refusals = Store.open(Path(folder)), []
    session = Session(store, {"temperature": 0.0, "ignore_eos": True, "max_tokens": 6, "io_threads": 2, "compute_threads": 1})
    before = generate(session)
    with starved():
        for setting, value in (("io_threads", 16), ("compute_threads", 8)):
            try:
                session.change(setting, value)
            except EngineError as error:
                refusals.append(str(error))
        left, kept = threads(), [session.values["io_threads"], session.values["compute_threads"]]
        try:
            Loader(store, 16)
        except EngineError as error:
            refusals.append(str(error))
    after = generate(session)
    session.change("io_threads", 16)
    told = {"refusals": refusals, "left": left, "kept": kept, "same": before == after, "again": threads()}
    session.close()
    print(json.dumps(told | {"closed": threads()}))


if __name__ == "__main__":
    main(sys.argv[1])
