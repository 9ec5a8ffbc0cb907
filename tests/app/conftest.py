"""Fixtures of the window: a scripted engine, private folders, and nothing left running."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtWidgets import QApplication

from engine.events import Notice

SCRIPTED = (sys.executable, str(Path(__file__).with_name("scripted_worker.py")))


@pytest.fixture(autouse=True)
def _private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration and sessions of the tests stay out of the user's."""
    for name in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before and thread.name.startswith("engine-")]
    assert not left, f"threads left behind: {left}"


@pytest.fixture(autouse=True)
def _plain_again() -> Iterator[None]:
    """No window's style sheet is left to the tests after it: they would be slower, and drawn otherwise than alone."""
    yield
    if isinstance(application := QApplication.instance(), QApplication):
        application.setStyleSheet("")


@pytest.fixture
def gather(qtbot) -> Callable[..., list[Notice]]:
    """Drain a host until a notice of the kind has come; returns all that came."""

    def until(host, kind: type, timeout: int = 5000) -> list[Notice]:
        got: list[Notice] = []

        def arrived() -> bool:
            got.extend(host.drain())
            return any(isinstance(notice, kind) for notice in got)

        qtbot.waitUntil(arrived, timeout=timeout)
        return got

    return until


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with a token a byte; not to be changed."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from tests.models.families import save_random

    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_random("Olmoe", folder, shape={"vocab_size": 257})
    vocabulary = {symbol: number for number, symbol in enumerate(["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    return folder


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with status 2 and, progress aside, one line on stderr; returns that line."""
    import main

    def run(*words: object) -> str:
        capsys.readouterr()
        assert main.main([str(word) for word in words]) == main.UNUSABLE
        out, err = capsys.readouterr()
        assert out == ""
        lines = [line for line in err.splitlines() if not re.fullmatch(r"[A-Za-z ]+: [\d.,]+ of [\d.,]+ \w+", line)]
        assert len(lines) == 1, err
        return lines[0]

    return run
