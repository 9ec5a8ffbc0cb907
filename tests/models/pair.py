"""One tiny random model twice: as our store and skeleton, and as transformers' own, to hold one against the other.

T tokens, d hidden, ff expert width, V token ids.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.models.describe import describe
from engine.models.lean import Lean
from engine.models.skeleton import Skeleton, load_skeleton
from engine.store import Store, convert

from .families import model_of, save_random
from .provider import DirectRuntime

PROMPT = torch.tensor([5, 9, 33, 3, 17, 60, 41, 8, 12, 25, 6, 50])  # [T]


@dataclass(frozen=True)
class Pair:
    """A family's model in float32; the skeleton's experts come from the store at 16 bits, which holds them exactly."""

    store: Store
    skeleton: Skeleton
    runtime: DirectRuntime
    reference: Any
    _said: dict[int, tuple[list[int], Tensor]] = field(default_factory=dict)

    @property
    def lean(self) -> Lean:
        """The description, which must be one."""
        found = describe(self.skeleton)
        assert isinstance(found, Lean), found
        return found

    def expert(self, layer: int, expert: int) -> tuple[Tensor, Tensor]:
        """Gate and up rows [2·ff, d] and down rows [d, ff] of an expert, in float32."""
        weights = self.runtime.load(layer, expert)
        assert weights.up_bias is None and weights.down_bias is None
        return weights.up.dense(torch.float32), weights.down.dense(torch.float32)

    def continuation(self, tokens: int) -> tuple[list[int], Tensor]:
        """What the reference says greedily after PROMPT, and its logits [T + tokens, V] along the way, the last token's included."""
        if tokens not in self._said:
            self.reference.generation_config.eos_token_id = None
            with torch.no_grad():
                ids = self.reference.generate(PROMPT[None], max_new_tokens=tokens, do_sample=False)
                self._said[tokens] = ids[0, len(PROMPT) :].tolist(), self.reference(ids).logits[0]
        return self._said[tokens]


def load_pair(family: str, folder: Path, shape: dict[str, Any] | None = None, widths: tuple[int, ...] = (16,)) -> Pair:
    """A random model of ``family`` with ``shape`` over its tiny configuration; its store holds ``widths``, 16 among them."""
    save_random(family, folder / "model", shape=shape, uneven=True)
    reference = model_of(family).from_pretrained(
        folder / "model", dtype=torch.float32, experts_implementation="eager", attn_implementation="eager"
    )
    store = convert(folder / "model", folder / "store", widths=widths)
    skeleton = load_skeleton(store, torch.float32)
    runtime = DirectRuntime(store, 16)
    skeleton.bind(runtime)
    return Pair(store, skeleton, runtime, reference.eval())
