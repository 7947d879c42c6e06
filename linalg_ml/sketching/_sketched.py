"""Sketch and solve: an approximate least-squares solution with a bound for each coordinate."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import is_dask_array
from scipy.linalg import qr
from scipy.special import ndtri

from .._core.arrays import Array, check_choice, check_int, check_real, to_numpy
from .._core.random import RNG, child, key_of
from ._gaussian import Gaussian
from ._hadamard import SRHT
from ._kronecker import KroneckerRows
from ._lstsq import lstsq
from ._passes import Passes
from ._refine import Preconditioner
from ._sketch import Sketch
from ._sparse import CountSketch, SparseSign
from ._tensor import TensorSRHT
from ._trigonometric import SRTT

_KINDS: dict[str, Callable[..., Sketch]] = {
    "srht": SRHT,
    "srtt": SRTT,
    "gaussian": Gaussian,
    "sparse_sign": SparseSign,
    "countsketch": CountSketch,
}
_DENSE = ("srht", "srtt", "gaussian")  # the bounds hold for these alone


@dataclass(frozen=True)
class SketchedLstsqResult:
    """An approximate least-squares solution with its bounds; unpacks as ``x, residual_norm``.

    With k right-hand sides, `residual_norm` and `linf_bound` have shape (k,), `error` (d, k).

    Attributes
    ----------
    x : array, shape (d,) or (d, k)
        The solution of the sketched problem.
    residual_norm : float or ndarray
        ‖b - A x‖₂ of the whole problem.
    linf_bound : float, ndarray or None
        Bound of ‖x - x*‖_∞ that holds with probability 1 - delta; None for sparse sketches and for TensorSRHT, which
        have none.
    error : ndarray or None
        Bounds for the coordinates, which hold together with probability 1 - delta, if asked for.
    n_sketch : int
        Rows of the sketch; n if the problem was solved exactly.
    rank : int or None
        Numerical rank of the sketched matrix; None where LSMR solved the problem exactly.
    method : str
        "sketch", or "exact" where a sketch of the size asked for would not have paid.
    """

    x: Array
    residual_norm: Any
    linf_bound: Any
    error: np.ndarray | None
    n_sketch: int
    rank: int | None
    method: str

    def __iter__(self) -> Iterator[Any]:
        """Yield x and residual_norm."""
        return iter((self.x, self.residual_norm))


def sketched_lstsq(
    A: Any,
    b: Any,
    *,
    n_sketch: int | None = None,
    eps: float = 0.1,
    delta: float = 0.01,
    sketch: str = "srht",
    rng: RNG = None,
    error: bool | str = False,
) -> SketchedLstsqResult:
    """Solve a least-squares problem approximately from one sketch, with a bound on every coordinate.

    For a look at the coefficients of a problem too large to solve.

    Parameters
    ----------
    A : array, sparse matrix, memmap, dask array or KroneckerRows, shape (n, d)
        Real or complex, n ≥ d.
    b : array_like, shape (n,) or (n, k)
        Right-hand sides, in the library and on the device of `A`.
    n_sketch : int, optional
        Rows of the sketch, from d to n. By default chosen from `eps` and `delta`.
    eps : float in (0, 1), default 0.1
        Accuracy: ‖x - x*‖_∞ ≤ (eps/√d) ‖A x* - b‖₂ ‖A†‖₂. Small values are expensive: with d = 32 and delta = 0.01
        0.1 takes 41,614 rows, 0.5 takes 1,697.
    delta : float in (0, 1), default 0.01
        Probability with which the bounds may fail.
    sketch : {"srht", "srtt", "gaussian", "sparse_sign", "countsketch"}, default "srht"
        The kind of sketch. For KroneckerRows with all pairs, "srht" is TensorSRHT.
    rng : None, int or numpy.random.Generator, optional
        Randomness.
    error : bool or "jackknife", default False
        Whether to return a bound for each coordinate: True by a formula, "jackknife" by leaving out each row of
        the sketch. Of a sparse sketch and of TensorSRHT only the jackknife is offered, and it is heuristic.

    Returns
    -------
    result : SketchedLstsqResult
        `x`, `residual_norm`, `linf_bound`, `error`, `n_sketch`, `rank`, `method`.

    Raises
    ------
    ValueError
        If n < d (see `lstsq`), `n_sketch` is not from d to n, `eps` or `delta` not in (0, 1), shapes do not fit, or
        something is not finite.
    TypeError
        If `A` or `b` is no array of numbers.

    See Also
    --------
    lstsq : the exact solution, often as fast.

    Notes
    -----
    **Guarantee** [1]_. If abs(⟨Sg, Sh⟩ - ⟨g, h⟩) ≤ (β/√m) ‖g‖ ‖h‖ with probability 1 - δ for fixed g, h, as for SRHT,
    SRTT and Gaussian sketches, then m = ε⁻² d log³(n/δ) rows give
    ‖x - x*‖_∞ ≤ (ε/√d) ‖A x* - b‖₂ ‖A†‖₂ with probability 1 - δ. This is √d better than a bound of ‖x - x*‖₂ tells:
    the error of each coordinate is a sum of many small terms of mean zero.

    **Size.** m = d + 1 + ⌈d z²/ε²⌉, z = Φ⁻¹(1 - δ/(2d)): exact for Gaussian sketches, and measured for the others. If
    that exceeds n/2 the problem is solved by `lstsq`, and `method` says "exact".

    **A posteriori.** One further pass gives ‖r‖ = ‖b - A x‖. With ε_m = z √(d/(m - d - 1)) and η = √(d/m)(1 + 2/√d),
    ``linf_bound`` = (ε_m/√d) ‖r‖ (1 + η)/σ_min(SA). The formula for coordinate i is z ‖r‖ ‖e_iᵀR⁻¹‖/√(m - d - 1). Both
    are infinite for m ≤ d + 1.

    **Sparse sketches have no such bound.** They add few rows of A to each row of SA: where b has a spike on a row
    that lands on that of one coordinate, this coordinate is off by up to √d times the error of a dense sketch. On
    A = [I; 0] with spikes, CountSketch and SparseSign violate the theorem's bound in most trials. Nor has TensorSRHT,
    whose signs are products: with a constant column in a factor the formula failed in a quarter of the trials.

    References
    ----------
    .. [1] Z. Song, M. Ye, J. Yin, L. Zhang, "A nearly-optimal bound for fast regression with ℓ∞ guarantee",
       ICML 2023, Theorem 1.1.
    .. [2] E. Price, Z. Song, D. P. Woodruff, "Fast regression with an ℓ∞ guarantee", ICALP 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.sketching import sketched_lstsq
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((20_000, 10))
    >>> b = A @ np.ones(10) + rng.standard_normal(20_000)
    >>> result = sketched_lstsq(A, b, eps=0.3, rng=0)
    >>> exact = np.linalg.lstsq(A, b)[0]
    >>> bool(np.max(np.abs(result.x - exact)) < result.linf_bound)
    True
    """
    eps, delta = check_real(eps, "eps", 0, 1), check_real(delta, "delta", 0, 1)
    check_choice(sketch, "sketch", tuple(_KINDS))
    check_choice(error, "error", (False, True, "jackknife"))
    pairs = isinstance(A, KroneckerRows) and A.pairing == "all" and sketch == "srht"
    dense = sketch in _DENSE and not pairs
    if error is True and not dense:
        name = "TensorSRHT" if pairs else repr(sketch)
        raise ValueError(f'error must be False or "jackknife" for a sketch by {name}: the formula does not hold for it')
    key = key_of(rng)
    problem = Passes(A, b)
    n, d = problem.shape
    if n < d:
        raise ValueError(f"A must have at least as many rows as columns here, got shape {(n, d)}; lstsq takes wide A")
    z = -float(ndtri(delta / (2 * d)))
    if n_sketch is None:
        n_sketch = d + 1 + math.ceil(d * z**2 / eps**2)
        if n_sketch > n / 2:
            return _exactly(A, b, problem, key, error)
    else:
        n_sketch = check_int(n_sketch, "n_sketch", d, n, "the columns and the rows of A")
    SA, Sb = _sketched(A, b, _made(A, n, n_sketch, sketch, child(key, 0)), problem)
    Q, R = qr(SA, mode="economic", check_finite=False)
    P = Preconditioner(R, 20 * problem.unit)
    x = P.solve(Q.conj().T @ Sb).astype(problem.dtype)
    _, squares = problem.residual(x)
    r_norm = np.sqrt(squares)
    spare = n_sketch - d - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        unit_error = z / math.sqrt(spare) * r_norm if spare > 0 else np.full_like(r_norm, np.inf)
    bound = _linf_bound(P, unit_error, d, n_sketch) if dense else None
    errors = None
    if error == "jackknife":
        errors = z * _jackknife(Q, P, Sb - SA @ x)
    elif error:
        errors = np.linalg.norm(P.apply(np.eye(P.rank)), axis=1)[:, None] * unit_error
    return SketchedLstsqResult(
        problem.answer(x),
        problem.per_side(r_norm),
        None if bound is None else problem.per_side(bound),
        None if errors is None else (errors[:, 0] if problem.vector else errors),
        n_sketch,
        P.rank,
        "sketch",
    )


def _made(A: Any, n: int, m: int, sketch: str, key: int) -> Sketch:
    if isinstance(A, KroneckerRows) and A.pairing == "all" and sketch == "srht":
        return TensorSRHT((A.factors[0].shape[0], A.factors[1].shape[0]), m, rng=key)
    return _KINDS[sketch](n, m, rng=key)


def _sketched(A: Any, b: Any, S: Sketch, problem: Passes) -> tuple[np.ndarray, np.ndarray]:
    """Return S A and S b on the host."""
    SA = S.apply_kron(*A.factors) if isinstance(S, TensorSRHT) else S @ A
    Sb = S @ b
    SA, Sb = (X.compute() if is_dask_array(X) else X for X in (SA, Sb))
    SA, Sb = (to_numpy(X).astype(problem.wide_dtype) for X in (SA, Sb))
    return SA, Sb[:, None] if problem.vector else Sb


def _linf_bound(P: Preconditioner, unit_error: np.ndarray, d: int, m: int) -> np.ndarray:
    distortion = math.sqrt(d / m) * (1 + 2 / math.sqrt(d))
    return np.zeros_like(unit_error) if P.smallest == 0 else unit_error * (1 + distortion) / P.smallest


def _jackknife(Q: np.ndarray, P: Preconditioner, e: np.ndarray) -> np.ndarray:
    """Return the jackknife's standard errors, (d, k); infinite where one row of the sketch decides alone."""
    leverage = np.sum(np.abs(Q) ** 2, axis=1)
    if np.max(leverage) >= 1 - 1e-12:
        return np.full((Q.shape[1], e.shape[1]), np.inf)
    out = np.empty((Q.shape[1], e.shape[1]))
    for j in range(e.shape[1]):
        weighted = (Q * (e[:, j].conj() / (1 - leverage))[:, None]).conj().T
        out[:, j] = np.linalg.norm(P.solve(weighted), axis=1)
    return out


def _exactly(A: Any, b: Any, problem: Passes, key: int, error: bool | str) -> SketchedLstsqResult:
    """Solve by `lstsq`, where a sketch would have more than half of the rows."""
    done = lstsq(A, b, rng=key)
    x = to_numpy(done.x)
    sizes = np.linalg.norm(x, axis=0)
    bound = np.atleast_1d(np.where(sizes > 0, done.forward_error, 0.0) * sizes)
    errors = np.repeat(bound[None, :], problem.width, axis=0) if error else None
    return SketchedLstsqResult(
        done.x,
        done.residual_norm,
        problem.per_side(bound),
        None if errors is None else (errors[:, 0] if problem.vector else errors),
        problem.n,
        done.rank,
        "exact",
    )
