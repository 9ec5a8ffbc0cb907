"""A Lean description run by plain torch: slow, and near enough to its own words to be read as their meaning.

T tokens, L tokens held, k experts a token, d hidden, ff expert width, h query heads, n key/value heads, e dimensions a head, V token ids.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.lean import Attention, Layer, Lean, Mlp, Rotary, Router

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu, "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "relu": F.relu, "relu2": lambda x: F.relu(x) ** 2,
}  # fmt: skip
Expert = Callable[[int, int], tuple[Tensor, Tensor]]  # (MoE layer, expert) -> its gate and up rows [2·ff, d], its down rows [d, ff]


class Interpreter:
    """One sequence: every call takes the tokens that follow those it was given before."""

    def __init__(self, lean: Lean, expert: Expert) -> None:
        self.lean, self.expert = lean, expert
        self.cache: list[tuple[Tensor, Tensor]] = []  # keys and values [n, L, e] of each layer

    def __call__(self, ids: Tensor) -> Tensor:
        """Logits [T, V] of ``ids`` [T]."""
        lean, start = self.lean, self.cache[0][0].shape[1] if self.cache else 0
        stream = lean.embedding[ids] * lean.embedding_scale
        for index, layer in enumerate(lean.layers):
            mixed = self._attend(index, layer.attention, self._norm(stream, layer.attention_norm), start)
            stream = stream + mixed * lean.residual_scale
            stream = stream + self._feed(layer, self._norm(stream, layer.mlp_norm)) * lean.residual_scale
        return lean.head(self._norm(stream, lean.norm)) * lean.logits_scale

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.lean.eps) * weight

    def _attend(self, index: int, a: Attention, x: Tensor, start: int) -> Tensor:
        q, k, v = a.q(x), a.k(x), a.v(x)  # [T, h*e], [T, n*e], [T, n*e]
        if not a.norm_after_rotary:
            q, k = self._norm_heads(q, a.q_norm), self._norm_heads(k, a.k_norm)
        if a.clip:
            q, k, v = (row.clamp(-a.clip, a.clip) for row in (q, k, v))
        q, k, v = (row.unflatten(-1, (-1, a.head_dim)).transpose(0, 1) for row in (q, k, v))
        assert (q.shape[0], k.shape[0]) == (a.heads, a.kv_heads)
        at = torch.arange(start, start + len(x))
        if a.rotary is not None:
            q, k = rotate(q, at, a.rotary), rotate(k, at, a.rotary)
        if a.norm_after_rotary:
            q, k = self._norm_heads(q, a.q_norm), self._norm_heads(k, a.k_norm)
        if index < len(self.cache):
            k, v = (torch.cat(both, 1) for both in zip(self.cache[index], (k, v), strict=True))
            self.cache[index] = k, v
        else:
            self.cache.append((k, v))
        behind = at[:, None] - torch.arange(k.shape[1])  # [T, L]: how far back each token lies
        seen = (behind >= 0) & (behind < (a.window or k.shape[1]))
        k, v = (row.repeat_interleave(a.heads // a.kv_heads, 0) for row in (k, v))
        scores = (q @ k.transpose(1, 2) * a.scale).masked_fill(~seen, float("-inf"))
        return a.o((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))

    def _norm_heads(self, x: Tensor, weight: Tensor | None) -> Tensor:
        if weight is None:
            return x
        if x.shape[-1] == len(weight):
            return self._norm(x, weight)
        return self._norm(x.unflatten(-1, (-1, len(weight))), weight).flatten(-2)

    def _feed(self, layer: Layer, x: Tensor) -> Tensor:
        out = torch.zeros_like(x) if layer.mlp is None else self._mlp(layer.mlp, x)
        if layer.mlp_gate is not None:
            out = out * layer.mlp_gate(x).sigmoid()
        if layer.router is not None:
            assert layer.moe is not None
            index, weights = route(layer.router, x)
            for expert in index.unique().tolist():
                tokens, place = torch.where(index == expert)
                gate_up, down = self.expert(layer.moe, expert)
                gate, up = (x[tokens] @ gate_up.T).chunk(2, -1)
                out = out.index_add(0, tokens, self._gated(gate, up) @ down.T * weights[tokens, place, None])
        return out

    def _mlp(self, mlp: Mlp, x: Tensor) -> Tensor:
        return mlp.down(self._gated(mlp.gate(x), mlp.up(x)))  # type: ignore[no-any-return]

    def _gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return ACTIVATIONS[self.lean.activation](gate) * up


def rotate(x: Tensor, at: Tensor, rotary: Rotary) -> Tensor:
    """``x`` [heads, T, e] turned by its positions ``at`` [T]."""
    size = 2 * len(rotary.inv_freq)
    turned, rest = x[..., :size], x[..., size:]
    angle = at[:, None] * rotary.inv_freq
    cos, sin = angle.cos() * rotary.scale, angle.sin() * rotary.scale
    if rotary.pairing == "half":
        a, b = turned.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1)
    a, b = turned[..., ::2], turned[..., 1::2]
    return torch.cat((torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2), rest), -1)


def route(router: Router, x: Tensor) -> tuple[Tensor, Tensor]:
    """Chosen experts and their weights, both [T, k], for ``x`` [T, d]."""
    logits = x @ router.weight.T
    scores = logits.softmax(-1) if router.scoring == "softmax" else logits.sigmoid()
    choice = scores if router.correction is None else scores + router.correction
    if router.groups > 1:
        grouped = choice.unflatten(-1, (router.groups, -1))
        best = grouped.topk(2, -1).values.sum(-1).topk(router.top_groups, -1).indices
        kept = torch.zeros(grouped.shape[:2], dtype=torch.bool).scatter(1, best, True)
        choice = grouped.masked_fill(~kept[..., None], float("-inf")).flatten(-2)
    index = choice.topk(router.top_k, -1).indices
    weights = scores.gather(1, index)
    if router.normalize:
        weights = weights / (weights.sum(-1, keepdim=True) + router.epsilon).clamp(min=router.floor)
    return index, weights * router.scale
