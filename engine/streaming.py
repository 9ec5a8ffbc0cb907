"""One MoE layer computed from a buffer that does not hold all its experts: make resident, compute, account.

T tokens, k experts a token, d hidden, V token ids.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.events import Outcome, SpanKind
from engine.kernels.decoder import NativeDecoder, accesses_in
from engine.kernels.experts import ExpertKernels
from engine.ledger import Ledger
from engine.preload.loader import Loader, Read
from engine.residency.buffer import ExpertBuffer
from engine.residency.policy import Clock
from engine.store import Store

BitsOf = Callable[[int], int]
"""The width an expert is to be loaded at, by its number."""


_ALL = slice(None)


class Use(NamedTuple):
    """One expert's part in a pass: ``tokens`` and ``ranks`` index [T, k]."""

    tokens: Any
    ranks: Any
    token_count: int
    rank: int  # the first, where there is one token
    weight: float  # of the gate, mean over its tokens


class ExpertStream:
    """The runtime that computes a bound model's experts, reading what is missing."""

    def __init__(
        self, store: Store, buffer: ExpertBuffer, loader: Loader, ledger: Ledger, kernels: ExpertKernels, bits_of: BitsOf
    ) -> None:
        self.buffer, self.loader, self.ledger, self.kernels, self.bits_of = buffer, loader, ledger, kernels, bits_of
        self.on_layer: Callable[[], None] = lambda: None  # called once a layer, for news in long passes
        self.router_began = 0
        self._native = False  # decoding natively: what is between spans is then this program's own, and told
        self._store = store
        self._experts = store.spec.experts
        self.seen = bytearray(store.spec.layers * store.spec.experts)  # experts that have been in the buffer

    def forward(self, module: Any, layer: int, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """Mix of the chosen experts [T, d] for ``hidden`` [T, d], ``index`` [T, k] and gate ``weights`` [T, k].

        The weighted outputs are summed in the router's order, so that no bit depends on what arrived first.
        """
        ledger, self._native = self.ledger, False
        if self.router_began:
            ledger.span(SpanKind.ROUTER, self.router_began, layer)
        uses = _uses(index, weights, layer * self._experts, self._experts)
        clock = Clock(ledger.token, layer)
        self._account(uses, clock)
        outputs = hidden.new_zeros(*index.shape, hidden.shape[-1])  # [T, k, d]
        for expert in self._arrivals(list(uses), clock):
            began, use = ledger.now(), uses[expert]
            record, weights_of = self.buffer.record(expert), self.buffer.weights(expert)
            outputs[use.tokens, use.ranks] = self.kernels.forward(hidden[use.tokens], record, weights_of, module)
            ledger.span(SpanKind.EXPERT, began, layer, expert, self.buffer.bits_of(expert))
        self.on_layer()
        self.router_began = 0
        return (outputs * weights.unsqueeze(-1)).sum(dim=1).to(hidden.dtype)

    def decode(self, decoder: NativeDecoder, token: int, position: int) -> Tensor:
        """Logits [V] after ``token``, which stands at ``position``: native wherever all that is chosen is resident."""
        ledger, self._native = self.ledger, True
        decoder.begin(token, position, ledger.origin, ledger.token)
        while (layer := decoder.run(ledger.reached)) >= 0:
            decoder.drain(self._took)
            self._supply(decoder, layer)
        decoder.drain(self._took)
        return decoder.logits

    def _supply(self, decoder: NativeDecoder, layer: int) -> None:
        """Have every expert that MoE layer ``layer`` chose computed, reading the missing ones."""
        first = layer * self._experts
        chosen = zip(*decoder.chosen(layer), strict=True)
        uses = {first + e: Use(_ALL, rank, 1, rank, weight) for rank, (e, weight) in enumerate(chosen)}
        clock = Clock(self.ledger.token, layer)
        self._account(uses, clock)
        for expert in self._arrivals(list(uses), clock):
            decoder.expert(uses[expert].rank, self.ledger.reached)
            decoder.drain(self._took)
        self.on_layer()

    def _took(self, spans: bytes, accesses: bytes, times: list[int], reached: int) -> None:
        """Account for what the decoder did by itself: every expert it used was a hit."""
        ledger, used, seen = self.ledger, self.buffer.policy.used, self.seen
        ledger.took(spans, accesses, times, reached)
        hits, clock = accesses_in(accesses), Clock(ledger.token, -1)
        for layer, local, bits in hits:
            if layer != clock.layer:
                clock = Clock(ledger.token, layer)
            expert = layer * self._experts + local
            seen[expert] = 1
            ledger.bits_used += bits
            used(expert, clock)
        ledger.outcomes[Outcome.HIT] += len(hits)

    def _account(self, uses: dict[int, Use], clock: Clock) -> None:
        """Tell policy and ledger who was chosen, and how each was found."""
        self._outcome: dict[int, Outcome] = {}
        for expert, use in uses.items():
            held = self.buffer.holds(expert)
            outcome = Outcome.HIT if held else Outcome.CAPACITY if self.seen[expert] else Outcome.FIRST_TOUCH
            self.seen[expert] = 1
            self._outcome[expert] = outcome
            bits = self.buffer.bits_of(expert) if held else self.bits_of(expert)
            self.ledger.access(expert, bits, outcome, use.rank, use.token_count, use.weight)
            self.buffer.policy.used(expert, clock)

    def _arrivals(self, chosen: list[int], clock: Clock) -> Iterator[int]:
        """Yield every chosen expert when it can be computed: residents first, then the others as their records arrive.

        An expert is let go only after all before it in this order were computed, so that what gets evicted, too, is
        the same whatever the timing.
        """
        order = [e for e in chosen if self.buffer.holds(e)] + [e for e in chosen if not self.buffer.holds(e)]
        ready = deque(e for e in order if self.buffer.holds(e))
        missing = deque(order[len(ready) :])
        for expert in ready:
            self.buffer.pin(expert)
        letting_go, computed = deque(order), set[int]()
        self._reading = 0
        try:
            self._request_all(missing, clock)
            while letting_go:
                expert = ready.popleft() if ready else self._await(clock.layer)
                yield expert
                computed.add(expert)
                while letting_go and letting_go[0] in computed:
                    self.buffer.unpin(letting_go.popleft())
                    self._request_all(missing, clock)
        finally:
            # After a failure too nothing stays pinned, and no read writes into memory that was given away.
            for _ in range(self._reading):
                read = self.loader.next()
                self.buffer.abandon(read.expert)
            for expert in letting_go:
                if self.buffer.holds(expert):
                    self.buffer.unpin(expert)

    def _request_all(self, missing: deque[int], clock: Clock) -> None:
        """Send out as many of the missing as there is room for, in order."""
        while missing and self._request(missing[0], clock):
            missing.popleft()
            self._reading += 1

    def _request(self, expert: int, clock: Clock) -> bool:
        bits = self.bits_of(expert)
        memory = self.buffer.reserve(expert, bits, clock)
        if memory is None:
            return False
        layer, local = divmod(expert, self._experts)
        self.loader.submit(Read(expert, bits, self._store.record(layer, local, bits), memory, self._outcome[expert]))
        return True

    def _await(self, layer: int) -> int:
        """Wait for the next record; the wait is the stall."""
        began = self.ledger.account() if self._native else self.ledger.now()
        read = self.loader.next()
        self._reading -= 1
        self.ledger.span(SpanKind.STALL, began, layer, read.expert, read.bits)
        self.ledger.read(read.expert, read.bits, read.outcome, read.lane, read.started, read.finished, read.record.nbytes)
        if read.error is not None:
            self.buffer.abandon(read.expert)
            raise read.error
        self.buffer.arrived(read.expert)
        return read.expert


def _uses(index: Tensor, weights: Tensor, first: int, experts: int) -> dict[int, Use]:
    """What an MoE layer's router chose, by expert number, in the order in which it names them.

    Some families name an index past the last expert to say "none"; a table of experts by token id may name one twice.
    """
    chosen = index.flatten().tolist()
    distinct = dict.fromkeys(e for e in chosen if e < experts)
    if len(index) == 1 and len(distinct) == len(chosen):  # decoding: no tensors needed to say so
        by_rank = enumerate(zip(chosen, weights[0].tolist(), strict=True))
        return {first + e: Use(_ALL, rank, 1, rank, weight) for rank, (e, weight) in by_rank}
    uses = {}
    for e in distinct:
        tokens, ranks = torch.where(index == e)
        weight = float(weights[tokens, ranks].float().mean())
        uses[first + e] = Use(tokens, ranks, len(tokens), int(ranks[0]) if len(index) == 1 else 0, weight)
    return uses
