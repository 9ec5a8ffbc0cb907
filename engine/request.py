"""One prompt and what became of it.

T tokens so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.detokenizer import Detokenizer


@dataclass
class Request:
    """``memory`` has room for all tokens there may be; ``ids`` are those there are."""

    number: int
    memory: npt.NDArray[np.int64]  # [T at most]
    length: int  # T
    prompt_length: int
    limit: int
    first_token: int
    cache: Any = None  # keys and values, once prefilled
    generated: int = 0
    detokenizer: Detokenizer | None = None  # none for requests given as token ids: they have no text
    text: str = ""

    @property
    def ids(self) -> Tensor:
        """All token ids so far [1, T]: the prompt's and the new ones."""
        return torch.from_numpy(self.memory[None, : self.length])

    @property
    def last(self) -> int:
        """The newest token."""
        return int(self.memory[self.length - 1])

    def add(self, token: int) -> None:
        """One more token."""
        self.memory[self.length] = token
        self.length += 1
        self.generated += 1
