"""The solution of least norm where there are fewer rows than columns, through the transpose.

With B = Aᵀ, which is tall, and everything conjugated: w solves (BᴴB + λ²I) w = b̄, and x̄ = B w.
"""

from typing import Any

import numpy as np
from array_api_compat import is_dask_array
from scipy.linalg import qr

from .._core.arrays import is_sparse, to_numpy
from .._core.random import child
from ._passes import Passes
from ._refine import Preconditioner, Refined, conjugate_gradients, triangle_of
from ._sparse import SparseSign

_ROUNDS = 5
_LARGEST_CONDITION = 1e7  # beyond it Aᴴ(P w) loses too much in each round


class Wide:
    """One problem A x = b with fewer rows than columns."""

    def __init__(self, A: Any, problem: Passes, damp: float, cond: float, target: float, key: int):
        self.A, self.problem = A, problem
        self.damp, self.cond, self.target, self.key = damp, cond, target, key
        self.B = problem.transposed(A)
        self.b = problem.right_hand_sides().conj()

    def by_sketch(self, m: int) -> tuple[Preconditioner, Refined] | None:
        """Solve with the sketch of Aᵀ as the preconditioner; None if A is too ill-conditioned."""
        n, d = self.problem.shape
        SB, _ = self.B.sketch(SparseSign(d, m, rng=child(self.key, 0)))
        P = Preconditioner(triangle_of(SB, self.damp * np.eye(n)) if self.damp > 0 else triangle_of(SB), self.cond)
        if not P.norm or P.singular_values[0] > _LARGEST_CONDITION * P.smallest:
            return None
        w = np.zeros_like(self.b)
        x = np.zeros((d, self.b.shape[1]), self.b.dtype)
        n_iter, previous = 0, np.full(self.b.shape[1], np.inf)
        for turn in range(_ROUNDS + 1):
            x = x.astype(self.problem.dtype).astype(x.dtype)
            done = self._judged(P, x, w, n_iter)
            stop = (done.backward_error <= self.target) | ((done.backward_error > previous / 2) if turn >= 2 else False)
            if stop.all() or turn == _ROUNDS:
                return P, done
            previous = done.backward_error
            assert done.gradient is not None
            c = P.adjoint(done.gradient)
            tolerance = np.full(c.shape[1], self.problem.unit**0.5)
            step, used, full = conjugate_gradients(self.B.normal, P, c, self.damp, tolerance, ~stop)
            if full:
                return None
            n_iter += used
            w = w + step
            x = x + self.B.multiply(step)
        return None

    def by_qr(self) -> tuple[Preconditioner, Refined]:
        """Solve by a Householder QR of Aᵀ on the host."""
        n, d = self.problem.shape
        B = self.A.T
        B = B.compute() if is_dask_array(B) else B
        B = to_numpy(B.toarray() if is_sparse(B) else B).astype(self.problem.wide_dtype) * self.problem.scale
        if self.damp > 0:
            B = np.concatenate([B, self.damp * np.eye(n)])
        Q, R = qr(B, mode="economic", overwrite_a=True, check_finite=False)
        P = Preconditioner(R, self.cond)
        z = P.solve_adjoint(self.b)
        x = (Q @ z)[:d].astype(self.problem.dtype).astype(z.dtype)
        return P, self._judged(P, x, P.solve(z), 0)

    def _judged(self, P: Preconditioner, x: np.ndarray, w: np.ndarray, n_iter: int) -> Refined:
        r = self.b - self.B.adjoint(x)
        g = r - self.damp**2 * w
        x_norm = np.linalg.norm(x, axis=0)
        z_norm = np.hypot(x_norm, self.damp * np.linalg.norm(w, axis=0))  # of the least solution of [A λI] z = b
        kept = np.linalg.norm(P.kept(g), axis=0)
        zero = np.linalg.norm(self.b, axis=0) == 0
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.where(x_norm > 0, kept / (z_norm * P.norm), np.where(zero | (kept == 0), 0.0, np.inf))
        r_norm = np.linalg.norm(r, axis=0)
        return Refined(x.conj(), r_norm, np.hypot(r_norm, self.damp * x_norm), error, n_iter, gradient=g)
