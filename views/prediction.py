"""What predicting was worth: misses covered and recall over time, bytes used and wasted, recall by layer, and how true the odds were."""

from __future__ import annotations

import numpy as np
from PySide6.QtGui import QResizeEvent

from engine.recording.foresight import Foresight
from engine.recording.statistics import MB
from views.cache import rolling
from views.legend import Entry
from views.plot import ChartPanel
from views.prediction_summary import PredictionSummary
from views.timeaxis import rows_within

READS = (("read ahead, used", "preloaded", "preload_useful_bytes"), ("read ahead, wasted", "wasted", "preload_wasted_bytes"))
"""Name, theme role, column of ``tokens``."""


class PredictionPanel(ChartPanel):
    """Two plots of one value a decode token, and a strip that sums up the range."""

    key = "prediction"
    title = "Prediction"
    hint = "Nothing was predicted yet. Choose a Predictor other than none (Tuning, Preload), a budget below 100%, and run a prompt."

    def build(self) -> None:
        self.share = self.add_row("share", lambda value: f"{value:.0f}%")
        self.covered = self.share.add_curve("preloaded", self.theme)
        self.right = self.share.add_curve("hit", self.theme)
        self.reads = self.add_row("MB read ahead", lambda value: f"{value:g}")
        self.bytes = self.reads.add_stack(tuple(role for _, role, _ in READS), self.theme)
        self.summary = PredictionSummary(self.theme)
        self.body.addWidget(self.summary)
        self._foresight: Foresight | None = None
        self.legend.set_entries((
            Entry("", "", "mean of 0000 tokens", help="What the figures are of: the token pointed at, the range, or the tokens shown"),
            Entry("misses covered", "preloaded", "100.0%", line=True, help="Of what would have been misses, the share that was read ahead "
                  "in time. The line is over 32 tokens"),
            Entry("recall", "hit", "100.0%", line=True, help="Of the experts that routers chose, the share among the k thought likeliest. "
                  "The line is over 32 tokens"),
            *(Entry(name, role, "00.00 MB", help="MB a token") for name, role, _ in READS),
        ))  # fmt: skip

    def has_data(self) -> bool:
        return len(self.recording.predictions) > 0

    def draw(self) -> None:
        model = self.recording.model
        if model is None:
            return
        if self._foresight is None or self._foresight.layers != model.layers:
            self._foresight = Foresight(model.layers, model.top_k)
        self._stale = not self._foresight.catch_up(self.recording) or self._stale
        rows, x0, x1 = self.decode_bars()
        would = rows["preloaded"] + sum(rows[name] for name in ("first_touch", "capacity", "mispredicted", "late"))
        self.share.scale(100.0, exact=True)
        middle = (x0 + x1) / 2
        self.covered.setData(middle, rolling(rows["preloaded"], would))
        self.right.setData(middle, rolling(*self._right(rows)))
        left, right, parts = self.means(x0, x1, [rows[column] / MB for _, _, column in READS])
        self.bytes.set(left, self.gapped(left, right), parts)
        if len(left):
            self.reads.scale(float(np.sum(parts, axis=0).max()))

    def figures(self) -> None:
        scope, rows = self.scope()
        count, covered = max(1, len(rows)), int(rows["preloaded"].sum())
        would = covered + int(sum(rows[name].sum() for name in ("first_touch", "capacity", "mispredicted", "late")))
        hits, turns = self._right(rows)
        values = {
            "": scope, "misses covered": f"{100 * covered / would:.1f}%" if would else "–",
            "recall": f"{100 * hits.sum() / turns.sum():.1f}%" if turns.sum() else "–",
        }  # fmt: skip
        values |= {name: f"{rows[column].sum() / count / MB:.2f} MB" if len(rows) else "–" for name, _, column in READS}
        self.legend.set_values(values)
        span = self.range()
        low, high = (self.low, self.high) if span is None else rows_within(self.recording, span)
        if self._foresight is not None:
            told, came = self._foresight.calibration(slice(low, high))
            self.summary.tell(self._foresight.recall(slice(low, high)), told, came, str(self.settings.effective.get("predictor", "")))

    def restyle(self, theme: object) -> None:
        self.summary.theme = theme  # type: ignore[assignment]
        self.summary.update()
        super().restyle(theme)  # type: ignore[arg-type]

    def reset(self) -> None:
        super().reset()
        self._foresight = None

    def resizeEvent(self, event: QResizeEvent) -> None:
        self.summary.setFixedHeight(min(130, max(72, self.height() // 3)))
        super().resizeEvent(event)

    def _right(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of these decode tokens, the experts chosen that were foreseen, and all that could be, [n] each."""
        if self._foresight is None or not len(rows):
            return np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        starts = self.recording.tokens.column("start")
        tokens = np.minimum(np.searchsorted(starts, rows["start"]), len(self._foresight.turns) - 1)
        right, turns = (array[tokens].sum(axis=1, dtype=np.int64) for array in (self._foresight.right, self._foresight.turns))
        return right, turns * self._foresight.top_k
