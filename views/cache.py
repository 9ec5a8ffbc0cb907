"""The expert buffer at work: rolling hit rate, misses per token by cause, and what was read."""

from __future__ import annotations

import numpy as np

from engine.events import MISSES, Phase
from engine.recording.statistics import MB, uses_of
from views.legend import Entry
from views.plot import ChartPanel

WINDOW = 32  # tokens of the rolling hit rate
CAUSE_HELP = {
    "first_touch": "Misses of experts that were never loaded before",
    "capacity": "Misses of experts that were loaded once and evicted since",
    "mispredicted": "Misses of experts that the predictor did not foresee",
    "late": "Misses of experts whose preload was not done in time",
}
READS = (
    ("read on demand", "resident", "demand_bytes", "MB read because an expert was missing"),
    ("preloaded, used", "hit", "preload_useful_bytes", "MB read ahead and used"),
    ("preloaded, wasted", "mispredicted", "preload_wasted_bytes", "MB read ahead and dropped without use"),
)
"""Name, theme role, column of ``tokens``, help."""


def rolling(hits: np.ndarray, uses: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Hit rate in percent over each token and the ``window`` - 1 before it, [n]; nan where nothing was used."""
    sums = [np.concatenate(([0], np.cumsum(values, dtype=np.int64))) for values in (hits, uses)]
    ends = np.arange(1, len(hits) + 1)
    begins = np.maximum(0, ends - window)
    hit, used = (total[ends] - total[begins] for total in sums)
    return np.where(used > 0, 100.0 * hit / np.maximum(1, used), np.nan)


class CachePanel(ChartPanel):
    """Three plots of one value a decode token."""

    key = "cache"
    title = "Cache"
    hint = "Run a prompt: hit rate, misses by cause and bytes read appear here, token by token."

    def build(self) -> None:
        self.rate = self.add_row("hit rate", lambda value: f"{value:.0f}%")
        self.curve = self.rate.add_curve("hit", self.theme)
        self.misses = self.add_row("misses", lambda value: f"{value:g}")
        self.causes = self.misses.add_stack(MISSES, self.theme)
        self.reads = self.add_row("MB read", lambda value: f"{value:g}")
        self.bytes = self.reads.add_stack(tuple(role for _, role, _, _ in READS), self.theme)
        self._more = -1

    def draw(self) -> None:
        self._name_series()
        rows, x0, x1 = self.decode_bars()
        self.rate.scale(100.0, exact=True)
        # The rolling window of the first bars reaches back to tokens that are not shown.
        before = self.recording.tokens.rows(max(0, self.low - 2 * WINDOW), self.low)
        before = before[before["phase"] == Phase.DECODE]
        both = np.concatenate([before, rows])
        rate = rolling(both["hits"], uses_of(both))[len(before) :]
        parts = [rows[cause].astype(float) for cause in MISSES] + [rows[column] / MB for _, _, column, _ in READS]
        left, right, parts = self.means(x0, x1, parts)
        self.curve.setData((x0 + x1) / 2, rate)
        edge, misses, read = self.gapped(left, right), parts[: len(MISSES)], parts[len(MISSES) :]
        self.causes.set(left, edge, misses)
        self.bytes.set(left, edge, read)
        if len(left):
            self.misses.scale(max(1.0, float(np.sum(misses, axis=0).max())))
            self.reads.scale(float(np.sum(read, axis=0).max()))

    def figures(self) -> None:
        scope, rows = self.scope()
        uses = int(uses_of(rows).sum())
        count = max(1, len(rows))
        values = {"": scope, "hit rate": f"{100 * int(rows['hits'].sum()) / uses:.1f}%" if uses else "–"}
        for cause in MISSES:
            values[cause.replace("_", " ")] = f"{rows[cause].sum() / count:.1f}" if len(rows) else "–"
        for name, _, column, _ in READS:
            values[name] = f"{rows[column].sum() / count / MB:.2f} MB" if len(rows) else "–"
        self.legend.set_values(values)

    def reset(self) -> None:
        super().reset()
        self._more = -1

    def _name_series(self) -> None:
        """What predictors cause is named once there is any of it."""
        table = self.recording.tokens
        used = [name for name in ("mispredicted", "late", "preload_useful_bytes", "preload_wasted_bytes") if table.column(name).any()]
        if len(used) == self._more:
            return
        self._more = len(used)
        causes = [cause for cause in MISSES if cause in used or cause in MISSES[:2]]
        reads = [read for read in READS if read[2] in used or read is READS[0]]
        self.legend.set_entries((
            Entry("", "", "mean of 0000 tokens", help="What the figures are of: the token pointed at, the range, or the tokens shown"),
            Entry("hit rate", "hit", "100.0%", line=True, help=f"Experts found in memory, of those used. The line is over {WINDOW} tokens"),
            *(Entry(cause.replace("_", " "), cause, "00.0", help=CAUSE_HELP[cause] + "; per token") for cause in causes),
            *(Entry(name, role, "00.00 MB", help=f"{text}; per token") for name, role, _, text in reads),
        ))  # fmt: skip
