"""Descriptions of llama-like models say all there is to say: run by plain torch, they give transformers' own logits and tokens.

T tokens, V token ids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.models.describe import describe
from engine.models.lean import Lean
from engine.models.skeleton import Skeleton, load_skeleton
from engine.store import convert

from .families import FAMILIES, save_random
from .interpreter import Interpreter
from .pair import PROMPT, Pair, load_pair

NEW_TOKENS = 32
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


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _skeleton(family: str, folder: Path, shape: dict[str, Any] | None = None) -> Skeleton:
    save_random(family, folder / "model", shape=shape)
    return load_skeleton(convert(folder / "model", folder / "store", widths=(4,)), torch.float32)


@torch.no_grad()
def _check(pair: Pair) -> None:
    """Logits at once and step by step, and greedy tokens."""
    tokens, wanted = pair.continuation(NEW_TOKENS)
    ids = torch.cat((PROMPT, torch.tensor(tokens)))
    at_once = Interpreter(pair.lean, pair.experts)(ids)
    torch.testing.assert_close(at_once, wanted, atol=2e-5, rtol=2e-5)
    step = Interpreter(pair.lean, pair.experts)
    logits, said = step(PROMPT), []
    for token in tokens:
        said.append(int(logits[-1].argmax()))
        logits = step(torch.tensor([token]))
    assert said == tokens
    torch.testing.assert_close(logits[-1], wanted[-1], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("family", sorted(LEAN))
def test_a_description_gives_the_logits_and_tokens_of_transformers(family: str, tmp_path: Path) -> None:
    _check(load_pair(family, tmp_path))


@pytest.mark.parametrize(("family", "shape"), VARIANTS, ids=[f"{family}-{'-'.join(shape)}" for family, shape in VARIANTS])
def test_what_a_configuration_switches_is_described(family: str, shape: dict[str, Any], tmp_path: Path) -> None:
    _check(load_pair(family, tmp_path, shape))


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - LEAN))
def test_other_families_are_refused(family: str, tmp_path: Path) -> None:
    assert "not among the families" in str(describe(_skeleton(family, tmp_path)))


@pytest.mark.parametrize(("family", "shape", "reason"), REFUSED, ids=[f"{family}-{reason}" for family, _, reason in REFUSED])
def test_what_a_description_cannot_say_is_refused(family: str, shape: dict[str, Any], reason: str, tmp_path: Path) -> None:
    said = describe(_skeleton(family, tmp_path, shape))
    assert isinstance(said, str) and reason in said


def test_a_parameter_without_a_place_is_refused(tmp_path: Path) -> None:
    skeleton = _skeleton("Qwen3Moe", tmp_path)
    assert isinstance(describe(skeleton), Lean)
    skeleton.model.model.layers[1].self_attn.sinks = nn.Parameter(torch.zeros(4))
    assert "layers.1.self_attn.sinks" in str(describe(skeleton))


def test_a_description_refers_to_the_model_and_copies_nothing(tmp_path: Path) -> None:
    skeleton = _skeleton("GraniteMoeShared", tmp_path)
    lean, model = describe(skeleton), skeleton.model.model
    assert isinstance(lean, Lean) and lean.layers[0].mlp is not None
    assert lean.head is skeleton.model.lm_head and lean.layers[2].attention.q is model.layers[2].self_attn.q_proj
    fused = model.layers[0].shared_mlp.input_linear.weight
    assert lean.layers[0].mlp.gate.weight.data_ptr() == fused.data_ptr()
    assert lean.layers[0].mlp.up.weight.data_ptr() == fused[16].data_ptr()
