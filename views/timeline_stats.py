"""The figures over the timeline: of the selected range or of what is shown, and the share of time of each kind of work."""

from __future__ import annotations

from PySide6.QtWidgets import QVBoxLayout, QWidget

from engine.recording.recording import Recording
from engine.recording.statistics import MB, Statistics, summarize
from views.legend import Entry, Legend
from views.theme import Theme
from views.timeaxis import Window, rows_within
from views.units import format_duration

FIGURES = (
    Entry("", "", "in view: 000.0 ms", help="Figures are of the selected range, else of what is in view; a token on its edge counts whole"),
    Entry("tokens", "", "00000", help="Passes, prefills among them"),
    Entry("tokens/s", "", "000.0", help="Decode tokens a second, pauses left out"),
    Entry("hit rate", "", "00.0%", help="Of the experts that the router chose, how many were in memory"),
    Entry("stall", "", "000.0 ms", help="The token loop waited for expert weights"),
    Entry("read", "", "0000 MB", help="Bytes of expert weights read from storage"),
    Entry("I/O busy", "", "000%", help="Share of the tokens' time in which at least one read was in flight"),
)
WORK = (
    ("attention", "attention", ("attention",), "Attention and what else is attributed to it"),
    ("router", "router", ("router",), "Gates: which experts each token goes to"),
    ("expert compute", "compute", ("compute",), "Multiplying with expert weights"),
    ("stall", "stall", ("stall",), "The token loop waited for expert weights to be read"),
    ("head, sampling", "head", ("head", "sampling"), "Output head and the choice of the next token"),
    ("framework", "framework", ("framework",), "What is left of the token's time: the program around the model"),
)
"""Name, theme role, columns of ``tokens``, help; shares are of the time of all passes."""
MISSES = (
    ("first touch", "first_touch", "Reads of experts that were never in memory before"),
    ("capacity", "capacity", "Reads of experts that had been evicted"),
    ("mispredicted", "mispredicted", "Reads of experts that the predictor did not foresee"),
    ("late", "late", "Reads that were begun ahead, but not in time"),
)


class TimelineStats(QWidget):
    """Two legends that read out: figures in the first, shares and causes of misses with their colours in the second."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.figures = Legend(theme, FIGURES)
        self.legend = Legend(theme, (
            *(Entry(name, role, "00%", help=f"{text}; share of the tokens' time") for name, role, _, text in WORK),
            *(Entry(name, role, "00000", help=text) for name, role, text in MISSES),
            Entry("read ahead", "hit", "", help="Reads of experts before the router asked for them, and used"),
        ))  # fmt: skip
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.figures)
        layout.addWidget(self.legend)

    def restyle(self, theme: Theme) -> None:
        self.figures.restyle(theme)
        self.legend.restyle(theme)

    def show_scope(self, recording: Recording, window: Window, selected: bool) -> None:
        """Write the figures of a window, ns."""
        told = summarize(recording, *window)
        self.figures.set_values(figures(told, window, selected))
        shares = work_shares(recording, window)
        misses = {name: f"{getattr(told, field):d}" for name, field, _ in MISSES}
        self.legend.set_values({**{name: f"{share:.0%}" for name, share in shares.items()}, **misses})


def figures(told: Statistics, window: Window, selected: bool) -> dict[str, str]:
    """Values by the names of FIGURES."""
    read = told.demand_bytes + told.preload_useful_bytes + told.preload_wasted_bytes
    busy = told.io_s / told.seconds if told.seconds else float("nan")
    return {
        "": f"{'range' if selected else 'in view'}: {format_duration(window[1] - window[0])}",
        "tokens": str(told.tokens), "tokens/s": _number(told.decode_tok_s, ".1f"), "hit rate": _number(told.hit_rate, ".1%"),
        "stall": format_duration(told.stall_s * 1e9), "read": f"{_number(read / MB, '.1f' if read < 100 * MB else '.0f')} MB",
        "I/O busy": _number(busy, ".0%"),
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
