"""Text for training: documents, their split, the tokenizer and windows of tokens.

A folder holds one file a domain (`*.txt` or `*.txt.gz`), a form feed between documents. Documents are held out whole
and by their content's hash, so the split depends neither on their order nor on a random state.

Letters in shapes: N tokens of a split, D documents, U windows, W tokens in a window.
"""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
HELD_OUT_SHARE = 0.05
HELD_OUT_LEAST = 2
TOKENIZER_SAMPLE = 8 << 20  # characters of each domain; equal, so that neither domain owns the vocabulary

# A newline keeps the indentation after it: how deep a line of code sits is then one token. Single digits, because
# numbers in prose and code are few and different.
PIECES = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\n+[ \t]*|[^\S\n]+(?=\S)|\s+"


@dataclass
class Domain:
    """One file's documents, told apart into those to train on and those only to measure on."""

    name: str
    train: list[str]
    held_out: list[str]


def read_documents(path):
    """Return the file's documents in order, without empty ones and without repeats."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", errors="replace", newline="") as file:
        pieces = (piece.strip("\r\n") for piece in file.read().split("\f"))
        # A repeat could otherwise fall on both sides of the split.
        return list(dict.fromkeys(piece for piece in pieces if piece.strip()))


def split_documents(documents):
    """Return (train, held out): about 5% of the documents and at least 2 are held out, those with the least hashes."""
    if len(documents) <= HELD_OUT_LEAST:
        raise ValueError(f"{len(documents)} documents are too few: at least {HELD_OUT_LEAST + 1} must be in each file")
    ranked = sorted(documents, key=lambda text: hashlib.sha256(text.encode()).digest())
    count = max(HELD_OUT_LEAST, round(len(documents) * HELD_OUT_SHARE))
    chosen = set(ranked[:count])
    return [text for text in documents if text not in chosen], [text for text in documents if text in chosen]


def read_domains(folder):
    """Return the folder's domains, sorted by name."""
    paths = sorted([*Path(folder).glob("*.txt"), *Path(folder).glob("*.txt.gz")])
    # An index or a readme beside the corpora has no form feed, so too few documents, and is no domain.
    found = {path.name.split(".")[0]: documents for path in paths if len(documents := read_documents(path)) > 2}
    if not found:
        raise ValueError(f"{folder}: no *.txt or *.txt.gz with at least 3 documents (form feed between documents)")
    return [Domain(name, *split_documents(documents)) for name, documents in found.items()]


def train_tokenizer(domains, vocabulary):
    """Return a byte-level BPE tokenizer of `vocabulary` entries, learned from equal parts of every domain."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((part for domain in domains for part in _sample(domain.train)), trainer)
    return tokenizer


def _sample(documents):
    """Yield an equal share of each document, so that a long work does not crowd the others out."""
    share = min(1.0, TOKENIZER_SAMPLE / max(1, sum(map(len, documents))))
    for text in documents:
        yield text[: int(len(text) * share) + 1]


def tokenise(tokenizer, documents):
    """Return `tokens` uint16 [N], each document between two END, and `ends` int64 [D], where each document stops."""
    end = tokenizer.token_to_id(END)
    coded = []
    for text in documents:
        coded.append(np.array([end, *tokenizer.encode(text, add_special_tokens=False).ids, end], dtype=np.uint16))
    return {"tokens": np.concatenate(coded), "ends": np.cumsum([len(part) for part in coded])}


class Windows:
    """An endless, deterministic order of the windows of one domain's training tokens.

    The windows of an epoch cover every token; their places shift and their order is shuffled anew every epoch. Where
    it stands is one number, `drawn`, which is all that a checkpoint must keep.
    """

    def __init__(self, tokens, ends, width, seed, drawn=0):
        """tokens: [N]; ends: [D]; width: W, a window's tokens before the one to predict last."""
        self.tokens, self.width, self.seed, self.drawn = tokens, width, seed, drawn
        self.spans = _spans(ends, width)
        counts = [max(1, -(-(stop - start - 1) // width)) for start, stop in self.spans]
        self.counts, self.per_epoch = counts, sum(counts)
        self._epoch, self._places = -1, None

    def draw(self, count):
        """Return the next windows, int64 [count, W + 1]."""
        return np.stack([self._next() for _ in range(count)])

    def _next(self):
        epoch, index = divmod(self.drawn, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._places = epoch, self._lay_out(epoch)
        self.drawn += 1
        start = self._places[index]
        window = self.tokens[start : start + self.width + 1].astype(np.int64)
        # Only a corpus shorter than one window comes out short here.
        return np.resize(window, self.width + 1)

    def _lay_out(self, epoch):
        """Return where the epoch's windows start, shuffled, int64 [U]."""
        random = np.random.default_rng([self.seed, epoch])
        places = []
        for (start, stop), count in zip(self.spans, self.counts, strict=True):
            last = max(start, stop - self.width - 1)
            even = np.linspace(start, last, count)
            step = (last - start) / max(1, count - 1)
            shift = random.uniform(-step / 2, step / 2) if epoch else 0.0
            places.append(np.clip(even + shift, start, last).astype(np.int64))
        return random.permutation(np.concatenate(places))


def _spans(ends, width):
    """Return the (start, stop) that windows stay inside: a document, or neighbours too short to fill one alone."""
    spans, open_start, start = [], None, 0
    for end in map(int, ends):
        if end - start > width:
            if open_start is not None:
                spans.append((open_start, start))
                open_start = None
            spans.append((start, end))
        elif open_start is None:
            open_start = start
        start = end
    if open_start is not None:
        spans.append((open_start, start))
    return spans


def prepare(folder, work, vocabulary):
    """Train the tokenizer and tokenise, or take what an earlier call left in `work`.

    Returns (tokenizer, splits), splits[domain]["train" | "held_out"] = {"tokens": [N], "ends": [D]}.
    """
    work.mkdir(parents=True, exist_ok=True)
    path, made = work / "tokenizer.json", {}
    domains = read_domains(folder)
    if not path.exists():
        train_tokenizer(domains, vocabulary).save(str(work / "tokenizer.part"))
        (work / "tokenizer.part").replace(path)
    tokenizer = Tokenizer.from_file(str(path))
    for domain in domains:
        made[domain.name] = {}
        for split in ("train", "held_out"):
            file = work / f"{domain.name}.{split}.safetensors"
            if not file.exists():
                part = file.with_suffix(".part")
                save_file(tokenise(tokenizer, getattr(domain, split)), part)
                part.replace(file)
            made[domain.name][split] = load_file(file)
    return tokenizer, made
