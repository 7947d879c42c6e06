"""Least squares to full accuracy against LAPACK's solvers, QR and the normal equations."""

from functools import partial

import numpy as np
from _harness import Run
from scipy.linalg import cho_factor, cho_solve, lapack, qr, svd
from scipy.linalg import lstsq as scipy_lstsq

from linalg_ml.sketching import lstsq

SIZES = (10**6, 100), (2**17, 512), (10**5, 1000)
QUICK = (4000, 40), (8000, 160)
CONDITIONS, RESIDUALS = (1e2, 1e12), (1e-3, 1.0)


def main():
    run = Run(__doc__, add_options)
    sizes = [tuple(map(int, size.split("x"))) for size in run.options.size] or (QUICK if run.quick else SIZES)
    for n, d in sizes:
        for cond in CONDITIONS:
            for residual in RESIDUALS:
                compare(run, Problem(n, d, cond, residual))


def add_options(parser):
    parser.add_argument("--size", action="append", default=[], metavar="NxD", help="only this size; may be repeated")
    parser.add_argument("--all-methods", action="store_true", help="each method of lstsq, and not auto alone")


class Problem:
    """A of known singular values, and b at a known distance from its range."""

    def __init__(self, n, d, cond, residual):
        self.title = f"{n} × {d}, cond {cond:.0e}, relative residual {residual:.0e}"
        rng = np.random.default_rng(0)
        A = rng.standard_normal((n, d))
        R = qr(A, mode="r", overwrite_a=False)[0][:d]
        self.V = qr(rng.standard_normal((d, d)))[0]
        self.s = np.logspace(0, -np.log10(cond), d)
        W = np.linalg.solve(R, self.s[:, None] * self.V.T)  # A R⁻¹ has orthonormal columns
        for start in range(0, n, 2**14):  # in place: A is the largest thing here
            A[start : start + 2**14] = A[start : start + 2**14] @ W
        self.A = A
        x = rng.standard_normal(d)
        b = A @ (x / np.linalg.norm(x))
        r = rng.standard_normal(n)
        self.b = b + residual * np.linalg.norm(b) / np.linalg.norm(r) * r
        self.exact = None

    def truth(self):
        """Return the solution as far as float64 can know it: QR, then refinement with residuals in longdouble."""
        if self.exact is None:
            self.exact = refined(self.A, self.b)
            _, self.sigma, self.Vh = svd(triangle(self.A, self.b)[0], full_matrices=False)
        return self.exact

    def judged(self, x):
        """Return, as texts, the forward error, and the backward error of Karlson and Waldén, relative to ‖A‖_F."""
        truth = self.truth()
        r = residual(self.A, self.b, x)
        g = adjoint(self.A, r)
        x_norm, r_norm = np.linalg.norm(x), np.linalg.norm(r)
        backward = np.linalg.norm((self.Vh @ g) / np.hypot(self.sigma, r_norm / x_norm)) / x_norm
        forward = np.linalg.norm(x - truth) / np.linalg.norm(truth)
        return {"forward error": f"{forward:.1e}", "backward error": f"{backward / np.linalg.norm(self.sigma):.1e}"}


def blocks(n, size=2**14):
    return (slice(start, start + size) for start in range(0, n, size))


def residual(A, b, x):
    return b - A @ x


def adjoint(A, r):
    return sum(A[rows].T @ r[rows] for rows in blocks(len(A)))


def triangle(A, b):
    """Return R and Qᵀb of A by LAPACK's Householder QR of [A b]."""
    R = geqrf(A, b)
    d = A.shape[1]
    return R[:d, :d], R[:d, d]


def geqrf(A, b):
    M = np.empty((A.shape[0], A.shape[1] + 1), order="F")
    M[:, :-1], M[:, -1] = A, b
    lwork = int(lapack.dgeqrf_lwork(*M.shape)[0])
    return np.triu(lapack.dgeqrf(M, lwork=lwork, overwrite_a=True)[0][: A.shape[1] + 1])


def refined(A, b):
    """Refine the QR solution with residuals of the augmented system in longdouble (Björck 1967)."""
    R, z = triangle(A, b)
    x = np.linalg.solve(R, z).astype(np.longdouble)
    r = np.zeros(len(b), np.longdouble)
    r[:] = b
    for rows in blocks(len(A), 2**11):
        r[rows] = b[rows] - A[rows].astype(np.longdouble) @ x
    return corrected(A, b, R, x, r)


def corrected(A, b, R, x, r):
    """Take steps of the corrected seminormal equations with gradients in longdouble until they no longer shrink."""
    previous = np.inf
    for _ in range(6):
        g = sum(A[rows].T.astype(np.longdouble) @ r[rows] for rows in blocks(len(A), 2**11))
        step = np.linalg.solve(R, np.linalg.solve(R.T, g.astype(float)))
        size = np.linalg.norm(step)
        if size > previous / 2:
            break
        previous = size
        x = x + step
        for rows in blocks(len(A), 2**11):
            r[rows] = b[rows] - A[rows].astype(np.longdouble) @ x
    return x.astype(float)


# --- the methods --------------------------------------------------------------------------------------


def ours(A, b, method="auto"):
    return lstsq(A, b, method=method, rng=0).x


def by_scipy(A, b, driver):
    return scipy_lstsq(A, b, lapack_driver=driver, check_finite=False)[0]


def by_geqrf(A, b):
    R, z = triangle(A, b)
    return lapack.dtrtrs(R, z)[0]


def by_cholesky(A, b):
    G = A.T @ A
    try:
        return cho_solve(cho_factor(G), A.T @ b)
    except np.linalg.LinAlgError:
        return np.full(A.shape[1], np.nan)


def compare(run, problem):
    functions = {"lstsq": ours, "lstsq, method qr": partial(ours, method="qr")}
    if run.options.all_methods:
        functions |= {f"lstsq, method {name}": partial(ours, method=name) for name in ("gram", "sketch")}
    functions |= {
        "scipy gelsd": partial(by_scipy, driver="gelsd"),
        "scipy gelsy": partial(by_scipy, driver="gelsy"),
        "geqrf of [A b]": by_geqrf,
        "normal equations, Cholesky": by_cholesky,
    }
    A, b = problem.A, problem.b
    d = A.shape[1]
    few = d >= 1000 and not run.quick
    title = problem.title + (", medians of 3" if few else "")
    timings = run.compare(
        title, functions, (A, b), memory=("lstsq",) if few else True, repeats=3 if few else None, judge=problem.judged
    )
    result = lstsq(A, b, rng=0)
    print(
        f"\nauto picked {result.method!r}: {result.n_iter} iterations, {result.n_passes} passes; it claims a backward "
        f"error of {result.backward_error:.1e} and a forward error of {result.forward_error:.1e}."
    )
    run.goal("speed against geqrf", run.ratio(timings, "geqrf of [A b]"), least=2)
    run.goal(
        "speed against gelsd", run.ratio(timings, "scipy gelsd"), least=3 if d <= 512 else 2.5, aim=4 if d <= 512 else 3
    )
    run.goal("speed against our TSQR", run.ratio(timings, "lstsq, method qr"), least=0.9)
    run.goal("extra memory / memory of A", timings["lstsq"].memory / A.nbytes, most=0.25)
    run.goal(
        "backward error / that of geqrf",
        float(timings["lstsq"].judged["backward error"]) / float(timings["geqrf of [A b]"].judged["backward error"]),
        most=10,
    )


if __name__ == "__main__":
    main()
