"""Many replays of one routing: a row for every budget, policy and predictor.

S MoE layers, E experts a layer, N = S · E, k experts a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.errors import Cancelled, EngineError
from engine.events import Outcome
from engine.preload.learned import KINDS
from engine.preload.predictor import About, Learned, trace_hash
from engine.preload.transition import Transition
from engine.simulate.exact import Exact, told_of_lru
from engine.simulate.replay import Cell, Lesson, Records, Replay, Replayed
from engine.simulate.routing import NONE, Routing

ORACLE_PREDICTOR = "oracle"
THREADS = 2
_LOOK = 0.2  # s between two looks at how far the replays are
Report = Callable[[str, int, int, str], object]
"""Told the stage, how much of it is done, of how much, in what."""


@dataclass(frozen=True)
class Setting:
    """What is asked: the budget as it was written and in bytes, the policy as it was named, and the predictor."""

    budget: str
    budget_bytes: int
    eviction: str
    predictor: str


@dataclass(frozen=True)
class Row:
    """One setting and what came of it, over decoded tokens (the command line's keys, design section 6).

    ``recall_at_k`` is None where nothing was predicted. ``least_mb_per_token`` is the least that any policy must read on demand. ``tokens``
    says over how many, using ``uses`` experts: a sample, or all where LRU could be told of all in one pass; then ``sampled_hit_rate`` is
    that of the sample. Stall and speed are the sample's always.
    """

    budget: str
    budget_bytes: int
    eviction: str
    predictor: str
    tokens: int
    uses: int
    hit_rate: float
    sampled_hit_rate: float | None
    misses_first_touch: int
    misses_capacity: int
    misses_mispredicted: int
    misses_late: int
    recall_at_k: float | None
    misses_covered: float
    demand_bytes: int
    useful_bytes: int
    wasted_bytes: int
    mb_per_token: float
    least_mb_per_token: float
    stall_ms_per_token: float
    tok_s: float

    def plain(self) -> dict[str, str | int | float | None]:
        return asdict(self)


class Sweep:
    """``heard`` is the routing of other requests: predictors learn from it before, policies from ``listened``, a part of it, or from all;
    ``predictors`` are trained already. A predictor that is neither learns as it goes, where it can. What is trained is kept in the folder
    ``keep``, where there is one. ``whole`` is what ``replay`` is a sample of, if it is one. As many of the ``initial`` experts as a budget
    holds are resident to begin with.
    """

    def __init__(
        self, replay: Replay, heard: Routing | None = None, predictors: dict[str, Learned] | None = None, depth: int = 4, width: int = 0,
        keep: Path | None = None, whole: Replay | None = None, initial: npt.NDArray[np.int32] | None = None,
        listened: Routing | None = None,
    ) -> None:  # fmt: skip
        self._replay, self._heard, self._depth, self._width = replay, heard, depth, width
        self._listened = listened or heard
        self._expected = _odds(heard) if heard is not None else None
        self._lessons: dict[str, Lesson | None] = {}
        self._predictors = dict(predictors or {})
        self._keep, self._stopped = keep, False
        self._whole, self._initial = whole or replay, np.empty(0, np.int32) if initial is None else initial

    def stop(self) -> None:
        """End what is running, from another thread or a signal: ``rows`` raises Cancelled."""
        self._stopped = True
        for replay in (self._replay, self._whole):
            replay.stop()

    def rows(self, settings: Iterable[Setting], report: Report = lambda *_: None) -> list[Row]:
        """A row for each setting, in order.

        Raises:
            EngineError: a budget that one layer of one token does not fit, or a policy that is not known.
            Cancelled: ``stop`` was called.
        """
        settings = list(settings)
        for setting in settings:
            self._replay.check(setting.budget_bytes)
        self._learn(settings, report)
        total = len(settings) * self._replay.routing.tokens
        with ThreadPoolExecutor(THREADS) as pool:
            of_all = [setting for setting in settings if self._told_of_all(setting)]
            budgets = {s.budget_bytes: self._replay.fitting(self._initial, s.budget_bytes) for s in settings if s not in of_all}
            sample = Exact(pool, self._replay, budgets, False)
            whole = Exact(pool, self._whole, {s.budget_bytes: np.empty(0, np.int32) for s in of_all}, bool(of_all))
            futures = [pool.submit(self._row, setting, whole if setting in of_all else sample) for setting in settings]
            try:
                while wait(futures, _LOOK, FIRST_EXCEPTION).not_done and not any(f.done() and f.exception() for f in futures):
                    report("replaying", self._replay.done, total, "tokens")
            finally:
                if any(not future.done() for future in futures):
                    self.stop()
                    pool.shutdown(cancel_futures=True)
        return [future.result() for future in futures]

    def _learn(self, settings: list[Setting], report: Report) -> None:
        """Have predictors and policies learn what they can from the other requests."""
        if self._heard is None or self._listened is None:
            return
        for name in dict.fromkeys(setting.predictor for setting in settings):
            if name in KINDS and name not in self._predictors:
                self._predictors[name] = self._trained(name, report)
        names = list(dict.fromkeys(setting.eviction for setting in settings))
        with ThreadPoolExecutor(1) as pool:  # a signal is only heard between two steps of Python, so that this thread takes short ones
            for number, name in enumerate(names):
                lesson = pool.submit(self._replay.learn, name, self._listened)
                while wait([lesson], _LOOK).not_done:
                    report("policies listen", number, len(names), "policies")
                self._lessons[name] = lesson.result()

    def _trained(self, name: str, report: Report) -> Learned:
        """What was learned from the same requests before, or is learned now."""
        assert self._heard is not None
        kind, heard = KINDS[name], self._heard
        about = About(name, *heard.shape, heard.top_k, trace_hash(heard.experts), heard.requests, heard.tokens)
        kept = self._keep / f"{about.trace}-{about.requests}-{kind.file}" if self._keep else None
        if kept is not None and kept.is_file():
            with suppress(EngineError):  # damaged, or of another version: learned anew
                return kind.load(kept, *heard.shape, heard.top_k)
        made = kind(*heard.shape, heard.top_k)

        def tell(share: float) -> bool:
            report(f"training {name}", round(100 * share), 100, "percent")
            return not self._stopped

        if not made.train(heard.experts, heard.lengths, tell) or self._stopped:
            raise Cancelled
        if kept is not None:
            with suppress(EngineError, OSError):  # a folder that cannot be written costs time, not the answer
                kept.parent.mkdir(parents=True, exist_ok=True)
                made.save(kept, about)
        return made

    def _told_of_all(self, setting: Setting) -> bool:
        """Whether a sample need not do for the hits."""
        sampled = self._whole is not self._replay
        return sampled and told_of_lru(self._whole, setting.budget_bytes, setting.eviction, setting.predictor)

    def _row(self, setting: Setting, exact: Exact) -> Row:
        learned = None
        if setting.predictor in self._predictors:
            learned = self._predictors[setting.predictor].copy()
        elif setting.predictor == Transition.name:
            learned = Transition(*self._replay.routing.shape, self._replay.routing.top_k, learning=True)
        told = self._replay.run(Cell(
            setting.budget_bytes, setting.eviction, learned, setting.predictor == ORACLE_PREDICTOR, self._depth, self._width,
            initial=self._replay.fitting(self._initial, setting.budget_bytes), expected=self._expected,
            lesson=self._lessons.get(setting.eviction),
        ))  # fmt: skip
        if told is None:
            raise Cancelled
        row = _row(setting, told, exact.least_mb_per_token(setting.budget_bytes))
        return row if exact.replay is self._replay else _of_all(row, exact)


def _odds(routing: Routing) -> npt.NDArray[np.float64]:
    """How likely a token uses each expert, [N]."""
    shape = routing.shape
    numbers = routing.experts + np.arange(shape.layers, dtype=np.int64)[:, None] * shape.experts
    counts = np.bincount(numbers[routing.experts != NONE], minlength=shape.total)
    return counts / max(1, routing.tokens)


def _row(setting: Setting, told: Replayed, least: float) -> Row:
    uses = told.uses
    return Row(
        **asdict(setting), tokens=told.tokens, uses=sum(uses.values()), hit_rate=told.hit_rate, sampled_hit_rate=None,
        misses_first_touch=uses[Outcome.FIRST_TOUCH], misses_capacity=uses[Outcome.CAPACITY],
        misses_mispredicted=uses[Outcome.MISPREDICTED], misses_late=uses[Outcome.LATE],
        recall_at_k=told.recall if told.guessed else None, misses_covered=told.misses_covered, demand_bytes=told.demand_bytes,
        useful_bytes=told.useful_bytes, wasted_bytes=told.wasted_bytes, mb_per_token=told.mb_per_token, least_mb_per_token=least,
        stall_ms_per_token=told.stall_ms_per_token, tok_s=told.tok_s,
    )  # fmt: skip


def _of_all(row: Row, exact: Exact) -> Row:
    """A row of LRU whose hits and bytes are of all tokens."""
    told, tokens = exact.lru(row.budget_bytes), exact.replay.routing.tokens
    return replace(
        row, tokens=tokens, uses=told.uses, hit_rate=told.hit_rate, sampled_hit_rate=row.hit_rate, misses_first_touch=told.first_touch,
        misses_capacity=told.capacity, demand_bytes=told.demand_bytes, mb_per_token=told.demand_bytes / tokens / 1e6,
    )  # fmt: skip


__all__ = ["ORACLE_PREDICTOR", "Records", "Report", "Row", "Setting", "Sweep"]
