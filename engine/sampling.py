"""Choosing the next token: the likeliest, or a draw among those that the settings leave, as transformers' processors would.

V vocabulary, T tokens so far, K tokens still possible. In numpy, a few passes over [V]: by the library's own processors a small model
spends a quarter of its time here (tests/session/test_sampling.py holds the two against each other).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from engine.settings import Value

Floats = npt.NDArray[np.float32]


class Sampler:
    """Draws with its own random numbers, begun at ``seed``."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._temperature, self._top_k, self._top_p, self._penalty = 0.0, 0, 1.0, 1.0

    def configure(self, settings: dict[str, Value]) -> None:
        """Take temperature, top_k, top_p and repetition_penalty from ``settings``."""
        self._temperature, self._top_p = float(settings["temperature"]), float(settings["top_p"])
        self._top_k, self._penalty = int(settings["top_k"]), float(settings["repetition_penalty"])

    def choose(self, ids: Tensor, logits: Tensor) -> tuple[int, float]:
        """The next token after ``ids`` [1, T] given ``logits`` [V], and its log probability before any setting had a say."""
        plain: Floats = logits.float().numpy()
        if self._temperature == 0:
            token = int(self._penalized(ids, plain).argmax())
        else:
            tokens, probabilities = self.distribution(ids, logits)
            reached = np.cumsum(probabilities, dtype=np.float64)
            token = int(tokens[min(int(np.searchsorted(reached, self._random.random() * reached[-1], side="right")), len(tokens) - 1)])
        return token, float(plain[token]) - _log_sum_exp(plain)

    def distribution(self, ids: Tensor, logits: Tensor) -> tuple[npt.NDArray[np.int64], Floats]:
        """The tokens that may be drawn after ``ids`` [1, T] given ``logits`` [V], likeliest first, and their probabilities, both [K]."""
        scores = self._penalized(ids, logits.float().numpy())
        count = min(self._top_k or len(scores), len(scores))
        tokens = np.argpartition(scores, len(scores) - count)[len(scores) - count :] if count < len(scores) else np.arange(count)
        tokens = tokens[np.argsort(-scores[tokens], kind="stable")]
        probabilities = _softmax(scores[tokens] / np.float32(self._temperature))
        if self._top_p < 1:
            # Kept are the likeliest until they make up top_p: each whose betters do not yet.
            before = np.cumsum(probabilities) - probabilities
            kept = max(1, int(np.searchsorted(before, self._top_p)))
            tokens, probabilities = tokens[:kept], probabilities[:kept] / probabilities[:kept].sum()
        return tokens, probabilities

    def _penalized(self, ids: Tensor, scores: Floats) -> Floats:
        if self._penalty == 1:
            return scores
        scores, seen = scores.copy(), np.unique(ids[0].numpy())
        scores[seen] = np.where(scores[seen] < 0, scores[seen] * self._penalty, scores[seen] / self._penalty)
        return scores


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores[0])  # the first is the largest
    return powers / powers.sum()  # type: ignore[no-any-return]


def _log_sum_exp(logits: Floats) -> float:
    largest = float(logits.max())
    return largest + float(np.log(np.exp(logits - largest).sum()))
