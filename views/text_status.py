"""The line under the text: about one token, or about all of them."""

from __future__ import annotations

import math

import numpy as np

from engine.events import BYTES_READ, MISSES, Phase
from engine.recording.recording import Recording
from views.units import format_duration, format_read

LONGEST = 24  # characters of a piece that are shown


def token_line(recording: Recording, row: int, kl: float = math.nan) -> str:
    """``kl``: nats that a plan diverges there, where that is known.

    ``Token 12 ' the' · 4.96 ms, stall 2.73 ms · 5 hits, 11 misses · 1.15 MiB read · p 83.7%``."""
    token, piece = recording.tokens.rows(row, row + 1)[0], recording.pieces[row]
    took = format_duration(float(token["duration"]))
    if token["phase"] == Phase.PREFILL:
        took = f"prefill of {int(token['tokens'])} in {took}"
    return " · ".join((
        f"Token {row} {_shown(piece)}", *([f"KL {kl:.2g} nats"] if kl == kl else []),
        f"{took}, stall {format_duration(float(token['stall']))}",
        f"{counted(int(token['hits']), 'hit')}, {counted(sum(int(token[name]) for name in MISSES), 'miss', 'misses')}",
        f"{format_read(sum(int(token[name]) for name in BYTES_READ))} read",
        f"p {100 * np.exp(float(token['logprob'])):.3g}%",
    ))  # fmt: skip


def choice_line(row: int, reference: str, plan: str, kl: float) -> str:
    """``Token 12: 16 bits would choose ' a', the plan ' the' · KL 0.214 nats``."""
    return f"Token {row}: the highest width would choose {_shown(reference)}, the plan {_shown(plan)} · KL {kl:.3g} nats"


def total_line(recording: Recording, rows: int) -> str:
    """How many tokens there are and how fast they came; while there are none, what is awaited."""
    requests = len(recording.requests)
    if not rows:
        prefill = requests and recording.state == "running"
        return f"Prefill of {counted(len(recording.requests[-1].prompt_pieces), 'prompt token')} under way." if prefill else ""
    durations = recording.tokens.column("duration")[recording.tokens.column("phase") == Phase.DECODE]
    mean = f", decode {format_duration(float(durations.mean()))} a token" if len(durations) else ""
    where = f" in {requests} requests" if requests > 1 else ""
    return f"{counted(rows, 'token')}{where}{mean}. Point at a token; click to pin it."


def _shown(piece: str) -> str:
    return repr(piece if len(piece) <= LONGEST else piece[:LONGEST] + "…") if piece else "part of a character"


def counted(count: int, one: str, many: str = "") -> str:
    """``1 hit``, ``1,200 hits``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
