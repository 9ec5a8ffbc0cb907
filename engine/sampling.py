"""Choosing the next token: the likeliest, or a draw among those that the settings leave, as transformers' processors would.

V vocabulary, T tokens so far, K tokens still possible. By the library's own processors a small model spends a quarter of its time here
(tests/session/test_sampling.py holds the two against each other).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.kernels.reference import Floats, Ids, Top, top
from engine.settings import Value

Tokens = npt.NDArray[np.int64]


class Sampler:
    """Draws with its own random numbers, begun at ``seed``. ``find_top`` is what finds the likeliest tokens."""

    def __init__(self, seed: int, find_top: Top = top) -> None:
        self._random = np.random.default_rng(seed)
        self._find_top = find_top
        self._temperature, self._top_k, self._top_p, self._penalty = 0.0, 0, 1.0, 1.0

    def configure(self, settings: dict[str, Value]) -> None:
        """Take temperature, top_k, top_p and repetition_penalty from ``settings``."""
        self._temperature, self._top_p = float(settings["temperature"]), float(settings["top_p"])
        self._top_k, self._penalty = int(settings["top_k"]), float(settings["repetition_penalty"])

    def choose(self, ids: Tokens, logits: Floats) -> tuple[int, float]:
        """The next token after ``ids`` [T] given ``logits`` [V], and its log probability before any setting had a say."""
        tokens, probabilities, total = self._likeliest(ids, logits)
        token = int(tokens[0])
        if len(tokens) > 1:
            reached = probabilities.cumsum()
            token = int(tokens[min(int(reached.searchsorted(self._random.random() * reached[-1], side="right")), len(tokens) - 1)])
        return token, float(logits[token]) - (total if self._penalty == 1 else self._find_top(logits, 1)[2])

    def distribution(self, ids: Tokens, logits: Floats) -> tuple[Ids, Floats]:
        """The tokens that may be drawn after ``ids`` [T] given ``logits`` [V], likeliest first, and their probabilities, both [K]."""
        tokens, probabilities, _ = self._likeliest(ids, logits)
        return tokens, probabilities

    def _likeliest(self, ids: Tokens, logits: Floats) -> tuple[Ids, Floats, float]:
        """Tokens, their probabilities, and the logarithm of the sum of all exponentials."""
        count = 1 if self._temperature == 0 else min(self._top_k or len(logits), len(logits))
        tokens, scores, total = self._find_top(self._penalized(ids, logits), count)
        if count == 1:
            return tokens, np.ones(1, np.float32), total
        powers = np.exp((scores - scores[0]) / np.float32(self._temperature))
        reached = powers.cumsum()
        if self._top_p < 1:
            # Kept are the likeliest until they make up top_p: each whose betters do not yet.
            kept = max(1, int((reached - powers).searchsorted(self._top_p * reached[-1])))
            return tokens[:kept], powers[:kept] / reached[kept - 1], total
        return tokens, powers / reached[-1], total

    def _penalized(self, ids: Tokens, scores: Floats) -> Floats:
        if self._penalty == 1:
            return scores
        scores, seen = scores.copy(), np.unique(ids)
        scores[seen] = np.where(scores[seen] < 0, scores[seen] * self._penalty, scores[seen] / self._penalty)
        return scores
