"""What plans are likely to lose, before they are measured: estimates, corrected by what measured plans came to. No torch here.

N experts, W widths.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from engine.bitwidth.knapsack import Floats, Packed, cheapest
from engine.bitwidth.messages import Studied, Weighed

_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class Outlook:
    """``losses`` [N, W] in nats a token and ``uses`` [N] as they were estimated, of a model that lies there at ``widths``.

    An estimate is too low by a factor that depends on how much is lost. ``factors`` [n, 3]: the estimates of measured plans, and by what
    the loss was higher, in the mean and at the upper end of its interval.
    """

    widths: tuple[int, ...]
    losses: Floats
    uses: Floats
    factors: Floats = field(default_factory=lambda: np.empty((0, 3)))

    @classmethod
    def of(cls, studied: Studied, weighed: Iterable[Weighed] = ()) -> Outlook:
        losses = np.frombuffer(studied.losses).reshape(-1, len(studied.widths))
        known = [one for one in weighed if one.method == "fast" and one.estimate > 0]
        rows = [(one.estimate, math.log1p(one.loss) / one.estimate, math.log1p(one.loss_ci[1]) / one.estimate) for one in known]
        factors = np.array(sorted(rows)).reshape(-1, 3)
        return cls(tuple(studied.widths), losses, np.frombuffer(studied.uses), np.maximum(factors, 1e-9))

    def estimate(self, plan: bytes) -> float:
        """Nats a token that a plan, a byte an expert, is estimated to lose."""
        places = np.searchsorted(self.widths, np.frombuffer(plan, np.uint8))
        return float(self.losses[np.arange(len(places)), places].sum())

    def expected(self, estimate: float) -> float:
        """The rise of perplexity, as a share, that an estimate is likely to come to."""
        return math.expm1(estimate * self._factor(estimate, 1))

    def allowance(self, tolerance: float) -> float:
        """The estimate whose loss is likely to stay within the tolerance (0.02 is 2%) with its interval's upper end."""
        wanted = math.log1p(tolerance)
        low, high = 0.0, 10 * wanted
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if middle * self._factor(middle, 2) <= wanted else (low, middle)
        return low

    def cheapest(self, tolerance: float, record_bytes: Mapping[int, int], objective: str) -> bytes | None:
        """The plan of fewest bytes, on storage or (by ``traffic``, and near enough by ``speed``) used by a token, that is likely to be
        within the tolerance; None where none is. Widths as ``Calibration`` has them: all that are not the reference."""
        at = [place for place, bits in enumerate(self.widths) if bits < 16] or list(range(len(self.widths)))
        costs = np.tile([float(record_bytes[self.widths[place]]) for place in at], (len(self.losses), 1))
        if objective != "storage":
            costs *= np.maximum(self.uses, 1e-6)[:, None]
        packed: Packed | None = cheapest(costs, self.losses[:, at], self.allowance(tolerance))
        return None if packed is None else np.array(self.widths, np.uint8)[at][packed.choice].tobytes()

    def _factor(self, estimate: float, column: int) -> float:
        """Between measured plans on a straight line over the logarithm; beyond them as at the last."""
        if not len(self.factors):
            return 1.0
        return float(np.interp(math.log(max(estimate, 1e-12)), np.log(self.factors[:, 0]), self.factors[:, column]))
