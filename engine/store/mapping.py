"""From a checkpoint's tensor names to the model's, expert by expert, by transformers' own conversion mappings.

E experts. Families save experts one by one (gate, up and down apart) or all in one tensor, under names of their own; what
joins, transposes or interleaves them on loading is in ``transformers.conversion_mapping``. The same operations are run
here on the slice that belongs to one expert, so that no layer is ever whole in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from engine.errors import EngineError
from engine.models.anatomy import expert_modules, expert_parameters
from engine.models.spec import ExpertSpec
from engine.store.checkpoint import Checkpoint


@dataclass(slots=True)
class _Group:
    """What becomes one target (with a converter, maybe several): checkpoint names by the pattern they matched."""

    converter: WeightConverter | None
    sources: dict[str, list[str]] = field(default_factory=dict)


class Mapping:
    """The checkpoint seen as the model's tensors: ``expert`` gives one expert, ``skeleton`` and ``values`` all else.

    Raises:
        EngineError: the checkpoint lacks a tensor that the model needs, or holds one in another shape.
    """

    def __init__(self, checkpoint: Checkpoint, model: Any, spec: ExpertSpec) -> None:
        self._checkpoint, self._model, self._spec = checkpoint, model, spec
        state = model.state_dict()
        self._expert_targets = {f"{layer}.{part.name}" for layer in spec.layer_names for part in spec.parts}
        self._groups = self._collect(state)
        # Operations that look at the model's shapes must see one expert, since one is all they are given.
        _keep_one_expert(model)
        self._check_experts()
        self.skeleton = self._check_skeleton(state)

    def expert(self, layer: int, expert: int) -> dict[str, Tensor]:
        """The parts of one expert by name, each shaped as its ``PartSpec``, in the checkpoint's own type."""
        parts = {}
        for part in self._spec.parts:
            target = f"{self._spec.layer_names[layer]}.{part.name}"
            tensor = self._convert(target, self._one(target, expert))[target][0]
            if part.quantized and self._spec.transposed:
                tensor = tensor.T
            parts[part.name] = tensor.contiguous()
        return parts

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """The non-expert tensors one after another, in the order of ``skeleton``."""
        for target in self._skeleton_groups():
            sources = {pattern: [self._checkpoint.read(n) for n in names] for pattern, names in self._groups[target].sources.items()}
            yield from self._convert(target, sources).items()

    def expert_dtype(self) -> torch.dtype:
        """The type in which the checkpoint holds its experts."""
        target = f"{self._spec.layer_names[0]}.{self._spec.parts[0].name}"
        return self._checkpoint.entries[next(iter(self._groups[target].sources.values()))[0]].dtype

    def _collect(self, state: dict[str, Tensor]) -> dict[str, _Group]:
        transforms = get_model_conversion_mapping(self._model)
        renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
        converters = [t for t in transforms if isinstance(t, WeightConverter)]
        by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
        prefix = self._model.base_model_prefix
        groups: dict[str, _Group] = {}
        # Natural order: expert 2 before expert 10, which is the order the operations expect.
        for name in sorted(self._checkpoint.entries, key=dot_natural_key):
            target, pattern = rename_source_key(name, renamings, converters, prefix, state)
            if target not in state and name in state:
                target, pattern = name, None
            if target not in state:
                continue  # heads and layers for other uses (multi-token prediction, say); transformers skips them too
            group = groups.setdefault(target, _Group(by_pattern[pattern] if pattern is not None else None))
            group.sources.setdefault(pattern or name, []).append(name)
        return groups

    def _one(self, target: str, expert: int) -> dict[str, list[Tensor]]:
        """The source tensors of one expert, for the operations that make ``target``."""
        group = self._groups[target]
        if _merges(group):
            return {pattern: [self._checkpoint.read(names[expert])] for pattern, names in group.sources.items()}
        return {p: [self._checkpoint.read(names[0], slice(expert, expert + 1))] for p, names in group.sources.items()}

    def _convert(self, target: str, sources: dict[str, list[Tensor]]) -> dict[str, Tensor]:
        converter = self._groups[target].converter
        if converter is None:
            return {target: next(iter(sources.values()))[0]}
        # A converter is used up by use: it collects, converts, and forgets.
        converter = deepcopy(converter)
        for pattern, tensors in sources.items():
            for tensor in tensors:
                converter.add_tensor(target, target, pattern, tensor)  # type: ignore[arg-type]
        made = converter.convert(target, model=self._model, config=self._model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}

    def _check_experts(self) -> None:
        spec = self._spec
        for layer in spec.layer_names:
            for part in spec.parts:
                target = f"{layer}.{part.name}"
                group = self._groups.get(target)
                if group is None:
                    raise EngineError(f"The checkpoint has no {target}; it is incomplete or of another model, download it again")
                held = [len(n) if _merges(group) else self._checkpoint.entries[n[0]].shape[0] for n in group.sources.values()]
                if any(count != spec.experts for count in held):
                    raise EngineError(f"The checkpoint holds {min(held)} of {spec.experts} experts of {layer}; download it again")
                first = self._convert(target, self._one_meta(group))[target]
                shape = part.shape[::-1] if part.quantized and spec.transposed else part.shape
                if tuple(first.shape) != (1, *shape):
                    raise EngineError(f"{target} is {tuple(first.shape[1:])} in the checkpoint, but config.json says {shape}")

    def _one_meta(self, group: _Group) -> dict[str, list[Tensor]]:
        metas = {pattern: self._checkpoint.meta(names[0]) for pattern, names in group.sources.items()}
        return {pattern: [meta if _merges(group) else meta[:1]] for pattern, meta in metas.items()}

    def _skeleton_groups(self) -> list[str]:
        return [target for target in self._groups if target not in self._expert_targets]

    def _check_skeleton(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the operations on shapes alone: what the skeleton will hold, as meta tensors by name."""
        made: dict[str, Tensor] = {}
        for target in self._skeleton_groups():
            sources = {p: [self._checkpoint.meta(n) for n in names] for p, names in self._groups[target].sources.items()}
            for name, tensor in self._convert(target, sources).items():
                if name in state and tensor.shape != state[name].shape:
                    raise EngineError(
                        f"{name} is {tuple(tensor.shape)} in the checkpoint, but config.json says {tuple(state[name].shape)}"
                    )
                made[name] = tensor
        tied: dict[str, str] = self._model.all_tied_weights_keys
        for name, parameter in self._model.named_parameters():
            found = name in made or name in self._expert_targets
            # Either end of a tie will do.
            found = found or tied.get(name) in made or any(source == name and target in made for target, source in tied.items())
            if not found and parameter.numel():
                raise EngineError(f"The checkpoint has no {name}; it is incomplete or of another model, download it again")
        return made


def _merges(group: _Group) -> bool:
    """Whether the checkpoint holds these experts one by one (else all in one tensor, expert first)."""
    return group.converter is not None and any(isinstance(op, MergeModulelist) for op in group.converter.operations)


def _keep_one_expert(model: nn.Module) -> None:
    for _, module in expert_modules(model):
        for name, parameter in expert_parameters(module).items():
            setattr(module, name, nn.Parameter(torch.empty_like(parameter[:1]), requires_grad=False))
