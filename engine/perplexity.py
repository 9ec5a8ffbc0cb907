"""How well a model predicts a text, at the widths and budget it runs with.

N tokens, W tokens in a window, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch.nn.functional import cross_entropy

from engine.corpus import Corpus
from engine.errors import EngineError
from engine.session import Session

LONGEST = 4096
"""Tokens of a window at most: longer contexts cost memory for logits [W, V] and hardly change the figure."""
_ROWS = 256  # of logits in float32 at once


@dataclass(frozen=True)
class Perplexity:
    """``tokens`` predicted, ``bytes`` of text that they stand for, and the negative log likelihood of all of them in nats."""

    tokens: int
    bytes: int
    nll: float

    @property
    def nll_per_token(self) -> float:
        return self.nll / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(self.nll_per_token)

    @property
    def bits_per_byte(self) -> float:
        return self.nll / math.log(2) / self.bytes


def measure(session: Session, corpus: Corpus, report: Callable[[int, int], None] | None = None) -> Perplexity:
    """Predict every token but the first, once, in windows of the model's context that slide by three quarters of it.

    Past the first window, each is so predicted from at least a quarter of the context. ``report`` is told tokens done, of how many.

    Raises:
        EngineError: there is nothing to predict, or a record is damaged.
    """
    ids, total = corpus.ids, len(corpus.ids) - 1
    if total < 1:
        raise EngineError("The text is a single token, so there is nothing to predict; give more text")
    width, nll, done = min(session.network.context, LONGEST), 0.0, 0
    for start, stop, fresh in windows(len(ids), width, max(1, width * 3 // 4)):
        logits = session.logits(ids[None, start : stop - 1], fresh)
        targets = ids[stop - fresh : stop]
        for low in range(0, fresh, _ROWS):
            rows = slice(low, low + _ROWS)
            nll += float(cross_entropy(logits[rows].float(), targets[rows], reduction="none").double().sum())
        done += fresh
        if report is not None:
            report(done, total)
    return Perplexity(total, corpus.bytes, nll)


def windows(count: int, width: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, fresh) of windows over ``count`` tokens: from all but the last of [start, stop) the ``fresh`` last are predicted.

    ``width`` tokens go in; every token but the first is fresh once. The last window ends with the text, however far it slid.
    """
    last, reached = max(0, count - width - 1), 1
    for start in [*range(0, last, stride), last]:
        stop = min(start + width + 1, count)
        yield start, stop, stop - reached
        reached = stop
