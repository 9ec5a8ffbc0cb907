"""A tiny mixture-of-experts checkpoint, saved once, for tests of the store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import OlmoeConfig, OlmoeForCausalLM


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OLMoE of 2 layers × 8 experts in two shards or more; not to be changed (``model`` is a copy that may be)."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny-olmoe"
    config = OlmoeConfig(
        vocab_size=64, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_experts=8, num_experts_per_tok=2, pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    OlmoeForCausalLM(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) >= 2
    return folder


@pytest.fixture
def model(saved_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_model, tmp_path / "tiny-olmoe"))
