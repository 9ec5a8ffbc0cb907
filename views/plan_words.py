"""Sentences about plans: what they weigh, what they lose, how fast they would run. No Qt here."""

from __future__ import annotations

from engine.bitwidth.messages import Studied, Weighed
from engine.events import Progress
from views.pareto_plot import NAMES
from views.units import format_read

OBJECTIVES = (
    ("storage", "Bytes on storage", "Fewest bytes of all experts together: what has to lie on the device"),
    ("traffic", "Bytes a token uses", "Fewest bytes of the experts that a token uses: what has to be read where little fits into memory"),
    ("speed", "Tokens/s", "Most predicted tokens/s in as many bytes of memory as the budget is now, by replays of what the text's\n"
                          "routers chose. (A budget in percent is of the plan's own bytes: give it in bytes to keep it.)\n"
                          "While the tolerance is dragged: fewest bytes a token uses"),
)
"""Key, title, help."""
START = "Calibrate: every expert's importance is estimated on the text, then plans are measured on works that it was not estimated on."


def share(value: float) -> str:
    """A loss in percent, with its sign."""
    return f"{value:+.2%}"


def interval(pair: tuple[float, float]) -> str:
    return f"{pair[0]:+.2%} to {pair[1]:+.2%}"


def weight(total: int, full: int, count: int, plan_bits: float, highest: int) -> str:
    """Bytes, their share of those at the ``highest`` width, mean bits."""
    return f"{format_read(total)}, {total / max(1, full):.0%} of {highest} bits, {plan_bits:.2f} bits in the mean" if count else ""


def loss(measured: Weighed | None, expected: float | None, tolerance: float | None) -> str:
    """What a plan loses: measured, or as it is estimated."""
    if measured is not None:
        text = f"measured {share(measured.loss)} perplexity ({interval(measured.loss_ci)}), KL {measured.kl:.4f}"
        if tolerance is not None and measured.loss_ci[1] > tolerance:
            text += f" · may lose more than {tolerance:.2%}: Find corrects it"
        return text
    return "loss not known: calibrate" if expected is None else f"about {share(expected)} perplexity by the estimate, not measured"


def speed(plan: float | None, now: float | None, running: bool) -> str:
    """Predicted decode speed, beside that of the plan in force by the same replays."""
    if plan is None or now is None:
        return "speed: predicted in a pause" if running else ""
    return f"{plan:,.0f} tokens/s predicted ({plan / max(now, 1e-9):.2f}× of now)"


def spot(weighed: Weighed, size: int, speed_told: float | None) -> str:
    """What is told of a mark."""
    name = f"{weighed.plan[0]} bits for all" if weighed.method == "uniform" else NAMES[weighed.method]
    fast = f"\n{speed_told:,.0f} tokens/s predicted" if speed_told is not None else ""
    return (f"{name} · {format_read(size)}\nperplexity {share(weighed.loss)} ({interval(weighed.loss_ci)})\n"
            f"KL {weighed.kl:.4f} ({weighed.kl_ci[0]:.4f} to {weighed.kl_ci[1]:.4f}) nats/token{fast}\nClick: edit this plan")  # fmt: skip


def studied(told: Studied) -> str:
    """What losses are measured on."""
    return (f"Estimated on {told.tokens[0]:,} tokens of {told.works[0]} works, measured on {told.tokens[1]:,} of {told.works[1]} others; "
            f"perplexity at {max(told.widths)} bits {told.perplexity:.2f}")  # fmt: skip


def in_force(measured: Weighed | None) -> str:
    """The fidelity of the plan that the model runs with."""
    if measured is None:
        return "in force: not measured yet"
    return f"in force: KL {measured.kl:.4f}, {share(measured.loss)}"


def under_way(progress: Progress | None, held: bool, left: str = "") -> str:
    """How much time is ``left``, which is the first to be read where there is little room, and how far it is."""
    if held:
        return "held while the model runs"
    if progress is None:
        return "starting…"
    if progress.total <= 0:
        return f"{progress.stage}…"
    return " · ".join(filter(None, (left, f"{progress.stage}: {progress.done:,} of {progress.total:,} {progress.unit}")))
