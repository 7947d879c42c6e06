"""SRTT: rows signed, mixed by the discrete cosine transform, and sampled."""

import numpy as np
from array_api_compat import is_numpy_array
from scipy.fft import dct, idct

from .._core.arrays import Array, cast, is_complex, is_sparse, like, namespace, real_dtype
from .._core.random import RNG, sample
from .._core.rows import Rows
from ._hadamard import spread
from ._sketch import Sketch, chunks, row_signs

_PANEL = 8  # columns transformed at a time: what the transform holds is n × 8, not n × d


class SRTT(Sketch):
    """Subsampled randomised trigonometric transform: S = √(n/m) P C D, with C the orthonormal DCT-II.

    The relative of `SRHT` that needs no power of two. Choose it where its exact orthogonality counts
    (S Sᵀ = (n/m) I for every n) and the data are not sparse columns of the identity.

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
    rows : ndarray of int64, shape (m,)
        The rows of C that are kept, ascending.

    Raises
    ------
    ValueError, TypeError
        If `n`, `m` or `rng` is not acceptable.

    See Also
    --------
    SRHT : usually faster, and robust on aligned data.

    Notes
    -----
    E[SᵀS] = I. Distortion as for SRHT on incoherent data; on columns of the identity worse (0.64 instead of 0.5
    at m = 4d). Cost: n·d·log n for an array in memory, in panels of 8 columns, so that extra memory is 8 n
    numbers and the result. Row blocks of unknown place (`partial`, dask, iterables) cost m·n·d as a product with
    cosines that are made where they are needed. Storage: m numbers.

    References
    ----------
    .. [1] H. Avron, P. Maymounkov, S. Toledo, "Blendenpik: supercharging LAPACK's least-squares solver", SIAM J.
       Scientific Computing 32 (2010).

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.sketching import SRTT
    >>> S = SRTT(1000, 50, rng=0)
    >>> np.allclose(S @ S.to_dense().T, 20 * np.eye(50))
    True
    """

    _largest = 2**40  # beyond it products of row numbers overflow

    def __init__(self, n: int, m: int, *, rng: RNG = None):
        super().__init__(n, m, rng=rng)
        self.rows = sample(self._key, 1, *self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the sketch stores."""
        return self.rows.nbytes

    @property
    def _scale(self) -> float:
        m, n = self.shape
        return (n / m) ** 0.5

    def _apply_array(self, rows: Rows) -> Array:
        """Transform whole columns, a panel at a time."""
        A = getattr(rows, "array", None)
        if A is None:  # formed block by block
            return super()._apply_array(rows)
        if A.ndim == 1:
            return self._transformed(cast(A, rows.dtype)[:, None])[:, 0]
        A = A.tocsc() if is_sparse(A) else A
        panels = []
        for first in range(0, A.shape[1], _PANEL):
            panel = A[:, first : min(first + _PANEL, A.shape[1])]
            panels.append(self._transformed(cast(panel.toarray() if is_sparse(A) else panel, rows.dtype)))
        return panels[0] if len(panels) == 1 else namespace(panels[0]).concat(panels, axis=1)

    def _transformed(self, panel: Array) -> Array:
        xp = namespace(panel)
        if is_complex(panel) and not is_numpy_array(panel):
            real, imaginary = self._transformed(xp.real(panel)), self._transformed(xp.imag(panel))
            return xp.astype(real, panel.dtype) + xp.astype(imaginary, panel.dtype) * 1j
        signed = panel * like(row_signs(self._key, 0, self.shape[1]), panel, real_dtype(panel))[:, None]
        kept = xp.take(_dct(signed), like(self.rows, panel), axis=0)
        return kept * self._scale

    def _add(self, out: Array, block: Array, start: int) -> Array:
        xp = namespace(block)
        drawn = row_signs(self._key, start, start + block.shape[0])
        for first, last in chunks(block.shape[0], self.shape[0]):
            entries = self._cosines(start + first, start + last) * drawn[first:last]
            out = out + xp.matmul(like(entries, block, block.dtype), block[first:last, ...])
        return out

    def _cosines(self, start: int, stop: int) -> np.ndarray:
        """Return columns start … stop - 1 of P C: √((2 - [r = 0])/n) cos(π r (2i + 1)/2n)."""
        n = self.shape[1]
        # r (2i + 1) is reduced modulo 4n in integers (Python's where it is large): the cosine of a large
        # number would have no correct digits.
        at_start = np.array([int(r) * (2 * start + 1) % (4 * n) for r in self.rows])
        steps = self.rows[:, None] * (2 * np.arange(stop - start)) % (4 * n)
        angle = (at_start[:, None] + steps) % (4 * n) * (np.pi / (2 * n))
        return np.sqrt((2 - (self.rows == 0)) / n)[:, None] * np.cos(angle)

    def _adjoint(self, Y: Array) -> Array:
        n = self.shape[1]
        mixed = _idct(spread(Y, self.rows, n))
        return mixed * like(self._scale * row_signs(self._key, 0, n), Y, Y.dtype)[:, None]


def _dct(X: Array) -> Array:
    """Return the orthonormal DCT-II along axis 0."""
    if is_numpy_array(X):
        return dct(X, axis=0, norm="ortho", overwrite_x=True)
    # The array API has no DCT: by a complex transform of rows 0 2 4 … 5 3 1 (J. Makhoul, IEEE Trans. ASSP 28, 1980).
    xp, n = namespace(X), X.shape[0]
    order = np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)[::-1]])
    spectrum = xp.fft.fft(_complex(xp.take(X, like(order, X), axis=0)), axis=0)
    return xp.real(spectrum * _twiddles(n, X))


def _idct(Y: Array) -> Array:
    """Invert `_dct`, which is to apply its transpose."""
    if is_numpy_array(Y):
        return idct(Y, axis=0, norm="ortho", overwrite_x=True)
    xp, n = namespace(Y), Y.shape[0]
    order = np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)[::-1]])
    mixed = xp.real(xp.fft.fft(_complex(Y) * _twiddles(n, Y), axis=0))
    return xp.take(mixed, like(np.argsort(order), Y), axis=0)


def _complex(X: Array) -> Array:
    xp = namespace(X)
    return xp.astype(X, xp.complex64 if X.dtype == xp.float32 else xp.complex128)


def _twiddles(n: int, to: Array) -> Array:
    k = np.arange(n)
    factors = np.sqrt((2 - (k == 0)) / n) * np.exp(-0.5j * np.pi * k / n)
    xp = namespace(to)
    return like(factors, to, xp.complex64 if to.dtype == xp.float32 else xp.complex128)[:, None]
