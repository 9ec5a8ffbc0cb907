"""What is measured of a trained model: compression of held-out text, where its routers send tokens, and samples.

Letters in shapes: N tokens, B sequences, W tokens in a window, L layers, E experts.
"""

import lzma
import math

import numpy as np
import torch

BATCH = 8  # windows at once


def windows_of(tokens, width, stride):
    """Return (rows int64 [B, W + 1], fresh [B]): windows that slide by `stride`, and how many of each one's last
    targets no earlier window had. Every token but the very first is a fresh target once.
    """
    last = max(0, len(tokens) - width - 1)
    starts = [*range(0, last, stride), last]
    rows = np.stack([tokens[at : at + width + 1].astype(np.int64) for at in starts])
    reached = [0, *(at + rows.shape[1] - 1 for at in starts)]
    return rows, np.diff(reached)


@torch.no_grad()
def read(trainee, tokens, width, stride, every=1):
    """Return (bits of all tokens together, loads [L, E]: pairs of token and expert by layer).

    every: read only each so-manieth window, and take its bits for the others' too.
    """
    rows, fresh = windows_of(tokens, width, stride)
    total, rows, fresh = fresh.sum(), rows[::every], fresh[::every]
    bits, loads = 0.0, 0
    for at in range(0, len(rows), BATCH):
        part, count = torch.from_numpy(rows[at : at + BATCH]), fresh[at : at + BATCH]
        # A last batch that is not full is filled up: a compiled graph has one shape.
        full = torch.cat([part, part[-1:].expand(BATCH - len(part), -1)])
        losses, _, load = trainee.losses(full)
        for row, new in zip(losses[: len(part)].double(), count, strict=True):
            bits += float(row[len(row) - new :].sum()) / math.log(2)
        loads = loads + load
    return bits * float(total / fresh.sum()), loads.numpy()


def divergence(one, other):
    """Return the Jensen-Shannon divergence in bits, 0 to 1, of two distributions over experts [E]."""
    middle = (one + other) / 2

    def kullback_leibler(p):
        return float(np.sum(p[p > 0] * np.log2(p[p > 0] / middle[p > 0])))

    return (kullback_leibler(one) + kullback_leibler(other)) / 2


def xz_bits_per_byte(text):
    """Return what xz -9e makes of the bytes of `text` alone, in bits a byte."""
    return 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)


def held_out_text(domain):
    """Return a domain's held-out documents as bytes, a form feed between them; the tokens hold END in its place."""
    return "\f".join(domain.held_out).encode()


def sample(model, tokenizer, prompt, seed, count):
    """Return the prompt with `count` tokens sampled after it."""
    torch.manual_seed(seed)
    given = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    made = model.generate(**given, do_sample=True, temperature=0.8, top_p=0.95, max_new_tokens=count, eos_token_id=None)
    return tokenizer.decode(made[0], skip_special_tokens=True)


