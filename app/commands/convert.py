"""`main.py convert MODEL STORE`: make an expert store of a checkpoint, once, to run from ever after."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.progress import Bar
from engine.errors import Cancelled, EngineError

if TYPE_CHECKING:
    from engine.store import Store


def add_parser(subparsers: Any) -> None:
    """Declare the command; ``run`` is found at ``args.run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "convert", help="convert a checkpoint into an expert store", description=__doc__
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="folder of a safetensors mixture-of-experts checkpoint")
    parser.add_argument("store", metavar="STORE", type=Path, help="folder to make; an interrupted conversion continues")
    parser.add_argument("--bits", default="2,3,4,8,16", metavar="WIDTHS", help="from 2,3,4,8,16 (default %(default)s)")
    parser.add_argument("--quantizer", default="default",
                        help="channel (the paper's), group32, group64 (the default), group128, or gptq64, which needs --text; "
                             "group64+outliers and gptq64+outliers keep a few weights apart")  # fmt: skip
    parser.add_argument("--text", type=Path, nargs="+", metavar="FILE",
                        help="for gptq64: what the model reads, so that it is known what goes through its experts")  # fmt: skip
    parser.add_argument("--tokens", type=int, default=16_384, metavar="N", help="of the text to listen to (default %(default)s)")
    parser.add_argument("--verify", action="store_true", help="read every record back from disk")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert, with progress on stderr.

    Raises:
        EngineError: the model or the store cannot be used.
    """
    widths = _widths(args.bits)
    started = time.monotonic()
    try:
        with Bar() as bar:
            store = _refit(args, widths, bar) if args.text else _convert(args, widths, bar)
    except (KeyboardInterrupt, Cancelled):
        print(f"Stopped. Convert to {args.store} again with the same settings and it continues where it was.", file=sys.stderr)
        return 1
    about = _about(store, time.monotonic() - started)
    print(json.dumps(about) if args.json else _sentence(about), file=sys.stdout)
    return 0


def _convert(args: argparse.Namespace, widths: tuple[int, ...], bar: Bar) -> Store:
    from engine.store import convert

    return convert(args.model, args.store, widths, args.quantizer, bar.show_conversion, None, args.verify)


def _refit(args: argparse.Namespace, widths: tuple[int, ...], bar: Bar) -> Store:
    """By way of the usual store, whose 16-bit experts are what the text is run through."""
    import torch

    from engine.bitwidth.blocks import texts_of
    from engine.corpus import read_documents
    from engine.models.skeleton import load_skeleton
    from engine.quant import Feedback, codec_named
    from engine.store import open_or_convert
    from engine.store.refit import refit

    codec = codec_named(args.quantizer)
    if not isinstance(codec, Feedback):
        raise EngineError(f"--text: quantizer {codec.name} does not listen to text; leave it out, or choose gptq64")
    if args.verify:
        raise EngineError("--verify: not together with --text; leave it out")
    if args.tokens < 1:
        raise EngineError(f"--tokens {args.tokens}: give at least 1")
    kinds = [read_documents(path) for path in args.text]
    source = open_or_convert(args.model, progress=bar.show_conversion)
    skeleton = load_skeleton(source, torch.float32)
    texts = texts_of(skeleton.tokenizer, kinds, args.tokens, skeleton.context)
    return refit(skeleton, args.store, texts.learn[:, :-1].contiguous(), codec, widths, bar.show_conversion)


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise EngineError(f"--bits {text}: give widths such as 2,4,8,16") from None


def _about(store: Store, seconds: float) -> dict[str, Any]:
    spec = store.spec
    return {
        "store": str(store.path), "model": store.name, "architecture": spec.architecture, "layers": spec.layers, "experts": spec.experts,
        "top_k": spec.top_k, "quantizer": store.quantizer, "bits": list(store.widths),
        "record_bytes": {str(bits): store.record_bytes(bits) for bits in store.widths},
        "skeleton_bytes": store.skeleton_bytes, "model_hash": store.model_hash, "seconds": round(seconds, 3),
    }  # fmt: skip


def _sentence(about: dict[str, Any]) -> str:
    widths = ", ".join(f"{bits} bits ({nbytes / 1024:.0f} KiB)" for bits, nbytes in about["record_bytes"].items())
    return f"{about['store']}: {about['layers']} layers of {about['experts']} experts at {widths} each, by {about['quantizer']}."
