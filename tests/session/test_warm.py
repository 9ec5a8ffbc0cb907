"""Warm start: which experts are filled in and how they are told, and that nothing else changes; and what is remembered of uses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineError
from engine.events import ACCESS, RESIDENCY, SPAN, TOKEN, Batch, Filled, Outcome, Residency, SpanKind
from engine.monitor import kernel_read_bytes
from engine.residency import POLICIES
from engine.residency.usage import MEMORY, SHIPPED, Usage
from engine.session import Session
from engine.store import Store
from engine.warm import OUTSIDE, chosen_experts, fill

from .conftest import Open, damage, generate


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def usage(store: Store, tmp_path: Path) -> Usage:
    """Every expert used, each differently often."""
    usage = Usage.open(store, tmp_path)
    usage.counts = np.random.default_rng(3).permutation(len(usage.counts)) + 1.0
    return usage


def warm(session: Session, usage: Usage) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    fill(session, usage, lambda done, total: told.append((done, total)))
    return told


def residents(session: Session, usage: Usage) -> set[int]:
    return {expert for expert in range(len(usage.counts)) if session.buffer.holds(expert)}


def test_no_token_changes(open_session: Open, usage: Usage) -> None:
    wanted = generate(open_session(budget="100%", warm_start=False))
    for policy in POLICIES:
        for budget in ("25%", "100%"):
            session = open_session(budget=budget, eviction=policy)
            warm(session, usage)
            assert generate(session) == wanted


def test_the_most_used_fill_the_budget_and_no_more(open_session: Open, store: Store, usage: Usage) -> None:
    session = open_session(budget="30%", predictor="none")
    told = warm(session, usage)
    room = session.budget.granted // store.record_bytes(4)
    assert residents(session, usage) == set(np.argsort(-usage.counts)[:room].tolist())
    assert session.buffer.evictions == 0
    assert session.buffer.peak_bytes == room * store.record_bytes(4) <= session.budget.granted
    assert told[-1] == (session.buffer.resident_bytes,) * 2 and len(told) == room
    states = np.frombuffer(open_session.rows("residency"), RESIDENCY)
    loading = states[states["state"] == Residency.LOADING]
    assert (loading["layer"].astype(int) * store.spec.experts + loading["expert"]).tolist() == usage.order()[:room], "the most used first"


def test_what_was_never_used_is_filled_in_only_where_all_fit(open_session: Open, usage: Usage) -> None:
    usage.counts[5:] = 0
    assert chosen_experts(open_session(budget="90%"), usage) == usage.order()
    assert len(chosen_experts(open_session(budget="100%"), usage)) == len(usage.counts)


def test_it_can_be_switched_off(open_session: Open, usage: Usage) -> None:
    session = open_session(budget="50%", warm_start=False)
    assert warm(session, usage) == [] and residents(session, usage) == set()
    assert not any(isinstance(notice, Filled) for notice in open_session.notices)


def test_cancelled_it_keeps_what_has_arrived(open_session: Open, store: Store, usage: Usage) -> None:
    session, told = open_session(budget="100%", io_threads=1), list[int]()
    fill(session, usage, lambda done, total: told.append(done), lambda: len(told) >= 3)
    held = residents(session, usage)
    assert 3 <= len(held) <= 5
    assert session.buffer.resident_bytes == len(held) * store.record_bytes(4) == told[-1]
    filled = open_session.notices[-1]
    assert isinstance(filled, Filled) and (filled.experts, filled.bytes) == (len(held), told[-1]) and filled.wanted > filled.bytes
    assert generate(session) == generate(open_session(budget="100%", warm_start=False))


def test_filled_in_is_a_hit_and_evicted_before_its_use_is_capacity(open_session: Open, store: Store, usage: Usage) -> None:
    session = open_session(budget="100%")
    warm(session, usage)
    generate(session)
    assert (np.frombuffer(open_session.rows("accesses"), ACCESS)["outcome"] == Outcome.HIT).all()
    small = Open(store)
    session = small(budget="100%", predictor="none")
    warm(session, usage)
    session.change("budget", "20%")
    generate(session)
    session.close()
    outcomes = set(np.frombuffer(small.rows("accesses"), ACCESS)["outcome"].tolist())
    assert outcomes == {Outcome.HIT, Outcome.CAPACITY}, "none was never in memory before"


def test_its_reads_are_told_and_are_no_tokens(open_session: Open, usage: Usage) -> None:
    session = open_session(budget="40%", predictor="none")
    before = kernel_read_bytes()
    warm(session, usage)
    generate(session)
    by_kernel = kernel_read_bytes() - before
    spans, tokens = np.frombuffer(open_session.rows("spans"), SPAN), np.frombuffer(open_session.rows("tokens"), TOKEN)
    reads = spans[spans["kind"] == SpanKind.READ]
    filling = reads["token"] == OUTSIDE
    filled = next(notice for notice in open_session.notices if isinstance(notice, Filled))
    assert filling.sum() == filled.experts > 0
    assert reads["bytes"][filling].sum() == filled.bytes
    assert (reads["outcome"][filling] == Outcome.HIT).all()
    assert reads["bytes"][~filling].sum() == tokens["demand_bytes"].sum()
    if session.loader.direct:
        assert by_kernel == filled.bytes + tokens["demand_bytes"].sum()


def test_a_damaged_record_is_told_and_the_others_stay(open_session: Open, store: Store, usage: Usage) -> None:
    worst = int(usage.counts.argmax())
    record = store.record(*divmod(worst, store.spec.experts), 4)
    damage(record.file, record.offset + 100)
    try:
        session = open_session(budget="50%")
        with pytest.raises(EngineError, match="is damaged"):
            warm(session, usage)
        assert worst not in residents(session, usage)
        assert session.buffer.resident_bytes == len(residents(session, usage)) * store.record_bytes(4)
    finally:
        damage(record.file, record.offset + 100)  # undoes itself
    assert generate(session) == generate(open_session(budget="100%", warm_start=False))


# --- what is remembered -------------------------------------------------------------------------------------------------


def test_uses_are_counted_by_tokens_and_remembered(open_session: Open, store: Store, tmp_path: Path) -> None:
    usage, session = Usage.open(store, tmp_path), open_session(budget="100%")
    session.emit = lambda notice: (open_session.notices.append(notice), usage.hear(notice))
    generate(session)
    rows = np.frombuffer(open_session.rows("accesses"), ACCESS)
    expected = np.zeros(usage.shape)
    np.add.at(expected, (rows["layer"], rows["expert"]), rows["tokens"])
    assert rows["tokens"].max() > 1, "the prefill weighs by its tokens"
    again = Usage.open(store, tmp_path)
    assert again.counts.tolist() == expected.reshape(-1).tolist()
    assert [again.counts[expert] for expert in again.order()] == sorted(again.counts[again.counts > 0], reverse=True)
    assert [path.name for path in usage.path.parent.iterdir()] == [f"{store.model_hash}.json"]


def test_what_is_long_past_fades(store: Store, tmp_path: Path) -> None:
    usage = Usage.open(store, tmp_path)
    old, new = np.zeros(1, ACCESS), np.zeros(1, ACCESS)
    old["tokens"] = new["tokens"] = MEMORY
    new["expert"] = 1
    for rows in (old, *[new] * 20):
        for _ in range(store.spec.layers):
            usage.hear(Batch({"accesses": rows.tobytes()}, []))
    assert usage.counts.sum() == pytest.approx(MEMORY * store.spec.layers)
    assert 0 <= usage.counts[0] < 1e-3 * usage.counts[1]


BROKEN = ("", "\0\1", "[]", '{"format": "edgemoe-usage"}', "foreign", "shape", "negative", "infinite")


@pytest.mark.parametrize("content", BROKEN, ids=lambda text: repr(text)[:12])
def test_a_file_that_is_no_use_is_left_out_with_one_line(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    fresh = Usage.open(store, tmp_path)
    counts = np.ones(fresh.shape).tolist()
    whole = {"format": "edgemoe-usage", "model_hash": store.model_hash, "counts": counts}
    changed = {"foreign": {"model_hash": "f00"}, "shape": {"counts": counts[1:]}, "negative": {"counts": (-np.ones(fresh.shape)).tolist()},
               "infinite": {"counts": [[1e999] * fresh.shape[1]] * fresh.shape[0]}}  # fmt: skip
    fresh.path.parent.mkdir(parents=True)
    fresh.path.write_text(json.dumps(whole | changed[content]) if content in changed else content)
    assert not Usage.open(store, tmp_path).counts.any()
    assert len(capsys.readouterr().err.splitlines()) == 1
    fresh.counts += 2
    fresh.save()
    assert Usage.open(store, tmp_path).counts.all() and not capsys.readouterr().err


def test_a_model_may_ship_counts_until_there_are_the_users_own(store: Store, tmp_path: Path) -> None:
    shipped = Usage(tmp_path / SHIPPED, store.model_hash, store.spec.layers, store.spec.experts)
    shipped.counts[3] = 7
    shipped.save()
    usage = Usage.open(store, tmp_path)
    assert usage.order() == [3] and usage.path != shipped.path
    usage.counts[5] = 9
    usage.save()
    assert Usage.open(store, tmp_path).order() == [5, 3]


def test_a_folder_that_cannot_be_written_costs_only_the_memory(store: Store, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    usage = Usage.open(store, tmp_path)
    usage.save()
    assert not usage.path.exists()
