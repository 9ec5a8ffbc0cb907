"""Codecs: quantize, pack, unpack, scales. ``codec_named`` finds one by the name that a store carries."""

from __future__ import annotations

from engine.errors import EngineError
from engine.quant.codec import Channel, Codec
from engine.quant.feedback import Feedback
from engine.quant.group import Group
from engine.quant.inputs import Inputs
from engine.quant.matrix import ExpertWeights, Matrix

DEFAULT = "group64"
_APART = 0.002  # of the weights; ``main.py convert --quantizer`` takes these by name
CODECS: dict[str, Codec] = {
    codec.name: codec for codec in (Channel(), Group(32), Group(64), Group(128), Feedback(64), Group(64, _APART), Feedback(64, _APART))
}


def codec_named(name: str) -> Codec:
    """The codec of that name; "default" is the one that measured best (tests/benchmarks/quantizers.py).

    Raises:
        EngineError: there is none of that name.
    """
    try:
        return CODECS[DEFAULT if name == "default" else name]
    except KeyError:
        raise EngineError(f"Quantizer {name!r} is not known; choose one of {', '.join(CODECS)}") from None


__all__ = ["CODECS", "DEFAULT", "Codec", "ExpertWeights", "Feedback", "Inputs", "Matrix", "codec_named"]
