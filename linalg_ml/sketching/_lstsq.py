"""Least squares to full accuracy: a preconditioner from one pass, then refinement."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cholesky, svdvals
from scipy.sparse.linalg import LinearOperator

from .._core.arrays import Array, check_choice, check_real
from .._core.convergence import warn_unconverged
from .._core.random import RNG, child, generator, key_of
from ._formed import FormedMap
from ._kronecker import KroneckerRows
from ._kronecker_solve import PairSpectrum, solve_pairs
from ._operators import OperatorProblem, solve_by_lsmr
from ._passes import Passes, power_of_two_below
from ._refine import Preconditioner, Refined, reciprocal_condition, refine, triangle_of
from ._sparse import SparseSign
from ._wide import Wide

METHODS = ("auto", "gram", "sketch", "lsmr", "qr")
_NON_ZEROS = 4  # of a column of the sketch: half the cost of 8, and as good a preconditioner
_SMALL = 200_000  # entries of A up to which QR is as fast as anything
_GRAM_CONDITION = 1e-9  # LAPACK's estimate below which the loop would repair too slowly: κ₂ of about 1e7
_LARGEST_TRIANGLE = 20_000  # columns: 3 GB of float64


@dataclass(frozen=True)
class LstsqResult:
    """A least-squares solution with its errors; unpacks as SciPy's: ``x, residues, rank, s``.

    With k right-hand sides, `residual_norm`, `backward_error` and `forward_error` have shape (k,).

    Attributes
    ----------
    x : array, shape (d,) or (d, k)
        The solution; of minimum norm if A is rank deficient or wide.
    residual_norm : float or ndarray
        ‖b - A x‖₂, without the part of the ridge.
    rank : int or None
        Numerical rank of A (with damp, of [A; damp·I], if A is wide of [Aᵀ; damp·I]); None if `method` is "lsmr".
    singular_values : ndarray or None
        Singular values of A (with damp, of [A; damp·I]), descending: to rounding for "qr", relative to u·(σ₁/σᵢ)²
        for "gram", within 1 ± √(d/m) for "sketch", None for "lsmr".
    backward_error : float or ndarray
        Estimate of the least ‖ΔA‖_F/‖A‖_F for which x solves the perturbed problem exactly.
    forward_error : float or ndarray
        Estimate, on the safe side, of ‖x - x*‖/‖x*‖ for the exact solution x*; infinity for "lsmr".
    n_iter : int
        Iterations of refinement in all.
    n_passes : int
        How often A was read.
    method : str
        "gram", "sketch", "qr" or "lsmr": what was used in the end.
    covariance : ndarray or None
        Of the coefficients, if asked for: shape (d, d), or (d, d, k).
    """

    x: Array
    residual_norm: Any
    rank: int | None
    singular_values: np.ndarray | None
    backward_error: Any
    forward_error: Any
    n_iter: int
    n_passes: int
    method: str
    covariance: np.ndarray | None = None
    _shape: tuple[int, int] = field(default=(0, 0), repr=False)

    def __iter__(self) -> Iterator[Any]:
        """Yield x, residues, rank and singular values, as `scipy.linalg.lstsq` returns them."""
        n, d = self._shape
        determined = n > d and self.rank in (None, d)
        residues = np.square(self.residual_norm) if determined else np.empty(0)
        return iter((self.x, residues, self.rank, self.singular_values))


def lstsq(
    A: Any,
    b: Any,
    *,
    damp: float = 0.0,
    method: str = "auto",
    tol: float | None = None,
    cond: float | None = None,
    rng: RNG = None,
    return_covariance: bool | str = False,
) -> LstsqResult:
    """Solve a linear least-squares problem to full accuracy: minimise ‖A x - b‖² + damp² ‖x‖².

    A drop-in for `scipy.linalg.lstsq` that is several times faster on tall matrices, uses little memory, and says how
    accurate it was.

    Parameters
    ----------
    A : array, sparse matrix, memmap, dask array, KroneckerRows or LinearOperator, shape (n, d)
        Real or complex. Never written to or copied as a whole.
    b : array_like, shape (n,) or (n, k)
        Right-hand sides, in the library and on the device of `A`.
    damp : float ≥ 0, default 0
        Ridge: λ of the term λ²‖x‖².
    method : {"auto", "gram", "sketch", "qr", "lsmr"}, default "auto"
        "gram": Cholesky of AᵀA as the preconditioner, repaired by refinement; for κ(A) up to about 1e7, and
        given up for another method beyond. "sketch": QR of a sparse sign sketch as the preconditioner, any κ;
        needs n ≥ 8d, else "qr" is used. "qr": blocked QR of [A b] in one pass. "lsmr": SciPy's LSMR with scaled
        columns; for operators and huge sparse matrices. "auto": see Notes.
    tol : float, optional
        Backward error to aim at; default the unit roundoff of the dtype.
    cond : float, optional
        Directions with singular values up to `cond` times the largest count as zero; default 10 eps.
    rng : None, int or numpy.random.Generator, optional
        Randomness of the sketch. It changes the answer by rounding only.
    return_covariance : bool or "exact", default False
        Whether to return the covariance σ²(AᵀA)⁻¹ of the coefficients, σ² = ‖r‖²/(n - rank). With "sketch" it
        comes from the sketch, right to 1/√(2(m - d)), with "gram" right to u·κ²; "exact" makes it exact by one
        more pass.

    Returns
    -------
    result : LstsqResult
        `x`, `residual_norm`, `rank`, `singular_values`, `backward_error`, `forward_error`, `n_iter`, `n_passes`,
        `method`, `covariance`.

    Raises
    ------
    ValueError
        If shapes do not fit, something is not finite, `damp` < 0, or a covariance is asked for that does not exist.
    TypeError
        If `A` or `b` is no array of numbers.

    Warns
    -----
    ConvergenceWarning
        If an operator, or a sparse matrix of more than 20,000 columns, defeats LSMR.

    See Also
    --------
    sketched_lstsq : one pass and an ε-approximate answer with its ℓ∞ bound.
    scipy.linalg.lstsq : LAPACK's solvers.

    Notes
    -----
    **What "auto" picks.** Sparse: "lsmr" where 100 of its iterations cost less than factorising (or d > 5,000), if
    it then reaches 10 units of roundoff; else "gram", else "sketch". Dense: "qr" for n < 2d or small A; else
    "gram", unless A is too ill-conditioned for it, which the Gram matrix of 2d sampled rows foretells (for arrays in
    memory) or "gram" finds out. Then "qr" for d ≤ 128, for many right-hand sides (k > d/80), on disk and on dask, and
    "sketch" otherwise.

    **Accuracy.** The refinement loop solves for corrections from the true residual until the Karlson–Waldén
    backward error [1]_ is below the unit roundoff, usually after one to three rounds; then x is as good as that of
    Householder QR. For numerically rank-deficient A the answer minimises over the directions kept by the sketch;
    without a gap in the spectrum it is not the truncated SVD's. float32 is solved in float32, sums in float64.

    **Cost.** "gram": n·d² flops and 2 to 4 further passes. "sketch": one pass of 8·n·d additions, 2·m·d² flops
    (m = 4d … 16d) and about 74/ln(m/d) passes. "qr": 2·n·d² flops. Memory beyond A: the sketch twice, 2·m·d numbers
    with m ≤ max(4d, n/10), or a few d × d matrices. The d × d work is done on the host. A wide A that is small, or too
    ill-conditioned for "sketch", is brought to the host as a dense matrix, and factorised there; "lsmr" of a wide
    array is not offered. An operator is solved by "lsmr" whatever `method` says, and KroneckerRows of all pairs by
    the decompositions of its factors.

    References
    ----------
    .. [1] R. Karlson, B. Waldén, "Estimation of optimal backward perturbation bounds for the linear least squares
       problem", BIT 37 (1997).
    .. [2] E. N. Epperly, M. Meier, Y. Nakatsukasa, "Fast randomized least-squares solvers can be just as accurate
       and stable as classical direct solvers", arXiv:2406.03468 (2024).
    .. [3] H. Avron, P. Maymounkov, S. Toledo, "Blendenpik: supercharging LAPACK's least-squares solver", SIAM J.
       Scientific Computing 32 (2010).

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.sketching import lstsq
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((5000, 50))
    >>> b = A @ np.ones(50) + 0.1 * rng.standard_normal(5000)
    >>> result = lstsq(A, b)
    >>> bool(result.backward_error < 1e-15)
    True
    >>> x, residues, rank, s = result
    >>> rank
    50
    """
    damp = check_real(damp, "damp", 0, 1e150, open_ends=False)
    check_choice(method, "method", METHODS)
    if cond is not None:
        cond = check_real(cond, "cond", 0, 1, open_ends=False)
    if tol is not None:
        tol = check_real(tol, "tol", 0, 1)
    check_choice(return_covariance, "return_covariance", (False, True, "exact"))
    return solve(A, b, damp, method, tol, cond, key_of(rng), return_covariance)


def solve(
    A: Any,
    b: Any,
    damp: float,
    method: str,
    tol: float | None,
    cond: float | None,
    key: int,
    return_covariance: bool | str,
) -> LstsqResult:
    """As `lstsq`, of checked arguments; with return_covariance="maybe" it is None where it does not exist."""
    if isinstance(A, KroneckerRows) and A.pairing == "all":
        return _solve_kronecker(A, b, damp, tol, cond, return_covariance)
    if isinstance(A, LinearOperator):
        return _solve_operator(OperatorProblem(A, b), damp, key, return_covariance)
    if isinstance(A, FormedMap) and A.shape[0] < A.shape[1]:
        A = A.rows(0, A.shape[0])  # the transpose is needed, whose rows cannot be formed
    problem = Passes(A, b)
    if problem.n < problem.width:
        return _solve_wide(A, problem, damp, method, tol, cond, key, return_covariance)
    return _Tall(problem, damp, tol, cond, key).solve(method, return_covariance)


# --- tall problems ------------------------------------------------------------------------------------


@dataclass
class _Start:
    """A preconditioner of [A; λI] and the solution that came with it."""

    P: Preconditioner
    x: np.ndarray
    b_norm: np.ndarray
    n_sketch: int | None = None


class _Tall:
    """One problem with at least as many rows as columns."""

    def __init__(self, problem: Passes, damp: float, tol: float | None, cond: float | None, key: int):
        self.problem, self.given_damp, self.key = problem, damp, key
        self.unit = problem.unit
        self.cond = 20 * self.unit if cond is None else cond
        self.target = self.unit if tol is None else tol

    @property
    def damp(self) -> float:
        """λ in the scale in which the problem is solved."""
        return self.given_damp * self.problem.scale

    def solve(self, method: str, covariance: bool | str) -> LstsqResult:
        """Try methods in turn, each given up only for one that can do better."""
        plan = self._plan(method)
        for name in plan:
            start = None
            if name == "lsmr":
                done = self._by_lsmr()
            else:
                start = self._start(name)
                if start is None:
                    continue
                done = self._refine(start)
            enough = (10 if name == "lsmr" else 100) * self.unit
            accurate = bool(np.all(done.backward_error <= max(enough, self.target)))
            good = accurate and not (done.deficient if name == "lsmr" else done.slow)
            if good or name == plan[-1]:
                break
        if start is None:
            return _finish_lsmr(self.problem, done, good, covariance)
        return self._finish(name, start, done, covariance)

    # --- the choice -----------------------------------------------------------------------------------

    def _plan(self, method: str) -> list[str]:
        problem = self.problem
        n, d, k = problem.n, problem.width, problem.columns
        can_sketch = sketch_size(n, d) is not None
        if method == "auto" and problem.sparse:
            return self._sparse_plan()
        if method == "qr" or (method == "sketch" and not can_sketch):
            return ["qr"]
        if method == "sketch":
            return ["sketch", "qr"]
        if method == "lsmr":
            return ["lsmr"]
        many, rest = k > d / 80, ["sketch", "qr"] if can_sketch else ["qr"]
        if method == "gram":
            return ["gram", "qr"] if d <= 128 or many else ["gram", *rest]
        if n < 2 * d or n * d <= _SMALL:
            return ["qr"]
        if not problem.in_memory:
            return ["gram", "qr"] if d <= 2000 else rest
        if n < 8 * d:
            return ["gram", "qr"]
        if d <= 128 or many:
            return ["gram", "qr"] if self._gram_will_do() else ["qr"]
        gram_pays = _gram_seconds(n, d) < 1.5 * _sketch_seconds(n, d)
        return ["gram", *rest] if gram_pays and self._gram_will_do() else rest

    def _sparse_plan(self) -> list[str]:
        problem = self.problem
        n, d, nnz = problem.n, problem.width, problem.nnz
        dense_seconds, iteration_seconds = 3 * d**3 / 15e9, (12 * nnz + 30 * (n + d)) * 1e-9
        plan = ["lsmr"] if d > 5000 or dense_seconds > 100 * iteration_seconds else []
        if d <= _LARGEST_TRIANGLE:
            plan += ["gram", "sketch"] if sketch_size(n, d) else ["gram"]
            plan += ["qr"]
        return plan

    def _gram_will_do(self) -> bool:
        """Judge by the Gram matrix of a few rows; a wrong yes is caught by gram's own test, a wrong no costs time."""
        n, d = self.problem.n, self.problem.width
        rows = np.sort(generator(self.key, 1).choice(n, 2 * d, replace=False))
        part = self.problem.rows_at(rows) * math.sqrt(n / (2 * d))
        if not np.isfinite(part).all():
            self.problem.peaks()  # names the row
        return self._cholesky(part.conj().T @ part) is not None

    # --- starts ---------------------------------------------------------------------------------------

    def _start(self, name: str) -> _Start | None:
        return {"gram": self._by_gram, "sketch": self._by_sketch, "qr": self._by_qr}[name]()

    def _scaled(self, first_pass: Callable[[], tuple[np.ndarray, ...]], power: int = 1) -> tuple[np.ndarray, ...]:
        """Make a pass; if what it gives is out of range, find NaN, or scale by powers of two and make it again."""
        out = first_pass()
        if self._in_range(out, power):
            return out
        self.problem.fit_scale()
        return first_pass()

    def _in_range(self, out: tuple[np.ndarray, ...], power: int) -> bool:
        reach = 1e12 if self.unit > 1e-10 else 1e100
        for part, degree in zip(out, (power, 2, 2) if power == 2 else (1, 1), strict=False):
            size = float(np.max(np.abs(part), initial=0.0))
            if not (size == 0 or reach**-degree < size < reach**degree):
                return False
        return True

    def _cholesky(self, G: np.ndarray) -> np.ndarray | None:
        """Return the triangle of G + λ²I if refinement can repair what it lost, else None."""
        d = G.shape[0]
        G = G + self.damp**2 * np.eye(d)
        try:
            R = cholesky(G, check_finite=False)
        except LinAlgError:
            return None
        scaled = R / np.sqrt(np.diagonal(G).real)
        estimate, eps = reciprocal_condition(scaled), 2 * self.unit
        if estimate < _GRAM_CONDITION or reciprocal_condition(R) <= 10 * d * self.cond:
            return None
        if estimate < 10 * eps**0.5:  # so near to √eps may be what rounding made of a singular matrix
            values = svdvals(scaled, check_finite=False)
            return R if values[-1] > (d * eps) ** 0.5 * values[0] else None
        return R

    def _by_gram(self) -> _Start | None:
        G, c, squares = self._scaled(self.problem.gram, power=2)
        R = self._cholesky(G)
        if R is None:
            return None
        P = Preconditioner(R, self.cond)
        return _Start(P, P.apply(P.adjoint(c)), np.sqrt(squares))

    def _by_sketch(self) -> _Start | None:
        m = sketch_size(self.problem.n, self.problem.width)
        if m is None:
            return None
        S = SparseSign(self.problem.n, m, s=_NON_ZEROS, rng=child(self.key, 0))
        return self._from_rows(side_by_side(list(self._scaled(lambda: self.problem.sketch(S)))), m)

    def _by_qr(self) -> _Start:
        d = self.problem.width

        def parts() -> tuple[np.ndarray, ...]:
            T = self.problem.triangle()
            return T[:, :d], T[:, d:]

        return self._from_rows(side_by_side(list(self._scaled(parts))))

    def _from_rows(self, T: np.ndarray, n_sketch: int | None = None) -> _Start:
        """Start from [A b] or what stands for it, shortened: rows of both."""
        d, b_norm = self.problem.width, np.linalg.norm(T[:, self.problem.width :], axis=0)
        if self.damp > 0:
            T = triangle_of(T, np.concatenate([self.damp * np.eye(d), np.zeros((d, self.problem.columns))], axis=1))
        elif T.shape[0] > T.shape[1]:
            T = triangle_of(T)
        P = Preconditioner(T[:d, :d], self.cond)
        return _Start(P, P.solve(T[:d, d:]), b_norm, n_sketch)

    # --- ends -----------------------------------------------------------------------------------------

    def _refine(self, start: _Start) -> Refined:
        problem = self.problem
        return refine(
            problem.residual,
            problem.normal,
            start.P,
            start.x,
            start.b_norm,
            damp=self.damp,
            unit=self.unit,
            target=self.target,
            dtype=np.dtype(problem.dtype),
        )

    def _finish(self, name: str, start: _Start, done: Refined, covariance: bool | str) -> LstsqResult:
        problem, P = self.problem, start.P
        result = _result(problem, done, P, name, self.unit, problem.n_passes)
        if not covariance:
            return result
        C = self._covariance(name, start, done, covariance)
        return replace(result, covariance=C, n_passes=problem.n_passes)

    def _covariance(self, name: str, start: _Start, done: Refined, kind: bool | str) -> np.ndarray | None:
        """Return σ²(AᴴA)⁻¹ on the span of the directions kept, of the ridge the sandwich."""
        problem, P, n = self.problem, start.P, self.problem.n
        if n <= P.rank:
            if kind == "maybe":
                return None
            raise ValueError(f"return_covariance needs more rows than the rank, got {n} rows and rank {P.rank}")
        inverse = P.apply(np.eye(P.rank))
        inner = np.eye(P.rank)
        ridge = self.damp**2 * (inverse.conj().T @ inverse)
        if (kind == "exact" and name != "qr") or (name == "sketch" and self.damp > 0):
            W = inverse.conj().T @ problem.normal(inverse)
            middle = np.linalg.inv(W + ridge)
            inner = middle @ W @ middle
        elif start.n_sketch is not None:
            inner = inner * ((start.n_sketch - problem.width - 1) / start.n_sketch)
        else:
            inner = inner - ridge
        C = inverse @ inner @ inverse.conj().T * problem.scale**2
        variance = (done.residual_norm / problem.b_scale) ** 2 / (n - P.rank)
        return C * variance[0] if problem.vector else C[:, :, None] * variance

    # --- LSMR -----------------------------------------------------------------------------------------

    def _by_lsmr(self) -> Refined:
        problem = self.problem
        self._scaled(lambda: tuple(map(np.asarray, problem.peaks())))
        squares = problem.column_norms()
        norm = math.sqrt(squares.sum() + problem.width * self.damp**2)
        return solve_by_lsmr(problem, squares, norm, self.damp)


def side_by_side(parts: list[np.ndarray]) -> np.ndarray:
    """Return [A b] as LAPACK wants it, and empty the list: a sketch is large, and a third copy would be too much."""
    joined = np.empty((parts[0].shape[0], sum(part.shape[1] for part in parts)), parts[0].dtype, order="F")
    first = 0
    while parts:
        part = parts.pop(0)
        joined[:, first : first + part.shape[1]] = part
        first += part.shape[1]
    return joined


def forward_error(P: Preconditioner | PairSpectrum, done: Refined, unit: float, least: float = 0.0) -> np.ndarray:
    """Return an estimate of ‖x - x*‖/‖x*‖ on the safe side, from the backward error (or `least`) and the condition."""
    x_norm = np.linalg.norm(done.x, axis=0)
    smallest = P.smallest
    if smallest == 0:
        return np.zeros_like(x_norm)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(x_norm > 0, done.augmented_norm / (smallest * x_norm), 0.0)
    return unit + 2 * np.maximum(done.backward_error, least) * (P.norm / smallest) * (1 + ratio)


# --- other problems -----------------------------------------------------------------------------------


def _result(
    problem: Any, done: Refined, P: Preconditioner | PairSpectrum | None, method: str, unit: float, n_passes: int
) -> LstsqResult:
    """Undo the scaling, and give everything its shape."""
    least = unit if problem.shape[0] < problem.shape[1] else 0.0  # errors across the rows of A do not show in A x
    forward = np.full(done.x.shape[1], np.inf) if P is None else forward_error(P, done, unit, least)
    return LstsqResult(
        problem.answer(done.x * (problem.scale / problem.b_scale)),
        problem.per_side(done.residual_norm / problem.b_scale),
        None if P is None else P.rank,
        None if P is None else P.singular_values / problem.scale,
        problem.per_side(done.backward_error),
        problem.per_side(forward),
        done.n_iter,
        n_passes,
        method,
        None,
        problem.shape,
    )


def _finish_lsmr(problem: Any, done: Refined, good: bool, covariance: bool | str) -> LstsqResult:
    if covariance and covariance != "maybe":
        raise ValueError('return_covariance needs a factorisation, which method="lsmr" has not')
    if not good and done.slow:  # else the run ended by itself, and the backward error is a bound that may be wide
        worst = float(np.max(done.backward_error))
        warn_unconverged(
            f"LSMR stopped after {done.n_iter} iterations at a backward error of {worst:.1e}; the answer may be "
            "inaccurate",
            4,
        )
    return _result(problem, done, None, "lsmr", problem.unit, problem.n_passes)


def _solve_operator(problem: OperatorProblem, damp: float, key: int, covariance: bool | str) -> LstsqResult:
    norm = math.hypot(problem.norm(key), math.sqrt(problem.width) * damp)
    done = solve_by_lsmr(problem, np.ones(problem.width), norm, damp)
    if not np.all(np.isfinite([*done.backward_error, *done.residual_norm, norm])):
        raise LinAlgError("products with A overflow; scale A")
    return _finish_lsmr(problem, done, bool(np.all(done.backward_error <= 10 * problem.unit)), covariance)


def _solve_wide(
    A: Any,
    problem: Passes,
    damp: float,
    method: str,
    tol: float | None,
    cond: float | None,
    key: int,
    covariance: bool | str,
) -> LstsqResult:
    if covariance and covariance != "maybe":
        raise ValueError(f"return_covariance needs more rows than columns, got A of shape {problem.shape}")
    n, d = problem.shape
    unit = problem.unit
    peak, b_peak = problem.peaks()
    reach = 1e12 if unit > 1e-10 else 1e100
    if any(p > 0 and not 1 / reach < p < reach for p in (peak, b_peak)):
        problem.fit_scale()
    wide = Wide(A, problem, damp * problem.scale, 20 * unit if cond is None else cond, tol or unit, key)
    m = sketch_size(d, n)
    small = not problem.sparse and (d < 2 * n or n * d <= _SMALL or n <= 128 or problem.columns > n / 80)
    wanted = method == "sketch" or (method != "qr" and not small)
    solved = wide.by_sketch(m) if m is not None and wanted else None
    name = "qr" if solved is None else "sketch"
    P, done = solved or wide.by_qr()
    return _result(problem, done, P, name, unit, problem.n_passes + wide.B.n_passes)


def _solve_kronecker(
    A: KroneckerRows, b: Any, damp: float, tol: float | None, cond: float | None, covariance: bool | str
) -> LstsqResult:
    if covariance and covariance != "maybe":
        raise ValueError('return_covariance is not offered for KroneckerRows with pairing="all"')
    scales = [power_of_two_below(factor) for factor in A.factors]
    A = KroneckerRows(*(factor * scale for factor, scale in zip(A.factors, scales, strict=True)))
    problem = Passes(A, b)
    problem.scale, problem.b_scale = math.prod(scales), power_of_two_below(problem.right_hand_sides())
    P, done, n_passes = solve_pairs(problem, A, damp * problem.scale, cond, problem.unit if tol is None else tol)
    return _result(problem, done, P, "qr", problem.unit, n_passes)


# --- what things cost ---------------------------------------------------------------------------------


def sketch_size(n: int, d: int) -> int | None:
    """Return how many rows the sketch should have, None where sketching does not pay."""
    if n < 8 * d:
        return None
    sizes = [c * d for c in (4, 5, 6, 8, 10, 12, 16) if c * d <= max(4 * d, n // 10)]
    return min(sizes, key=lambda m: _sketch_seconds(n, d, m))


def _pass_seconds(n: int, d: int) -> float:
    return 8 * n * d / 20e9


def _sketch_seconds(n: int, d: int, m: int | None = None) -> float:
    m = m or sketch_size(n, d)
    if m is None:
        return math.inf
    passes = 74 / math.log(m / d) + 4  # sixteen digits at √(d/m) each
    return (4 + passes) * _pass_seconds(n, d) + 2 * m * d**2 / 15e9


def _gram_seconds(n: int, d: int) -> float:
    return n * d**2 / 50e9 + 4 * _pass_seconds(n, d)
