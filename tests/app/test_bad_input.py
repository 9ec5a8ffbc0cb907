"""`run` and `convert` given what they cannot use: exit status 2 and one line that says what and what to do."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.store import Store, convert, partial, writer
from tests.models.families import save_random

Refusal = Callable[..., str]


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of ``model``; not to be changed."""
    return convert(model, tmp_path_factory.mktemp("stores") / "tiny", (4, 16)).path


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    """The checkpoint, to be damaged."""
    return Path(shutil.copytree(model, tmp_path / "copy"))


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """The store, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "store"))


@pytest.fixture(params=["run", "convert"])
def refused(request: pytest.FixtureRequest, refusal: Refusal, tmp_path: Path) -> Refusal:
    """Give a model to either command."""
    return lambda model: refusal("run", "--model", model) if request.param == "run" else refusal("convert", model, tmp_path / "target")


def cut(file: Path, nbytes: int) -> None:
    file.write_bytes(file.read_bytes()[:nbytes])


def test_a_missing_folder(refused: Refusal, tmp_path: Path) -> None:
    assert "nowhere" in refused(tmp_path / "nowhere")


def test_a_folder_that_holds_no_model(refused: Refusal, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no safetensors weights" in refused(tmp_path / "empty")


def test_a_dense_model(refused: Refusal, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "dense")
    assert "no experts to stream" in refused(tmp_path / "dense")


def test_a_truncated_shard(refused: Refusal, copy: Path) -> None:
    shard = next(copy.glob("*.safetensors"))
    cut(shard, shard.stat().st_size - 100)
    line = refused(copy)
    assert shard.name in line and "cut short" in line and "download" in line


def test_no_room_for_the_store(refused: Refusal, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "0.0 MB are free" in refused(copy)


def test_a_disk_that_fills_up_while_converting(refused: Refusal, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(1000))

    def full(file: object, data: bytes) -> None:
        if next(calls) == 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.write(data)  # type: ignore[attr-defined]

    monkeypatch.setattr(partial, "write_all", full)
    assert "No space left" in refused(copy)


def test_a_target_that_holds_another_model(refusal: Refusal, model: Path, store: Path, tmp_path: Path) -> None:
    save_random("Olmoe", tmp_path / "other", seed=2)
    before = (store / "store.json").read_bytes()
    assert "store of another model" in refusal("convert", tmp_path / "other", store)
    assert (store / "store.json").read_bytes() == before


def test_a_corrupted_record(refusal: Refusal, store: Path) -> None:
    opened = Store.open(store)
    for expert in range(opened.spec.experts):  # whichever the router chooses
        record = opened.record(1, expert, 4)
        with record.file.open("r+b") as file:
            file.seek(record.offset + 100)
            file.write(b"\x99" * 50)
    line = refusal("run", "--model", store, "--json")
    assert "of layer 1 at 4 bits is damaged" in line and "experts-4.bin" in line and "convert the model again" in line


def test_a_truncated_store(refusal: Refusal, store: Path) -> None:
    cut(store / "experts-4.bin", 4096)
    assert "experts-4.bin has 4,096 bytes instead of" in refusal("run", "--model", store)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--budget", "4KiB", "smallest that works is"),
        ("--budget", "lots", "lots"),
        ("--bits", "8", "not at 8"),
        ("--bits", "5", "none of"),
        ("--eviction", "magic", "magic"),
        ("--device", "floppy", "floppy"),
        ("--tokens", "0", "outside"),
        ("--temperature", "-1", "outside"),
        ("--plan", "nowhere.json", "cannot be read"),
        ("--profile", "nowhere.json", "nowhere.json"),
        ("--prompt", "", "empty"),
        ("--prompt", "word " * 100, "shorten"),
    ],
)
def test_a_setting_that_cannot_be(option: str, value: str, words: str, refusal: Refusal, whole: Path) -> None:
    assert words in refusal("run", "--model", whole, "--json", option, value)


@pytest.mark.parametrize("option", ["--session", "--trace"])
def test_an_output_that_cannot_be_written(option: str, refusal: Refusal, whole: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere" / "out", tmp_path):
        assert "cannot be written" in refusal("run", "--model", whole, option, place)


def test_a_run_that_is_refused_leaves_an_older_session_alone(refusal: Refusal, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "older").write_bytes(b"EDGE")
    assert "smallest" in refusal("run", "--model", whole, "--budget", "4KiB", "--session", tmp_path / "older")
    assert "is no session" in refusal("run", "--model", whole, "--session", tmp_path / "older")
    assert (tmp_path / "older").read_bytes() == b"EDGE"


def test_a_session_that_did_not_reach_the_disk_is_no_success(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import main
    from engine.recording.session_file import SessionFile

    def full(*_: object) -> list[int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SessionFile, "append", full)
    monkeypatch.setattr(SessionFile, "begin", lambda self: None)
    words = ["run", "--model", str(whole), "--tokens", "3", "--json", "--session", str(tmp_path / "out")]
    assert main.main(words) == main.UNUSABLE
    assert "The session cannot be written: No space left" in capsys.readouterr().err
