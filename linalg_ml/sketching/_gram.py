"""How good a sketch is for the data at hand: the error of the Gram matrix, from probes."""

import operator
from dataclasses import dataclass
from typing import Any

from array_api_compat import is_dask_array

from .._core.arrays import (
    Array,
    all_finite,
    cast,
    check_array,
    check_finite,
    check_int,
    check_same,
    compute_dtype,
    is_complex,
    is_sparse,
    namespace,
)
from .._core.random import RNG, key_of
from .._core.rows import as_rows
from .._linalg.estimates import frobenius_norm, probes


@dataclass(frozen=True)
class GramErrorResult:
    """The error of a sketched Gram matrix, ‖(SA)ᵀSA - AᵀA‖_F, as far as probes tell.

    Attributes
    ----------
    error : float
        Point estimate; its square is unbiased.
    lower, upper : float
        Bounds of the error, each of which holds with probability `confidence`.
    relative_error : float
        `error` divided by an estimate of ‖AᵀA‖_F from the same probes.
    confidence : float
        Probability of each bound.
    """

    error: float
    lower: float
    upper: float
    relative_error: float
    confidence: float


def gram_error(A: Any, SA: Any, *, n_probes: int = 10, confidence: float = 0.95, rng: RNG = None) -> GramErrorResult:
    """Estimate how far the Gram matrix of a sketch is from that of the data, without forming either.

    Parameters
    ----------
    A : array, sparse matrix, memmap, dask array, or iterable of row blocks, shape (n, d)
        The data.
    SA : array_like, shape (m, d)
        Their sketch, or any matrix that stands for `A`. In the library and on the device of `A`; a dask array
        is computed.
    n_probes : int, default 10
        Number of Gaussian probes: more cost more and tighten the bounds.
    confidence : float in (0.8, 1), default 0.95
        Probability at which each bound holds.
    rng : None, int or numpy.random.Generator, optional
        Randomness of the probes, which are drawn from a stream of their own: they are independent of any sketch,
        also of one made with the same integer.

    Returns
    -------
    result : GramErrorResult
        `error`, `lower`, `upper`, `relative_error`, `confidence`.

    Raises
    ------
    ValueError, TypeError
        If `A` and `SA` do not fit each other, or are not finite, or a number is out of its range.

    Notes
    -----
    D = (SA)ᵀSA - AᵀA is applied to `n_probes` standard normal vectors, one pass over `A` and
    4·n_probes·(n + m)·d flops. The bounds hold for every D (see `linalg_ml._linalg.estimates`): with 10 probes
    and confidence 0.95, `upper` is at most 1.6 times and `lower` at least 0.74 times the estimate. The products
    are formed in the precision of `A`, so errors below its rounding unit are not seen.

    References
    ----------
    .. [1] F. Roosta-Khorasani, G. J. Székely, U. M. Ascher, "Assessing stochastic algorithms for large scale
       nonlinear least squares problems using extremal probabilities of linear combinations of gamma random
       variables", SIAM/ASA J. Uncertainty Quantification 3 (2015), Theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.sketching import SRHT, gram_error
    >>> A = np.random.default_rng(0).standard_normal((10_000, 20))
    >>> B = SRHT(10_000, 1000, rng=0) @ A
    >>> result = gram_error(A, B, rng=1)
    >>> true_error = np.linalg.norm(B.T @ B - A.T @ A)
    >>> bool(result.lower < true_error < result.upper)
    True
    """
    rows = as_rows(A)
    SA = check_array(SA.compute() if is_dask_array(SA) else SA, "SA", ndim=2)
    n_probes = check_int(n_probes, "n_probes")
    if len(rows.shape) != 2 or rows.shape[1] not in (None, SA.shape[1]):
        raise ValueError(f"A must be 2-d with the {SA.shape[1]} columns of SA, got shape {tuple(rows.shape)}")
    G = probes(key_of(rng), SA.shape[1], n_probes, SA)

    def product(block: Array, start: int) -> Array:
        if block.shape[1] != SA.shape[1]:
            raise ValueError(f"A must have the {SA.shape[1]} columns of SA, got {block.shape[1]}")
        check_same(A=block.data if is_sparse(block) else block, SA=SA)
        P = _gram_product(block, G)
        if not all_finite(P):
            check_finite(block, "A", start)
        return P

    exact = rows.map_reduce(product, operator.add)
    difference = frobenius_norm(_gram_product(SA, G) - exact, confidence=confidence)
    whole = frobenius_norm(exact, confidence=confidence).estimate
    relative = difference.estimate / whole if whole > 0 else float(difference.estimate > 0)
    return GramErrorResult(difference.estimate, difference.lower, difference.upper, relative, difference.confidence)


def _gram_product(A: Array, G: Array) -> Array:
    """Return Aᴴ (A G)."""
    AG = A @ cast(G, compute_dtype(A.dtype))
    if not is_complex(A):
        return A.T @ AG
    return (A.conj() if is_sparse(A) else namespace(A).conj(A)).T @ AG
