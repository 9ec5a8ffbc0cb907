"""The invariants of the token loop: residency never changes the output, the budget is a ceiling, the account is true."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import EngineError
from engine.events import ACCESS, RESIDENCY, SPAN, TOKEN, Applied, Outcome, Residency, SpanKind
from engine.monitor import kernel_read_bytes
from engine.residency import POLICIES
from engine.session import Session
from engine.store import Store, convert

from .conftest import PROMPT, Open, damage, generate


def test_output_never_depends_on_residency(open_session: Open) -> None:
    wanted = generate(open_session(budget="100%"))
    assert len(set(wanted)) > 3, "a model that repeats one token would prove little"
    for policy in POLICIES:
        for budget in ("25%", "50%"):
            for device, threads in (("native", 4), ("slow", 1)):
                assert generate(open_session(budget=budget, eviction=policy, device=device, io_threads=threads)) == wanted


@pytest.mark.parametrize("bits", [2, 4])
def test_output_of_experts_with_outliers_never_depends_on_residency(bits: int, store: Store, tmp_path: Path, open_session: Open) -> None:
    plain = generate(open_session(bits=bits, budget="100%"))
    open_session.store = convert(store.path.parent / "model", tmp_path / "store", (bits,), "group64+outliers")
    wanted = generate(open_session(bits=bits, budget="100%"))
    assert wanted != plain, "what is kept apart takes part"
    for budget, device, threads in (("least", "native", 4), ("25%", "slow", 1), ("50%", "native", 2)):
        assert generate(open_session(bits=bits, budget=budget, device=device, io_threads=threads)) == wanted


@pytest.mark.parametrize("predictor", ["none", "gate"])
def test_hits_and_evictions_do_not_depend_on_timing(predictor: str, store: Store) -> None:
    """Who is resident does not even where experts are read ahead; whether these come in time does."""
    accounts = []
    for device, threads in (("native", 4), ("slow", 1), ("slow", 2)):
        opener = Open(store)
        session = opener(budget="40%", device=device, io_threads=threads, predictor=predictor, preload_depth="2", preload_width="3")
        generate(session)
        session.close()
        accesses = np.frombuffer(opener.rows("accesses"), ACCESS).copy()
        if predictor != "none":
            assert (accesses["outcome"] == Outcome.PRELOADED).any() or (accesses["outcome"] == Outcome.LATE).any()
            accesses["outcome"][accesses["outcome"] != Outcome.HIT] = Outcome.CAPACITY
        accounts.append(accesses[["token", "layer", "expert", "outcome"]].tolist())
    assert accounts[0] == accounts[1] == accounts[2]


def test_the_budget_is_a_ceiling_also_while_resized(open_session: Open, store: Store) -> None:
    wanted = generate(open_session(budget="100%"))
    session, dice = open_session(budget="50%"), random.Random(1)

    def resize(session: Session, token: int) -> None:
        if token % 3 == 2:
            session.change("budget", f"{dice.choice([15, 30, 60, 100])}%")
            assert session.buffer.resident_bytes <= session.budget.granted

    assert generate(session, resize) == wanted
    assert session.buffer.evictions > 20
    assert session.buffer.most_over <= 0, "held bytes or committed memory passed the budget at some instant"


def test_a_budget_below_one_layers_need_is_refused_with_the_smallest(open_session: Open, store: Store) -> None:
    with pytest.raises(EngineError, match=r"smallest that works is \d+KiB") as refused:
        open_session(budget="4096")
    smallest = str(refused.value).rpartition(" ")[2]
    session = open_session(budget=smallest)
    assert store.record_bytes(16) > store.record_bytes(4)
    assert generate(session) == generate(open_session(budget="100%"))
    with pytest.raises(EngineError, match="smallest"):
        session.change("bits", 16)
    assert session.values["bits"] == 4


def test_widths_switch_while_running(open_session: Open) -> None:
    session = open_session(budget="100%")

    def switch(session: Session, token: int) -> None:
        if token == 8:
            session.change("bits", 8)
            session.stream.resize(session.budget.granted // 4)
            session.stream.resize(session.budget.granted)

    generate(session, switch)
    assert session.buffer.by_bits()[4] and session.buffer.by_bits()[8], "the buffer holds mixed widths"
    changes = [n for n in open_session.notices if isinstance(n, Applied)]
    assert [(c.name, c.old, c.new, c.token) for c in changes] == [("bits", 4, 8, 8)]


def test_the_account_is_true(open_session: Open) -> None:
    session = open_session(budget="25%", predictor="none")
    before = kernel_read_bytes()
    generate(session)
    by_kernel = kernel_read_bytes() - before
    tokens = np.frombuffer(open_session.rows("tokens"), TOKEN)
    accesses = np.frombuffer(open_session.rows("accesses"), ACCESS)
    spans = np.frombuffer(open_session.rows("spans"), SPAN)
    states = np.frombuffer(open_session.rows("residency"), RESIDENCY)
    assert len(tokens) == 24
    parts = sum(tokens[name] for name in ("attention", "router", "compute", "stall", "head", "sampling", "framework"))
    assert (parts == tokens["duration"]).all()
    assert (tokens["framework"] >= 0).all()
    reads = spans[spans["kind"] == SpanKind.READ]
    misses = tokens["first_touch"].sum() + tokens["capacity"].sum()
    assert misses == len(reads) == (states["state"] == Residency.LOADING).sum() > 0
    assert tokens["hits"].sum() + misses == len(accesses)
    assert tokens["demand_bytes"].sum() == reads["bytes"].sum()
    assert (tokens["tokens"][0], tokens["phase"][0]) == (PROMPT.shape[1], 0)
    if session.loader.direct:
        assert by_kernel == pytest.approx(reads["bytes"].sum(), rel=0.02)
    loading = (states["state"] == Residency.LOADING).sum() - (states["state"] == Residency.ABSENT).sum()
    assert loading * session.store.record_bytes(4) == session.buffer.resident_bytes


def test_evictions_tell_who_came_and_who_was_next(open_session: Open) -> None:
    session = open_session(budget="25%", predictor="none", eviction="lru")
    generate(session)
    states = np.frombuffer(open_session.rows("residency"), RESIDENCY)
    experts = session.store.spec.experts
    evicted = np.flatnonzero(states["state"] == Residency.ABSENT)
    assert len(evicted) and (states["newcomer"][evicted] > 0).all()
    assert not states["newcomer"][states["state"] != Residency.ABSENT].any()
    for row in evicted:
        loads = states[row:][states["state"][row:] == Residency.LOADING]
        assert divmod(int(states["newcomer"][row]) - 1, experts) == (loads["layer"][0], loads["expert"][0])
        assert not states["runner_up"][row] > states["score"][row]
    assert (states["runner_up"][evicted] < 0).any()


def test_a_damaged_record_is_named_and_the_session_goes_on(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store.path, copy)
    opener = Open(Store.open(copy))
    session = opener(budget="100%")
    wanted = generate(session)
    session.buffer.clear()
    record = session.store.record(1, 3, 4)
    damage(record.file, record.offset)
    with pytest.raises(EngineError, match="Expert 3 of layer 1 at 4 bits is damaged"):
        generate(session)
    assert session.request is None
    damage(record.file, record.offset)
    assert generate(session) == wanted
    session.close()


def test_unusable_requests_are_refused(open_session: Open) -> None:
    session = open_session()
    with pytest.raises(EngineError, match="empty"):
        session.begin_ids(PROMPT[:, :0])
    with pytest.raises(EngineError, match="shorten"):
        session.begin_ids(PROMPT.repeat(1, 1000))
    with pytest.raises(EngineError, match="no setting"):
        session.change("nonsense", 1)
    with pytest.raises(EngineError, match="not known"):
        session.change("device", "floppy")
    with pytest.raises(EngineError, match="outside"):
        session.change("top_p", 3)


def test_the_same_seed_gives_the_same_draw(open_session: Open) -> None:
    draws = [generate(open_session(temperature=1.0, seed=seed)) for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted as Linux names them")
def test_threads_are_set_at_the_start_and_the_io_threads_end_with_the_session(open_session: Open) -> None:
    def io_threads() -> int:
        return sum(task.read_text() == "expert-io\n" for task in Path("/proc/self/task").glob("*/comm"))

    before = io_threads()
    session = open_session(compute_threads=2, io_threads=3)
    assert (torch.get_num_threads(), io_threads() - before) == (2, 3)
    session.change("compute_threads", 1)
    session.change("io_threads", 1)
    assert (torch.get_num_threads(), io_threads() - before) == (1, 1)
    assert session.effective()["compute_threads"] == session.effective()["io_threads"] == 1
    session.close()
    assert io_threads() == before
