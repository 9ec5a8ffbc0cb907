"""The training of the demo model: split, windows, optimizer, and a tiny training from text to an exported model."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

DEMO = Path(__file__).parents[2] / "assets" / "demo"
sys.path.insert(0, str(DEMO))

import corpus
import measure
import optim
import schedule
import train

TINY = ["--layers", "2", "--experts", "4", "--hidden", "32", "--expert-hidden", "16", "--heads", "2", "--batch", "128",
        "--key-value-heads", "1", "--context", "16", "--vocabulary", "300", "--no-compile", "--threads", "1"]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def text(tmp_path):
    """A folder of two small domains."""
    folder, rng = tmp_path / "text", random.Random(3)
    folder.mkdir()
    for name, words in (("prose", ["the", "fox", "ran", "home", "."]), ("code", ["def", "x", "=", "1", "\n    "])):
        documents = [f"{name} {i}: " + " ".join(rng.choices(words, k=rng.randint(5, 200))) for i in range(30)]
        (folder / f"{name}.txt").write_text("\f".join(documents), encoding="utf-8")
    return folder


def test_split_leaks_no_document_and_ignores_order(text):
    for domain in corpus.read_domains(text):
        assert not set(domain.train) & set(domain.held_out)
        assert len(domain.train) + len(domain.held_out) == 30
        assert len(domain.held_out) == 2
        again = corpus.split_documents(domain.held_out + domain.train)
        assert set(again[1]) == set(domain.held_out)


def test_repeated_document_is_on_one_side_only(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\f".join(["same"] * 40 + ["one", "two", "three"]))
    assert corpus.read_documents(path) == ["same", "one", "two", "three"]


def test_too_little_text_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("alone")
    argv = ["--text", str(tmp_path), "--work", str(tmp_path / "w"), "--out", str(tmp_path / "o"), "--steps", "1"]
    assert train.main(argv) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_tokenizer_gives_every_byte_back(text):
    tokenizer = corpus.train_tokenizer(corpus.read_domains(text), 300)
    odd = "def f(x):\n\n\t    return 12345  # naïve — 漢\r\n\n  \n"
    assert tokenizer.decode(tokenizer.encode(odd).ids) == odd


def test_windows_cover_every_token_stay_in_documents_and_resume():
    ends = np.array([50, 53, 56, 200])
    windows = corpus.Windows(np.arange(200, dtype=np.uint16), ends, width=16, seed=1)
    drawn = windows.draw(windows.per_epoch)
    long_ones = drawn[(drawn[:, 0] < 50) | (drawn[:, 0] >= 56)]
    assert set(long_ones.flatten()) >= {*range(50), *range(56, 200)}
    assert all(row[-1] < 50 or row[0] >= 56 for row in long_ones)
    ahead = windows.draw(20)
    resumed = corpus.Windows(np.arange(200, dtype=np.uint16), ends, 16, 1, drawn=windows.per_epoch).draw(20)
    assert (ahead == resumed).all()


def test_orthogonalise_treats_each_matrix_alone():
    stack = torch.randn(3, 24, 16) * torch.tensor([1.0, 100.0, 0.01])[:, None, None]
    for matrix in optim.orthogonalise(stack).float():
        values = torch.linalg.svdvals(matrix)
        assert values.min() > 0.5 and values.max() < 1.4


def test_schedule_warms_up_stays_and_decays():
    plan = schedule.Schedule(steps=1000)
    assert plan.scale(0) < 0.05
    assert plan.scale(500) == 1.0
    assert plan.scale(900) == pytest.approx(0.5)
    assert plan.scale(1000) == 0.0


def test_measured_windows_count_every_token_once():
    tokens = np.arange(1000, dtype=np.uint16)
    rows, fresh = measure.windows_of(tokens, 64, 48)
    targets = [row[len(row) - new :] for row, new in zip(rows, fresh, strict=True)]
    assert np.concatenate(targets).tolist() == list(range(1, 1000))


def test_divergence_ends():
    even, first, last = np.full(4, 0.25), np.array([1.0, 0, 0, 0]), np.array([0, 0, 0, 1.0])
    assert measure.divergence(even, even) == pytest.approx(0)
    assert measure.divergence(first, last) == pytest.approx(1)


def test_resumed_training_ends_like_an_uninterrupted_one(text, tmp_path, monkeypatch):
    def run(name):
        folders = ["--text", str(text), "--work", str(tmp_path / name), "--out", str(tmp_path / name / "model")]
        return train.main([*folders, "--steps", "6", *TINY])

    assert run("whole") == 0
    take_step = train.Training.take_step

    def step_then_stop(self):
        take_step(self)
        if self.step == 3:
            self.stop()

    with monkeypatch.context() as patch:
        patch.setattr(train.Training, "take_step", step_then_stop)
        assert run("broken") == 130
    assert run("broken") == 0
    whole, broken = (AutoModelForCausalLM.from_pretrained(tmp_path / name / "model") for name in ("whole", "broken"))
    for (name, one), other in zip(whole.named_parameters(), broken.parameters(), strict=True):
        assert torch.equal(one, other), name
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole" / "model")
    assert tokenizer.decode(tokenizer("the fox\n    ran")["input_ids"]) == "the fox\n    ran"


def test_training_pass_agrees_with_the_model(text, tmp_path):
    folders = ["--text", str(text), "--work", str(tmp_path / "w"), "--out", str(tmp_path / "m")]
    training = train.Training(train.parse([*folders, "--steps", "1", *TINY]))
    model, rows = training.model.float(), torch.randint(0, 290, (2, 17))
    mine = train.Trainee(model, compiled=False).losses(rows)[0]
    logits = model(rows[:, :-1]).logits
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(mine.flatten(), theirs, atol=1e-4, rtol=1e-4)
