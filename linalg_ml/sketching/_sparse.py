"""Sketches with few non-zeros: each row of the data is added to a few rows of the result."""

import numpy as np
from scipy import sparse

from .._core.arrays import Array, check_int, like, namespace
from .._core.random import RNG, Stream, words
from ._kernels import scatter_rows, sparse_rows
from ._sketch import Sketch, as_real, chunks

_ONE_WORD = 2**20  # widest band whose row and sign may come from one random word


class SparseSign(Sketch):
    """Sparse sign embedding: each column of S has s entries ±1/√s at distinct rows.

    The choice for sparse data, and as a preconditioner: good down to m = 2d on any data, also coherent ones.

    Parameters
    ----------
    n : int
        Number of rows of the data.
    m : int
        Number of rows of the sketch, 1 ≤ m ≤ n.
    s : int, default 8
        Non-zeros of a column; cut to `m`.
    rng : None, int or numpy.random.Generator, optional
        Randomness. An integer stands for the same S on every backend and for ever.

    Attributes
    ----------
    shape : tuple
        (m, n).
    s : int
        Non-zeros of a column.

    Raises
    ------
    ValueError, TypeError
        If `n`, `m`, `s` or `rng` is not acceptable.

    See Also
    --------
    CountSketch : one non-zero a column.
    SRHT : dense, with the ℓ∞ guarantee for regression that no sparse sketch has.

    Notes
    -----
    E[SᵀS] = I. For orthonormal U (n × d) all singular values of S U lie in 1 ± η with probability 1 - δ for
    m = O(d log(d/δ)/η²), s = O(log(d/δ)/η) [1]_; measured with s = 8, η ≈ √(d/m) on every data tried, columns of
    the identity included. Rows are split into s bands, and a column has one entry in each. Cost: s·n·d (dense),
    s·nnz (sparse; the data stay sparse). Storage: none; a column is drawn from its number where it is needed.

    References
    ----------
    .. [1] J. Nelson, H. L. Nguyên, "OSNAP: faster numerical linear algebra algorithms via sparser subspace
       embeddings", FOCS 2013.

    Examples
    --------
    >>> from scipy import sparse
    >>> from linalg_ml.sketching import SparseSign
    >>> A = sparse.eye_array(10_000, 50, format="csr")
    >>> (SparseSign(10_000, 200, rng=0) @ A).shape
    (200, 50)
    """

    def __init__(self, n: int, m: int, *, s: int = 8, rng: RNG = None):
        super().__init__(n, m, rng=rng)
        self.s = min(check_int(s, "s"), self.shape[0])
        if -(-self.shape[0] // self.s) > 2**32:
            raise ValueError(f"m must be at most 2**32 rows for each of the s={self.s} non-zeros, got {self.shape[0]}")

    def __repr__(self) -> str:
        return f"SparseSign({self.shape[1]}, {self.shape[0]}, s={self.s}, rng={self._key})"

    @property
    def _scale(self) -> float:
        return self.s**-0.5

    def to_sparse(self) -> sparse.csc_array:
        """Return S as a SciPy array in CSC format, float64; n·s non-zeros."""
        return self._columns(0, self.shape[1]) * self._scale

    def _words(self, start: int, stop: int) -> np.ndarray:
        per_entry = 2 if -(-self.shape[0] // self.s) > _ONE_WORD else 1
        return words(self._key, Stream.SPARSE, range(start, stop), per_entry * self.s)

    def _columns(self, start: int, stop: int, dtype: str = "float64") -> sparse.csc_array:
        """Return columns start … stop - 1 of S, unscaled."""
        m, k = self.shape[0], stop - start
        rows, row_signs = sparse_rows(self._words(start, stop), m, self.s)
        starts = np.arange(0, k * self.s + 1, self.s)
        return sparse.csc_array((row_signs.ravel().astype(dtype), rows.ravel(), starts), shape=(m, k))

    def _added(self, total: Array | None, block: Array, start: int) -> Array:
        """Add a part; SciPy's sparse blocks stay sparse."""
        if not sparse.issparse(block):
            return super()._added(total, block, start)
        S = self._columns(start, start + block.shape[0], block.real.dtype)
        part = as_real((S @ block).toarray())
        if total is None:
            return part
        total += part
        return total

    def _add(self, out: Array, block: Array, start: int) -> Array:
        for first, last in chunks(block.shape[0], self.s):
            out = scatter_rows(block[first:last, ...], out, self._words(start + first, start + last), self.s)
        return out

    def _adjoint(self, Y: Array) -> Array:
        xp, (m, n) = namespace(Y), self.shape
        parts = []
        for first, last in chunks(n, self.s * Y.shape[1]):
            rows, row_signs = sparse_rows(self._words(first, last), m, self.s)
            taken = xp.reshape(xp.take(Y, like(rows.ravel(), Y), axis=0), (last - first, self.s, Y.shape[1]))
            factor = like(self._scale * row_signs, Y, Y.dtype)
            parts.append(xp.sum(taken * factor[:, :, None], axis=1))
        return xp.concat(parts, axis=0)


class CountSketch(SparseSign):
    """CountSketch: each row of the data is added to one row of the result, with a random sign.

    The fastest sketch, for linear classifiers and heavy hitters, and the least reliable for regression.

    Parameters
    ----------
    n : int
        Number of rows of the data.
    m : int
        Number of rows of the sketch, 1 ≤ m ≤ n.
    rng : None, int or numpy.random.Generator, optional
        Randomness. An integer stands for the same S on every backend and for ever.

    Attributes
    ----------
    shape : tuple
        (m, n).
    s : int
        1.

    Raises
    ------
    ValueError, TypeError
        If `n`, `m` or `rng` is not acceptable.

    See Also
    --------
    SparseSign : eight times the work, and no collisions that matter.
    scipy.linalg.clarkson_woodruff_transform : the same kind of sketch, as a function.

    Notes
    -----
    E[SᵀS] = I. For the singular values of S U (U orthonormal, n × d) to lie in 1 ± η with probability 1 - δ,
    m = O(d²/(δ η²)) rows suffice [1]_ and, for columns of the identity, are needed: at m = 4d, S U is singular
    more often than not. Cost: n·d (dense), nnz (sparse). Storage: none.

    References
    ----------
    .. [1] K. L. Clarkson, D. P. Woodruff, "Low-rank approximation and regression in input sparsity time",
       J. ACM 63 (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.sketching import CountSketch
    >>> S = CountSketch(1000, 20, rng=7)
    >>> np.unique(np.abs(S.to_dense()).sum(axis=0))
    array([1.])
    """

    def __init__(self, n: int, m: int, *, rng: RNG = None):
        super().__init__(n, m, s=1, rng=rng)

    def __repr__(self) -> str:
        return f"CountSketch({self.shape[1]}, {self.shape[0]}, rng={self._key})"
