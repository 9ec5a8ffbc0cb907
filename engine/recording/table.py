"""One table of a recording: columnar, append-only, its older rows in the session file."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from threading import RLock

import numpy as np

from engine.events import TABLES, TIME_COLUMN
from engine.recording import frame as frames
from engine.recording.columns import Columns
from engine.recording.frame import Frame, Kind
from engine.recording.session_file import SessionFile

IN_MEMORY = ("tokens", "samples")  # small, and drawn whole: they stay in memory and are only copied to the file

_PLACE = np.dtype([("row", "<i8"), ("rows", "<i8"), ("offset", "<i8"), ("first", "<i8"), ("last", "<i8")])
_CACHED_SPAN = 8  # frames; a column over more of them is read past the cache


class Table:
    """The rows of one of ``engine.events.TABLES``. Row numbers never change; nothing is ever removed.

    May be read in another thread than the one that appends.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.dtype = TABLES[name]
        self._number = list(TABLES).index(name)
        self._stays = name in IN_MEMORY
        self._places = Columns(_PLACE)  # where spilled rows are
        self._spilled = 0  # rows that are in the file only
        self._tail = Columns(self.dtype)  # the rows after them
        self._saved = 0  # rows of the tail that are in the file too
        self._file: SessionFile | None = None
        self._lock = RLock()

    def __len__(self) -> int:
        return self._spilled + len(self._tail)

    def append(self, rows: np.ndarray) -> None:
        """Add structured rows, [n] of this table's dtype."""
        with self._lock:
            self._tail.append(rows)

    def column(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Values of one column for rows ``start`` to ``stop``, contiguous and read-only; negative counts from the end."""
        with self._lock:
            first, last, _ = slice(start, stop).indices(len(self))
            if first >= self._spilled:
                return self._tail.column(name, first - self._spilled, max(first, last) - self._spilled)
            places = self._between_rows(first, last)
            cached = len(places) <= _CACHED_SPAN
            out = np.empty(max(0, last - first), self.dtype[name])
            for place in places:
                low, high = max(first, place["row"]), min(last, place["row"] + place["rows"])
                picked = slice(low - place["row"], high - place["row"])
                self._fill_column(out[low - first : high - first], name, place, picked, cached)
            rest = max(0, last - self._spilled)
            if rest:
                out[len(out) - rest :] = self._tail.column(name, 0, rest)
            out.flags.writeable = False
            return out

    def rows(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Structured rows ``start`` to ``stop`` (a copy); negative counts from the end."""
        with self._lock:
            first, last, _ = slice(start, stop).indices(len(self))
            out = np.empty(max(0, last - first), self.dtype)
            for place in self._between_rows(first, last):
                low, high = max(first, place["row"]), min(last, place["row"] + place["rows"])
                columns = self._columns(place)
                for name in self.dtype.names or ():
                    out[name][low - first : high - first] = columns[name][low - place["row"] : high - place["row"]]
            if last > self._spilled:
                low = max(first, self._spilled)
                self._tail.fill(out, low - first, slice(low - self._spilled, last - self._spilled))
            return out

    def search(self, name: str, value: int) -> int:
        """The first row whose ``name`` is not below ``value``, in a column that grows; a few probes, so that no long column is read."""
        return bisect_left(range(len(self)), value, key=lambda row: int(self.column(name, row, row + 1)[0]))

    def between(self, t0: int, t1: int) -> np.ndarray:
        """Structured rows that overlap [t0, t1] ns: by start and duration where the table has them, else by time."""
        with self._lock:
            found = list(self._overlapping(t0, t1))
            out = np.empty(sum(len(picked) for _, picked in found), self.dtype)
            position = 0
            for columns, picked in found:
                for name in self.dtype.names or ():
                    out[name][position : position + len(picked)] = columns[name][picked]
                position += len(picked)
            return out

    # --- the session file ---------------------------------------------------------------------------------------------

    @property
    def unsaved_bytes(self) -> int:
        """Bytes of the rows that are in memory only."""
        return (len(self._tail) - self._saved) * self.dtype.itemsize

    def unsaved(self) -> list[tuple[Frame, bytes]]:
        """The rows that are in memory only, as frames."""
        stop, step = len(self._tail), frames.MAX_ROWS
        return [self._frame(start, min(start + step, stop)) for start in range(self._saved, stop, step)]

    def saved(self, file: SessionFile, written: list[tuple[Frame, int]]) -> None:
        """All of ``unsaved`` was written to ``file``, at these offsets: large tables let go of the rows."""
        with self._lock:
            self._file = file
            self._saved = len(self._tail)
            if not self._stays:
                self._spill(written)
                self._tail.clear()
                self._saved = 0

    def attach(self, file: SessionFile, frame: Frame, offset: int, payload: bytes) -> None:
        """Take over a frame of a reopened file; ``payload`` is what stands at ``offset``."""
        with self._lock:
            self._file = file
            if self._stays:
                self._tail.append(self.decode(frame, payload))
                self._saved = len(self._tail)
            else:
                self._spill([(frame, offset)])

    def decode(self, frame: Frame, payload: bytes) -> np.ndarray:
        """The structured rows of a frame of the reopened file."""
        assert self._file is not None
        columns = self._adapted(np.frombuffer(payload, np.uint8), frame.rows, self._file)
        out = np.empty(frame.rows, self.dtype)
        for name in self.dtype.names or ():
            out[name] = columns[name]
        return out

    def _spill(self, written: list[tuple[Frame, int]]) -> None:
        for frame, offset in written:
            self._places.append(np.array([(self._spilled, frame.rows, offset, frame.first, frame.last)], _PLACE))
            self._spilled += frame.rows

    def _frame(self, start: int, stop: int) -> tuple[Frame, bytes]:
        offsets, length = frames.layout(self.dtype, stop - start)
        payload = bytearray(length)
        for name, offset in offsets.items():
            values = self._tail.column(name, start, stop)
            payload[offset : offset + values.nbytes] = values.data.cast("B")
        begin, end = self._times({name: self._tail.column(name, start, stop) for name in ("start", "time", "duration") if name in offsets})
        data = bytes(payload)
        return Frame(Kind.TABLE, length, frames.checksum(data), self._number, stop - start, int(begin.min()), int(end.max())), data

    # --- reading ------------------------------------------------------------------------------------------------------

    def _times(self, columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        begin = columns[TIME_COLUMN[self.name]]
        return begin, begin + columns["duration"] if "duration" in columns else begin

    def _overlapping(self, t0: int, t1: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        places = self._places
        near = np.flatnonzero((places.column("first") <= t1) & (places.column("last") >= t0))
        for index in near.tolist():
            columns = self._columns(_place(places, index))
            begin, end = self._times(columns)
            yield columns, np.flatnonzero((begin <= t1) & (end >= t0))
        if len(self._tail):
            columns = {name: self._tail.column(name) for name in self.dtype.names or ()}
            begin, end = self._times(columns)
            yield columns, np.flatnonzero((begin <= t1) & (end >= t0))

    def _between_rows(self, first: int, last: int) -> list[dict[str, int]]:
        """Where the spilled rows ``first`` to ``last`` are."""
        starts = self._places.column("row")
        low = max(0, int(np.searchsorted(starts, first, side="right")) - 1)
        high = int(np.searchsorted(starts, min(last, self._spilled), side="left"))
        return [_place(self._places, index) for index in range(low, high)] if first < min(last, self._spilled) else []

    def _columns(self, place: dict[str, int]) -> dict[str, np.ndarray]:
        assert self._file is not None
        _, length = frames.layout(self._written_dtype(self._file), place["rows"])
        return self._adapted(self._file.payload(place["offset"], length), place["rows"], self._file)

    def _fill_column(self, out: np.ndarray, name: str, place: dict[str, int], picked: slice, cached: bool) -> None:
        assert self._file is not None
        written = self._written_dtype(self._file)
        if cached or name not in (written.names or ()) or written[name] != self.dtype[name]:
            out[:] = self._columns(place)[name][picked]
            return
        offsets, _ = frames.layout(written, place["rows"])
        self._file.read_into(out, place["offset"] + offsets[name] + picked.start * out.itemsize)

    def _written_dtype(self, file: SessionFile) -> np.dtype:
        return file.schema.get(self.name, self.dtype)

    def _adapted(self, payload: np.ndarray, rows: int, file: SessionFile) -> dict[str, np.ndarray]:
        """The columns of this version from those written, perhaps by another: new ones are 0, unknown ones left out."""
        written = frames.columns_of(payload, self._written_dtype(file), rows)
        return {name: written[name] if name in written else np.zeros(rows, self.dtype[name]) for name in self.dtype.names or ()}


def _place(places: Columns, index: int) -> dict[str, int]:
    return {name: int(places.column(name)[index]) for name in _PLACE.names or ()}
