"""The recording of one session: the same object live, headless and reopened."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from engine.events import (
    TABLES,
    WIDTHS,
    Applied,
    Batch,
    Began,
    Beside,
    Budget,
    Failed,
    Filled,
    Finished,
    Machine,
    ModelInfo,
    Notice,
    Opened,
    Ready,
    State,
    decode_notice,
)
from engine.recording.frame import Frame, Kind
from engine.recording.grid import ExpertGrid
from engine.recording.journal import Journal
from engine.recording.session_file import SessionFile
from engine.recording.table import IN_MEMORY, Table
from engine.settings import Value


class Recording:
    """Every message of a session, in columns. ``revision`` grows with every message; times are ns of session time.

    ``settings`` are those of the first Ready, ``effective`` and ``plan`` what holds now; ``pieces[i]`` is the text of row i of ``tokens``.
    ``loaded`` is when the model was loaded, ns; ``reloads`` is when it was loaded again, with an empty buffer, though nothing evicted
    what had been in it. Another model starts these anew: what was told before ``loaded`` is of the one before.
    With a ``path`` the session is written there as it goes, at most once a second; without one, large tables go to a temporary file.

    Raises:
        EngineError: the session file cannot be made.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._tables = {name: Table(name) for name in TABLES}
        self.tokens, self.spans, self.accesses = (self._tables[name] for name in ("tokens", "spans", "accesses"))
        self.residency, self.samples, self.predictions = (self._tables[name] for name in ("residency", "samples", "predictions"))
        self.model: ModelInfo | None = None
        self.machine: Machine | None = None
        self.version = ""
        self.wall = 0.0
        self.settings: dict[str, Value] = {}
        self.effective: dict[str, Value] = {}
        self.budget: Budget | None = None
        self.plan = b""
        self.loaded = 0
        self.reloads: list[int] = []
        self.pieces: list[str] = []
        self.fills: list[Filled] = []
        self.changes: list[Applied] = []
        self.besides: list[Beside] = []
        self.requests: list[Began] = []
        self.finished: list[Finished] = []
        self.failures: list[Failed] = []
        self.state = ""
        self.lost = 0
        self.revision = 0
        self.duration = 0
        self.grid = ExpertGrid()
        self.path = path
        self.damage = ""  # one line about what a reopened file lacks
        self._dropped = 0  # rows that found no room on disk nor in memory
        self._journal = Journal(list(self._tables.values()), path)

    @classmethod
    def open(cls, path: Path | str) -> Recording:
        """Reopen a session file, as far as it was written whole; what is missing is told in ``damage``.

        Raises:
            EngineError: there is no such file, or it is no session.
        """
        recording = cls()
        recording.path = Path(path)
        file = SessionFile.open(recording.path)
        recording._journal = Journal(list(recording._tables.values()), file=file)
        for group in file.groups():
            for frame, offset, payload in group:
                recording._restore(file, frame, offset, payload)
        torn = file.size - file.end
        if torn:
            ends = f"{recording.duration / 1e9:.1f} s"
            recording.damage = f"The last {torn:,} bytes of the session were not written whole; what there is ends at {ends}"
        recording.state = "idle" if recording.state else ""
        recording.revision += 1
        return recording

    @property
    def trouble(self) -> str:
        """One line for the user while the session cannot be written; empty when all is well."""
        return self._journal.trouble

    def append(self, message: Notice) -> None:
        """Take in one notice of the engine. Never raises for a disk that refuses: see ``trouble``."""
        self.revision += 1
        self._take(message)
        self._journal.note(message, self.lost)

    def flush(self) -> None:
        """Write what the session file does not have yet, now."""
        self._journal.flush()

    def save_as(self, path: Path) -> None:
        """Write the whole session to another file (``.edgemoe``), which appears whole or not at all; recording goes on as before.

        Raises:
            EngineError: it cannot be written.
        """
        self._journal.save_as(path)

    def close(self) -> None:
        """Write the rest and let go of the session file; large tables cannot be read afterwards."""
        self._journal.close()

    def _restore(self, file: SessionFile, frame: Frame, offset: int, payload: bytes) -> None:
        """Take in one frame of a session file."""
        if frame.kind == Kind.MESSAGE:
            try:
                self._take(decode_notice(payload))
            except msgspec.MsgspecError:
                self.damage = "Some messages of the session were written by another version and are left out"
        elif frame.kind == Kind.TABLE:
            table = self._tables.get(list(file.schema)[frame.table])
            if table is None:
                return
            table.attach(file, frame, offset, payload)
            self.duration = max(self.duration, frame.last)
            if table.name in ("accesses", "residency"):
                self._cover(table.name, table.decode(frame, payload))

    def _take(self, message: Notice) -> None:
        if isinstance(message, Batch):
            self.lost = message.lost + self._dropped
            for name, data in message.tables.items():
                self._add(name, np.frombuffer(data, TABLES[name]))
            self.pieces.extend(message.pieces)
        else:
            self._note(message)

    def _add(self, name: str, rows: np.ndarray) -> None:
        if not len(rows):
            return
        if name not in IN_MEMORY and self._journal.full:
            self._dropped += len(rows)
            self.lost += len(rows)
        else:
            self._tables[name].append(rows)
        self._cover(name, rows)

    def _cover(self, name: str, rows: np.ndarray) -> None:
        """Keep grid and duration up to date with new rows of a table."""
        if name == "accesses":
            self.grid.use(rows)
        elif name == "residency":
            self.grid.change(rows)
        timed = "duration" in (rows.dtype.names or ())
        end = rows["start"] + rows["duration"] if timed else rows["time"]
        self.duration = max(self.duration, int(end.max()))

    def _note(self, message: Notice) -> None:
        self.duration = max(self.duration, getattr(message, "time", 0))
        match message:
            case Opened():
                self.wall, self.machine, self.version = message.wall, message.machine, message.version
            case Ready():
                self._load(message)
            case Filled():
                self.fills.append(message)
            case State():
                self.state = message.state
            case Began():
                self.requests.append(message)
            case Applied():
                self.changes.append(message)
                self.effective = {**self.effective, message.name: message.effective, "budget": message.budget.granted}
                self.budget = message.budget
                if message.name == "plan":
                    self.plan = message.plan
            case Beside():
                self.besides.append(message)
            case Finished():
                self.finished.append(message)
            case Failed():
                self.failures.append(message)

    def _load(self, message: Ready) -> None:
        model = message.model
        if self.model is None or self.model.model_hash != model.model_hash or self.grid.shape != (model.layers, model.experts):
            self.grid = ExpertGrid(model.layers, model.experts)
            self.loaded, self.reloads = message.time, []
        else:
            self.grid.forget_residency()
            self.reloads.append(message.time)
        if self.model is None:
            self.settings = dict(message.settings)
        self.model, self.effective, self.budget = model, dict(message.effective), message.budget
        self.plan = message.plan

    def wanted(self) -> np.ndarray:
        """The bits at which every expert is loaded now, uint8 [N] by number layer · E + expert; empty without a model."""
        count = self.model.layers * self.model.experts if self.model else 0
        if len(self.plan) == count:
            return np.frombuffer(self.plan, np.uint8)
        bits = self.effective.get("bits", 0)
        return np.full(count, bits if bits in WIDTHS else 0, np.uint8)
