"""What the what-if panel says below its curves."""

from __future__ import annotations

import numpy as np

from engine.events import MISSES, Phase
from engine.recording.recording import Recording
from engine.settings import Value
from engine.simulate.replay import ORACLE
from views.units import format_bytes
from views.whatif_model import Curve, Progress
from views.whatif_plot import Point
from views.whatif_question import Question

READ = "Point to read"
HINT = f"{READ}, click to take"
WAITING = "Replayed when the request is over; Compute replays what there is of it now"
BEGUN = "Replaying the budget in force first"
RECORDED = "A recorded session is shown: nothing can be taken"


def share(budget: int, full: int) -> str:
    """A budget in bytes as a share of all experts."""
    return f"{100 * budget / full:.3g}%"


def replayed(question: Question) -> str:
    """Of how many tokens the curves are."""
    count, recorded = question.routing.tokens, question.recorded
    some = f"The newest {count:,} of {recorded:,} tokens" if count < recorded else f"{count:,} tokens"
    return f"{some}, nothing read ahead"


def under_way(progress: Progress, shown: Question, full: int) -> str:
    """What is being replayed; where that is other tokens than are shown, how many."""
    low, high = share(progress.low, full), share(progress.high, full)
    budgets = low if low == high else f"{low} to {high}"
    tokens = "" if progress.tokens == shown.routing.tokens else f"{progress.tokens:,} tokens at "
    return f"Replaying {tokens}budgets of {budgets}, {100 * progress.share:.0f}% of the next"


def offer(point: Point, wanted: dict[str, Value], full: int) -> str:
    """What a click on a point would do."""
    if not wanted:
        return "This is in force"
    parts = [f"budget {share(point.budget, full)}"] * ("budget" in wanted) + [f"policy {point.policy}"] * ("eviction" in wanted)
    no = ". The oracle knows the future and cannot be had" if point.policy == ORACLE else ""
    return f"Click or Enter: take {' and '.join(parts)}{no}"


def of_range(recording: Recording, rows: tuple[int, int], oracle: Curve) -> str:
    """What was missed in the token rows ``rows``, and what the oracle would have missed with the budget they had."""
    low, high = rows
    told = recording.tokens.rows(low, high)
    decoded = told["phase"] == Phase.DECODE
    budgets = np.unique(told["budget_bytes"][decoded])
    misses = oracle.misses.get(int(budgets[0])) if len(budgets) == 1 else None
    if misses is None:
        return "The range has several budgets, or one that was not replayed; choose tokens of one budget"
    all_decoded = recording.tokens.column("phase") == Phase.DECODE
    where = (np.cumsum(all_decoded) - 1 - (int(all_decoded.sum()) - len(misses)))[low:high][decoded]
    inside = where[(where >= 0) & (where < len(misses))]
    ours = int(sum(told[name][decoded].sum() for name in MISSES))
    return (f"Range of {len(inside)} tokens at {format_bytes(int(budgets[0]))}: {ours:,} misses; oracle without reading ahead: "
            f"{int(misses[inside].sum()):,}")  # fmt: skip
