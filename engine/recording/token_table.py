"""One row a token, for spreadsheets and data frames: CSV and Parquet.

Columns are those of ``engine.events.TOKEN`` with their units in the name; ``token`` is the row in the recording. In CSV the text
is a JSON string, ``"\\n"``: one line a token, blanks to be seen, and nothing that a spreadsheet takes for a formula.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from engine.errors import EngineError
from engine.events import TOKEN, WIDTHS, Phase
from engine.recording.chrome import Report
from engine.recording.output import whole_file
from engine.recording.recording import Recording

_NANOSECONDS = ("start", "duration", "attention", "router", "compute", "stall", "head", "sampling", "framework", "io")
_UNITS = {name: f"{name}_ns" for name in _NANOSECONDS} | {"logprob": "logprob_nats"}
_UNITS |= {f"resident_{bits}": f"resident_{bits}bit_bytes" for bits in WIDTHS}
HEADERS: dict[str, str] = {name: _UNITS.get(name, name) for name in TOKEN.names or ()}
"""Columns by their name in ``TOKEN``."""
LATER = ("preloaded",)
"""Columns that older tables do not have. Nothing was read ahead then: they are 0."""
_PHASES = np.array([phase.name.lower() for phase in Phase])


def export_csv(recording: Recording, path: Path, report: Report | None = None) -> int:
    """Write the passes as CSV with a header; returns the number of rows.

    Raises:
        EngineError: it cannot be written.
    """
    table = _table(recording)
    quoted = [json.dumps(text, ensure_ascii=False) for text in table["text"].to_pylist()]
    table = table.set_column(table.column_names.index("text"), "text_json", pa.array(quoted, pa.string()))
    with whole_file(path) as file:
        pa.csv.write_csv(table, file)
    return int(table.num_rows)


def export_parquet(recording: Recording, path: Path, report: Report | None = None) -> int:
    """Write the passes as Parquet; returns the number of rows.

    Raises:
        EngineError: it cannot be written.
    """
    table = _table(recording)
    with whole_file(path) as file:
        pa.parquet.write_table(table, file)
    return int(table.num_rows)


def import_csv(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read what ``export_csv`` wrote, also before the columns ``LATER`` were: rows [n] of ``TOKEN`` and their texts, exactly as recorded.

    Raises:
        EngineError: there is no such file, or it is no such table.
    """
    types = {header: pa.from_numpy_dtype(TOKEN[name]) for name, header in HEADERS.items()}
    types |= {HEADERS["phase"]: pa.string(), "text_json": pa.string()}
    options = pa.csv.ConvertOptions(column_types=types)
    try:
        with path.open("rb") as file:
            table = pa.csv.read_csv(file, convert_options=options)
        rows = np.zeros(table.num_rows, TOKEN)
        for name, header in HEADERS.items():
            if header not in table.column_names:
                if name in LATER:
                    continue
                raise ValueError(f"it has no column {header}")
            values = table[header]
            rows[name] = [Phase[text.upper()] for text in values.to_pylist()] if name == "phase" else values.to_numpy()
        return rows, [json.loads(text) for text in table["text_json"].to_pylist()]
    except OSError as error:
        raise EngineError(f"{path} cannot be opened: {error.strerror or error}") from None
    except (pa.ArrowException, KeyError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise EngineError(f"{path} is no table of tokens as Export CSV writes them ({reason})") from None


def _table(recording: Recording) -> pa.Table:
    count = min(len(recording.tokens), len(recording.pieces))
    columns: dict[str, object] = {"token": np.arange(count), "text": pa.array(recording.pieces[:count], pa.string())}
    for name, header in HEADERS.items():
        values = recording.tokens.column(name, 0, count)
        columns[header] = _PHASES[values] if name == "phase" else values
    return pa.table(columns)
