"""The recording of one session: the same object live, headless and reopened."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.events import (
    TABLES,
    Applied,
    Batch,
    Began,
    Failed,
    Finished,
    Machine,
    ModelInfo,
    Notice,
    Opened,
    Ready,
    State,
)
from engine.recording.grid import ExpertGrid
from engine.recording.table import Table
from engine.settings import Value


class Recording:
    """Every message of a session, in columns. ``revision`` grows with every message; times are ns of session time.

    ``settings`` are those of the first Ready, ``effective`` what holds now; ``pieces[i]`` is the text of row i of ``tokens``.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._tables = {name: Table(name) for name in TABLES}
        self.tokens, self.spans, self.accesses = (self._tables[name] for name in ("tokens", "spans", "accesses"))
        self.residency, self.samples = self._tables["residency"], self._tables["samples"]
        self.model: ModelInfo | None = None
        self.machine: Machine | None = None
        self.version = ""
        self.wall = 0.0
        self.settings: dict[str, Value] = {}
        self.effective: dict[str, Value] = {}
        self.pieces: list[str] = []
        self.changes: list[Applied] = []
        self.requests: list[Began] = []
        self.finished: list[Finished] = []
        self.failures: list[Failed] = []
        self.state = ""
        self.lost = 0
        self.revision = 0
        self.duration = 0
        self.grid = ExpertGrid()
        self.path = path

    def append(self, message: Notice) -> None:
        """Take in one notice of the engine."""
        self.revision += 1
        if isinstance(message, Batch):
            for name, data in message.tables.items():
                self._add(name, np.frombuffer(data, TABLES[name]))
            self.pieces.extend(message.pieces)
            self.lost = message.lost
        else:
            self._note(message)

    def close(self) -> None:
        """Let go of the session file."""

    def _add(self, name: str, rows: np.ndarray) -> None:
        if not len(rows):
            return
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
            case State():
                self.state = message.state
            case Began():
                self.requests.append(message)
            case Applied():
                self.changes.append(message)
                self.effective = {**self.effective, message.name: message.effective}
            case Finished():
                self.finished.append(message)
            case Failed():
                self.failures.append(message)

    def _load(self, message: Ready) -> None:
        model = message.model
        if self.model is None or self.model.model_hash != model.model_hash or self.grid.shape != (model.layers, model.experts):
            self.grid = ExpertGrid(model.layers, model.experts)
        else:
            self.grid.forget_residency()
        if self.model is None:
            self.settings = dict(message.settings)
        self.model, self.effective = model, dict(message.effective)
