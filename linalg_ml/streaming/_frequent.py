"""Frequent Directions: a deterministic sketch of AᵀA in ℓ rows, with a certificate, mergeable."""

import copy
import math
import os
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from .._core.arrays import Array, cast, check_int, device, is_sparse, like, namespace, to_numpy
from . import _checkpoint
from ._rows import check_rows, library_of

_MODERATE = 100  # a binary exponent up to this, of the first row, asks for no scale
_FAR = 200  # a row of which an entry is beyond the scale by this power of two asks for another
_MOST = 1000  # a power of two that is a number, and one over it


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

    def add(self, rows: Array, factor: float = 1.0) -> None:
        """Take in rows (b, d), dense or CSR, times a factor."""
        if self.rows is None:
            values = rows.data if is_sparse(rows) else rows
            xp = namespace(values)
            self.rows = xp.zeros((2 * self.size, rows.shape[1]), dtype=xp.float64, device=device(values))
        at = 0
        while at < rows.shape[0]:
            stop = min(rows.shape[0], at + 2 * self.size - self.filled)
            part = rows[at:stop, :]
            part = part.toarray() if is_sparse(part) else part
            part = cast(part, "float64")
            self.rows[self.filled : self.filled + stop - at, :] = part if factor == 1 else part * factor
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
        Rows ℓ of the sketch, at least 2; the state is a buffer of twice as many.

    Attributes
    ----------
    n_rows : int
        Rows seen.
    error : float
        ``0 ≤ ‖Ax‖² - ‖Bx‖² ≤ error`` for every unit x, so ‖AᵀA - BᵀB‖₂ ≤ `error`, of B = `sketch()`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    See Also
    --------
    top_eigenvector : the leading direction, usually far more accurate where rows come in random order.

    Notes
    -----
    Deterministic. ``error`` ≤ min over k < ℓ of ‖A - A_k‖_F²/(ℓ - k), and usually far less; that is little on decaying
    spectra, and useless on flat ones, where ℓ > d·σ₂²/σ₁² would be needed. Costs O(ℓ d) a row: an eigenproblem of
    2ℓ × 2ℓ every ℓ rows. State: 2ℓd numbers of float64.

    Rows are kept in a scale of their own, a power of two, so that squares of rows of any size are numbers; `error` and
    the values of `top` become infinite or zero where float64 has no such number.

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
        self.n_sketch = check_int(n_sketch, "n_sketch", 2)
        self.n_rows = 0
        self._exponent: int | None = None  # rows are multiplied by 2**-exponent; None: all of them were zero
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
            If the width is wrong, a number is not finite (its place in the stream is named), or rows are of another
            array library than those before; nothing has changed.
        TypeError
            If these are no real numbers.
        """
        rows = check_rows(block, "block", self.n_features, self.n_rows, finite=True)
        if rows is None:
            return self
        self._check_library(rows, "block must be like the rows before it")
        after = copy.copy(self)
        if self._state.filled + rows.shape[0] < 2 * self.n_sketch:
            after._state = replace(self._state)  # of the rows it shares those in use stay as they are
        else:
            after._state = self._state.copy()
        after._take(rows)
        self.__dict__ = after.__dict__
        return self

    def _check_library(self, rows: Any, wanted: str) -> None:
        if self._state.rows is not None and rows is not None and type(rows) is not type(self._state.rows):
            ours, theirs = library_of(self._state.rows, False), library_of(rows, False)
            if ours != theirs:
                raise ValueError(f"{wanted}, {ours}, got {theirs}")

    def _take(self, rows: Array) -> None:
        """Take in rows; each that is far above the scale, and the first that is not zero, chooses another."""
        n, step = rows.shape[0], 2 * self.n_sketch
        for start in range(0, n, step):
            part = rows[start : min(n, start + step), :]
            self.n_rows += part.shape[0]
            while part.shape[0]:
                near = _first_beyond(part, self._limit)
                self._state.add(part[:near, :], math.ldexp(1.0, -(self._exponent or 0)))
                part = part[near:, :]
                if part.shape[0]:
                    exponent = math.frexp(_peak(part[:1, :]))[1]
                    self._rescale(0 if abs(exponent) <= _MODERATE else max(-_MOST, min(exponent, _MOST)))

    @property
    def _limit(self) -> float:
        """Size of entries beyond which another scale is chosen."""
        if self._exponent is None:
            return 0.0
        return math.inf if self._exponent + _FAR > _MOST else math.ldexp(1.0, self._exponent + _FAR)

    def _rescale(self, exponent: int) -> None:
        """Bring the state to another scale, which is not smaller."""
        if self._exponent is not None:
            self._state.scale(math.ldexp(1.0, self._exponent - exponent))
        self._exponent = exponent

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
        if state.rows is None:
            return np.zeros((0, self.n_features))
        with np.errstate(over="ignore"):
            return state.used * math.ldexp(1.0, self._exponent or 0)

    @property
    def error(self) -> float:
        """Upper bound on ‖AᵀA - BᵀB‖₂."""
        return float(unscaled(self._last().delta, 2 * (self._exponent or 0)))

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
        if not state.filled:
            raise ValueError("the sketch is empty: update it with rows before asking for its directions")
        k = check_int(k, "k", 1, min(state.filled, self.n_features), "rows of the sketch")
        components, values = state.top(k)
        return components, unscaled(values[:k], 2 * (self._exponent or 0))

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
            If the settings or the array libraries of the rows differ; nothing has changed.
        """
        if not isinstance(other, FrequentDirections):
            raise TypeError(f"other must be a FrequentDirections, got {type(other).__name__}")
        if (other.n_features, other.n_sketch) != (self.n_features, self.n_sketch):
            raise ValueError(f"only sketches of the same settings can be merged, got {self!r} and {other!r}")
        self._check_library(other._state.rows, "rows of both sketches must be alike")
        ours, theirs = self.copy(), other.copy()
        known = [each._exponent for each in (ours, theirs) if each._exponent is not None]
        for each in (ours, theirs):
            if known:
                each._rescale(max(known))
        ours._state.merge(theirs._state)
        ours.n_rows += theirs.n_rows
        self.__dict__ = ours.__dict__
        return self

    def copy(self) -> "FrequentDirections":
        """Return a copy that can go on by itself."""
        other = copy.copy(self)
        other._state = self._state.copy()
        return other

    def save(self, path: str | os.PathLike) -> None:
        """Write a checkpoint, an .npz file without pickles.

        Parameters
        ----------
        path : str or path-like
            Where to; an older file is replaced at the end alone.
        """
        names = ("n_features", "n_rows", "_exponent", "_state")
        state = {name: getattr(self, name) for name in names}
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
        made = cls(state["n_features"], state["_state"].size)
        made.__dict__.update(state)
        return made


def unscaled(values: Any, exponent: int) -> np.ndarray:
    """Return values times 2**exponent, infinite where that is no number."""
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(values, exponent)


def _peak(rows: Any) -> float:
    """Return the largest modulus among entries of rows, without a temporary of their size."""
    values = rows.data if is_sparse(rows) else rows
    if 0 in values.shape:
        return 0.0
    if isinstance(values, np.ndarray):  # the quick way, for rows that come one by one
        return max(float(values.max()), -float(values.min()))
    xp = namespace(values)
    return max(float(xp.max(values)), -float(xp.min(values)))


def _first_beyond(rows: Any, limit: float) -> int:
    """Return the place of the first row with an entry of modulus beyond the limit, or the number of rows."""
    if _peak(rows) <= limit:
        return rows.shape[0]
    values = rows.data if is_sparse(rows) else rows
    place = int(np.argmax(to_numpy(namespace(values).abs(values) > limit)))
    return place // rows.shape[1] if not is_sparse(rows) else int(np.searchsorted(rows.indptr, place, "right")) - 1
