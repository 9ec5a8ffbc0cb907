"""The token loop: one model, one buffer, one request at a time.

T prompt tokens, V vocabulary.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from engine import settings as declared
from engine.bitwidth.plan import Plan, Subject
from engine.detokenizer import Detokenizer
from engine.errors import EngineError
from engine.events import Applied, Batch, Began, Budget, Finished, ModelInfo, Outcome, Phase, Ready, SpanKind
from engine.ledger import Ledger
from engine.network import Network
from engine.preload.device import NATIVE, Device
from engine.preload.foresight import Foresight
from engine.preload.loader import Loader
from engine.request import Request
from engine.residency import policy_name
from engine.residency.buffer import check_budget
from engine.sampling import Sampler
from engine.settings import Value, parse_budget, parse_size
from engine.store import Store
from engine.streaming import ExpertStream

Emit = Callable[[Any], None]


class Session:
    """A loaded model. ``begin`` a request, ``step`` once a token, ``change`` settings between tokens.

    Learned predictors are looked for in the store's folder, then in ``model``, the folder of the checkpoint.
    ``emit`` receives notices (engine.events); with ``recording`` False no records are made, only totals.
    """

    def __init__(
        self, store: Store, values: dict[str, Value], devices: dict[str, Device] | None = None, emit: Emit | None = None,
        recording: bool = True, model: Path | None = None,
    ) -> None:  # fmt: skip
        self.store = store
        self.values = declared.checked(values)
        self.devices = {NATIVE.name: NATIVE, **(devices or {})}
        self.emit: Emit = emit or (lambda message: None)
        self.request: Request | None = None
        self.ledger = Ledger(store.spec.experts, recording)
        self._requests = self._tokens = 0
        self._plan = self._read_plan(str(self.values["plan"]))
        self.budget = self._budget_for(self.values, self._plan)
        self._device()  # what cannot be is refused before anything is loaded
        self.network = Network(store, self.values, self._compute_threads())
        spec = store.spec
        self.loader = Loader(store, int(self.values["io_threads"]), self._device(), bool(self.values["verify"]))
        self._wanted = np.empty(spec.layers * spec.experts, np.uint8)
        self._want_widths()
        policy = policy_name(str(self.values["eviction"]))
        self.stream = ExpertStream(store, self.budget.granted, policy, self._wanted, self.loader, self.ledger)
        self.buffer = self.stream.buffer
        self.stream.on_layer = self._news
        self.network.attach(self.stream)
        self.foresight = Foresight(store, self.network, self.stream, [store.path, *([model] if model else [])])
        self.foresight.follow(self.values)
        self._sampler = Sampler(int(self.values["seed"]), self.network.find_top)
        self.news_period = 33_000_000  # ns between two batches: the window's 30 a second
        self._last_news = 0

    @property
    def counted(self) -> tuple[int, int]:
        """Requests begun and passes made."""
        return self._requests, self._tokens

    def go_on_from(self, origin: int, counted: tuple[int, int]) -> None:
        """Take over the clock (its ``perf_counter_ns`` at time 0) and the numbers of a session before, in the same recording."""
        self.ledger.origin = origin
        self._requests, self._tokens = counted

    # --- requests -------------------------------------------------------------------------------------------------

    def begin(self, prompt: str) -> Request:
        """Start a request; the first ``step`` prefills it.

        Raises:
            EngineError: an empty prompt, or one longer than the model's context.
        """
        ids = self.network.skeleton.tokenizer(prompt, return_tensors="pt").input_ids
        tokenizer = self.network.skeleton.tokenizer
        return self.begin_ids(ids, prompt, [tokenizer.decode([token]) for token in ids[0].tolist()], Detokenizer(tokenizer))

    def begin_ids(
        self, ids: Tensor, prompt: str = "", pieces: Sequence[str] = (), detokenizer: Detokenizer | None = None
    ) -> Request:
        """Start a request with the prompt's token ids [1, T]; its tokens have text only with a ``detokenizer``."""
        length, context = ids.shape[1], self.network.context
        if not length:
            raise EngineError("The prompt is empty; write at least one word")
        if length >= context:
            raise EngineError(f"The prompt has {length} tokens, the model takes fewer than {context}; shorten it")
        limit = min(int(self.values["max_tokens"]), context - length)
        self._sampler = Sampler(int(self.values["seed"]), self.network.find_top)
        self._sampler.configure(self.values)
        memory = np.concatenate([ids[0].numpy(), np.zeros(limit, np.int64)])
        self.request = Request(self._requests, memory, length, length, limit, self._tokens, detokenizer=detokenizer)
        self._requests += 1
        self.stream.begin_request()
        self.emit(Began(self.ledger.now(), self.request.number, prompt, list(pieces), self._tokens, ids[0].tolist()))
        return self.request

    @torch.inference_mode()
    def step(self) -> int | None:
        """Produce one token of the request under way and return its id; None when the request has ended.

        The first step of a request is its prefill.
        """
        request = self.request
        if request is None:
            return None
        phase = Phase.PREFILL if request.cache is None else Phase.DECODE
        self.stream.begin_pass(self._tokens, phase)
        began = self.ledger.reached
        try:
            logits = self.network.logits(request)
        except EngineError:
            self.end("failed")
            raise
        sampling = self.ledger.account() if self.network.decoder else self.ledger.now()
        token, logprob = self._sampler.choose(request.memory[: request.length], logits.float().numpy())
        request.add(token)
        piece = request.detokenizer.add(token) if request.detokenizer else ""
        request.text += piece
        self.ledger.span(SpanKind.SAMPLE, sampling)
        passed = request.prompt_length if phase == Phase.PREFILL else 1
        self._close_pass(request, token, logprob, phase, passed, began, piece)
        self._news()
        if token in self.network.end_tokens and not self.values["ignore_eos"]:
            self.end("end of text")
        elif request.generated >= request.limit:
            self.end("length")
        return token

    def end(self, reason: str) -> None:
        """End the request under way: ``reason`` is length, end of text, stopped or failed."""
        if self.request is not None:
            number, self.request = self.request.number, None
            self.flush()
            self.emit(Finished(self.ledger.now(), number, reason))

    @torch.inference_mode()
    def logits(self, ids: Tensor, last: int) -> Tensor:
        """Logits [last, V] at the ``last`` positions of ``ids`` [1, T], in one pass of no request and without a row in ``tokens``.

        Raises:
            EngineError: a record is damaged.
        """
        self.stream.begin_pass(self._tokens, Phase.PREFILL)
        return self.network.logits_of(ids, last)

    # --- settings -------------------------------------------------------------------------------------------------

    def change(self, name: str, value: Value) -> None:
        """Set one setting, from the next token (or request) on; emits Applied.

        Raises:
            EngineError: unknown, out of range, or impossible here; everything stays as it was.
        """
        if name not in declared.BY_NAME:
            raise EngineError(f"There is no setting {name!r}")
        new = dict(self.values) | {name: declared.BY_NAME[name].parse(value)}
        plan = self._read_plan(str(new["plan"])) if name == "plan" else self._plan
        budget = self._budget_for(new, plan) if name in ("budget", "bits", "plan") else self.budget
        if name == "bits":
            self.store.record_bytes(int(new["bits"]))  # refuses a width that was not converted
        if name == "device":
            self._device(new)
        if name == "predictor":
            self.foresight.check(str(new[name]))
        before = self.values, self._plan
        old, self.values, self._plan = self.values[name], new, plan
        try:
            self._apply(name, budget)
        except EngineError:
            self.values, self._plan = before
            raise
        self.emit(Applied(self.ledger.now(), self._tokens, name, old, new[name], self.effective()[name], self.budget,
                          self.plan if name == "plan" else b""))  # fmt: skip

    @property
    def plan(self) -> bytes:
        """The bits of every expert by number where a plan is in force, else empty."""
        return bytes(self._plan.bits) if self._plan else b""

    def ready(self, name: str = "") -> Ready:
        """The notice that the model is loaded; ``name`` is what to call it, empty for the store's own."""
        info = self.info()
        info = msgspec.structs.replace(info, name=name or info.name)
        return Ready(self.ledger.now(), info, self.values, self.effective(), self.budget, self.plan)

    def effective(self) -> dict[str, Value]:
        """What the settings come to: budget in bytes, names for defaults, threads counted."""
        return dict(self.values) | {
            "budget": self.budget.granted,
            "eviction": policy_name(str(self.values["eviction"])),
            "predictor": self.foresight.name,
            "io_threads": self.loader.threads,
            "compute_threads": self._compute_threads(),
            "dtype": str(self.network.dtype).removeprefix("torch."),
            "skeleton_bits": self.network.skeleton_bits,
            "kernels": self.network.kernel,
            "memory_limit": parse_size(str(self.values["memory_limit"])) or "none",
        }

    def info(self) -> ModelInfo:
        """What is loaded."""
        store, spec, network = self.store, self.store.spec, self.network
        sizes = {bits: store.record_bytes(bits) for bits in store.widths}
        return ModelInfo(
            store.name, spec.architecture, str(store.path), str(store.path), store.model_hash, spec.layers, spec.experts, spec.top_k,
            spec.hidden, spec.width, list(store.widths), sizes, store.skeleton_bytes, store.quantizer, network.kernel, self.loader.direct,
            str(network.dtype).removeprefix("torch."), network.skeleton.config.get_text_config().vocab_size, network.context,
            "native" if network.decoder else "transformers",
        )  # fmt: skip

    def bits_of(self, expert: int) -> int:
        """The width at which ``expert`` (layer · E + index) is loaded next."""
        return self._plan.bits[expert] if self._plan else int(self.values["bits"])

    def close(self) -> None:
        """End the threads and let go of the model; what was still being read is told."""
        if not self.stream.closed:
            self.stream.quiesce()
            self.flush()
        self.stream.close()
        self.loader.close()
        self.network.close()

    def buffer_bytes(self) -> tuple[int, int, int, int]:
        """Budget, resident, peak resident and KV bytes at this moment; may be asked from another thread."""
        request, buffer = self.request, self.buffer.view()
        return buffer.budget, buffer.held, buffer.peak, self.network.cache_bytes(request) if request else 0

    def flush(self) -> None:
        """Emit the records collected since the last time."""
        tables, pieces = self.ledger.drain()
        if tables:
            self.emit(Batch(tables, pieces))
        self._last_news = self.ledger.now()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _close_pass(
        self, request: Request, token: int, logprob: float, phase: Phase, passed: int, began: int, piece: str
    ) -> None:
        ledger, totals, buffer = self.ledger, self.ledger.totals, self.buffer.view()
        times = [ledger.time(kind) for kind in _PARTS]
        times[0] += ledger.time(SpanKind.SHARED)
        duration = (ledger.account() if self.network.decoder else ledger.now()) - began
        preloaded = ledger.outcome(Outcome.PRELOADED)
        found = [ledger.outcome(Outcome.HIT) + preloaded, preloaded, *(ledger.outcome(outcome) for outcome in _MISSES)]
        used = sum(found) - preloaded
        ledger.end_pass(
            (
                request.number, token, passed, phase, began, duration, *times, duration - sum(times), ledger.io_time(), *found,
                totals.evictions, totals.demand_bytes, totals.useful_bytes, totals.wasted_bytes, buffer.budget, buffer.held,
                *self.buffer.by_bits().values(), self.network.cache_bytes(request), totals.bits_used / used if used else 0.0, logprob,
            ),
            piece,
        )  # fmt: skip
        self._tokens += 1

    def _want_widths(self) -> None:
        place = {bits: index for index, bits in enumerate(self.store.widths)}
        self._wanted[:] = [place[bits] for bits in self._plan.bits] if self._plan else place[int(self.values["bits"])]

    def _news(self) -> None:
        if self.ledger.now() - self._last_news > self.news_period:
            self.flush()

    def _apply(self, name: str, budget: Budget) -> None:
        """Make a change true, between tokens."""
        self.stream.quiesce()
        self._want_widths()
        if budget != self.budget or name in ("bits", "plan"):
            self.budget = budget
            self.stream.resize(budget.granted)
        if name == "eviction":
            self.stream.evict_by(policy_name(str(self.values[name])))
        elif name in ("device", "io_threads", "verify"):
            self.loader.configure(int(self.values["io_threads"]), self._device(), bool(self.values["verify"]))
        elif name in ("predictor", "preload_depth", "preload_width"):
            self.foresight.follow(self.values)
        elif name == "compute_threads":
            self.network.set_threads(self._compute_threads())
        elif name in ("temperature", "top_k", "top_p", "repetition_penalty"):
            self._sampler.configure(self.values)

    def _budget_for(self, values: dict[str, Value], plan: Plan | None) -> Budget:
        """What the budget comes to; the least is what one layer needs for one token.

        Raises:
            EngineError: it is less than the least.
        """
        spec, bits = self.store.spec, int(values["bits"])
        widths = plan.bits if plan else [bits] * (spec.layers * spec.experts)
        full, least = sum(map(self.store.record_bytes, widths)), spec.top_k * self.store.record_bytes(max(widths))
        granted = parse_budget(str(values["budget"]), full, least)
        check_budget(granted, least)
        return Budget(granted, least, full)

    def _read_plan(self, path: str) -> Plan | None:
        return Plan.read(Path(path), Subject.of(self.store)) if path else None

    def _device(self, values: dict[str, Value] | None = None) -> Device:
        name = str((values or self.values)["device"])
        if name not in self.devices:
            raise EngineError(f"Device {name!r} is not known; choose one of {', '.join(self.devices)}")
        return self.devices[name]

    def _compute_threads(self) -> int:
        return int(self.values["compute_threads"]) or max(1, (os.cpu_count() or 2) - 1)


_MISSES = (Outcome.FIRST_TOUCH, Outcome.CAPACITY, Outcome.MISPREDICTED, Outcome.LATE)
_PARTS = (SpanKind.ATTENTION, SpanKind.ROUTER, SpanKind.EXPERT, SpanKind.STALL, SpanKind.HEAD, SpanKind.SAMPLE)
