"""Tables of tokens: what comes back is what was recorded."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from engine.errors import EngineError
from engine.events import TOKEN, Batch, Outcome
from engine.recording.exports import export, format_of
from engine.recording.output import part_of
from engine.recording.recording import Recording
from engine.recording.token_table import export_csv, export_parquet, import_csv
from tests.factory import make_recording

AWKWARD = ['"', ",", "\n", "\r\n", "=1+1", "", " naïve 数据 🙂", "a\\nb", "\t", "\0", "\u2028", "'"]


@pytest.fixture
def recording() -> Recording:
    return make_recording()


def with_texts(texts: list[str]) -> Recording:
    rows = np.zeros(len(texts), TOKEN)
    rows["logprob"] = np.linspace(-1, 0, len(texts))
    rows["logprob"][:2] = [np.nan, -np.inf]
    rows["resident_bytes"] = np.iinfo(np.int64).max
    recording = Recording()
    recording.append(Batch({"tokens": rows.tobytes()}, texts))
    return recording


def test_what_is_imported_equals_the_recording(recording: Recording, tmp_path: Path) -> None:
    assert export_csv(recording, tmp_path / "run.csv") == 50
    rows, texts = import_csv(tmp_path / "run.csv")
    tokens = recording.tokens.rows()
    assert texts == recording.pieces
    assert rows.dtype == TOKEN
    for name in TOKEN.names or ():
        assert np.array_equal(rows[name], tokens[name]), name
    spans = recording.spans.rows()
    assert rows["demand_bytes"].sum() == spans["bytes"].sum() > 0
    outcomes = recording.accesses.column("outcome")
    for name in ("first_touch", "capacity"):
        assert rows[name].sum() == (outcomes == Outcome[name.upper()]).sum() > 0
    assert rows["hits"].sum() == recording.grid.hits.sum()


def test_awkward_texts_and_numbers_come_back(tmp_path: Path) -> None:
    recording = with_texts(AWKWARD)
    export_csv(recording, tmp_path / "run.csv")
    rows, texts = import_csv(tmp_path / "run.csv")
    assert texts == AWKWARD
    assert rows.tobytes() == recording.tokens.rows().tobytes()


def test_the_header_names_units_and_a_line_is_a_token(recording: Recording, tmp_path: Path) -> None:
    export_csv(recording, tmp_path / "run.csv")
    assert len((tmp_path / "run.csv").read_text(encoding="utf-8").split("\n")) == 1 + 50 + 1
    with (tmp_path / "run.csv").open(encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["token"], first["text_json"], first["phase"]) == ("0", '" the"', "prefill")
    assert int(first["duration_ns"]) == recording.tokens.column("duration")[0]
    assert int(first["resident_4bit_bytes"]) == recording.tokens.column("resident_4")[0]
    assert {"stall_ns", "demand_bytes", "average_bits", "logprob_nats", "kv_bytes"} < set(first)


def test_parquet_holds_the_same(recording: Recording, tmp_path: Path) -> None:
    assert export_parquet(recording, tmp_path / "run.parquet") == 50
    table = pyarrow.parquet.read_table(tmp_path / "run.parquet")
    assert table["text"].to_pylist() == recording.pieces
    assert table["stall_ns"].to_pylist() == recording.tokens.column("stall").tolist()


def test_tables_from_before_a_column_was_are_read(recording: Recording, tmp_path: Path) -> None:
    export_csv(recording, tmp_path / "run.csv")
    with (tmp_path / "run.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    for gone, readable in ((("preloaded",), True), (("preloaded", "hits"), False)):
        with (tmp_path / "old.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [name for name in lines[0] if name not in gone], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(lines)
        if not readable:
            with pytest.raises(EngineError, match="it has no column hits"):
                import_csv(tmp_path / "old.csv")
            continue
        rows, texts = import_csv(tmp_path / "old.csv")
        wanted = recording.tokens.rows()
        wanted["preloaded"] = 0
        assert rows.tobytes() == wanted.tobytes() and texts == recording.pieces


def test_an_empty_recording_gives_a_header(tmp_path: Path) -> None:
    assert export_csv(Recording(), tmp_path / "run.csv") == 0
    rows, texts = import_csv(tmp_path / "run.csv")
    assert (len(rows), texts) == (0, [])


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x00\xff\xfe", b"token,text_json\n0,x\n"])
def test_foreign_tables_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "foreign.csv").write_bytes(content)
    with pytest.raises(EngineError, match="no table of tokens") as refused:
        import_csv(tmp_path / "foreign.csv")
    assert "\n" not in str(refused.value)
    with pytest.raises(EngineError, match="cannot be opened: No such file"):
        import_csv(tmp_path / "missing.csv")


@pytest.mark.parametrize("name", ["run.csv", "run.parquet"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_one_line(name: str, recording: Recording, tmp_path: Path) -> None:
    part_of(tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(EngineError, match=rf"{name} cannot be written \(No space left on device\); choose another place"):
        export(recording, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_name_says_the_format(recording: Recording, tmp_path: Path) -> None:
    for name, unit in (("a.json.gz", "events"), ("a.JSON", "events"), ("a.csv", "rows"), ("a.Parquet", "rows")):
        assert format_of(tmp_path / name).unit == unit
        assert export(recording, tmp_path / name) > 0
    assert (tmp_path / "a.JSON").read_bytes()[:1] == b"{"
    assert (tmp_path / "a.json.gz").read_bytes()[:2] == b"\x1f\x8b"
    for name in ("a.txt", "a", "a.gz", "a.csv.bak"):
        with pytest.raises(EngineError, match=r"says no format.*\.json\.gz"):
            format_of(tmp_path / name)


def test_a_session_is_never_replaced_by_its_export(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    recording = make_recording(tokens=4, path=path)
    with pytest.raises(EngineError, match="the session itself"):
        export(recording, path)
    recording.close()
    assert len(Recording.open(path).tokens) == 4
