"""Finding the parts of a model by structure, never by family: experts, MoE blocks, attention, norm, head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class LayerParts:
    """One decoder layer. ``moe`` is the index among MoE layers, or None for a dense layer (then block and experts too)."""

    decoder: nn.Module
    attention: tuple[nn.Module, ...]  # whatever mixes tokens: attention, state space, convolution; often exactly one
    moe: int | None
    block: nn.Module | None  # router and experts (and shared experts): its start is where routing begins
    experts: nn.Module | None


@dataclass(frozen=True)
class ModelParts:
    """The stations a token passes, in order."""

    embeddings: nn.Module
    layers: tuple[LayerParts, ...]
    norm: nn.Module | None
    head: nn.Module | None


def expert_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Name and module of every experts collection that goes through the experts interface, in layer order."""
    # The interface's decorator sets these on construction; no other module carries both.
    return [(name, m) for name, m in model.named_modules() if hasattr(m, "_is_expert_parallel") and hasattr(m, "has_gate")]


def expert_parameters(module: Any) -> dict[str, nn.Parameter]:
    """The tensors of an experts module that hold all its experts, by local name, in record order."""
    up = "gate_up_proj" if module.has_gate else "up_proj"
    names = [up, "down_proj"] + ([f"{up}_bias", "down_proj_bias"] if module.has_bias else [])
    return {name: getattr(module, name) for name in names}


def dissect(model: Any) -> ModelParts:
    """Find the parts of a model whose experts go through the interface."""
    experts = expert_modules(model)
    parent, stack = _layer_stack(model, [name for name, _ in experts])
    order = {id(module): index for index, (_, module) in enumerate(experts)}
    layers = tuple(_layer(layer, order) for layer in stack)
    norms = [child for child in parent.children() if child is not stack and _is_norm(child)]
    return ModelParts(model.get_input_embeddings(), layers, norms[-1] if norms else None, model.get_output_embeddings())


def _layer_stack(model: nn.Module, names: list[str]) -> tuple[nn.Module, nn.ModuleList]:
    """The outermost module list that holds the first experts module, and its parent."""
    path = names[0].split(".")
    for depth in range(1, len(path)):
        parent = model.get_submodule(".".join(path[: depth - 1]))
        child = getattr(parent, path[depth - 1])
        if isinstance(child, nn.ModuleList):
            return parent, child
    raise RuntimeError(f"{names[0]} lies in no list of layers")


def _layer(layer: nn.Module, order: dict[int, int]) -> LayerParts:
    attention: list[nn.Module] = []
    block, experts = None, None
    for child in layer.children():
        found = next((m for m in child.modules() if id(m) in order), None)
        if found is not None:
            block, experts = child, found
        elif _mixes_tokens(child):
            attention.append(child)
    return LayerParts(layer, tuple(attention), None if experts is None else order[id(experts)], block, experts)


def _mixes_tokens(module: nn.Module) -> bool:
    """Modules that reach across tokens keep state a layer, and so know which layer they are."""
    return any(isinstance(getattr(m, "layer_idx", None), int) for m in module.modules()) and not _is_norm(module)


def _is_norm(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return "norm" in type(module).__name__.lower() and all(p.dim() <= 1 for p in parameters)
