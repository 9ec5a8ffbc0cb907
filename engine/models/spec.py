"""What the engine must know of a model's experts: how many, what shape, which tensors.

S MoE layers, E experts a layer, d hidden, ff expert width.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PartSpec:
    """One tensor of an expert: ``shape`` is [outputs, inputs] (whatever way the family holds it) or [n] for a bias.

    ``quantized`` tensors are stored at the width of the record, the others at 16 bits in every record.
    """

    name: str
    shape: tuple[int, ...]
    quantized: bool

    @property
    def values(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class ExpertSpec:
    """The experts of one model. A layer's index, here and everywhere, is its place among the MoE layers."""

    architecture: str  # e.g. "OlmoeForCausalLM"
    layers: int  # S
    layer_names: tuple[str, ...]  # module path of each experts module
    experts: int  # E
    top_k: int
    hidden: int  # d
    width: int  # ff
    parts: tuple[PartSpec, ...]  # in record order
    transposed: bool  # the family holds [inputs, outputs]; records are [outputs, inputs] all the same
    concatenated: bool  # gate and up rows lie one after the other, else interleaved
    gated: bool
    biased: bool

    @property
    def parameters(self) -> int:
        """Weights of one expert."""
        return sum(part.values for part in self.parts)
