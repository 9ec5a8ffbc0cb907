"""Choosing the next token: transformers' logits processors, then the likeliest or a draw.

V vocabulary, K tokens still possible.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

from engine.settings import Value


class Sampler:
    """Draws with its own random numbers, begun at ``seed``."""

    def __init__(self, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._of_all = LogitsProcessorList()
        self._of_likeliest = LogitsProcessorList()
        self._greedy, self._top_k = True, 0

    def configure(self, settings: dict[str, Value]) -> None:
        """Take temperature, top_k, top_p and repetition_penalty from ``settings``."""
        temperature, top_p, penalty = (float(settings[name]) for name in ("temperature", "top_p", "repetition_penalty"))
        self._greedy, self._top_k = temperature == 0, int(settings["top_k"])
        self._of_all, self._of_likeliest = LogitsProcessorList(), LogitsProcessorList()
        if penalty != 1:
            self._of_all.append(RepetitionPenaltyLogitsProcessor(penalty))
        if not self._greedy and temperature != 1:
            self._of_all.append(TemperatureLogitsWarper(temperature))
        if top_p < 1:
            self._of_likeliest.append(TopPLogitsWarper(top_p))

    def choose(self, ids: Tensor, logits: Tensor) -> tuple[int, float]:
        """The next token after ``ids`` [1, T] given ``logits`` [V], and its log probability before any processor."""
        logits = logits.float()
        if self._greedy:
            token = int(self._of_all(ids, logits.unsqueeze(0)).argmax())  # type: ignore[arg-type]
        else:
            tokens, probabilities = self.distribution(ids, logits)
            token = int(tokens[torch.multinomial(probabilities, 1, generator=self._random)])
        return token, float(logits[token] - logits.logsumexp(-1))

    def distribution(self, ids: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that may be drawn after ``ids`` [1, T] given ``logits`` [V], and their probabilities, both [K]."""
        scores = self._of_all(ids, logits.unsqueeze(0))  # type: ignore[arg-type]
        # Top-k first, by leaving the rest out: top-p sorts what it is given, which for a whole vocabulary takes longer than a layer.
        scores, tokens = scores.topk(min(self._top_k or len(logits), len(logits)))
        return tokens[0], self._of_likeliest(ids, scores)[0].softmax(-1)  # type: ignore[arg-type]
