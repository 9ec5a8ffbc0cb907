"""Weights that make any engine route as planned: greedy decoding walks a cycle of tokens, each routed as one step says.

N tokens of the cycle, V vocabulary, E experts a layer, k experts a token, d hidden.

Every token of the cycle has a random vector of its own, so large that what layers add to it turns it only a little. Norms
keep its direction; so a router that is linear in the normed vector can be solved for the logits wanted, and a head whose row
of token t + 1 is the vector of token t decodes the cycle. With N below d the solution is exact, and its margins are far
above what 4-bit weights disturb.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from app.race.routing import Routing

LOUD = 32.0
"""Size of a token's vector beside the about 1 that a layer adds."""
CHOSEN, STEP, OTHERS = 4.0, 0.25, -2.0
"""Router logits: of the likeliest expert, how much less each next one has, and of those that are not wanted."""
HEAD = 16.0
"""Logit of the token to come; the others' are about HEAD / √d."""


class Cycle:
    """N tokens from id ``first`` on, with the vectors that a model of hidden size d gives them."""

    def __init__(self, first: int, steps: int, vocabulary: int, hidden: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.first, self.steps = first, steps
        self._vectors = torch.randn(vocabulary, hidden, generator=generator)
        self._vectors *= math.sqrt(hidden) / self._vectors.norm(dim=1, keepdim=True)
        self._walked = self._vectors[first : first + steps]
        # Least squares with a little ridge: exact for all purposes, and of bounded size where tokens are as many as d.
        gram = self._walked.double() @ self._walked.double().T
        self._solver = torch.linalg.inv(gram + 1e-3 * hidden * torch.eye(steps, dtype=torch.float64)) @ self._walked.double()

    def embeddings(self) -> Tensor:
        """Vectors of all tokens: float32 [V, d]."""
        return self._vectors * LOUD

    def head(self) -> Tensor:
        """The output head: float32 [V, d]."""
        vocabulary, hidden = self._vectors.shape
        rows = torch.randn(vocabulary, hidden, generator=torch.Generator().manual_seed(1)) * (HEAD / hidden)
        following = self.first + (torch.arange(self.steps) + 1) % self.steps
        rows[following] = self._walked * (HEAD / hidden)
        return rows

    def router(self, chosen: Tensor, experts: int) -> Tensor:
        """The router [E, d] that sends token t of the cycle to ``chosen[t]`` [N, k], likeliest first."""
        wanted = torch.full((self.steps, experts), OTHERS, dtype=torch.float64)
        ranks = CHOSEN - STEP * torch.arange(chosen.shape[1], dtype=torch.float64)
        wanted.scatter_(1, chosen, ranks.expand(chosen.shape))
        return (wanted.T @ self._solver).float()


def chosen_at(routing: Routing, layer: int) -> Tensor:
    """What ``routing`` [N, S, k] wants of ``layer``: int64 [N, k]."""
    return torch.from_numpy(routing[:, layer].astype("int64"))
