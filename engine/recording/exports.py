"""The ways out of a recording, told apart by the name of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.errors import EngineError
from engine.recording.chrome import Report, export_chrome
from engine.recording.recording import Recording
from engine.recording.token_table import export_csv, export_parquet
from engine.simulate.traces import export_routing

Write = Callable[[Recording, Path, Report | None], int]


class Format(NamedTuple):
    """``write(recording, path, report)`` returns how many of ``unit`` it wrote."""

    suffixes: tuple[str, ...]
    unit: str
    write: Write


FORMATS = (
    Format((".json.gz", ".json"), "events", export_chrome),
    Format((".csv",), "rows", export_csv),
    Format((".npz",), "tokens", export_routing),
    Format((".routing.parquet",), "rows", export_routing),
    Format((".parquet",), "rows", export_parquet),
)


def format_of(path: Path) -> Format:
    """The format that the name of ``path`` asks for.

    Raises:
        EngineError: none has that suffix.
    """
    for format in FORMATS:
        if path.name.lower().endswith(format.suffixes):
            return format
    raise EngineError(
        f"{path.name} says no format: let it end in .json.gz or .json (a trace for Perfetto), .csv or .parquet (a row a token), "
        ".npz or .routing.parquet (which experts were chosen)"
    )


def export(recording: Recording, path: Path, report: Report | None = None) -> int:
    """Write the recording in the format that the name of ``path`` asks for; returns the number of events or rows.

    Raises:
        EngineError: there is no such format, or the file cannot be written.
    """
    format = format_of(path)
    if recording.path is not None and path.exists() and path.samefile(recording.path):
        raise EngineError(f"{path} is the session itself; choose another name for what is made of it")
    return format.write(recording, path, report)
