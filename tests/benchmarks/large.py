"""Make a checkpoint as wide as the large ones, 48 layers × 128 experts, top-8, with small random experts: to see the window under it.

    python tests/benchmarks/large.py [FOLDER]
    python tests/benchmarks/window.py --model FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.demo import demo_model_path
from engine.store.catalog import cache_folder

LAYERS, EXPERTS, TOP_K, WIDTH = 48, 128, 8, 64


def make(folder: Path) -> None:
    """Write the checkpoint, about 160 MB, in the ordinary layout, with the demo model's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(demo_model_path())
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=WIDTH, moe_intermediate_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=2, num_key_value_heads=1, head_dim=WIDTH // 2, num_experts=EXPERTS, num_experts_per_tok=TOP_K,
        max_position_embeddings=4096, tie_word_embeddings=True, initializer_range=0.2, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen3MoeForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", default=cache_folder() / "large", help="(default: %(default)s)")
    make(parser.parse_args().folder)
