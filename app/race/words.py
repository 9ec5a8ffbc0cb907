"""A tokenizer for synthetic models: token t is the word ``t`` and its number, so that any ids can be typed as a prompt."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


def word(token: int) -> str:
    """The text of a token."""
    return SPECIAL[token] if token < len(SPECIAL) else f"t{token}"


def save_tokenizer(folder: Path, vocabulary: int) -> None:
    """Write the tokenizer of a model of ``vocabulary`` tokens."""
    tokenizer = Tokenizer(models.WordLevel({word(token): token for token in range(vocabulary)}, unk_token=SPECIAL[3]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pad, begin, end, unknown = SPECIAL
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=begin, eos_token=end, unk_token=unknown
    ).save_pretrained(folder)
