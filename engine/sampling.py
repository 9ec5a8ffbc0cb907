"""Choosing the next token: transformers' logits processors, then the likeliest or a draw.

V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine.settings import Value


class Sampler:
    """Draws with its own random numbers, begun at ``seed``."""

    def __init__(self, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._processors = LogitsProcessorList()
        self._greedy = True

    def configure(self, settings: dict[str, Value]) -> None:
        """Take temperature, top_k, top_p and repetition_penalty from ``settings``."""
        temperature, top_k = float(settings["temperature"]), int(settings["top_k"])
        top_p, penalty = float(settings["top_p"]), float(settings["repetition_penalty"])
        self._greedy = temperature == 0
        self._processors = LogitsProcessorList()
        if penalty != 1:
            self._processors.append(RepetitionPenaltyLogitsProcessor(penalty))
        if self._greedy:
            return
        if temperature != 1:
            self._processors.append(TemperatureLogitsWarper(temperature))
        if top_k:
            self._processors.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            self._processors.append(TopPLogitsWarper(top_p))

    def choose(self, ids: Tensor, logits: Tensor) -> tuple[int, float]:
        """The next token after ``ids`` [1, T] given ``logits`` [V], and its log probability before any processor."""
        logits = logits.float()
        scores = self._processors(ids, logits.unsqueeze(0))[0]  # type: ignore[arg-type]
        token = int(scores.argmax() if self._greedy else torch.multinomial(scores.softmax(-1), 1, generator=self._random))
        return token, float(logits[token] - logits.logsumexp(-1))
