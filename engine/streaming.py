"""One MoE layer computed from a buffer that does not hold all its experts (preload/stream.h): make resident, compute, account.

T tokens, k experts a token, d hidden, V token ids, S MoE layers, E experts a layer; an expert's number is layer · E + expert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int32, c_int64, c_void_p
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.binding import bind
from engine.errors import EngineError
from engine.events import Phase, SpanKind
from engine.kernels.decoder import NativeDecoder
from engine.kernels.experts import ExpertKernels
from engine.ledger import Ledger
from engine.models.routers import Scores
from engine.preload.loader import Loader
from engine.residency.buffer import ExpertBuffer
from engine.store import Store


class Use(Structure):
    """One expert's part in a pass, preload/stream.h: number, first place in the router's order, of how many tokens, mean weight."""

    _fields_ = [("expert", c_int32), ("rank", c_int32), ("tokens", c_int32), ("weight", c_float)]


class _Failure(Structure):
    _fields_ = [("expert", c_int32), ("bits", c_int32), ("error", c_int32)]


_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "stream_new": (c_void_p, (*(c_int32,) * 4, *(c_void_p,) * 4, c_int64, c_char_p, c_void_p, c_void_p)),
    "stream_free": (None, (c_void_p,)),
    "stream_of": (c_void_p, (c_void_p,)),
    "stream_gate": (c_void_p, (c_void_p,)),
    "stream_policy": (c_int32, (c_void_p, c_char_p)),
    "stream_expect": (None, (c_void_p, POINTER(c_double))),
    "stream_budget": (None, (c_void_p, c_int64)),
    "stream_predictor": (None, (c_void_p, c_int32, c_void_p)),
    "stream_ahead": (None, (c_void_p, c_int32, c_int32, c_int32)),
    "stream_begin_pass": (None, (c_void_p, c_int32, c_int32)),
    "stream_quiesce": (None, (c_void_p,)),
    "stream_begin_request": (None, (c_void_p,)),
    "stream_routed": (None, (c_void_p, c_int32, c_void_p, c_int32)),
    "stream_hand": (None, (c_void_p, c_int32, c_int32, c_void_p)),
    "stream_wants": (c_int32, (c_void_p, c_int32)),
    "stream_look_ahead": (None, (c_void_p,)),
    "stream_take": (c_int32, (c_void_p, POINTER(c_int32))),
    "stream_failed": (None, (c_void_p, POINTER(_Failure))),
    "stream_fill": (c_int32, (c_void_p, c_int32)),
    "stream_landed": (c_int32, (c_void_p,)),
}


class ExpertStream:
    """The runtime that computes a bound model's experts, reading what is missing and what will be wanted.

    ``wanted`` uint8 [S · E] is the place, among the store's widths, of the width that each expert is loaded at next; it may be written.
    """

    _handle = None

    def __init__(self, store: Store, budget: int, policy: str, wanted: npt.NDArray[np.uint8], loader: Loader, ledger: Ledger) -> None:
        self._native = bind(_FUNCTIONS)
        self._store, self._loader, self.ledger, self.wanted = store, loader, ledger, wanted
        spec, widths = store.spec, len(store.widths)
        sums = [np.ascontiguousarray(store.checksums(bits)) for bits in store.widths]
        self._handle = self._native.stream_new(
            spec.layers, spec.experts, spec.top_k, widths, (c_int32 * widths)(*store.widths),
            (c_int64 * widths)(*map(store.record_bytes, store.widths)), (c_void_p * widths)(*(s.ctypes.data for s in sums)),
            wanted.ctypes.data, budget, policy.encode(), loader.handle, ledger.handle,
        )  # fmt: skip
        if not self._handle:
            raise EngineError(f"There is no address space for {spec.layers} layers of {spec.experts} experts, or no policy {policy!r}")
        self.buffer = ExpertBuffer(store, self._handle)
        self.native_stream: int = self._native.stream_of(self._handle)
        self.routers: Sequence[Scores | None] = ()  # by MoE layer, where transformers decodes
        self.kernels: ExpertKernels  # set before the first pass
        self.decoder: NativeDecoder | None = None
        self.on_layer: Callable[[], None] = lambda: None  # called now and then, for news in long passes
        self.router_began = 0
        self._experts = spec.experts
        self._places = (c_int32 * (spec.experts + 1))()

    # --- settings; between passes ---------------------------------------------------------------------------------

    def quiesce(self) -> None:
        """Nothing is being read afterwards: what has not started is taken back, the rest is waited for."""
        self._native.stream_quiesce(self._handle)

    def resize(self, budget: int) -> None:
        """Take another budget at once, evicting what no longer fits."""
        self.quiesce()
        self._native.stream_budget(self._handle, budget)

    def evict_by(self, policy: str) -> None:
        """Let another policy say who leaves; it has seen nothing yet."""
        self.quiesce()
        self._native.stream_policy(self._handle, policy.encode())

    def expect(self, odds: npt.NDArray[np.float64]) -> None:
        """Tell the policy how likely a token uses each expert, [S · E], from other text."""
        self._native.stream_expect(self._handle, odds.ctypes.data_as(POINTER(c_double)))

    def predict_by(self, gate: bool, learned: int | None) -> None:
        """Predict by the next layers' routers, or where these cannot say by a learned predictor (its handle, kept by the caller)."""
        self.quiesce()
        self._native.stream_predictor(self._handle, gate, learned)
        if self.decoder is not None:
            self.decoder.hand_scores_to(self._native.stream_gate(self._handle))
        self._gate = gate

    def look_ahead(self, depth: int, width: int, balanced: bool) -> None:
        """Read ahead for ``depth`` layers, at most ``width`` records not used yet; ``balanced``: fewer or none where it does not pay."""
        self.quiesce()
        self._native.stream_ahead(self._handle, depth, width, balanced)

    _gate = False

    # --- passes ---------------------------------------------------------------------------------------------------

    def begin_request(self) -> None:
        """What follows has nothing to do with the tokens before."""
        self._native.stream_begin_request(self._handle)

    def begin_pass(self, token: int, phase: Phase) -> None:
        """A pass starts, which is row ``token`` of the recording."""
        self.ledger.token, self.ledger.phase = token, phase
        self._native.stream_begin_pass(self._handle, token, phase)

    def forward(self, module: Any, layer: int, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """Mix of the chosen experts [T, d] for ``hidden`` [T, d], ``index`` [T, k] and gate ``weights`` [T, k].

        The weighted outputs are summed in the router's order, so that no bit depends on what arrived first.
        """
        ledger = self.ledger
        if self.router_began:
            ledger.span(SpanKind.ROUTER, self.router_began, layer)
        uses = _uses(index, weights, layer * self._experts, self._experts)
        self._native.stream_routed(self._handle, layer, (Use * len(uses))(*(use for use, _ in uses)), len(uses))
        if self._gate and len(index) == 1:
            self._hand_on(layer, hidden)
        self._native.stream_look_ahead(self._handle)
        outputs = hidden.new_zeros(*index.shape, hidden.shape[-1])  # [T, k, d]
        while count := self._native.stream_take(self._handle, self._places):
            if count < 0:
                raise self._failure()
            for use, where in [uses[place] for place in self._places[:count]]:
                began, expert = ledger.now(), use.expert
                record, bits = self.buffer.record(expert), self.buffer.bits_of(expert)
                y = self.kernels.forward(hidden[where[0]], record, self.buffer.weights(expert), module)
                outputs[where] = y
                ledger.span(SpanKind.EXPERT, began, layer, expert % self._experts, bits)
        self.on_layer()
        self.router_began = 0
        return (outputs * weights.unsqueeze(-1)).sum(dim=1).to(hidden.dtype)

    def decode(self, token: int, position: int, patience: int) -> Tensor:
        """Logits [V] after ``token``, which stands at ``position``, all natively; ``on_layer`` is called about every ``patience`` ns."""
        assert self.decoder is not None
        self.decoder.begin(token, position)
        while (progress := self.decoder.run(patience)) == 0:
            self.on_layer()
        if progress < 0:
            raise self._failure()
        return self.decoder.logits

    # --- outside of passes ----------------------------------------------------------------------------------------

    def fill(self, expert: int) -> None:
        """Begin to read an absent expert, for which there must be room."""
        granted = self._native.stream_fill(self._handle, expert)
        assert granted, "what is filled in fits the budget"

    def landed(self) -> int:
        """Wait for one expert that ``fill`` asked for, and return its number.

        Raises:
            EngineError: its record is damaged or cannot be read.
        """
        expert = int(self._native.stream_landed(self._handle))
        if expert < 0:
            raise self._failure()
        return expert

    @property
    def closed(self) -> bool:
        return self._handle is None

    def close(self) -> None:
        """Wait for what is being read, and let go of the memory."""
        if self._handle:
            self.quiesce()
            self._native.stream_free(self._handle)
            self._handle = None

    def _hand_on(self, layer: int, hidden: Tensor) -> None:
        """Show what the next layers' routers make of this layer's hidden state."""
        for ahead in (1, 2):
            later = layer + ahead
            router = self.routers[later] if later < len(self.routers) else None
            if router is not None and self._native.stream_wants(self._handle, later):
                scores = router(hidden).contiguous()
                self._native.stream_hand(self._handle, later, ahead, scores.data_ptr())

    def _failure(self) -> EngineError:
        failure = _Failure()
        self._native.stream_failed(self._handle, failure)
        return self._loader.error(failure.expert, failure.bits, failure.error)


def _uses(index: Tensor, weights: Tensor, first: int, experts: int) -> list[tuple[Use, tuple[Any, Any]]]:
    """What an MoE layer's router chose, in the order in which it names them, and where each stands in [T, k].

    Some families name an index past the last expert to say "none"; a table of experts by token id may name one twice.
    """
    chosen = index.flatten().tolist()
    distinct = dict.fromkeys(e for e in chosen if e < experts)
    if len(index) == 1 and len(distinct) == len(chosen):  # decoding: no tensors needed to say so
        by_rank = enumerate(zip(chosen, weights[0].tolist(), strict=True))
        return [(Use(first + e, rank, 1, weight), (slice(None), rank)) for rank, (e, weight) in by_rank]
    uses: list[tuple[Use, tuple[Any, Any]]] = []
    for e in distinct:
        tokens, ranks = torch.where(index == e)
        weight = float(weights[tokens, ranks].float().mean())
        uses.append((Use(first + e, int(ranks[0]) if len(index) == 1 else 0, len(tokens), weight), (tokens, ranks)))
    return uses
