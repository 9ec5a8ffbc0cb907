"""Whatever is wrong with a checkpoint or a store, the user gets one line that says what and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.errors import EngineError
from engine.store import Store, convert, default_store_path, open_or_convert


def refused(action: Callable[[], object], *words: str) -> None:
    with pytest.raises(EngineError) as caught:
        action()
    line = str(caught.value)
    assert "\n" not in line and "Traceback" not in line
    for word in words:
        assert word in line, line


def shard(model: Path) -> Path:
    return sorted(model.glob("*.safetensors"))[0]


def test_missing_folder(tmp_path: Path) -> None:
    refused(lambda: convert(tmp_path / "nowhere", tmp_path / "store"), "no folder", "nowhere")
    refused(lambda: Store.open(tmp_path / "nowhere"), "no folder")
    refused(lambda: open_or_convert(tmp_path / "nowhere"), "no folder")


def test_truncated_shard(model: Path, tmp_path: Path) -> None:
    file = shard(model)
    file.write_bytes(file.read_bytes()[:-100])
    refused(lambda: convert(model, tmp_path / "store"), file.name, "cut short", "download")
    file.write_bytes(file.read_bytes()[:50])
    refused(lambda: convert(model, tmp_path / "store"), file.name, "cut short")
    file.write_bytes(b"")
    refused(lambda: convert(model, tmp_path / "store"), file.name, "not a safetensors file")


@pytest.mark.parametrize("garbage", [b"MZ" + bytes(500), b"\x10" + bytes(7) + b"not json at all!" + bytes(99), b"\x02" + bytes(7) + b"[]"])
def test_a_foreign_file_named_safetensors(garbage: bytes, model: Path, tmp_path: Path) -> None:
    shard(model).write_bytes(garbage)
    refused(lambda: convert(model, tmp_path / "store"), shard(model).name, "download")


def test_offsets_that_contradict_the_shape(model: Path, tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 4]}}).encode()
    shard(model).write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    refused(lambda: convert(model, tmp_path / "store"), "not a readable safetensors")


def test_missing_shard(model: Path, tmp_path: Path) -> None:
    gone = shard(model)
    gone.unlink()
    refused(lambda: convert(model, tmp_path / "store"), gone.name, "missing", "complete the download")


def test_only_pickled_weights_are_refused(model: Path, tmp_path: Path) -> None:
    for file in [*model.glob("*.safetensors"), *model.glob("*.index.json")]:
        file.unlink()
    refused(lambda: convert(model, tmp_path / "store"), "no safetensors")
    torch.save({}, model / "pytorch_model.bin")
    refused(lambda: convert(model, tmp_path / "store"), "pickle", "never opened")


def test_a_dense_model(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "dense")
    refused(lambda: convert(tmp_path / "dense", tmp_path / "store"), "LlamaForCausalLM", "no experts", "choose a mixture-of-experts")


def test_code_that_comes_with_a_model_is_not_run(model: Path, tmp_path: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["model_type"] = "own-model"
    config["auto_map"] = {"AutoConfig": "own.Config"}
    (model / "config.json").write_text(json.dumps(config))
    (model / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    refused(lambda: convert(model, tmp_path / "store"), "own code are not run")
    assert not (tmp_path / "ran").exists()


def test_an_incomplete_checkpoint(model: Path, tmp_path: Path) -> None:
    index = model / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    dropped = shard(model).name
    content["weight_map"] = {name: file for name, file in content["weight_map"].items() if file != dropped}
    index.write_text(json.dumps(content))
    refused(lambda: convert(model, tmp_path / "store"), "download it again")


def test_a_checkpoint_that_contradicts_its_config(model: Path, tmp_path: Path) -> None:
    text = (model / "config.json").read_text()
    (model / "config.json").write_text(text.replace('"intermediate_size": 48', '"intermediate_size": 40'))
    refused(lambda: convert(model, tmp_path / "store"), "config.json says")
    (model / "config.json").write_text(text.replace('"num_experts": 8', '"num_experts": 9'))
    refused(lambda: convert(model, tmp_path / "store"), "8 of 9 experts")
    (model / "config.json").write_text("{")
    refused(lambda: convert(model, tmp_path / "store"), "config.json")
    (model / "config.json").unlink()
    refused(lambda: convert(model, tmp_path / "store"), "no config.json")


def test_weights_that_are_not_finite(model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in model.glob("*.safetensors"):
        tensors = load_file(file)
        for name in tensors:
            if ".experts.3." in name:
                tensors[name][0, 0] = float("nan")
        save_file(tensors, file)
    refused(lambda: convert(model, tmp_path / "store"), "Expert 3 of layer 0", "not finite")


def test_a_quantized_checkpoint(model: Path, tmp_path: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8"}
    (model / "config.json").write_text(json.dumps(config))
    refused(lambda: convert(model, tmp_path / "store"), "quantized already", "16-bit")


def test_widths_and_quantizers_that_do_not_exist(model: Path, tmp_path: Path) -> None:
    refused(lambda: convert(model, tmp_path / "store", (5,)), "5", "2, 3, 4, 8 and 16")
    refused(lambda: convert(model, tmp_path / "store", ()), "No width")
    refused(lambda: convert(model, tmp_path / "store", quantizer="magic"), "magic", "channel")
    store = convert(model, tmp_path / "store", (4,))
    refused(lambda: store.record(0, 0, 8), "not at 8")


def test_a_target_that_is_taken(model: Path, saved_model: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    refused(lambda: convert(model, tmp_path / "taken"), "exists and is no expert store")
    (tmp_path / "store.partial").mkdir()
    (tmp_path / "store.partial" / "thesis.txt").write_text("mine")
    refused(lambda: convert(model, tmp_path / "store"), "in the way")
    assert (tmp_path / "taken" / "thesis.txt").exists() and (tmp_path / "store.partial" / "thesis.txt").exists()


def test_the_store_of_another_model(model: Path, tmp_path: Path) -> None:
    store = convert(model, tmp_path / "store", (4, 8))
    assert convert(model, tmp_path / "store", (4,)).model_hash == store.model_hash
    refused(lambda: convert(model, tmp_path / "store", (2,)), "holds this model at 4, 8 bits")
    file = shard(model)
    data = bytearray(file.read_bytes())
    data[-10_000:] = bytes(10_000)
    file.write_bytes(data)
    refused(lambda: convert(model, tmp_path / "store", (4,)), "another model")


def test_a_damaged_store(model: Path, tmp_path: Path) -> None:
    path = convert(model, tmp_path / "store", (4,)).path
    manifest = (path / "store.json").read_text()

    def with_manifest(text: str, *words: str) -> None:
        (path / "store.json").write_text(text)
        refused(lambda: Store.open(path), *words)
        (path / "store.json").write_text(manifest)

    with_manifest("{", "cannot be read")
    with_manifest('{"format": "recipe"}', "not the manifest")
    with_manifest(manifest.replace('"version": 2', '"version": 99'), "version 99", "convert the model again")
    with_manifest(manifest.replace('"experts": 8', '"experts": "many"'), "damaged")
    with_manifest(manifest.replace('"width": 48', '"width": 4000').replace("48", "4000"), "contradicts itself")
    with_manifest(manifest.replace('"quantizer": "', '"quantizer": "x'), "Quantizer")

    experts = (path / "experts-4.bin").read_bytes()
    (path / "experts-4.bin").write_bytes(experts[:-1])
    refused(lambda: Store.open(path), "experts-4.bin", "bytes instead of")
    (path / "experts-4.bin").unlink()
    refused(lambda: Store.open(path), "experts-4.bin is missing")
    (path / "experts-4.bin").write_bytes(experts)
    sums = bytearray((path / "checksums.bin").read_bytes())
    sums[0] ^= 1
    (path / "checksums.bin").write_bytes(sums)
    refused(lambda: Store.open(path), "checksums.bin is damaged")


def test_a_corrupted_record_is_noticed(model: Path, tmp_path: Path) -> None:
    store = convert(model, tmp_path / "store", (4,))
    record = store.record(1, 2, 4)
    data = bytearray(record.file.read_bytes()[record.offset : record.offset + record.nbytes])
    assert store.checksum_ok(1, 2, 4, memoryview(data))
    assert not store.checksum_ok(1, 3, 4, memoryview(data))
    for place in (0, len(data) // 2, len(data) - 1):
        data[place] ^= 1
        assert not store.checksum_ok(1, 2, 4, memoryview(data))
        data[place] ^= 1


@pytest.mark.parametrize("quantizer", ["group64", "group64+outliers"])
def test_a_corrupted_record_is_told_in_one_line(quantizer: str, model: Path, tmp_path: Path) -> None:
    """Wherever it lies: codes, scales, or the weights that are kept apart."""
    store = convert(model, tmp_path / "store", (2,), quantizer)
    record, sound = store.record(1, 2, 2), store.load(1, 2, 2)
    assert (sound.up.outliers is not None) == quantizer.endswith("outliers")
    whole = record.file.read_bytes()
    for place in range(record.offset, record.offset + record.nbytes, 499):
        record.file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(lambda: store.load(1, 2, 2), "Expert 2 of layer 1 is damaged", "experts-2.bin", "convert the model again")
    record.file.write_bytes(whole)
    assert torch.equal(store.load(1, 2, 2).up.dense(torch.float32), sound.up.dense(torch.float32))


def test_a_damaged_skeleton(model: Path, tmp_path: Path) -> None:
    from engine.models.skeleton import load_skeleton

    store = convert(model, tmp_path / "store", (4,))
    file = store.path / "skeleton.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    refused(lambda: load_skeleton(store, torch.float32), "skeleton.safetensors is damaged")
    file.write_bytes(b"")
    refused(lambda: load_skeleton(store, torch.float32), "skeleton.safetensors is damaged")


def test_no_tokenizer(model: Path, tmp_path: Path) -> None:
    from engine.models.skeleton import load_skeleton

    skeleton = load_skeleton(convert(model, tmp_path / "store", (4,)), torch.float32)
    refused(lambda: skeleton.tokenizer, "no tokenizer")


def test_a_checkpoint_is_converted_once_into_the_cache(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    store = open_or_convert(model, (4,))
    assert store.path == default_store_path(model) and store.path.is_relative_to(tmp_path / "cache")
    before = (store.path / "store.json").stat().st_mtime_ns
    again = open_or_convert(model, (4,))
    assert (again.path / "store.json").stat().st_mtime_ns == before
    assert open_or_convert(store.path).model_hash == store.model_hash


def test_a_checkpoint_that_changed_is_converted_anew(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    first = open_or_convert(model, (4,))
    file = shard(model)
    data = bytearray(file.read_bytes())
    data[-20_000:] = bytes(20_000)
    file.write_bytes(data)
    second = open_or_convert(model, (4,))
    assert second.path != first.path and second.model_hash != first.model_hash
    assert (second.path / "checksums.bin").read_bytes() != (first.path / "checksums.bin").read_bytes()


def test_a_store_of_an_older_version_in_the_cache_is_made_anew(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = open_or_convert(model, (4,)).path
    manifest = path / "store.json"
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(EngineError, match="version 1"):
        Store.open(path)
    assert open_or_convert(model, (4,)).path == path
    assert Store.open(path).widths == (4,)
