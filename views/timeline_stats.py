"""The figures over the timeline: of the selected range or of what is shown, and the share of time of each kind of work."""

from __future__ import annotations

from bisect import bisect_left
from math import isnan, nan

import numpy as np
from PySide6.QtCore import QObject

from engine.recording.overlap import Overlap
from engine.recording.preloads import Fate, Preloads
from engine.recording.recording import Recording
from engine.recording.statistics import Statistics, summarize
from views.legend import Entry, Legend
from views.spantotals import SpanTotals
from views.textures import AHEAD as ROLES
from views.theme import Theme
from views.timeaxis import Window, rows_within
from views.units import format_duration, format_read

BOTH = "overlapped"
FIGURES = (
    Entry("", "", "in view: 000 tokens, 000 ms", help="Figures are of the selected range, else of what is in view; a token on its edge "
          "counts whole"),
    Entry("read", "", "00.0 MB", help="Bytes of expert weights read from storage"),
    Entry("I/O busy", "", "00%", help="Share of the time of the tokens' passes in which at least one read was in flight"),
    Entry(BOTH, "", "00%", help="Of the time from edge to edge of the range or view in which at least one read was in flight, the share in "
          "which the token loop computed too: attention, shared experts, router, experts, head or sampling. Waiting for reads, the "
          "engine's bookkeeping and the framework do not count"),
    Entry("first touch", "first_touch", "000", help="Reads of experts that were never in memory before"),
    Entry("capacity", "capacity", "000", help="Reads of experts that had been evicted"),
)  # fmt: skip
MISPREDICTED = "mispredicted"
FATES = (
    Entry("ahead", "", "", help="Reads that began before a router asked for their expert, by what became of them"),
    *(Entry(name, ROLES[fate], "0000", help=text, fate=fate) for fate, name, text in (
        (Fate.USED, "used", "Hatched: it was there when a router chose its expert"),
        (Fate.JOINED, "joined", "Hatched until its expert was wanted, full from then on: it was under way, and was waited for"),
        (Fate.WASTED, "wasted", "Outlined: it was let go without a use"),
        (Fate.PENDING, "pending", "Dotted: it is held, or under way, and not used yet"),
    )),
    Entry(MISPREDICTED, MISPREDICTED, "000", help="Reads of experts that the predictor did not foresee, while it foresaw others"),
)  # fmt: skip
"""A line of its own, once anything was read ahead."""
SHARED = "shared"
WORK = (
    ("attention", "attention", ("attention",), "Attention and what else is attributed to it"),
    (SHARED, "shared", (), "Shared experts and dense layers: weights that every token needs"),
    ("router", "router", ("router",), "Gates: which experts each token goes to"),
    ("experts", "compute", ("compute",), "Multiplying with expert weights"),
    ("stall", "stall", ("stall",), "The token loop waited for expert weights to be read"),
    ("head", "head", ("head", "sampling"), "Output head and the choice of the next token"),
    ("framework", "framework", ("framework",), "What is left of the token's time: the program around the model, and the engine's "
     "bookkeeping"),
)  # fmt: skip
"""Name, theme role, columns of ``tokens``, help; shares are of the time of all passes. SHARED is told where there is any."""


class TimelineStats(QObject):
    """Legends that read out: ``figures`` with the reads by cause, ``ahead`` with those read ahead by their fate, ``work`` with the share of
    each kind."""

    def __init__(self, theme: Theme, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._shares = tuple(Entry(name, role, "0%", help=f"{text}; share of the tokens' time") for name, role, _, text in WORK)
        self.figures, self.ahead, self.work = Legend(theme, FIGURES), Legend(theme), Legend(theme)

    def restyle(self, theme: Theme) -> None:
        for legend in (self.figures, self.ahead, self.work):
            legend.restyle(theme)

    def show_scope(
        self, recording: Recording, totals: SpanTotals, preloads: Preloads, overlap: Overlap, window: Window, selected: bool
    ) -> None:
        """Write the figures of a window, ns."""
        told = figures(summarize(recording, window[0] + 1, window[1] - 1), window, selected)
        told |= {"I/O busy": _percent(io_share(recording, overlap, window)), BOTH: _percent(overlap.share(*window))}
        self.figures.set_values(told)
        fates = count_fates(preloads, window)
        self.ahead.set_entries(FATES if len(preloads) else ())
        self.ahead.set_values({fate.name.lower(): str(fates[fate]) for fate in Fate} | {MISPREDICTED: told[MISPREDICTED]})
        self.work.set_entries(tuple(entry for entry in self._shares if entry.name != SHARED or totals.shared.any()))
        self.work.set_values({name: f"{share:.0%}" for name, share in work_shares(recording, totals, window).items()})


def figures(told: Statistics, window: Window, selected: bool) -> dict[str, str]:
    """Values of what the passes tell, by the names of FIGURES and FATES."""
    read = told.demand_bytes + told.preload_useful_bytes + told.preload_wasted_bytes
    count = f"{told.tokens} token{'s' * (told.tokens != 1)}"
    return {
        "": f"{'range' if selected else 'in view'}: {count}, {format_duration(window[1] - window[0])}",
        "read": format_read(read),
        "first touch": str(told.first_touch), "capacity": str(told.capacity), MISPREDICTED: str(told.mispredicted),
    }  # fmt: skip


def io_share(recording: Recording, overlap: Overlap, window: Window) -> float:
    """Share (0..1) of the time of the passes that overlap a window in which at least one read was in flight; nan where there is none."""
    rows = rows_within(recording, window)
    starts, duration = recording.tokens.column("start", *rows), recording.tokens.column("duration", *rows)
    return overlap.reading.within(starts, starts + duration) / int(duration.sum()) if duration.any() else nan


def _percent(share: float) -> str:
    return "–" if isnan(share) else f"{share:.0%}"


def count_fates(preloads: Preloads, window: Window) -> list[int]:
    """How many of the reads ahead that went on within a window came to each Fate."""
    rows = preloads.rows[: bisect_left(preloads.rows["asked"], window[1])]
    seen = (rows["duration"] >= 0) & (rows["start"] < window[1]) & (rows["start"] + rows["duration"] > window[0])
    return np.bincount(rows["fate"][seen], minlength=len(Fate)).tolist()


def work_shares(recording: Recording, totals: SpanTotals, window: Window) -> dict[str, float]:
    """Share of the passes' time by the names of WORK, 0 to 1; nothing where there is no pass."""
    low, high = rows_within(recording, window)
    total = float(recording.tokens.column("duration", low, high).sum())
    if not total:
        return {}
    sums = {name: sum(float(recording.tokens.column(column, low, high).sum()) for column in columns) for name, _, columns, _ in WORK}
    sums[SHARED] = float(totals.shared[low:high].sum())
    sums["attention"] -= sums[SHARED]
    return {name: time / total for name, time in sums.items()}
