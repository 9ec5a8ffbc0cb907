"""What is to be replayed to say what if: the routing of the session so far, who was in memory before, what records weigh and cost.

T decoded tokens, N experts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engine.errors import EngineError
from engine.recording.recording import Recording
from engine.simulate.cost import Costs, calibrated
from engine.simulate.live import LiveRouting, resident_before
from engine.simulate.replay import Records
from engine.simulate.routing import NONE, Routing, checked
from profiles.devices import load_devices

MOST = 6000  # tokens replayed at most: the newest
SAMPLE = 400_000  # tokens · N of a sample: a few seconds of replays


@dataclass(frozen=True)
class Question:
    """A routing, what its records weigh and cost, who was resident before, the budget in force, and those that were.

    ``initial`` are in the order of loading; where fewer fit, the first do, the last where the routing was ``cut``. ``recorded`` is how many
    decoded tokens there are. Questions of one ``basis`` have the same answer at the same budget; its first is the session as it was.
    """

    routing: Routing
    records: Records
    costs: Costs
    budget: int
    top_k: int
    initial: np.ndarray
    recorded: int
    basis: tuple[object, ...]
    before: tuple[int, ...] = ()
    cut: bool = False

    @property
    def cycle(self) -> int:
        return self.records.cycle(self.routing.shape, self.top_k)

    def resident(self, budget: int) -> np.ndarray:
        """As many of those resident to begin with as fit, in the order of loading."""
        order = self.initial[::-1] if self.cut else self.initial
        kept = order[np.cumsum(self.records.sizes[order]) <= budget]
        return kept[::-1] if self.cut else kept

    def sample(self) -> Question:
        """The newest tokens alone, where all of them would take long; else the question itself."""
        few = max(16, SAMPLE // self.routing.shape.total)
        return self if 2 * few > self.routing.tokens else self.newest(few)

    def newest(self, count: int) -> Question:
        """The newest ``count`` tokens alone; those used last before them are in memory."""
        routing, cut = self.routing, self.routing.tokens - count
        if cut <= 0:
            return self
        first = int(np.searchsorted(routing.starts, cut, side="right")) - 1
        late, skipped = routing.take(np.arange(first, routing.requests)), cut - int(routing.starts[first])
        lengths = late.lengths.copy()
        lengths[0] -= skipped
        prefill = late.prefill[late.prefill[:, 0] > 0] if skipped else late.prefill
        tail = Routing(late.experts[skipped:], lengths, routing.expert_count, prefill)
        return replace(self, routing=tail, initial=_used_last(routing, cut), basis=(*self.basis, count), cut=True)


def _used_last(routing: Routing, cut: int) -> np.ndarray:
    """The experts that the decoded tokens before ``cut`` used, the last one last."""
    chosen = routing.experts[:cut]
    numbers = (chosen + np.arange(routing.layers, dtype=np.int32)[:, None] * routing.expert_count)[chosen != NONE]
    experts, back = np.unique(numbers[::-1], return_index=True)
    return np.ascontiguousarray(experts[np.argsort(-back)], np.int32)


class Asker:
    """Makes questions of a recording as it grows."""

    def __init__(self, recording: Recording) -> None:
        self.recording, self._devices = recording, load_devices()
        self._live: LiveRouting | None = None

    def question(self) -> Question | None:
        """The session so far, since its model was loaded; None as long as there is nothing to replay."""
        recording, model, budget = self.recording, self.recording.model, self.recording.budget
        if model is None or budget is None or not len(recording.tokens):
            return None
        self._live = self._live or LiveRouting(recording)
        try:
            routing = _sound(self._live.follow())
        except EngineError:
            return None
        if not routing.tokens:
            return None
        bits = recording.wanted().astype(np.int64)
        if not set(np.unique(bits).tolist()) <= set(model.record_bytes):  # a session file can say anything
            return None
        records = Records(dict(model.record_bytes), bits)
        device = self._devices.get(str(recording.effective.get("device", "native")), self._devices["native"])
        try:
            costs = calibrated(recording, device)
        except EngineError:
            return None
        held = resident_before(recording)
        basis = ((model.model_hash, recording.loaded, len(recording.tokens)), bits.tobytes(), device.name)
        return Question(routing, records, costs, budget.granted, model.top_k, held, routing.tokens, basis, self._budgets()).newest(MOST)

    def _budgets(self) -> tuple[int, ...]:
        """The budgets that decoded tokens had, the four of most tokens."""
        tokens = self.recording.tokens
        sizes, counts = np.unique(tokens.column("budget_bytes", tokens.search("start", self.recording.loaded)), return_counts=True)
        return tuple(sizes[np.argsort(-counts)[:4]].tolist())


def _sound(routing: Routing) -> Routing:
    """The routing held to what native code may be given: a session file can say anything."""
    return checked("This session", routing.experts, routing.lengths, routing.expert_count, routing.prefill)
