"""Count how often held-out text uses each expert of the demo model, for the first warm start: the model's usage.json.

    python assets/demo/usage.py CORPUS

CORPUS is the folder it was trained on (`train.py`): its documents that were held out there are read here, equally many tokens of each
domain, by the program's own engine. Letters in shapes: N tokens of a domain, W tokens in a window.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from corpus import read_domains

from engine.corpus import tokenize
from engine.residency.usage import SHIPPED, Usage
from engine.session import Session
from engine.store import open_or_convert

MODEL = Path(__file__).with_name("model")
TOKENS = 2048  # N


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder of *.txt or *.txt.gz, a form feed between documents")
    folder = parser.parse_args().corpus
    store = open_or_convert(MODEL)
    usage = Usage(MODEL / SHIPPED, store.model_hash, store.spec.layers, store.spec.experts)
    session = Session(store, {"budget": "100%"}, emit=usage.hear)
    for domain in read_domains(folder):
        for document in domain.held_out:
            ids = tokenize(session.skeleton.tokenizer, [document], TOKENS // len(domain.held_out)).ids
            for window in ids.split(session.context):  # [W]
                session.logits(window[None], 1)
                session.flush()
    session.close()
    usage.save()
    print(f"{usage.path}: {usage.counts.sum() / store.spec.layers:,.0f} uses a layer")


if __name__ == "__main__":
    main()
