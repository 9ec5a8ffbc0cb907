"""Shapes of models to race on: fields of their config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.errors import EngineError

SHAPES: dict[str, dict[str, Any]] = {
    "olmoe": dict(
        architectures=["OlmoeForCausalLM"], model_type="olmoe", hidden_size=2048, intermediate_size=1024, num_hidden_layers=16,
        num_attention_heads=16, num_key_value_heads=16, num_experts=64, num_experts_per_tok=8, vocab_size=50304,
    ),
    "qwen3moe": dict(
        architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", hidden_size=2048, intermediate_size=6144,
        moe_intermediate_size=768, num_hidden_layers=48, num_attention_heads=32, num_key_value_heads=4, head_dim=128,
        num_experts=128, num_experts_per_tok=8, norm_topk_prob=True, vocab_size=151936,
    ),
}  # fmt: skip
"""The shapes of OLMoE-1B-7B and Qwen3-30B-A3B."""


def shape_named(text: str) -> tuple[str, dict[str, Any]]:
    """The shape called ``text``, or the one in the JSON file ``text``, with its name.

    Raises:
        EngineError: there is neither.
    """
    if text in SHAPES:
        return text, SHAPES[text]
    path = Path(text)
    if not path.is_file():
        raise EngineError(f"There is no shape {text!r}; the shapes are {', '.join(SHAPES)}, or give a config.json")
    try:
        shape = json.loads(path.read_text("utf-8"))
        return (path.parent.name if path.name == "config.json" else path.stem), {**shape, "model_type": str(shape["model_type"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise EngineError(f"{path} is no model configuration in JSON with a model_type") from None
