"""What recording costs, for a model of 48 layers × 128 experts (about 600 spans a token).

Targets: a batch of 2,000 rows under 1 ms; in a reopened session of a million spans, the spans of 20 tokens in under 5 ms.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.events import ACCESS, RESIDENCY, SPAN, TABLES, Batch, Notice
from engine.recording import journal
from engine.recording.history import ExpertHistory
from engine.recording.recording import Recording
from engine.recording.statistics import summarize
from tests.factory import make_messages

LAYERS, EXPERTS, TOP_K, SPANS = 48, 128, 4, 1_000_000
SPANS_A_SECOND = 30_000


def session() -> tuple[list[Notice], Batch, int, int]:
    """The messages that begin a session, one batch of a few decode tokens, its duration in ns and its tokens."""
    messages = list(make_messages(LAYERS, EXPERTS, TOP_K, tokens=10))
    batches = [message for message in messages if isinstance(message, Batch)]
    start = [message for message in messages if not isinstance(message, Batch)][:3]
    batch = batches[1]
    tokens = np.frombuffer(batch.tables["tokens"], TABLES["tokens"])
    return start, batch, int(tokens["start"][-1] + tokens["duration"][-1] - tokens["start"][0]), len(tokens)


def later(batch: Batch, by: int, rows: int) -> Batch:
    """The same batch ``by`` ns and ``rows`` tokens later."""
    tables = {}
    for name, data in batch.tables.items():
        array = np.frombuffer(data, TABLES[name]).copy()
        array["time" if "time" in (array.dtype.names or ()) else "start"] += by
        if "token" in (array.dtype.names or ()):
            array["token"] += rows
        tables[name] = array.tobytes()
    return Batch(tables=tables, pieces=batch.pieces)


def times(work: Callable[[int], object], count: int) -> np.ndarray:
    """Milliseconds of each of ``count`` calls."""
    spent = np.empty(count)
    for number in range(count):
        start = time.perf_counter()
        work(number)
        spent[number] = (time.perf_counter() - start) * 1e3
    return spent


def append_cost(folder: Path) -> None:
    """30 batches a second of 2,000 rows, written to a file once a second."""
    start, batch, _, _ = session()
    thin = {"spans": SPAN, "accesses": ACCESS, "residency": RESIDENCY}
    share = 2000 / sum(len(batch.tables[name]) // dtype.itemsize for name, dtype in thin.items())
    tables = dict(batch.tables)
    for name, dtype in thin.items():
        array = np.frombuffer(batch.tables[name], dtype)
        tables[name] = np.resize(array, int(len(array) * share)).tobytes()
    batch = Batch(tables=tables, pieces=batch.pieces)
    journal.FLUSH_SECONDS = 1e9
    recording = Recording(path=folder / "append.edgemoe")
    for message in start:
        recording.append(message)

    def one(number: int) -> None:
        recording.append(batch)
        if number % 30 == 29:
            recording.flush()

    spent = times(one, 900)
    flushed = spent[29::30]
    print(f"append 2,000 rows: mean {spent.mean():.3f} ms, median {np.median(spent):.3f}, p99 {np.percentile(spent, 99):.3f}, "
          f"with a flush of 60,000 rows: median {np.median(flushed):.2f}, longest {flushed.max():.2f}")  # fmt: skip
    print(f"share of one core at 30 batches a second: {spent.mean() * 30 / 10:.2f} %")
    recording.close()


def reopening(folder: Path) -> None:
    """A million spans, flushed once a second of session time."""
    start, batch, step, rows = session()
    path = folder / "million.edgemoe"
    recording = Recording(path=path)
    for message in start:
        recording.append(message)
    number = 0
    while len(recording.spans) < SPANS:
        recording.append(later(batch, number * step, number * rows))
        number += 1
        if number % max(1, SPANS_A_SECOND // (len(batch.tables["spans"]) // SPAN.itemsize)) == 0:
            recording.flush()
    recording.close()
    before = resident()
    begin = time.perf_counter()
    again = Recording.open(path)
    seconds = time.perf_counter() - begin
    print(f"reopen {len(again.spans):,} spans, {len(again.accesses):,} accesses, {len(again.tokens):,} tokens "
          f"({path.stat().st_size / 1e6:.0f} MB): {seconds * 1e3:.0f} ms, {(resident() - before) / 1e6:.0f} MB more memory")  # fmt: skip
    starts, ends = again.tokens.column("start"), again.tokens.column("start") + again.tokens.column("duration")
    order = np.random.default_rng(0).permutation(len(starts) - 20)[:200]
    found = [0]

    def window(index: int) -> None:
        first = int(order[index])
        found[0] += len(again.spans.between(int(starts[first]), int(ends[first + 19])))

    cold = times(window, len(order))
    warm = times(lambda _: window(0), 50)
    print(f"between, 20 tokens ({found[0] // 250:,} spans): anywhere median {np.median(cold):.2f} ms, p99 {np.percentile(cold, 99):.2f}; "
          f"the same again {np.median(warm):.2f}")  # fmt: skip
    print(f"one column of all spans: {np.median(times(lambda _: again.spans.column('duration'), 5)):.1f} ms")
    used = int(again.grid.uses.argmax())
    history, follow = ExpertHistory(again, *divmod(used, EXPERTS)), 1 << 16
    steps = times(lambda _: history.follow(follow), 5)
    history.follow()
    whole = times(lambda _: ExpertHistory(again, *divmod(used, EXPERTS)).follow(), 5)
    known = [times(lambda _, work=work: work(), 5) for work in (history.follow, history.account, history.events)]
    print(f"history of the busiest expert: {np.median(whole):.1f} ms, in steps of {follow:,} rows {np.median(steps):.1f}; "
          "then nothing new {:.3f}, account {:.2f}, events {:.2f}".format(*np.median(known, axis=1)))  # fmt: skip
    print(f"summarize all: {np.median(times(lambda _: summarize(again), 20)):.2f} ms")
    print(f"memory after all this: {(resident() - before) / 1e6:.0f} MB more than before reopening")
    again.close()


def resident() -> int:
    import psutil

    return int(psutil.Process(os.getpid()).memory_info().rss)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir="/var/tmp" if os.access("/var/tmp", os.W_OK) else None) as name:
        append_cost(Path(name))
        reopening(Path(name))
