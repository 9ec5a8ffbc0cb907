"""`calibrate --objective speed`: under which budget, device, policy and routing, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import main
from engine.bitwidth.plan import Plan, Subject
from engine.residency import DEFAULT
from engine.simulate.traces import write_routing
from engine.store import Store
from tests.simulate.cases import make_routing


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that nothing is measured twice."""
    return tmp_path_factory.mktemp("notes")


@pytest.fixture
def arguments(works: list[str], notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("engine.bitwidth.notebook.cache_folder", lambda: notes)
    text = tmp_path / "text.txt"
    text.write_text("\f".join(works))
    return ["calibrate", "--text", str(text), "--tokens", "1024", "--tolerance", "5%", "--out", str(tmp_path / "plan.json")]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Of the demo model's shape, though not its own."""
    write_routing(make_routing((40, 30), layers=8, experts=16), tmp_path / "trace.npz")
    return tmp_path / "trace.npz"


def test_the_plan_is_told_beside_what_it_is_held_against(arguments: list[str], store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([*arguments, "--objective", "speed", "--device", "emmc-5.1", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    told, plan = about["predicted"], Plan.read(Path(about["plan"]), Subject.of(store))
    rows = {row["plan"]: row for row in told["rows"]}
    assert list(rows) == ["speed", "storage", "traffic", "16 bits", "8 bits", "4 bits", "3 bits", "2 bits"]
    assert rows["speed"]["tok_s"] >= max(rows["storage"]["tok_s"], rows["traffic"]["tok_s"])
    assert rows["speed"]["bytes"] == about["bytes"] == sum(map(store.record_bytes, plan.bits)) and about["loss_ci"][1] <= 0.05
    uniform = [rows[f"{bits} bits"]["tok_s"] for bits in (16, 8, 4, 3, 2)]
    assert uniform == sorted(uniform), "narrower experts read less and leave more room"
    assert told["assumed"] and told["costs"]["device"] == "emmc-5.1" and told["eviction"] == DEFAULT and told["routing"] is None
    assert told["budget_bytes"] == store.record_bytes(4) * 128 // 4, "a quarter, as run and simulate have it"
    assert told["tokens"] == about["tokens"], "each token of the text to learn from is one that is decoded"


def test_the_storage_objective_predicts_nothing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([*arguments, "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["objective"] == "storage" and about["predicted"] is None


def test_a_trace_is_replayed_as_simulate_does(arguments: list[str], trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    under = ["--budget", "2MB", "--device", "microsd", "--eviction", "lru", "--routing", str(trace), "--json"]
    assert main.main([*arguments, "--objective", "speed", *under]) == 0
    told = json.loads(capsys.readouterr().out)["predicted"]
    assert main.main(["simulate", "--model", "demo", "--bits", "3", "--sample", "0", *under]) == 0
    simulated = json.loads(capsys.readouterr().out)
    (row,) = (row for row in told["rows"] if row["plan"] == "3 bits")
    assert (told["tokens"], told["routing"], told["budget_bytes"], told["eviction"]) == (70, str(trace), 2_000_000, "lru")
    assert [row[key] for key in ("hit_rate", "mb_per_token")] == [simulated["rows"][0][key] for key in ("hit_rate", "mb_per_token")]
    assert row["tok_s"] == pytest.approx(simulated["rows"][0]["tok_s"])


def test_the_table_is_for_people(arguments: list[str], trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([*arguments, "--objective", "speed", "--routing", str(trace), "--budget", "300KB"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.startswith("Predicted, "))
    assert f"replay of 70 tokens of {trace}: 0.30 MB of experts in memory" in lines[first] and "costs are assumed" in lines[first]
    assert lines[first + 1].split() == ["MB", "MB/token", "hits", "tokens/s"]
    assert [line[:20].strip() for line in lines[first + 2 : first + 6]] == ["this plan", "fewest bytes", "fewest bytes a token", "16 bits"]
    assert lines[first + 5].endswith("does not fit") and lines[-1].endswith("plan.json")


@pytest.mark.parametrize(("more", "says"), [
    (["--budget", "10%"], "--budget: storage does not depend on it; leave it out, or add --objective speed"),
    (["--objective", "traffic", "--device", "emmc-5.1"], "--device: traffic does not depend on it"),
    (["--routing", "TRACE"], "--routing: storage does not depend on it"),
    (["--method", "paper", "--objective", "traffic"], "--objective traffic: the paper's method knows bytes on storage only"),
    (["--method", "paper", "--objective", "speed"], "--objective speed: the paper's method knows bytes on storage only"),
    (["--objective", "speed", "--eviction", "belady"], "--eviction belady: there is none of that name; choose from default, forecast"),
    (["--objective", "speed", "--device", "tape"], "--device tape: there is none of that name"),
    (["--objective", "speed", "--device", "native"], "--device native: how fast it is must be known; give a --session"),
    (["--objective", "speed", "--budget", "much"], "is not a size; write 12MiB, 1.5GB, 25% or least"),
    (["--objective", "speed", "--budget", "0.1%"], "cannot hold one layer's experts of one token; the smallest is"),
    (["--objective", "speed", "--budget", "130KB", "--tolerance", "1%"], "runs in a budget of 130,000 bytes; tolerate more"),
    (["--objective", "speed", "--routing", "OTHER"], "is of 3 layers of 8 experts, top 2, model of 8 layers of 16 experts, top 2"),
    (["--objective", "speed", "--routing", "nowhere.npz"], "nowhere.npz cannot be opened"),
    (["--objective", "speed", "--session", "TRACE"], "is no routing: a routing trace is"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(
    more: list[str], says: str, arguments: list[str], trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_routing(make_routing(), tmp_path / "other.npz")
    files = {"TRACE": str(trace), "OTHER": str(tmp_path / "other.npz")}
    assert main.main([*arguments, *(files.get(one, one) for one in more)]) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1] and not (tmp_path / "plan.json").exists()
