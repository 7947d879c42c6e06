"""Ridge regression with a Monarch matrix of coefficients: the full solution, projected in the metric of the data."""

from typing import NamedTuple

import numpy as np

from .._core.arrays import (
    Array,
    cast,
    like,
    namespace,
    to_numpy,
)
from .._linalg.estimates import exact_norm
from ._compact import adjoint
from ._layout import Layout
from ._matrix import MonarchMatrix
from ._metric import metric_of_root
from ._weighted import fit_weighted


def project_ridge(
    X: Array, Y: Array, cut: Layout, rank: int, alpha: float, *, dtype: str, max_iter: int, tol: float
) -> tuple[MonarchMatrix, np.ndarray]:
    """Return Monarch coefficients, of `dtype`, of a ridge regression, and its loss at the start and after each sweep.

    The loss of coefficients W is that of the best ones, W*, and tr((W - W*) (XᵀX + alpha I) (W - W*)ᵀ).
    """
    best = ridge(X, Y, alpha)
    metric = metric_of_root(best.root, cut)
    M, errors = fit_weighted(cast(best.coef, dtype), cut, rank, metric, max_iter=max_iter, tol=tol)
    with np.errstate(over="ignore"):
        return M, np.square(best.error) + np.square(errors)


class Ridge(NamedTuple):
    """Coefficients of a ridge regression, and its loss as a metric of theirs."""

    coef: Array  # (n_targets, n_features)
    root: np.ndarray  # XᵀX + alpha I = rootᵀ root
    error: float  # √(‖Y - X coefᵀ‖² + alpha ‖coef‖²)


def ridge(X: Array, Y: Array, alpha: float) -> Ridge:
    """Return the least-squares solution (of least norm) of [X; √alpha I] coefᵀ ≈ [Y; 0], in double precision."""
    xp = namespace(X)
    n, count = X.shape[1], Y.shape[1]
    if alpha > 0:
        X = xp.concat([X, like(alpha**0.5 * np.eye(n), X)])
        Y = xp.concat([Y, like(np.zeros((n, count)), Y)])
    Q, R = xp.linalg.qr(X)
    u, s, vh = xp.linalg.svd(R, full_matrices=False)
    values = to_numpy(s)
    kept = values > max(X.shape) * np.finfo(np.float64).eps * values[0]
    inverse = like(np.where(kept, 1 / np.where(kept, values, 1.0), 0.0), X)
    solution = adjoint(vh) @ (inverse[:, None] * (adjoint(u) @ (adjoint(Q) @ Y)))
    error = exact_norm(Y - X @ solution)
    return Ridge(xp.matrix_transpose(solution), to_numpy(R), error)
