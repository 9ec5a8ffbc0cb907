"""Rows kept as one growing array a column."""

from __future__ import annotations

import numpy as np

_FIRST_CAPACITY = 256


class Columns:
    """Growing columns of one table in memory. A column is contiguous, so views draw from it without a copy."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype
        self._length = 0
        self._arrays = self._allocate(_FIRST_CAPACITY)

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of the rows held (not of the room kept for more)."""
        return self._length * self.dtype.itemsize

    def append(self, rows: np.ndarray) -> None:
        """Add structured rows of this dtype, [n]."""
        end = self._length + len(rows)
        self._reserve(end)
        for name, array in self._arrays.items():
            array[self._length : end] = rows[name]
        self._length = end

    def column(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Values of one column, read-only and valid as they are, whatever is appended later."""
        view = self._arrays[name][: self._length][start:stop]
        view.flags.writeable = False
        return view

    def fill(self, out: np.ndarray, start: int, picked: slice | np.ndarray) -> int:
        """Copy the picked rows into the structured array ``out`` from row ``start`` on; returns how many."""
        count = 0
        for name, array in self._arrays.items():
            values = array[: self._length][picked]
            count = len(values)
            out[name][start : start + count] = values
        return count

    def clear(self) -> None:
        """Forget all rows. Views handed out before stay valid: the arrays are left to them."""
        self._length = 0
        self._arrays = self._allocate(_FIRST_CAPACITY)

    def _allocate(self, capacity: int) -> dict[str, np.ndarray]:
        return {name: np.empty(capacity, self.dtype[name]) for name in self.dtype.names or ()}

    def _reserve(self, length: int) -> None:
        capacity = len(next(iter(self._arrays.values())))
        if length <= capacity:
            return
        old, self._arrays = self._arrays, self._allocate(max(length, 2 * capacity))
        for name, array in old.items():
            self._arrays[name][: self._length] = array[: self._length]
