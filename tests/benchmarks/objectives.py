"""What an objective gains: plans of the same tolerated loss by storage, by traffic and by speed, and one width for all, on small devices.

    python tests/benchmarks/objectives.py [TEXT ...] [--tolerance 2%] [--devices emmc-5.1,microsd] [--rounds 6] [--tokens 120]

The budget is a quarter of all experts at 4 bits. Plans are calibrated on three of four works of each text (at first this program's own
sources); what they lose is measured on the fourth. Predictions are replays of what the text itself uses, with experts read on demand; what
computing and reading cost is told by a short session of this machine at all widths. Then the engine really runs, on demand as predicted
and once more with reading ahead: all stand side by side and take turns with the same prompts, a first one uncounted. Ratios are of
the same prompts' decode time, their interval is of the mean over rounds (95%).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from _demo import PROMPT, demo_store, prompts
from plans import Judged, parted
from widths import Ran, against, race

from app.demo import sample_text_path
from engine.bitwidth.messages import Setup
from engine.bitwidth.plan import Plan, Subject
from engine.models.skeleton import load_skeleton
from engine.simulate.cost import Costs, calibrated
from engine.store import Store
from engine.store.catalog import cache_folder
from profiles.devices import load_devices

UNIFORM = (16, 8, 4)
FEWEST = ("storage", "traffic")
AHEAD = {"on demand": "none", "ahead": "auto"}


@dataclass
class Row:
    """A plan, and what was predicted and measured of it on one device."""

    bits: tuple[int, ...]
    predicted: float  # tokens/s
    mb_per_token: float  # predicted
    ran: dict[str, Ran]  # by ``AHEAD``


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", type=Path, help="default: this program's own sources")
    parser.add_argument("--tolerance", default="2%")
    parser.add_argument("--devices", default="emmc-5.1,microsd")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--learn", type=int, default=16_384, help="tokens to calibrate on, and as many to verify on")
    parser.add_argument("--work", type=Path, default=cache_folder() / "plans", help="where notes are kept")
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    store, tolerance = demo_store(), float(args.tolerance.removesuffix("%")) / 100
    texts, held_out = parted(load_skeleton(store, torch.float32), args.texts or [sample_text_path()], args.learn)
    judged = Judged(store, texts, held_out, args.work)
    print(f"{store.name}, {args.tolerance} tolerated; {held_out[:, 1:].numel():,} tokens of works held out, {texts.learn[:, 1:].numel():,} "
          f"learned from; {args.rounds} x {args.tokens} tokens decoded by each")  # fmt: skip
    for device in args.devices.split(","):
        compare(judged, device, tolerance, args.rounds, args.tokens)


def compare(judged: Judged, device: str, tolerance: float, rounds: int, tokens: int) -> None:
    """Plan, predict and run for a device, and print a row for each plan."""
    store, calibration = judged.calibration.store, judged.calibration
    budget = store.record_bytes(4) * calibration.count // 4
    costs = seen(store, device, budget, tokens)
    speed = calibration.speed(Setup(budget, "default", costs))
    plans = {f"{bits} bits": calibration.uniform(bits) for bits in UNIFORM}
    plans |= {name: calibration.plan(tolerance, calibration.objective(name)).bits for name in FEWEST}
    plans["speed"] = calibration.plan(tolerance, speed).bits
    texts = [text for pair in zip(*(repeated(kind, rounds) for kind in ("prose", "code")), strict=True) for text in pair][:rounds]
    rows = {name: Row(bits, told.tok_s, told.mb_per_token, {}) for name, bits in plans.items() if (told := speed.predicted(bits))}
    with tempfile.TemporaryDirectory() as folder:
        for name, row in rows.items():
            Plan(list(row.bits)).write(Path(folder) / f"{name}.json", Subject.of(store))
        for how, predictor in AHEAD.items():
            ways = {name: {"plan": f"{folder}/{name}.json", "predictor": predictor} for name in rows}
            for name, ran in race(store, device, budget, ways, texts, tokens, PROMPT).items():
                rows[name].ran[how] = ran
    print(f"\n{device}, {budget:,} bytes of experts in memory; a session saw {costs.device.bandwidth / 1e6:,.0f} MB/s after "
          f"{costs.device.latency * 1e3:.2f} ms")  # fmt: skip
    print(f"{'':8} {'MB':>6} {'held out':>9} | {'predicted':>9} {'MB/token':>9} | {'on demand':>9} {'MB/token':>9} {'x 16 bits':>13} "
          f"{'x storage':>12} | {'ahead':>6} {'x 16 bits':>13} {'x storage':>12}")  # fmt: skip
    for name, row in rows.items():
        say(name, row, judged, rows)


def say(name: str, row: Row, judged: Judged, rows: dict[str, Row]) -> None:
    demand, ahead = row.ran["on demand"], row.ran["ahead"]
    ratios = {how: [against(row.ran[how], rows[other].ran[how]) for other in ("16 bits", "storage")] for how in AHEAD}
    print(f"{name:8} {judged.size(row.bits):>6.2f} {judged.loss(row.bits).share:>+9.2%} | {row.predicted:>9.1f} {row.mb_per_token:>9.3f} | "
          f"{demand.tok_s:>9.1f} {demand.mb_per_token:>9.3f} {ratios['on demand'][0]:>13} {ratios['on demand'][1]:>12} | "
          f"{ahead.tok_s:>6.1f} {ratios['ahead'][0]:>13} {ratios['ahead'][1]:>12}", flush=True)  # fmt: skip


def repeated(kind: str, count: int) -> list[str]:
    """So many sample prompts of a kind, from the first again where there are fewer."""
    known = prompts(kind, count)
    return [known[number % len(known)] for number in range(count)]


def seen(store: Store, device: str, budget: int, tokens: int) -> Costs:
    """What computing and reading cost on this machine: of a session in which every width is used alike."""
    subject = Subject.of(store)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.json"
        count = subject.layers * subject.experts
        Plan([store.widths[number % len(store.widths)] for number in range(count)]).write(path, subject)
        way: dict[str, dict[str, str | int]] = {"all": {"plan": str(path), "predictor": "none"}}
        return calibrated(race(store, device, budget, way, [PROMPT] * 2, tokens)["all"].recording, load_devices()[device])


if __name__ == "__main__":
    main()
