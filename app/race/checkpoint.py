"""A synthetic checkpoint of any architecture's shape: random weights, planted routing, the ordinary layout on disk.

N tokens of the cycle, S MoE layers, E experts a layer, k experts a token, d hidden.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig
from transformers.core_model_loading import revert_weight_conversion

from app.race.planted import Planted
from app.race.planting import Cycle, chosen_at
from app.race.routing import Routing
from app.race.words import save_tokenizer
from engine.errors import EngineError
from engine.models.anatomy import ModelParts, dissect
from engine.models.build import build, spec_of

FIRST = 16
"""Id of the cycle's first token; special tokens lie below."""
_COMMON = dict(max_position_embeddings=4096, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0)

Progress = Callable[[str, int, int], None]
"""Told of a stage, bytes written and bytes in all."""


def config_of(shape: dict[str, Any]) -> PretrainedConfig:
    """The configuration of a ``shape``: fields of config.json, ``model_type`` among them.

    Raises:
        EngineError: transformers knows no such architecture, or it ties its head to its embeddings.
    """
    values = {**_COMMON, **shape}
    try:
        config = AutoConfig.for_model(values.pop("model_type"), **values)
    except (KeyError, ValueError, TypeError) as error:
        raise EngineError(f"transformers cannot make a configuration of this shape: {str(error).splitlines()[0]}") from None
    if config.get_text_config().tie_word_embeddings:
        raise EngineError("A model whose head is tied to its embeddings can only repeat a token; set tie_word_embeddings to false")
    return config


def make_checkpoint(folder: Path, shape: dict[str, Any], plan: Callable[[int, int, int], Routing], seed: int = 0,
                    progress: Progress | None = None) -> Planted:  # fmt: skip
    """Write a checkpoint of ``shape`` whose routing is ``plan(S, E, k)``, shard by shard, with one layer in memory at most.

    It grows beside ``folder`` and takes its name when all is there; what an interrupted run left is gone on with.

    Raises:
        EngineError: the shape does not work, or the disk is too small.
    """
    config = config_of(shape)
    config._experts_implementation = "edgemoe"
    model = build(config, torch.bfloat16)
    spec = spec_of(model)
    routing = plan(spec.layers, spec.experts, spec.top_k)
    vocabulary = config.get_text_config().vocab_size
    if FIRST + len(routing) > vocabulary:
        raise EngineError(f"A cycle of {len(routing)} tokens does not fit a vocabulary of {vocabulary}")
    if folder.exists():
        raise EngineError(f"{folder} is there already; delete it to make another")
    part = folder.with_name(f".{folder.name}.part")
    _prepare(part, config, routing, seed)
    total = sum(tensor.numel() * 2 for tensor in model.state_dict().values())
    free = shutil.disk_usage(part).free + sum(file.stat().st_size for file in part.glob("*.safetensors"))
    if free < total:
        raise EngineError(f"{part.parent} has {free / 1e9:.1f} GB free; the checkpoint needs {total / 1e9:.1f} GB")
    cycle = Cycle(FIRST, len(routing), vocabulary, spec.hidden, seed)
    save_tokenizer(part, vocabulary)
    _write_shards(part, model, cycle, routing, seed, total, progress or (lambda *_: None))
    part.rename(folder)
    return Planted(routing, FIRST)


def _prepare(part: Path, config: PretrainedConfig, routing: Routing, seed: int) -> None:
    """Make the folder, or keep the one that a run with the very same plan has left."""
    wanted = json.dumps([config.to_dict(), seed, routing.tolist()], sort_keys=True, default=str)
    mark = part / "plan.json"
    if not mark.is_file() or mark.read_text("utf-8") != wanted:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        mark.write_text(wanted, "utf-8")
    config.save_pretrained(part)
    Planted(routing, FIRST).write(part)


def _write_shards(part: Path, model: Any, cycle: Cycle, routing: Routing, seed: int, total: int, progress: Progress) -> None:
    groups = list(_groups(model))
    special = _planted_names(dissect(model), model)
    where: dict[str, str] = {}
    done = 0
    for number, names in enumerate(groups):
        shard = part / f"model-{number + 1:05}-of-{len(groups):05}.safetensors"
        if not shard.is_file():
            state = {name: _values(name, model, special, cycle, routing, seed) for name in names}
            growing = shard.with_suffix(".growing")
            save_file(_ordinary(model, state), growing, metadata={"format": "pt"})
            os.replace(growing, shard)
            del state
        where.update(dict.fromkeys(_names_in(shard), shard.name))
        done += sum(model.state_dict()[name].numel() * 2 for name in names)
        progress("Making the checkpoint", done, total)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (part / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), "utf-8")
    (part / "plan.json").unlink()


def _groups(model: Any) -> Iterator[list[str]]:
    """Names of the tensors of one shard after another: each decoder layer, and all the rest."""
    state = list(model.state_dict())
    stack = next(name for name, module in model.named_modules() if isinstance(module, torch.nn.ModuleList))
    layers: dict[str, list[str]] = {}
    for name in state:
        inside = name.startswith(f"{stack}.")
        layers.setdefault(name[len(stack) + 1 :].split(".")[0] if inside else "", []).append(name)
    yield from layers.values()


def _planted_names(parts: ModelParts, model: Any) -> dict[str, tuple[str, int]]:
    """What is planted rather than drawn: ("embeddings" | "head" | "router", MoE layer) by tensor name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[parts.embeddings.weight]: ("embeddings", 0), names[parts.head.weight]: ("head", 0)}  # type: ignore[union-attr]
    experts = spec_of(model).experts
    for layer in parts.layers:
        if layer.block is None or layer.moe is None:
            continue
        hidden = parts.embeddings.weight.shape[1]
        routers = [p for p in layer.block.parameters() if tuple(p.shape) == (experts, hidden)]
        if len(routers) != 1:
            raise EngineError(f"{type(layer.block).__name__} has no plain router [experts, hidden] to plant a routing in")
        found[names[routers[0]]] = ("router", layer.moe)
    return found


def _values(name: str, model: Any, special: dict[str, tuple[str, int]], cycle: Cycle, routing: Routing, seed: int) -> Tensor:
    """The tensor ``name`` in bfloat16: planted, or drawn so that products keep their size; norms are ones, biases zeros."""
    parameter = model.state_dict()[name]
    kind, layer = special.get(name, ("", 0))
    if kind == "router":
        return cycle.router(chosen_at(routing, layer), parameter.shape[0]).bfloat16()
    if kind:
        return (cycle.embeddings() if kind == "embeddings" else cycle.head()).bfloat16()
    if parameter.dim() < 2:
        return torch.full(parameter.shape, float("norm" in name and "bias" not in name), dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(seed + 1 + list(model.state_dict()).index(name))
    drawn = torch.empty(parameter.shape, dtype=torch.bfloat16)
    scale = 1 / math.sqrt(min(parameter.shape[-2:]))
    for piece in drawn if drawn.dim() > 2 else [drawn]:  # an expert at a time, lest float32 double the memory
        piece.copy_(torch.randn(piece.shape, generator=generator) * scale)
    return drawn


def _ordinary(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Model tensors as checkpoints hold them: experts one by one, under the family's own names."""
    return {name: tensor.contiguous() for name, tensor in revert_weight_conversion(model, state).items()}


def _names_in(shard: Path) -> list[str]:
    with shard.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return [name for name in header if name != "__metadata__"]
