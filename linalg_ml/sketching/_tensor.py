"""TensorSRHT: a sketch of Kronecker products that never forms them."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import array_api_extra as xpx
import numpy as np

from .._core.arrays import (
    Array,
    all_finite,
    check_array,
    check_choice,
    check_int,
    check_same,
    like,
    namespace,
    real_dtype,
)
from .._core.random import RNG, Stream, key_of, sample, signs, words
from ._hadamard import parity, spread
from ._kernels import hadamard
from ._sketch import Sketch, chunks, overflow
from ._transform import power_of_two, transform


class TensorSRHT(Sketch):
    """Sketch rows that are indexed by pairs: S = (1/√m) P (H D₁ ⊗ H D₂).

    For data whose rows are Kronecker products, as in polynomial kernels and in regression on tensor grids: the
    sketch of ``np.kron(A1, A2)`` costs what transforming `A1` and `A2` costs.

    Parameters
    ----------
    shape : pair of int
        (n1, n2): the data has n1·n2 rows, row i·n2 + j belongs to the pair (i, j), as in `numpy.kron`.
    m : int
        Number of rows of the sketch, 1 ≤ m ≤ n1·n2.
    rng : None, int or numpy.random.Generator, optional
        Randomness. An integer stands for the same S on every backend and for ever.

    Attributes
    ----------
    shape : tuple
        (m, n1·n2).
    factor_shape : tuple
        (n1, n2).
    rows1, rows2 : ndarrays of int64, shape (m,)
        The rows of both transforms that are kept, pair by pair.

    Raises
    ------
    ValueError, TypeError
        If a size or `rng` is not acceptable.

    See Also
    --------
    SRHT : for data without this structure.

    Notes
    -----
    E[SᵀS] = I. For fixed x of length n1·n2, ‖Sx‖² = (1 ± ε)‖x‖² with probability 1 - δ once
    m ≥ C ε⁻² log³(n1·n2/(εδ)) [1]_. Signs of products are not independent, so for the same m it is somewhat
    worse than SRHT. Cost of ``apply_kron(A1, A2)`` with d1 and d2 columns: n1·d1·log n1 + n2·d2·log n2 + m·d1·d2.
    Of ``S @ X`` with d columns: n1·d·(n2·log n2 + m). Storage: 2m numbers.

    References
    ----------
    .. [1] T. D. Ahle, M. Kapralov, J. B. T. Knudsen, R. Pagh, A. Velingker, D. P. Woodruff, A. Zandieh,
       "Oblivious sketching of high-degree polynomial kernels", SODA 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.sketching import TensorSRHT
    >>> rng = np.random.default_rng(0)
    >>> A1, A2 = rng.standard_normal((100, 3)), rng.standard_normal((50, 2))
    >>> S = TensorSRHT((100, 50), 200, rng=0)
    >>> np.allclose(S.apply_kron(A1, A2), S @ np.kron(A1, A2))
    True
    """

    def __init__(self, shape: Sequence[int], m: int, *, rng: RNG = None):
        if isinstance(shape, str | bytes) or not hasattr(shape, "__len__") or len(shape) != 2:
            raise ValueError(f"shape must be a pair (n1, n2), got {shape!r}")
        n1, n2 = (check_int(size, f"shape[{i}]") for i, size in enumerate(shape))
        check_int(power_of_two(n1) * power_of_two(n2), "shape[0]·shape[1], padded,", 1, 2**62)
        m = check_int(m, "m", 1, n1 * n2, "a sketch has at most as many rows as the data")
        self.factor_shape = (n1, n2)
        self.shape = (m, n1 * n2)
        self._key = key_of(rng)
        self._lengths = power_of_two(n1), power_of_two(n2)
        self.rows1, self.rows2 = np.divmod(
            sample(self._key, 1, m, self._lengths[0] * self._lengths[1]), self._lengths[1]
        )

    def __repr__(self) -> str:
        return f"TensorSRHT({self.factor_shape}, {self.shape[0]}, rng={self._key})"

    @property
    def nbytes(self) -> int:
        """Bytes that the sketch stores."""
        return self.rows1.nbytes + self.rows2.nbytes

    @property
    def _scale(self) -> float:
        return self.shape[0] ** -0.5

    @property
    def _multiple(self) -> int:  # type: ignore[override]
        return self.factor_shape[1]

    @cached_property
    def _signs(self) -> tuple[np.ndarray, np.ndarray]:
        streams = Stream.SIGNS, Stream.SIGNS_2
        return tuple(
            signs(words(self._key, s, range(n)))[:, 0] for s, n in zip(streams, self.factor_shape, strict=True)
        )

    def apply_kron(self, A1: Any, A2: Any, pairing: str = "all") -> Array:
        """Sketch a Kronecker product without forming it.

        Parameters
        ----------
        A1 : array_like, shape (n1, d1)
            First factor, real or complex.
        A2 : array_like, shape (n2, d2)
            Second factor; d2 = d1 if `pairing` is "matched".
        pairing : {"all", "matched"}, default "all"
            "all": S (A1 ⊗ A2). "matched": column j is S (A1[:, j] ⊗ A2[:, j]).

        Returns
        -------
        B : array, shape (m, d1·d2), or (m, d1) if matched
            In the library and on the device of the factors.

        Raises
        ------
        ValueError, TypeError
            If the factors do not fit S or each other, or are not finite.
        """
        A1 = check_array(A1, "A1", ndim=2)
        A2 = check_array(A2, "A2", ndim=2)
        xp = check_same(A1=A1, A2=A2)
        check_choice(pairing, "pairing", ("all", "matched"))
        for name, A, n in (("A1", A1, self.factor_shape[0]), ("A2", A2, self.factor_shape[1])):
            if A.shape[0] != n:
                raise ValueError(f"{name} must have {n} rows for {self!r}, got shape {tuple(A.shape)}")
        if pairing == "matched" and A1.shape[1] != A2.shape[1]:
            raise ValueError(
                f"A1 and A2 must have as many columns as each other if matched, got {A1.shape[1]} and {A2.shape[1]}"
            )
        B1 = self._factor(A1, 0) * self._scale
        B2 = self._factor(A2, 1)
        with np.errstate(over="ignore", invalid="ignore"):  # said below
            if pairing == "matched":
                B = B1 * B2
            else:
                B = xp.reshape(B1[:, :, None] * B2[:, None, :], (self.shape[0], A1.shape[1] * A2.shape[1]))
        if not all_finite(B):
            raise overflow("A1 and A2", B)
        return B

    def _factor(self, A: Array, which: int) -> Array:
        """Return the sampled rows of the transform of one signed factor."""
        signed = A * like(self._signs[which], A, real_dtype(A))[:, None]
        mixed = transform(signed, self._lengths[which], 0, overwrite=True)
        return namespace(A).take(mixed, like((self.rows1, self.rows2)[which], A), axis=0)

    def _add(self, out: Array, block: Array, start: int) -> Array:
        xp, (_, n2), N2 = namespace(block), self.factor_shape, self._lengths[1]
        skip = start % n2  # zeros complete the first and the last run of n2 rows
        n_runs = -(-(skip + block.shape[0]) // n2)
        for first, last in chunks(n_runs, (n2 + self.shape[0]) * block.shape[1]):
            part = block[max(0, first * n2 - skip) : min(last * n2 - skip, block.shape[0]), ...]
            if first == 0 or last == n_runs:
                before = skip if first == 0 else 0
                part = xpx.pad(part, ((before, (last - first) * n2 - before - part.shape[0]), (0, 0)))
            part = (
                xp.reshape(part, (last - first, n2, block.shape[1])) * like(self._signs[1], part, part.dtype)[:, None]
            )
            mixed = xp.take(transform(part, N2, 1, overwrite=True), like(self.rows2, part), axis=1)
            i = np.arange(first, last) + start // n2
            factor = (1 - 2 * parity(self.rows1 & i[:, None]).astype(np.int8)) * self._signs[0][i][:, None]
            out = out + xp.sum(mixed * like(factor, part, part.dtype)[:, :, None], axis=0)
        return out

    def _adjoint(self, Y: Array) -> Array:
        xp, (n1, n2), (N1, N2) = namespace(Y), self.factor_shape, self._lengths
        columns = Y.shape[1]
        X = xp.reshape(spread(Y, self.rows1 * N2 + self.rows2, N1 * N2), (N1, N2, columns))
        X = xp.reshape(hadamard(X, self._scale, True)[:, :n2, :], (1, N1, n2 * columns))
        X = xp.reshape(hadamard(X, 1.0, True)[0, :n1, :], (n1, n2, columns))
        X = X * like(self._signs[0], Y, Y.dtype)[:, None, None] * like(self._signs[1], Y, Y.dtype)[None, :, None]
        return xp.reshape(X, (n1 * n2, columns))
