"""The race itself: turn by turn, every contender at every memory limit, again and again, each in its own process and cage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.demo import PROJECT
from app.race.cage import Ending, drop_caches, open_cage, run_in
from app.race.contenders import CONTENDERS, Contender, Course, Job
from engine.settings import Value


@dataclass(frozen=True)
class Plan:
    """What is raced: the same prompt, tokens and threads for everyone."""

    course: Course
    memory: tuple[int, ...]  # bytes, 0 for no limit
    prompt: tuple[int, ...]
    tokens: int
    threads: int
    bits: int
    repetitions: int = 1
    seconds: float = 600.0  # most that one turn may take
    read_rate: int = 0  # bytes a second, 0 for no limit
    settings: dict[str, Value] = field(default_factory=dict)  # of our engine


@dataclass
class Turn:
    """One run of one contender. Times are ns on its own clock; ``failed`` says why there is less than was asked for."""

    contender: str
    memory: int
    repetition: int
    bits: int
    ready: int = 0
    times: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    reads: list[tuple[int, int]] = field(default_factory=list)  # (tokens so far, bytes read so far)
    about: dict[str, Any] = field(default_factory=dict)
    peak: int = -1
    read: int = -1  # bytes, the whole cage from start to end
    caged: bool = False
    failed: str = ""

    def take(self, line: str) -> None:
        """A line of the contender's ``Meter``."""
        try:
            told = json.loads(line)
        except ValueError:
            return
        if "ready" in told:
            self.ready = told.pop("ready")
            told.pop("read")
            self.about.update(told)
        elif "tokens" in told:
            self.times += [time for time, _ in told["tokens"]]
            self.ids += [identity for _, identity in told["tokens"]]
            self.reads.append((len(self.times), told["read"]))
        elif "end" in told:
            self.peak = told["rss"]
            self.about.update(told)

    def conclude(self, ending: Ending, plan: Plan) -> None:
        """The process has ended."""
        self.peak = ending.peak if ending.peak >= 0 else self.peak
        self.read = ending.read
        if ending.out_of_memory:
            self.failed = "killed: out of memory"
        elif ending.timed_out:
            self.failed = f"stopped after {plan.seconds:.0f} s"
        elif ending.status:
            self.failed = ending.said.removeprefix("race: ") or f"ended with status {ending.status}"
        elif len(self.times) < plan.tokens:
            self.failed = f"gave {len(self.times)} of {plan.tokens} tokens"

    @property
    def mb_per_token(self) -> float:
        """MB that storage delivered for a decoded token; nan where fewer than two tokens, or no counter, tell."""
        first, last = (self.reads[0], self.reads[-1]) if self.reads else ((0, -1), (0, -1))
        return (last[1] - first[1]) / (last[0] - first[0]) / 1e6 if last[0] > first[0] and first[1] >= 0 else float("nan")


Report = Callable[[str], None]


def race(plan: Plan, names: Sequence[str], say: Report) -> tuple[list[Turn], list[str]]:
    """Run all turns of the contenders ``names``. Returns them, and what the system did not allow."""
    turns: list[Turn] = []
    notes: dict[str, None] = {}
    order = [(memory, name, number) for number in range(plan.repetitions) for memory in plan.memory for name in names]
    for memory, name, repetition in order:
        say(f"{len(turns) + 1} of {len(order)}: {name}, {f'{memory / 2**20:.0f} MiB' if memory else 'no memory limit'}")
        turn = _turn(plan, CONTENDERS[name], memory, repetition, notes)
        turns.append(turn)
        say(f"    {turn.failed or 'done'}, {len(turn.times)} tokens")
    return turns, list(notes)


def _turn(plan: Plan, contender: Contender, memory: int, repetition: int, notes: dict[str, None]) -> Turn:
    weights = contender.weights(plan.course, plan.bits)
    scratch = plan.course.file("-scratch")
    scratch.mkdir(exist_ok=True)
    bits = contender.bits(plan.bits)
    job = Job(str(weights.resolve()), list(plan.prompt), plan.tokens, plan.threads, bits, str(scratch), memory,
              contender.settings(plan.settings))  # fmt: skip
    turn = Turn(contender.name, memory, repetition, bits)
    notes.update(dict.fromkeys(filter(None, [drop_caches()])))
    cage, refused = open_cage(memory, plan.read_rate, Path(plan.course.work))
    if refused and (memory or plan.read_rate):
        notes[f"Nothing was held to a limit: {refused}"] = None
    try:
        turn.conclude(run_in(cage, contender.command(job), PROJECT, plan.seconds, turn.take), plan)
    finally:
        if cage:
            cage.close()
        shutil.rmtree(scratch, ignore_errors=True)
    turn.caged = cage is not None
    return turn
