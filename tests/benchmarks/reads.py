"""No free ride: what the engine says it read, on demand and at the start, is what the kernel fetched, and no page of the store is cached.

Exit status 1 where the two differ by more than 2%, or a page of the experts' files is in the page cache after a run.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from pathlib import Path

import numpy as np
from _demo import demo_model_path, demo_store, generate, open_session

from engine.events import SPAN, TOKEN, Batch, Filled, Outcome, SpanKind
from engine.monitor import kernel_read_bytes
from engine.residency.usage import Usage
from engine.store.format import experts_file
from engine.warm import fill

TOKENS = 200
RUNS = ((2, "25%", 4), (4, "10%", 4), (4, "25%", 1), (8, "25%", 4), (16, "50%", 4))  # bits, budget, I/O threads


def main() -> int:
    store, wrong = demo_store(), 0
    usage = Usage.open(store, demo_model_path())
    files = [store.path / experts_file(bits) for bits in store.widths]
    generate(open_session(store, max_tokens=8))  # what Python imports only now is read before the count begins
    for bits, budget, threads in RUNS:
        notices: list[object] = []
        session = open_session(store, notices.append, bits=bits, budget=budget, io_threads=threads, max_tokens=TOKENS)
        before = kernel_read_bytes()
        fill(session, usage, lambda done, total: None)
        generate(session)
        by_kernel = kernel_read_bytes() - before
        session.close()
        tables = [notice.tables for notice in notices if isinstance(notice, Batch)]
        demand = int(sum(np.frombuffer(t.get("tokens", b""), TOKEN)["demand_bytes"].sum() for t in tables))
        spans = np.concatenate([np.frombuffer(t.get("spans", b""), SPAN) for t in tables])
        reads = spans[spans["kind"] == SpanKind.READ]
        filled = sum(notice.bytes for notice in notices if isinstance(notice, Filled))
        ahead = int(reads["bytes"][reads["outcome"] == Outcome.PRELOADED].sum())
        off = by_kernel / (demand + ahead + filled) - 1
        pages = sum(map(cached_pages, files))
        wrong += abs(off) > 0.02 or demand + ahead + filled != reads["bytes"].sum() or pages > 0
        print(f"{bits:>2} bits, budget {budget}, {threads} threads, direct {session.loader.direct}: "
              f"{demand / 1e6:6.1f} MB on demand, {ahead / 1e6:6.1f} ahead, {filled / 1e6:4.1f} at the start by the engine, "
              f"{by_kernel / 1e6:6.1f} MB by the kernel ({off:+.2%}); {pages} pages of the store cached")  # fmt: skip
    return 1 if wrong else 0


def cached_pages(file: Path) -> int:
    """How many pages of ``file`` the page cache holds."""
    size = file.stat().st_size
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
        resident = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), resident):
            raise OSError(ctypes.get_errno(), "mincore")
    return sum(page & 1 for page in resident)


if __name__ == "__main__":
    if os.uname().sysname != "Linux":
        sys.exit("needs Linux's mincore and /proc/self/io")
    sys.exit(main())
