"""What a session predicts by, and how far it reads ahead: the settings, and what there is for the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import EngineError
from engine.preload.learned import KINDS, load
from engine.preload.predictor import GATE_REACH, LEARNED_REACH, Learned
from engine.settings import Value
from engine.store import Store

if TYPE_CHECKING:
    from engine.network import Network
    from engine.streaming import ExpertStream

class Foresight:
    """Tells the stream what to predict by. ``name`` says what that came to: "auto" as what it found."""

    name = "none"

    def __init__(self, store: Store, network: Network, stream: ExpertStream, folders: list[Path]) -> None:
        self._store, self._network, self._stream, self._folders = store, network, stream, folders
        self._learned: Learned | None = None  # the stream's, kept here

    def follow(self, values: dict[str, Value]) -> None:
        """Do as these settings say.

        Raises:
            EngineError: the predictor that they ask for is not to be had for this model.
        """
        asked = str(values["predictor"])
        self.check(asked)
        gate = asked in ("auto", "gate") and self._network.routers_reached
        learned = self._find(asked)
        self._stream.predict_by(gate, learned.handle if learned else None)
        self._learned = learned
        depth, width = str(values["preload_depth"]), str(values["preload_width"])
        reach = LEARNED_REACH if learned else GATE_REACH
        layers = reach if depth == "auto" else int(depth)
        records = reach * self._store.spec.top_k if width == "auto" else int(width)
        self._stream.look_ahead(layers, records, balanced="auto" in (depth, width))
        self.name = ", ".join([*(["gate"] if gate else []), *([learned.name] if learned else [])]) or "none"

    def check(self, name: str) -> None:
        """Raises EngineError where ``name`` is a predictor that this model does not have."""
        if name == "gate" and not self._network.routers_reached:
            raise EngineError(f"The routers of {self._store.spec.architecture} cannot be asked ahead; choose another predictor")
        if name in KINDS and self._find(name) is None:
            raise EngineError(f"{self._store.name} has no {name} predictor yet; make one with `train --predictor {name}`")

    def _find(self, name: str) -> Learned | None:
        spec = self._store.spec
        kinds = ("transition", "path") if name == "auto" else (name,) if name in KINDS else ()
        return next(filter(None, (load(kind, self._folders, spec.layers, spec.experts, spec.top_k) for kind in kinds)), None)
