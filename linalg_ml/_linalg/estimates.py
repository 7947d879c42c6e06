"""Error estimates from independent random probes, each with the probability at which its bounds hold.

The one place for them. A wing multiplies its residual by `probes` and hands the products over; the probes come
from a stream of their own, never from the sketch that chose the answer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaincinv  # scipy.stats takes a second to import

from .._core.arrays import Array, check_real, namespace, to_numpy
from .._core.random import Stream, normals


@dataclass(frozen=True)
class NormEstimate:
    """A norm known by probes: ``P(lower ≤ norm) ≥ confidence`` and ``P(norm ≤ upper) ≥ confidence``, each."""

    estimate: float
    lower: float
    upper: float
    confidence: float


def probes(key: int, n: int, count: int, to: Array, *, first: int = 0) -> Array:
    """Return Gaussian probes `first` … `first + count - 1`, shape (n, count), in the real dtype and place of `to`.

    Entry (i, j) depends on `key`, i and j alone, so blocks of rows may be drawn where they are needed.
    """
    return normals(key, Stream.PROBES, range(n), count, first=first, to=to)


def frobenius_norm(products: Array, *, confidence: float = 0.95) -> NormEstimate:
    """Estimate the Frobenius norm of a matrix D from its products with Gaussian probes.

    Parameters
    ----------
    products : array, shape (m, k)
        D times k independent standard normal probes.
    confidence : float in (0.8, 1)
        Probability at which each bound holds.

    Returns
    -------
    estimate : NormEstimate
        ``estimate**2`` = ‖products‖²/k is unbiased for ‖D‖_F².

    Raises
    ------
    LinAlgError
        If the products are not finite.

    Notes
    -----
    ‖products‖²/‖D‖_F² is Σ_j λ_j χ²_k(j) with weights λ_j ≥ 0 of sum one (the normalised eigenvalues of DᵀD). Of
    all weightings, a single weight (D of rank one) has the heaviest tails below its mean, and above 1 + 1/k of
    it [1]_; hence the quantiles of χ²_k bound every D: ‖D‖_F² ≤ ‖products‖²/χ²_k(1 - confidence), and
    ‖D‖_F² ≥ ‖products‖²/χ²_k(confidence). A matrix of many equal singular values is known better than that.
    The cost is that of k products with D. Products with complex D count as they are.

    References
    ----------
    .. [1] F. Roosta-Khorasani, G. J. Székely, U. M. Ascher, "Assessing stochastic algorithms for large scale
       nonlinear least squares problems using extremal probabilities of linear combinations of gamma random
       variables", SIAM/ASA J. Uncertainty Quantification 3 (2015), Theorem 1.
    """
    confidence = check_confidence(confidence)
    k = products.shape[1]
    norm = exact_norm(products)
    if not np.isfinite(norm):
        raise np.linalg.LinAlgError("products with the probes are not finite: they overflow, or the matrix does")
    low, high = (2 * gammaincinv(k / 2, share) for share in (confidence, 1 - confidence))  # quantiles of χ²
    estimate, lower, upper = (float(norm / divisor**0.5) for divisor in (k, low, high))
    return NormEstimate(estimate, lower, upper, confidence)


def check_confidence(confidence: Any) -> float:
    """Return `confidence`; below 0.8 a rank-one residual is not the worst case, so nothing would be proved."""
    return check_real(confidence, "confidence", 0.8, 1.0)


def exact_norm(X: Array) -> float:
    """Return ‖X‖_F accumulated in float64; scaled, so that no square overflows or underflows."""
    xp = namespace(X)
    peak = float(xp.max(xp.abs(X)))
    if peak == 0 or not np.isfinite(peak):
        return peak
    scaled = to_numpy(xp.reshape(X / peak, (-1,)))
    wide = scaled.astype(np.result_type(scaled.dtype, np.float64), copy=False)
    return float(np.vdot(wide, wide).real) ** 0.5 * peak
