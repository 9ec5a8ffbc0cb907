"""Models that can be described, with what their configurations switch, and models that cannot."""

from __future__ import annotations

from typing import Any

# Families of families.py that are described; the others must be refused.
LEAN = {
    "Olmoe", "Qwen2Moe", "Qwen3Moe", "Mellum", "Mixtral", "GraniteMoe", "GraniteMoeShared", "HunYuanMoEV1", "Ernie4_5_Moe", "Dots1",
    "Glm4Moe", "SolarOpen", "ExaoneMoe", "HYV3", "MiniMaxM2",
}  # fmt: skip
_GRANITE = dict(embedding_multiplier=3.0, residual_multiplier=0.4, logits_scaling=4.0, attention_multiplier=0.2)
_GROUPS = dict(n_group=4, topk_group=2, routed_scaling_factor=2.5)
_YARN = dict(rope_type="yarn", rope_theta=1e4, factor=8.0, original_max_position_embeddings=16)
_LLAMA3 = dict(
    rope_type="llama3", rope_theta=1e4, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)  # fmt: skip
_LONGROPE = dict(
    rope_type="longrope", rope_theta=1e4, short_factor=[1.0] * 4, long_factor=[2.0] * 4, original_max_position_embeddings=16, factor=2.0
)  # fmt: skip
_LINEAR = dict(rope_type="linear", rope_theta=1e4, factor=4.0)
_SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]

# What configurations can switch on or off, apart from sizes.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("Olmoe", dict(attention_bias=True, clip_qkv=0.8, norm_topk_prob=True, num_key_value_heads=4)),
    ("Olmoe", dict(rope_parameters=_LINEAR, tie_word_embeddings=True, hidden_act="gelu")),
    ("Qwen2Moe", dict(norm_topk_prob=True, qkv_bias=False, mlp_only_layers=[0], hidden_act="gelu_pytorch_tanh")),
    ("Qwen2Moe", dict(use_sliding_window=True, sliding_window=6, layer_types=_SLIDING)),
    ("Qwen3Moe", dict(use_sliding_window=True, sliding_window=8, attention_bias=True)),
    ("Qwen3Moe", dict(norm_topk_prob=True, rope_parameters=_YARN, tie_word_embeddings=True, mlp_only_layers=[], decoder_sparse_step=2)),
    ("Mellum", dict(
        layer_types=_SLIDING, sliding_window=8, norm_topk_prob=True, mlp_layer_types=["dense", "sparse", "sparse"],
        rope_parameters=dict(full_attention=_YARN, sliding_attention=dict(rope_type="default", rope_theta=100.0)),
    )),
    ("Mixtral", dict(sliding_window=8, head_dim=None, num_key_value_heads=1)),
    ("Mixtral", dict(rope_parameters=_LLAMA3, hidden_act="relu2", num_experts_per_tok=3)),
    ("GraniteMoe", dict(_GRANITE, attention_bias=True, tie_word_embeddings=False)),
    ("GraniteMoeShared", dict(_GRANITE, hidden_act="relu")),
    ("GraniteMoeShared", dict(shared_intermediate_size=0)),
    ("HunYuanMoEV1", dict(attention_bias=True, rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, alpha=20.0, factor=1.0))),
    ("HunYuanMoEV1", dict(moe_topk=[1, 2, 3])),
    ("Ernie4_5_Moe", dict(use_bias=True, moe_num_shared_experts=2)),
    ("Ernie4_5_Moe", dict(moe_num_shared_experts=0, moe_layer_interval=2, moe_norm_min=0.9)),
    ("Dots1", dict(_GROUPS, norm_topk_prob=True, attention_bias=True, n_shared_experts=2)),
    ("Dots1", dict(layer_types=_SLIDING, sliding_window=5, first_k_dense_replace=2)),
    ("Glm4Moe", dict(_GROUPS, use_qk_norm=True, attention_bias=True, norm_topk_prob=False)),
    ("Glm4Moe", dict(rope_parameters=dict(_YARN, partial_rotary_factor=0.5))),
    ("SolarOpen", dict(_GROUPS, norm_topk_prob=True, attention_bias=True)),
    ("ExaoneMoe", dict(_GROUPS, layer_types=_SLIDING)),
    ("ExaoneMoe", dict(norm_topk_prob=False, layer_types=["full_attention"] * 3)),
    ("HYV3", dict(mlp_bias=True, attention_bias=True, router_scaling_factor=1.7)),
    ("MiniMaxM2", dict(rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5))),
]  # fmt: skip

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("Olmoe", dict(rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, factor=2.0)), "dynamic rotary"),
    ("Qwen3Moe", dict(rope_parameters=_LONGROPE), "longrope rotary"),
    ("Mixtral", dict(hidden_act="mish"), "activation mish"),
    ("Olmoe", dict(sliding_window=8), "layers of the kinds sliding_attention"),
    ("Mixtral", dict(sliding_window=8, layer_types=["full_attention"] * 3), "layers of the kinds full_attention"),
    ("Dots1", dict(layer_types=["full_attention", "chunked_attention", "full_attention"], attention_chunk_size=8), "chunked_attention"),
    ("SolarOpen", dict(rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5)), "part of each head"),
    ("Glm4Moe", dict(n_group=4, topk_group=1, num_experts_per_tok=3), "groups hold fewer"),
]  # fmt: skip
