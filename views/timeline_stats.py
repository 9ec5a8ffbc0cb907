"""The figures over the timeline: of the selected range or of what is shown, and the share of time of each kind of work."""

from __future__ import annotations

from PySide6.QtCore import QObject

from engine.recording.recording import Recording
from engine.recording.statistics import MB, Statistics, summarize
from views.legend import Entry, Legend
from views.theme import Theme
from views.timeaxis import Window, rows_within
from views.units import format_duration

FIGURES = (
    Entry("", "", "in view: 0000 tokens, 000 ms", help="Figures are of the selected range, else of what is in view; a token on its edge "
          "counts whole"),
    Entry("tokens/s", "", "000.0", help="Decode tokens a second, pauses left out"),
    Entry("hit rate", "", "00.0%", help="Of the experts that the router chose, how many were in memory"),
    Entry("stall", "", "00.0 ms", help="The token loop waited for expert weights"),
    Entry("read", "", "00.0 MB", help="Bytes of expert weights read from storage"),
)  # fmt: skip
WORK = (
    ("attention", "attention", ("attention",), "Attention and what else is attributed to it"),
    ("router", "router", ("router",), "Gates: which experts each token goes to"),
    ("experts", "compute", ("compute",), "Multiplying with expert weights"),
    ("stall", "stall", ("stall",), "The token loop waited for expert weights to be read"),
    ("head", "head", ("head", "sampling"), "Output head and the choice of the next token"),
    ("framework", "framework", ("framework",), "What is left of the token's time: the program around the model"),
)
"""Name, theme role, columns of ``tokens``, help; shares are of the time of all passes."""
MISSES = (
    ("first touch", "first_touch", "Reads of experts that were never in memory before"),
    ("capacity", "capacity", "Reads of experts that had been evicted"),
    ("mispredicted", "mispredicted", "Reads of experts that the predictor did not foresee"),
    ("late", "late", "Reads that were begun ahead, but not in time"),
)
READS = (
    Entry("I/O busy", "", "00%", help="Share of the tokens' time in which at least one read was in flight"),
    *(Entry(name, role, "0000", help=text) for name, role, text in MISSES),
)
AHEAD = Entry("read ahead", "hit", "", help="Reads of experts before the router asked for them, and used")


class TimelineStats(QObject):
    """Three legends that read out: ``figures``; ``work`` with the share of each kind; ``reads`` with the causes of misses."""

    def __init__(self, theme: Theme, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.figures = Legend(theme, FIGURES)
        shares = (Entry(name, role, "0%", help=f"{text}; share of the tokens' time") for name, role, _, text in WORK)
        self.work, self.reads = Legend(theme, tuple(shares)), Legend(theme, READS)

    def restyle(self, theme: Theme) -> None:
        for legend in (self.figures, self.work, self.reads):
            legend.restyle(theme)

    def show_scope(self, recording: Recording, window: Window, selected: bool) -> None:
        """Write the figures of a window, ns."""
        told = summarize(recording, window[0] + 1, window[1] - 1)
        self.figures.set_values(figures(told, window, selected))
        self.work.set_values({name: f"{share:.0%}" for name, share in work_shares(recording, window).items()})
        if told.preload_useful_bytes:
            self.reads.set_entries((*READS, AHEAD))
        busy = _number(told.io_s / told.seconds if told.seconds else float("nan"), ".0%")
        self.reads.set_values({"I/O busy": busy, **{name: str(getattr(told, field)) for name, field, _ in MISSES}})


def figures(told: Statistics, window: Window, selected: bool) -> dict[str, str]:
    """Values by the names of FIGURES."""
    megabytes = (told.demand_bytes + told.preload_useful_bytes + told.preload_wasted_bytes) / MB
    count = f"{told.tokens} token{'s' * (told.tokens != 1)}"
    return {
        "": f"{'range' if selected else 'in view'}: {count}, {format_duration(window[1] - window[0])}",
        "tokens/s": _number(told.decode_tok_s, ".1f"), "hit rate": _number(told.hit_rate, ".1%"),
        "stall": format_duration(told.stall_s * 1e9),
        "read": f"{megabytes:.1f} MB" if megabytes < 100 else f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.2f} GB",
    }  # fmt: skip


def work_shares(recording: Recording, window: Window) -> dict[str, float]:
    """Share of the passes' time by the names of WORK, 0 to 1; nothing where there is no pass."""
    low, high = rows_within(recording, window)
    total = float(recording.tokens.column("duration", low, high).sum())
    if not total:
        return {}
    return {
        name: sum(float(recording.tokens.column(column, low, high).sum()) for column in columns) / total for name, _, columns, _ in WORK
    }  # fmt: skip


def _number(value: float, pattern: str) -> str:
    return f"{value:{pattern}}" if value == value else "–"
