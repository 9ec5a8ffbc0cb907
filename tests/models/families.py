"""Tiny random configurations of mixture-of-experts families, each with what its family is special for switched on.

d = 32 hidden, ff = 16 expert width, 8 experts, 2 a token, 64 token ids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

_BASE: dict[str, Any] = dict(
    vocab_size=64, hidden_size=32, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    head_dim=8, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
)  # fmt: skip
_MLA: dict[str, Any] = dict(
    kv_lora_rank=16, q_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, num_key_value_heads=4, head_dim=8,
)  # fmt: skip
_DEEPSEEK: dict[str, Any] = dict(
    _MLA, n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, n_shared_experts=1, first_k_dense_replace=1,
    n_group=2, topk_group=1,
)  # fmt: skip
_QWEN: dict[str, Any] = dict(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16)

FAMILIES: dict[str, dict[str, Any]] = {
    "Olmoe": dict(num_experts=8, num_experts_per_tok=2, intermediate_size=16),
    "FlexOlmo": dict(num_experts=8, num_experts_per_tok=2, intermediate_size=16),
    "Qwen2Moe": dict(_QWEN, shared_expert_intermediate_size=16),
    "Qwen3Moe": dict(_QWEN, mlp_only_layers=[1]),
    "Mixtral": dict(num_local_experts=8, num_experts_per_tok=2, intermediate_size=16),
    "GptOss": dict(num_local_experts=8, num_experts_per_tok=2, intermediate_size=16, sliding_window=8),
    "DeepseekV2": dict(_DEEPSEEK, topk_method="group_limited_greedy"),
    "DeepseekV3": dict(_DEEPSEEK),
    "Glm4Moe": dict(n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, first_k_dense_replace=1, n_group=1, topk_group=1),
    "Glm4MoeLite": dict(_DEEPSEEK, n_group=1),
    "GraniteMoe": dict(num_local_experts=8, num_experts_per_tok=2, intermediate_size=16, tie_word_embeddings=True),
    "GraniteMoeShared": dict(num_local_experts=8, num_experts_per_tok=2, intermediate_size=16, shared_intermediate_size=16),
    "Phimoe": dict(num_local_experts=8, num_experts_per_tok=2, intermediate_size=16),
    "Ernie4_5_Moe": dict(moe_num_experts=8, moe_k=2, moe_intermediate_size=16, moe_num_shared_experts=1, moe_layer_start_index=1),
    "Dots1": dict(
        n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, n_shared_experts=1, first_k_dense_replace=1,
        n_group=1, topk_group=1,
    ),
    "HunYuanMoEV1": dict(num_experts=8, moe_topk=2, intermediate_size=16),
    "MiniMax": dict(
        num_local_experts=8, num_experts_per_tok=2, intermediate_size=16, block_size=16,
        layer_types=["linear_attention", "full_attention", "full_attention"],
    ),
    "MiniMaxM2": dict(num_local_experts=8, num_experts_per_tok=2, intermediate_size=16),
    "ExaoneMoe": dict(
        num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, num_shared_experts=1, first_k_dense_replace=1,
        n_group=1, topk_group=1, sliding_window=8,
    ),
    "Afmoe": dict(
        num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, num_shared_experts=1, num_dense_layers=1,
        global_attn_every_n_layers=2, sliding_window=8,
    ),
    "SolarOpen": dict(n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, n_shared_experts=1, n_group=1, topk_group=1),
    "NemotronH": dict(
        layers_block_type=["mamba", "moe", "attention", "moe"], n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=16,
        moe_shared_expert_intermediate_size=16, n_group=1, topk_group=1, mamba_num_heads=4, mamba_head_dim=16, ssm_state_size=8,
        n_groups=2, chunk_size=16,
    ),
    "Cohere2Moe": dict(num_experts=8, num_experts_per_tok=2, intermediate_size=16, sliding_window=8, tie_word_embeddings=True),
    "AXK1": dict(_DEEPSEEK),
    "Qwen3Next": dict(
        _QWEN, shared_expert_intermediate_size=16, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
        linear_value_head_dim=8, layer_types=["linear_attention", "full_attention", "linear_attention"],
    ),
    "Jamba": dict(
        num_experts=8, num_experts_per_tok=2, intermediate_size=16, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=1,
        expert_layer_offset=0, mamba_d_state=4, mamba_d_conv=4, mamba_expand=2, mamba_dt_rank=4, use_mamba_kernels=False,
    ),
    "Lfm2Moe": dict(
        num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, num_dense_layers=1,
        layer_types=["conv", "full_attention", "conv"],
    ),
    "DeepseekV4": dict(n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=16),
    "MiMoV2Flash": dict(n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=16),
    "Mellum": dict(_QWEN),
    "HYV3": dict(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16),
    "Laguna": dict(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16),
    "Flint": dict(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16),
}  # fmt: skip


def config_of(family: str, shape: dict[str, Any] | None = None) -> Any:
    """The tiny configuration of ``family``, with ``shape`` over it."""
    return getattr(transformers, f"{family}Config")(**{**_BASE, **FAMILIES[family], **(shape or {})})


def model_of(family: str) -> Any:
    """Its causal language model's class."""
    return getattr(transformers, f"{family}ForCausalLM")


def save_random(
    family: str, folder: Path, dtype: torch.dtype = torch.bfloat16, seed: int = 1, shape: dict[str, Any] | None = None,
    uneven: bool = False, **save: Any,
) -> None:  # fmt: skip
    """Save a random model of ``family`` as an ordinary checkpoint; ``shape`` overrides entries of its tiny configuration.

    Weights are large enough that experts decide the output and rows differ: at the library's own initialization a wrong
    expert would pass unnoticed. ``uneven`` makes norms and routing biases random too, lest one be left out or taken for another.
    """
    model = model_of(family)(config_of(family, shape))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            parameter.data.normal_(0, 0.3, generator=generator)
        elif "norm" not in name:
            parameter.data.normal_(0, 0.1, generator=generator)
    for name, buffer in model.named_buffers():
        if name.endswith("tid2eid"):  # a table of experts by token id; now and then it names one twice
            buffer.copy_(torch.randint(0, 8, buffer.shape, generator=generator))
    if uneven:
        for name, tensor in model.state_dict().items():
            if tensor.dim() == 1 and ("norm" in name or name.endswith("e_score_correction_bias")):
                tensor.normal_("norm" in name, 0.2, generator=generator)
    model.to(dtype).save_pretrained(folder, **save)
