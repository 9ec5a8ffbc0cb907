"""A bitwidth plan: the width of every expert, in a JSON file that people can read and compare.

S MoE layers, E experts a layer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.errors import EngineError
from engine.recording.output import whole_file

if TYPE_CHECKING:
    from engine.store import Store


class Subject(msgspec.Struct, frozen=True):
    """What a plan is a plan of: a model as it lies in a store. ``record_bytes`` is an expert's size by bits."""

    name: str
    model_hash: str
    quantizer: str
    layers: int
    experts: int
    record_bytes: dict[int, int]

    @classmethod
    def of(cls, store: Store) -> Subject:
        spec, sizes = store.spec, {bits: store.record_bytes(bits) for bits in store.widths}
        return cls(store.name, store.model_hash, store.quantizer, spec.layers, spec.experts, sizes)

    def bytes_of(self, bits: Sequence[int]) -> int:
        """What the experts of a plan take on storage."""
        return sum(self.record_bytes[width] * count for width, count in Counter(bits).items())


class Origin(msgspec.Struct, frozen=True):
    """How a plan came about: by which ``method``, to lose at most ``tolerance`` (0.02 is 2% of perplexity), on which ``texts`` (a hash),
    and what it was measured to lose there: the rise of perplexity with its 95% interval, and KL in nats a token."""

    method: str
    tolerance: float
    texts: str
    loss: float
    loss_ci: tuple[float, float]
    kl: float


class PlanFile(msgspec.Struct):
    """The file: ``layers`` holds S lists of E widths; ``model_hash`` and ``quantizer`` are the subject's. ``origin`` is None for one made
    by hand."""

    model_hash: str
    layers: list[list[int]]
    version: int = 1
    model: str = ""
    quantizer: str = ""
    bytes: int = 0
    origin: Origin | None = None


class Plan:
    """``bits`` by expert number, layer · E + expert."""

    def __init__(self, bits: list[int], origin: Origin | None = None) -> None:
        self.bits, self.origin = bits, origin

    @classmethod
    def read(cls, path: Path, subject: Subject) -> Plan:
        """Read a plan made for ``subject``.

        Raises:
            EngineError: no plan, another model's or quantizer's, or widths that the model is not stored at.
        """
        try:
            file = msgspec.json.decode(path.read_bytes(), type=PlanFile)
        except OSError as error:
            raise EngineError(f"The plan {path} cannot be read ({error.strerror}); choose another file") from None
        except (msgspec.DecodeError, ValueError) as error:
            raise EngineError(f"{path} is not a bitwidth plan ({error})") from None
        if file.model_hash != subject.model_hash or [len(layer) for layer in file.layers] != [subject.experts] * subject.layers:
            raise EngineError(f"The plan {path} was made for another model; make one for {subject.name}")
        if file.quantizer not in ("", subject.quantizer):
            raise EngineError(f"The plan {path} was made for experts quantized by {file.quantizer}, {subject.name} is by "
                              f"{subject.quantizer}; calibrate again")  # fmt: skip
        bits = [width for layer in file.layers for width in layer]
        missing = sorted(set(bits) - set(subject.record_bytes))
        if missing:
            raise EngineError(f"The plan {path} asks for {missing[0]} bits, which {subject.name} is not stored at; "
                              "convert it at that width")  # fmt: skip
        return cls(bits, file.origin)

    def write(self, path: Path, subject: Subject) -> None:
        """Write it for ``subject``, a line a layer, so that two plans can be compared line by line.

        Raises:
            EngineError: the file cannot be written.
        """
        each = subject.experts
        layers = [self.bits[first : first + each] for first in range(0, len(self.bits), each)]
        size = subject.bytes_of(self.bits)
        about = msgspec.to_builtins(PlanFile(subject.model_hash, [], 1, subject.name, subject.quantizer, size, self.origin))
        del about["layers"]
        head = json.dumps(about, indent=2).removesuffix("\n}")
        rows = ",\n".join(f"    {json.dumps(layer)}" for layer in layers)
        with whole_file(path) as file:
            file.write(f'{head},\n  "layers": [\n{rows}\n  ]\n}}\n'.encode())
