"""What became of the experts that were read ahead: used, joined while they were still being read, or let go.

N reads ahead, from being asked for to being settled; an expert's key is its layer and index in one number.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from enum import IntEnum

import numpy as np

from engine.events import Outcome, Residency, SpanKind
from engine.recording.recording import Recording

CHUNK = 1 << 15  # rows of each table taken in at once, so that a reopened session holds up no frame
SLOTS = 16
PRELOAD = np.dtype([
    ("asked", "<i8"), ("settled", "<i8"), ("start", "<i8"), ("duration", "<i8"), ("token", "<i4"), ("user", "<i4"),
    ("layer", "<i2"), ("expert", "<i2"), ("odds", "<f4"), ("lane", "u1"), ("fate", "u1"),
])  # fmt: skip
"""One read ahead: when it was ``asked`` for, ns, and with what ``odds``; its READ span (``duration`` -1 until it is known) with the
``token`` that it was told in; its ``fate``, when that was ``settled``, and the token that used it (``user``, -1 where none did)."""
_BEFORE = 4096  # that may have been asked for, and not begun, before one begins
_TABLES = ("residency", "accesses", "spans")


class Fate(IntEnum):
    """PENDING: in memory or under way, and not used yet. JOINED: it was used before it was there, and waited for."""

    PENDING = 0
    USED = 1
    JOINED = 2
    WASTED = 3


def settle(preloads: np.ndarray, changes: np.ndarray, uses: np.ndarray) -> np.ndarray:
    """A copy of these rows of PRELOAD, with what rows of ``residency`` and ``accesses`` say of them: the first use after each was asked
    for, or its leaving before one."""
    out = preloads.copy()
    over = changes[(changes["state"] == Residency.ABSENT) | (changes["state"] == Residency.LOADING)]  # loaded anew: a reload forgot it
    used = uses[(uses["outcome"] == Outcome.PRELOADED) | (uses["outcome"] == Outcome.LATE)]
    key, time = (np.concatenate(pair) for pair in ((key_of(over), key_of(used)), (over["time"], used["time"])))
    fate = np.concatenate([np.full(len(over), Fate.WASTED), np.where(used["outcome"] == Outcome.LATE, Fate.JOINED, Fate.USED)])
    user = np.concatenate([np.full(len(over), -1), used["token"]])
    found = _first_after(key_of(out), out["asked"], key, time)
    told = np.flatnonzero((found >= 0) & (out["fate"] == Fate.PENDING))
    for name, values in (("fate", fate), ("settled", time), ("user", user)):
        out[name][told] = values[found[told]]
    return out


def key_of(rows: np.ndarray) -> np.ndarray:
    """Layer and expert of structured rows in one number, [n]."""
    return rows["layer"].astype(np.int64) << 16 | rows["expert"].astype(np.int64) & 0xFFFF


def _place(start: np.ndarray, lane: np.ndarray) -> np.ndarray:
    """A number for each read: no lane begins two at once."""
    return np.asarray(start << 8 | lane)


def _first_after(key: np.ndarray, time: np.ndarray, event_key: np.ndarray, event_time: np.ndarray) -> np.ndarray:
    """For each the first event of its key after its time, [N]; -1 where there is none."""
    if not len(event_key):
        return np.full(len(key), -1)
    keys, group = np.unique(event_key, return_inverse=True)
    base = int(event_time.min()) - 1
    width = int(event_time.max()) - base + 1
    order = np.lexsort((event_time, group))
    places = group[order] * width + (event_time[order] - base)
    mine = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    after = np.searchsorted(places, mine * width + np.clip(time - base, 0, width - 1), "right")
    found = order[np.minimum(after, len(order) - 1)]
    return np.where((after < len(order)) & (event_key[found] == key), found, -1)


class Preloads:
    """Every read ahead of a recording, kept up with it. ``time`` [T, SLOTS, len(Fate)] is the ns of those settled, by the token that they
    were told in, the I/O lane and their fate."""

    def __init__(self) -> None:
        self._seen = dict.fromkeys(_TABLES, 0)
        self._rows = np.zeros(256, PRELOAD)
        self._count = 0
        self._open = np.empty(0, np.int64)  # places of those not settled, or whose span is not known
        self.time = np.zeros((256, SLOTS, len(Fate)), np.float32)

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> np.ndarray:
        """All of them, [N] of PRELOAD, in the order in which they were asked for."""
        return self._rows[: self._count]

    def catch_up(self, recording: Recording) -> bool:
        """Take in what is new, at most CHUNK rows of each table; False while there is more."""
        tables = {name: getattr(recording, name) for name in _TABLES}
        if any(len(table) > self._seen[name] for name, table in tables.items()):
            parts = _in_step({name: table.rows(self._seen[name], self._seen[name] + CHUNK) for name, table in tables.items()},
                             {name: self._seen[name] + CHUNK >= len(table) for name, table in tables.items()})  # fmt: skip
            for name, part in parts.items():
                self._seen[name] += len(part)
            self._take(parts["residency"], parts["accesses"], parts["spans"])
        return all(self._seen[name] == len(table) for name, table in tables.items())

    def find(self, spans: np.ndarray) -> np.ndarray:
        """The place among ``rows`` of each of these spans, [n]; -1 where it is no read ahead, or not known yet."""
        out = np.full(len(spans), -1)
        ahead = np.flatnonzero((spans["kind"] == SpanKind.READ) & (spans["outcome"] == Outcome.PRELOADED))
        if len(ahead) and self._count:
            start, lane = spans["start"][ahead], spans["lane"][ahead]
            first, last = int(start.min()), int(start.max())
            low = max(0, bisect_left(self.rows["asked"], first) - _BEFORE)
            rows = self.rows[low : bisect_right(self.rows["asked"], last)]
            near = np.flatnonzero((rows["start"] >= first) & (rows["start"] <= last) & (rows["duration"] >= 0))
            places = _place(rows["start"][near] - first, rows["lane"][near])
            order = np.argsort(places)
            mine = _place(start - first, lane)
            at = np.minimum(np.searchsorted(places, mine, sorter=order), len(order) - 1)
            if len(order):
                out[ahead] = np.where(places[order[at]] == mine, low + near[order[at]], -1)
        return out

    def _take(self, changes: np.ndarray, uses: np.ndarray, spans: np.ndarray) -> None:
        self._begin(changes[(changes["state"] == Residency.LOADING) & (changes["score"] > 0)])
        if not len(self._open):
            return
        gone = self._rows["fate"][self._open] == Fate.WASTED  # already before: its span would be here if its read had begun
        mine = settle(self._rows[self._open], changes, uses)
        reads = spans[(spans["kind"] == SpanKind.READ) & (spans["outcome"] == Outcome.PRELOADED)]
        found = _first_after(key_of(mine), mine["asked"] - 1, key_of(reads), reads["start"])
        before = (mine["fate"] != Fate.WASTED) | (reads["start"][found] < mine["settled"] if len(reads) else False)
        landed = np.flatnonzero((found >= 0) & (mine["duration"] < 0) & before)
        for name in ("start", "duration", "token", "lane"):
            mine[name][landed] = reads[name][found[landed]]
        self._rows[self._open] = mine
        done = (mine["fate"] != Fate.PENDING) & (mine["duration"] >= 0)
        self._sum(mine[done])
        self._open = self._open[~done & ~(gone & (mine["duration"] < 0))]

    def _begin(self, asked: np.ndarray) -> None:
        first, self._count = self._count, self._count + len(asked)
        if self._count > len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros(max(self._count, len(self._rows)), PRELOAD)])
        new = self._rows[first : self._count]
        new["asked"], new["odds"], new["duration"], new["user"] = asked["time"], asked["score"], -1, -1
        for name in ("layer", "expert"):
            new[name] = asked[name]
        self._open = np.concatenate([self._open, np.arange(first, self._count)])

    def _sum(self, done: np.ndarray) -> None:
        done = done[(done["token"] >= 0) & (done["lane"] > 0)]
        if len(done):
            last = int(done["token"].max()) + 1
            if last > len(self.time):
                self.time = np.concatenate([self.time, np.zeros((max(last, len(self.time)), *self.time.shape[1:]), np.float32)])
            place = done["token"], np.minimum(done["lane"], SLOTS) - 1, done["fate"]
            np.add.at(self.time, place, done["duration"])


def _in_step(parts: dict[str, np.ndarray], ended: dict[str, bool]) -> dict[str, np.ndarray]:
    """The parts cut where the shortest of them ends, so that nothing is judged by one table alone. Spans are told when they end."""
    ends = {name: part["start"] + part["duration"] if name == "spans" else part["time"] for name, part in parts.items()}
    last = {name: int(end[-1]) for name, end in ends.items() if len(end) and not ended[name]}
    if not last:
        return parts
    shortest = min(last, key=lambda name: last[name])
    return {name: part if name == shortest else part[: int(np.searchsorted(ends[name], last[shortest], "right"))]
            for name, part in parts.items()}  # fmt: skip
