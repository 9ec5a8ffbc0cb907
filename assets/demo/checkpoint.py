"""What training leaves on disk: its own state, to resume from, and the model, to be used.

Both are safetensors and JSON, each file put in place whole, so that neither a crash nor a reader halfway sees half.
"""

import copy
import json
import os
from pathlib import Path

import torch
from corpus import END
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast


def save_state(path, tensors, facts):
    """Write a training state: named tensors and a dictionary of plain values, in one file."""
    part = path.with_suffix(".part")
    save_file({name: t.contiguous() for name, t in tensors.items()}, part, metadata={"facts": json.dumps(facts)})
    os.replace(part, path)


def load_state(path):
    """Return (tensors, facts) of `save_state`."""
    with safe_open(path, "pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, json.loads(file.metadata()["facts"])


def export(model, tokenizer, folder):
    """Write the model at 16 bits (bf16) with its tokenizer as an ordinary Hugging Face folder.

    Files are replaced one by one, the weights last: only they change while one training goes on.
    """
    folder = Path(folder)
    part = folder.with_name(folder.name + ".part")
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(part)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=model.config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )
    wrapped.save_pretrained(part)
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(part.iterdir(), key=lambda file: file.suffix == ".safetensors"):
        os.replace(file, folder / file.name)
    part.rmdir()


def size(model):
    """Return (parameters, parameters in experts, parameters one token uses)."""
    config = model.config
    total = sum(p.numel() for p in model.parameters())
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    return total, experts, total - experts + experts * config.num_experts_per_tok // config.num_experts
