"""Descriptions of llama-like models say all there is to say: run by plain torch, they give transformers' own logits and tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.models.describe import describe
from engine.models.lean import Lean
from engine.models.skeleton import Skeleton, load_skeleton
from engine.store import convert

from .cases import LEAN, REFUSED, VARIANTS
from .families import FAMILIES, save_random
from .interpreter import Interpreter
from .pair import PROMPT, Pair

NEW_TOKENS = 32


def _skeleton(family: str, folder: Path, shape: dict[str, Any] | None = None) -> Skeleton:
    save_random(family, folder / "model", shape=shape)
    return load_skeleton(convert(folder / "model", folder / "store", widths=(4,)), torch.float32)


@torch.no_grad()
def _check(pair: Pair) -> None:
    """Logits at once and step by step, and greedy tokens."""
    tokens, wanted = pair.continuation(NEW_TOKENS)
    ids = torch.cat((PROMPT, torch.tensor(tokens)))
    at_once = Interpreter(pair.lean, pair.expert)(ids)
    torch.testing.assert_close(at_once, wanted, atol=2e-5, rtol=2e-5)
    step = Interpreter(pair.lean, pair.expert)
    logits, said = step(PROMPT), []
    for token in tokens:
        said.append(int(logits[-1].argmax()))
        logits = step(torch.tensor([token]))
    assert said == tokens
    torch.testing.assert_close(logits[-1], wanted[-1], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("family", sorted(LEAN))
def test_a_description_gives_the_logits_and_tokens_of_transformers(family: str, pair_of: Callable[..., Pair]) -> None:
    _check(pair_of(family, {}))


@pytest.mark.parametrize(("family", "shape"), VARIANTS, ids=[f"{family}-{'-'.join(shape)}" for family, shape in VARIANTS])
def test_what_a_configuration_switches_is_described(family: str, shape: dict[str, Any], pair_of: Callable[..., Pair]) -> None:
    _check(pair_of(family, shape))


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - LEAN))
def test_other_families_are_refused(family: str, tmp_path: Path) -> None:
    assert "not among the families" in str(describe(_skeleton(family, tmp_path)))


@pytest.mark.parametrize(("family", "shape", "reason"), REFUSED, ids=[f"{family}-{reason}" for family, _, reason in REFUSED])
def test_what_a_description_cannot_say_is_refused(family: str, shape: dict[str, Any], reason: str, tmp_path: Path) -> None:
    said = describe(_skeleton(family, tmp_path, shape))
    assert isinstance(said, str) and reason in said


def test_a_parameter_without_a_place_is_refused(tmp_path: Path) -> None:
    skeleton = _skeleton("Qwen3Moe", tmp_path)
    assert isinstance(describe(skeleton), Lean)
    skeleton.model.model.layers[1].self_attn.sinks = nn.Parameter(torch.zeros(4))
    assert "layers.1.self_attn.sinks" in str(describe(skeleton))


def test_a_description_refers_to_the_model_and_copies_nothing(tmp_path: Path) -> None:
    skeleton = _skeleton("GraniteMoeShared", tmp_path)
    lean, model = describe(skeleton), skeleton.model.model
    assert isinstance(lean, Lean) and lean.layers[0].mlp is not None
    assert lean.head is skeleton.model.lm_head and lean.layers[2].attention.q is model.layers[2].self_attn.q_proj
    fused = model.layers[0].shared_mlp.input_linear.weight
    assert lean.layers[0].mlp.gate.weight.data_ptr() == fused.data_ptr()
    assert lean.layers[0].mlp.up.weight.data_ptr() == fused[16].data_ptr()
