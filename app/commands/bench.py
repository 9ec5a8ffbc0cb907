"""`main.py bench`: race this engine against the paper's baselines and other programs, on the same weights under the same memory."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from app.commands.run import add_settings, chosen_settings
from app.demo import NAME, resolve_model
from engine import machine
from engine.errors import EngineError
from engine.settings import Value, parse_size

_SETTINGS = ("budget", "eviction", "predictor", "device", "io_threads", "kernels", "dtype", "skeleton_bits", "verify")
_BASELINES = "io-free,io-qfree,io-exp,io-qexp"
_EPILOG = """\
Without options: the demo model, all of it in memory, against the paper's baselines. For other programs install
requirements-bench.txt; who is not installed is left out with a word. --shape makes a synthetic model of random weights
(olmoe is 14 GB, and about as much again for the contenders' own files), whose routing and answer are the same in every engine.
Memory limits, cold starts and the counters of a whole turn take root and Linux; without, the race goes on and says what it lacks."""


def add_parser(subparsers: Any) -> None:
    """Declare the command; ``run`` is found at ``args.run``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bench", help="race against other engines under a memory limit", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", default=NAME, metavar="DIR", help="checkpoint folder, or demo (default)")
    what.add_argument("--shape", metavar="NAME", help="a synthetic model instead: olmoe, qwen3moe, or the file of a configuration")
    parser.add_argument("--routing", default="", metavar="FILE", help="recorded routing (.npz) for --shape to replay; else one is drawn")
    parser.add_argument("--memory", default="none", metavar="SIZES",
                        help="limits to race under: 1200MiB,2GiB,none (default: none)")  # fmt: skip
    parser.add_argument("--against", default=_BASELINES, metavar="NAMES",
                        help="contenders beside ours: io-free, io-qfree, io-exp, io-qexp, llama.cpp, fastllm, accelerate; or all, or "
                             "none (default %(default)s)")  # fmt: skip
    parser.add_argument("--prompt", metavar="TEXT", help="default: Once upon a time, or 16 tokens of a synthetic model's own")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="tokens of each turn (default %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="threads of each (default %(default)s)")
    parser.add_argument("--bits", type=int, default=4, choices=(2, 4, 8, 16), help="width of weights (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="turns of each, interleaved (default %(default)s)")
    parser.add_argument("--time", type=float, default=600, metavar="S", help="most seconds a turn (default %(default)s)")
    parser.add_argument("--read-rate", default="", metavar="SIZE", help="let storage give so many bytes a second, such as 100MB")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder for the files made, kept for the next time (default: the cache)")
    parser.add_argument("--prepare", action="store_true", help="make the files and race another time")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="write a picture of tokens/s")
    add_settings(parser, _SETTINGS)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Race, with each turn told on stderr and the table on stdout (on stderr with ``--json``).

    Raises:
        EngineError: the model, an option or a file cannot be used.
    """
    from app.race.contenders import CONTENDERS
    from app.race.planted import Planted
    from app.race.plot import draw
    from app.race.prepare import Making, make_in_process
    from app.race.race import Plan, race
    from app.race.report import summarize, table
    from engine.recording.output import check_writable, whole_file

    if min(args.tokens, args.threads, args.repeat) < 1 or args.time <= 0:
        raise EngineError("--tokens, --threads, --repeat and --time must be at least 1")
    memory, settings = _sizes(args.memory), _settings(args)
    read_rate = parse_size(args.read_rate, "--read-rate") if args.read_rate else 0
    if args.plot:
        check_writable(args.plot)
    course = _course(args)
    names = _names(args.against, tuple(CONTENDERS))
    racing, absent = [], {}
    for name in names:
        reason = CONTENDERS[name].unavailable(course, args.bits)
        if reason:
            absent[name] = reason
        else:
            racing.append(name)
    make_in_process(Making(course, tuple(racing), args.bits, args.shape or "", args.routing))
    if args.prepare:
        return 0
    planted = Planted.read(course.model)
    prompt = planted.prompt(16) if planted and args.prompt is None else _tokenize(course.model, args.prompt or "Once upon a time")
    plan = Plan(
        course, memory, tuple(prompt), args.tokens, args.threads, args.bits, args.repeat, args.time, read_rate,
        settings,
    )  # fmt: skip
    turns, notes = race(plan, racing, lambda line: print(line, file=sys.stderr))
    rows = summarize(plan, turns, planted)
    print(table(rows, absent, notes), file=sys.stderr if args.json else sys.stdout)
    if args.plot:
        with whole_file(args.plot) as file:
            file.write(draw(rows, f"{course.name}, {args.bits} bits, {args.threads} threads").encode())
    if args.json:
        about = {
            "model": course.name, "prompt_tokens": len(prompt), "tokens": args.tokens, "threads": args.threads, "bits": args.bits,
            "repeat": args.repeat, "settings": settings, "rows": rows, "absent": absent, "notes": notes,
            "processor": machine.describe().processor,
        }  # fmt: skip
        print(json.dumps(about))
    return 0


def _course(args: argparse.Namespace) -> Any:
    import platformdirs

    from app.race.contenders import Course
    from app.race.shapes import shape_named

    work = (args.work or Path(platformdirs.user_cache_dir("edgemoe-studio", appauthor=False)) / "race").resolve()
    if args.routing and not (args.shape and Path(args.routing).is_file()):
        raise EngineError(f"--routing {args.routing}: give a file, and a --shape to plant it in")
    if args.shape:
        name, shape = shape_named(args.shape)
        name = f"{name}-{Path(args.routing).stem}" if args.routing else name
        return Course(work / name, work, name, shape["architectures"][0])
    model = resolve_model(args.model)
    if not (model / "config.json").is_file() or (model / "store.json").is_file():
        raise EngineError(f"{model} is no checkpoint; the race makes every contender's files from a checkpoint's")
    architectures = json.loads((model / "config.json").read_text("utf-8")).get("architectures") or [""]
    return Course(model, work, NAME if args.model == NAME else model.name, architectures[0])


def _names(against: str, known: tuple[str, ...]) -> tuple[str, ...]:
    others = {"all": known[1:], "none": ()}.get(against, tuple(part.strip() for part in against.split(",")))
    for name in others:
        if name not in known:
            raise EngineError(f"There is no contender {name!r}; there are {', '.join(known[1:])}, all and none")
    return tuple(dict.fromkeys((known[0], *others)))


def _sizes(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    sizes = tuple(0 if part == "none" else parse_size(part, "--memory") for part in parts)
    if any(size < 1 and part != "none" for size, part in zip(sizes, parts, strict=True)):
        raise EngineError(f"--memory {text}: give sizes such as 1200MiB,2GiB, or none")
    return sizes


def _settings(args: argparse.Namespace) -> dict[str, Value]:
    """Of our engine, checked before anything long begins."""
    from engine.settings import checked

    given = {name: value for name, value in chosen_settings(args).items() if name not in ("bits", "compute_threads")}
    return {name: value for name, value in checked(given).items() if name in given}


def _tokenize(model: Path, prompt: str) -> list[int]:
    from tokenizers import Tokenizer

    try:
        ids: list[int] = Tokenizer.from_file(str(model / "tokenizer.json")).encode(prompt).ids
    except Exception as error:  # the library raises whatever the file provokes
        raise EngineError(f"{model} has no tokenizer.json that can be read ({error})") from None
    if not ids:
        raise EngineError("The prompt is empty; write at least one word")
    return ids
