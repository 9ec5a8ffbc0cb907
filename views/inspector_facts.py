"""What the inspector says of one expert and of one token, in words."""

from __future__ import annotations

from math import exp, isfinite

import numpy as np

from engine.events import BYTES_READ, MISSES, WIDTHS, Outcome, Phase, Residency
from engine.recording.history import Account, Event
from engine.recording.outcomes import OUTCOME_NAMES
from engine.recording.recording import Recording
from views.facts import Fact
from views.grid_shades import OUTCOMES
from views.parts import PARTS, parts_of
from views.units import format_bytes, format_duration, format_read

_CAUSES = (Outcome.FIRST_TOUCH, Outcome.CAPACITY, Outcome.MISPREDICTED, Outcome.LATE)


def state_of(recording: Recording, layer: int, expert: int) -> tuple[str, str]:
    """Role of the theme and text of an expert's state now."""
    state, bits = Residency(int(recording.grid.state[layer, expert])), int(recording.grid.bits[layer, expert])
    name = "read ahead" if state == Residency.STAGED else state.name.lower()
    role = {Residency.RESIDENT: f"bits{bits}" if bits else "resident", Residency.STAGED: "preloaded"}.get(state, name)
    return role, name + (f" at {bits} bits" if bits else "")


def facts_of_expert(recording: Recording, layer: int, expert: int, told: Account) -> tuple[Fact, ...]:
    """Twelve facts, the same ones for every expert."""
    grid, stays = recording.grid, told.stay_tokens
    uses, even = int(grid.uses[layer].sum()), 1 / max(1, grid.shape[1])
    share = told.uses / uses if uses else float("nan")
    hits = told.outcomes[Outcome.HIT] + told.outcomes[Outcome.PRELOADED]
    ahead = told.outcomes[Outcome.PRELOADED]
    sizes = sorted(recording.model.record_bytes.items()) if recording.model else []
    return (
        Fact("Uses", f"{told.uses:,}", "Passes that used it: a decode token counts one, so does a whole prefill"),
        Fact("Last used", f"token {told.last_token}" if told.last_token >= 0 else "never", "Row of the token that used it last"),
        Fact("Hit rate", _percent(told.hit_rate),
             f"{hits:,} hits of {told.uses:,} uses" + (f", {ahead:,} because it was read ahead" if ahead else "")),
        Fact("Gate weight", _number(told.weight, 3), "Mean weight that the router gave it, over the tokens routed to it"),
        Fact("Misses", "" if told.uses > hits else "none", "Uses that did not find it in memory, by cause",
             marked=_causes(told.outcomes), wide=True),
        Fact("Layer share", f"{_percent(share)} of uses, {_number(share / even, 2)} × an even share" if uses else "–",
             f"Its part of all uses in layer {layer}; evenly spread it would be {100 * even:.1f}%", wide=True),
        Fact("Loaded", f"{told.loads:,} ×", f"Evicted {told.evictions:,} times"),
        Fact("Evicted", f"{told.evictions:,} ×", f"Loaded {told.loads:,} times"),
        Fact("Mean stay", f"{_number(stays, 1)} tokens" if isfinite(stays) else "–",
             f"{format_duration(told.stay_ns)} from loaded to evicted; where it was never evicted, until now"),
        Fact("Mean read", format_duration(told.read_ns), f"Over {told.reads:,} reads from storage"),
        Fact("Read", format_read(told.read_bytes), "Bytes read from storage for it, in all"),
        Fact("Per use", format_read(told.read_bytes / told.uses) if told.uses else "–", "Bytes read for it per use"),
        Fact("Record", "", "Its size, on storage and in memory, by width:\n"
             + "\n".join(f"{bits} bits: {size:,} bytes" for bits, size in sizes), marked=_sizes(sizes), wide=True),
    )  # fmt: skip


def facts_of_token(recording: Recording, token: int) -> tuple[Fact, ...]:
    """What the pass did, then its time by part."""
    row = recording.tokens.rows(token, token + 1)[0]
    outcomes = [int(row[name]) for name in ("hits", *MISSES)]
    read = sum(int(row[name]) for name in BYTES_READ)
    prefill, count = row["phase"] == Phase.PREFILL, int(row["tokens"])
    phase = f"prefill of {count}" if prefill else "decode"
    parts = zip(PARTS, parts_of(recording.tokens.rows(token, token + 1)), strict=True)
    return (
        Fact("Phase", phase, f"Of request {int(row['request']) + 1}; {count} token{'s' * (count != 1)} in one pass"),
        Fact("Probability", _percent(exp(float(row["logprob"]))) if isfinite(row["logprob"]) else "–", "That the model gave this token"),
        Fact("Duration", format_duration(float(row["duration"])), "Of the whole pass" + (": the time to first token" if prefill else "")),
        Fact("Hits", f"{outcomes[0]} of {sum(outcomes)}", "Experts found in memory, of those used"
             + (f"; {row['preloaded']} because they were read ahead" if row["preloaded"] else "")),
        Fact("Misses", "" if sum(outcomes[1:]) else "none", "By cause", marked=_causes(tuple(outcomes)), wide=True),
        Fact("Read", format_read(read), "Bytes of expert weights read by this pass, on demand and ahead"),
        Fact("Average bits", _number(float(row["average_bits"]), 2), "Over the experts used by this pass"),
        Fact("Evictions", f"{int(row['evictions']):,}", "Experts that left memory during this pass"),
        Fact("Resident", format_bytes(float(row["resident_bytes"])),
             f"Expert bytes in memory; the budget was {format_bytes(float(row['budget_bytes']))}"),
        *(Fact(_SHORT.get(name, name), format_duration(1e6 * float(ms[0])), text, role) for (name, role, _, text), ms in parts),
    )  # fmt: skip


def shares_of_token(recording: Recording, token: int) -> list[tuple[str, float]]:
    """Role and ms of each part of the pass's time."""
    parts = parts_of(recording.tokens.rows(token, token + 1))
    return [(role, float(ms[0])) for (_, role, _, _), ms in zip(PARTS, parts, strict=True)]


def experts_of_token(recording: Recording, token: int) -> np.ndarray:
    """The rows of ``accesses`` of one pass, ordered by layer and within it by rank; a prefill's by how many tokens were routed there."""
    row = recording.tokens.rows(token, token + 1)[0]
    rows = recording.accesses.between(int(row["start"]), int(row["start"] + row["duration"]))
    rows = rows[rows["token"] == token]
    return rows[np.lexsort((-rows["weight"], rows["rank"], -rows["tokens"], rows["layer"]))]


def token_text(recording: Recording, token: int) -> str:
    """The token's text, with what cannot be seen made visible."""
    text = recording.pieces[token] if token < len(recording.pieces) else ""
    return text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")


def line_of_event(event: Event) -> tuple[str, str]:
    """Role of the theme and text of one event of an expert."""
    if event.what == "used":
        hit = {"hit": "hit", "preloaded": "hit, read ahead"}.get(event.outcome)
        return _ROLES.get(event.outcome, "muted"), f"used: {hit or f'miss, {event.outcome}'}"
    width = f"bits{event.bits}" if event.bits in WIDTHS else "resident"
    if event.what in ("loaded", "read ahead", "loading"):
        took = f" in {format_duration(event.duration)}" if event.duration else ""
        odds = f", thought {100 * event.odds:.0f}% likely" if event.odds else ""
        role = {"loaded": width, "read ahead": "preloaded"}.get(event.what, "loading")
        return role, f"{event.what} at {event.bits} bits{took}{odds}"
    to = f" for L{event.newcomer[0]} E{event.newcomer[1]}" if event.newcomer else ""
    evicted = f"{to}, score {event.score:.3g}"
    more = {"evicted": evicted, "dropped": " before it was loaded", "let go": " unused", "unloaded": " with the model"}
    return "wasted" if event.what == "let go" else "absent", event.what + more[event.what]


_SHORT = {"attention and other": "attention", "expert compute": "compute", "demand stall": "stall"}
_ROLES = {OUTCOME_NAMES[outcome]: role for outcome, (role, _) in OUTCOMES.items()}


def _causes(outcomes: tuple[int, ...]) -> tuple[tuple[str, str], ...]:
    names = ((outcomes[cause], OUTCOMES[cause][0], OUTCOME_NAMES[cause]) for cause in _CAUSES)
    return tuple((role, f"{count:,} {name}") for count, role, name in names if count)


def _sizes(sizes: list[tuple[int, int]]) -> tuple[tuple[str, str], ...]:
    """Bits and size of each record, all in the unit of the largest, which is named once."""
    if not sizes:
        return ()
    unit = format_bytes(sizes[-1][1]).partition(" ")[2]
    scale = 1024 ** ("B", "KiB", "MiB", "GiB").index(unit)
    texts = [f"{bits}: {size / scale:.{0 if size >= 10 * scale else 2}f}" for bits, size in sizes]
    texts[-1] += f" {unit}"
    return tuple((f"bits{bits}", text) for (bits, _), text in zip(sizes, texts, strict=True))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if isfinite(share) else "–"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if isfinite(value) else "–"
