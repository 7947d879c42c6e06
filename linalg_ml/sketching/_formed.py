"""Matrices whose rows are formed when they are needed, some megabytes at a time."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._core.arrays import Array, namespace
from .._core.factorization import LinearMap
from .._core.rows import Function, Rows, as_rows

_BLOCK_BYTES = 2**22


class FormedMap(LinearMap):
    """A tall matrix that is known by how its rows are made."""

    @property
    @abstractmethod
    def example(self) -> Array:
        """An array of the library and on the device of the rows."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> Array:
        """Form rows `start` … `stop` - 1."""


class FormedRows(Rows):
    """The rows of a `FormedMap`, read in blocks."""

    def __init__(self, A: FormedMap):
        super().__init__("A", True)
        self.of = A
        self.shape = A.shape
        self.dtype = np.dtype(A.dtype).name

    def blocks(self, multiple_of: int = 1) -> Iterator[tuple[int, Array]]:
        """Yield (number of the first row, rows)."""
        n, d = self.of.shape
        size = max(1, _BLOCK_BYTES // (np.dtype(self.dtype).itemsize * d))
        size += -size % multiple_of
        for start in range(0, n, size):
            yield start, self.of.rows(start, min(start + size, n))

    def map_rows(self, function: Function) -> Array:
        """Return the rows ``function(block, start)`` of all blocks, stacked."""
        parts = [function(block, start) for start, block in self.blocks()]
        return namespace(parts[0]).concat(parts, axis=0)


def rows_of(A: Any, name: str = "A") -> Rows:
    """Return `A` as rows that are read in blocks, as `as_rows`, and those of a `FormedMap`."""
    return FormedRows(A) if isinstance(A, FormedMap) else as_rows(A, name)
