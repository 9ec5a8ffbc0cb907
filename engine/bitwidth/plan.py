"""A bitwidth plan: the width of every expert, in a JSON file that people can read.

S MoE layers, E experts a layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.store import Store


class PlanFile(msgspec.Struct):
    """The file: ``layers`` holds S lists of E widths; ``model_hash`` is the store's."""

    model_hash: str
    layers: list[list[int]]
    version: int = 1


class Plan:
    """``bits`` by expert number, layer · E + expert."""

    def __init__(self, bits: list[int]) -> None:
        self.bits = bits

    @classmethod
    def read(cls, path: Path, store: Store) -> Plan:
        """Read a plan made for ``store``'s model.

        Raises:
            EngineError: no plan, another model's, or widths that the store does not have.
        """
        try:
            file = msgspec.json.decode(path.read_bytes(), type=PlanFile)
        except OSError as error:
            raise EngineError(f"The plan {path} cannot be read ({error.strerror}); choose another file") from None
        except (msgspec.DecodeError, ValueError) as error:
            raise EngineError(f"{path} is not a bitwidth plan ({error})") from None
        spec = store.spec
        if file.model_hash != store.model_hash or [len(layer) for layer in file.layers] != [spec.experts] * spec.layers:
            raise EngineError(f"The plan {path} was made for another model; make one for {store.name}")
        bits = [width for layer in file.layers for width in layer]
        missing = sorted(set(bits) - set(store.widths))
        if missing:
            raise EngineError(f"The plan {path} asks for {missing[0]} bits, which {store.name} is not stored at; convert it at that width")
        return cls(bits)
