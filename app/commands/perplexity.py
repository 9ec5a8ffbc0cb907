"""`main.py perplexity`: how well a model predicts a text while its experts stream, at given widths."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from app.commands.run import add_settings, chosen_settings
from app.demo import resolve_model
from app.progress import Bar
from engine.errors import EngineError
from profiles.devices import load_devices

_SETTINGS = ("budget", "bits", "plan", "eviction", "predictor", "device", "io_threads", "compute_threads",
             "kernels", "dtype", "skeleton_bits", "verify")  # fmt: skip


def add_parser(subparsers: Any) -> None:
    """Declare the command; ``run`` is found at ``args.run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "perplexity", help="measure how well a model predicts a text",
        description=f"{__doc__} Windows of its context (at most 4096 tokens) slide by three quarters; every token counts once.",
    )  # fmt: skip
    parser.add_argument("--model", default="demo", metavar="DIR", help="checkpoint or store folder, or demo (default)")
    parser.add_argument("--text", type=Path, required=True, metavar="FILE", help="text in UTF-8, plain or .gz; form feeds part documents")
    parser.add_argument("--limit", type=int, metavar="N", help="predict the first N tokens only")
    add_settings(parser, _SETTINGS)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, with progress on stderr.

    Raises:
        EngineError: the model, a setting or the text cannot be used.
    """
    from app.headless import open_store
    from engine.corpus import read_documents, tokenize
    from engine.perplexity import measure
    from engine.session import Session

    if args.limit is not None and args.limit < 1:
        raise EngineError(f"--limit {args.limit}: give at least 1 token")
    documents = read_documents(args.text)
    session = Session(open_store(resolve_model(args.model)), chosen_settings(args), load_devices(), recording=False)
    try:
        with Bar() as bar:
            corpus = tokenize(session.network.skeleton.tokenizer, documents, args.limit)
            found = measure(session, corpus, lambda done, total: bar.show("perplexity", done, total, "tokens"))
    finally:
        session.close()
    about = {
        "tokens": found.tokens, "bytes": found.bytes, "nll_per_token": found.nll_per_token, "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte,
    }  # fmt: skip
    print(json.dumps(about) if args.json else _sentence(about), file=sys.stdout)
    return 0


def _sentence(about: dict[str, Any]) -> str:
    return (
        f"Perplexity {about['perplexity']:.3f} over {about['tokens']:,} tokens ({about['bytes']:,} bytes): "
        f"{about['nll_per_token']:.4f} nats a token, {about['bits_per_byte']:.4f} bits a byte."
    )
