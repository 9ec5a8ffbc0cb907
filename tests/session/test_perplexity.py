"""Perplexity is that of the model: the same figures as transformers' own, whatever is resident.

N tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from engine import perplexity
from engine.corpus import Corpus, read_documents, tokenize
from engine.errors import Cancelled, EngineError
from engine.perplexity import Perplexity, measure, windows
from tests.models.families import model_of

from .conftest import PROMPT, Open, generate

CONTEXT = 128  # positions of the tiny model


def corpus(count: int) -> Corpus:
    return Corpus(torch.randint(3, 64, (count,), generator=torch.Generator().manual_seed(7)), 3 * count)


@torch.no_grad()
def by_transformers(folder: Path, ids: torch.Tensor) -> list[float]:
    """Nats of every token of ``ids`` [N] but the first, each predicted from what its window has before it."""
    model: Any = model_of("Olmoe").from_pretrained(folder, dtype=torch.float32, experts_implementation="eager").eval()
    stride, found, start = CONTEXT * 3 // 4, list[float](), 0
    while len(found) < len(ids) - 1:
        start = min(start, max(0, len(ids) - CONTEXT - 1))
        window = ids[start : start + CONTEXT + 1]
        nats = cross_entropy(model(window[None, :-1]).logits[0], window[1:], reduction="none")
        found += nats[len(found) - start :].tolist()
        start += stride
    return found


@pytest.mark.parametrize("count", [2, 40, CONTEXT, CONTEXT + 1, CONTEXT + 2, 300])
def test_equals_transformers(count: int, open_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "_ROWS", 50)
    text, told = corpus(count), list[tuple[int, int]]()
    wanted = by_transformers(open_session.store.path.parent / "model", text.ids)
    found = measure(open_session(bits=16, budget="25%"), text, lambda done, total: told.append((done, total)))
    assert (found.tokens, found.bytes) == (count - 1, 3 * count)
    assert found.nll == pytest.approx(sum(wanted), rel=1e-5)
    assert told[-1] == (count - 1, count - 1)


def test_never_depends_on_residency_but_on_the_width(open_session: Open) -> None:
    text = corpus(200)
    wanted = measure(open_session(bits=4, budget="100%"), text)
    for values in ({"budget": "25%", "eviction": "lru"}, {"budget": "50%", "device": "slow", "io_threads": 1}):
        session = open_session(bits=4, **values)
        assert measure(session, text) == wanted
        assert 0 < session.buffer.peak_bytes <= session.budget.granted
    assert measure(open_session(bits=2, budget="100%"), text).nll != wanted.nll


def test_requests_before_and_after_are_untouched(open_session: Open) -> None:
    wanted = generate(open_session(budget="100%"))
    session = open_session(budget="50%")
    assert generate(session) == wanted
    measure(session, corpus(50))
    assert generate(session) == wanted


def test_an_interrupted_measurement_leaves_the_session_usable(open_session: Open) -> None:
    def cancel(done: int, total: int) -> None:
        raise Cancelled

    session, text = open_session(budget="25%"), corpus(300)
    wanted = measure(session, text)
    with pytest.raises(Cancelled):
        measure(session, text, cancel)
    assert measure(session, text) == wanted


def test_nothing_to_predict_is_refused(open_session: Open) -> None:
    with pytest.raises(EngineError, match="nothing to predict"):
        measure(open_session(), corpus(1))


@pytest.mark.parametrize("count", [2, 10, 11, 12, 18, 19, 20, 100])
def test_windows_predict_every_token_once_with_context(count: int) -> None:
    width, stride, fresh = 10, 7, list[int]()
    for start, stop, new in windows(count, width, stride):
        assert stop - start <= width + 1
        predicted = range(stop - new, stop)
        assert all(place - start >= (1 if place <= width else width - stride) for place in predicted)
        fresh += predicted
    assert fresh == list(range(1, count))


def test_figures_follow_from_the_likelihood() -> None:
    found = Perplexity(tokens=4, bytes=16, nll=4 * 0.6931471805599453)
    assert (found.nll_per_token, found.bits_per_byte) == (pytest.approx(0.6931471805599453), pytest.approx(0.25))
    assert found.perplexity == pytest.approx(2)


class Letters:
    """A tokenizer of a token a character."""

    def __init__(self, start: int | None = 1, end: int | None = 2) -> None:
        self.bos_token_id, self.eos_token_id = start, end

    def __call__(self, text: str, **options: Any) -> Any:
        assert options["add_special_tokens"] is False
        return type("Encoding", (), {"input_ids": [ord(letter) for letter in text]})

    def decode(self, ids: list[int], **options: Any) -> str:
        return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [(1, 2, [1, 97, 98, 2, 1, 99, 2]), (None, 2, [2, 97, 98, 2, 2, 99, 2]), (1, None, [1, 97, 98, 1, 99]), (None, None, [97, 98, 99])],
)
def test_documents_stand_between_start_and_end(start: int | None, end: int | None, wanted: list[int]) -> None:
    found = tokenize(Letters(start, end), ["ab", "c"])
    assert (found.ids.tolist(), found.bytes) == (wanted, len("ab\fc"))


@pytest.mark.parametrize(("limit", "text"), [(1, "a"), (2, "aé"), (3, "aé"), (4, "aé\f"), (5, "aé\fc"), (6, "aé\fc"), (9, "aé\fc")])
def test_a_limit_counts_the_bytes_of_what_it_leaves(limit: int, text: str) -> None:
    found = tokenize(Letters(), ["aé", "c"], limit)
    assert len(found.ids) == min(limit + 1, 7)
    assert found.bytes == len(text.encode())


def test_documents_are_parted_by_form_feeds(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("\ufeffone\r\n\r\n\f\n  two\nlines \n\f\f \n\fthree".encode())
    assert read_documents(tmp_path / "text") == ["one", "  two\nlines ", "three"]


def test_logits_are_those_of_the_last_positions(open_session: Open) -> None:
    session = open_session(bits=16)
    logits = session.logits(PROMPT, 3)
    assert logits.shape == (3, 64)
    torch.testing.assert_close(logits, session.logits(PROMPT, PROMPT.shape[1])[-3:], atol=1e-5, rtol=1e-5)
    assert session.request is None
