"""Build a model without its weights, on the meta device, with our experts in it.

E experts, d hidden, ff expert width.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from engine.errors import EngineError
from engine.models import interface
from engine.models.anatomy import expert_modules, expert_parameters
from engine.models.spec import ExpertSpec, PartSpec

_TOP_K = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts", "top_k")


def read_config(folder: Path) -> PretrainedConfig:
    """The configuration in ``folder``, with our experts asked for. Code in the folder is never run.

    Raises:
        EngineError: there is none, it cannot be read, or it needs code that ships with the model.
    """
    if not (folder / "config.json").is_file():
        raise EngineError(f"{folder} has no config.json; choose the folder of a Hugging Face checkpoint")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers raises whatever the file's content provokes
        line = str(error).strip().splitlines()
        raise EngineError(
            f"{folder / 'config.json'} is of no model family this program knows ({line[0] if line else type(error).__name__}); "
            "models that bring their own code are not run"
        ) from error
    config._experts_implementation = interface.NAME
    return config  # type: ignore[no-any-return]


def build(config: PretrainedConfig, dtype: torch.dtype) -> Any:
    """The model of ``config`` on the meta device: modules and shapes, not a byte of weights.

    Raises:
        EngineError: transformers has no such architecture, or its experts do not go through the interface.
    """
    kind = _architecture(config)
    with contextlib.ExitStack() as stack:
        for context in kind.get_init_context(dtype, False, False, False):
            stack.enter_context(context)
        try:
            model = kind(config)
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(f"config.json does not describe a working {kind.__name__}: {error}".splitlines()[0]) from error
    config.dtype = dtype
    if not expert_modules(model):
        raise EngineError(
            f"{kind.__name__} has no experts to stream (a dense model, or a family outside transformers' experts interface); "
            "choose a mixture-of-experts checkpoint such as OLMoE, Qwen3-MoE or Mixtral"
        )
    return model.eval()


def _architecture(config: PretrainedConfig) -> Any:
    names = config.architectures or []
    kind: Any = getattr(transformers, names[0], None) if names else None
    if kind is None:
        try:
            kind = AutoModelForCausalLM._model_mapping[type(config)]
        except KeyError:
            raise EngineError(f"{names[0] if names else config.model_type} is no architecture that transformers can build") from None
    if not kind.can_generate():
        raise EngineError(f"{kind.__name__} does not generate text; choose a causal language model")
    return kind


def spec_of(model: Any) -> ExpertSpec:
    """What the experts of a built model look like.

    Raises:
        EngineError: its layers differ in their experts, which one record size cannot hold.
    """
    found = expert_modules(model)
    first: Any = found[0][1]
    parts = _parts(first)
    experts = next(iter(expert_parameters(first).values())).shape[0]
    for name, module in found:
        if _parts(module) != parts or next(iter(expert_parameters(module).values())).shape[0] != experts:
            raise EngineError(f"the experts of {name} differ in number or shape from those of {found[0][0]}; not supported")
    down = parts[1].shape
    return ExpertSpec(
        architecture=type(model).__name__, layers=len(found), layer_names=tuple(name for name, _ in found), experts=experts,
        top_k=_top_k(model.config, experts), hidden=down[0], width=down[1], parts=parts, transposed=first.is_transposed,
        concatenated=first.is_concatenated, gated=first.has_gate, biased=first.has_bias,
    )  # fmt: skip


def _parts(module: Any) -> tuple[PartSpec, ...]:
    parts = []
    for name, parameter in expert_parameters(module).items():
        shape = tuple(parameter.shape[1:])
        matrix = len(shape) == 2
        parts.append(PartSpec(name, shape[::-1] if matrix and module.is_transposed else shape, matrix))
    return tuple(parts)


def _top_k(config: Any, experts: int) -> int:
    text = config.get_text_config(decoder=True)
    for name in _TOP_K:
        value = getattr(text, name, None)
        if isinstance(value, list) and value:
            value = max(value)
        if isinstance(value, int) and 0 < value <= experts:
            return value
    raise EngineError(f"config.json of {type(config).__name__} does not say how many experts a token uses")
