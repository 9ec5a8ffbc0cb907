"""Whether a loaded model is llama-like, and its description if it is.

Only families whose code was read are described: a name and a shape may be alike where the arithmetic is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from torch import Tensor, nn
from transformers.cache_utils import get_layer_types_and_kwargs

from engine.models.anatomy import LayerParts
from engine.models.lean import Activation, Attention, Layer, Lean, Mlp, Rotary, Router
from engine.models.skeleton import Skeleton


@dataclass(frozen=True)
class _Family:
    """What a family's code fixes and neither its configuration nor its modules tell."""

    scoring: Literal["softmax", "sigmoid"]
    normalize: bool = False  # always, whether or not its router has a norm_topk_prob
    epsilon: float = 0.0
    windows: Literal["none", "all", "by type"] = "none"  # layers that attend within the configuration's sliding window
    rotates: Literal["all", "windows", "by type"] = "all"  # "windows": only layers that have one
    partly: bool = False  # may rotate only the first dimensions of a head
    pairing: Literal["half", "interleaved"] = "half"
    norm_after_rotary: bool = False
    clips: bool = False


_FAMILIES = {
    "OlmoeForCausalLM": _Family("softmax", clips=True),
    "Qwen2MoeForCausalLM": _Family("softmax", windows="by type"),
    "Qwen3MoeForCausalLM": _Family("softmax", windows="all"),
    "MellumForCausalLM": _Family("softmax", windows="by type", rotates="by type"),
    "MixtralForCausalLM": _Family("softmax", normalize=True, windows="all"),
    # These two take the softmax of the chosen logits alone, which is that of all of them normalized.
    "GraniteMoeForCausalLM": _Family("softmax", normalize=True),
    "GraniteMoeSharedForCausalLM": _Family("softmax", normalize=True),
    "HunYuanMoEV1ForCausalLM": _Family("softmax", normalize=True, norm_after_rotary=True),
    "Ernie4_5_MoeForCausalLM": _Family("softmax", normalize=True, pairing="interleaved"),
    "Dots1ForCausalLM": _Family("sigmoid", epsilon=1e-20, windows="by type"),
    "Glm4MoeForCausalLM": _Family("sigmoid", epsilon=1e-20, partly=True),
    "SolarOpenForCausalLM": _Family("sigmoid", epsilon=1e-20),
    "ExaoneMoeForCausalLM": _Family("sigmoid", epsilon=1e-20, windows="by type", rotates="windows"),
    "HYV3ForCausalLM": _Family("sigmoid", normalize=True, epsilon=1e-20),
    "MiniMaxM2ForCausalLM": _Family("sigmoid", normalize=True, partly=True),
}
_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu",
    "relu2": "relu2",
}  # fmt: skip
# Kinds of rotary embedding whose frequencies do not change as the text grows.
_FIXED = ("default", "linear", "llama3", "yarn", "ntk_alpha")


class _NotLeanError(Exception):
    """Says in one sentence why a model cannot be described."""


def describe(skeleton: Skeleton) -> Lean | str:
    """The model of ``skeleton`` as data, or one sentence saying why it has to run through transformers.

    Everything refers to the skeleton's own tensors: nothing is copied, and the description is good as long as they stay in place.
    """
    name = type(skeleton.model).__name__
    if name not in _FAMILIES:
        return f"{name} is not among the families that are described"
    try:
        lean = _lean(skeleton, _FAMILIES[name])
        _check_complete(skeleton.model, lean)
    except _NotLeanError as reason:
        return str(reason)
    return lean


def _lean(skeleton: Skeleton, family: _Family) -> Lean:
    model, config = skeleton.model, skeleton.config
    if config.hidden_act not in _ACTIVATIONS:
        raise _NotLeanError(f"the activation {config.hidden_act} is not among those that are described")
    if config.is_heterogeneous:
        raise _NotLeanError("its layers have configurations of their own")
    windows = _windows(config, family)
    rotaries = _rotaries(model.model.rotary_emb, config, family, windows)
    clip = getattr(config, "clip_qkv", None) if family.clips else None
    layers = []
    for parts, window, rotary in zip(skeleton.parts.layers, windows, rotaries, strict=True):
        attention = _attention(parts.decoder.self_attn, family, window, rotary, clip or 0.0)
        layers.append(_layer(parts, attention, family))
    return Lean(
        embedding=model.model.embed_tokens.weight, embedding_scale=getattr(model.model, "embedding_multiplier", 1.0),
        layers=tuple(layers), residual_scale=getattr(skeleton.parts.layers[0].decoder, "residual_multiplier", 1.0),
        norm=model.model.norm.weight, eps=model.model.norm.variance_epsilon, head=model.lm_head,
        logits_scale=1 / getattr(model, "logits_scaling", 1.0), activation=_ACTIVATIONS[config.hidden_act],
    )  # fmt: skip


def _windows(config: Any, family: _Family) -> list[int]:
    """The sliding window of each layer, 0 where it sees everything."""
    window = getattr(config, "sliding_window", None) or 0
    cached = get_layer_types_and_kwargs(config)[0]
    if family.windows == "by type":
        kinds = list(config.layer_types)
    else:
        kinds = ["sliding_attention" if window and family.windows == "all" else "full_attention"] * config.num_hidden_layers
    # transformers' cache decides for itself which layers forget: where it disagrees with the mask, the outcome is no plain window.
    if cached != kinds or not set(kinds) <= {"full_attention", "sliding_attention"} or ("sliding_attention" in kinds and window < 1):
        raise _NotLeanError(f"layers of the kinds {', '.join(sorted(set(cached)))} are not described for {config.model_type}")
    return [window if kind == "sliding_attention" else 0 for kind in kinds]


def _rotaries(module: Any, config: Any, family: _Family, windows: list[int]) -> list[Rotary | None]:
    if family.rotates == "by type":
        of_kind = {kind: _rotary(module, f"{kind}_", module.rope_type[kind], family) for kind in set(config.layer_types)}
        return [of_kind[kind] for kind in config.layer_types]
    rotary = _rotary(module, "", module.rope_type, family)
    return [rotary if window or family.rotates == "all" else None for window in windows]


def _rotary(module: Any, prefix: str, kind: str, family: _Family) -> Rotary:
    if kind not in _FIXED:
        raise _NotLeanError(f"the frequencies of {kind} rotary embedding change with the length of the text")
    return Rotary(getattr(module, f"{prefix}inv_freq"), getattr(module, f"{prefix}attention_scaling"), family.pairing)


def _attention(module: Any, family: _Family, window: int, rotary: Rotary | None, clip: float) -> Attention:
    head_dim = module.head_dim
    if rotary is not None and not family.partly and 2 * len(rotary.inv_freq) != head_dim:
        raise _NotLeanError("only a part of each head is rotated, which this family does not know")
    return Attention(
        q=module.q_proj, k=module.k_proj, v=module.v_proj, o=module.o_proj,
        q_norm=_weight(_first(module, "q_norm", "query_layernorm")), k_norm=_weight(_first(module, "k_norm", "key_layernorm")),
        norm_after_rotary=family.norm_after_rotary, heads=module.q_proj.out_features // head_dim,
        kv_heads=module.k_proj.out_features // head_dim, head_dim=head_dim, scale=module.scaling, window=window, clip=clip, rotary=rotary,
    )  # fmt: skip


def _layer(parts: LayerParts, attention: Attention, family: _Family) -> Layer:
    decoder: Any = parts.decoder
    norms = {"attention_norm": decoder.input_layernorm.weight, "mlp_norm": decoder.post_attention_layernorm.weight}
    if parts.block is None:
        return Layer(**norms, attention=attention, moe=None, router=None, mlp=_mlp(decoder.mlp), mlp_gate=None)
    shared = _first(parts.block, "shared_experts", "shared_expert", "shared_mlp") or _first(decoder, "shared_mlp")
    return Layer(
        **norms, attention=attention, moe=parts.moe, router=_router(parts.block, family), mlp=None if shared is None else _mlp(shared),
        mlp_gate=_first(parts.block, "shared_expert_gate"),
    )  # fmt: skip


def _router(block: Any, family: _Family) -> Router:
    gate = _first(block, "gate", "router")
    weight = _weight(_first(gate, "wg") or gate)
    correction = next((b for n, b in block.state_dict(keep_vars=True).items() if n.endswith("e_score_correction_bias")), None)
    groups, top_groups = getattr(gate, "num_group", 1), getattr(gate, "topk_group", 1)
    if len(weight) // groups * top_groups < gate.top_k:
        raise _NotLeanError(f"{top_groups} of {groups} groups hold fewer experts than the {gate.top_k} that a token uses")
    return Router(
        weight=weight, top_k=gate.top_k, scoring=family.scoring, correction=None if correction is None else correction.flatten(),
        normalize=family.normalize or gate.norm_topk_prob, epsilon=family.epsilon, floor=getattr(gate, "norm_min", 0.0),
        scale=getattr(gate, "routed_scaling_factor", getattr(gate, "router_scaling_factor", 1.0)),
        groups=groups, top_groups=top_groups,
    )  # fmt: skip


def _mlp(module: Any) -> Mlp:
    if hasattr(module, "input_linear"):
        gate, up = module.input_linear.weight.chunk(2)
        return Mlp(_linear(gate), _linear(up), module.output_linear)
    return Mlp(module.gate_proj, module.up_proj, module.down_proj)


def _linear(weight: Tensor) -> nn.Linear:
    """A module around a view of another's rows."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    return linear


def _first(module: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(module, name, None)) is not None), None)


def _weight(module: Any) -> Any:
    return None if module is None else module.weight


def _check_complete(model: nn.Module, lean: Lean) -> None:
    """Whatever the model has in memory must have found its place, or it does something that the description leaves out."""
    known = {tensor.untyped_storage().data_ptr() for tensor in _tensors(lean)}
    for name, tensor in model.state_dict().items():
        if not tensor.is_meta and tensor.untyped_storage().data_ptr() not in known:
            raise _NotLeanError(f"{name} has no place in the description")


def _tensors(part: Any) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, nn.Module):
        yield from part.parameters()
    elif isinstance(part, tuple):
        for one in part:
            yield from _tensors(one)
    elif is_dataclass(part):
        for field in fields(part):
            yield from _tensors(getattr(part, field.name))
