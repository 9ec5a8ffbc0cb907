"""What calibration has found out so far, kept in a file after every step, so that nothing is measured twice.

B blocks, N experts, W widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from engine.bitwidth.fidelity import Loss
from engine.bitwidth.sensitivity import Sensitivity
from engine.errors import EngineError
from engine.recording.output import whole_file
from engine.simulate.routing import Routing
from engine.simulate.traces import read_routing, write_routing
from engine.store import Store
from engine.store.catalog import cache_folder


class _Measured(msgspec.Struct):
    rise: list[float]
    divergence: list[float]


class _File(msgspec.Struct):
    """``losses`` of plans by side and plan; ``sensitivity`` [N, W] and ``uses`` [N] where they were estimated."""

    losses: dict[str, _Measured] = {}
    nll: dict[str, list[float]] = {}
    sensitivity: list[list[float]] = []
    uses: list[float] = []


class Notebook:
    """Of one model as quantized in one store, and one choice of text."""

    def __init__(self, store: Store, text_digest: str, folder: Path | None = None) -> None:
        name = xxhash.xxh3_64_hexdigest("|".join((store.model_hash, store.digest, text_digest)).encode())
        self._path = (folder or cache_folder() / "calibration") / f"{name}.json"
        self._routing = self._path.with_suffix(".npz")
        try:
            self._file = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except (OSError, msgspec.DecodeError):
            self._file = _File()  # none yet, or spoilt: it can be made anew

    def loss(self, side: str, plan: Sequence[int]) -> Loss | None:
        """What was measured of a plan on the text of a side ("learn" or "verify")."""
        found, nll = self._file.losses.get(_key(side, plan)), self._file.nll.get(side)
        return Loss(np.array(found.rise), np.array(found.divergence), np.array(nll)) if found and nll else None

    def keep_loss(self, side: str, plan: Sequence[int], loss: Loss) -> None:
        self._file.losses[_key(side, plan)] = _Measured(loss.rise.tolist(), loss.divergence.tolist())
        self._file.nll[side] = loss.nll.tolist()
        self._save()

    def sensitivity(self, store: Store) -> Sensitivity | None:
        if not self._file.sensitivity:
            return None
        found = Sensitivity(store)
        found.losses, found.uses = np.array(self._file.sensitivity), np.array(self._file.uses)
        return found

    def keep_sensitivity(self, found: Sensitivity) -> None:
        self._file.sensitivity, self._file.uses = found.losses.tolist(), found.uses.tolist()
        self._save()

    def routing(self) -> Routing | None:
        """What the routers chose on the text to learn from."""
        try:
            return read_routing(self._routing)
        except EngineError:
            return None  # none yet, or spoilt

    def keep_routing(self, found: Routing) -> None:
        self._make_folder()
        write_routing(found, self._routing)

    def _save(self) -> None:
        self._make_folder()
        with whole_file(self._path) as file:
            file.write(msgspec.json.encode(self._file))

    def _make_folder(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"{self._path.parent} cannot be made ({error.strerror}); results of calibration are kept there") from None


def _key(side: str, plan: Sequence[int]) -> str:
    return f"{side}:{xxhash.xxh3_64_hexdigest(bytes(plan))}"
