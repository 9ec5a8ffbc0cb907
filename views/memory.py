"""Memory: what the experts occupy, by width, under the budget line; and the engine's process as a whole."""

from __future__ import annotations

import numpy as np

from engine.events import WIDTHS, Residency
from engine.recording.statistics import peak_resident
from views.legend import Entry
from views.plot import BARS, ChartPanel, Row
from views.plotitems import Level, binned
from views.timeaxis import rows_within, token_ends
from views.units import format_bytes

BOTH = (("budget", "budget_bytes"), ("KV cache", "kv_bytes"))  # what tokens and samples both tell
PROCESS = ("resident", "head", "framework")


def unit_of(value: float) -> float:
    """The binary unit in which an axis to ``value`` bytes is counted."""
    return float(next((unit for unit in (2**30, 2**20, 2**10) if value >= 2 * unit), 1))


class MemoryPanel(ChartPanel):
    """Two plots, since the budget is often a small part of the process: experts to the scale of the budget, and the process."""

    key = "memory"
    title = "Memory"
    hint = "Load a model: what its experts occupy appears here, under the budget line."
    fewest = 1

    def build(self) -> None:
        self.experts = self.add_row("experts", format_short, stretch=3)
        self.widths = self.experts.add_stack(tuple(f"bits{width}" for width in WIDTHS), self.theme)
        self.budget = self.experts.add_curve("budget", self.theme)
        self.process = self.add_row("process", format_short, stretch=2)
        self.parts = self.process.add_stack(PROCESS, self.theme)
        self._levels: dict[int, list[Level]] = {}
        self._named: tuple[int, ...] = ()

    def has_data(self) -> bool:
        return len(self.recording.samples) > 0 or len(self.recording.tokens) > 0

    def draw(self) -> None:
        self._name_series()
        window = self.window()
        self._draw_experts(window)
        self._draw_process(window)

    def levels(self, row: Row) -> list[Level]:
        return self._levels.get(id(row), [])

    def figures(self) -> None:
        """As it was after the token pointed at, or at the end of the range, else now; peaks over the range or all."""
        table, samples = self.recording.tokens, self.recording.samples
        token, span = self.selection.hover_token, self.range()
        time, scope = None, "now"
        if token is not None and token < len(table):
            time, scope = int(token_ends(self.recording, token, token + 1)[0]), f"token {token}"
        elif span is not None:
            time, scope = span[1], "end of range"
        row = len(table) - 1 if time is None else int(np.searchsorted(token_ends(self.recording), time, "right")) - 1
        sample = len(samples) - 1 if time is None else int(np.searchsorted(samples.column("time"), time, "right")) - 1
        values = {"": scope}
        if row >= 0:
            values |= {f"{width} bit": format_bytes(int(table.column(f"resident_{width}")[row])) for width in WIDTHS}
            values |= {name: format_bytes(int(table.column(column)[row])) for name, column in BOTH}
        if sample >= 0:
            values["process"] = format_bytes(int(samples.column("rss")[sample]))
            if row < 0 or int(samples.column("time")[sample]) > int(token_ends(self.recording, row, row + 1)[0]):
                values |= {name: format_bytes(int(samples.column(column)[sample])) for name, column in BOTH}
        self.legend.set_values(values)

    def reset(self) -> None:
        super().reset()
        self._named, self._levels = (), {}

    def _draw_experts(self, window: tuple[int, int]) -> None:
        """Steps: what was resident after a token stays until the next is done."""
        table = self.recording.tokens
        low, high = max(0, self.low - 1), self.high
        ends = token_ends(self.recording, low, high)
        begins, _ = binned(high - low, low, BARS)
        times = ends[begins] if len(ends) else ends
        left = np.concatenate([times, [max(window[1], int(times[-1]))]]) if len(times) else np.empty(0)
        x = np.asarray(self.x_of(left.astype(np.int64)), float) if len(left) else left
        # Bars of the byte counts at the first token of each bin: no mean, since no such amount was ever resident.
        parts = [table.column(f"resident_{width}", low, high)[begins].astype(float) for width in WIDTHS]
        self.widths.set(x[:-1], x[1:], parts)
        budgets, moments = self._budgets(window)
        if len(moments):
            steps = np.asarray(self.x_of(np.repeat(np.append(moments, max(window[1], int(moments[-1]))), 2)[1:-1]), float)
            self.budget.setData(steps, np.repeat(budgets, 2).astype(float))
        else:
            self.budget.setData([], [])
        budget = float(budgets.max()) if len(budgets) else 0.0
        held = float(np.sum(parts, axis=0).max()) if len(x) else 0.0
        span = self.range()
        peak = peak_resident(self.recording, *(span or (None, None)))
        peak = peak if peak == peak else 0.0
        top = max(budget, held, peak)
        self.experts.scale(top * 1.12, unit_of(top), exact=True)
        theme = self.theme
        shown = float(budgets[-1]) if len(budgets) else 0.0
        levels = [
            Level(shown, f"budget {format_bytes(shown)}", theme.budget, bare=True),
            Level(peak, f"peak {format_bytes(peak)}", theme.text, below=True),
        ]
        self._levels[id(self.experts)] = [level for level in levels if level.y > 0]

    def _budgets(self, window: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The budget line: bytes and since when, ns, one a change; of what is shown."""
        table, samples = self.recording.tokens, self.recording.samples
        low, high = rows_within(self.recording, window)
        first, last = _within(samples.column("time"), window)
        first = max(0, first - 1)
        times = np.concatenate([table.column("start", low, high), samples.column("time", first, last)])
        values = np.concatenate([table.column("budget_bytes", low, high), samples.column("budget_bytes", first, last)])
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        keep = np.flatnonzero(np.diff(values, prepend=-1) != 0)
        return values[keep], times[keep]

    def _draw_process(self, window: tuple[int, int]) -> None:
        samples = self.recording.samples
        first, last = _within(samples.column("time"), window)
        first = max(0, first - 1)
        begins, _ = binned(last - first, first, BARS)
        rows = samples.rows(first, last)[begins]
        if not len(rows):
            self.parts.set(np.empty(0), np.empty(0), [np.empty(0)] * len(PROCESS))
            self._levels[id(self.process)] = []
            return
        x = np.asarray(self.x_of(np.append(rows["time"], max(window[1], int(rows["time"][-1])))), float)
        experts, kv, rss = (rows[name].astype(float) for name in ("resident_bytes", "kv_bytes", "rss"))
        experts = np.minimum(experts, rss)
        kv = np.minimum(kv, rss - experts)
        self.parts.set(x[:-1], x[1:], [experts, kv, rss - experts - kv])
        peak = _peak(samples.column("time"), samples.column("rss"), self.range())
        self.process.scale(max(peak, float(rss.max())) * 1.25, unit_of(peak), exact=True)
        self._levels[id(self.process)] = [Level(peak, f"peak {format_bytes(peak)}", self.theme.text, True)]

    def _name_series(self) -> None:
        table, grid = self.recording.tokens, self.recording.grid
        held = set(np.unique(grid.bits[grid.state == Residency.RESIDENT]).tolist())
        named = tuple(w for w in WIDTHS if w in held or w in self._named or bool(table.column(f"resident_{w}").any()))
        if named and named == self._named:
            return
        self._named = named
        self.legend.set_entries((
            Entry("", "", "end of range", help="When this was so: after the token pointed at, at the end of the range, or now"),
            Entry("budget", "budget", "000 MiB", line=True, help="Most that expert weights may occupy"),
            *(Entry(f"{w} bit", f"bits{w}", "000 MiB", help=f"Experts resident at {w} bits") for w in named),
            Entry("process", "", "0.00 GiB", help="Resident memory of the engine process, as the system counts it"),
            Entry("experts", "resident", "", help="Expert weights as part of the process"),
            Entry("KV cache", "head", "00.0 MiB", help="Keys and values of the text so far, as part of the process"),
            Entry("the rest", "framework", "", help="Skeleton weights, libraries and work space, as part of the process"),
        ))  # fmt: skip


def _within(times: np.ndarray, window: tuple[int, int]) -> tuple[int, int]:
    """First and one past the last of the rows in the window, its ends included."""
    return int(np.searchsorted(times, window[0], "left")), int(np.searchsorted(times, window[1], "right"))


def _peak(times: np.ndarray, values: np.ndarray, span: tuple[int, int] | None) -> float:
    if span is not None:
        first, last = _within(times, span)
        values = values[first:last]
    return float(values.max()) if len(values) else 0.0


def format_short(value: float) -> str:
    """``12 MiB`` for an axis: no more digits than it takes."""
    for name, unit in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:g}"
