"""Native decoding: the tokens and logits of transformers' own models, whatever the residency, and an account without holes.

EXACT is what logits (of up to 7) may differ by from transformers' in float32: measured against float64, the native ones are the nearer.
AGREE is how far a token's logits move with the instruction set, as a share of their norm, median over tokens, by the width of experts:
rounding, and what it makes of an activation's code that it tips over. NARROW is the same for non-expert layers at 8 and 4 bits.

T prompt tokens, V token ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.bitwidth.plan import PlanFile
from engine.events import ACCESS, MISSES, SPAN, TOKEN, Batch, SpanKind
from engine.residency import POLICIES
from engine.session import Session
from engine.store import Store, convert
from tests.models.cases import LEAN, REFUSED, VARIANTS
from tests.models.families import save_random
from tests.models.pair import PROMPT, Pair, load_pair

from . import exact

EXACT = dict(atol=1e-4, rtol=0.0)
NARROW = {8: 0.025, 4: 0.35}
AGREE = {2: 0.05, 3: 0.05, 4: 0.05, 8: 5e-3, 16: 5e-4}
NEW_TOKENS = 32
WIDE = dict(hidden_size=128, moe_intermediate_size=192, shared_expert_intermediate_size=64, num_experts_per_tok=3, mlp_only_layers=[1])
CASES = [(family, {}) for family in sorted(LEAN)] + VARIANTS


class Told:
    """The tokens of one request, and the logits [tokens, V] they were chosen from."""

    def __init__(self, session: Session, prompt: Tensor = PROMPT, between: Callable[[Session, int], None] | None = None) -> None:
        request, rows = session.begin_ids(prompt[None]), []
        choose = session._sampler.choose

        def watched(ids: Any, logits: Any) -> tuple[int, float]:
            rows.append(torch.from_numpy(logits.copy()))  # the decoder's are overwritten by the next token's
            return choose(ids, logits)

        session._sampler.choose = watched  # type: ignore[method-assign]
        while session.request is not None:
            if between:
                between(session, request.generated)
            session.step()
        self.tokens: list[int] = request.ids[0, len(prompt) :].tolist()
        self.logits = torch.stack(rows)


class Open:
    """Makes sessions of a store with all experts resident unless said otherwise, and closes them at the end."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []

    def __call__(self, store: Store, **values: Any) -> Session:
        more = {name: values.pop(name) for name in ("emit", "recording") if name in values}
        least = values.get("budget") == "least"
        values = {"temperature": 0.0, "ignore_eos": True, "max_tokens": NEW_TOKENS, "dtype": "float32", "budget": "100%"} | values
        session = Session(store, values | ({"budget": "100%"} if least else {}), **more)
        self.sessions.append(session)
        if least:
            session.change("budget", str(session.budget.least))
        return session


def moved(logits: Tensor, wanted: Tensor) -> float:
    """How far a token's logits are from the wanted [T, V], as a share of their norm: the median over tokens."""
    return float(((logits - wanted).norm(dim=1) / wanted.norm(dim=1)).median())


@pytest.fixture
def open_session() -> Iterator[Open]:
    opener = Open()
    yield opener
    for session in opener.sessions:
        session.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Shared experts, a dense layer, and matrices large enough for threads to share; all widths."""
    folder = tmp_path_factory.mktemp("wide")
    save_random("Qwen2Moe", folder / "model", shape=WIDE, uneven=True)
    return convert(folder / "model", folder / "store", widths=(2, 3, 4, 8, 16))


# --- against transformers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "shape"), CASES, ids=["-".join((family, *shape)) for family, shape in CASES])
def test_tokens_and_logits_are_those_of_transformers(
    family: str, shape: dict[str, Any], pair_of: Callable[..., Pair], open_session: Open
) -> None:
    pair = pair_of(family, shape)
    tokens, wanted = pair.continuation(NEW_TOKENS)
    session = open_session(pair.store, bits=16)
    assert session.info().decode == "native"
    told = Told(session)
    assert told.tokens == tokens
    torch.testing.assert_close(told.logits, wanted[len(PROMPT) - 1 : -1], **EXACT)
    assert torch.equal(Told(open_session(pair.store, bits=16, budget="least")).logits, told.logits)


@pytest.mark.parametrize(("family", "shape", "reason"), REFUSED, ids=[f"{family}-{reason}" for family, _, reason in REFUSED])
def test_what_cannot_be_described_is_decoded_by_transformers(
    family: str, shape: dict[str, Any], reason: str, tmp_path: Path, open_session: Open
) -> None:
    pair = load_pair(family, tmp_path, shape)
    session = open_session(pair.store, bits=16, max_tokens=8)
    assert session.info().decode == "transformers" and session.info().kernel == exact.instruction_sets()[0]
    if reason in ("chunked_attention", "part of each head"):  # which transformers itself cannot run
        return
    tokens, _ = pair.continuation(8)
    assert Told(session).tokens == tokens


@pytest.mark.parametrize("window", [1, 2, 5, 12, 13, 30, 60])
@pytest.mark.parametrize("length", [1, 5, 12])
def test_windows_of_all_lengths(window: int, length: int, pair_of: Callable[..., Pair], open_session: Open) -> None:
    """Shorter than the prompt, as long, longer, and longer than all there is; transformers' cache forgets, ours looks away."""
    pair = pair_of("Qwen3Moe", dict(use_sliding_window=True, sliding_window=window))
    told = Told(open_session(pair.store, bits=16), PROMPT[:length])
    with torch.no_grad():
        wanted = pair.reference(torch.cat((PROMPT[:length], torch.tensor(told.tokens)))[None], use_cache=False).logits[0, length - 1 : -1]
    torch.testing.assert_close(told.logits, wanted, **EXACT)


def plan_of(store: Store, folder: Path, *widths: int) -> str:
    """A plan that gives experts these widths in turn."""
    spec = store.spec
    layers = [[widths[(layer + e) % len(widths)] for e in range(spec.experts)] for layer in range(spec.layers)]
    path = folder / "plan.json"
    path.write_bytes(msgspec.json.encode(PlanFile(store.model_hash, layers)))
    return str(path)


# --- whatever the residency -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(2,), (3,), (4,), (8,), (16,), (2, 3, 4, 8, 16)], ids=str)
def test_no_bit_of_the_logits_depends_on_residency_or_threads(
    widths: tuple[int, ...], store: Store, open_session: Open, tmp_path: Path
) -> None:
    plan = plan_of(store, tmp_path, *widths)
    wanted = Told(open_session(store, plan=plan, compute_threads=1))
    assert len(set(wanted.tokens)) > 3, "a model that repeats one token would prove little"
    for number, policy in enumerate(POLICIES):
        budget, threads = ("least", "60%", "80%")[number % 3], 1 + number % 3
        values = dict(eviction=policy, budget=budget, io_threads=1 + number % 4, compute_threads=threads)
        assert torch.equal(Told(open_session(store, plan=plan, **values)).logits, wanted.logits), values


def test_requests_do_not_see_each_other(store: Store, open_session: Open) -> None:
    """A longer one after a shorter, a shorter after a longer, and one left half-way."""
    short, long = PROMPT[:4], PROMPT.repeat(5)
    alone = [Told(open_session(store), prompt).logits for prompt in (short, long)]
    session = open_session(store, budget="30%")
    for prompt, wanted in ((long, alone[1]), (short, alone[0]), (long, alone[1])):
        assert torch.equal(Told(session, prompt).logits, wanted)
        session.begin_ids(PROMPT[None])
        for _ in range(3):
            session.step()


def test_settings_change_between_tokens(store: Store, open_session: Open) -> None:
    wanted = Told(open_session(store)).logits
    budgets = ("least", "100%", "30%", "100%")

    def turn(session: Session, token: int) -> None:
        if token % 3 == 1:
            session.change("compute_threads", 1 + token % 4)
        if token % 4 == 2:
            budget = budgets[token // 4 % 4]
            session.change("budget", str(session.budget.least) if budget == "least" else budget)

    assert torch.equal(Told(open_session(store), between=turn).logits, wanted)

    def widen(session: Session, token: int) -> None:
        if token == 10:
            session.change("bits", 16)
            session.buffer.clear()

    widened = Told(open_session(store, compute_threads=2), between=widen)
    assert torch.equal(widened.logits[:10], wanted[:10])
    kept = Told(open_session(store, budget="100%"), between=widen)
    assert torch.equal(widened.logits, kept.logits) and not torch.equal(kept.logits[10], wanted[10])


# --- the account ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["100%", "least", "50%"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_decoded_tokens_spans_leave_no_hole(budget: str, threads: int, store: Store, open_session: Open) -> None:
    batches: list[Any] = []
    session = open_session(store, budget=budget, compute_threads=threads, emit=batches.append)
    wanted = Told(session)
    tokens, spans, accesses = (
        np.frombuffer(b"".join(b.tables.get(name, b"") for b in batches if isinstance(b, Batch)), dtype)
        for name, dtype in (("tokens", TOKEN), ("spans", SPAN), ("accesses", ACCESS))
    )
    assert len(tokens) == NEW_TOKENS
    for number in range(1, NEW_TOKENS):
        row, own = tokens[number], spans[(spans["token"] == number) & (spans["lane"] == 0)]
        ends = own["start"] + own["duration"]
        assert (own["duration"] >= 0).all() and (own["start"][1:] == ends[:-1]).all()
        assert own["start"][0] == row["start"] and ends[-1] == row["start"] + row["duration"]
        by_kind = {kind: int(own["duration"][own["kind"] == kind].sum()) for kind in SpanKind}
        assert row["attention"] == by_kind[SpanKind.ATTENTION] + by_kind[SpanKind.SHARED]
        assert [row[name] for name in ("router", "compute", "stall", "head", "sampling")] == [
            by_kind[kind] for kind in (SpanKind.ROUTER, SpanKind.EXPERT, SpanKind.STALL, SpanKind.HEAD, SpanKind.SAMPLE)
        ]
        assert by_kind[SpanKind.SHARED] > 0 and row["framework"] >= 0
        used = accesses[accesses["token"] == number]
        assert len(used) == 3 * store.spec.layers == (own["kind"] == SpanKind.EXPERT).sum()
        assert set(used["rank"]) == {0, 1, 2} and (used["phase"] == 1).all() and (used["bits"] == 4).all()
        assert row["hits"] + sum(row[name] for name in MISSES) == len(used)
    assert torch.equal(Told(open_session(store, budget=budget, compute_threads=threads, recording=False)).logits, wanted.logits)


# --- other widths and instruction sets --------------------------------------------------------------------------------


def test_non_expert_layers_of_fewer_bits_say_nearly_the_same(open_session: Open, tmp_path: Path) -> None:
    """On weights of a trained model's size: those of the other tests make attention all or nothing, and choices of experts close."""
    save_random("Qwen2Moe", tmp_path / "model", shape=WIDE, uneven=True)
    file = tmp_path / "model" / "model.safetensors"
    save_file({name: t * 0.25 if t.dim() > 1 else t for name, t in load_file(file).items()}, file, {"format": "pt"})
    store, ids = convert(tmp_path / "model", tmp_path / "store", widths=(16,)), torch.cat((PROMPT, PROMPT.flip(0)))
    wanted = open_session(store, bits=16).logits(ids[None], len(ids)).double()
    for bits, loss in NARROW.items():
        session = open_session(store, bits=16, skeleton_bits=str(bits))
        assert session.effective()["skeleton_bits"] == bits
        assert loss / 4 < moved(session.logits(ids[None], len(ids)), wanted) < loss
        decoded = Told(session)
        again = torch.cat((PROMPT, torch.tensor(decoded.tokens)))[None]
        torch.testing.assert_close(decoded.logits[:-1], session.logits(again, NEW_TOKENS + 1)[:-2], atol=0.05, rtol=0.0)


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_instruction_sets_agree(bits: int, store: Store, open_session: Open, tmp_path: Path) -> None:
    results, plan = [], plan_of(store, tmp_path, bits)
    for kernels, name in (("auto", exact.instruction_sets()[0]), ("portable C++", "portable C++"), ("torch", "torch")):
        session = open_session(store, plan=plan, kernels=kernels)
        assert session.info().kernel == name
        results.append(Told(session))
    first, *others, torchs = results
    for other in others:
        assert other.tokens == first.tokens
        assert moved(other.logits, first.logits) < AGREE[bits]
    assert bits < 8 or torchs.tokens == first.tokens
