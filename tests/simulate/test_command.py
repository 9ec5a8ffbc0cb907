"""`main.py simulate`: its keys, its table, and one line where something cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.simulate.traces import write_routing
from main import main
from tests.simulate.test_replay import routing

KEYS = {
    "budget", "eviction", "predictor", "hit_rate", "misses_first_touch", "misses_capacity", "misses_mispredicted", "misses_late",
    "recall_at_k", "misses_covered", "useful_bytes", "wasted_bytes", "mb_per_token", "tok_s",
}  # fmt: skip


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    write_routing(routing(90), tmp_path / "trace.npz")
    return tmp_path / "trace.npz"


def test_rows_have_the_keys_that_others_read(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--routing", str(trace), "--train", str(trace), "--budget", "30%,12MiB", "--eviction", "lru,default,oracle",
                 "--predictor", "none,path,transition,oracle", "--json"]) == 0  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert len(told["rows"]) == 2 * 3 * 4 and all(set(row) >= KEYS for row in told["rows"])
    assert {row["eviction"] for row in told["rows"]} == {"lru", "forecast", "oracle"}, "default names the default policy"
    by = {(row["budget"], row["eviction"], row["predictor"]): row for row in told["rows"]}
    assert by["30%", "oracle", "none"]["hit_rate"] >= max(by["30%", name, "none"]["hit_rate"] for name in ("lru", "forecast"))
    assert by["30%", "lru", "oracle"]["recall_at_k"] == 1.0 and by["30%", "lru", "none"]["useful_bytes"] == 0


def test_the_least_budget_keeps_the_layer_under_way(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--routing", str(trace), "--budget", "least,LEAST,2MiB", "--eviction", "lru", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["budget_bytes"] for row in told["rows"]] == [told["least_budget_bytes"]] * 3 == [2 << 20] * 3


def test_the_table_is_for_people(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--routing", str(trace), "--budget", "40%"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("90 tokens of 3 requests, 3 layers × 6 experts, top 2") and len(lines) == 6


@pytest.mark.parametrize(("more", "says"), [
    (["--eviction", "belady"], "--eviction belady: there is none of that name; choose from default, forecast"),
    (["--predictor", "gate"], "--predictor gate: routers need the hidden states"),
    (["--predictor", "path"], "give them with --train FILE"),
    (["--predictor", "luck"], "choose from none, path, transition, oracle"),
    (["--budget", "1%"], "cannot hold one layer's experts"),
    (["--budget", "much"], "is not a size"),
    (["--device", "tape"], "--device tape: there is none of that name"),
    (["--plan", "x.json"], "say of which with --model"),
    (["--experts", "3"], "give another number with --experts"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(more: list[str], says: str, trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--routing", str(trace), *more]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert says in told[-1]


def test_a_file_that_is_no_routing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("a.npz", b"PK\x03\x04 cut"), ("b.parquet", b"PAR1 cut"), ("c", b"what")):
        (tmp_path / name).write_bytes(content)
        assert main(["simulate", "--routing", str(tmp_path / name)]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
