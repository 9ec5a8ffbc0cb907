"""What of a recording still has to reach its session file, and when it gets there."""

from __future__ import annotations

import time
from pathlib import Path

from engine.errors import EngineError
from engine.events import Batch, Failed, Finished, Notice, Progress, Ready, encode
from engine.recording import frame as frames
from engine.recording.frame import Frame, Kind
from engine.recording.output import whole_file
from engine.recording.session_file import SessionFile
from engine.recording.table import Table

FLUSH_SECONDS = 1.0
RETRY_SECONDS = 5.0
SPILL_BYTES = 1 << 20  # rows held back from the temporary file of a recording without a path
MOST_BYTES = 64 << 20  # rows kept in memory while the disk refuses them


class Journal:
    """Writes a recording to its session file at most once a second; without a path, to a temporary file to save memory.

    ``trouble`` is one line for the user while the disk refuses; writing is tried again every few seconds.
    """

    def __init__(self, tables: list[Table], path: Path | None = None, file: SessionFile | None = None) -> None:
        self.trouble = ""
        self._tables = tables
        self._file = SessionFile.create(path) if path is not None else file
        self._path = path
        self._messages: list[bytes] = []
        self._pieces: list[str] = []
        self._lost = self._saved_lost = 0
        self._next = time.monotonic() + FLUSH_SECONDS

    @property
    def full(self) -> bool:
        """Whether the disk refuses and memory holds as much as it may."""
        return bool(self.trouble) and self._unsaved_bytes() >= MOST_BYTES

    def note(self, message: Notice, lost: int) -> None:
        """Remember a message; the rows of a Batch are in the tables already, ``lost`` is counted by the recording."""
        self._lost = lost
        if isinstance(message, Ready) and self._unsaved_bytes():
            self.flush()  # in a group messages come first, but these rows are of the model before
        if isinstance(message, Batch):
            self._pieces += message.pieces
        elif not isinstance(message, Progress):
            self._messages.append(encode(message))
        if self._due(message):
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet. Never raises: what went wrong is in ``trouble``."""
        self._next = time.monotonic() + (RETRY_SECONDS if self.trouble else FLUSH_SECONDS)
        if self._file is not None and not self._file.writable:
            return
        group, counts = self._group()
        if not group:
            return
        try:
            if self._file is None:
                self._file = SessionFile.create(None)
            offsets = self._file.append(group)
        except (OSError, EngineError) as error:
            self._next = time.monotonic() + RETRY_SECONDS
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.trouble = f"The session cannot be written: {reason}. Recording goes on in memory; free some space or save it elsewhere."
            return
        self.trouble = ""
        self._messages.clear()
        self._pieces.clear()
        self._saved_lost = self._lost
        written = [(frame, offset) for (frame, _), offset in zip(group, offsets, strict=True)]
        position = len(group) - sum(counts)
        for table, count in zip(self._tables, counts, strict=True):
            table.saved(self._file, written[position : position + count])
            position += count

    def save_as(self, path: Path) -> None:
        """Write all there is to another file, which appears whole or not at all.

        Raises:
            EngineError: it cannot be written.
        """
        if self._path is not None and path.exists() and path.samefile(self._path):
            self.flush()  # it is there already; a copy in its place would cut the recording off from its file
            if self.trouble:
                raise EngineError(self.trouble)
            return
        with whole_file(path) as file:
            copy = SessionFile(file, writable=True)
            if self._file is None:
                copy.begin()
            else:
                copy.copy_from(self._file)
            group, _ = self._group()
            if group:
                copy.append(group)

    def close(self) -> None:
        """Write the rest and close the file."""
        if self._path is not None:
            self.flush()
        if self._file is not None:
            self._file.close()

    def _due(self, message: Notice) -> bool:
        now = time.monotonic()
        if self.trouble:
            return now >= self._next
        if self._path is None:
            return self._unsaved_bytes() >= SPILL_BYTES
        # The engine may be gone after these, and nothing more come that would flush.
        return now >= self._next or isinstance(message, Finished | Failed)

    def _unsaved_bytes(self) -> int:
        return sum(table.unsaved_bytes for table in self._tables)

    def _group(self) -> tuple[list[tuple[Frame, bytes]], list[int]]:
        """All that is not written yet, messages first; and how many frames each table has in it."""
        messages = list(self._messages)
        if self._pieces or self._lost != self._saved_lost:
            messages.append(encode(Batch(tables={}, pieces=self._pieces, lost=self._lost)))
        group = [(Frame(Kind.MESSAGE, len(data), frames.checksum(data)), data) for data in messages]
        counts = []
        for table in self._tables:
            rows = table.unsaved()
            counts.append(len(rows))
            group += rows
        return group, counts
