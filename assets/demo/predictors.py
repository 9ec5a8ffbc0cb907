"""Record which experts the demo model's routers choose and learn from it what they will choose: the model's predictors.

    python assets/demo/predictors.py CORPUS [--routing OUT.npz]

CORPUS is the folder the model was trained on (`train.py`). A passage each of 30 documents of every domain, of those that it was trained on,
begins a request of 300 tokens; `main.py train` does the rest. Letters in shapes: T decoded tokens, S layers, k experts a token.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
from corpus import read_domains

import main as program
from engine.events import ACCESS, Batch, Phase
from engine.session import Session
from engine.store import open_or_convert

MODEL = Path(__file__).with_name("model")
SETTINGS = {"budget": "100%", "bits": 4, "ignore_eos": True, "max_tokens": 300}
DOCUMENTS, PASSAGE = 30, 240  # of a domain; characters


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder of *.txt or *.txt.gz, a form feed between documents")
    parser.add_argument("--routing", type=Path, help="keep the routing in this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        routing = args.routing or Path(folder) / "routing.npz"
        experts, lengths, count = record(passages(args.corpus))
        np.savez_compressed(routing, experts=experts.astype(np.uint8), lengths=lengths, expert_count=count)
        return program.main(["train", "--model", "demo", "--routing", str(routing), "--out", str(MODEL)])


def passages(folder):
    """Return a passage of each of some documents of every domain, drawn at random, the same on every machine."""
    random = np.random.default_rng(0)
    found = []
    for domain in read_domains(folder):
        long = [document for document in domain.train if len(document) > 4 * PASSAGE]
        for number in random.permutation(len(long))[:DOCUMENTS]:
            start = int(random.integers(len(long[number]) - PASSAGE))
            found.append(long[number][start : start + PASSAGE])
    return found


def record(prompts):
    """Return the experts [T, S, k] that the requests chose while decoding, the tokens of each request, and how many experts a layer has."""
    store, rows = open_or_convert(MODEL), []

    def hear(notice):
        if isinstance(notice, Batch) and "accesses" in notice.tables:
            rows.append(np.frombuffer(notice.tables["accesses"], ACCESS))

    session, lengths = Session(store, SETTINGS, emit=hear), []
    for seed, prompt in enumerate(prompts):
        session.change("seed", seed)
        request = session.begin(prompt)
        while session.request is not None:
            session.step()
        lengths.append(request.generated - 1)  # the first comes of the prefill
    session.close()
    found = np.concatenate(rows)
    experts = found["expert"][found["phase"] == Phase.DECODE].reshape(sum(lengths), store.spec.layers, store.spec.top_k)
    return experts, np.array(lengths), store.spec.experts


if __name__ == "__main__":
    sys.exit(main())
