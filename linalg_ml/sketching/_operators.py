"""Least squares with things that can only be multiplied: LSMR, restarted on its own residual."""

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, lsmr

from .._core.arrays import check_array, compute_dtype
from .._core.random import Stream, normals
from .._linalg.estimates import frobenius_norm
from ._passes import power_of_two_below
from ._refine import Refined

_RUNS, _ITERATIONS = 3, 100
_LIMIT = 7  # SciPy's code for a run that ended at its limit of iterations


class OperatorProblem:
    """A SciPy `LinearOperator` and right-hand sides, as `Passes` has them."""

    def __init__(self, A: LinearOperator, b: Any):
        b = check_array(b, "b", ndim=(1, 2))
        if not isinstance(b, np.ndarray):
            raise TypeError(f"b must be a NumPy array beside a LinearOperator, got {type(b).__name__}")
        if b.shape[0] != A.shape[0]:
            raise ValueError(f"b must have the {A.shape[0]} rows of A, got shape {b.shape}")
        self._A, self.shape = A, tuple(A.shape)
        self.n, self.width = self.shape
        self.vector = b.ndim == 1
        self._b = b[:, None] if self.vector else b
        self.columns = self._b.shape[1]
        self.dtype = np.result_type(compute_dtype(np.dtype(A.dtype or np.float64)), b.dtype).name
        self.unit = float(np.finfo(self.dtype).eps) / 2
        self.wide_dtype = np.result_type(self.dtype, np.float64)
        self.n_passes = 0
        self.scale, self.b_scale = 1.0, power_of_two_below(self._b)
        self._b = self._b * self.b_scale

    def answer(self, X: np.ndarray) -> np.ndarray:
        """Return x in the caller's dtype and number of axes."""
        X = X.astype(self.dtype)
        return X[:, 0] if self.vector else X

    def per_side(self, values: np.ndarray) -> Any:
        """Return one number, or one for each right-hand side."""
        return float(values[0]) if self.vector else values

    def multiply(self, V: np.ndarray) -> np.ndarray:
        """Return A V."""
        self.n_passes += 1
        return np.asarray(self._A.matmat(V))

    def adjoint(self, Y: np.ndarray) -> np.ndarray:
        """Return Aᴴ Y."""
        self.n_passes += 1
        return np.asarray(self._A.rmatmat(Y))

    def residual_of(self, X: np.ndarray) -> np.ndarray:
        """Return b - A X."""
        return self._b - self.multiply(X)

    def residual(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return Aᴴ(b - A X) and the squared norms of the columns of b - A X."""
        r = self.residual_of(X)
        return self.adjoint(r), np.sum(np.abs(r) ** 2, axis=0)

    def norm(self, key: int) -> float:
        """Estimate ‖A‖_F from ten probes."""
        G = normals(key, Stream.PROBES, range(self.width), 10, to=np.empty(0))
        return frobenius_norm(self.multiply(G)).estimate


def solve_by_lsmr(problem: Any, squares: np.ndarray, norm: float, damp: float) -> Refined:
    """Run LSMR with columns scaled to norm one, three times at most on what is left.

    Parameters
    ----------
    problem : Passes or OperatorProblem
        What is solved.
    squares : array, shape (d,)
        Squared norms of the columns of A, or ones.
    norm : float
        ‖[A; λI]‖_F.
    damp : float
        λ.
    """
    d = problem.shape[1]
    norms = np.sqrt(squares + damp**2)
    scale = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1), 1.0)[:, None]
    x = np.zeros((d, problem.columns), problem.wide_dtype)
    operator = _scaled_operator(problem, scale, damp)
    n_iter = 0
    best: Refined | None = None
    for _ in range(_RUNS):
        right = np.concatenate([problem.residual_of(x), -damp * x])
        limited = False
        for j in range(problem.columns):
            y, stopped, used, *_ = lsmr(
                operator, right[:, j], atol=problem.unit / 4, btol=problem.unit / 4, conlim=0, maxiter=_ITERATIONS
            )
            x[:, j] += scale[:, 0] * y
            n_iter, limited = n_iter + used, limited or stopped == _LIMIT
        x = x.astype(problem.dtype).astype(x.dtype)
        done = _judged(problem, x, norm, damp, n_iter)
        done.slow = limited
        if best is None or np.max(done.backward_error) < np.max(best.backward_error):
            best = done
        if np.all(done.backward_error <= problem.unit):
            break
    assert best is not None
    best.n_iter = n_iter
    if damp == 0 and np.ptp(norms) > 0:
        return _of_least_norm(problem, best, norm)
    return best


def _of_least_norm(problem: Any, found: Refined, norm: float) -> Refined:
    """Return the solution of least norm with the same A x, where scaled columns led to another; it is marked then.

    Without scaling LSMR stays in the row space of A.
    """
    x = found.x
    operator = _scaled_operator(problem, np.ones((problem.shape[1], 1)), 0.0)
    right = np.concatenate([problem.multiply(x), np.zeros_like(x)])
    z = np.empty_like(x)
    for j in range(problem.columns):
        z[:, j] = lsmr(
            operator, right[:, j], atol=problem.unit / 4, btol=problem.unit / 4, conlim=0, maxiter=_ITERATIONS
        )[0]
    if np.all(np.linalg.norm(z, axis=0) >= (1 - 1e-6) * np.linalg.norm(x, axis=0)):
        return found
    done = _judged(problem, z.astype(problem.dtype).astype(z.dtype), norm, 0.0, found.n_iter)
    done.slow = found.slow
    if np.any(done.backward_error > np.maximum(10 * problem.unit, found.backward_error)):
        done = found  # the run without scaling did not get there
    done.deficient = True  # or too ill-conditioned to tell
    return done


def _scaled_operator(problem: Any, scale: np.ndarray, damp: float) -> LinearOperator:
    """Return [A; λI] times diag(scale)."""
    n, d = problem.shape

    def matvec(y: np.ndarray) -> np.ndarray:
        v = scale * y.reshape(d, 1)
        return np.concatenate([problem.multiply(v), damp * v])[:, 0]

    def rmatvec(r: np.ndarray) -> np.ndarray:
        r = r.reshape(n + d, 1)
        return (scale * (problem.adjoint(r[:n]) + damp * r[n:]))[:, 0]

    return LinearOperator((n + d, d), matvec=matvec, rmatvec=rmatvec, dtype=problem.wide_dtype)


def _judged(problem: Any, x: np.ndarray, norm: float, damp: float, n_iter: int) -> Refined:
    """Return x with its errors, as far as they are known without a factorisation."""
    g, squares = problem.residual(x)
    g = g - damp**2 * x
    x_norm = np.linalg.norm(x, axis=0)
    augmented = np.hypot(np.sqrt(squares), damp * x_norm)
    with np.errstate(divide="ignore", invalid="ignore"):
        from_residual = np.where(augmented > 0, np.linalg.norm(g, axis=0) / augmented, 0.0)
        from_size = np.where(x_norm > 0, augmented / x_norm, np.inf)
        error = np.minimum(from_residual, from_size) / norm if norm > 0 else np.zeros_like(x_norm)
    return Refined(x, np.sqrt(squares), augmented, error, n_iter)
