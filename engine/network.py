"""A loaded model as what gives logits: prompts through transformers' own modules, decoding natively where the model is llama-like.

T tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from engine.events import SpanKind
from engine.kernels.decoder import NativeDecoder
from engine.kernels.experts import ExpertKernels
from engine.kernels.library import Native
from engine.kernels.reference import Top, top
from engine.ledger import Ledger
from engine.machine import give_back
from engine.models.anatomy import expert_modules
from engine.models.describe import describe
from engine.models.lean import Lean
from engine.models.native_linear import take_over
from engine.models.routers import scores_of
from engine.models.skeleton import Skeleton, load_skeleton, settle
from engine.request import Request
from engine.settings import Value
from engine.store import Store
from engine.streaming import ExpertStream

_SMALL_SKELETON = 1 << 30
_PATIENCE = 10_000_000  # ns of native decoding between two looks at what else there is to do


class Network:
    """The non-expert weights in memory and the kernels that multiply; ``attach`` gives it the experts.

    ``native`` is None where all runs through torch. ``dtype`` is the type of activations; native layers compute in float32 from weights
    of any.
    """

    dtype: torch.dtype

    def __init__(self, store: Store, values: dict[str, Value], threads: int) -> None:
        self._store, self._values = store, values
        kernels = str(values["kernels"])
        self.native = None if kernels == "torch" else Native(threads, "" if kernels == "auto" else kernels)
        torch.set_num_threads(threads)
        self.skeleton, self._lean = self._load()
        self.kernels = ExpertKernels(store, expert_modules(self.skeleton.model)[0][1], self.native)
        self.skeleton_bits = 16
        self.decoder: NativeDecoder | None = None
        self._hooks: list[Any] = []

    def _load(self) -> tuple[Skeleton, Lean | None]:
        """The skeleton, and its description where it is to be decoded natively."""
        if self.native is not None:
            self.dtype = torch.bfloat16 if self._values["dtype"] == "bfloat16" else torch.float32
            skeleton = load_skeleton(self._store, self.dtype, as_stored=True)
            lean = describe(skeleton)
            if isinstance(lean, Lean):
                return skeleton, lean
            if self.dtype == self._usual_dtype():
                settle(skeleton, self.dtype)
                return skeleton, None
            del skeleton
        self.dtype = self._usual_dtype()
        return load_skeleton(self._store, self.dtype), None

    def attach(self, stream: ExpertStream) -> None:
        """Let ``stream`` provide the experts, and its ledger learn where the time goes."""
        self._stream, stream.kernels = stream, self.kernels
        if self.native is not None and self._lean is not None:
            self._decode_natively(self.native, self._lean)
            self._lean = None  # with it go the layers that were replaced
        if self.decoder is None:
            spec, layers = self._store.spec, self.skeleton.parts.layers
            stream.routers = [scores_of(layer, spec.experts, spec.hidden) for layer in layers if layer.moe is not None]
        self.skeleton.bind(stream)
        self._hooks = _attribute(self.skeleton, stream.ledger, stream)
        self._options = _options(self.skeleton.model)
        give_back()

    def _decode_natively(self, native: Native, lean: Lean) -> None:
        self.skeleton_bits = self._wanted_bits()
        replaced = take_over(self.skeleton.model, lean, self.skeleton_bits, native, self.dtype)
        settle(self.skeleton, self.dtype)  # what is left of the model's own layers
        matrices = {linear: stand_in.matrix for linear, stand_in in replaced.items()}
        stream = self._stream
        self.decoder = stream.decoder = NativeDecoder(
            lean, self.kernels, stream.native_stream, stream.buffer, self._store.spec.experts, matrices
        )

    def _usual_dtype(self) -> torch.dtype:
        """The type that the settings come to where torch multiplies: there float32 costs twice the memory."""
        if self._values["dtype"] == "auto":
            return torch.float32 if self._store.skeleton_bytes < _SMALL_SKELETON else torch.bfloat16
        return torch.float32 if self._values["dtype"] == "float32" else torch.bfloat16

    @property
    def routers_reached(self) -> bool:
        """Whether the next layers' routers can be asked ahead of their turn."""
        return self.decoder is not None or any(router is not None for router in self._stream.routers)

    @property
    def kernel(self) -> str:
        """The instruction set that multiplies, or torch."""
        return self.native.name if self.native else "torch"

    @property
    def find_top(self) -> Top:
        """What finds the likeliest tokens."""
        return self.native.top if self.native else top

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together at most."""
        return self.skeleton.context

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The tokens that end a text."""
        end = self.skeleton.generation_config.eos_token_id
        return () if end is None else (end,) if isinstance(end, int) else tuple(end)

    def logits(self, request: Request) -> Tensor:
        """Logits [V] after the request's last token: of its whole prompt the first time, of one token from then on."""
        if request.cache is None or self.decoder is None:
            return self._through_skeleton(request)
        return self._stream.decode(request.last, request.length - 1, _PATIENCE)

    def logits_of(self, ids: Tensor, last: int) -> Tensor:
        """Logits [last, V] at the ``last`` positions of ``ids`` [1, T], in one pass."""
        keep = dict.fromkeys(self._options, last)
        return self.skeleton.model(input_ids=ids, use_cache=False, **keep).logits[0, -last:]  # type: ignore[no-any-return]

    def cache_bytes(self, request: Request) -> int:
        """Bytes that attention's keys and values occupy."""
        if self.decoder is not None:
            return self.decoder.bytes_of(request.length - 1) if request.cache is not None else 0
        layers = getattr(request.cache, "layers", ())
        tensors = (getattr(layer, name, None) for layer in layers for name in ("keys", "values"))
        return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))

    def set_threads(self, threads: int) -> None:
        """Multiply with that many threads from the next pass on.

        Raises:
            EngineError: the system refuses so many; there are as many as before.
        """
        if self.native is not None:
            self.native.set_threads(threads)
        torch.set_num_threads(threads)

    def close(self) -> None:
        """Let go of hooks, threads and native memory."""
        for hook in self._hooks:
            hook.remove()
        if self.decoder is not None:
            self.decoder.close()
        if self.native is not None:
            self.native.close()

    def _through_skeleton(self, request: Request) -> Tensor:
        # As ``generate`` calls it: some families count positions in the cache wrongly, or now and then begin it anew.
        prefill = request.cache is None
        inputs = self.skeleton.model.prepare_inputs_for_generation(
            request.ids, next_sequence_length=None if prefill else 1, is_first_iteration=prefill, past_key_values=request.cache,
            position_ids=torch.arange(request.length).unsqueeze(0), use_cache=True, **self._options,
        )  # fmt: skip
        out = self.skeleton.model(**inputs)
        request.cache = out.past_key_values
        if self.decoder is not None:
            self.decoder.adopt(request.cache, request.prompt_length, request.prompt_length + request.limit)
            request.cache = self.decoder  # and transformers' own is let go
        return out.logits[0, -1]  # type: ignore[no-any-return]

    def _wanted_bits(self) -> int:
        chosen = str(self._values["skeleton_bits"])
        return int(chosen) if chosen != "auto" else 16 if self._store.skeleton_bytes < _SMALL_SKELETON else 8


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

    parts = skeleton.parts
    for number, layer in enumerate(parts.layers):
        for attention in layer.attention:
            clocked(attention, SpanKind.ATTENTION, number if layer.moe is None else layer.moe)
        if layer.block is not None:
            hooks.append(layer.block.register_forward_pre_hook(block_begins))
    if parts.head is not None:
        clocked(parts.head, SpanKind.HEAD, -1)
    return hooks


def _options(model: Any) -> dict[str, Any]:
    """Compute logits of the last position only, where the family can."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
