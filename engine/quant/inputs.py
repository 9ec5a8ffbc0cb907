"""What text sends through a matrix, for codecs that listen to it.

C columns; H [C, C] = Σ x xᵀ over the inputs x.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

_DAMP = 0.01  # of the mean of H's diagonal, added to it: text is finite


class Inputs:
    """``gram`` is H, in any float type. What follows from it is the same for all widths, and made once."""

    def __init__(self, gram: Tensor) -> None:
        self.gram = gram
        self.strengths = gram.diagonal()  # [C]

    def __bool__(self) -> bool:
        """Whether anything went through the matrix."""
        return bool(self.strengths.any())

    @cached_property
    def order(self) -> Tensor:
        """Columns, the strongest inputs first, [C]."""
        return self.strengths.argsort(descending=True)

    @cached_property
    def factor(self) -> Tensor:
        """The upper Cholesky factor of H's inverse, float32 [C, C], its columns in ``order``."""
        gram = self.gram[self.order][:, self.order].double()
        damped = gram + torch.eye(len(gram), dtype=gram.dtype) * (_DAMP * gram.diagonal().mean())
        inverse: Tensor = torch.cholesky_inverse(torch.linalg.cholesky(damped))
        return torch.linalg.cholesky(inverse, upper=True).float()  # type: ignore[no-any-return]
