"""`export` and `perplexity` as typed: what they print, their exit status, and one line where the input is unusable."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import main
from app.demo import PROJECT
from app.headless import FIGURES
from engine.events import BYTES_READ, Outcome, Phase
from engine.recording.exports import export
from engine.recording.output import part_of
from engine.recording.recording import Recording
from engine.recording.statistics import summarize
from engine.recording.token_table import import_csv
from engine.store import Store
from tests.factory import make_recording

TEXT = "Once upon a time\n\f\nthere was a naïve model"


@pytest.fixture
def session(tmp_path: Path) -> Path:
    recording = make_recording(path=tmp_path / "run.edgemoe")
    recording.close()
    return tmp_path / "run.edgemoe"


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "unit"), [("t.json.gz", "events"), ("t.json", "events"), ("t.csv", "rows"), ("t.parquet", "rows")])
def test_export_tells_what_it_wrote(name: str, unit: str, session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = session.parent / name
    assert main.main(["export", str(session), str(out), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["path"], about["bytes"]) == (str(out), out.stat().st_size)
    assert about[unit] == 50 if unit == "rows" else about[unit] > 1000
    assert sorted(path.name for path in session.parent.glob("[rt.]*")) == ["run.edgemoe", name]


def test_export_without_json_is_a_sentence_and_shows_progress(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["export", str(session), str(session.parent / "t.json")]) == 0
    out, err = capsys.readouterr()
    assert "events," in out
    assert err.startswith("exporting: ")


def test_export_of_a_torn_session_says_so_and_writes_what_there_is(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session.write_bytes(session.read_bytes()[:-3000])
    assert main.main(["export", str(session), str(session.parent / "t.json"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["events"] > 10
    assert "not written whole" in err


def test_export_refuses_what_it_cannot_use(session: Path, tmp_path: Path, refusal: Callable[..., str]) -> None:
    out = tmp_path / "t.json"
    assert "says no format" in refusal("export", session, tmp_path / "t.xyz")
    assert "cannot be opened: No such file" in refusal("export", tmp_path / "missing", out)
    assert "Is a directory" in refusal("export", tmp_path, out)
    for name, content in (("foreign", b"PK\x03\x04" * 100), ("empty", b""), ("text", b"hello")):
        (tmp_path / name).write_bytes(content)
        assert "is no session" in refusal("export", tmp_path / name, out)
    assert "there is no folder" in refusal("export", session, tmp_path / "missing" / "t.json")
    assert not out.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_export_to_a_full_disk_is_one_line(session: Path, tmp_path: Path, refusal: Callable[..., str]) -> None:
    out = tmp_path / "t.csv"
    part_of(out).symlink_to("/dev/full")
    assert "No space left on device); choose another place" in refusal("export", session, out)
    assert not out.exists()


def test_export_needs_neither_torch_nor_qt(session: Path) -> None:
    code = """
import sys, main
status = main.main(sys.argv[1:])
sys.exit(status or 'torch' in sys.modules or 'PySide6' in sys.modules)
"""
    words = ["export", str(session), str(session.parent / "t.json.gz")]
    assert subprocess.run([sys.executable, "-c", code, *words], cwd=PROJECT, timeout=60, check=False).returncode == 0


# --- convert ----------------------------------------------------------------------------------------------------------


def test_experts_with_outliers_are_converted_by_text_and_run(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, made = tmp_path / "text.txt", tmp_path / "store"
    text.write_text("Once upon a time there was a model. " * 60)
    words = ["--quantizer", "gptq64+outliers", "--bits", "2,4", "--text", str(text), "--tokens", "512", "--json"]
    assert main.main(["convert", str(model), str(made), *words]) == 0
    about, store = json.loads(capsys.readouterr().out), Store.open(made)
    assert (about["quantizer"], about["bits"]) == (store.quantizer, list(store.widths)) == ("gptq64+outliers", [2, 4])
    assert all(store.load(1, 3, bits).up.outliers is not None for bits in store.widths)
    assert main.main(["run", "--model", str(made), "--bits", "2", "--tokens", "5", "--ignore-eos", "true", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["token_ids"]) == 5


# --- run --trace ------------------------------------------------------------------------------------------------------


def test_run_writes_a_trace(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "t.json.gz"
    assert main.main(["run", "--model", str(model), "--tokens", "5", "--predictor", "none", "--trace", str(trace), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    reads = [event for event in events if event.get("cat") == "read"]
    assert sum(event["args"]["bytes"] for event in reads) == report["demand_bytes"] > 0
    assert sum(event["name"] == "decode" for event in events) == 4


def test_report_recording_and_exports_tell_the_same(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session, table, trace = tmp_path / "run.edgemoe", tmp_path / "run.csv", tmp_path / "run.json"
    words = ("--tokens", "24", "--budget", "30%", "--ignore-eos", "true", "--session", str(session), "--trace", str(trace), "--json")
    assert main.main(["run", "--model", str(model), *words]) == 0
    report = json.loads(capsys.readouterr().out)
    recording = Recording.open(session)
    told = summarize(recording)
    for key, name in FIGURES.items():
        if name not in ("peak_rss", "major_faults"):  # the last sample comes after the report
            assert report[key] == getattr(told, name), key
    assert told.peak_rss >= report["peak_rss_bytes"] > 0
    assert (told.tokens, told.decode_tokens) == (24, 23) == (len(report["token_ids"]), len(recording.tokens) - 1)

    export(recording, table)
    rows, _ = import_csv(table)
    decode = rows[rows["phase"] == Phase.DECODE]
    misses = sum(int(rows[cause].sum()) for cause in ("first_touch", "capacity", "mispredicted", "late"))
    assert (report["hits"], report["misses"]) == (rows["hits"].sum(), misses)
    assert report["hit_rate"] == pytest.approx(rows["hits"].sum() / (rows["hits"].sum() + misses))
    assert report["decode_tok_s"] == pytest.approx(len(decode) / (decode["duration"].sum() / 1e9))
    assert report["prefill_s"] == pytest.approx(rows["duration"][rows["phase"] == Phase.PREFILL].sum() / 1e9)
    read = sum(decode[name] for name in BYTES_READ)
    assert told.mb_per_token == pytest.approx(read.mean() / 1e6)
    assert told.average_bits == 4
    for key, column in (("stall_s", "stall"), ("compute_s", "compute"), ("io_s", "io")):
        assert report[key] == pytest.approx(rows[column].sum() / 1e9)
    assert report["budget_bytes"] >= report["peak_resident_bytes"] >= rows["resident_bytes"].max() > 0

    accesses, events = recording.accesses.rows(), json.loads(trace.read_text())["traceEvents"]
    prefill = accesses[accesses["phase"] == Phase.PREFILL]
    assert len(accesses) == report["hits"] + report["misses"]
    assert np.isin(accesses["outcome"], [Outcome.HIT, Outcome.PRELOADED]).sum() == report["hits"]
    places = prefill["layer"].astype(int) * recording.grid.shape[1] + prefill["expert"]
    assert len(np.unique(places)) == len(places), "of a prefill, one access is one expert of the whole pass"
    told_read = report["demand_bytes"] + report["preload_useful_bytes"] + report["preload_wasted_bytes"]
    in_trace = [event["args"]["bytes"] for event in events if event.get("cat", "").startswith("read")]
    # What was read ahead last has been neither used nor dropped.
    assert told_read <= sum(in_trace) <= told_read + 16 * max(in_trace)
    assert sum(event["dur"] for event in events if event.get("cat") == "stall") == pytest.approx(1e6 * report["stall_s"])
    recording.close()


def test_a_run_of_one_token_reports_numbers(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["run", "--model", str(model), "--tokens", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (report["decode_tok_s"], report["decode_s"]) == (0, 0)
    assert report["peak_rss_bytes"] > 1 << 20


def test_run_refuses_a_trace_that_cannot_be_written_before_it_begins(tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert "cannot be written" in refusal("run", "--model", tmp_path, "--trace", tmp_path / "missing" / "t.json.gz")


# --- perplexity -------------------------------------------------------------------------------------------------------


def test_perplexity_prints_one_object(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt.gz"
    text.write_bytes(gzip.compress(TEXT.encode()))
    assert main.main(["perplexity", "--model", str(model), "--text", str(text), "--bits", "8", "--budget", "30%", "--json"]) == 0
    out, err = capsys.readouterr()
    about = json.loads(out)
    assert list(about) == ["tokens", "bytes", "nll_per_token", "perplexity", "bits_per_byte"]
    size = len(TEXT.encode()) - 2  # the newlines around the form feed are not the text's
    assert (about["tokens"], about["bytes"]) == (size - 1 + 3, size)  # a token a byte, and the ends of two documents
    assert about["bits_per_byte"] == pytest.approx(about["nll_per_token"] * about["tokens"] / size / 0.6931471805599453)
    assert "perplexity: " in err
    assert main.main(["perplexity", "--model", str(model), "--text", str(text), "--bits", "8", "--limit", "9"]) == 0
    assert "over 9 tokens (9 bytes)" in capsys.readouterr().out


def test_perplexity_refuses_what_it_cannot_use(model: Path, tmp_path: Path, refusal: Callable[..., str]) -> None:
    text, binary, empty = tmp_path / "text", tmp_path / "binary", tmp_path / "empty"
    text.write_text("hello")
    binary.write_bytes(bytes(range(256)))
    empty.write_text("\n\f \n")
    (tmp_path / "torn.gz").write_bytes(gzip.compress(b"hello world")[:-6])
    assert "cannot be read: No such file" in refusal("perplexity", "--text", tmp_path / "missing")
    assert "cannot be read: Is a directory" in refusal("perplexity", "--text", tmp_path)
    assert "no text in UTF-8" in refusal("perplexity", "--text", binary)
    binary.write_bytes(b"a\0b")
    assert "NUL" in refusal("perplexity", "--text", binary)
    assert "is empty" in refusal("perplexity", "--text", empty)
    assert "no whole gzip file" in refusal("perplexity", "--text", tmp_path / "torn.gz")
    assert "at least 1 token" in refusal("perplexity", "--text", text, "--limit", "0")
    assert "is no folder" in refusal("perplexity", "--text", text, "--model", tmp_path / "missing")


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_perplexity_ends_cleanly_at_ctrl_c(model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello " * 100)
    code = f"""
import os, sys, main
from app import progress
show = progress.Bar.show
def interrupted(self, stage, *rest):
    show(self, stage, *rest)
    if stage == "perplexity":
        os.kill(os.getpid(), {int(signal.SIGINT)})
progress.Bar.show = interrupted
sys.exit(main.main(sys.argv[1:]))
"""
    words = ["perplexity", "--model", str(model), "--text", str(text), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("Stopped.\n") and "Traceback" not in done.stderr
