"""What all sketches have in common: how they meet each kind of input, and how parts of a sketch add up."""

import operator
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from array_api_compat import is_dask_array, is_numpy_array

from .._core.arrays import (
    Array,
    all_finite,
    check_array,
    check_finite,
    check_int,
    device,
    is_complex,
    is_sparse,
    namespace,
)
from .._core.factorization import LinearMap
from .._core.random import RNG, Stream, key_of, signs, words
from .._core.rows import Rows
from ._formed import FormedMap, rows_of

_CHUNK = 2**18  # numbers drawn, or made dense, at a time: 2 MB of float64


class Sketch(LinearMap):
    """A random matrix S of shape (m, n), never stored as such, with E[SᵀS] = I.

    A subclass adds the sketch of some rows to what is there (`_add`) and applies the transpose (`_adjoint`),
    both for real 2-d arrays.
    """

    dtype = np.dtype(np.float64)
    _multiple = 1  # rows that are best sketched together
    _largest = 2**62  # rows of data

    def __init__(self, n: int, m: int, *, rng: RNG = None):
        n = check_int(n, "n", 1, self._largest, "beyond that row numbers would not be exact")
        self.shape = (check_int(m, "m", 1, n, "a sketch has at most as many rows as the data"), n)
        self._key = key_of(rng)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape[1]}, {self.shape[0]}, rng={self._key})"

    @property
    def nbytes(self) -> int:
        """Bytes that the sketch stores."""
        return 0

    @abstractmethod
    def _add(self, out: Array, block: Array, start: int) -> Array:
        """Return `out`, which may be overwritten, plus S[:, start : start + len(block)] @ block but for `_scale`."""

    @abstractmethod
    def _adjoint(self, Y: Array) -> Array:
        """Return Sᵀ Y."""

    @property
    @abstractmethod
    def _scale(self) -> float:
        """What the sums that `_add` makes are multiplied by."""

    # --- parts ----------------------------------------------------------------------------------------

    def partial(self, block: Any, start: int) -> Array:
        """Sketch some of the rows: ``S[:, start : start + len(block)] @ block``.

        The sketch of a tall matrix is the sum of the partial sketches of its blocks, whatever the cut, so
        sketches of files, of workers or of days can be added up.

        Parameters
        ----------
        block : array or sparse matrix, shape (k,) or (k, d)
            Consecutive rows of the data.
        start : int
            The number of the first of them, from 0; ``start + k`` is at most `n`.

        Returns
        -------
        part : array, shape (m,) or (m, d)
            Dense, in the library and on the device of `block`.

        Raises
        ------
        ValueError
            If the rows do not lie inside the data, or are not finite.
        """
        block = check_array(block, "block", ndim=(1, 2), sparse_ok=True, finite=False)
        start = check_int(start, "start", 0, self.shape[1] - 1)
        self._check_end(start + block.shape[0], "block")
        part = self._finish(self._sum([(start, block)]), block)
        if not all_finite(part):
            check_finite(block, "block", start)
            raise overflow("block", part)
        return part

    def _check_end(self, end: int, name: str) -> None:
        if end > self.shape[1]:
            raise ValueError(f"{name} must end at row {self.shape[1]} of the data or before, got rows up to {end}")

    def _sum(self, blocks: Iterable[tuple[int, Array]]) -> Array:
        """Return the sum of the unscaled parts, real and 2-d."""
        total = None
        for start, block in blocks:
            total = self._added(total, block, start)
        return total

    def _added(self, total: Array | None, block: Array, start: int) -> Array:
        """Add the part of one block, of any kind, to a sum that None begins."""
        if is_sparse(block):
            return self._added_sparse(total, block, start)
        part = as_real(block[:, None] if block.ndim == 1 else block)
        return self._add(self._zeros(part, part.shape[1]) if total is None else total, part, start)

    def _added_sparse(self, total: Array | None, block: Array, start: int) -> Array:
        """Add the part of a sparse block; rows that belong together are made dense, some columns at a time."""
        n_rows = max(self._multiple, _CHUNK // 64 // self._multiple * self._multiple)
        for first in range(0, block.shape[0], n_rows):
            rows = block[first : min(first + n_rows, block.shape[0])].tocsc()
            for left, right in chunks(block.shape[1], rows.shape[0]):
                part = as_real(rows[:, left:right].toarray())
                pair = part.shape[1] // (right - left)  # two for complex numbers
                if total is None:
                    total = self._zeros(part, pair * block.shape[1])
                place = slice(pair * left, pair * right)
                total[:, place] = self._add(total[:, place], part, start + first)
        assert total is not None
        return total

    def _zeros(self, like: Array, columns: int) -> Array:
        return namespace(like).zeros((self.shape[0], columns), dtype=like.dtype, device=device(like))

    def _finish(self, total: Array, block: Array) -> Array:
        """Scale a sum, and give it the kind of numbers and of axes that `block` has."""
        total *= self._scale
        if is_complex(block):
            total = _join(total)
        return total[:, 0] if block.ndim == 1 else total

    # --- products -------------------------------------------------------------------------------------

    def _apply(self, A: Any) -> Array:
        rows = rows_of(A)
        if rows.shape[0] is not None and rows.shape[0] != self.shape[1]:
            raise ValueError(f"A must have {self.shape[1]} rows for {self!r}, got shape {tuple(rows.shape)}")
        if is_dask_array(A):
            return self._apply_dask(rows)
        if rows.shape[0] is None:
            return self._apply_arriving(rows)
        B = self._apply_array(rows)
        if not all_finite(B):  # every entry of A reaches some entry of B, so B alone need be looked at
            if not isinstance(A, FormedMap):
                check_finite(rows.array, "A")  # type: ignore[attr-defined]
            raise overflow("A", B)
        return B

    def _apply_array(self, rows: Rows) -> Array:
        example: list[Array] = []
        return self._finish(self._sum(_keep_first(rows.blocks(self._multiple), example)), example[0])

    def _apply_arriving(self, rows: Rows) -> Array:
        """Sketch blocks that come one by one and may not come again: each is checked before it counts."""
        example: list[Array] = []
        B = self._finish(self._sum(_keep_first(self._checked(rows), example)), example[0])
        if not all_finite(B):
            raise overflow("A", B)
        return B

    def _checked(self, rows: Rows) -> Iterator[tuple[int, Array]]:
        end = 0
        for start, block in rows.blocks(self._multiple):
            end = start + block.shape[0]
            self._check_end(end, "A")
            check_finite(block, "A", start)
            yield start, block
        if end != self.shape[1]:
            raise ValueError(f"A must have {self.shape[1]} rows for {self!r}, got {end}")

    def _apply_dask(self, rows: Any) -> Any:
        """Return a dask array that sketches each chunk where it lies and adds the parts in dask's own tree."""
        from dask.array import from_delayed

        total = rows.map_reduce(self.partial, operator.add, compute=False)
        return from_delayed(total, shape=(self.shape[0], *rows.shape[1:]), dtype=rows.dtype)

    def _apply_adjoint(self, Y: Any) -> Array:
        Y = check_array(Y, "Y", ndim=(1, 2))
        if Y.shape[0] != self.shape[0]:
            raise ValueError(f"Y must have {self.shape[0]} rows for the transpose of {self!r}, got {tuple(Y.shape)}")
        X = self._adjoint(as_real(Y[:, None] if Y.ndim == 1 else Y))
        if not all_finite(X):
            raise overflow("Y", X)
        X = _join(X) if is_complex(Y) else X
        return X[:, 0] if Y.ndim == 1 else X

    def to_dense(self) -> np.ndarray:
        """Return the matrix as a NumPy array, float64; m·n numbers."""
        return np.ascontiguousarray(self._adjoint(np.eye(self.shape[0])).T)


def _keep_first(blocks: Iterable[tuple[int, Array]], first: list[Array]) -> Iterator[tuple[int, Array]]:
    """Pass blocks on and put the first one into a list: it tells dtype and number of axes."""
    for start, block in blocks:
        if not first:
            first.append(block)
        yield start, block


def overflow(name: str, result: Array) -> np.linalg.LinAlgError:
    return np.linalg.LinAlgError(f"the sketch of {name} overflows {result.dtype}; scale {name} down")


# --- real and dense -----------------------------------------------------------------------------------


def chunks(n: int, numbers_a_row: int) -> Iterator[tuple[int, int]]:
    """Cut n rows so that a piece makes few enough numbers to stay in a cache."""
    size = max(1, _CHUNK // max(1, numbers_a_row))
    return ((first, min(first + size, n)) for first in range(0, n, size))


def as_real(block: Array) -> Array:
    if not is_complex(block):
        return block
    if is_numpy_array(block):
        block = np.ascontiguousarray(block)
        return block.view(block.real.dtype)
    xp = namespace(block)
    pairs = xp.stack([xp.real(block), xp.imag(block)], axis=2)
    return xp.reshape(pairs, (block.shape[0], 2 * block.shape[1]))


def _join(pairs: Array) -> Array:
    """Undo `as_real`."""
    if is_numpy_array(pairs):
        return np.ascontiguousarray(pairs).view(np.result_type(pairs.dtype, np.complex64))
    xp = namespace(pairs)
    kind = xp.complex64 if pairs.dtype == xp.float32 else xp.complex128
    return xp.astype(pairs[:, 0::2], kind) + xp.astype(pairs[:, 1::2], kind) * 1j


def row_signs(key: int, start: int, stop: int) -> np.ndarray:
    """Return the random signs of rows start … stop - 1 of the data."""
    return signs(words(key, Stream.SIGNS, range(start, stop)))[:, 0]
