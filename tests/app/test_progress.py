"""What long work tells of how far it is."""

from __future__ import annotations

import pytest

from app import progress
from app.progress import Bar


def test_a_terminal_is_told_how_long_the_rest_takes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with Bar() as bar:
        bar.show("measuring", 2, 10, "blocks")
        now[0] += 0.5
        bar.show("measuring", 3, 10, "blocks")
        now[0] += 5.5
        bar.show("measuring", 4, 10, "blocks")  # two blocks in 6 s
        now[0] += 54
        bar.show("measuring", 5, 10, "blocks")
        now[0] += 600
        bar.show("measuring", 6, 10, "blocks")
        bar.show("measuring", 10, 10, "blocks")
    lines = [line.strip() for line in capsys.readouterr().err.split("\r") if line.strip()]
    assert lines == [
        "measuring: 2 of 10 blocks", "measuring: 3 of 10 blocks", "measuring: 4 of 10 blocks, about 18 s left",
        "measuring: 5 of 10 blocks, about 2 min left", "measuring: 6 of 10 blocks, about 11 min left", "measuring: 10 of 10 blocks",
    ]  # fmt: skip
