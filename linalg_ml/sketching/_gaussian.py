"""Gaussian sketch: independent normal entries."""

from .._core.arrays import Array, namespace
from .._core.random import Stream, normals
from ._sketch import Sketch, chunks


class Gaussian(Sketch):
    """Gaussian sketch: independent normal entries of variance 1/m, drawn where they are needed.

    The sketch about which everything is known, and the slowest: use it as the yardstick, or for few rows.

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

    Raises
    ------
    ValueError, TypeError
        If `n`, `m` or `rng` is not acceptable.

    See Also
    --------
    SRHT : as good in practice, and much faster for m > 50.

    Notes
    -----
    E[SᵀS] = I. For orthonormal U (n × d) all singular values of S U lie in 1 ± (√(d/m) + t/√m) with probability
    1 - 2 exp(-t²/2) [1]_. The entries come from a table of 2¹⁵ quantiles (largest 4.3 standard deviations), so
    that they are the same on every backend. Cost: 2·m·n·d flops and m·n draws. Storage: none; chunks of 2 MB of
    entries are drawn, used and forgotten.

    References
    ----------
    .. [1] K. R. Davidson, S. J. Szarek, "Local operator theory, random matrices and Banach spaces", Handbook of
       the Geometry of Banach Spaces 1 (2001), Theorem II.13.

    Examples
    --------
    >>> from linalg_ml.sketching import Gaussian
    >>> Gaussian(10, 3, rng=7).to_dense()[:, 2].round(6)
    array([-0.070631,  0.35121 ,  0.786127])
    """

    @property
    def _scale(self) -> float:
        return 1.0  # the entries are drawn divided by √m

    def _transpose(self, start: int, stop: int, to: Array) -> Array:
        """Return rows start … stop - 1 of Sᵀ."""
        m = self.shape[0]
        return normals(self._key, Stream.GAUSSIAN, range(start, stop), m, divisor=m**0.5, to=to)

    def _add(self, out: Array, block: Array, start: int) -> Array:
        xp = namespace(block)
        for first, last in chunks(block.shape[0], self.shape[0]):
            entries = self._transpose(start + first, start + last, block)
            out += xp.matmul(entries.T, block[first:last, ...])
        return out

    def _adjoint(self, Y: Array) -> Array:
        xp, n = namespace(Y), self.shape[1]
        parts = [xp.matmul(self._transpose(first, last, Y), Y) for first, last in chunks(n, self.shape[0])]
        return xp.concat(parts, axis=0)
