"""The paper's dictionary (path.h; arXiv 2308.14352, expert management): counted here, looked up natively. Saved as JSON to be read.

T tokens, S MoE layers, E experts a layer, k experts a token, R requests.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from ctypes import c_float, c_int32, c_void_p
from pathlib import Path as File

import msgspec
import numpy as np
import numpy.typing as npt

from engine.binding import bind
from engine.errors import EngineError
from engine.preload.predictor import About, Learned, Report
from engine.recording.output import whole_file

_FUNCTIONS = {
    "path_new": (c_void_p, (c_int32, c_int32, c_int32)),
    "path_copy": (c_void_p, (c_void_p,)),
    "path_predictor": (c_void_p, (c_void_p,)),
    "path_add": (None, (c_void_p, c_int32, c_int32, c_void_p, c_int32, c_float, c_void_p, c_void_p, c_int32)),
}
MOST_KEYS = 20_000
"""Of two layers, and of one, that are kept for each layer: those seen most. What was seen once says little that shorter keys do not."""
_MOST_BYTES = 512 << 20
_LEVELS = ("two", "one", "single", "always")

Table = dict[str, dict[int, int]]
"""By key, such as "3 17 | 4 9" (two layers, the nearer last), "4 9", "4" or "": how often each expert followed, and under -1 how often the
key was seen."""


class _Layer(msgspec.Struct):
    two: Table
    one: Table
    single: Table
    always: Table


class _Saved(msgspec.Struct):
    about: About
    layers: list[_Layer]


class Path(Learned):
    """``train`` it, or ``load`` it."""

    name = "path"
    file = "predictor-path.json"

    def __init__(self, layers: int, experts: int, top_k: int) -> None:
        self._native = bind(_FUNCTIONS)
        own = self._native.path_new(layers, experts, top_k)
        super().__init__(layers, experts, top_k, self._native.path_predictor(own))
        self._own = own
        self.layers: list[_Layer] = []

    def train(self, experts: npt.NDArray[np.int16], lengths: npt.NDArray[np.int64], report: Report = lambda share: True) -> bool:
        """See ``Learned``."""
        layers = self.shape[0]
        for layer in range(layers):
            self.layers.append(_counted(experts, lengths, layer))
            if not report((layer + 1) / layers):
                return False
        self._tell()
        return True

    def _copied(self) -> int:
        return int(self._native.path_predictor(self._native.path_copy(self._own)))

    def save(self, path: File, about: About) -> None:
        with whole_file(path) as file:
            file.write(msgspec.json.encode(_Saved(about, self.layers)).replace(b'},"', b'},\n"') + b"\n")  # a line for each key

    @classmethod
    def load(cls, path: File, layers: int, experts: int, top_k: int) -> Path:
        """Read what ``save`` wrote.

        Raises:
            EngineError: it is damaged, of another version, or for a model of another shape.
        """
        made = cls(layers, experts, top_k)
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("it is too large")
            saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
            if saved.about.predictor != cls.name or not saved.about.fits(*made.shape) or len(saved.layers) != layers:
                raise ValueError(f"it is not for {layers} layers of {experts} experts, top {top_k}, or of another version")
            made.layers = saved.layers
            made._tell()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise EngineError(f"{path} is no dictionary of paths that can be used ({error}); train it again with `train`") from None
        return made

    def _tell(self) -> None:
        """Give all counts to the native dictionary."""
        for layer, tables in enumerate(self.layers):
            for level, name in enumerate(_LEVELS):
                for key, followed in getattr(tables, name).items():
                    numbers = np.array(key.replace("|", " ").split(), np.int32)
                    seen = followed.get(-1, 0)
                    counts = {e: count for e, count in followed.items() if e != -1}
                    if not all(0 <= e < self.shape[1] and 0 <= count <= seen for e, count in counts.items()):
                        raise ValueError(f"after {key!r} layer {layer} cannot have chosen {counts}")
                    chosen, often = np.array(list(counts), np.int32), np.array(list(counts.values()), np.float32)
                    self._native.path_add(
                        self._own, level, layer, numbers.ctypes.data, len(numbers), seen, chosen.ctypes.data, often.ctypes.data, len(counts)
                    )


def _counted(experts: npt.NDArray[np.int16], lengths: npt.NDArray[np.int64], layer: int) -> _Layer:
    """The tables of one layer. The layers before the first are the last ones of the token before, in the same request."""
    two, one, single = (defaultdict[str, Counter[int]](Counter) for _ in range(3))
    always: Counter[int] = Counter()
    nearer, further = _before(experts, layer, 1), _before(experts, layer, 2)
    first = np.zeros(len(experts), bool)
    first[np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(int)] = True
    for t, chosen in enumerate(np.sort(experts[:, layer], axis=1).tolist()):
        followed = [*(e for e in chosen if e >= 0), -1]
        always.update(followed)
        if first[t] and layer < 1:
            continue
        near = sorted(nearer[t].tolist())
        if near[0] < 0:
            continue
        for e in near:
            single[str(e)].update(followed)
        one[_key(near)].update(followed)
        if not (first[t] and layer < 2) and (far := sorted(further[t].tolist()))[0] >= 0:
            two[f"{_key(far)} | {_key(near)}"].update(followed)
    return _Layer(_kept(two), _kept(one), {key: dict(counts) for key, counts in single.items()}, {"": dict(always)})


def _before(experts: npt.NDArray[np.int16], layer: int, steps: int) -> npt.NDArray[np.int16]:
    """What the layer ``steps`` before chose, [T, k]."""
    if layer >= steps:
        return experts[:, layer - steps]
    return np.concatenate([np.full_like(experts[:1, 0], -1), experts[:-1, (layer - steps) % experts.shape[1]]])


def _key(experts: list[int]) -> str:
    return " ".join(map(str, experts))


def _kept(table: dict[str, Counter[int]]) -> Table:
    often = sorted((key for key, counts in table.items() if counts[-1] > 1), key=lambda key: (-table[key][-1], key))
    return {key: dict(table[key]) for key in often[:MOST_KEYS]}
