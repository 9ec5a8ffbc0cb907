"""The requests of a recording as text: which rows are whose, what is written over them, and all of it. No Qt here."""

from __future__ import annotations

from engine.recording.recording import Recording
from views.text_layout import TextLayout
from views.text_status import counted
from views.units import format_duration


def rows_of(recording: Recording, request: int) -> tuple[int, int]:
    """First and one past the last token row of a request, as far as their texts are known."""
    requests, known = recording.requests, min(len(recording.tokens), len(recording.pieces))
    stop = requests[request + 1].first_token if request + 1 < len(requests) else known
    return requests[request].first_token, min(stop, known)


def request_of(recording: Recording, row: int | None) -> int:
    """Index of the request of a token row, else of the last; -1 where there is none."""
    if row is None:
        return len(recording.requests) - 1
    return max((index for index, began in enumerate(recording.requests) if began.first_token <= row), default=-1)


def heading(recording: Recording, request: int) -> str:
    """``Request 2 · 12 prompt tokens · TTFT 238 ms · 48 new``."""
    began, (first, stop) = recording.requests[request], rows_of(recording, request)
    parts = [f"Request {request + 1}", counted(len(began.prompt_pieces), "prompt token")]
    if stop > first:
        took = float(recording.tokens.column("duration", first, first + 1)[0])
        parts += [f"TTFT {format_duration(took)}", f"{stop - first:,} new"]
    reason = next((end.reason for end in recording.finished if end.request == began.request), "")
    return " · ".join(parts) + (f" ({reason})" if reason in ("stopped", "failed") else "")


def text_of(recording: Recording, request: int) -> str:
    """Prompt and what came of it."""
    return recording.requests[request].prompt + "".join(recording.pieces[slice(*rows_of(recording, request))])


def ids_of(recording: Recording, request: int) -> list[int]:
    """Token ids of a request, of its prompt and of its rows; empty where those of the prompt were not recorded."""
    ids = recording.requests[request].prompt_ids
    return [*ids, *recording.tokens.column("token_id", *rows_of(recording, request)).tolist()] if ids else []


def feed(text: TextLayout, recording: Recording) -> bool:
    """Take over into the text what the recording has more; whether there was anything."""
    requests, rows = recording.requests, min(len(recording.tokens), len(recording.pieces))
    before = text.rows, text.requests
    while True:
        due = requests[text.requests].first_token if text.requests < len(requests) else rows
        for piece in recording.pieces[text.rows : min(due, rows)]:
            text.add_token(piece)
        if text.requests == len(requests) or due > text.rows:
            break
        text.add_request(text.requests, requests[text.requests].prompt)
    return before != (text.rows, text.requests)
