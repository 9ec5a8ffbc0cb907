"""Which tokens of a text a plan would have chosen otherwise than the highest width, as far as that was asked. No Qt here.

n rows of the table of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.bitwidth.messages import Compared


@dataclass(frozen=True)
class Verdict:
    """What was found of one request: its rows from ``first`` to ``stop``; how many ``differ``; the mean divergence, nats a token."""

    first: int
    stop: int
    plan: bytes
    differ: int
    kl: float


class Fidelity:
    """``verdicts`` by the request's index; of a request that is compared again the former one is forgotten."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all: another recording is shown."""
        self.verdicts: dict[int, Verdict] = {}
        self.taken = 0  # answers
        self._kl = np.empty(0, np.float32)
        self._choices: dict[int, tuple[str, str]] = {}  # where they differ: by the highest width, by the plan

    def take(self, request: int, first: int, told: Compared, prompt: int) -> None:
        """Take in the answer about a request of ``prompt`` tokens, whose first row is ``first``."""
        self.taken += 1
        former = self.verdicts.get(request)
        if former is not None:
            self._kl[former.first : former.stop] = np.nan
            for row in range(former.first, former.stop):
                self._choices.pop(row, None)
        kl = np.frombuffer(told.kl, np.float32)[prompt - 1 :]  # what is likeliest after a token is told of the next
        stop = first + len(kl)
        if len(self._kl) < stop:
            self._kl = np.concatenate([self._kl, np.full(stop - len(self._kl), np.nan, np.float32)])
        self._kl[first:stop] = kl
        places = range(prompt - 1, len(told.chosen))
        differing = [place for place in places if told.reference[place] != told.chosen[place]]
        for place in differing:
            self._choices[first + place - prompt + 1] = told.reference_pieces[place], told.chosen_pieces[place]
        self.verdicts[request] = Verdict(first, stop, told.plan, len(differing), float(kl.mean()) if len(kl) else 0.0)

    def kl(self, first: int, stop: int) -> np.ndarray:
        """Divergence at these rows in nats, [n]; not a number where it is not known."""
        told = np.full(stop - first, np.nan, np.float32)
        known = self._kl[first:stop]
        told[: len(known)] = known
        return told

    def differing(self, first: int, stop: int) -> set[int]:
        """Which of these rows the plan would have chosen otherwise."""
        return {row for row in range(first, stop) if row in self._choices}

    def choices(self, row: int) -> tuple[str, str] | None:
        """Text of the likeliest token by the highest width and by the plan, where they differ."""
        return self._choices.get(row)

    def next(self, row: int | None, step: int) -> int | None:
        """The next row that differs after (``step`` 1) or before (-1) a row, around the end; from the end where none is given."""
        rows = sorted(self._choices)
        if not rows:
            return None
        place = int(np.searchsorted(rows, rows[-1] + 1 if row is None else row, "right" if step > 0 else "left"))
        return rows[(place if step > 0 else place - 1) % len(rows)]

