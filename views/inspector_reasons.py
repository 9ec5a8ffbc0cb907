"""Why an expert is in memory or is not, in plain words."""

from __future__ import annotations

from math import isnan

from engine.events import Residency
from engine.recording.reasons import Arrival, Eviction, Reason
from views.units import format_time

SCORES = {
    "forecast": ("higher: fewer reads saved by keeping it",
                 "minus the reads that keeping it is thought to save, per token until its layer's turn and by the room it takes"),
    "lru": ("higher: longer unused", "minus the number of its last use, all uses since the model was loaded being counted"),
    "lfu": ("higher: fewer uses", "minus its uses since the model was loaded"),
    "fifo": ("higher: loaded longer ago", "minus the number of its load, all loads being counted"),
    "edgemoe": ("higher: fewer uses, or its layer's turn further off",
                "minus its uses, each counting half after 8 tokens, over the layers until its turn"),
    "edgemoe-printed": ("higher: fewer uses, or its layer's turn longer ago",
                        "minus its uses over the layers since its turn, as the paper prints it"),
}  # fmt: skip
"""What a higher score of a policy means, and what the score is."""


def why(reason: Reason | None) -> tuple[list[str], str]:
    """Lines, and what the score in them is ("" where none is): how it left or came, what it lost against or was spared by, its uses."""
    if reason is None:
        return ["Never in memory in this session"], ""
    told = reason.evicted or reason.spared
    lines = [_LEFT[reason.left]] if reason.left else []
    if reason.evicted is not None:
        lines += _evicted(reason.evicted)
    lines += [line for line in (_came(reason.arrival, reason.state), _used(reason)) if line]
    if reason.spared is not None:
        lines += _spared(reason.spared)
    elif reason.state == Residency.RESIDENT:
        lines.append("Nobody has had to leave since")
    return lines, f"The highest score leaves. By {told.policy} it is {SCORES[told.policy][1]}." if told is not None else ""


_LEFT = {
    "let go": "Let go: read ahead, and its layer's turn passed without it",
    "dropped": "Dropped: asked for ahead, and no longer wanted before it was read",
    "unloaded": "Left with the model when that was loaded again",
}


def _evicted(told: Eviction) -> list[str]:
    to = " for a smaller budget or more room to read ahead" if told.told else ""
    if told.newcomer is not None:
        to = f" for layer {told.newcomer[0]}, expert {told.newcomer[1]}"
    score = f"Score {_number(told.score)}, the highest"
    if not told.told:
        score += "; the others' and who came instead are not in this session"
    elif isnan(told.runner_up):
        score += "; all others were in use"
    else:
        score += f"; the next, {_number(told.runner_up)}, stayed"
    return [f"Evicted at token {told.token} ({format_time(told.time)}){to}", f"{score} ({told.policy}; {SCORES[told.policy][0]})"]


def _spared(told: Eviction) -> list[str]:
    return [f"Spared at token {told.token}: layer {told.loser[0]}, expert {told.loser[1]} left with score {_number(told.score)}; "
            f"this one's was {_number(told.runner_up)} at most ({told.policy}; {SCORES[told.policy][0]})"]  # fmt: skip


def _came(arrival: Arrival | None, state: Residency) -> str:
    if arrival is None:
        return ""
    how = {"demand": "on demand", "read ahead": f"ahead, thought {100 * arrival.odds:.0f}% likely,", "warm start": "at the warm start"}
    when = f"at {format_time(arrival.time)}" if arrival.token < 0 else f"at token {arrival.token} ({format_time(arrival.time)})"
    verb = {Residency.LOADING: "Being read", Residency.ABSENT: "Had been read"}.get(state, "Read")
    return f"{verb} {how[arrival.why]} {when}"


def _used(reason: Reason) -> str:
    if reason.state == Residency.LOADING:
        return ""
    if not reason.uses:
        return "Not used since" if reason.state != Residency.ABSENT else "Was not used"
    times = "once" if reason.uses == 1 else f"{reason.uses:,} times"
    return f"Used {times}{' since' if reason.state != Residency.ABSENT else ''}, last by token {reason.last_use}"


def _number(score: float) -> str:
    return f"{score:.4g}".replace("-", "−")
