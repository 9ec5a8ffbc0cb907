"""Which experts the routers of a model chose, request by request: what replays, predictors and policies are judged on.

T decoded tokens, S MoE layers, E experts a layer, k experts a token, R requests, P uses by prefills.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.errors import EngineError

NONE = -1
"""In ``experts``: nothing was chosen here. Some routers choose fewer than k."""
MOST_EXPERTS = np.iinfo(np.int16).max

SAMPLE_TOKENS, SAMPLE_USES = 100_000, 2_000_000
"""So many tokens, and uses by them, are enough to tell what a policy is worth (tests/benchmarks/simulate.py)."""

Experts = npt.NDArray[np.int16]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Uses = npt.NDArray[np.int32]


class Shape(NamedTuple):
    """``layers`` MoE layers of ``experts`` each; an expert's number is layer · experts + expert."""

    layers: int
    experts: int

    @property
    def total(self) -> int:
        return self.layers * self.experts


def no_uses() -> Uses:
    """Prefills of no request."""
    return np.empty((0, 4), np.int32)


@dataclass(frozen=True, eq=False)
class Routing:
    """Requests one after the other: each a prefill, where it was recorded, and then its decoded tokens.

    ``experts`` [T, S, k] are of decoding alone, numbered within their layer, in the router's order; ``NONE`` fills up. ``lengths`` [R]
    are the decoded tokens of each request, and sum to T. A prefill is one pass that uses a set of experts a layer: ``prefill`` [P, 4] holds
    request, layer, expert and how many of the prompt's tokens used it, by request and layer, in the order in which the router named them.
    ``weights`` [T, S, k] are gate weights, ``softmax`` [T, S, E] the routers' probabilities, where they were recorded.
    """

    experts: Experts
    lengths: Counts
    expert_count: int  # E
    prefill: Uses = field(default_factory=no_uses)
    weights: Floats | None = None
    softmax: Floats | None = None

    @property
    def shape(self) -> Shape:
        return Shape(self.layers, self.expert_count)

    @property
    def tokens(self) -> int:
        return len(self.experts)

    @property
    def layers(self) -> int:
        return int(self.experts.shape[1])

    @property
    def top_k(self) -> int:
        return int(self.experts.shape[2])

    @property
    def requests(self) -> int:
        return len(self.lengths)

    @property
    def widest(self) -> int:
        """The most experts of a layer that one pass may use: k, or more by a prefill."""
        _, sets = np.unique(self.prefill[:, 0].astype(np.int64) * self.layers + self.prefill[:, 1], return_counts=True)
        return max(self.top_k, int(sets.max(initial=0)))

    @property
    def starts(self) -> Counts:
        """Where each request's tokens begin, and last T: [R + 1]."""
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)

    def take(self, requests: npt.ArrayLike) -> Routing:
        """Some requests, by number, in that order."""
        picked = np.asarray(requests, np.int64).reshape(-1)
        starts = self.starts
        rows = np.concatenate([np.arange(starts[r], starts[r + 1]) for r in picked] or [np.empty(0, np.int64)])
        first, last = (np.searchsorted(self.prefill[:, 0], picked, side) for side in ("left", "right"))
        parts = [self.prefill[a:b].copy() for a, b in zip(first, last, strict=True)]
        for number, part in enumerate(parts):
            part[:, 0] = number
        return replace(
            self, experts=self.experts[rows], lengths=self.lengths[picked], prefill=np.concatenate(parts or [no_uses()]),
            weights=None if self.weights is None else self.weights[rows], softmax=None if self.softmax is None else self.softmax[rows],
        )  # fmt: skip

    def sample(self, tokens: int | None = None, seed: int = 0) -> Routing:
        """Whole requests drawn at random, of so many tokens at the most, in the order in which they stand; the beginning of one where that
        alone is longer. By default ``SAMPLE_TOKENS``, or fewer where these make more than ``SAMPLE_USES``."""
        most = min(SAMPLE_TOKENS, max(1, SAMPLE_USES // (self.layers * self.top_k))) if tokens is None else tokens
        if self.tokens <= most:
            return self
        order = np.random.default_rng(seed).permutation(self.requests)
        count = int(np.searchsorted(np.cumsum(self.lengths[order]), most, "right"))
        drawn = order[:count]
        return self.take(np.sort(drawn)) if self.lengths[drawn].any() else self.take(order[count])._head(most)

    def _head(self, tokens: int) -> Routing:
        """The beginning of the only request."""
        return replace(
            self, experts=self.experts[:tokens], lengths=np.array([tokens], np.int64),
            weights=None if self.weights is None else self.weights[:tokens],
            softmax=None if self.softmax is None else self.softmax[:tokens],
        )  # fmt: skip

    def split(self, share: float, seed: int = 0) -> tuple[Routing, Routing]:
        """About ``share`` of the requests, drawn at random, and the others; what is learned on one half is to be judged on the other."""
        order = np.random.default_rng(seed).permutation(self.requests)
        count = round(share * self.requests)
        return self.take(np.sort(order[:count])), self.take(np.sort(order[count:]))


def checked(
    source: str,
    experts: npt.NDArray[Any],
    lengths: npt.NDArray[Any],
    expert_count: int | None = None,
    prefill: npt.NDArray[Any] | None = None,
    weights: npt.NDArray[Any] | None = None,
    softmax: npt.NDArray[Any] | None = None,
) -> Routing:
    """A routing of arrays from outside, ``source`` naming where they are from. E is the highest expert named and one, unless it is told.

    Raises:
        EngineError: a shape, type or value that no routing has.
    """
    experts, lengths = _whole(source, "experts", experts, 3), _whole(source, "lengths", lengths, 1).astype(np.int64)
    uses = no_uses() if prefill is None else _whole(source, "prefill", prefill, 2)
    tokens, layers, top_k = experts.shape
    if not layers or not top_k:
        raise EngineError(f"{source}: experts is {list(experts.shape)}; record at least one layer and one expert a token")
    if (lengths < 0).any() or (lengths > tokens).any() or int(lengths.sum()) != tokens:
        raise EngineError(f"{source}: lengths sum to {int(lengths.sum()):,}, but experts holds {tokens:,} tokens; they must agree")
    if uses.shape[1] != 4:
        raise EngineError(f"{source}: prefill is {list(uses.shape)}; it must be [uses, 4]: request, layer, expert, tokens")
    named = max(_most(experts), _most(uses[:, 2])) + 1
    count = max(named, 1) if expert_count is None else expert_count
    if not named <= count <= MOST_EXPERTS:
        reason = f"it names expert {named - 1}" if named > count else f"at most {MOST_EXPERTS} are possible"
        raise EngineError(f"{source}: {count} experts a layer cannot be, {reason}; give another number with --experts")
    if experts.size and int(experts.min()) < NONE:
        raise EngineError(f"{source}: experts holds {int(experts.min())}; experts count from 0, and {NONE} stands for none")
    return Routing(
        _once(experts.astype(np.int16)), lengths, count, _checked_prefill(source, uses, (len(lengths), layers, count)),
        _floats(source, "weights", weights, (tokens, layers, top_k)), _floats(source, "softmax", softmax, (tokens, layers, count)),
    )  # fmt: skip


def _whole(source: str, name: str, array: npt.NDArray[Any], dimensions: int) -> npt.NDArray[Any]:
    if array.dtype.kind not in "iu":
        raise EngineError(f"{source}: {name} holds {array.dtype}; it must hold whole numbers")
    if array.ndim != dimensions:
        raise EngineError(f"{source}: {name} has {array.ndim} dimensions; it must have {dimensions}")
    return array


def _most(array: npt.NDArray[Any]) -> int:
    return int(array.max()) if array.size else NONE


def _floats(source: str, name: str, array: npt.NDArray[Any] | None, shape: tuple[int, ...]) -> Floats | None:
    if array is None:
        return None
    if array.dtype.kind != "f" or array.shape != shape:
        raise EngineError(f"{source}: {name} is {array.dtype} {list(array.shape)}; it must be floats {list(shape)}")
    return array.astype(np.float32, copy=False)


def _checked_prefill(source: str, uses: npt.NDArray[Any], sizes: tuple[int, int, int]) -> Uses:
    """Uses within bounds, by request and layer, each expert once."""
    for column, (name, size) in enumerate(zip(("request", "layer", "expert"), sizes, strict=True)):
        values = uses[:, column]
        wrong = values[(values < 0) | (values >= size)]
        if len(wrong):
            raise EngineError(f"{source}: prefill names {name} {wrong[0]} of {size}; they count from 0")
    if len(uses) and int(uses[:, 3].min()) < 1:
        raise EngineError(f"{source}: prefill has an expert used by {int(uses[:, 3].min())} tokens; leave out what was not used")
    rows = uses[np.lexsort((uses[:, 1], uses[:, 0]))].astype(np.int32)
    _, first = np.unique(rows[:, :3], axis=0, return_index=True)
    return rows[np.sort(first)]


def _once(experts: Experts) -> Experts:
    """An expert that a token names twice in a layer is used once, as the engine does."""
    for later in range(1, experts.shape[2]):
        for earlier in range(later):
            twice = (experts[..., later] == experts[..., earlier]) & (experts[..., later] != NONE)
            if twice.any():
                experts[..., later][twice] = NONE
    return experts
