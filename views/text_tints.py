"""The tint of each token: its latency, its misses or a plan's divergence there, on a scale that stays put. No Qt here."""

from __future__ import annotations

import math

import numpy as np

from engine.events import MISSES, Phase
from engine.recording.recording import Recording
from views.colors import mix, ramp
from views.grid_marks import CORNER
from views.key import Key
from views.text_fidelity import Fidelity
from views.theme import Theme
from views.units import nice_ceiling

MODES = (
    ("latency", "Latency", "Tint tokens by the time they took"),
    ("misses", "Misses", "Tint tokens by how many of their experts had to be read"),
    ("fidelity", "Fidelity", "Tint tokens by how far the bitwidth plan's prediction is from that at the highest width (KL), and mark\n"
                             "those in place of which the plan would have chosen another; on demand, a request at a time"),
)  # fmt: skip
HUES = {"latency": "stall", "misses": "read", "fidelity": "accent"}  # roles of the theme
UNITS = (("s", 1e9), ("ms", 1e6), ("µs", 1e3))
STEPS = 25
PREFILL, UNKNOWN = -1, -2  # in place of a step: the token took a prefill, which is on no scale with the others; nothing is known of it
_FAINT, _STRONG = 0.06, 0.55  # shares of the hue: text stays readable on all of them
_LEAST_KL = 0.001  # nats, at least, that the strongest tint of divergence stands for
_FEW = 2  # percent of the tokens that may lie beyond either end


class Scale:
    """From ``low`` to ``high``, both round. Changed only when the values have left it or fill less than half of it."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0

    def fit(self, low: float, high: float) -> bool:
        """Hold ``low`` to ``high``; whether that took a change."""
        if self.high and self.low <= low and high <= self.high and high - low >= 0.4 * (self.high - self.low):
            return False
        step = nice_ceiling((high - low) / 5)
        self.low, self.high = math.floor(low / step) * step, max(math.ceil(high / step), math.floor(low / step) + 1) * step
        return True

    def steps(self, values: np.ndarray) -> np.ndarray:
        """Where values lie, 0 to STEPS - 1, [n]; those beyond an end are at the end."""
        share = (values - self.low) / max(1e-9, self.high - self.low)
        return np.clip(np.rint(share * (STEPS - 1)), 0, STEPS - 1).astype(int)


def palette(mode: str, theme: Theme) -> list[str]:
    """The tints of a mode from least to most."""
    hue = getattr(theme, HUES[mode])
    return ramp((mix(theme.base, hue, _FAINT), mix(theme.base, hue, _STRONG)), STEPS)


class Tints:
    """The steps of all tokens of one recording, in a mode."""

    def __init__(self, recording: Recording) -> None:
        self.mode, self.fidelity = MODES[0][0], Fidelity()
        self.show(recording)

    def show(self, recording: Recording) -> None:
        """Take another recording."""
        self.recording = recording
        self.fidelity.clear()
        self._scales = {key: Scale() for key, _, _ in MODES}
        self._counted = dict.fromkeys(self._scales, 0)

    @property
    def scale(self) -> Scale:
        """The scale of the mode."""
        return self._scales[self.mode]

    def values(self, first: int, stop: int | None = None) -> np.ndarray:
        """Latency in ns, misses, or divergence in nats of these rows, [n]."""
        table = self.recording.tokens
        if self.mode == "fidelity":
            return self.fidelity.kl(first, len(table) if stop is None else stop)
        names = ("duration",) if self.mode == "latency" else MISSES
        return sum((table.column(name, first, stop).astype(float) for name in names[1:]), table.column(names[0], first, stop).astype(float))

    def refit(self) -> bool:
        """Let the scale hold all but the most extreme of the decode tokens; whether it is another now."""
        fidelity = self.mode == "fidelity"
        count = self.fidelity.taken if fidelity else len(self.recording.tokens)
        if count == self._counted[self.mode]:
            return False
        self._counted[self.mode] = count
        values = self.values(0)
        values = values[np.isfinite(values) if fidelity else self.recording.tokens.column("phase") == Phase.DECODE]
        if not len(values):
            return False
        low, high = np.percentile(values, (_FEW, 100 - _FEW))
        if fidelity:
            return self.scale.fit(0.0, max(float(high), _LEAST_KL))
        # Differences that do not matter should not look as if they did: the scale spans at least a factor of two.
        return self.scale.fit(min(float(low), high / 2) if self.mode == "latency" else 0.0, max(float(high), 1.0))

    def steps(self, first: int, stop: int) -> list[int]:
        """The step of each of these rows, or PREFILL or UNKNOWN."""
        values = self.values(first, stop)
        known = np.isfinite(values)
        steps = np.where(known, self.scale.steps(np.where(known, values, 0.0)), UNKNOWN)
        if self.mode == "fidelity":
            return steps.tolist()
        steps[self.recording.tokens.column("phase", first, stop) == Phase.PREFILL] = PREFILL
        return steps.tolist()

    def legend(self, theme: Theme) -> list[Key]:
        """The scale with its ends, and what the frame or the corner means."""
        scale = self.scale
        if self.mode == "fidelity":
            ends = f"{scale.low:g}–{scale.high:g} nats KL" if scale.high else "KL"
            return [Key(tuple(palette(self.mode, theme)), ends), Key((theme.text,), "another choice", mark=CORNER)]
        units = UNITS if self.mode == "latency" else (("misses", 1.0),)
        unit, size = next((unit for unit in units if scale.high >= unit[1]), units[-1])
        ends = f"{scale.low / size:g}–{scale.high / size:g} {unit}" if scale.high else self.mode
        return [Key(tuple(palette(self.mode, theme)), ends), Key((theme.muted,), "first token (prefill)", frame=True)]
