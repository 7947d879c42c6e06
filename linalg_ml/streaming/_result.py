"""The answer of a stream, as its caller gets it."""

from dataclasses import dataclass

import numpy as np

from .._core.arrays import Array


@dataclass(frozen=True)
class TopEigenvectorResult:
    """Leading eigenvectors of AᵀA for the rows A of a stream, with their error.

    Attributes
    ----------
    vector : array, shape (d,)
        The leading direction v, a unit vector in the dtype and library of the rows; its entry of largest modulus is
        positive.
    value : float
        Estimate of the leading eigenvalue σ₁² of AᵀA.
    components : array, shape (k, d)
        The leading directions, orthonormal; `vector` is the first.
    values : ndarray, shape (k,)
        Their eigenvalues.
    error : float
        Bound on 1 - <v, v₁>² for the exact leading eigenvector v₁ of all rows seen.
    confidence : float or None
        Share of random-order streams on which `error` held in tests; 1.0 for a certificate; None where `error` is only
        indicative (sorted streams, and methods without an estimate).
    value_relative_error : float
        Bound on the distance of `value` from σ₁², relative to `value`, of the same standing.
    value_bounds : (float, float) or None
        Interval that holds σ₁² with certainty; of methods with a sketch that certifies.
    gap_estimate : float
        Estimate of σ₁²/σ₂².
    n_rows : int
        Rows seen.
    n_heavy : int
        Rows kept aside that are part of the answer.
    heavy_indices : ndarray of int64
        Their places in the stream, from 0.
    heap_saturated : bool
        Whether there may have been more heavy rows than room for them.
    order_pvalue : float
        Probability that a stream in random order shows as much trend in its norms.
    frobenius_sq : float
        ‖A‖_F², about the mean if the rows were centred.
    tail : float
        Energy of an untracked direction.
    mean : array, shape (d,), or None
        Mean of the rows, if they were centred.
    memory_used : int
        Bytes of the stream's state.
    method : str
        The method that answered.
    """

    vector: Array
    value: float
    components: Array
    values: np.ndarray
    error: float
    confidence: float | None
    value_relative_error: float
    value_bounds: tuple[float, float] | None
    gap_estimate: float
    n_rows: int
    n_heavy: int
    heavy_indices: np.ndarray
    heap_saturated: bool
    order_pvalue: float
    frobenius_sq: float
    tail: float
    mean: Array | None
    memory_used: int
    method: str
