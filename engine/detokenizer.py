"""Token ids to text, one token at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

_INCOMPLETE = "\ufffd"


class Detokenizer:
    """Gives the text each new token adds: decoded with a few tokens before it, since spaces depend on the neighbour.

    A token that ends inside a character adds nothing; the one that completes it adds all of it.
    """

    def __init__(self, tokenizer: Any) -> None:
        def decode(ids: tuple[int, ...]) -> str:
            return str(tokenizer.decode(list(ids), skip_special_tokens=True)) if ids else ""

        self._decode = lru_cache(4096)(decode)  # the token before was decoded just now, and neighbours come again
        self._ids: list[int] = []
        self._context = self._told = 0  # decode from ``_context``; tokens before ``_told`` have been told

    def add(self, token: int) -> str:
        """The text that ``token`` adds."""
        self._ids.append(token)
        before = self._decode(tuple(self._ids[self._context : self._told]))
        text = self._decode(tuple(self._ids[self._context :]))
        if text.endswith(_INCOMPLETE) or len(text) < len(before):
            return ""
        self._context, self._told = self._told, len(self._ids)
        return text[len(before) :]
