"""How much a plan loses against the model at its highest width: perplexity and divergence over blocks of text, with their spread.

B blocks, W tokens a block, V vocabulary.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.bitwidth.dense import DenseExperts
from engine.errors import EngineError
from engine.models.skeleton import Skeleton

Floats = npt.NDArray[np.float64]
_NORMAL = 1.96  # standard deviations to either side that hold 95%
_AT_ONCE = 1 << 28  # bytes of logits


@dataclass(frozen=True)
class Loss:
    """By block, nats a token [B]: ``rise`` of the negative log likelihood over the reference's, ``divergence`` from it (KL), and the
    reference's own ``nll``."""

    rise: Floats
    divergence: Floats
    nll: Floats

    @property
    def perplexity(self) -> float:
        """Of the plan."""
        return math.exp(float((self.nll + self.rise).mean()))

    @property
    def share(self) -> float:
        """By how much perplexity is higher, as a share: 0.02 is 2%."""
        return math.expm1(float(self.rise.mean()))

    @property
    def share_range(self) -> tuple[float, float]:
        """Where ``share`` lies with 95% confidence, from the spread over blocks."""
        low, high = _interval(self.rise)
        return math.expm1(low), math.expm1(high)

    @property
    def kl(self) -> float:
        """Nats a token."""
        return float(self.divergence.mean())

    @property
    def kl_range(self) -> tuple[float, float]:
        return _interval(self.divergence)


def _room(file: IO[bytes], shape: tuple[int, int, int]) -> Any:
    """The file as an array of 16-bit numbers. Its room is taken at once: to run out of it while writing would end the process."""
    size = 2 * math.prod(shape)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, np.float16, "r+" if hasattr(os, "posix_fallocate") else "w+", shape=shape)
    except OSError as error:
        file.close()
        tokens = shape[0] * shape[1]
        raise EngineError(f"{tempfile.gettempdir()} has no room for the {size / 1e9:,.1f} GB that calibrating on {tokens:,} tokens takes "
                          f"({error.strerror}); free some, set TMPDIR, or calibrate on fewer tokens") from error  # fmt: skip


def _interval(values: Floats) -> tuple[float, float]:
    half = _NORMAL * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return float(values.mean()) - half, float(values.mean()) + half


class Yardstick:
    """Text and what the model at its highest width makes of it: ``measure`` holds a plan against that.

    The reference's distributions are kept in a temporary file, at 16 bits. ``step`` is told the blocks done, and may raise to stop.

    Raises:
        EngineError: there is no room for that file.
    """

    def __init__(self, skeleton: Skeleton, blocks: Tensor, experts: DenseExperts, step: Callable[[int], None] = lambda done: None) -> None:
        self._skeleton, self._blocks, self._step = skeleton, blocks, step
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - nameless: it goes with the process, however that ends
        self._kept = _room(self._file, (len(blocks), blocks.shape[1] - 1, skeleton.vocabulary))
        self.nll = np.zeros(len(blocks))
        self._run(experts, self._keep)

    def __len__(self) -> int:
        return len(self._blocks)

    def reference(self) -> Loss:
        """What the reference loses against itself: nothing, of this."""
        return Loss(np.zeros(len(self)), np.zeros(len(self)), self.nll)

    def measure(self, experts: DenseExperts) -> Loss:
        """What the plan of ``experts`` loses."""
        rise, divergence = np.zeros(len(self)), np.zeros(len(self))

        def compare(at: slice, logs: Tensor, targets: Tensor) -> None:
            for block in range(at.start, at.stop):
                mine, wanted = logs[block - at.start], torch.from_numpy(self._kept[block]).float()
                rise[block] = float(-mine.gather(1, targets[block - at.start]).double().mean()) - self.nll[block]
                divergence[block] = float((wanted.exp() * (wanted - mine)).sum(-1).double().mean())

        self._run(experts, compare)
        return Loss(rise, divergence, self.nll)

    def close(self) -> None:
        """Let go of the file."""
        self._kept = None
        self._file.close()

    def _keep(self, at: slice, logs: Tensor, targets: Tensor) -> None:
        self._kept[at] = logs.half().numpy()
        self.nll[at] = -logs.gather(2, targets).double().mean((1, 2)).numpy()

    @torch.inference_mode()
    def _run(self, experts: DenseExperts, take: Callable[[slice, Tensor, Tensor], None]) -> None:
        """All blocks through the model, some at a time: ``take`` gets log probabilities [b, W, V] and the tokens that came [b, W, 1]."""
        self._skeleton.bind(experts)
        many = max(1, _AT_ONCE // (4 * (self._blocks.shape[1] - 1) * self._skeleton.vocabulary))
        for first in range(0, len(self._blocks), many):
            at = slice(first, min(first + many, len(self._blocks)))
            ids = self._blocks[at]
            logs = self._skeleton.model(input_ids=ids[:, :-1], use_cache=False).logits.float().log_softmax(-1)
            take(at, logs, ids[:, 1:, None])
            self._step(at.stop)
