"""Slices in words: what fits into one, and a line about it."""

from __future__ import annotations

import numpy as np

from engine.events import MISSES, Outcome, Phase, SpanKind
from engine.recording.preloads import Fate, Preloads
from engine.recording.recording import Recording
from views.grid_shades import OUTCOMES
from views.timeline_shades import outcome_of
from views.units import format_duration, format_read

NAMES = {
    SpanKind.ATTENTION: "attention", SpanKind.ROUTER: "router", SpanKind.EXPERT: "expert", SpanKind.STALL: "stall",
    SpanKind.HEAD: "head", SpanKind.SAMPLE: "sampling", SpanKind.READ: "read", SpanKind.SHARED: "shared", SpanKind.ACCOUNT: "account",
    SpanKind.PREDICT: "predict",
}  # fmt: skip
TOLD = {
    SpanKind.EXPERT: "Expert compute", SpanKind.STALL: "Stall, waiting for", SpanKind.SHARED: "Shared experts or dense layer",
    SpanKind.ACCOUNT: "The engine's own bookkeeping", SpanKind.PREDICT: "Predicting the next layers' experts",
}  # fmt: skip
LONGEST = 40  # characters of a token's text


def names(span: np.void) -> tuple[str, ...]:
    """Texts for a slice of ``spans``, the longest first."""
    name, layer, expert = NAMES.get(span["kind"], "other"), int(span["layer"]), int(span["expert"])
    place = f"L{layer}" if layer >= 0 else ""
    if expert < 0:
        return f"{name} {place}".strip(), name
    who = f"{place} E{expert}"
    if span["kind"] == SpanKind.STALL:
        return f"stall: waits for {who}", f"stall {who}", "stall"
    return f"{who} {span['bits']} bit", who, f"E{expert}", str(expert)


def token_text(recording: Recording, token: int) -> str:
    """A token's text as it can be printed on one line."""
    piece = recording.pieces[token] if token < len(recording.pieces) else ""
    return piece[:LONGEST].replace("\n", "⏎").replace("\t", "⇥")


def token_names(recording: Recording, token: int) -> tuple[str, ...]:
    """Texts for a slice of the tokens' lane, the longest first."""
    if recording.tokens.column("phase", token, token + 1)[0] == Phase.PREFILL:
        return f"prefill, {_counted(int(recording.tokens.column('tokens', token, token + 1)[0]), 'token')}", "prefill"
    text = token_text(recording, token).strip() or "␣"
    return text, text[:4] + "…", text[:2] + "…", text[:2]


def told(recording: Recording, span: np.void, preloads: Preloads) -> str:
    """One line about a span, of ``preloads`` what became of it where it was read ahead."""
    kind, layer, expert = int(span["kind"]), int(span["layer"]), int(span["expert"])
    name = TOLD.get(kind, NAMES.get(kind, "other").capitalize())
    where = ", ".join([f"layer {layer}"] * (layer >= 0) + [f"expert {expert}"] * (expert >= 0))
    parts = [f"{name} {where}".strip() if kind == SpanKind.STALL else ": ".join(filter(None, (name, where)))]
    if span["bits"]:
        parts.append(f"{span['bits']} bit")
    if kind == SpanKind.READ:
        parts.append(format_read(int(span["bytes"])))
    parts.append(format_duration(int(span["duration"])))
    if kind == SpanKind.READ and span["duration"] > 0:
        parts.append(f"{span['bytes'] / span['duration'] * 1e3:.0f} MB/s")
    if (outcome := outcome_of(kind, span["outcome"])) is not None:
        parts.append(_came(span, preloads) if outcome == Outcome.PRELOADED else OUTCOMES[outcome][1] if outcome else "read ahead")
    token = int(span["token"])
    parts.append(f"token {token}{_quoted(recording, token)}" if token >= 0 else "warm start")
    return " · ".join(parts)


def _came(span: np.void, preloads: Preloads) -> str:
    """What became of a read ahead."""
    found = int(preloads.find(np.array([span]))[0])
    read = preloads.rows[found] if found >= 0 else None
    if read is None or read["fate"] == Fate.PENDING:
        return "read ahead, not used yet"
    after = int(read["settled"] - read["start"] - read["duration"])
    gap = format_duration(abs(after))
    match read["fate"]:
        case Fate.USED:
            return f"read ahead {gap} before it was used by token {read['user']}"
        case Fate.JOINED:
            return f"read ahead, joined: wanted {gap} before it was there by token {read['user']}"
    return f"read ahead, never used: let go {gap} later"


def token_told(recording: Recording, token: int) -> str:
    """One line about a whole pass."""
    row = recording.tokens.rows(token, token + 1)[0]
    prefill = row["phase"] == Phase.PREFILL
    uses = sum(int(row[name]) for name in ("hits", *MISSES))
    parts = [f"Token {token}" + _quoted(recording, token)]
    if prefill:
        parts[0] += f", prefill of {_counted(int(row['tokens']), 'token')}"
    parts.append(format_duration(int(row["duration"])))
    if uses:
        parts.append(f"hits {row['hits']} of {uses}")
    for name, column in (("attention", "attention"), ("experts", "compute"), ("stall", "stall")):
        parts.append(f"{name} {format_duration(int(row[column]))}")
    return " · ".join(parts)


def _quoted(recording: Recording, token: int) -> str:
    text = token_text(recording, token)
    return f" “{text}”" if text else ""


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
