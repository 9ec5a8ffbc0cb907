"""`convert` on the command line: what it prints, and that Ctrl-C loses nothing."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.commands import convert as command
from engine.errors import EngineError
from engine.store import Store

ROOT = Path(__file__).resolve().parents[2]


def parse(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return parser.parse_args(["convert", *map(str, words)])


def test_json_is_one_object_on_stdout(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = parse(model, tmp_path / "store", "--bits", "8,4", "--quantizer", "channel", "--verify", "--json")
    assert args.run(args) == 0
    out, err = capsys.readouterr()
    about = json.loads(out)
    store = Store.open(tmp_path / "store")
    assert about["bits"] == [4, 8] == list(store.widths) and about["quantizer"] == store.quantizer == "channel"
    assert about["record_bytes"] == {"4": store.record_bytes(4), "8": store.record_bytes(8)}
    assert "Converting experts: 0.0 of" in err and "Verifying" in err


def test_unusable_input_is_an_engine_error(model: Path, tmp_path: Path) -> None:
    for words in ((tmp_path / "nowhere", tmp_path / "store"), (model, tmp_path / "store", "--bits", "four")):
        args = parse(*words)
        with pytest.raises(EngineError):
            args.run(args)


def test_the_command_is_declared_without_torch() -> None:
    code = "import sys, app.commands.convert; sys.exit('torch' in sys.modules or 'PySide6' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_cleanly_and_the_next_run_continues(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = f"""
import argparse, os, signal, sys
from app.commands import convert as command
from engine.store import partial
real = partial.Partial.append
def interrupted(self, records):
    real(self, records)
    if self.done == 5:
        os.kill(os.getpid(), {int(signal.SIGINT)})
partial.Partial.append = interrupted
parser = argparse.ArgumentParser()
command.add_parser(parser.add_subparsers())
args = parser.parse_args(sys.argv[1:])
sys.exit(args.run(args))
"""
    words = ["convert", str(model), str(tmp_path / "store"), "--bits", "4"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert "continues where it was" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()

    args = parse(model, tmp_path / "store", "--bits", "4")
    assert args.run(args) == 0
    err = capsys.readouterr().err
    size = Store.open(tmp_path / "store").record_bytes(4)
    assert f"experts: {5 * size / 1e6:,.1f} of {16 * size / 1e6:,.1f} MB" in err
