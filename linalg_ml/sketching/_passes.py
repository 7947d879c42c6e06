"""The passes that a least-squares solver makes over the rows of [A b], each reading A once.

What comes out of a pass is small (d × d or d × k), lies on the host and is summed in float64; the rows stay where and
as they are, in memory, on disk, on a device or on a cluster.
"""

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from array_api_compat import is_dask_array, is_numpy_array
from scipy.linalg import lapack

from .._core.arrays import (
    Array,
    cast,
    check_array,
    check_finite,
    check_same,
    compute_dtype,
    is_sparse,
    like,
    namespace,
    to_numpy,
)
from .._core.rows import as_rows
from ._formed import FormedMap, rows_of
from ._kernels import residual_product
from ._refine import panel_width

_CACHED = 2**19  # bytes of rows that are multiplied twice while they are in a cache
_RUN = 8192  # rows that one triangle takes in turn: more of them lose digits
_STEP = 1024  # rows that it takes at a time

Sums = tuple[Any, ...]
Combine = Callable[[Sums, Sums], Sums]
Tree = list[tuple[int, np.ndarray]]  # triangles, each with its level
Function = Callable[[Array, Array, int], Sums]


def common_dtype(A: Any, b: Any) -> str:
    """Return the dtype in which A x = b is solved."""
    return np.result_type(compute_dtype(A, "A"), compute_dtype(b, "b")).name


class Passes:
    """Rows of A and of b, shape (n, d) and (n, k), and the sums over them.

    `n_passes` counts. `width` is d, `columns` k. Complex dtypes are adjoint where real ones are transposed.
    """

    def __init__(self, A: Any, b: Any):
        rows = rows_of(A)
        if len(rows.shape) != 2 or rows.shape[0] is None:
            raise ValueError(f"A must be a 2-d array whose rows can be read again, got shape {tuple(rows.shape)}")
        self.vector = getattr(b, "ndim", np.ndim(b)) == 1
        if is_dask_array(A):
            b, together = _joined_dask(A, b)
            self._rows = as_rows(together, "[A b]")
            b_dtype = b.dtype
        else:
            b = check_array(b, "b", ndim=(1, 2))
            check_same(A=_example(A, rows), b=b)
            self._rows, b_dtype = rows, b.dtype
        if b.shape[0] != rows.shape[0]:
            raise ValueError(f"b must have the {rows.shape[0]} rows of A, got shape {tuple(b.shape)}")
        self._b = None if is_dask_array(A) else (b[:, None] if self.vector else b)
        self.n: int = rows.shape[0]
        self.width: int = rows.shape[1]  # type: ignore[assignment]  # known of all rows but those of iterables
        self.columns = 1 if self.vector else b.shape[1]
        self.dtype = common_dtype(rows.dtype, b_dtype)
        self.sparse = is_sparse(A)
        self.scale = 1.0  # A and b are multiplied by these powers of two
        self.b_scale = 1.0
        self.n_passes = 0

    @property
    def unit(self) -> float:
        """The unit roundoff of the dtype."""
        return float(np.finfo(self.dtype).eps) / 2

    @property
    def wide_dtype(self) -> np.dtype:
        """The dtype of what is summed: float64 or complex128."""
        return np.result_type(self.dtype, np.float64)

    # --- one pass -------------------------------------------------------------------------------------

    def sums(
        self, function: Function, combine: Callable[[Sums, Sums], Sums] | None = None, *, cut: bool = False
    ) -> Sums:
        """Return the combination (by default the sums) of function(rows of A, rows of b, first) over all blocks.

        A sparse matrix in memory is one block unless `cut`: its slices are copies.
        """
        self.n_passes += 1
        if self.sparse and not cut:
            return self._on_block(function, self._rows.array, 0)  # type: ignore[attr-defined]
        return self._rows.map_reduce(functools.partial(self._on_block, function), combine or _add)

    def _on_block(self, function: Function, block: Array, start: int) -> Sums:
        with np.errstate(over="ignore", invalid="ignore"):  # whoever sums looks at the sums
            return function(*self._scaled(block, start), start)

    def _scaled(self, block: Array, start: int) -> tuple[Array, Array]:
        """Return rows of A and of b in the dtype and the scale in which the problem is solved."""
        A, b = self._split(block, start)
        A, b = cast(A, self.dtype), cast(b, self.dtype)
        return A if self.scale == 1 else A * self.scale, b if self.b_scale == 1 else b * self.b_scale

    def _split(self, block: Array, start: int) -> tuple[Array, Array]:
        if self._b is None:
            return block[:, : self.width], block[:, self.width :]
        return block, self._b[start : start + block.shape[0], ...]

    def __getstate__(self) -> dict[str, Any]:
        """Travel to a worker without the rows: they are there already."""
        return {**self.__dict__, "_rows": None}

    # --- the passes -----------------------------------------------------------------------------------

    def residual(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return Aᴴ(b - A X) and the squared norms of the columns of b - A X."""
        return self.sums(functools.partial(_residual, X.astype(self.dtype)))

    def normal(self, V: np.ndarray) -> np.ndarray:
        """Return Aᴴ(A V)."""
        return self.sums(functools.partial(_normal, V.astype(self.dtype)))[0]

    def gram(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return AᴴA, Aᴴb and the squared norms of the columns of b."""
        return self.sums(_gram)

    def triangle(self) -> np.ndarray:
        """Return the triangular factor of [A b]."""
        (tree,) = self.sums(_triangles, _merge, cut=True)
        return functools.reduce(_merged, [triangle for _, triangle in tree])

    def sketch(self, S: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return S A and S b."""
        if self._b is None:
            return self.sums(functools.partial(_sketch, S))
        self.n_passes += 1
        SA = Sb = None  # added to in place: a sketch is as large as many blocks
        for start, block in self._rows.blocks(S._multiple):
            A, b = self._scaled(block, start)
            SA, Sb = S._added(SA, A, start), S._added(Sb, b, start)
        return _wide(S._finish(SA, A)), _wide(S._finish(Sb, b))

    def rows_at(self, numbers: np.ndarray) -> np.ndarray:
        """Return a few rows of an array in memory."""
        A = self._rows.array  # type: ignore[attr-defined]
        part = A[numbers] if is_sparse(A) else namespace(A).take(A, like(numbers, A), axis=0)
        return to_numpy(part.toarray() if is_sparse(part) else part).astype(self.wide_dtype)

    def column_norms(self) -> np.ndarray:
        """Return the squared norms of the columns of A."""
        return self.sums(_column_norms)[0]

    def peaks(self) -> tuple[float, float]:
        """Return the largest absolute entries of A and b, checked for NaN and infinity."""
        return self.sums(_peaks, _largest)

    def fit_scale(self) -> None:
        """Choose powers of two that bring A and b near one; NaN and infinity are found here."""
        self.scale = self.b_scale = 1.0
        self.scale, self.b_scale = map(power_of_two_below, map(np.asarray, self.peaks()))

    def multiply(self, V: np.ndarray) -> np.ndarray:
        """Return A V, of n rows, on the host."""
        (parts,) = self.sums(functools.partial(_product, V.astype(self.dtype)))
        return np.concatenate(parts)

    def adjoint(self, Y: np.ndarray) -> np.ndarray:
        """Return Aᴴ Y for n rows Y on the host."""
        return self.sums(functools.partial(_adjoint_product, Y.astype(self.dtype)))[0]

    def residual_of(self, X: np.ndarray) -> np.ndarray:
        """Return b - A X, of n rows, on the host."""
        (parts,) = self.sums(functools.partial(_difference, X.astype(self.dtype)))
        return np.concatenate(parts)

    def right_hand_sides(self) -> np.ndarray:
        """Return b, scaled, on the host, shape (n, k)."""
        b = self._b
        if b is None:
            (parts,) = self.sums(_right_hand_side)
            return np.concatenate(parts)
        return _wide(cast(b, self.dtype)) * self.b_scale

    def transposed(self, A: Any) -> "Passes":
        """Return the passes over the rows of Aᵀ, of the same dtype and scale, with nothing on the right."""
        zeros = np.zeros(A.shape[1])
        out = Passes(A.T, zeros if self._b is None or self.sparse else like(zeros, self._b, self._b.dtype))
        out.dtype, out.scale = self.dtype, self.scale
        return out

    # --- answers --------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of A."""
        return self.n, self.width

    @property
    def nnz(self) -> int:
        """Stored entries of a sparse A."""
        return self._rows.array.nnz  # type: ignore[attr-defined]

    def answer(self, X: np.ndarray) -> Array:
        """Return host numbers, shape (…, k), as the caller's: library, device, dtype and axes."""
        X = X.astype(self.dtype)
        X = X[:, 0] if self.vector else X
        return X if self._b is None else like(X, self._b)

    def per_side(self, values: np.ndarray) -> Any:
        """Return one number, or one for each right-hand side."""
        return float(values[0]) if self.vector else values

    @property
    def in_memory(self) -> bool:
        """Whether A is an array, and a pass costs no more than reading memory."""
        array = getattr(self._rows, "array", None)
        if array is None:
            return False
        while array is not None and not isinstance(array, np.memmap):
            array = getattr(array, "base", None)
        return array is None


def _example(A: Any, rows: Any) -> Array:
    """Return an array of the library and on the device that products with A are in."""
    if isinstance(A, FormedMap):
        return A.example
    return rows.array.data if is_sparse(A) else rows.array


def power_of_two_below(values: Array) -> float:
    """Return the power of two by which the largest of the values comes near one, 1 if they are in range as they are."""
    peak = float(namespace(values).max(abs(values)))
    exponent = int(np.clip(np.frexp(peak)[1], -1000, 1000))
    return 2.0**-exponent


def _joined_dask(A: Any, b: Any) -> tuple[Any, Any]:
    """Return b and [A b], so that their rows meet on the worker that has them."""
    import dask.array as da

    if not is_dask_array(b):
        b = da.from_array(check_array(b, "b", ndim=(1, 2)), chunks=-1)
    if b.ndim not in (1, 2) or b.shape[0] != A.shape[0]:
        raise ValueError(f"b must have the {A.shape[0]} rows of A, got shape {tuple(b.shape)}")
    dtype = common_dtype(A.dtype, b.dtype)
    columns = (b if b.ndim == 2 else b[:, None]).rechunk({0: A.chunks[0], 1: -1})
    return b, da.concatenate([A.astype(dtype), columns.astype(dtype)], axis=1).rechunk({1: -1})


# --- what is done with a block ------------------------------------------------------------------------


def _add(left: Sums, right: Sums) -> Sums:
    return tuple(map(operator.add, left, right))


def _pieces(A: Array, b: Array) -> Iterator[tuple[Array, Array]]:
    """Cut rows in memory so that a piece stays in a cache while it is used twice."""
    if not is_numpy_array(A):
        yield A, b
        return
    size = max(16, _CACHED // (A.itemsize * A.shape[1]))
    for first in range(0, A.shape[0], size):
        yield A[first : first + size], b[first : first + size]


def _wide(X: Array) -> np.ndarray:
    X = to_numpy(X)
    return X.astype(np.result_type(X.dtype, np.float64), copy=False)


def _adjoint(A: Array) -> Array:
    if is_sparse(A):
        return A.conj().T if A.dtype.kind == "c" else A.T
    xp = namespace(A)
    return xp.conj(A).T if xp.isdtype(A.dtype, "complex floating") else A.T


def _squares(X: Array) -> np.ndarray:
    """Return the squared norms of columns, summed in float64."""
    X = _wide(X)
    return np.einsum("ij,ij->j", X.conj(), X).real


def _one_real_column(X: np.ndarray, A: Array) -> bool:
    """Tell whether the kernel that reads A once can serve: NumPy, real, contiguous rows, one column."""
    return (
        is_numpy_array(A)
        and X.shape[1] == 1
        and X.dtype == A.dtype
        and A.dtype.kind == "f"
        and A.strides[1] == A.itemsize
    )


def _residual(X: np.ndarray, A: Array, b: Array, _start: int) -> Sums:
    if _one_real_column(X, A):
        sums = residual_product(A, b[:, 0], X[:, 0])
        return sums[:-1, None], sums[-1:]
    g: Any = 0.0
    squares: Any = 0.0
    X = X if is_sparse(A) else like(X, A)
    for Ai, bi in _pieces(A, b):
        r = bi - Ai @ X
        g, squares = g + _wide(_adjoint(Ai) @ r), squares + _squares(r)
    return g, squares


def _normal(V: np.ndarray, A: Array, b: Array, _start: int) -> Sums:
    if _one_real_column(V, A):
        return (residual_product(A, np.zeros(A.shape[0], A.dtype), -V[:, 0])[:-1, None],)
    total: Any = 0.0
    V = V if is_sparse(A) else like(V, A)
    for Ai, _ in _pieces(A, b):
        total = total + _wide(_adjoint(Ai) @ (Ai @ V))
    return (total,)


def _right_hand_side(A: Array, b: Array, _start: int) -> Sums:
    return ([_wide(b)],)


def _product(V: np.ndarray, A: Array, b: Array, _start: int) -> Sums:
    return ([_wide(A @ (V if is_sparse(A) else like(V, A)))],)


def _difference(X: np.ndarray, A: Array, b: Array, _start: int) -> Sums:
    return ([_wide(b - A @ (X if is_sparse(A) else like(X, A)))],)


def _adjoint_product(Y: np.ndarray, A: Array, b: Array, start: int) -> Sums:
    part = Y[start : start + A.shape[0]]
    return (_wide(_adjoint(A) @ (part if is_sparse(A) else like(part, A))),)


def _gram(A: Array, b: Array, _start: int) -> Sums:
    G, c = _adjoint(A) @ A, _adjoint(A) @ b
    return _wide(G.toarray() if is_sparse(G) else G), _wide(c), _squares(b)


def _sketch(S: Any, A: Array, b: Array, start: int) -> Sums:
    SA, Sb = (S._finish(S._added(None, X, start), X) for X in (A, b))  # not checked: whoever sums looks at the sums
    return _wide(SA), _wide(Sb)


def _column_norms(A: Array, b: Array, _start: int) -> Sums:
    if is_sparse(A):
        return (np.asarray(abs(A).power(2).sum(axis=0), np.float64).ravel(),)
    return (_squares(A),)


def _peaks(A: Array, b: Array, start: int) -> Sums:
    check_finite(A, "A", start)
    check_finite(b, "b", start)
    return _peak(A), _peak(b)


def _peak(X: Array) -> float:
    values = X.data if is_sparse(X) else X
    xp = namespace(values)
    return float(xp.max(xp.abs(values))) if 0 not in values.shape else 0.0


def _largest(left: Sums, right: Sums) -> Sums:
    return tuple(float(np.maximum(*pair)) for pair in zip(left, right, strict=True))  # keeps NaN, as max does not


# --- triangles ----------------------------------------------------------------------------------------


def _triangles(A: Array, b: Array, _start: int) -> Sums:
    """Return the triangles of runs of rows, as a tree that `_merge` goes on with."""
    tree: Tree = []
    run = max(_RUN, 4 * (A.shape[1] + b.shape[1]))
    for first in range(0, A.shape[0], run):
        last = min(first + run, A.shape[0])
        tree = _merge_trees(
            tree, [(0, _triangle(A[first:last] if is_sparse(A) else A[first:last, ...], b[first:last, ...]))]
        )
    return (tree,)


def _merge(left: Sums, right: Sums) -> Sums:
    return (_merge_trees(left[0], right[0]),)


def _merge_trees(left: Tree, right: Tree) -> Tree:
    """Append triangles, each with its level; two of one level become one of the next, so no rounding adds up."""
    tree = list(left)
    for level, triangle in right:
        while tree and tree[-1][0] == level:
            triangle, level = _merged(tree.pop()[1], triangle), level + 1
        tree.append((level, triangle))
    return tree


def _triangle(A: Array, b: Array) -> np.ndarray:
    """Return the triangle of [A b], square (with zeros below where there are few rows)."""
    if is_sparse(A):
        A = A.toarray()
    size = A.shape[1] + b.shape[1]
    if not is_numpy_array(A):
        xp = namespace(A)
        R = to_numpy(xp.linalg.qr(xp.concat([A, b], axis=1), mode="reduced")[1])
        return _square(R, size).astype(np.result_type(R.dtype, np.float64))
    dtype = np.result_type(A.dtype, np.float64)
    R = np.zeros((size, size), dtype, order="F")
    (tpqrt,) = lapack.get_lapack_funcs(("tpqrt",), (R,))
    step = max(_STEP, 4 * size)
    for first in range(0, A.shape[0], step):
        rows = slice(first, min(first + step, A.shape[0]))
        copy = np.empty((rows.stop - first, size), dtype, order="F")
        copy[:, : A.shape[1]], copy[:, A.shape[1] :] = A[rows], b[rows]
        R = tpqrt(0, panel_width(size), R, copy, overwrite_a=True, overwrite_b=True)[0]
    return np.triu(R)


def _merged(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    size = left.shape[0]
    (tpqrt,) = lapack.get_lapack_funcs(("tpqrt",), (left,))
    R, _, _, _ = tpqrt(size, panel_width(size), np.asfortranarray(left), np.asfortranarray(right))
    return np.triu(R)


def _square(R: np.ndarray, size: int) -> np.ndarray:
    out = np.zeros((size, size), R.dtype)
    out[: R.shape[0]] = R
    return out
