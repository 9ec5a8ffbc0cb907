"""What a synthetic checkpoint was made to do, as it carries it itself; and how far an engine did so.

N tokens of the cycle, S MoE layers, k experts a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.race.routing import Routing

FILE = "planted.npz"


@dataclass(frozen=True)
class Planted:
    """Token ``first + t`` is followed by ``first + (t + 1) % N``, and uses the experts ``routing[t]`` [S, k]."""

    routing: Routing  # [N, S, k]
    first: int

    @classmethod
    def read(cls, folder: Path) -> Planted | None:
        """What was planted in the checkpoint in ``folder``, None where it is no synthetic one."""
        if not (folder / FILE).is_file():
            return None
        with np.load(folder / FILE, allow_pickle=False) as file:
            return cls(file["routing"], int(file["first"]))

    def write(self, folder: Path) -> None:
        np.savez_compressed(folder / FILE, routing=self.routing, first=np.int64(self.first))

    def prompt(self, length: int) -> list[int]:
        """Token ids from which greedy decoding walks on."""
        return [self.first + step % len(self.routing) for step in range(length)]

    def following(self, token: int) -> int:
        """The token that comes after ``token``."""
        return self.first + (token - self.first + 1) % len(self.routing)

    def walked(self, ids: list[int]) -> float:
        """The share of ``ids`` (prompt and answer) that follow the one before as planted."""
        pairs = list(zip(ids, ids[1:], strict=False))
        return sum(after == self.following(before) for before, after in pairs) / max(1, len(pairs))

    def experts(self, token: int) -> NDArray[np.uint16]:
        """The experts that ``token`` is to use: [S, k], likeliest first."""
        return self.routing[(token - self.first) % len(self.routing)]
