"""Text to calibrate on and text to verify on: blocks of tokens, from different works.

B blocks, W tokens a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import xxhash
from torch import Tensor

from engine.errors import EngineError

WIDTH = 256
"""Tokens of a block at most: each begins anew, so that blocks are independent and many of them fit into one pass."""
_LEAST = 4  # blocks on either side: fewer tell nothing of how much they differ


@dataclass(frozen=True)
class Texts:
    """``learn`` [B, W + 1] and ``verify`` [B', W + 1] token ids, and the hash of both. ``works`` of each; where the file has but one,
    its halves stand for two."""

    learn: Tensor
    verify: Tensor
    works: tuple[int, int]
    digest: str


def texts_of(tokenizer: Any, kinds: Sequence[Sequence[str]], tokens: int, context: int, seed: int = 0) -> Texts:
    """Blocks of about ``tokens`` tokens in all on either side, as many of each kind of text: of every other of its works on one, of the
    others on the other.

    Raises:
        EngineError: there is too little text.
    """
    width, each = min(WIDTH, context - 1), tokens // len(kinds)
    generator = torch.Generator().manual_seed(seed)
    halves = [_halves(works) for works in kinds]
    sides = [torch.cat([_blocks(tokenizer, works[side], each, width, generator) for works in halves]) for side in (0, 1)]
    if min(map(len, sides)) < _LEAST * len(kinds):
        needed = 2 * _LEAST * (width + 1)
        raise EngineError(f"The text is too short: at least {needed:,} tokens are needed to calibrate and verify; give more text")
    digest = xxhash.xxh3_64_hexdigest(b"".join(side.numpy().tobytes() for side in sides))
    return Texts(sides[0], sides[1], (sum(len(a) for a, _ in halves), sum(len(b) for _, b in halves)), digest)


def _halves(works: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    if len(works) > 1:
        return works[::2], works[1::2]
    middle = len(works[0]) // 2
    return [works[0][:middle]], [works[0][middle:]]


def _blocks(tokenizer: Any, documents: Sequence[str], tokens: int, width: int, generator: torch.Generator) -> Tensor:
    """Blocks [B, width + 1] of these works, as many of each as their number allows, from places drawn at random."""
    wanted = max(_LEAST, tokens // width)
    taken: list[Tensor] = []
    order = torch.randperm(len(documents), generator=generator).tolist()
    for place, number in enumerate(order):
        share = -(-(wanted - len(taken)) // (len(order) - place))
        if share < 1:
            break
        taken += _drawn(tokenizer, documents[number], share, width, generator)
    return torch.stack(taken) if taken else torch.empty(0, width + 1, dtype=torch.int64)


def _drawn(tokenizer: Any, document: str, count: int, width: int, generator: torch.Generator) -> list[Tensor]:
    """At most ``count`` stretches of a work that do not overlap. Only what is needed of a long one is tokenized."""
    characters = (width + 1) * 16 * count
    spare = max(0, len(document) - characters)
    first = int(torch.randint(spare + 1, (1,), generator=generator))
    ids = torch.tensor(tokenizer(document[first : first + characters], add_special_tokens=False, verbose=False).input_ids)
    places = torch.randperm(len(ids) // (width + 1), generator=generator)[:count].sort().values.tolist()
    return [ids[place * (width + 1) : (place + 1) * (width + 1)] for place in places]
