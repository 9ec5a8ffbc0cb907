"""Decoding a llama-like model natively: its description turned into the structs that native/decoder.h runs.

d hidden, V token ids, n key/value heads, L places of the cache, e dimensions a head.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.kernels.experts import ExpertKernels
from engine.kernels.library import ACTIVATIONS, AttentionSpec, LayerSpec, ModelSpec, Native, NativeMatrix, Routing
from engine.kernels.matrices import plain
from engine.models.lean import Attention, Layer, Lean, Router
from engine.residency.buffer import ExpertBuffer

_SCORING = {"softmax": 0, "sigmoid": 1}


class NativeDecoder:
    """One token at a time over a static cache of keys and values; the native ``stream`` has the experts in ``buffer`` when they are
    computed. ``replaced`` gives the matrix that stands in for a linear layer, where one does.
    """

    def __init__(
        self, lean: Lean, kernels: ExpertKernels, stream: int, buffer: ExpertBuffer, experts: int,
        replaced: Mapping[nn.Linear, NativeMatrix],
    ) -> None:  # fmt: skip
        assert kernels.native is not None
        self._native: Native = kernels.native
        self._library = self._native.library
        self._replaced = replaced
        self._kept: list[Any] = [kernels.layouts]  # what the structs point to
        layers = [self._layer(layer) for layer in lean.layers]
        self._layers = (LayerSpec * len(layers))(*layers)
        head = self._linear(lean.head)
        self._replaced = {}  # what was replaced may go
        self._spec = ModelSpec(
            layers=self._layers, layer_count=len(layers), hidden=lean.embedding.shape[1], vocabulary=head.rows, experts=experts,
            activation=ACTIVATIONS[lean.activation], eps=lean.eps, embedding_scale=lean.embedding_scale,
            residual_scale=lean.residual_scale, logits_scale=lean.logits_scale, embedding=self._plain(lean.embedding), head=head,
            norm=self._floats(lean.norm), layouts=kernels.layouts, records=buffer.records_address,
            layout_of=buffer.width_places_address,
        )  # fmt: skip
        self.handle = self._library.decoder_new(self._native.handle, self._spec, stream)
        (heads, dim), *others = {(layer.attention.kv_heads, layer.attention.head_dim) for layer in lean.layers}
        assert not others, "one cache holds all layers"
        self._cache_shape = (len(layers), heads, dim)
        self._logits = _floats_at(self._library.decoder_logits(self.handle), head.rows)
        self._keys = self._values = torch.empty(0)

    # --- the cache ------------------------------------------------------------------------------------------------

    def adopt(self, cache: Any, length: int, places: int) -> None:
        """Take over transformers' cache of a prefilled prompt of ``length`` tokens, with room for ``places`` in all."""
        layers, heads, dim = self._cache_shape
        self._keys, self._values = (torch.empty(layers, heads, places, dim) for _ in range(2))
        for number, layer in enumerate(cache.layers):
            kept = layer.keys.shape[2]  # a layer with a window has forgotten what lies before it
            self._keys[number, :, length - kept : length] = layer.keys[0]
            self._values[number, :, length - kept : length] = layer.values[0]
        self._library.decoder_cache(self.handle, self._keys.data_ptr(), self._values.data_ptr(), places)

    def bytes_of(self, tokens: int) -> int:
        """Bytes that the keys and values of that many tokens fill."""
        layers, heads, dim = self._cache_shape
        return 2 * 4 * layers * heads * dim * tokens

    # --- a token --------------------------------------------------------------------------------------------------

    def begin(self, token: int, position: int) -> None:
        """Take up ``token``, which stands at ``position``."""
        self._library.decoder_begin(self.handle, token, position)

    def run(self, patience: int) -> int:
        """Go on for about that many ns: 0 where there is more to do, 1 when the logits are there, -1 where a record could not be read."""
        return int(self._library.decoder_run(self.handle, patience))

    def hand_scores_to(self, gate: int | None) -> None:
        """Let a native predictor see what the next layers' routers make of each layer's hidden state; None: nobody asks."""
        self._library.decoder_gate(self.handle, gate)

    @property
    def logits(self) -> Tensor:
        """Logits [V] of the last token, overwritten by the next."""
        return self._logits

    def close(self) -> None:
        """Free what is native; the decoder is of no use after."""
        if self.handle:
            self._library.decoder_free(self.handle)
            self.handle = None

    # --- the description as structs -------------------------------------------------------------------------------

    def _layer(self, layer: Layer) -> LayerSpec:
        spec = LayerSpec(
            attention_norm=self._floats(layer.attention_norm), mlp_norm=self._floats(layer.mlp_norm),
            attention=self._attention(layer.attention), moe=-1 if layer.moe is None else layer.moe,
        )  # fmt: skip
        if layer.router is not None:
            spec.router, spec.routing = self._plain(layer.router.weight), self._routing(layer.router)
        if layer.mlp is not None:
            spec.gate, spec.up, spec.down = (self._linear(part) for part in (layer.mlp.gate, layer.mlp.up, layer.mlp.down))
        if layer.mlp_gate is not None:
            spec.mlp_gate = self._linear(layer.mlp_gate)
        return spec

    def _attention(self, a: Attention) -> AttentionSpec:
        spec = AttentionSpec(
            q=self._linear(a.q), k=self._linear(a.k), v=self._linear(a.v), o=self._linear(a.o), norm_after_rotary=a.norm_after_rotary,
            heads=a.heads, kv_heads=a.kv_heads, head_dim=a.head_dim, window=a.window, scale=a.scale, clip=a.clip,
        )  # fmt: skip
        if a.q_norm is not None and a.k_norm is not None:
            spec.q_norm, spec.q_norm_size = self._floats(a.q_norm), len(a.q_norm)
            spec.k_norm, spec.k_norm_size = self._floats(a.k_norm), len(a.k_norm)
        if a.rotary is not None:
            spec.inv_freq, spec.rotated = self._floats(a.rotary.inv_freq), 2 * len(a.rotary.inv_freq)
            spec.interleaved, spec.rotary_scale = a.rotary.pairing == "interleaved", a.rotary.scale
        return spec

    def _routing(self, r: Router) -> Routing:
        return Routing(
            experts=len(r.weight), top_k=r.top_k, scoring=_SCORING[r.scoring], normalize=r.normalize, groups=r.groups,
            top_groups=r.top_groups, epsilon=r.epsilon, floor=r.floor, scale=r.scale,
            correction=None if r.correction is None else self._floats(r.correction),
        )  # fmt: skip

    def _linear(self, linear: nn.Linear) -> NativeMatrix:
        return self._replaced[linear] if linear in self._replaced else self._plain(linear.weight, linear.bias)

    def _plain(self, weight: Tensor, bias: Tensor | None = None) -> NativeMatrix:
        weight = weight.contiguous()
        self._kept += [weight, bias]
        return plain(weight, bias)

    def _floats(self, tensor: Tensor) -> int:
        tensor = tensor.detach().float().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def _floats_at(address: int, count: int) -> Tensor:
    return torch.from_numpy(np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)))
