"""Frequent Directions: a deterministic sketch of AᵀA in ℓ rows, with a certificate, mergeable."""

import math
import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .._core.arrays import Array, cast, check_int, device, is_sparse, like, namespace, to_numpy
from . import _checkpoint
from ._rows import check_rows


@dataclass
class Directions:
    """A buffer of 2ℓ rows, shrunk to fewer than ℓ when it is full; `delta` is what the shrinking took at most."""

    size: int  # ℓ
    rows: Any = None  # (2ℓ, d), float64; the first `filled` are in use
    filled: int = 0
    delta: float = 0.0

    def copy(self) -> "Directions":
        """Return a copy that can go on by itself."""
        rows = None if self.rows is None else namespace(self.rows).asarray(self.rows, copy=True)
        return Directions(self.size, rows, self.filled, self.delta)

    @property
    def used(self) -> Array:
        return self.rows[: self.filled, :]

    def add(self, rows: Array) -> None:
        """Take in rows (b, d), dense or CSR."""
        if self.rows is None:
            values = rows.data if is_sparse(rows) else rows
            xp = namespace(values)
            self.rows = xp.zeros((2 * self.size, rows.shape[1]), dtype=xp.float64, device=device(values))
        at = 0
        while at < rows.shape[0]:
            stop = min(rows.shape[0], at + 2 * self.size - self.filled)
            part = rows[at:stop, :]
            part = part.toarray() if is_sparse(part) else part
            self.rows[self.filled : self.filled + stop - at, :] = cast(part, "float64")
            self.filled += stop - at
            at = stop
            if self.filled == 2 * self.size:
                self.shrink()

    def shrink(self) -> None:
        """Take the ℓ-th largest energy off all directions; fewer than ℓ are left."""
        B = self.used
        xp = namespace(B)
        gram = to_numpy(xp.matmul(B, xp.matrix_transpose(B)))
        power = math.frexp(float(np.diag(gram).max()))[1]  # LAPACK rescales matrices of extreme norm, but not exactly
        w, U = np.linalg.eigh(np.ldexp(gram, -power))
        w, U = np.ldexp(np.maximum(w[::-1], 0.0), power), U[:, ::-1]
        keep = min(self.size - 1, self.filled)
        taken = float(w[self.size - 1]) if self.filled >= self.size else 0.0
        left = np.maximum(w[:keep] - taken, 0.0)
        factor = np.sqrt(np.divide(left, w[:keep], out=np.zeros(keep), where=w[:keep] > 1e-14 * w[0]))
        turn = np.ascontiguousarray((U[:, :keep] * factor).T)
        shrunk = xp.matmul(like(turn, B), B)
        self.rows[:keep, :] = shrunk
        self.rows[keep:, :] = 0
        self.filled = keep
        self.delta += taken

    def merge(self, other: "Directions") -> None:
        """Take in another sketch of as many rows."""
        if other.rows is not None:
            self.add(other.used)
        self.delta += other.delta

    def scale(self, factor: float) -> None:
        """Multiply all rows seen by a power of two."""
        if self.rows is not None:
            self.rows = self.rows * factor
        self.delta *= factor**2

    def top(self, k: int) -> tuple[Array, np.ndarray]:
        """Return the k leading directions (k, d) of the sketch, and the energies of them all."""
        B = self.used
        xp = namespace(B)
        _, s, Vh = xp.linalg.svd(B, full_matrices=False)
        return Vh[:k, :], to_numpy(s) ** 2


class FrequentDirections:
    """Sketch AᵀA of a stream of rows, in any order, by a few rows B with a certificate.

    Parameters
    ----------
    n_features : int
        Width d of the rows.
    n_sketch : int, default 32
        Rows ℓ of the sketch; the state is a buffer of twice as many.

    Attributes
    ----------
    n_rows : int
        Rows seen.
    error : float
        ``0 ≤ ‖Ax‖² - ‖Bx‖² ≤ error`` for every unit x, so ‖AᵀA - BᵀB‖₂ ≤ `error`, of B = `sketch()`.

    See Also
    --------
    top_eigenvector : the leading direction, usually far more accurate where rows come in random order.

    Notes
    -----
    Deterministic. ``error`` ≤ min over k < ℓ of ‖A - A_k‖_F²/(ℓ - k), and usually far less; that is little on decaying
    spectra, and useless on flat ones, where ℓ > d·σ₂²/σ₁² would be needed. Costs O(ℓ d) a row: an eigenproblem of
    2ℓ × 2ℓ every ℓ rows. State: 2ℓd numbers of float64.

    References
    ----------
    .. [1] E. Liberty, "Simple and deterministic matrix sketching", KDD 2013.
    .. [2] M. Ghashami, E. Liberty, J. M. Phillips, D. P. Woodruff, "Frequent Directions: simple and deterministic
       matrix sketching", SIAM J. Comput. 45 (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.streaming import FrequentDirections
    >>> A = np.random.default_rng(0).standard_normal((1000, 50)) / np.arange(1, 51)
    >>> sketch = FrequentDirections(50, n_sketch=10).update(A)
    >>> B = sketch.sketch()
    >>> bool(np.linalg.norm(A.T @ A - B.T @ B, 2) <= sketch.error)
    True
    """

    def __init__(self, n_features: int, n_sketch: int = 32):
        self.n_features = check_int(n_features, "n_features")
        self.n_sketch = check_int(n_sketch, "n_sketch")
        self.n_rows = 0
        self._state = Directions(self.n_sketch)

    def __repr__(self) -> str:
        return f"FrequentDirections({self.n_features}, n_sketch={self.n_sketch}), {self.n_rows} rows"

    def update(self, block: Any) -> Self:
        """Take in rows.

        Parameters
        ----------
        block : array or CSR matrix, shape (b, d) or (d,)
            Rows of the stream.

        Returns
        -------
        self : FrequentDirections
            This object.

        Raises
        ------
        ValueError
            If the width is wrong or a number is not finite (its place in the stream is named); nothing has changed.
        TypeError
            If these are no real numbers.
        """
        rows = check_rows(block, "block", self.n_features, self.n_rows, finite=True)
        if rows is not None:
            self._state.add(rows)
            self.n_rows += rows.shape[0]
        return self

    def _last(self) -> Directions:
        state = self._state.copy()
        if state.filled > state.size:
            state.shrink()
        return state

    def sketch(self) -> Array:
        """Return the sketch.

        Returns
        -------
        B : array, shape (at most n_sketch, d), float64
            Its rows; orthogonal after the first shrinking.
        """
        state = self._last()
        return np.zeros((0, self.n_features)) if state.rows is None else state.used

    @property
    def error(self) -> float:
        """Upper bound on ‖AᵀA - BᵀB‖₂."""
        return self._last().delta

    def top(self, k: int) -> tuple[Array, np.ndarray]:
        """Return the leading directions of the sketch.

        Parameters
        ----------
        k : int
            How many, at most the rows of the sketch.

        Returns
        -------
        components : array, shape (k, d)
            Orthonormal rows.
        values : ndarray, shape (k,)
            ‖B x‖² of each; that of A is at most `error` larger.

        Raises
        ------
        ValueError
            If the sketch has fewer than k rows.
        """
        state = self._last()
        k = check_int(k, "k", 1, min(state.filled, self.n_features), "rows of the sketch")
        components, values = state.top(k)
        return components, values[:k]

    def merge(self, other: "FrequentDirections") -> Self:
        """Take in the sketch of another stream; the errors add up.

        Parameters
        ----------
        other : FrequentDirections
            Of the same width and size; it is not changed.

        Returns
        -------
        self : FrequentDirections
            This object.

        Raises
        ------
        ValueError
            If the settings differ.
        """
        if not isinstance(other, FrequentDirections):
            raise TypeError(f"other must be a FrequentDirections, got {type(other).__name__}")
        if (other.n_features, other.n_sketch) != (self.n_features, self.n_sketch):
            raise ValueError(f"only sketches of the same settings can be merged, got {self!r} and {other!r}")
        self._state.merge(other._state)
        self.n_rows += other.n_rows
        return self

    def copy(self) -> "FrequentDirections":
        """Return a copy that can go on by itself."""
        other = FrequentDirections(self.n_features, self.n_sketch)
        other.n_rows, other._state = self.n_rows, self._state.copy()
        return other

    def save(self, path: str | os.PathLike) -> None:
        """Write a checkpoint, an .npz file without pickles.

        Parameters
        ----------
        path : str or path-like
            Where to; an older file is replaced at the end alone.
        """
        state = {"n_features": self.n_features, "n_rows": self.n_rows, "directions": self._state}
        _checkpoint.save(path, "FrequentDirections", state)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like
            Where from.

        Returns
        -------
        sketch : FrequentDirections
            As it was.

        Raises
        ------
        ValueError
            If the file is foreign, cut off, altered, or holds something else.
        """
        state = _checkpoint.load(path, "FrequentDirections", (Directions,))
        made = cls(state["n_features"], state["directions"].size)
        made.n_rows, made._state = state["n_rows"], state["directions"]
        return made
