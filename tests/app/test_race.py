"""The race: what is planted is what engines do, cages hold, and a report says what was measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.demo import PROJECT
from app.race.cage import drop_caches, open_cage, run_in
from app.race.checkpoint import make_checkpoint
from app.race.contenders import CONTENDERS, Course
from app.race.planted import Planted
from app.race.plot import draw
from app.race.race import Plan, Turn
from app.race.report import summarize, table
from app.race.routing import draw_routing, load_routing
from engine.errors import EngineError
from engine.events import TABLES, Batch
from engine.session import Session
from engine.store import convert

SHAPES: dict[str, dict[str, Any]] = {
    "olmoe": dict(
        architectures=["OlmoeForCausalLM"], model_type="olmoe", hidden_size=64, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, num_experts=16, num_experts_per_tok=4, vocab_size=100,
    ),
    "mixtral": dict(
        architectures=["MixtralForCausalLM"], model_type="mixtral", hidden_size=64, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2, vocab_size=100,
    ),
}  # fmt: skip
STEPS = 40


def make(folder: Path, shape: str, **options: Any) -> Planted:
    return make_checkpoint(folder, SHAPES[shape], lambda *sizes: draw_routing(STEPS, *sizes), **options)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("race") / "olmoe"
    make(folder, "olmoe")
    return folder


# --- what is planted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [2, 16])
def test_the_engine_walks_the_cycle_and_meets_the_planted_routing(shape: str, bits: int, tmp_path: Path) -> None:
    planted = make(tmp_path / shape, shape)
    store = convert(tmp_path / shape, tmp_path / "store", (bits,))
    values = {"bits": bits, "budget": "50%", "temperature": 0, "max_tokens": 50, "compute_threads": 1}
    tables: list[np.ndarray[Any, Any]] = []

    def take(notice: Any) -> None:
        if isinstance(notice, Batch) and "accesses" in notice.tables:
            tables.append(np.frombuffer(notice.tables["accesses"], TABLES["accesses"]))

    session = Session(store, values, emit=take)
    request = session.begin_ids(torch.tensor([planted.prompt(5)]))
    while session.request is not None:
        session.step()
    session.close()
    ids = request.ids[0].tolist()
    assert len(ids) == 55 and planted.walked(ids) == 1
    accesses = np.concatenate(tables)
    for row in range(50):  # the prefill, then a row for each token put in
        used = ids[:5] if row == 0 else [ids[4 + row]]
        for layer in range(store.spec.layers):
            met = accesses["expert"][(accesses["token"] == row) & (accesses["layer"] == layer)].tolist()
            assert set(met) == {expert for token in used for expert in planted.experts(token)[layer].tolist()}, (row, layer)


def test_words_of_the_tokenizer_are_tokens(synthetic: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(synthetic)
    assert tokenizer("t17 t99 nonsense").input_ids == [17, 99, 3]
    assert tokenizer.decode([17, 99]) == "t17 t99"


def test_an_interrupted_checkpoint_is_gone_on_with(synthetic: Path, tmp_path: Path) -> None:
    folder, seen = tmp_path / "olmoe", 0

    def interrupt(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(folder, "olmoe", progress=interrupt)
    assert not folder.exists()
    kept = next(tmp_path.glob(".olmoe.part/*-00001-*")).stat().st_mtime_ns
    make(folder, "olmoe")
    assert next(folder.glob("*-00001-*")).stat().st_mtime_ns == kept
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in synthetic.iterdir())
    assert all(file.read_bytes() == (synthetic / file.name).read_bytes() for file in folder.glob("*.safetensors"))
    with pytest.raises(EngineError, match="there already"):
        make(folder, "olmoe")


def test_shapes_that_cannot_be_planted_are_refused(tmp_path: Path) -> None:
    def refused(**fields: Any) -> str:
        with pytest.raises(EngineError) as error:
            make_checkpoint(tmp_path / "no", {**SHAPES["olmoe"], **fields}, lambda *sizes: draw_routing(STEPS, *sizes))
        return str(error.value)

    assert "only repeat a token" in refused(tie_word_embeddings=True)
    assert "does not fit a vocabulary" in refused(vocab_size=50)
    assert "cannot make a configuration" in refused(model_type="nonsense")


def test_drawn_routing_is_skewed_and_local() -> None:
    routing = draw_routing(200, 4, 64, 8, seed=3)
    assert all(len(set(experts)) == 8 for experts in routing.reshape(-1, 8).tolist())
    stays = np.mean([len({*a} & {*b}) / 8 for a, b in zip(routing[:-1, 0].tolist(), routing[1:, 0].tolist(), strict=True)])
    top = np.sort(np.bincount(routing[:, 0].ravel(), minlength=64))[-8:].sum() / routing[:, 0].size
    assert 0.35 < stays < 0.55 and 0.3 < top < 0.5  # 1/8 each, were it neither
    assert (draw_routing(200, 4, 64, 8, seed=3) == routing).all()


def test_recorded_routing_lies_side_by_side(tmp_path: Path) -> None:
    random, file = np.random.default_rng(0), tmp_path / "r.npz"
    recorded = np.argsort(random.random((100, 6, 8)), axis=-1)[..., :2].astype(np.uint8)
    np.savez(file, experts=recorded, lengths=np.full(10, 10))
    routing = load_routing(file, 20, 3, 16, 4)
    assert routing.shape == (20, 3, 4)
    sides = (routing[..., 0::2], routing[..., 1::2] - 8)
    for side in sides:
        places = [start for start in range(0, 81, 10) if (recorded[start : start + 20, [0, 2, 5]] == side).all()]
        assert len(places) == 1, "each side is a stretch of the recording that begins with a request, three of its six layers"
    for arguments, reason in (((20, 3, 16, 3), "do not go evenly"), ((60, 3, 16, 4), "120 are needed"), ((20, 3, 8, 4), "leave 4")):
        with pytest.raises(EngineError, match=reason):
            load_routing(file, *arguments)
    file.write_bytes(b"x")
    with pytest.raises(EngineError, match="no recorded routing"):
        load_routing(file, 20, 3, 16, 4)


# --- GGUF -------------------------------------------------------------------------------------------------------------


def test_gguf_holds_the_same_weights(synthetic: Path, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is an optional extra")
    from app.race.gguf import write_gguf
    from engine.store.checkpoint import Checkpoint

    write_gguf(synthetic, tmp_path / "m.gguf", "Q8_0")
    assert [file.name for file in tmp_path.iterdir()] == ["m.gguf"]
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}

    def near(name: str, wanted: torch.Tensor, kind: str) -> None:
        assert tensors[name].tensor_type.name == kind
        values = gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type)
        assert np.abs(values - wanted.float().numpy()).max() <= 0.01 * float(wanted.abs().max())

    with Checkpoint.open(synthetic) as checkpoint:
        near("token_embd.weight", checkpoint.read("model.embed_tokens.weight"), "Q8_0")
        near("blk.2.ffn_gate_inp.weight", checkpoint.read("model.layers.2.mlp.gate.weight"), "F32")
        experts = [checkpoint.read(f"model.layers.1.mlp.experts.{number}.up_proj.weight") for number in range(16)]
        near("blk.1.ffn_up_exps.weight", torch.stack(experts), "Q8_0")


@pytest.mark.parametrize(("kind", "error"), [("Q6_K", 0.03), ("Q4_K", 0.09)])
def test_k_quants_read_back(kind: str, error: float) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is an optional extra")
    from app.race import kquants

    values = np.random.default_rng(0).normal(size=(9, 512)).astype(np.float32)
    values[0], values[1, :16], values[2], values[3] = 0, 0, np.abs(values[2]), -np.abs(values[3])
    packed = getattr(kquants, kind.lower())(values)
    found = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind])
    assert (np.abs(found - values).max(axis=1) <= error * np.abs(values).max(axis=1)).all()


# --- cages ------------------------------------------------------------------------------------------------------------


def test_a_cage_holds_counts_and_goes(tmp_path: Path) -> None:
    cage, refused = open_cage(64 << 20, on=tmp_path)
    if cage is None:
        pytest.skip(refused)
    try:
        ending = run_in(cage, [sys.executable, "-c", "x = bytearray(200 << 20)"], tmp_path, 60, lambda line: None)
        assert ending.out_of_memory and ending.status and 32 << 20 < ending.peak <= 64 << 20
    finally:
        cage.close()
    assert not any(door.exists() for door in cage.doors)


def test_a_cage_counts_what_is_read(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(bytes(5 << 20))
    refused = drop_caches()
    cage, reason = open_cage(0, on=tmp_path)
    if cage is None or refused:
        pytest.skip(reason or refused)
    try:
        ending = run_in(cage, ["cat", str(file)], tmp_path, 60, lambda line: None)
    finally:
        cage.close()
    assert 5 << 20 <= ending.read < 20 << 20


def test_lines_come_as_they_are_told_and_time_runs_out(tmp_path: Path) -> None:
    lines: list[str] = []
    code = "import sys, time; print('one', flush=True); print('why', file=sys.stderr, flush=True); time.sleep(60)"
    ending = run_in(None, [sys.executable, "-c", code], tmp_path, 3, lines.append)
    assert (lines, ending.timed_out, ending.said, ending.peak) == (["one"], True, "why", -1)


def test_an_interrupt_ends_the_process(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    code = f"import time; print('x', flush=True); time.sleep(3); open({str(tmp_path / 'late')!r}, 'w')"
    with pytest.raises(KeyboardInterrupt):
        run_in(None, [sys.executable, "-c", code], tmp_path, 60, interrupt)
    assert not (tmp_path / "late").exists()


# --- the report -------------------------------------------------------------------------------------------------------


def make_plan(memory: tuple[int, ...] = (0,)) -> Plan:
    return Plan(Course(Path("m"), Path("w"), "m", "OlmoeForCausalLM"), memory, (16, 17), 5, 2, 4)


def make_turn(name: str, gap_ms: float, repetition: int = 0, tokens: int = 5, memory: int = 0) -> Turn:
    turn = Turn(name, memory, repetition, 4)
    turn.take("Loading 1 of 3…")  # a library's own words
    turn.take(json.dumps({"ready": 0, "read": 7, "way": "mapped"}))
    times = [10_000_000 + round(gap_ms * 1e6) * number for number in range(tokens)]
    for start in (0, 1):  # the first token, then the others
        told = [(time, 18 + number) for number, time in enumerate(times)][start : tokens if start else 1]
        if told:
            turn.take(json.dumps({"tokens": told, "read": 1_000_000 * (start + 1)}))
    return turn


def test_figures_of_a_race() -> None:
    plan, planted = make_plan(), Planted(draw_routing(30, 1, 8, 2), 16)
    turns = [make_turn("ours", 10, 0), make_turn("other", 40, 0), make_turn("ours", 20, 1), make_turn("other", 40, 1)]
    ours, other = summarize(plan, turns, planted)
    assert (ours["contender"], ours["turns"], ours["tokens"], ours["ratio"], ours["walked"]) == ("ours", 2, 10, 1, 1)
    assert ours["tok_s_all"] == [100, 50] and ours["tok_s"] == 75
    assert (ours["ms_p50"], other["ms_p50"], other["ttft_s"]) == (15, 40, 0.01)
    assert other["ratio"] == 3, "of each repetition's two, 4 and 2, the median"
    assert other["mb_per_token"] == 0.25, "from the first token on, what loading read is not counted"
    shown = table([ours, other], {"llama.cpp": "xllamacpp not installed"}, ["the page cache was not dropped"])
    assert "3.00x" in shown and "mapped" in shown
    assert shown.endswith("llama.cpp did not race: xllamacpp not installed.\nThe page cache was not dropped.")


def test_a_turn_that_failed_is_told_and_no_figure_is_made_up() -> None:
    plan = make_plan((0, 1 << 30))
    turns = [make_turn("ours", 10), make_turn("other", 10, tokens=1), make_turn("ours", 10, memory=1 << 30)]
    turns[1].failed = "killed: out of memory"
    rows = summarize(plan, turns, None)
    assert [rows[1][key] for key in ("tok_s", "ms_p50", "mb_per_token", "ratio", "walked")] == [None] * 5
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    shown = table(rows, {}, [])
    assert "killed: out of memory" in shown and "1024 MiB" in shown
    picture = ElementTree.fromstring(draw(rows, "a < b"))
    words = [node.text for node in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a < b", "ours", "killed: out of memory", "1024 MiB of memory"} <= set(words)
    assert draw([rows[1]], "nothing to scale by")


# --- the command ------------------------------------------------------------------------------------------------------


def test_bench_races_without_torch_in_its_own_process(synthetic: Path, tmp_path: Path) -> None:
    code = "import sys, main; status = main.main(sys.argv[1:]); sys.exit(status or 3 * bool({'torch', 'PySide6'} & set(sys.modules)))"
    words = ["bench", "--model", str(synthetic), "--against", "io-qexp", "--tokens", "6", "--threads", "1",
             "--work", str(tmp_path / "work"), "--plot", str(tmp_path / "p.svg"), "--json"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=PROJECT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    ours, demand = told["rows"]
    assert (ours["contender"], ours["tokens"], ours["walked"], ours["failed"]) == ("ours", 6, 1, "")
    assert (demand["contender"], demand["tokens"], demand["walked"], demand["bits"]) == ("io-qexp", 6, 1, 4)
    assert ours["tok_s"] > 0 and ours["peak_bytes"] > 50 << 20 and demand["ratio"] > 0
    record = demand["about"]["budget"] / 4
    assert 0.5 * 4 * record < demand["mb_per_token"] * 1e6 <= 3 * 4 * record, "four experts in each of three layers, some kept by chance"
    assert "no memory limit" in done.stderr and (tmp_path / "p.svg").read_text().startswith("<svg")


def test_contenders_say_why_they_cannot_race(synthetic: Path, tmp_path: Path) -> None:
    course = Course(synthetic, tmp_path, "m", "NonsenseForCausalLM")
    for name in ("llama.cpp", "fastllm"):
        assert CONTENDERS[name].unavailable(course, 4) and "2 bits" in CONTENDERS[name].unavailable(course, 2)
    assert not CONTENDERS["ours"].unavailable(course, 2)


def test_bench_refuses_what_it_cannot_use(tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert "is not a size" in refusal("bench", "--memory", "much")
    assert "--memory: 'least' is not a size" in refusal("bench", "--memory", "least"), "that is a budget of experts"
    assert "--read-rate: '25%' is not a size" in refusal("bench", "--read-rate", "25%")
    assert "such as 1200MiB" in refusal("bench", "--memory", "0")
    assert "no contender 'ollama'" in refusal("bench", "--against", "ollama")
    assert "no shape 'nonsense'" in refusal("bench", "--shape", "nonsense")
    assert "a --shape to plant it in" in refusal("bench", "--routing", tmp_path / "r.npz")
    assert "is no checkpoint" in refusal("bench", "--model", tmp_path)
    assert "at least 1" in refusal("bench", "--tokens", "0")
    assert "cannot be written" in refusal("bench", "--plot", tmp_path / "missing" / "p.svg")
    shutil.copy(PROJECT / "pyproject.toml", tmp_path / "shape.json")
    assert "no model configuration" in refusal("bench", "--shape", tmp_path / "shape.json")
