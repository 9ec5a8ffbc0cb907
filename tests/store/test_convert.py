"""A store holds just what the checkpoint held, whatever happened on the way there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from engine.errors import Cancelled, EngineError
from engine.quant import codec_named
from engine.store import Progress, Store, convert, is_store, partial, writer
from engine.store.mapping import Mapping

WIDTHS = (2, 4, 8, 16)


def files_of(store: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(store.iterdir())}


def load(store: Store, layer: int, expert: int, bits: int) -> torch.Tensor:
    record = store.record(layer, expert, bits)
    data = bytearray(record.file.read_bytes()[record.offset : record.offset + record.nbytes])
    assert store.checksum_ok(layer, expert, bits, memoryview(data))
    weights = store.unpack(torch.frombuffer(data, dtype=torch.uint8), bits)
    return torch.cat([weights.up.dense(torch.float32), weights.down.dense(torch.float32).T])


def original(model: Path, layer: int, expert: int) -> torch.Tensor:
    tensors: dict[str, torch.Tensor] = {}
    for shard in model.glob("*.safetensors"):
        tensors |= load_file(shard)
    prefix = f"model.layers.{layer}.mlp.experts.{expert}"
    gate, up, down = (tensors[f"{prefix}.{name}_proj.weight"].float() for name in ("gate", "up", "down"))
    return torch.cat([gate, up, down.T])


def test_sixteen_bit_records_are_the_checkpoint_itself(model: Path, tmp_path: Path) -> None:
    store = convert(model, tmp_path / "store", WIDTHS, verify=True)
    for layer in range(2):
        for expert in range(8):
            assert torch.equal(load(store, layer, expert, 16), original(model, layer, expert))


@pytest.mark.parametrize("quantizer", ["channel", "group32", "group64", "group128"])
def test_quantized_records_are_what_the_codec_says(quantizer: str, model: Path, tmp_path: Path) -> None:
    store = convert(model, tmp_path / "store", (2, 3, 4, 8), quantizer)
    weight = original(model, 1, 5)
    for bits in store.widths:
        expected = codec_named(quantizer).quantize(weight[:96], bits).dense(torch.float32)
        assert torch.equal(load(store, 1, 5, bits)[:96], expected)


def test_records_are_aligned_and_found_without_searching(model: Path, tmp_path: Path) -> None:
    store = convert(model, tmp_path / "store", WIDTHS)
    for bits in WIDTHS:
        assert store.record_bytes(bits) % 4096 == 0
        offsets = [store.record(layer, expert, bits).offset for layer in range(2) for expert in range(8)]
        assert offsets == [i * store.record_bytes(bits) for i in range(16)]
        assert store.record(0, 0, bits).file.stat().st_size == 16 * store.record_bytes(bits)
    assert store.record_bytes(2) < store.record_bytes(8) < store.record_bytes(16)


def test_the_skeleton_holds_all_but_experts(model: Path, tmp_path: Path) -> None:
    store = convert(model, tmp_path / "store", (4,))
    tensors: dict[str, torch.Tensor] = {}
    for shard in model.glob("*.safetensors"):
        tensors |= load_file(shard)
    kept = load_file(store.path / "skeleton.safetensors")
    assert set(kept) == {name for name in tensors if ".experts." not in name}
    assert all(torch.equal(kept[name], tensors[name]) for name in kept)
    assert store.skeleton_bytes == sum(t.nbytes for t in kept.values())


def test_progress_reaches_its_total_in_every_stage(model: Path, tmp_path: Path) -> None:
    seen: dict[str, list[Progress]] = {}
    convert(model, tmp_path / "store", WIDTHS, verify=True, progress=lambda p: seen.setdefault(p.stage, []).append(p))
    assert list(seen) == ["Checking what is there", "Converting experts", "Verifying", "Converting other weights"]
    for stage in ("Converting experts", "Verifying", "Converting other weights"):
        steps = [p.done for p in seen[stage]]
        assert steps == sorted(steps) and steps[-1] == seen[stage][-1].total > 0


@pytest.mark.parametrize("stop_after", [0, 1, 7, 16, 19])
def test_a_cancelled_conversion_continues_to_the_same_store(stop_after: int, model: Path, tmp_path: Path) -> None:
    whole = convert(model, tmp_path / "whole", WIDTHS)
    steps = iter(range(10_000))
    with pytest.raises(Cancelled):
        convert(model, tmp_path / "store", WIDTHS, cancel=lambda: next(steps) > stop_after)
    assert not is_store(tmp_path / "store") and not (tmp_path / "store").exists()

    stages: list[Progress] = []
    resumed = convert(model, tmp_path / "store", WIDTHS, progress=stages.append)
    begun = next(p for p in stages if p.stage == "Converting experts")
    expected = min(16, stop_after)  # the first two steps only enter stages; the cancel comes after that expert
    assert begun.done == expected * sum(whole.record_bytes(bits) for bits in WIDTHS)
    assert files_of(resumed.path) == files_of(whole.path)
    assert not (tmp_path / "store.partial").exists()


def test_what_a_power_cut_tore_is_written_again(model: Path, tmp_path: Path) -> None:
    whole = convert(model, tmp_path / "whole", WIDTHS)
    steps = iter(range(10_000))
    with pytest.raises(Cancelled):
        convert(model, tmp_path / "store", WIDTHS, cancel=lambda: next(steps) > 9)
    torn = tmp_path / "store.partial" / "experts-4.bin"
    data = bytearray(torn.read_bytes())
    data[3 * whole.record_bytes(4) + 100] ^= 1
    torn.write_bytes(data)
    with (tmp_path / "store.partial" / "checksums.bin").open("ab") as journal:
        journal.write(b"\x01\x02\x03")
    assert files_of(convert(model, tmp_path / "store", WIDTHS).path) == files_of(whole.path)


def test_a_partial_of_another_model_is_not_mixed_in(model: Path, tmp_path: Path) -> None:
    whole = convert(model, tmp_path / "whole", (4,))
    steps = iter(range(10_000))
    with pytest.raises(Cancelled):
        convert(model, tmp_path / "store", (2, 4), cancel=lambda: next(steps) > 5)
    assert files_of(convert(model, tmp_path / "store", (4,)).path) == files_of(whole.path)


def test_a_full_disk_is_one_line_and_the_conversion_continues(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = convert(model, tmp_path / "whole", WIDTHS)
    left = [5 * whole.record_bytes(16)]
    real = partial.write_all

    def until_full(file: object, data: bytes) -> None:
        if len(data) > left[0]:
            real(file, data[: left[0]])  # type: ignore[arg-type]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= len(data)
        real(file, data)  # type: ignore[arg-type]

    with monkeypatch.context() as full:
        full.setattr(partial, "write_all", until_full)
        with pytest.raises(EngineError, match=r"No space left .* continues where it stopped") as caught:
            convert(model, tmp_path / "store", WIDTHS)
    assert "\n" not in str(caught.value)
    assert files_of(convert(model, tmp_path / "store", WIDTHS).path) == files_of(whole.path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_kernel_s_own_full_disk_is_told_too(model: Path, tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(EngineError, match="No space left"), partial.disk_errors(tmp_path):
        partial.write_all(full, b"x" * 4096)


def test_too_little_space_is_said_before_anything_is_written(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(EngineError, match=r"needs .* MB more and 0.0 MB are free"):
        convert(model, tmp_path / "store", WIDTHS)


def test_two_conversions_to_one_place_do_not_mix(model: Path, tmp_path: Path) -> None:
    def second(_: Progress) -> None:
        with pytest.raises(EngineError, match="another process"):
            convert(model, tmp_path / "store", (4,))

    convert(model, tmp_path / "store", (4,), progress=second)


def test_what_another_process_finished_meanwhile_is_taken(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = convert(model, tmp_path / "store", (4,))
    before = files_of(first.path)
    monkeypatch.setattr(writer, "_existing", lambda *_: None)  # looked just before it was there
    assert convert(model, tmp_path / "store", (4,)).model_hash == first.model_hash
    assert files_of(first.path) == before
    assert not (tmp_path / "store.partial").exists()


def test_a_mended_tokenizer_reaches_a_store_that_is_there(model: Path, tmp_path: Path) -> None:
    (model / "tokenizer.json").write_text("old")
    convert(model, tmp_path / "store", (4,))
    (model / "tokenizer.json").write_text("new")
    (model / "chat_template.jinja").write_text("{{ messages }}")
    store = convert(model, tmp_path / "store", (4,))
    assert (store.path / "tokenizer.json").read_text() == "new"
    assert (store.path / "chat_template.jinja").exists()
    assert not list(store.path.glob("*.part"))


def test_memory_is_one_expert_and_not_the_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No read asks for more than one tensor of one expert, or one non-expert tensor; and none is kept."""
    reads: list[int] = []
    real = Mapping.expert

    def counted(self: Mapping, layer: int, expert: int) -> dict[str, torch.Tensor]:
        parts = real(self, layer, expert)
        reads.append(sum(t.untyped_storage().nbytes() for t in parts.values()))
        return parts

    monkeypatch.setattr(Mapping, "expert", counted)
    convert(model, tmp_path / "store", (4,))
    assert reads == [3 * 64 * 48 * 2] * 16


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    from transformers import GraniteMoeConfig, GraniteMoeForCausalLM

    config = GraniteMoeConfig(
        vocab_size=64, hidden_size=32, intermediate_size=16, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        num_local_experts=4, num_experts_per_tok=2, tie_word_embeddings=True,
    )  # fmt: skip
    GraniteMoeForCausalLM(config).save_pretrained(tmp_path / "model")
    store = convert(tmp_path / "model", tmp_path / "store", (4,))
    with safe_open(store.path / "skeleton.safetensors", framework="pt") as file:
        assert "model.embed_tokens.weight" in file.keys() and "lm_head.weight" not in file.keys()  # noqa: SIM118
    from engine.models.skeleton import load_skeleton

    skeleton = load_skeleton(store, torch.float32)
    assert skeleton.model.lm_head.weight is skeleton.model.model.embed_tokens.weight
