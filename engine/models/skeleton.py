"""A store's model in memory, without its experts: they are computed by whoever is bound to it.

T tokens, k experts a token, d hidden.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoTokenizer, GenerationConfig, PretrainedConfig

from engine.errors import EngineError
from engine.models import interface
from engine.models.anatomy import ModelParts, dissect, expert_modules, expert_parameters
from engine.models.build import build, read_config, spec_of
from engine.store.skeleton_file import mapped

if TYPE_CHECKING:
    from engine.store.reader import Store

_SKELETON = "skeleton.safetensors"
LARGE = 64 << 20
"""Bytes from which a tensor that is left as stored is mapped by itself: it then keeps no other in memory."""
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken")


class Skeleton:
    """The module as transformers made it, in eval mode. Its expert parameters stay on the meta device: shapes, no bytes."""

    def __init__(self, store: Store, model: Any) -> None:
        self.store = store
        self.spec = store.spec
        self.model = model
        self.config: PretrainedConfig = model.config
        self.generation_config: GenerationConfig = _generation_config(store, model)

    @property
    def context(self) -> int:
        """Tokens that the model takes together at most."""
        return int(getattr(self.config.get_text_config(), "max_position_embeddings", 0) or 1 << 20)

    @property
    def vocabulary(self) -> int:
        """Tokens that there are; logits have as many columns."""
        return int(self.config.get_text_config().vocab_size)

    @property
    def parts(self) -> ModelParts:
        """The stations a token passes, as they are now: layers may have been replaced."""
        return dissect(self.model)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, loaded when first asked for.

        Raises:
            EngineError: the model came without one.
        """
        lacking = EngineError(f"{self.store.name} has no tokenizer that can be read; add its tokenizer files and convert again")
        # Without this look, some families are given an empty tokenizer, which turns every prompt into nothing.
        if not any(any(self.store.path.glob(pattern)) for pattern in _VOCABULARIES):
            raise lacking
        try:
            return AutoTokenizer.from_pretrained(self.store.path, trust_remote_code=False, local_files_only=True)
        except Exception as error:  # whatever the files provoke
            raise lacking from error

    def bind(self, runtime: interface.Runtime) -> None:
        """Let ``runtime.forward(module, layer, hidden [T, d], index [T, k], weights [T, k]) -> [T, d]`` compute the experts."""
        interface.bind([module for _, module in expert_modules(self.model)], runtime)

def load_skeleton(store: Store, dtype: torch.dtype, as_stored: bool = False) -> Skeleton:
    """Build ``store``'s model with its non-expert weights in ``dtype`` (what the family keeps in float32 stays so).

    ``as_stored`` leaves the weights of linear layers and embeddings where they are, in the mapped file, for native layers to copy or
    quantize one by one: until these have, and ``settle`` was called, the model does not run.

    Raises:
        EngineError: the store does not fit the transformers version that is installed, or its skeleton is damaged.
    """
    model = build(read_config(store.path), dtype)
    if spec_of(model) != store.spec:
        raise EngineError(f"{store.path} was made by another version of transformers; delete it and convert the model again")
    state = model.state_dict()
    missing = set(state) - {f"{layer}.{part.name}" for layer in store.spec.layer_names for part in store.spec.parts}
    upcast = [re.compile(pattern.replace("*", ".*")) for pattern in model._get_dtype_plan(dtype)]
    try:
        with safe_open(store.path / _SKELETON, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                wanted = torch.float32 if any(p.search(name) for p in upcast) else state[name].dtype
                stored = as_stored and _is_matrix(model, name)
                value = mapped(store.path / _SKELETON, name) if stored and state[name].nbytes > LARGE else file.get_tensor(name)
                _place(model, name, value, None if stored else wanted)
                missing.discard(name)
    except (SafetensorError, KeyError, OSError) as error:
        raise EngineError(f"{store.path / _SKELETON} is damaged; delete the store and convert the model again") from error
    _complete(model, missing)
    return Skeleton(store, model.eval().requires_grad_(False))


def settle(skeleton: Skeleton, dtype: torch.dtype) -> None:
    """Bring weights that were left as stored into memory, in ``dtype``."""
    for name, parameter in list(skeleton.model.named_parameters()):
        if not parameter.is_meta and _is_matrix(skeleton.model, name):
            parameter.data = parameter.data.to(dtype, copy=True)


def _is_matrix(model: nn.Module, name: str) -> bool:
    path, _, local = name.rpartition(".")
    return local == "weight" and isinstance(model.get_submodule(path), nn.Linear | nn.Embedding)


def _place(model: nn.Module, name: str, value: Tensor, dtype: torch.dtype | None) -> None:
    """Set a tensor of the model; with ``dtype`` None as it is in the file."""
    path, _, local = name.rpartition(".")
    module = model.get_submodule(path)
    if dtype is not None:
        # A copy: what safe_open returns is a mapping of the file, which the system could drop and fault in again mid-token.
        value = value.to(dtype, copy=True) if value.is_floating_point() else value.clone()
    if local in module._parameters:
        value = nn.Parameter(value, requires_grad=False)
    value._is_hf_initialized = True  # type: ignore[attr-defined]
    setattr(module, local, value)


def _complete(model: Any, missing: set[str]) -> None:
    """Give values to what no checkpoint holds: tied weights, and buffers such as rotary tables, as from_pretrained would."""
    for _, module in expert_modules(model):
        # Marked as done, so that initialization leaves the meta parameters be.
        for parameter in expert_parameters(module).values():
            parameter._is_hf_initialized = True  # type: ignore[attr-defined]
    for name in model.all_tied_weights_keys:
        model.get_parameter(name)._is_hf_initialized = True
    model._move_missing_keys_from_meta_to_device(missing, {"": "cpu"}, None, None)
    model._initialize_missing_keys(False)
    model.tie_weights(missing_keys=missing, recompute_mapping=False)


def _generation_config(store: Store, model: Any) -> GenerationConfig:
    if (store.path / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(store.path, local_files_only=True)
    return GenerationConfig.from_model_config(model.config)
