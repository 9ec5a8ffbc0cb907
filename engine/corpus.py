"""Text to measure on: documents of a file, and the tokens of them.

N tokens.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import EngineError


@dataclass(frozen=True)
class Corpus:
    """Token ids [N] and the bytes of text that they stand for."""

    ids: Tensor
    bytes: int


def read_documents(path: Path) -> list[str]:
    """The documents of a UTF-8 text file, plain or ``.gz``: a form feed stands between two, newlines around them do not count.

    Raises:
        EngineError: there is no such file, it is no text, or there is none in it.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise EngineError(f"{path} is no whole gzip file ({error}); compress the text again") from None
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EngineError(f"{path} is no text in UTF-8 (byte {error.start:,} fits none); give a text file, plain or .gz") from None
    if "\0" in text:
        raise EngineError(f"{path} is no text (it holds NUL bytes); give a text file, plain or .gz")
    documents = [document for piece in text.split("\f") if (document := piece.strip("\r\n")).strip()]
    if not documents:
        raise EngineError(f"{path} is empty; give a file with some text")
    return documents


def tokenize(tokenizer: Any, documents: Iterable[str], limit: int | None = None) -> Corpus:
    """Each document between the tokens for start and end, one after the other; at most ``limit`` tokens behind the first.

    Where the tokenizer has no token for the start, the one for the end stands there, as between documents in training. Ends of
    documents count a byte each but for the last: the form feed in the file.
    """
    end = tokenizer.eos_token_id
    start = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    most = None if limit is None else limit + 1
    ids, size = list[int](), -1
    for document in documents:
        inside = tokenizer(document, add_special_tokens=False, verbose=False).input_ids
        room = len(inside) if most is None else most - len(ids) - (start is not None)
        if room < len(inside):
            document = tokenizer.decode(inside[:room], clean_up_tokenization_spaces=False)
        whole = [start] * (start is not None) + inside + [end] * (end is not None)
        ids += whole if most is None else whole[: most - len(ids)]
        size += len(document.encode()) + 1
        if most is not None and len(ids) == most:
            break
    return Corpus(torch.tensor(ids), size)
