"""Stores made with text to listen to: as sound as others, resumable, nearer to the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import main
from engine.errors import Cancelled, EngineError
from engine.models.skeleton import Skeleton, load_skeleton
from engine.quant import CODECS, Feedback
from engine.store import Store, convert
from engine.store.refit import refit

CODEC = CODECS["gptq64"]
assert isinstance(CODEC, Feedback)
BLOCKS = torch.randint(3, 60, (6, 32), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def skeleton(saved_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Skeleton:
    return load_skeleton(convert(saved_model, tmp_path_factory.mktemp("plain") / "store"), torch.float32)


def records(store: Store) -> list[bytes]:
    return [(store.path / f"experts-{bits}.bin").read_bytes() for bits in store.widths]


def test_the_store_runs_and_its_higher_widths_are_as_before(skeleton: Skeleton, tmp_path: Path) -> None:
    made, plain = refit(skeleton, tmp_path / "store", BLOCKS, CODEC, (2, 4, 8, 16)), skeleton.store
    assert made.quantizer == "gptq64" and made.widths == (2, 4, 8, 16) and made.model_hash == plain.model_hash
    assert [made.record_bytes(bits) for bits in made.widths] == [plain.record_bytes(bits) for bits in made.widths]
    low, _, eight, sixteen = records(made)
    assert (eight, sixteen) == tuple((plain.path / f"experts-{bits}.bin").read_bytes() for bits in (8, 16))
    assert low != (plain.path / "experts-2.bin").read_bytes()
    for layer in range(made.spec.layers):
        for expert in range(made.spec.experts):
            assert torch.isfinite(made.load(layer, expert, 2).up.dense(torch.float32)).all()
    assert torch.isfinite(load_skeleton(made, torch.float32).model.lm_head.weight).all()


def test_an_interrupted_one_goes_on_and_comes_to_the_same(skeleton: Skeleton, tmp_path: Path) -> None:
    whole, asked = refit(skeleton, tmp_path / "whole", BLOCKS, CODEC, (2, 16)), [0]

    def cancel() -> bool:
        asked[0] += 1
        return asked[0] == 6

    with pytest.raises(Cancelled, match="continues where it was"):
        refit(skeleton, tmp_path / "store", BLOCKS, CODEC, (2, 16), cancel=cancel)
    assert not (tmp_path / "store").exists()
    assert records(refit(skeleton, tmp_path / "store", BLOCKS, CODEC, (2, 16))) == records(whole)
    assert not (tmp_path / "store.partial").exists()


def test_what_cannot_be_is_refused_in_one_line(
    skeleton: Skeleton, saved_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(EngineError, match="exists; give a folder that does not exist yet"):
        refit(skeleton, tmp_path / "there", BLOCKS, CODEC, (2,))
    low = load_skeleton(convert(saved_model, tmp_path / "low", (2, 4)), torch.float32)
    with pytest.raises(EngineError, match="is not stored at 16 bits"):
        refit(low, tmp_path / "store", BLOCKS, CODEC, (2,))
    assert main.main(["convert", str(saved_model), str(tmp_path / "store"), "--quantizer", "gptq64"]) == 2
    assert "listens to text; give some with --text" in capsys.readouterr().err
    assert main.main(["convert", str(saved_model), str(tmp_path / "store"), "--text", __file__]) == 2
    assert "group64 does not listen to text" in capsys.readouterr().err
    words = ["--quantizer", "gptq64", "--text", __file__, "--verify"]
    assert main.main(["convert", str(saved_model), str(tmp_path / "store"), *words]) == 2
    assert "not together with --text" in capsys.readouterr().err
