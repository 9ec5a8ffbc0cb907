"""One generic experts function serves every family: the same logits and tokens as transformers' own experts, off disk.

T tokens, V token ids.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.models.anatomy import expert_modules, expert_parameters
from engine.models.skeleton import Skeleton, load_skeleton
from engine.session import Session
from engine.store import Store, convert

from .families import FAMILIES, model_of, save_random
from .provider import DirectRuntime, ZeroRuntime

PROMPT = torch.tensor([[5, 9, 33, 3, 17, 60, 41, 8, 12, 25, 6, 50]])  # [1, T]
NEW_TOKENS = 32


def test_at_least_twenty_families_are_covered() -> None:
    assert len(FAMILIES) >= 20


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_streamed_experts_equal_transformers_own(family: str, tmp_path: Path) -> None:
    save_random(family, tmp_path / "model")
    reference = model_of(family).from_pretrained(tmp_path / "model", dtype=torch.float32, experts_implementation="eager").eval()
    wanted = reference(PROMPT).logits  # [1, T, V]
    store = convert(tmp_path / "model", tmp_path / "store", widths=(4, 16))
    without_experts = load_skeleton(store, torch.float32)
    without_experts.bind(ZeroRuntime())
    assert (wanted - without_experts.model(PROMPT).logits).abs().max() > 1e-2, "experts do not matter: the test would prove nothing"

    session = Session(store, {"bits": 16, "budget": "25%", "temperature": 0.0, "max_tokens": NEW_TOKENS, "ignore_eos": True})
    try:
        torch.testing.assert_close(session.network.skeleton.model(PROMPT).logits, wanted, atol=2e-5, rtol=2e-5)
        assert _streamed(session) == _continuation(reference)
        assert session.buffer.evictions > 0
        assert session.buffer.peak_bytes <= session.budget.granted
        _check_skeleton(session.network.skeleton)
    finally:
        session.close()


def _streamed(session: Session) -> list[int]:
    request = session.begin_ids(PROMPT)
    while session.request is not None:
        session.step()
    return [int(token) for token in request.ids[0, PROMPT.shape[1] :]]


def _continuation(model: torch.nn.Module) -> list[int]:
    # Without an end token, rather than with ``min_new_tokens``: that one forbids it, and the session may well choose it.
    model.generation_config.eos_token_id = None  # type: ignore[union-attr]
    tokens = model.generate(PROMPT, max_new_tokens=NEW_TOKENS, do_sample=False)  # type: ignore[operator]
    return list(tokens[0, PROMPT.shape[1] :])


def _check_skeleton(skeleton: Skeleton) -> None:
    """No expert is in memory, all else is; and every layer's parts were found."""
    experts = {id(p) for _, module in expert_modules(skeleton.model) for p in expert_parameters(module).values()}
    for name, tensor in [*skeleton.model.named_parameters(), *skeleton.model.named_buffers()]:
        assert tensor.is_meta == (id(tensor) in experts), name
    layers = skeleton.parts.layers
    assert [layer.moe for layer in layers if layer.moe is not None] == list(range(skeleton.spec.layers))
    assert all(layer.attention or layer.block is not None for layer in layers)
    assert any(layer.attention for layer in layers)
    assert skeleton.parts.norm is not None and skeleton.parts.head is skeleton.model.get_output_embeddings()


@pytest.mark.parametrize(("bits", "bound"), [(2, 0.8), (3, 0.45), (4, 0.2), (8, 0.02)])
@torch.no_grad()
def test_lower_widths_stay_near(bits: int, bound: float, tmp_path: Path) -> None:
    """Quantized logits err by no more than their width allows, as a share of the logits' own spread."""
    save_random("Olmoe", tmp_path / "model")
    skeleton = load_skeleton(convert(tmp_path / "model", tmp_path / "store", widths=(bits, 16)), torch.float32)
    logits = {}
    for width in (bits, 16):
        skeleton.bind(DirectRuntime(skeleton.store, width))
        logits[width] = skeleton.model(PROMPT).logits
    error = (logits[bits] - logits[16]).std() / logits[16].std()
    assert 0 < error < bound


@torch.no_grad()
def test_sharded_and_single_checkpoints_make_the_same_store(tmp_path: Path) -> None:
    save_random("Mixtral", tmp_path / "one")
    save_random("Mixtral", tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    one, many = (convert(tmp_path / name, tmp_path / f"{name}.store", widths=(4,)) for name in ("one", "many"))
    assert one.model_hash == many.model_hash
    for file in ("experts-4.bin", "checksums.bin"):
        assert (one.path / file).read_bytes() == (many.path / file).read_bytes()


@torch.no_grad()
def test_bfloat16_compute_runs(tmp_path: Path) -> None:
    save_random("DeepseekV3", tmp_path / "model")
    skeleton = load_skeleton(convert(tmp_path / "model", tmp_path / "store", widths=(4,)), torch.bfloat16)
    skeleton.bind(DirectRuntime(skeleton.store, 4))
    assert skeleton.model(PROMPT).logits.isfinite().all()
    # What the family keeps in float32 stays so: routing bias decides which expert is chosen.
    bias = [b for n, b in skeleton.model.named_buffers() if n.endswith("e_score_correction_bias")]
    assert bias and all(b.dtype == torch.float32 for b in bias)


def test_a_skeleton_reads_its_own_settings(tmp_path: Path) -> None:
    save_random("Olmoe", tmp_path / "model")
    store = convert(tmp_path / "model", tmp_path / "store", widths=(4,))
    skeleton = load_skeleton(Store.open(store.path), torch.float32)
    assert skeleton.generation_config.eos_token_id == 2
    assert not skeleton.model.training
    with pytest.raises(RuntimeError, match="bind"):
        skeleton.model(PROMPT)
