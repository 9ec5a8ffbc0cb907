"""A plan held against the highest width token by token: by what truly came before, however few logits fit into memory."""

from __future__ import annotations

import numpy as np
import pytest

from engine.bitwidth import comparison
from engine.bitwidth.blocks import Texts
from engine.bitwidth.comparison import compare, steps_of
from engine.bitwidth.dense import DenseExperts
from engine.errors import EngineError
from engine.models.skeleton import Skeleton
from engine.store import Store


def test_a_few_logits_at_a_time_tell_the_same(skeleton: Skeleton, texts: Texts, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, plan = texts.verify[0].tolist(), [2] * 128
    whole = compare(skeleton, DenseExperts(store, plan), plan, ids)
    monkeypatch.setattr(comparison, "_AT_ONCE", 4 * skeleton.vocabulary * 100)
    assert len(steps_of(skeleton, len(ids))) == 3
    parts = compare(skeleton, DenseExperts(store, plan), plan, ids)
    assert parts.reference == whole.reference and parts.chosen == whole.chosen and len(whole.kl) == len(ids) - 1
    assert np.allclose(parts.kl, whole.kl, atol=1e-4) and whole.kl.mean() > 0.01


def test_every_token_is_told_once_also_past_the_context(skeleton: Skeleton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Skeleton, "context", 101)
    monkeypatch.setattr(comparison, "_SHORTEST", 30)
    monkeypatch.setattr(comparison, "_AT_ONCE", 1)
    steps = steps_of(skeleton, 1000)
    assert [first for _, first, _ in steps] == [0, *(stop for _, _, stop in steps[:-1])] and steps[-1][2] == 999
    assert all(begin <= first < stop and stop - begin <= 100 and stop - first <= 30 for begin, first, stop in steps)
    assert all(begin == 0 or first - begin >= 70 for begin, first, _ in steps)


def test_nothing_and_foreign_tokens_are_refused(skeleton: Skeleton, store: Store) -> None:
    plan = [2] * 128
    with pytest.raises(EngineError, match="two tokens at least"):
        compare(skeleton, DenseExperts(store, plan), plan, [1])
    with pytest.raises(EngineError, match="another model"):
        compare(skeleton, DenseExperts(store, plan), plan, [1, skeleton.vocabulary])
