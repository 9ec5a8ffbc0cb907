"""The token loop: one model, one buffer, one request at a time.

T prompt tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine import settings as declared
from engine.bitwidth.plan import Plan
from engine.detokenizer import Detokenizer
from engine.errors import EngineError
from engine.events import Applied, Batch, Began, Budget, Finished, Message, ModelInfo, Phase, SpanKind
from engine.kernels.decoder import NativeDecoder
from engine.kernels.experts import ExpertKernels
from engine.kernels.library import Native
from engine.ledger import Ledger
from engine.models.anatomy import expert_modules
from engine.models.describe import describe
from engine.models.lean import Lean
from engine.models.native_linear import take_over
from engine.models.skeleton import Skeleton, load_skeleton
from engine.preload.device import NATIVE, Device
from engine.preload.loader import Loader
from engine.residency import POLICIES, policy_named
from engine.residency.buffer import ExpertBuffer, check_budget
from engine.residency.policy import Clock
from engine.sampling import Sampler
from engine.settings import Value, parse_budget
from engine.store import Store
from engine.store.format import experts_file
from engine.streaming import ExpertStream

Emit = Callable[[Any], None]
_SMALL_SKELETON = 1 << 30


@dataclass
class Request:
    """One prompt and what became of it."""

    number: int
    memory: Tensor  # [1, T at most]
    length: int  # T so far
    prompt_length: int
    limit: int
    first_token: int
    cache: Any = None
    generated: int = 0
    detokenizer: Detokenizer | None = None  # none for requests given as token ids: they have no text
    text: str = ""

    @property
    def ids(self) -> Tensor:
        """All token ids so far [1, T]: the prompt's and the new ones."""
        return self.memory[:, : self.length]

    def add(self, token: int) -> None:
        """One more token."""
        self.memory[0, self.length] = token
        self.length += 1
        self.generated += 1


class Session:
    """A loaded model. ``begin`` a request, ``step`` once a token, ``change`` settings between tokens.

    ``emit`` receives notices (engine.events); with ``recording`` False no records are made, only totals.
    """

    def __init__(
        self, store: Store, values: dict[str, Value], devices: dict[str, Device] | None = None, emit: Emit | None = None,
        recording: bool = True,
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
        torch.set_num_threads(self._compute_threads())
        self.native, self._kernel_note = _native(str(self.values["kernels"]), self._compute_threads())
        self.skeleton = load_skeleton(store, self._dtype())
        spec = store.spec
        policy = policy_named(str(self.values["eviction"]), spec.layers, spec.experts)
        self.buffer = ExpertBuffer(store, self.budget.granted, policy, self.ledger.residency)
        files = [store.path / experts_file(bits) for bits in store.widths]
        self.loader = Loader(files, spec.experts, int(self.values["io_threads"]), self._device(), bool(self.values["verify"]))
        kernels = ExpertKernels(store, expert_modules(self.skeleton.model)[0][1], self.native)
        self.stream = ExpertStream(store, self.buffer, self.loader, self.ledger, kernels, self.bits_of)
        self.stream.on_layer = self._news
        self._decoder, self._bits_of_skeleton = self._lean_decoder(kernels)
        self.skeleton.bind(self.stream)
        self._hooks = _attribute(self.skeleton, self.ledger, self.stream)
        self._sampler = Sampler(int(self.values["seed"]))
        self._forward_options = _options(self.skeleton.model)
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
        ids = self.skeleton.tokenizer(prompt, return_tensors="pt").input_ids
        tokenizer = self.skeleton.tokenizer
        return self.begin_ids(ids, prompt, [tokenizer.decode([token]) for token in ids[0].tolist()], Detokenizer(tokenizer))

    def begin_ids(
        self, ids: Tensor, prompt: str = "", pieces: Sequence[str] = (), detokenizer: Detokenizer | None = None
    ) -> Request:
        """Start a request with the prompt's token ids [1, T]; its tokens have text only with a ``detokenizer``."""
        length, context = ids.shape[1], self.context
        if not length:
            raise EngineError("The prompt is empty; write at least one word")
        if length >= context:
            raise EngineError(f"The prompt has {length} tokens, the model takes fewer than {context}; shorten it")
        limit = min(int(self.values["max_tokens"]), context - length)
        self._sampler = Sampler(int(self.values["seed"]))
        self._sampler.configure(self.values)
        memory = torch.cat([ids, ids.new_empty(1, limit)], dim=1)
        self.request = Request(self._requests, memory, length, length, limit, self._tokens, detokenizer=detokenizer)
        self._requests += 1
        self.emit(Began(self.ledger.now(), self.request.number, prompt, list(pieces), self._tokens))
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
        self.ledger.begin_pass(self._tokens, phase)
        began, evictions = self.ledger.now(), self.buffer.evictions
        try:
            logits = self._logits(request)
        except EngineError:
            self.end("failed")
            raise
        sampling = self.ledger.account() if self._decoder else self.ledger.now()
        token, logprob = self._sampler.choose(request.ids, logits)
        request.add(token)
        piece = request.detokenizer.add(token) if request.detokenizer else ""
        request.text += piece
        self.ledger.span(SpanKind.SAMPLE, sampling)
        passed = request.prompt_length if phase == Phase.PREFILL else 1
        self._close_pass(request, token, logprob, phase, passed, began, self.buffer.evictions - evictions, piece)
        self._news()
        if token in self._end_tokens and not self.values["ignore_eos"]:
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
        self.ledger.begin_pass(self._tokens, Phase.PREFILL)
        keep = dict.fromkeys(self._forward_options, last)
        return self.skeleton.model(input_ids=ids, use_cache=False, **keep).logits[0, -last:]  # type: ignore[no-any-return]

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
        old, self.values, self._plan = self.values[name], new, plan
        self._apply(name, budget)
        self.emit(Applied(self.ledger.now(), self._tokens, name, old, new[name], self.effective()[name], self.budget))

    def effective(self) -> dict[str, Value]:
        """What the settings come to: budget in bytes, names for defaults, threads counted."""
        return dict(self.values) | {
            "budget": self.budget.granted,
            "eviction": self.buffer.policy.name,
            "io_threads": self.loader.threads,
            "compute_threads": self._compute_threads(),
            "dtype": str(self._dtype()).removeprefix("torch."),
            "skeleton_bits": self._bits_of_skeleton,
            "kernels": self.native.name if self.native else "torch",
            "memory_limit": parse_budget(str(self.values["memory_limit"]), 1) or "none",
        }

    def info(self) -> ModelInfo:
        """What is loaded."""
        store, spec = self.store, self.store.spec
        sizes = {bits: store.record_bytes(bits) for bits in store.widths}
        return ModelInfo(
            store.name, spec.architecture, str(store.path), str(store.path), store.model_hash, spec.layers, spec.experts, spec.top_k,
            spec.hidden, spec.width, list(store.widths), sizes, store.skeleton_bytes, store.quantizer,
            self.native.name if self.native else "torch", self.loader.direct,
            str(self._dtype()).removeprefix("torch."), self.skeleton.config.get_text_config().vocab_size, self.context, self._kernel_note,
            "native" if self._decoder else "transformers",
        )  # fmt: skip

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together at most."""
        return int(getattr(self.skeleton.config.get_text_config(), "max_position_embeddings", 0) or 1 << 20)

    def bits_of(self, expert: int) -> int:
        """The width at which ``expert`` (layer · E + index) is loaded next."""
        return self._plan.bits[expert] if self._plan else int(self.values["bits"])

    def close(self) -> None:
        """End the I/O threads and let go of the model's hooks."""
        for hook in self._hooks:
            hook.remove()
        self.loader.close()
        if self._decoder is not None:
            self._decoder.close()
        if self.native is not None:
            self.native.close()

    def buffer_bytes(self) -> tuple[int, int, int, int]:
        """Budget, resident, peak resident and KV bytes at this moment; may be asked from another thread."""
        request = self.request
        return self.buffer.budget, self.buffer.resident_bytes, self.buffer.peak_bytes, self._cache_bytes(request) if request else 0

    def flush(self) -> None:
        """Emit the records collected since the last time."""
        tables, pieces = self.ledger.drain()
        if tables:
            self.emit(Batch(tables, pieces))
        self._last_news = self.ledger.now()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _logits(self, request: Request) -> Tensor:
        if request.cache is None or self._decoder is None:
            return self._logits_by_skeleton(request)
        last = request.length - 1
        return self.stream.decode(self._decoder, int(request.memory[0, last]), last)

    def _logits_by_skeleton(self, request: Request) -> Tensor:
        # As ``generate`` calls it: some families count positions in the cache wrongly, or now and then begin it anew.
        prefill = request.cache is None
        inputs = self.skeleton.model.prepare_inputs_for_generation(
            request.ids, next_sequence_length=None if prefill else 1, is_first_iteration=prefill, past_key_values=request.cache,
            position_ids=torch.arange(request.length).unsqueeze(0), use_cache=True, **self._forward_options,
        )  # fmt: skip
        out = self.skeleton.model(**inputs)
        request.cache = out.past_key_values
        if self._decoder is not None:
            self._decoder.adopt(request.cache, request.prompt_length, request.prompt_length + request.limit)
            request.cache = self._decoder  # and transformers' own is let go
        return out.logits[0, -1]  # type: ignore[no-any-return]

    def _close_pass(
        self, request: Request, token: int, logprob: float, phase: Phase, passed: int, began: int, evictions: int, piece: str
    ) -> None:
        ledger, buffer, used = self.ledger, self.buffer, sum(self.ledger.outcomes)
        times = [ledger.times[kind] for kind in _PARTS]
        times[0] += ledger.times[SpanKind.SHARED]
        duration = (ledger.account() if self._decoder else ledger.now()) - began
        ledger.end_pass(
            (
                request.number, token, passed, phase, began, duration, *times, duration - sum(times), ledger.io_time(),
                *ledger.outcomes, evictions, ledger.demand_bytes, 0, 0, buffer.budget, buffer.resident_bytes,
                *buffer.by_bits.values(), self._cache_bytes(request), ledger.bits_used / used if used else 0.0, logprob,
            ),
            piece,
        )  # fmt: skip
        self._tokens += 1

    def _lean_decoder(self, kernels: ExpertKernels) -> tuple[NativeDecoder | None, int]:
        """The decoder of a llama-like model, its linear layers at the width the settings say; None and 16 for all others."""
        lean = describe(self.skeleton) if self.native is not None else ""
        if self.native is None or not isinstance(lean, Lean) or kernels.activation is None:
            return None, 16
        bits = self._skeleton_bits()
        replaced = take_over(self.skeleton.model, lean, bits, self.native)
        matrices = {linear: stand_in.matrix for linear, stand_in in replaced.items()}
        return NativeDecoder(lean, kernels, self.buffer, self.store.spec.experts, matrices), bits

    def _cache_bytes(self, request: Request) -> int:
        if isinstance(request.cache, NativeDecoder):
            return request.cache.bytes_of(request.length - 1)
        return _cache_bytes(request.cache)

    def _skeleton_bits(self) -> int:
        chosen = str(self.values["skeleton_bits"])
        return int(chosen) if chosen != "auto" else 16 if self.store.skeleton_bytes < _SMALL_SKELETON else 8

    def _news(self) -> None:
        if self.ledger.now() - self._last_news > self.news_period:
            self.flush()

    def _apply(self, name: str, budget: Budget) -> None:
        """Make a change true; nothing is in flight between tokens."""
        spec = self.store.spec
        clock = Clock(self._tokens, 0)
        if budget != self.budget:
            self.budget = budget
            self.buffer.resize(budget.granted, clock)
        if name == "eviction":
            self.buffer.policy = policy_named(str(self.values[name]), spec.layers, spec.experts)
        elif name in ("device", "io_threads"):
            self.loader.configure(int(self.values["io_threads"]), self._device())
        elif name == "verify":
            self.loader.verify = bool(self.values[name])
        elif name == "compute_threads":
            torch.set_num_threads(self._compute_threads())
            if self.native is not None:
                self.native.set_threads(self._compute_threads())
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
        granted = parse_budget(str(values["budget"]), full)
        check_budget(granted, least)
        return Budget(granted, least, full)

    def _read_plan(self, path: str) -> Plan | None:
        return Plan.read(Path(path), self.store) if path else None

    def _device(self, values: dict[str, Value] | None = None) -> Device:
        name = str((values or self.values)["device"])
        if name not in self.devices:
            raise EngineError(f"Device {name!r} is not known; choose one of {', '.join(self.devices)}")
        return self.devices[name]

    def _compute_threads(self) -> int:
        return int(self.values["compute_threads"]) or max(1, (os.cpu_count() or 2) - 1)

    def _dtype(self) -> torch.dtype:
        if self.values["dtype"] == "auto":
            return torch.float32 if self.store.skeleton_bytes < _SMALL_SKELETON else torch.bfloat16
        return torch.float32 if self.values["dtype"] == "float32" else torch.bfloat16

    @property
    def _end_tokens(self) -> tuple[int, ...]:
        end = self.skeleton.generation_config.eos_token_id
        return () if end is None else (end,) if isinstance(end, int) else tuple(end)


_PARTS = (SpanKind.ATTENTION, SpanKind.ROUTER, SpanKind.EXPERT, SpanKind.STALL, SpanKind.HEAD, SpanKind.SAMPLE)


def _native(kernels: str, threads: int) -> tuple[Native | None, str]:
    """The native kernels that the setting asks for, or None and, if they were wanted, why there are none."""
    if kernels == "torch":
        return None, ""
    try:
        return Native(threads, "" if kernels == "auto" else kernels), ""
    except EngineError as error:
        return None, f"Native kernels are not built: {error}. Experts run through torch, slower"


def _attribute(skeleton: Skeleton, ledger: Ledger, stream: ExpertStream) -> list[Any]:
    """Hang clocks on the parts of the model, so that each stretch of a pass has a name."""
    hooks: list[Any] = []

    def clocked(module: nn.Module, kind: SpanKind, layer: int) -> None:
        began = [0]

        def before(*_: Any) -> None:
            began[0] = ledger.now()

        def after(*_: Any) -> None:
            ledger.span(kind, began[0], layer)

        hooks.extend((module.register_forward_pre_hook(before), module.register_forward_hook(after)))

    def block_begins(*_: Any) -> None:
        stream.router_began = ledger.now()

    for number, layer in enumerate(skeleton.parts.layers):
        for attention in layer.attention:
            clocked(attention, SpanKind.ATTENTION, number if layer.moe is None else layer.moe)
        if layer.block is not None:
            hooks.append(layer.block.register_forward_pre_hook(block_begins))
    if skeleton.parts.head is not None:
        clocked(skeleton.parts.head, SpanKind.HEAD, -1)
    return hooks


def _options(model: Any) -> dict[str, Any]:
    """Compute logits of the last position only, where the family can."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def _cache_bytes(cache: Any) -> int:
    """Bytes that attention's keys and values occupy."""
    layers = getattr(cache, "layers", ())
    tensors = (getattr(layer, name, None) for layer in layers for name in ("keys", "values"))
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


__all__ = ["POLICIES", "Message", "Request", "Session"]
