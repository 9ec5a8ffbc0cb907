"""What may be drawn, and how likely, is what transformers' own processors say.

V vocabulary.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from engine import settings
from engine.kernels.library import Native
from engine.kernels.reference import top
from engine.sampling import Sampler

V = 300
IDS = torch.tensor([[3, 7, 7, 200]])
SEEN = IDS[0].numpy()


def logits() -> torch.Tensor:
    return torch.randn(V, generator=torch.Generator().manual_seed(1)) * 3


@pytest.fixture(autouse=True, params=["native", "numpy"])
def find_top(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "native":
        monkeypatch.setattr(Sampler.__init__, "__defaults__", (Native().top,))


def test_ties_go_to_the_lower_token_and_all_may_be_asked_for() -> None:
    scores = np.array([1, 3, 3, 0, 3, 2], np.float32)
    for find in (Native().top, top):
        tokens, found, total = find(scores, 6)
        assert tokens.tolist() == [1, 2, 4, 5, 0, 3] and found.tolist() == [3, 3, 3, 2, 1, 0]
        assert total == pytest.approx(float(torch.from_numpy(scores).logsumexp(0)), abs=1e-5)
        assert find(scores, 2)[1].tolist() == [3, 3]


def sampler(seed: int = 0, **values: settings.Value) -> Sampler:
    made = Sampler(seed)
    made.configure(settings.checked(values))
    return made


@pytest.mark.parametrize("top_k", [0, 1, 20, 10_000])
@pytest.mark.parametrize("top_p", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_the_distribution_is_transformers_own(top_k: int, top_p: float, penalty: float) -> None:
    wanted = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty), TemperatureLogitsWarper(0.7)])
    if top_k:
        wanted.append(TopKLogitsWarper(min(top_k, V)))
    if top_p < 1:
        wanted.append(TopPLogitsWarper(top_p))
    made = sampler(temperature=0.7, top_k=top_k, top_p=top_p, repetition_penalty=penalty)
    tokens, probabilities = made.distribution(SEEN, logits().numpy())
    ours = torch.zeros(V).scatter(0, torch.from_numpy(tokens).long(), torch.from_numpy(probabilities))
    torch.testing.assert_close(ours, wanted(IDS, logits()[None])[0].softmax(-1))
    assert (probabilities[:-1] >= probabilities[1:]).all()


def test_a_draw_gives_its_token_and_log_probability() -> None:
    token, logprob = sampler(temperature=0.0).choose(SEEN, logits().numpy())
    assert token == int(logits().argmax())
    assert logprob == pytest.approx(float(logits().log_softmax(-1)[token]), abs=1e-5)
    draws = {sampler(seed, temperature=1.5, top_k=5).choose(SEEN, logits().numpy())[0] for seed in range(60)}
    assert draws == set(logits().topk(5).indices.tolist())


def test_a_penalty_holds_for_the_likeliest_too() -> None:
    likeliest = int(logits().argmax())
    seen = np.array([likeliest])
    assert sampler(temperature=0.0, repetition_penalty=3.0).choose(seen, logits().numpy())[0] != likeliest
