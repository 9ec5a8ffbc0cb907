"""How good a predictor is: which of the experts that routers chose it had thought the likeliest.

T tokens, S MoE layers, E experts a layer, k experts a token, R requests.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.preload.predictor import Learned

Floats = npt.NDArray[np.float64]


def hits(odds: npt.NDArray[np.floating], experts: npt.NDArray[np.int16], count: int) -> npt.NDArray[np.int64]:
    """How many of the ``experts`` [T, S, k] chosen (-1: none) were among the ``count`` greatest ``odds`` [T, S, E], by layer [S]."""
    likeliest = np.argsort(-odds, axis=2, kind="stable")[:, :, :count]
    found: npt.NDArray[np.int64] = (likeliest[..., None] == experts[:, :, None, :]).any(axis=2).sum(axis=(0, 2))
    return found


def recall(
    predictor: Learned, experts: npt.NDArray[np.int16], lengths: npt.NDArray[np.int64], counts: tuple[int, ...], ahead: int = 1
) -> Floats:
    """Recall by layer [counts, S] when as many experts as each of ``counts`` says are predicted ``ahead`` layers before their turn, on
    hearing the requests in ``experts`` [T, S, k], of ``lengths`` [R] tokens; nan where there was nothing to predict.

    What can be told at no time counts as not found: of a request's first token, the layers nearer to its beginning than that.
    """
    found, at = np.zeros((len(counts), experts.shape[1])), 0
    for length in lengths.tolist():  # one by one: the odds of a long trace would fill the memory
        request = experts[at : at + length]
        at += length
        odds = predictor.judge(request, np.array([length]), ahead)
        found += [hits(odds, request, count) for count in counts]
    chosen = (experts >= 0).sum(axis=(0, 2)).astype(np.float64)
    shares: Floats = np.divide(found, chosen, out=np.full_like(found, np.nan), where=chosen > 0)
    return shares
