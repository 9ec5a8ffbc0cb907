"""A run without a screen: one session in this process, recorded like any other."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable
from math import isnan
from pathlib import Path
from types import TracebackType
from typing import Any

from app.progress import Bar
from engine import events, machine
from engine.errors import EngineError
from engine.monitor import Monitor
from engine.preload.device import Device
from engine.recording.chrome import export_chrome
from engine.recording.output import check_writable
from engine.recording.recording import Recording
from engine.recording.statistics import summarize
from engine.residency.usage import Usage
from engine.session import Session
from engine.settings import Value
from engine.store import Store, open_or_convert
from engine.warm import STAGE, fill

FIGURES = {
    **{name: name for name in (
        "prefill_s", "decode_s", "decode_tok_s", "hits", "misses", "hit_rate", "demand_bytes", "preload_useful_bytes",
        "preload_wasted_bytes", "stall_s", "compute_s", "io_s", "budget_bytes", "peak_resident_bytes",
    )},
    "peak_rss_bytes": "peak_rss", "major_faults": "major_faults",
}  # fmt: skip
"""Keys of the report, and which of ``Statistics`` they tell."""
_NEWS_PERIOD = 500_000_000
"""ns between two batches: nobody watches, and few large ones cost the token loop less."""


class Headless:
    """Loads on entering, ends threads and files on leaving. ``recording`` holds what happened."""

    def __init__(
        self, model: Path, values: dict[str, Value], devices: dict[str, Device],
        session: Path | None = None, trace: Path | None = None, recording: bool = True,
    ) -> None:  # fmt: skip
        self._model, self._values, self._devices = model, values, devices
        self._session_file, self._trace, self._on = session, trace, recording
        self._usage: Usage | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def __enter__(self) -> Headless:
        for out in filter(None, (self._session_file, self._trace)):
            check_writable(out)
        store = open_store(self._model)
        self.session = Session(store, self._values, self._devices, self._take, self._on, self._model)
        self.session.news_period = _NEWS_PERIOD
        try:  # only now: a run that is refused must not replace an older session
            self.recording = Recording(path=self._session_file)
        except EngineError:
            self.session.close()
            raise
        now = self.session.ledger.now()
        self._take(events.Opened(events.PROTOCOL, machine.VERSION, time.time() - now / 1e9, machine.pid(), machine.describe()))
        self._take(self.session.ready())
        self.monitor = Monitor(self._take, self.session.ledger.now, self._buffer)
        self.monitor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.monitor.stop()
        self.session.close()
        try:
            if kind is None and self._trace:
                with Bar() as bar:
                    export_chrome(self.recording, self._trace, lambda done, total: bar.show("trace", done, total, "spans"))
        finally:
            self.recording.close()
        if kind is None and self._session_file and self.recording.trouble:
            raise EngineError(self.recording.trouble)

    def fill(self) -> None:
        """Begin with the most used experts in memory, with progress on stderr, and count from now on which these are."""
        self._usage = Usage.open(self.session.store, self._model)
        with Bar() as bar:
            fill(self.session, self._usage, lambda done, total: bar.show(STAGE, done, total), lambda: self._stopped)

    def stop(self) -> None:
        """End the filling, or the request after the token under way."""
        self._stopped = True

    def generate(self, prompt: str, show: Callable[[str], None] | None = None) -> dict[str, Any]:
        """Run one request to its end and return the report of design section 6."""
        session = self.session
        request = session.begin(prompt)
        shown = 0
        while session.request is not None:
            if self._stopped:
                session.end("stopped")
                break
            session.step()
            if show:
                show(request.text[shown:])
                shown = len(request.text)
        session.flush()
        self.monitor.sample()
        return self._report(request.text, request.ids[0, request.prompt_length :].tolist())

    def _report(self, text: str, ids: list[int]) -> dict[str, Any]:
        """What the recording sums up to; 0 for what there was none of."""
        told = summarize(self.recording)
        figures = {key: getattr(told, name) for key, name in FIGURES.items()}
        return {
            "text": text, "token_ids": ids, "settings": self.session.effective(),
            **{key: 0 if isnan(value) else value for key, value in figures.items()},
            "warm_bytes": sum(filled.bytes for filled in self.recording.fills), "machine": platform.platform(),
        }  # fmt: skip

    def _take(self, notice: Any) -> None:
        with self._lock:  # the monitor's samples come from its own thread
            self.recording.append(notice)
        if self._usage:
            self._usage.hear(notice)

    def _buffer(self) -> tuple[int, int, int, int]:
        return self.session.buffer_bytes()


def open_store(model: Path) -> Store:
    """The store of a checkpoint or store folder, with progress on stderr where it is converted first.

    Raises:
        EngineError: it is neither, or cannot be converted.
    """
    with Bar() as bar:
        return open_or_convert(model, progress=bar.show_conversion)
