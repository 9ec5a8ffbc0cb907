"""The same weights as one GGUF file, quantized as llama.cpp's own recipes do.

Norms and router stay in float32; at 4 bits the head is Q6_K, as llama.cpp makes it.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.race.kquants import BLOCK, q4_k, q6_k
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.store.checkpoint import Checkpoint

ARCHITECTURES = {"OlmoeForCausalLM": "OLMOE", "Qwen3MoeForCausalLM": "QWEN3MOE"}
RECIPES = {"Q4_0": "MOSTLY_Q4_0", "Q4_K": "MOSTLY_Q4_K_S", "Q8_0": "MOSTLY_Q8_0", "BF16": "MOSTLY_BF16"}
"""What most matrices become, and what a file of them calls itself."""
_OWN = {"Q6_K": q6_k, "Q4_K": q4_k}

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Piece:
    """One tensor of the file, and the checkpoint's tensors it is made of: one, or one an expert."""

    name: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    kind: str  # quantization, by gguf's name


def unfit(architecture: str) -> str:
    """Why a checkpoint of ``architecture`` cannot be written here; "" where it can."""
    if importlib.util.find_spec("gguf") is None:
        return "gguf not installed (requirements-bench.txt)"
    return "" if architecture in ARCHITECTURES else f"{architecture} is not among what is written as GGUF here ({', '.join(ARCHITECTURES)})"


def write_gguf(model: Path, out: Path, recipe: str, progress: Progress | None = None) -> None:
    """Write the checkpoint in ``model`` to ``out`` by ``recipe``, expert by expert; ``out`` appears when all of it is there.

    Raises:
        EngineError: the checkpoint cannot be written so (``unfit`` says why), or is damaged.
    """
    import gguf
    from transformers import AutoConfig

    from engine.store.checkpoint import Checkpoint

    config = AutoConfig.from_pretrained(model, local_files_only=True)
    if reason := unfit(config.architectures[0]):
        raise EngineError(f"{model}: {reason}")
    part = out.with_name(f".{out.name}.part")
    with Checkpoint.open(model) as checkpoint:
        architecture = gguf.MODEL_ARCH[ARCHITECTURES[config.architectures[0]]]
        pieces = list(_pieces(checkpoint, architecture, config.num_hidden_layers, recipe))
        writer = gguf.GGUFWriter(part, gguf.MODEL_ARCH_NAMES[architecture])
        _describe(writer, config, model, recipe)
        for piece in pieces:
            kind = gguf.GGMLQuantizationType[piece.kind]
            writer.add_tensor_info(piece.name, piece.shape, np.dtype(np.float32), _bytes_of(piece.shape, kind), kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        total, done = sum(int(np.prod(piece.shape)) * 2 for piece in pieces), 0
        for piece in pieces:
            writer.write_tensor_data(_quantized(checkpoint, piece))
            done += int(np.prod(piece.shape)) * 2
            if progress:
                progress("Writing GGUF", done, total)
        writer.close()
    os.replace(part, out)


def _pieces(checkpoint: Checkpoint, architecture: Any, layers: int, recipe: str) -> Iterator[Piece]:
    import gguf

    names = gguf.get_tensor_name_map(architecture, layers)
    stacked: dict[str, list[str]] = {}
    for source in checkpoint.entries:
        stem = source.removesuffix(".weight")
        head, experts, rest = stem.partition(".experts.")
        if experts:  # model.layers.0.mlp.experts.17.up_proj: one of many that make one tensor
            stem = f"{head}.experts.{rest.partition('.')[2]}"
        stacked.setdefault(stem, []).append(source)
    for stem, sources in stacked.items():
        name = names.get_name(stem)
        if name is None:
            raise EngineError(f"llama.cpp has no place for {stem} in this architecture")
        sources.sort(key=lambda source: [int(part) for part in source.split(".") if part.isdigit()])
        shape = checkpoint.entries[sources[0]].shape
        kind = _kind(name, shape, recipe)
        yield Piece(f"{name}.weight", tuple(sources), (len(sources), *shape) if ".experts." in stem else shape, kind)


def _kind(name: str, shape: tuple[int, ...], recipe: str) -> str:
    if len(shape) < 2 or "ffn_gate_inp" in name:
        return "F32"
    wanted = "Q6_K" if name == "output" and recipe.startswith("Q4") else recipe
    return "Q8_0" if wanted in _OWN and shape[-1] % BLOCK else wanted


def _bytes_of(shape: tuple[int, ...], kind: Any) -> int:
    import gguf

    values, nbytes = gguf.GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // values * nbytes


def _quantized(checkpoint: Checkpoint, piece: Piece) -> NDArray[Any]:
    """The tensor's bytes, made of one source after another."""
    import gguf

    kind = gguf.GGMLQuantizationType[piece.kind]
    parts = []
    for source in piece.sources:
        values = checkpoint.read(source).float().numpy()
        parts.append(_OWN[piece.kind](values) if piece.kind in _OWN else gguf.quants.quantize(values, kind))
    return np.stack(parts) if len(parts) > 1 else parts[0]


def _describe(writer: Any, config: Any, model: Path, recipe: str) -> None:
    import gguf

    heads = config.num_attention_heads
    writer.add_name(model.name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_expert_feed_forward_length(getattr(config, "moe_intermediate_size", config.intermediate_size))
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_expert_count(config.num_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType[RECIPES[recipe]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _describe_tokenizer(writer, model, config)


def _describe_tokenizer(writer: Any, model: Path, config: Any) -> None:
    """Names of the tokens only: prompts are given as ids."""
    known = json.loads((model / "tokenizer.json").read_text("utf-8"))["model"]
    names = [f"<{token}>" for token in range(config.vocab_size)]
    for name, token in known["vocab"].items():
        names[token] = name
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in known.get("merges", [])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(names)
    writer.add_token_types([1] * len(names))
    writer.add_token_merges(merges or [f"{names[-1]} {names[-2]}"])
    for identity, put in ((config.bos_token_id, writer.add_bos_token_id), (config.eos_token_id, writer.add_eos_token_id)):
        if isinstance(identity, int):
            put(identity)
    writer.add_add_bos_token(False)
