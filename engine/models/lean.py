"""A llama-like model as plain data: what a decoder of our own needs to run it, if it is one (see describe.py).

d hidden, h query heads, n key/value heads, e dimensions a head, r rotated dimensions of a head, E experts, V token ids.
A token passes: embedding, then each layer (norm, attention, added to the stream; norm, experts and dense or shared MLP, added),
then the last norm and the head. Norms are root mean square: x / sqrt(mean(x²) + eps) · weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]


@dataclass(frozen=True)
class Rotary:
    """Rotation of the first r dimensions of a head by ``position * inv_freq``; cosine and sine are multiplied by ``scale``.

    Pair i is dimensions (i, i + r/2) where ``pairing`` is "half", (2i, 2i + 1) where it is "interleaved".
    """

    inv_freq: Tensor  # [r/2] float32
    scale: float
    pairing: Literal["half", "interleaved"]


@dataclass(frozen=True)
class Attention:
    """Grouped-query attention: query head i reads key/value head i // (h / n).

    A norm of [e] is applied to each head, one of [h*e] (keys: [n*e]) to the whole row. Order: product, norm, clip, rotary, or with
    ``norm_after_rotary`` product, clip, rotary, norm. Token i sees token j where j <= i and, with a window, i - j < window.
    """

    q: nn.Linear  # [h*e, d]
    k: nn.Linear  # [n*e, d]
    v: nn.Linear  # [n*e, d]
    o: nn.Linear  # [d, h*e]
    q_norm: Tensor | None
    k_norm: Tensor | None
    norm_after_rotary: bool
    heads: int  # h
    kv_heads: int  # n
    head_dim: int  # e
    scale: float  # of q·k before the softmax
    window: int  # 0: none
    clip: float  # q, k and v are held to -clip .. clip; 0: none
    rotary: Rotary | None  # one object for all layers that rotate alike


@dataclass(frozen=True)
class Router:
    """Choice of ``top_k`` experts: score, add ``correction``, drop groups, take the highest; then weigh them by their plain scores.

    With ``groups`` > 1 the experts lie in that many equal groups, a group counts as the sum of its two best corrected scores, and
    only the best ``top_groups`` may be chosen from. Weights, if ``normalize``, are divided by max(their sum + epsilon, floor); and in
    any case multiplied by ``scale``.
    """

    weight: Tensor  # [E, d]
    top_k: int
    scoring: Literal["softmax", "sigmoid"]  # of the logits of all E
    correction: Tensor | None  # [E]
    normalize: bool
    epsilon: float
    floor: float
    scale: float
    groups: int
    top_groups: int


@dataclass(frozen=True)
class Mlp:
    """down(activation(gate(x)) * up(x)), biases where the modules have them. Its activation is the model's (``Lean.activation``)."""

    gate: nn.Linear
    up: nn.Linear
    down: nn.Linear


@dataclass(frozen=True)
class Layer:
    """Dense: ``mlp`` alone. MoE: the routed experts, and added to them ``mlp`` (the shared experts) if there are any."""

    attention_norm: Tensor  # [d]
    attention: Attention
    mlp_norm: Tensor  # [d]
    moe: int | None  # place among the MoE layers
    router: Router | None
    mlp: Mlp | None
    mlp_gate: nn.Linear | None  # [1, d]: the sigmoid of its product scales the output of ``mlp``


@dataclass(frozen=True)
class Lean:
    """The whole model. Experts are gated, without biases, their gate rows before their up rows, as the store's records hold them.

    Tensors and modules are the model's own; only where one module holds gate and up rows together they are views of its rows.
    """

    embedding: Tensor  # [V, d]
    embedding_scale: float
    layers: tuple[Layer, ...]
    residual_scale: float  # of what a layer adds to the stream, after attention and after the MLP
    norm: Tensor  # [d]
    eps: float  # of every norm
    head: nn.Linear  # [V, d]
    logits_scale: float
    activation: Activation  # of experts and MLPs
