"""Bitwidth plans: every expert at its own width, and plans that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineError
from engine.events import ACCESS, SPAN, SpanKind
from engine.store import Store

from .conftest import Open, generate


def write_plan(path: Path, store: Store, widths: tuple[int, ...], **changes: object) -> str:
    """Widths in turn over all experts; returns the path as the setting wants it."""
    experts = np.resize(widths, (store.spec.layers, store.spec.experts))
    path.write_text(json.dumps({"model_hash": store.model_hash, "layers": experts.tolist()} | changes))
    return str(path)


def test_every_expert_is_loaded_at_its_own_width(open_session: Open, store: Store, tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.json", store, (2, 4, 8, 4, 16))
    session = open_session(plan=plan, budget="40%")
    full = sum(store.record_bytes(int(bits)) for bits in np.resize((2, 4, 8, 4, 16), store.spec.layers * store.spec.experts))
    assert session.budget.granted == int(full * 0.4)
    assert list(session.plan) == list(session.ready().plan) == np.resize((2, 4, 8, 4, 16), store.spec.layers * store.spec.experts).tolist()
    generate(session)
    spans = np.frombuffer(open_session.rows("spans"), SPAN)
    reads = spans[spans["kind"] == SpanKind.READ]
    number = reads["layer"].astype(int) * store.spec.experts + reads["expert"]
    assert (reads["bits"] == np.resize((2, 4, 8, 4, 16), store.spec.layers * store.spec.experts)[number]).all()
    assert len(set(reads["bits"].tolist())) == 4
    assert session.buffer.peak_bytes <= session.budget.granted


def test_output_under_a_plan_never_depends_on_residency(open_session: Open, store: Store, tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.json", store, (2, 8, 4))
    wanted = generate(open_session(plan=plan, budget="100%"))
    for policy in ("lru", "edgemoe"):
        assert generate(open_session(plan=plan, budget="30%", eviction=policy)) == wanted


def test_a_uniform_plan_is_the_width_itself(open_session: Open, store: Store, tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.json", store, (8,))
    assert generate(open_session(plan=plan, budget="100%")) == generate(open_session(bits=8, budget="100%"))


def test_a_plan_is_taken_and_left_between_tokens(open_session: Open, store: Store, tmp_path: Path) -> None:
    plan = write_plan(tmp_path / "plan.json", store, (8,))
    session = open_session(budget="50%")

    def switch(session, token: int) -> None:
        if token in (8, 16):
            session.change("plan", plan if token == 8 else "")

    generate(session, switch)
    accesses = np.frombuffer(open_session.rows("accesses"), ACCESS)
    by_token = [set(accesses["bits"][accesses["token"] == token].tolist()) for token in range(24)]
    assert all(bits == {4} for bits in by_token[:8])
    assert 8 in set.union(*by_token[8:16])
    assert 8 not in {int(bits) for bits in accesses["bits"][(accesses["token"] >= 16) & (accesses["outcome"] > 0)]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_hash": "another"}, "made for another model"),
        ({"layers": [[4, 4]]}, "made for another model"),
        ({"layers": "none"}, "is not a bitwidth plan"),
        ({"version": "x"}, "is not a bitwidth plan"),
    ],
)
def test_plans_that_cannot_be_used_are_refused(
    open_session: Open, store: Store, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    session = open_session()
    plan = write_plan(tmp_path / "plan.json", store, (4,), **changes)
    with pytest.raises(EngineError, match=says):
        session.change("plan", plan)
    assert session.values["plan"] == ""
    with pytest.raises(EngineError, match="cannot be read"):
        session.change("plan", str(tmp_path / "nowhere.json"))
    with pytest.raises(EngineError, match="asks for 5 bits"):
        session.change("plan", write_plan(tmp_path / "five.json", store, (4, 5)))
    with pytest.raises(EngineError, match="smallest"):
        open_session(plan=write_plan(tmp_path / "wide.json", store, (16,)), budget="8KiB")
