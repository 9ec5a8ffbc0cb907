"""Sizes and budgets as they are written, and what they come to."""

from __future__ import annotations

import pytest

from engine.errors import EngineError
from engine.settings import BY_NAME, parse_budget, parse_size
from tests.session.conftest import Open, generate


@pytest.mark.parametrize(("text", "size"), [
    ("800000", 800_000), ("12MiB", 12 << 20), (" 1.5 GB ", 1_500_000_000), ("2kib", 2048), ("7B", 7), (".5MB", 500_000),
])  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == parse_budget(text, 1, 1) == size


def test_shares_and_the_least_are_budgets_and_no_sizes() -> None:
    assert parse_budget("25%", 1000, 80) == 250 and parse_budget(" 12.5 % ", 1000, 80) == 125
    assert parse_budget("least", 1000, 80) == parse_budget(" LEAST ", 1000, 80) == 80
    for text in ("25%", "least"):
        with pytest.raises(EngineError, match=f"--memory: '{text}' is not a size"):
            parse_size(text, "--memory")
        with pytest.raises(EngineError, match=f"{BY_NAME['memory_limit'].title}: '{text}' is not a size"):
            BY_NAME["memory_limit"].parse(text)
    assert BY_NAME["budget"].parse(" Least ") == "least" and BY_NAME["budget"].parse(" 25% ") == "25%"


@pytest.mark.parametrize("text", ["", "much", "-1", "12 MiB extra", "1e3", "12ib", "%", "1,5GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(EngineError, match=r"Size: .* is not a size; write 12MiB or 1.5GB"):
        parse_size(text)
    with pytest.raises(EngineError, match=r"Budget: .* is not a size; write 12MiB, 1.5GB, 25% or least"):
        parse_budget(text, 1, 1)


@pytest.mark.parametrize("bits", [4, 16])
def test_the_least_budget_is_what_a_layer_needs(bits: int, open_session: Open) -> None:
    session = open_session(budget="least", bits=bits)
    assert session.budget.granted == session.budget.least == session.store.spec.top_k * session.store.record_bytes(bits)
    assert len(generate(session)) == 24 and session.buffer.peak_bytes == session.budget.least
    with pytest.raises(EngineError, match="smallest"):
        session.change("budget", str(session.budget.least - 1))
    session.change("budget", "100%")
    session.change("budget", "least")
    assert session.budget.granted == session.budget.least
