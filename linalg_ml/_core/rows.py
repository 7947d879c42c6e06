"""A tall matrix as blocks of rows: in memory, on disk, sparse, on a device, on a cluster, or arriving.

What must scale is written once over `blocks`, `map_reduce` and `map_rows`. On dask the reduction is dask's own
tree; nothing distributed is written here.
"""

import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from array_api_compat import is_dask_array

from .arrays import Array, can_write, cast, check_array, check_same, compute_dtype, device, is_sparse, namespace

T = TypeVar("T")
Function = Callable[[Array, int], T]  # of a block of rows and the number of its first row

_BLOCK_BYTES = 2**24  # large enough to hide what a block costs, small enough to stay in a large cache


def as_rows(A: Any, name: str = "A", *, complex_ok: bool = True) -> "Rows":
    """Return `A` as rows that are read in blocks.

    Parameters
    ----------
    A : array, numpy.memmap, sparse matrix, dask array, or iterable of blocks
        With rows along the first axis; 1-d is one number a row, nested lists are a matrix. An iterable yields
        blocks (2-d) or single rows (1-d) of equal width; a generator can be read once.
    name : str
        What the caller calls this argument, for errors.
    complex_ok : bool
        Whether complex numbers are accepted.

    Raises
    ------
    TypeError, ValueError
        What cannot be read as rows of numbers.
    """
    if is_dask_array(A):
        return _DaskRows(A, name, complex_ok)
    if not is_sparse(A) and not hasattr(A, "dtype") and _yields_blocks(A):
        return _IterableRows(A, name, complex_ok)
    A = check_array(A, name, ndim=(1, 2), sparse_ok=True, complex_ok=complex_ok, finite=False, convert=False)
    return _ArrayRows(A, name, complex_ok)


def _yields_blocks(A: Any) -> bool:
    """Tell iterables of arrays from nested lists of numbers."""
    if isinstance(A, list | tuple):
        return len(A) > 0 and (is_sparse(A[0]) or getattr(A[0], "ndim", 0) > 0)
    return isinstance(A, Iterable) and not isinstance(A, str | bytes | dict) and not hasattr(A, "__array__")


class Rows(ABC):
    """Rows of numbers, read in blocks.

    Attributes
    ----------
    shape : tuple
        (n,) or (n, d); None for a length that is known only at the end.
    dtype : str
        Name of the dtype that blocks come in.
    """

    shape: tuple[int | None, ...]
    dtype: str

    def __init__(self, name: str, complex_ok: bool):
        self._name, self._complex_ok = name, complex_ok

    @abstractmethod
    def blocks(self, multiple_of: int = 1) -> Iterator[tuple[int, Array]]:
        """Yield (number of the first row, block): views of what is in memory, rows and dtype checked.

        Where the blocks are cut here and not by the caller, all but the last have a multiple of `multiple_of`
        rows.
        """

    def map_reduce(self, function: Function, combine: Callable[[T, T], T], *, multiple_of: int = 1) -> T:
        """Return the combination, in order, of ``function(block, start)`` over all blocks; one pass."""
        values = (function(block, start) for start, block in self.blocks(multiple_of))
        return functools.reduce(combine, values)

    @abstractmethod
    def map_rows(self, function: Function) -> Any:
        """Return the rows ``function(block, start)`` of all blocks, stacked as the input was."""


def _check_block(block: Any, name: str, complex_ok: bool, start: int) -> Array:
    where = f"{name} from row {start} on"
    return check_array(block, where, ndim=(1, 2), sparse_ok=True, complex_ok=complex_ok, finite=False)


def _copied(block: Array) -> Array:
    """Return a block that stays as it is when its source uses the buffer again."""
    return block.copy() if is_sparse(block) else namespace(block).asarray(block, copy=True)


def stacked(parts: list[Array]) -> Array:
    """Return blocks of rows, all dense or all sparse, as one; a single block as it is."""
    if is_sparse(parts[0]):
        from scipy import sparse

        return sparse.vstack(parts, format="csr")
    return parts[0] if len(parts) == 1 else namespace(parts[0]).concat(parts, axis=0)


class _ArrayRows(Rows):
    """Rows of one array: dense of any namespace, memmap, or CSR."""

    def __init__(self, A: Array, name: str, complex_ok: bool):
        super().__init__(name, complex_ok)
        self.array = A
        self.shape = tuple(A.shape)
        self.dtype = compute_dtype(A.dtype, name, complex_ok=complex_ok)

    def blocks(self, multiple_of: int = 1) -> Iterator[tuple[int, Array]]:
        n = self.array.shape[0]
        if is_sparse(self.array):
            row_bytes = 12 * max(1, self.array.nnz // n)
        else:
            row_bytes = np.dtype(self.dtype).itemsize * (self.array.shape[1] if self.array.ndim == 2 else 1)
        size = max(1, _BLOCK_BYTES // row_bytes)
        size += -size % multiple_of
        for start in range(0, n, size):
            stop = min(start + size, n)
            part = self.array[start:stop] if is_sparse(self.array) else self.array[start:stop, ...]
            yield start, cast(part, self.dtype)

    def map_rows(self, function: Function) -> Array:
        out, parts = None, []
        for start, block in self.blocks():
            part = function(block, start)
            if start == 0:
                out = self._result(part)
            if out is None:
                parts.append(part)
            else:
                out[start : start + part.shape[0], ...] = part
        if out is not None:
            return out
        return stacked(parts)

    def _result(self, part: Array) -> Array | None:
        """Return one array to fill, so that no second copy is made at the end; None where that cannot be."""
        if is_sparse(part):
            return None
        shape = (self.shape[0], *part.shape[1:])
        out = namespace(part).empty(shape, dtype=part.dtype, device=device(part))
        return out if can_write(out) else None


class _IterableRows(Rows):
    """Rows that arrive as blocks or one by one; read once if it is a generator, else as often as asked."""

    def __init__(self, blocks: Iterable, name: str, complex_ok: bool):
        super().__init__(name, complex_ok)
        self._source = blocks
        self._spent = False
        self._first: Array | None = None
        self.shape = (None, None)
        self.dtype = ""

    def blocks(self, multiple_of: int = 1) -> Iterator[tuple[int, Array]]:
        """Yield blocks as they arrive; smaller ones are put together until they have `multiple_of` rows."""
        waiting: list[Array] = []
        first = n_waiting = 0
        for start, block in self._arriving():
            if waiting and is_sparse(block) != is_sparse(waiting[0]):
                yield first, stacked(waiting)
                waiting = []
            if not waiting:
                first, n_waiting = start, 0
            n_waiting += block.shape[0]
            waiting.append(block if n_waiting >= multiple_of else _copied(block))
            if n_waiting >= multiple_of:
                yield first, stacked(waiting)
                waiting = []
        if waiting:
            yield first, stacked(waiting)

    def _arriving(self) -> Iterator[tuple[int, Array]]:
        if self._spent:
            raise ValueError(
                f"{self._name} is an iterator that was read already, and this needs another pass; give an array or a "
                "list of blocks"
            )
        self._spent = iter(self._source) is self._source
        start = 0
        for item in self._source:
            if getattr(item, "shape", (1,))[:1] == (0,):
                continue  # nothing arrived
            block = self._like_first(_check_block(item, self._name, self._complex_ok, start), start)
            yield start, block
            start += block.shape[0]
        if self._first is None:
            raise ValueError(f"{self._name} is empty: it yielded no block")
        self.shape = (start, self._first.shape[1])

    def _like_first(self, block: Array, start: int) -> Array:
        """Return a block, 2-d, in the dtype of the first one; refuse what would not fit under it."""
        block = block[None, :] if block.ndim == 1 else block
        if self._first is None or start == 0:
            self._first = block
            return block
        where, first = f"{self._name} from row {start} on", self._first
        if block.shape[1] != first.shape[1]:
            raise ValueError(
                f"{self._name} must yield blocks of one width, got {block.shape[1]} columns at row {start} after "
                f"blocks of {first.shape[1]}"
            )
        if not is_sparse(block) and not is_sparse(first):
            check_same(**{self._name: first, where: block})
        kind, wanted = compute_dtype(block.dtype), compute_dtype(first.dtype)
        if np.result_type(kind, wanted) != wanted:
            raise ValueError(f"{where} must be {wanted} as before, or narrower, got {kind}")
        return cast(block, wanted)

    def map_rows(self, function: Function) -> Iterator[Array]:
        return (function(block, start) for start, block in self.blocks())


class _DaskRows(Rows):
    """Rows of a dask array: its chunks are the blocks."""

    def __init__(self, A: Any, name: str, complex_ok: bool):
        super().__init__(name, complex_ok)
        if A.ndim not in (1, 2):
            raise ValueError(f"{name} must be 1-d or 2-d, got a dask array of shape {A.shape}")
        if any(size != size for axis in A.chunks for size in axis):
            raise ValueError(f"{name} is a dask array of unknown chunk sizes; call {name}.compute_chunk_sizes() first")
        if 0 in A.shape:
            raise ValueError(f"{name} is empty: got shape {A.shape}, every axis must be at least 1 long")
        self.dtype = compute_dtype(A.dtype, name, complex_ok=complex_ok)
        self.shape = A.shape
        self._array = A if A.ndim == 1 else A.rechunk({1: -1})
        self._sizes = self._array.chunks[0]

    def _chunks(self) -> Iterator[tuple[int, int, Any]]:
        """Yield (number of the first row, number of rows, delayed chunk), without the empty ones of a filter."""
        start = 0
        for size, part in zip(self._sizes, self._array.to_delayed().ravel(), strict=True):
            if size:
                yield start, size, part
            start += size

    def blocks(self, multiple_of: int = 1) -> Iterator[tuple[int, Array]]:
        for start, _, part in self._chunks():
            yield start, _check_block(part.compute(), self._name, self._complex_ok, start)

    def map_reduce(
        self, function: Function, combine: Callable[[T, T], T], *, multiple_of: int = 1, compute: bool = True
    ) -> Any:
        """As `Rows.map_reduce`, on the workers; dask's delayed value if not `compute`."""
        from dask import bag, delayed

        one = delayed(_one, pure=True)
        values = bag.from_delayed([one(function, part, start, self._name) for start, _, part in self._chunks()])
        total = values.reduction(
            operator.itemgetter(0), functools.partial(functools.reduce, combine), split_every=8
        ).to_delayed()
        return total.compute() if compute else total

    def map_rows(self, function: Function) -> Any:
        """Return a dask array whose chunks are ``function(block, start)``."""
        from dask import array, delayed

        one = delayed(_one, pure=True)
        meta = function(np.ones((1, *self.shape[1:]), self.dtype), 0)
        return array.concatenate(
            [
                array.from_delayed(one(function, part, start, self._name)[0], (size, *meta.shape[1:]), meta=meta[:0])
                for start, size, part in self._chunks()
            ]
        )


def _one(function: Function, block: Any, start: int, name: str) -> list:
    """Check one chunk and apply `function`, as the one item of a dask bag's partition."""
    checked = _check_block(block, name, True, start)
    try:
        return [function(checked, start)]
    except ValueError as error:  # say where it lies: chunks are what a user of dask can look at
        raise ValueError(f"{error}, in the dask block of rows {start} to {start + checked.shape[0] - 1}") from error
