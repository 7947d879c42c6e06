"""SRHT: rows signed, permuted, mixed by the Walsh–Hadamard transform, and sampled."""

from functools import cached_property

import numpy as np

from .._core.arrays import Array, device, like, namespace
from .._core.random import RNG, Stream, draw_integers, permutation, sample, words
from ._kernels import GROUP, RUN_BITS, group_positions, hadamard, mix_rows
from ._sketch import Sketch, chunks, row_signs
from ._transform import power_of_two


class SRHT(Sketch):
    """Subsampled randomised Hadamard transform: S = (1/√m) P H Π D.

    Signs D, a permutation Π within groups of 1024 rows, the Walsh–Hadamard transform H of length
    N = 2^⌈log₂ n⌉ (rows beyond n count as zero), and m distinct rows P of it. The usual choice for dense data:
    one pass, no multiplications, good on any data but adversarial ones.

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
        The rows of H that are kept, ascending.

    Raises
    ------
    ValueError, TypeError
        If `n`, `m` or `rng` is not acceptable.

    See Also
    --------
    SparseSign : better for sparse data, and when m must be close to the rank of the data.
    gram_error : how good a sketch is, for the data at hand.

    Notes
    -----
    **Guarantee.** E[SᵀS] = I. For a fixed orthonormal U (n × d), all singular values of S U lie in 1 ± η with
    probability 1 - δ once m ≥ C η⁻² (d + log(n/δ)) log(d/δ) [2]_; measured, η ≈ √(d/m). For fixed g, h:
    abs(⟨Sg, Sh⟩ - ⟨g, h⟩) ≤ (β/√m) ‖g‖ ‖h‖ with probability 1 - δ, β = O(log^1.5(n/δ)) [3]_. If n is a power
    of two, S Sᵀ = (n/m) I exactly.

    **Robustness.** The textbook version (Π = I, P uniform) is singular at m = 4d when the data has structure
    aligned to powers of two (one-hot or sorted categories, strided sensors). Here Π moves every row within its
    group, differently in each group, and P is stratified so that its low bits differ.

    **Cost.** n·d·(log₂ B + m/B) additions, B = 2048 (more for large m), in one pass over the data. Extra
    memory: one block of B rows (of at most 64 columns) and the result. Storage: m numbers.

    References
    ----------
    .. [1] N. Ailon, B. Chazelle, "The fast Johnson–Lindenstrauss transform and approximate nearest neighbors",
       SIAM J. Computing 39 (2009).
    .. [2] J. A. Tropp, "Improved analysis of the subsampled randomized Hadamard transform", Advances in Adaptive
       Data Analysis 3 (2011), Theorem 1.3.
    .. [3] Z. Song, M. Ye, J. Yin, L. Zhang, "A nearly-optimal bound for fast regression with ℓ∞ guarantee",
       ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.sketching import SRHT
    >>> A = np.random.default_rng(0).standard_normal((10_000, 20))
    >>> S = SRHT(10_000, 400, rng=0)
    >>> B = S @ A
    >>> B.shape
    (400, 20)
    >>> halves = S.partial(A[:5000], 0) + S.partial(A[5000:], 5000)
    >>> np.allclose(halves, B)
    True
    """

    def __init__(self, n: int, m: int, *, rng: RNG = None):
        super().__init__(n, m, rng=rng)
        self.rows = _stratified_rows(self._key, *self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the sketch stores."""
        return self.rows.nbytes

    @property
    def _scale(self) -> float:
        return self.shape[0] ** -0.5

    @cached_property
    def _length(self) -> int:
        return power_of_two(self.shape[1])

    @cached_property
    def _bits(self) -> int:
        """Bits of a run: longer ones for many samples, which else cost more than the transform."""
        m = self.shape[0]
        return min(max(RUN_BITS, m.bit_length() - 3), self._length.bit_length() - 1)

    @property
    def _multiple(self) -> int:  # type: ignore[override]
        return 1 << self._bits

    @cached_property
    def _sigma(self) -> np.ndarray:
        return permutation(self._key, 0, min(GROUP, self._length))

    @cached_property
    def _samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of H within a run, ascending; where in the result they belong; their runs."""
        low = self.rows & (self._multiple - 1)
        order = np.argsort(low, kind="stable")
        return low[order], order, self.rows[order] >> self._bits

    def _add(self, out: Array, block: Array, start: int) -> Array:
        bits, stop = self._bits, start + block.shape[0]
        runs = np.arange(start >> bits, ((stop - 1) >> bits) + 1)
        size = self._sigma.size
        groups = range((int(runs[0]) << bits) // size, (int(runs[-1] + 1) << bits) // size)
        low, order, high = self._samples
        return mix_rows(
            block,
            out,
            start,
            self._sigma,
            words(self._key, Stream.GROUPS, groups, 2),
            row_signs(self._key, start, stop),
            bits,
            low,
            order,
            parity(high & runs[:, None]),
        )

    def _positions(self, start: int, stop: int) -> np.ndarray:
        """Return where Π puts rows start … stop - 1; both are multiples of the size of a group."""
        size = self._sigma.size
        groups = range(start // size, stop // size)
        position = group_positions(self._sigma, words(self._key, Stream.GROUPS, groups, 2))
        return (position + size * np.asarray(groups)[:, None]).ravel()

    def _adjoint(self, Y: Array) -> Array:
        xp, n, N = namespace(Y), self.shape[1], self._length
        columns = []
        for first, last in chunks(Y.shape[1], N):
            mixed = hadamard(spread(Y[:, first:last], self.rows, N)[None, ...], self._scale, True)[0, ...]
            stop = n + -n % self._sigma.size
            columns.append(xp.take(mixed, like(self._positions(0, stop)[:n], Y), axis=0))
        X = columns[0] if len(columns) == 1 else xp.concat(columns, axis=1)
        return X * like(row_signs(self._key, 0, n), Y, Y.dtype)[:, None]


def _stratified_rows(key: int, m: int, n: int) -> np.ndarray:
    """Return m distinct rows of H, each uniform, whose low bits all differ (as far as there are as many)."""
    N = power_of_two(n)
    low_bits = power_of_two(m).bit_length() - 1
    if 1 << low_bits >= N:
        return sample(key, 1, m, N)
    strata = N >> low_bits
    low = permutation(key, 1, 1 << low_bits)[:m]
    high = permutation(key, 2, m) % strata if m >= strata else draw_integers(key, 2, m, strata).astype(np.int64)
    shift = int(draw_integers(key, 3, 1, N)[0])
    return np.sort((high << low_bits | low) ^ shift)


def parity(numbers: np.ndarray) -> np.ndarray:
    """Return 1 where a number has an odd count of one bits, uint8: where an entry of H is -1."""
    return np.bitwise_count(numbers) & np.uint8(1)


def spread(Y: Array, rows: np.ndarray, n: int) -> Array:
    """Return n rows, zero but for Y at the distinct `rows`."""
    xp = namespace(Y)
    source = np.full(n, Y.shape[0])
    source[rows] = np.arange(rows.size)
    padded = xp.concat([Y, xp.zeros((1, Y.shape[1]), dtype=Y.dtype, device=device(Y))], axis=0)
    return xp.take(padded, like(source, Y), axis=0)
