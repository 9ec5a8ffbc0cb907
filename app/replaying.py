"""What `simulate` is asked about: a routing, what its experts weigh, what computing and reading cost, and what is known before."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from app.demo import resolve_model
from engine.errors import EngineError
from engine.preload.learned import KINDS, load
from engine.preload.predictor import Learned
from engine.recording.recording import Recording
from engine.residency import DEFAULT
from engine.settings import parse_size
from engine.simulate.cost import Costs, assumed, calibrated
from engine.simulate.live import resident_before
from engine.simulate.replay import Records, Replay
from engine.simulate.routing import Routing
from engine.simulate.traces import is_session, open_session, read_routing, routing_of
from profiles.devices import load_devices

if TYPE_CHECKING:
    from engine.store import Store

_RECORD_BYTES = 1 << 20
_BITS = 4
_DEVICE = "nvme"


@dataclass(frozen=True)
class Subject:
    """``replay`` is of a sample of ``whole``, or the same. ``heard`` is the routing of other requests, ``listened`` the sample of it that
    policies learn from; ``predictors`` those that the model has. ``assumed``: nobody measured the costs. ``initial`` are the experts that a
    session began with; a sample begins with none.
    """

    replay: Replay
    whole: Replay
    heard: Routing | None
    listened: Routing | None
    predictors: dict[str, Learned]
    assumed: bool
    initial: npt.NDArray[np.int32]

    def plain(self) -> dict[str, Any]:
        routing, records = self.replay.routing, self.replay.records
        return {
            "tokens": routing.tokens, "requests": routing.requests, "sampled": self.replay is not self.whole,
            "tokens_of": self.whole.routing.tokens, "requests_of": self.whole.routing.requests,
            "layers": routing.layers, "experts": routing.expert_count, "top_k": routing.top_k, "default": DEFAULT,
            "full_bytes": records.full, "least_budget_bytes": records.least(routing.top_k),
            "cycle_bytes": records.cycle(routing.shape, routing.top_k), "assumed": self.assumed,
            "listened_tokens": self.listened.tokens if self.listened else 0, "initial_experts": len(self.initial),
            "costs": plain_costs(self.replay.costs),
        }  # fmt: skip


def plain_costs(costs: Costs) -> dict[str, Any]:
    """As JSON tells them."""
    return {
        "layer_ns": costs.layer_ns, "token_ns": costs.token_ns, "predict_ns": costs.predict_ns, "expert_ns": costs.expert_ns,
        "wake_ns": costs.wake_ns, "lanes": costs.lanes, "device": costs.device.name, "bandwidth": costs.device.bandwidth,
        "latency_s": costs.device.latency,
    }  # fmt: skip


def subject_of(args: argparse.Namespace) -> Subject:
    """What the options of `simulate` name.

    Raises:
        EngineError: a file or a name cannot be used, or they do not go together.
    """
    with ExitStack() as opened:
        recording, measured = sessions(args, opened)
        routing = routing_of(recording) if recording else read_routing(args.routing, args.experts)
        store = _store(args, routing) if args.model else None
        heard = _heard(args, routing) if args.train else None
        told = args.experts or (store.spec.experts if store else routing.expert_count if recording else None)
        routing, heard = _of_one_model(args, routing, heard, told)
        check_decoded(args.routing, routing)
        records = _records(args, routing, store, recording)
        costs = costs_of(args.device, records.bytes_by_bits, measured)
        whole = Replay(routing, records, costs)
        sample, listened = (r.sample(args.sample) if r and args.sample != 0 else r for r in (routing, heard))
        replay = whole if sample is routing else Replay(sample, records, costs)
        initial = resident_before(recording) if recording and replay is whole else np.empty(0, np.int32)
        return Subject(replay, whole, heard, listened, _predictors(args, store) if store else {}, measured is None, initial)


def sessions(args: argparse.Namespace, opened: ExitStack) -> tuple[Recording | None, Recording | None]:
    """The session that ``--routing`` is, and the one that tells costs, where there are any: that of ``--session``, or the same."""

    def session(path: Path) -> Recording:
        recording = open_session(path)
        opened.callback(recording.close)
        return recording

    recording = session(args.routing) if args.routing and is_session(args.routing) else None
    return recording, session(args.session) if args.session else recording


def check_named(option: str, name: str, known: Collection[str]) -> None:
    """Raises EngineError where there is none of that name."""
    if name not in known:
        raise EngineError(f"--{option} {name}: there is none of that name; choose from {', '.join(known)}")


def check_decoded(path: Path, routing: Routing) -> None:
    """Raises EngineError where there is nothing to replay."""
    if not routing.tokens:
        raise EngineError(f"{path} holds no decoded token; record requests of more than one new token")


def check_shape(path: Path, routing: Routing, store: Store, instead: str = "") -> None:
    """Raises EngineError where the routing of a file is of another model than the store's; ``instead`` says what else to do."""
    spec = store.spec
    if (spec.layers, spec.top_k) != (routing.layers, routing.top_k) or spec.experts < routing.expert_count:
        theirs, ours = _shape(routing, routing.expert_count), f"{spec.layers} layers of {spec.experts} experts, top {spec.top_k}"
        raise EngineError(f"{path} is of {theirs}, {store.name} of {ours}; give its own routing{instead}")


def _store(args: argparse.Namespace, routing: Routing) -> Store:
    from app.headless import open_store

    store = open_store(resolve_model(args.model))
    check_shape(args.routing, routing, store, ", or --record-bytes for --model")
    return store


def _heard(args: argparse.Namespace, routing: Routing) -> Routing:
    if args.train.exists() and args.routing.samefile(args.train):
        print("--train is --routing: what is learned is judged on the same requests", file=sys.stderr)
    return read_routing(args.train)


def _of_one_model(args: argparse.Namespace, routing: Routing, heard: Routing | None, told: int | None) -> tuple[Routing, Routing | None]:
    """Both with as many experts a layer as they were ``told`` to have, or as either names."""
    count = told or max(routing.expert_count, heard.expert_count if heard else 0)
    routing = replace(routing, expert_count=count)
    if heard is None:
        return routing, None
    if (heard.layers, heard.top_k) != (routing.layers, routing.top_k) or heard.expert_count > count:
        theirs, ours = _shape(heard, heard.expert_count), _shape(routing, count)
        raise EngineError(f"--train {args.train} is of another model: {theirs}, instead of {ours}; give requests of the same")
    return routing, replace(heard, expert_count=count)


def _shape(routing: Routing, experts: int) -> str:
    return f"{routing.layers} layers of {experts} experts, top {routing.top_k}"


def _records(args: argparse.Namespace, routing: Routing, store: Store | None, recording: Recording | None) -> Records:
    """What experts weigh: as the model stores them, or all the same."""
    from engine.bitwidth.plan import Plan, Subject

    if store is not None:
        sizes, name = {bits: store.record_bytes(bits) for bits in store.widths}, store.name
    elif recording is not None and recording.model is not None and not args.record_bytes:
        sizes, name = recording.model.record_bytes, recording.model.name
    else:
        size = parse_size(args.record_bytes, "--record-bytes") if args.record_bytes else _RECORD_BYTES
        if size < 1:
            raise EngineError(f"--record-bytes {args.record_bytes}: give a size such as 1MiB")
        bits = args.bits or _BITS
        return Records({bits: size}, np.full(routing.shape.total, bits))
    bits = args.bits or usual_bits(sizes, recording)
    if bits not in sizes:
        raise EngineError(f"--bits {bits}: {name} is stored at {', '.join(map(str, sorted(sizes)))} bits; choose one of these")
    widths = Plan.read(args.plan, Subject.of(store)).bits if args.plan and store else [bits] * routing.shape.total
    return Records({width: sizes[width] for width in sorted(set(widths))}, np.array(widths, np.int64))


def usual_bits(widths: Collection[int], recording: Recording | None) -> int:
    """The width that budgets in shares are of where none is named: the session's, or 4, or what is nearest of those there are."""
    usual = int(recording.effective.get("bits", _BITS)) if recording else _BITS
    return usual if usual in widths else min(widths, key=lambda width: abs(width - usual))


def costs_of(name: str | None, bytes_by_bits: dict[int, int], measured: Recording | None) -> Costs:
    """What computing and reading from the device of that name cost: as a session ``measured`` it, or assumed.

    Raises:
        EngineError: there is no such device, or nobody knows how fast it is.
    """
    devices = load_devices()
    if name is not None:
        check_named("device", name, devices)
    if measured is None:
        if name == "native":
            raise EngineError("--device native: how fast it is must be known; give a --session of this machine, or another device")
        return assumed(devices[name or _DEVICE], bytes_by_bits)
    seen = str(measured.effective.get("device", "native"))
    if seen not in devices:
        raise EngineError(f"The session imitates the device {seen}, which there is not here; give another session")
    if seen != "native" and name == "native":
        raise EngineError(f"--device native: the session imitates {seen}, so that it does not tell how fast this machine reads")
    costs = calibrated(measured, devices[seen])
    costs = replace(costs, expert_ns=assumed(costs.device, bytes_by_bits).expert_ns | costs.expert_ns)
    return costs if name in (None, seen) else costs.at(devices[name])


def _predictors(args: argparse.Namespace, store: Store) -> dict[str, Learned]:
    """Those asked for that the model has; where other requests are given they are learned from these instead."""
    if args.train:
        return {}
    asked, spec = args.predictor.split(","), store.spec
    folders = [store.path, resolve_model(args.model)]
    found = {name: load(name, folders, spec.layers, spec.experts, spec.top_k) for name in KINDS if name in asked}
    return {name: predictor for name, predictor in found.items() if predictor is not None}
