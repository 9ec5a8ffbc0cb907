"""The demo model that is shipped: it loads as any other, and keeps its promises of size."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = Path(__file__).parents[2] / "assets" / "demo" / "model"
pytestmark = pytest.mark.skipif(not (MODEL / "model.safetensors").exists(), reason="no demo model was exported")


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


def test_sizes_are_within_the_limits(model):
    config = model.config
    assert config.num_hidden_layers >= 8
    assert config.num_experts >= 16
    assert config.num_experts_per_tok >= 2
    assert model.dtype == torch.bfloat16
    experts = sum(p.numel() * 2 for name, p in model.named_parameters() if ".experts." in name)
    assert experts >= 40e6
    assert sum(file.stat().st_size for file in MODEL.iterdir()) <= 64e6


def test_tokenizer_gives_text_back(tokenizer):
    text = "Once upon a time,\n\nclass A:\n    def f(self, x=12):\n\treturn 'naïve'  # 漢\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) == 4096


def test_special_tokens_and_generation_config_agree(model, tokenizer):
    assert tokenizer.eos_token_id == model.config.eos_token_id == model.generation_config.eos_token_id
    assert tokenizer.pad_token_id == model.generation_config.pad_token_id


@pytest.mark.parametrize(
    "text",
    [
        "The old man looked at the sea, and then he said to the boy that it was time to go home.",
        "def __init__(self, name, value=None):\n    self.name = name\n    self.value = value\n    return None\n",
    ],
)
def test_it_learned_something_of_both_domains(model, tokenizer, text):
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        loss = model(ids, labels=ids).loss
    assert loss < 5.5  # untrained: 8.5 nats a token


def test_it_generates(model, tokenizer):
    ids = torch.tensor([tokenizer("Once upon a time")["input_ids"]])
    made = model.generate(ids, do_sample=False, max_new_tokens=8, eos_token_id=None)
    assert made.shape[1] == ids.shape[1] + 8
