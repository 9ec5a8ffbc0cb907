"""What reading ahead gains on the demo model, by predictor, storage and budget; and what the simulator says of the same runs.

    python tests/benchmarks/preload.py [--devices emmc-5.1,ufs-3.1,nvme] [--budgets 10%,25%,50%] [--rounds 6] [--tokens 120]

Sessions stand side by side, one a predictor; each round gives all of them the same prompt, in turn. Ratios are of the same prompt's decode
time, their interval is of the mean over rounds (95%). The simulator is calibrated on the session of `none` and replays the routing of each:
without reading ahead the hits must be equal exactly; where `auto` decides by the clock how far to read ahead they are nearly so.
"""

from __future__ import annotations

import argparse

import numpy as np
from _demo import demo_store, generate, prompts

from app.demo import demo_model_path
from engine.errors import EngineError
from engine.events import Outcome, Phase, Ready
from engine.preload.learned import KINDS, load
from engine.recording.recording import Recording
from engine.session import Session
from engine.simulate.cost import calibrated
from engine.simulate.live import routing_of
from engine.simulate.replay import Cell, Records, Replay
from engine.store import Store
from profiles.devices import load_devices

PREDICTORS = ("none", "path", "gate", "transition", "auto")
BITS = 4


class Runner:
    """One session and all it recorded."""

    def __init__(self, store: Store, predictor: str, device: str, budget: str, tokens: int) -> None:
        self.recording, self.predictor, self.times = Recording(), predictor, list[float]()
        values = {"bits": BITS, "device": device, "budget": budget, "max_tokens": tokens, "ignore_eos": True, "predictor": predictor}
        self.session = Session(store, values, load_devices(), self.recording.append, model=demo_model_path())
        session = self.session
        self.recording.append(Ready(0, session.info(), session.values, session.effective(), session.budget))

    def run(self, prompt: str) -> None:
        first = len(self.recording.tokens)
        generate(self.session, prompt)
        rows = self.recording.tokens.rows(first)
        rows = rows[rows["phase"] == Phase.DECODE]
        self.times.append(float(rows["duration"].mean()) / 1e6)

    @property
    def decoded(self) -> np.ndarray:
        rows = self.recording.tokens.rows()
        return rows[rows["phase"] == Phase.DECODE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="emmc-5.1,ufs-3.1,nvme")
    parser.add_argument("--budgets", default="10%,25%,50%")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=120)
    args = parser.parse_args()
    store, texts = demo_store(), [*prompts("prose", 8), *prompts("code", 8)]
    print(f"{'':34}{'tokens/s':>9}{'against none':>18}{'hits':>7}{'ahead':>7}{'late':>6}{'used':>9}{'wasted':>9}   simulated")
    for device in args.devices.split(","):
        for budget in args.budgets.split(","):
            cell(store, device, budget, [texts[i % len(texts)] for i in range(args.rounds)], args.tokens)


def cell(store: Store, device: str, budget: str, texts: list[str], tokens: int) -> None:
    runners = []
    for predictor in PREDICTORS:
        try:
            runners.append(Runner(store, predictor, device, budget, tokens))
        except EngineError as error:
            print(f"{predictor} left out: {error}")
    for number, text in enumerate(texts):
        for runner in runners[number % 2 :: 1] + runners[: number % 2]:
            runner.run(text)
    none = runners[0]
    for runner in runners:
        rows, ratios = runner.decoded, np.array(none.times) / np.array(runner.times)
        uses = rows["hits"].sum() + sum(rows[name].sum() for name in ("first_touch", "capacity", "mispredicted", "late"))
        spread = 1.96 * ratios.std(ddof=1) / np.sqrt(len(ratios)) if len(ratios) > 1 else 0.0
        used, wasted = (rows[name].sum() / len(rows) / 1e6 for name in ("preload_useful_bytes", "preload_wasted_bytes"))
        print(f"{device:10}{budget:>6}  {runner.predictor:16}{1e3 / np.mean(runner.times):9.0f}"
              f"{'' if runner is none else f'{ratios.mean():.3f} +- {spread:.3f}':>18}{rows['hits'].sum() / uses:7.1%}"
              f"{rows['preloaded'].sum() / uses:7.1%}{rows['late'].sum() / uses:6.1%}{used:6.2f} MB{wasted:6.2f} MB   "
              f"{simulated(store, runner, none, device)}", flush=True)  # fmt: skip
    for runner in runners:
        runner.session.close()


def simulated(store: Store, runner: Runner, none: Runner, device: str) -> str:
    """Tokens/s that the simulator predicts for a run, how far off, and whether the hits of residents are the same."""
    if runner.predictor in ("gate", "auto"):
        return "(routers need hidden states)"
    spec, routing = store.spec, routing_of(runner.recording)
    costs = calibrated(none.recording, load_devices()[device])
    replay = Replay(routing, Records({BITS: store.record_bytes(BITS)}, np.full(routing.shape.total, BITS)), costs)
    folders = [store.path, demo_model_path()]
    learned = load(runner.predictor, folders, spec.layers, spec.experts, spec.top_k) if runner.predictor in KINDS else None
    told = replay.run(Cell(runner.session.budget.granted, "default", learned, depth=4, balanced=True))
    assert told is not None
    accesses = runner.recording.accesses.rows()
    hits = int(((accesses["outcome"] == Outcome.HIT) & (accesses["phase"] == Phase.DECODE)).sum())
    real = len(runner.decoded) / (runner.decoded["duration"].sum() / 1e9)
    same = "equal" if told.uses[Outcome.HIT] == hits else f"{told.uses[Outcome.HIT] - hits:+,} of {hits:,}"
    return f"{told.tok_s:.0f} ({told.tok_s / real - 1:+.1%}), hits {same}"


if __name__ == "__main__":
    main()
