"""Prompts and tokens broken into lines of one height, one after another: what comes next moves no more than the last word.

Widths are pixels. A ``row`` is a row of ``tokens``; text of a prompt belongs to PROMPT. No Qt here.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

PROMPT = -1
NEWLINE = "↵"
SLIVER = 4.0  # width of a token that adds no text yet: a part of a character
TAB = 4  # digits

_WIDE = "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\U00020000-\U0003fffd"
_PARTS = re.compile(rf"\n|\t|[^\S\n\t]*(?:[{_WIDE}]|[^\s{_WIDE}]+)|[^\S\n\t]+")
_STARTS_WIDE, _ENDS_WIDE = re.compile(rf"\s*[{_WIDE}]"), re.compile(rf"[{_WIDE}]$")
# Control characters are shown by their pictures, so that none can act on the text around it.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
_CACHED = 50_000  # texts measured; above a vocabulary's size


@dataclass(slots=True)
class Box:
    """A piece of a token, or of a prompt, on one line. ``apart``: a line may be broken before it."""

    row: int
    text: str
    x: float
    width: float
    apart: bool = False


@dataclass(slots=True)
class Line:
    """``first``: no token before this row is on this line or below. ``request``: index of the request that this heads, else -1."""

    first: int
    boxes: list[Box] = field(default_factory=list)
    request: int = -1


class TextLayout:
    """The document: ``lines`` of everything added so far, for a ``width``. ``measure`` tells how wide a text is."""

    def __init__(self, measure: Callable[[str], float], width: float = 400.0) -> None:
        self._measure = measure
        self._widths: dict[str, float] = {}
        self._parts: dict[str, list[str]] = {}
        self.width = width
        self.clear()

    def clear(self) -> None:
        """Forget all text."""
        self._items: list[tuple[int, str]] = []  # (request, prompt) and (PROMPT, piece), in order
        self._restart()

    def add_request(self, request: int, prompt: str) -> None:
        """Begin a request: its heading, then its prompt on a line of its own."""
        self._items.append((request, prompt))
        self._begin(request, prompt)

    def add_token(self, piece: str) -> None:
        """The text of the next row."""
        self._items.append((PROMPT, piece))
        self._token(piece)

    def resize(self, width: float) -> None:
        """Break everything anew, for another width."""
        if width != self.width:
            self.width = width
            self._again()

    def remeasure(self, measure: Callable[[str], float]) -> None:
        """Break everything anew, with another font."""
        self._measure = measure
        self._widths.clear()
        self._again()

    def line_of(self, row: int) -> int:
        """Index of the line where a token begins."""
        index = bisect_right(self.lines, row, key=lambda line: line.first) - 1
        while index > 0 and not self._holds(index, row):
            index -= 1
        while index > 0 and self._holds(index - 1, row):
            index -= 1
        return index

    def row_at(self, line: int, x: float) -> int | None:
        """The token at an x of a line; None beside the text and on a prompt."""
        if not 0 <= line < len(self.lines):
            return None
        boxes = self.lines[line].boxes
        index = bisect_right(boxes, x, key=lambda box: box.x) - 1
        if index < 0 or boxes[index].row == PROMPT or x >= boxes[index].x + boxes[index].width:
            return None
        return boxes[index].row

    def _holds(self, line: int, row: int) -> bool:
        return any(box.row == row for box in self.lines[line].boxes)

    # --- one after another ---------------------------------------------------------------------------------------------

    def _restart(self) -> None:
        self.lines: list[Line] = []
        self.rows = self.requests = 0  # tokens and requests added
        self._x = 0.0
        self._open = True  # a line may be broken here

    def _again(self) -> None:
        self._restart()
        for request, text in self._items:
            if request == PROMPT:
                self._token(text)
            else:
                self._begin(request, text)

    def _begin(self, request: int, prompt: str) -> None:
        if self.lines:
            self._new_line()
        self.requests += 1
        self.lines.append(Line(self.rows, request=request))
        self._new_line()
        self._flow(PROMPT, prompt)

    def _token(self, piece: str) -> None:
        if not self.lines:
            self._new_line()
        if piece:
            self._flow(self.rows, piece)
        else:
            self._add(self.rows, "", SLIVER)
        self.rows += 1

    def _flow(self, row: int, text: str) -> None:
        for part in self._split(text):
            if part == "\n":
                if row != PROMPT:
                    self._add(row, NEWLINE, self._wide(NEWLINE))
                self._new_line()
            elif part == "\t":
                stop = TAB * self._wide("0")
                self._space(row, part, stop - self._x % stop)
            elif part.isspace():
                self._space(row, part, self._wide(part))
            else:
                self._word(row, part)

    def _space(self, row: int, text: str, width: float) -> None:
        """Spaces stay at the end of the line, cut off at its edge."""
        if self._x >= self.width:
            self._new_line()
        self._add(row, text, min(width, self.width - self._x))
        self._open = True

    def _word(self, row: int, text: str) -> None:
        """A word, or what a token adds to one, with the spaces before it."""
        apart = self._open or text[0].isspace() or bool(_STARTS_WIDE.match(text))
        width = self._wide(text)
        if self._x + width > self.width:
            if apart and self._x:
                self._new_line()
                text = text.lstrip()
            elif not apart:
                self._carry_word()
            text = self._break_long(row, text)
            width = self._wide(text)
        self._add(row, text, width, apart)
        self._open = bool(_ENDS_WIDE.search(text))

    def _carry_word(self) -> None:
        """Move the word that the line ends with to a line of its own, unless it is all there is on the line."""
        boxes = self.lines[-1].boxes
        start = next((index for index in range(len(boxes) - 1, 0, -1) if boxes[index].apart), 0)
        if not start:
            return
        word = boxes[start:]
        del boxes[start:]
        self._new_line(first=word[0].row)
        for box in word:
            text = box.text if self._x else box.text.lstrip()
            self._add(box.row, text, self._wide(text) if text else SLIVER)

    def _break_long(self, row: int, text: str) -> str:
        """Fill lines with what does not fit on one; returns the rest, which does."""
        while self._x + self._wide(text) > self.width:
            room = self.width - self._x
            # bisect finds the first length that is too wide; at least one character goes on an empty line.
            fits = bisect_right(range(1, len(text) + 1), room, key=lambda length: self._measure(text[:length]))
            if not fits and not self._x:
                fits = 1
            if fits >= len(text):
                break
            if fits:
                self._add(row, text[:fits], self._measure(text[:fits]))
            self._new_line()
            text = text[fits:]
        return text

    def _new_line(self, first: int = PROMPT) -> None:
        self.lines.append(Line(self.rows if first == PROMPT else first))
        self._x, self._open = 0.0, True

    def _add(self, row: int, text: str, width: float, apart: bool = False) -> None:
        self.lines[-1].boxes.append(Box(row, text, self._x, width, apart))
        self._x += width

    # --- widths --------------------------------------------------------------------------------------------------------

    def _split(self, text: str) -> list[str]:
        """The parts of a text; pieces come again and again, so they are remembered."""
        parts = self._parts.get(text)
        if parts is None:
            if len(self._parts) > _CACHED:
                self._parts.clear()
            parts = self._parts[text] = _PARTS.findall(text.translate(_PICTURES))
        return parts

    def _wide(self, text: str) -> float:
        width = self._widths.get(text)
        if width is None:
            if len(self._widths) > _CACHED:
                self._widths.clear()
            width = self._widths[text] = self._measure(text)
        return width
