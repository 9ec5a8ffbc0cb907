"""Warm start: the buffer is filled with the most used experts before the first request, so that its first tokens need not wait.

N experts chosen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.events import Filled, Outcome
from engine.preload.loader import Read
from engine.residency.edgemoe import EdgeMoE
from engine.residency.policy import Clock

if TYPE_CHECKING:
    from engine.residency.usage import Usage
    from engine.session import Session

STAGE = "Filling the expert buffer"
OUTSIDE = -1
"""The token of records that belong to no pass."""
Report = Callable[[int, int], None]
"""Told the bytes read, and of how many."""


def fill(session: Session, usage: Usage, report: Report, cancelled: Callable[[], bool] = lambda: False) -> None:
    """Read the most used experts until the budget is full, if the settings say so; emits Filled.

    Nothing is evicted, nothing counts as used, and no token's figures count these reads; the default policy is told what to expect, lest
    the first prefill throws it all out. Once ``cancelled``, what is in flight arrives and the rest stays absent.

    Raises:
        EngineError: a record is damaged or cannot be read; what arrived stays.
    """
    chosen = deque(chosen_experts(session, usage) if session.values["warm_start"] else ())
    if not chosen:
        return
    if isinstance(session.buffer.policy, EdgeMoE):
        session.buffer.policy.expect(usage.odds(session.store.spec.top_k))
    ledger, loader = session.ledger, session.loader
    ledger.token, began = OUTSIDE, ledger.now()
    total = sum(session.store.record_bytes(session.bits_of(expert)) for expert in chosen)
    done = count = flying = 0
    error: EngineError | None = None
    while chosen or flying:
        if cancelled() or error:
            chosen.clear()
        while chosen and flying < 2 * loader.threads:  # one for each thread, and one that waits for it
            _ask(session, chosen.popleft())
            flying += 1
        if flying:
            read, flying = loader.next(), flying - 1
            error = error or read.error
            if _take(session, read):
                done, count = done + read.record.nbytes, count + 1
                report(done, total)
            session.stream.on_layer()
    session.flush()
    session.emit(Filled(ledger.now(), began, count, done, total))
    if error:
        raise error


def chosen_experts(session: Session, usage: Usage) -> list[int]:
    """The experts to begin with, [N]: the most used for which the budget has room, and where it holds all, all."""
    order = usage.order()
    if session.budget.granted >= session.budget.full:
        used = set(order)
        order += [expert for expert in range(len(usage.counts)) if expert not in used]
    sizes = accumulate(session.store.record_bytes(session.bits_of(expert)) for expert in order)
    return order[: sum(1 for _ in takewhile(lambda size: size <= session.budget.granted, sizes))]


def _ask(session: Session, expert: int) -> None:
    bits = session.bits_of(expert)
    memory = session.buffer.reserve(expert, bits, Clock(0, 0))
    assert memory is not None, "what was chosen fits the budget"
    layer, local = divmod(expert, session.store.spec.experts)
    session.loader.submit(Read(expert, bits, session.store.record(layer, local, bits), memory, Outcome.HIT))


def _take(session: Session, read: Read) -> bool:
    """A read is over: the expert is resident and may be evicted, or absent again."""
    session.ledger.read(read.expert, read.bits, read.outcome, read.lane, read.started, read.finished, read.record.nbytes)
    if read.error is not None:
        session.buffer.abandon(read.expert)
        return False
    session.buffer.arrived(read.expert)
    session.buffer.unpin(read.expert)
    session.stream.seen[read.expert] = 1
    return True
