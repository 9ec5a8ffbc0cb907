"""Warm start: the buffer is filled with the most used experts before the first request, so that its first tokens need not wait.

N experts chosen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.events import Filled, Phase

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
    session.stream.expect(usage.odds(session.store.spec.top_k))
    ledger, stream, size = session.ledger, session.stream, session.store.record_bytes
    ledger.begin_pass(OUTSIDE, Phase.PREFILL)
    began = ledger.now()
    total = sum(size(session.bits_of(expert)) for expert in chosen)
    done = count = flying = 0
    error: EngineError | None = None
    while chosen or flying:
        if cancelled() or error:
            chosen.clear()
        while chosen and flying < 2 * session.loader.threads:  # one for each thread, and one that waits for it
            stream.fill(chosen.popleft())
            flying += 1
        if flying:
            flying -= 1
            try:
                expert = stream.landed()
            except EngineError as failure:
                error = error or failure
            else:
                done, count = done + size(session.buffer.bits_of(expert)), count + 1
                report(done, total)
            stream.on_layer()
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
    room = session.budget.granted - session.buffer.view().staging
    return order[: sum(1 for _ in takewhile(lambda size: size <= room, sizes))]
