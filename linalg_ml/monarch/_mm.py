"""Products of a Monarch matrix and the transpose of one (class MM*): their factors, recovered or fitted.

Rows x*b + i and columns y*b + j of A, n × n, belong to entry (x, y) of block T_ij, s × s, of a b × b grid; n = b*s.
The matrix is in the class if T_ij = A_i diag(D_ij) C_j. All numbers here are double precision on the host.
"""

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.linalg import LinAlgError

from .._core.arrays import Array, check_array, check_int, check_real, is_complex, like, real_dtype, to_numpy, wide
from .._core.convergence import warn_unconverged
from .._core.random import RNG, Stream, key_of, normals
from .._core.scaling import times_power, top_exponent
from ._compact import adjoint
from ._layout import largest_divisor
from ._matrix import MonarchMatrix
from ._slices import truncate
from ._stages import Chain, blocks

_TOL = {"float64": 1e-8, "float32": 1e-5}  # a member's relative error, its own rounding included
_DRAWS = 16  # random combinations that are tried
_COMPLEX = 4  # of which so many also with complex factors, where the matrix is real
_REFINED = 3  # starts that are refined
_FALL = 0.01  # relative fall of the error in a sweep, below which the next is not worth it
_SINGULAR = 1e-14  # reciprocal condition below which a block is no pivot
_EQUAL = 1e-8  # relative distance of eigenvalues that count as one
_EPS = float(np.finfo(np.float64).eps)
_FLOOR = 10 * _EPS  # relative error that is rounding


@dataclass(frozen=True, eq=False)
class MMFactorization:
    """The factors of a matrix in the class MM*, the product of a Monarch matrix and the transpose of one.

    With b blocks of size s, n = b*s::

        M[x*b + i, y*b + j] = sum_t A[i, x, t] * D[i, j, t] * C[j, t, y]

    Attributes
    ----------
    A : array, shape (b, s, s)
        Left factors, columns of norm 1.
    C : array, shape (b, s, s)
        Right factors, rows of norm 1.
    D : array, shape (b, b, s)
        Middle factor.
    matrix : MonarchMatrix, shape (n, n)
        The product as an operator, three stages; of a real matrix with complex factors, the real part of the product.
    error, relative_error : float
        ‖M - matrix‖_F of the factors as they are, and the same over ‖M‖_F.
    pivot : (int, int)
        (i0, j0): the blocks of row i0 and of column j0 of the grid were inverted.
    n_iter : int
        Sweeps of least squares that refined the factors.
    converged : bool
        Whether `relative_error` is at most the tolerance.

    See Also
    --------
    factor_mm : recover them.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.linalg import hadamard
    >>> from linalg_ml import monarch
    >>> result = monarch.factor_mm(hadamard(64), nblocks=4, rng=0)
    >>> result.A.shape, result.C.shape, result.D.shape, result.converged
    ((4, 16, 16), (4, 16, 16), (4, 4, 16), True)
    >>> bool(np.allclose(result.matrix @ np.ones(64), hadamard(64) @ np.ones(64)))
    True
    """

    A: Array
    C: Array
    D: Array
    matrix: MonarchMatrix
    error: float
    relative_error: float
    pivot: tuple[int, int]
    n_iter: int
    converged: bool


def factor_mm(
    A: Any,
    *,
    nblocks: int | None = None,
    max_iter: int = 20,
    tol: float | None = None,
    strict: bool = False,
    rng: RNG = None,
) -> MMFactorization:
    """Recover the factors of a matrix that is the product of a Monarch matrix and the transpose of one.

    Parameters
    ----------
    A : array_like, shape (n, n)
        Real or complex, of any array library.
    nblocks : int, optional
        Number b of blocks of the outer factors, a divisor of n; the blocks have n/b rows. By default the largest
        divisor ≤ √n.
    max_iter : int, default 20
        Most sweeps of least squares.
    tol : float, optional
        Relative error up to which A counts as a member. By default 1e-8, in single precision 1e-5. For a member with
        noise, its relative norm.
    strict : bool, default False
        Raise, where `tol` is not reached, instead of warning.
    rng : None, int or numpy.random.Generator, optional
        The random combinations. Of a member without noise, the product of the factors depends on them by rounding only.

    Returns
    -------
    result : MMFactorization
        `A`, `C`, `D`, the operator `matrix`, `error`, `relative_error`, `pivot`, `n_iter`, `converged`. Factors of a
        real matrix are real where it has real ones; those of a real circulant, for instance, are complex.

    Raises
    ------
    ValueError
        If A is not square, empty or not finite, or `nblocks` does not divide n.
    TypeError
        If A holds no numbers.
    LinAlgError
        If no row and column of blocks are all invertible, which the method needs; or if `strict` and `tol` was not
        reached.

    Warns
    -----
    ConvergenceWarning
        If `tol` was not reached: A is not in the class, has more noise than that, or was too ill-conditioned.

    See Also
    --------
    project : with ``structure="mm*"``, an approximation of any matrix by one of the class.

    Notes
    -----
    The blocks T_ij = A_i diag(D_ij) C_j, rows i, b+i, … and columns j, b+j, …, of a member give matrices
    ``T[i, j0]⁻¹ T[i, j] T[i0, j]⁻¹ T[i0, j0]`` that have common eigenvectors, C[j0]⁻¹ (Theorem 7 of [1]_, which takes
    one of them). Here a random combination of all is diagonalised, so that zeros in the middle factor do no harm
    outside of row i0 and column j0, which are chosen to be well conditioned. Eigenvalues that coincide get an
    orthonormal basis of their common space. Then alternating least squares over A, C and D, which never raise the
    error, bring back digits and filter noise. With noise, eigenvalues of a real matrix may pair up into complex ones;
    the real basis of the plane of two is as good a start. Up to 16 combinations are tried, and the best three refined,
    beside complex factors of a real matrix if these fit better.

    A member of generic factors is recovered up to the factors' scaling and the order of t, to a relative error of some
    1e-15 where their condition numbers are moderate. Noise that lies in the class is fitted. A failure proves
    nothing: a matrix in the class may still have no invertible row and column of blocks. One block, and blocks of one
    number, hold every matrix.

    Costs O(n²s) operations for each sweep and each combination, and some eight times the memory of A. General
    eigenproblems are not in the array API: all is computed in double precision on the host, also for single precision,
    and the answer is given in the library, on the device and in the precision of A.

    References
    ----------
    .. [1] T. Dao et al., "Monarch: expressive structured matrices for efficient and accurate training", ICML 2022,
       Theorem 7 and Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml import monarch
    >>> rng = np.random.default_rng(0)
    >>> A, C = rng.standard_normal((2, 4, 8, 8))
    >>> D = rng.standard_normal((4, 4, 8))
    >>> M = np.einsum("ixt,ijt,jty->xiyj", A, D, C).reshape(32, 32)
    >>> result = monarch.factor_mm(M, nblocks=4, rng=0)
    >>> result.converged, bool(result.relative_error < 1e-13)
    (True, True)
    """
    A = check_array(A, "A", ndim=2)
    grid = _Grid.of(A, _check_blocks(A, nblocks))
    max_iter = check_int(max_iter, "max_iter", 0)
    enough = _TOL[real_dtype(A)]
    tol = enough if tol is None else check_real(tol, "tol", 0, 1, open_ends=False)
    pivot, fit = _recovered(grid, key_of(rng), max_iter, tol, enough)
    answer = _Answer.of(grid, fit.factors, A)
    converged = answer.relative_error <= tol
    if not converged:
        _complain(answer.relative_error, tol, strict)
    matrix = MonarchMatrix._of(answer.chain, takes_real=answer.takes_real)
    return MMFactorization(
        answer.A, answer.C, answer.D, matrix, answer.error, answer.relative_error, pivot, fit.n_iter, converged
    )


def project_mm(A: Array, nblocks: int | None, *, key: int, max_iter: int, tol: float) -> MonarchMatrix:
    """Approximate a finite matrix by one of the class; `tol` is the relative fall of error² that ends the sweeps.

    A heuristic: the least error is not known. Of two starts, the nearest Monarch matrix and the factors that a member
    would have, least squares make the best of each. The factors are in the dtype of A.
    """
    grid = _Grid.of(A, _check_blocks(A, nblocks))
    start = _monarch(grid)
    fall = tol / (1 + math.sqrt(1 - tol))  # of the error, 1 - √(1 - tol)
    fits = [_refined(grid, start, max_iter, fall)]
    if fits[0].residual > _FLOOR and (algebraic := _algebraic(grid, key)) is not None:
        fits.append(_refined(grid, algebraic, max_iter, fall))
    fits.append(_Fit(start, fits[0].first, fits[0].first, 0, True))  # the best only where rounding is all there is
    answer, fit = min(
        ((_Answer.of(grid, fit.factors, A), fit) for fit in fits), key=lambda pair: pair[0].relative_error
    )
    if not fit.settled:
        warn_unconverged(
            f"the error was still falling after {max_iter} sweeps; it is {answer.relative_error:.3g} of the norm", 3
        )
    facts: dict[str, Any] = {"error": answer.error, "relative_error": answer.relative_error}
    return MonarchMatrix._of(answer.chain, n_iter=fit.n_iter, converged=fit.settled, **facts)


# --- the grid ---------------------------------------------------------------------------------------------


class _Factors(NamedTuple):
    A: np.ndarray  # (b, s, s)
    D: np.ndarray  # (b, b, s)
    C: np.ndarray  # (b, s, s)

    @property
    def product(self) -> np.ndarray:
        """The blocks A_i diag(D_ij) C_j, (b, b, s, s)."""
        return (self.A[:, None] * self.D[:, :, None, :]) @ self.C[None]


class _Grid(NamedTuple):
    """The blocks of a matrix, scaled by a power of two so that the largest number is near one."""

    T: np.ndarray  # (b, b, s, s)
    exponent: int
    norm: float  # of T

    @classmethod
    def of(cls, A: Array, b: int) -> "_Grid":
        host = to_numpy(A)
        host = host.astype(np.result_type(host, np.float64), copy=False)
        exponent = top_exponent(host)
        s = host.shape[0] // b
        T = np.ascontiguousarray(times_power(host, -exponent).reshape(s, b, s, b).transpose(1, 3, 0, 2))
        return cls(T, exponent, float(np.linalg.norm(T)))

    @property
    def real(self) -> bool:
        return not is_complex(self.T)

    @property
    def sizes(self) -> tuple[int, int]:
        """Number and size of the blocks."""
        return self.T.shape[1], self.T.shape[2]

    def residual(self, factors: _Factors) -> tuple[np.ndarray, float]:
        """Return T less the product, and the norm of that over the norm of T."""
        E = self.T - factors.product
        return E, float(np.linalg.norm(E)) / (self.norm or 1.0)


def _check_blocks(A: Array, nblocks: Any) -> int:
    m, n = A.shape
    if m != n:
        raise ValueError(f"A must be square for the class MM*, got shape {tuple(A.shape)}")
    if nblocks is None:
        return largest_divisor(n)
    accepted = f"an integer that divides {n}, the size of A"
    try:
        operator.index(nblocks)
    except TypeError:
        raise ValueError(f"nblocks must be {accepted}, got {nblocks!r}") from None
    b = check_int(nblocks, "nblocks", 1)
    if n % b:
        raise ValueError(f"nblocks must be {accepted}, got {b}")
    return b


class _Answer(NamedTuple):
    """Factors as they are returned, with the error that they have."""

    A: Array
    C: Array
    D: Array
    takes_real: bool
    error: float
    relative_error: float

    @classmethod
    def of(cls, grid: _Grid, factors: _Factors, like_A: Array) -> "_Answer":
        takes_real = grid.real and is_complex(factors.A)
        dtype = np.result_type(real_dtype(like_A), np.complex64) if is_complex(factors.A) else real_dtype(like_A)
        on_A, on_D = _shares(grid.exponent, factors.D, np.finfo(dtype))
        A = times_power(factors.A, on_A).astype(dtype)
        D = times_power(factors.D, on_D).astype(dtype)
        C = factors.C.astype(dtype)
        back = _Factors(times_power(wide(A), -on_A), times_power(wide(D), -on_D), wide(C))
        E = grid.T - back.product
        residual = float(np.linalg.norm(E.real if takes_real else E))
        half = grid.exponent // 2
        error = residual * 2.0**half * 2.0 ** (grid.exponent - half)
        relative_error = residual / (grid.norm or 1.0)
        return cls(like(A, like_A), like(C, like_A), like(D, like_A), takes_real, error, relative_error)

    @property
    def chain(self) -> Chain:
        middle = np.ascontiguousarray(to_numpy(self.D).transpose(2, 0, 1))
        return blocks(self.A[None, ...]), blocks(like(middle[:, None], self.D)), blocks(self.C[None, ...])


def _shares(exponent: int, D: np.ndarray, info: np.finfo) -> tuple[int, int]:
    """Return the powers of two for A and for D: all goes to D, unless that would leave its range."""
    top = top_exponent(D) + exponent
    held = min(max(top, int(info.minexp) + int(info.nmant)), int(info.maxexp) - 1)
    return top - held, exponent - (top - held)


# --- recovery ---------------------------------------------------------------------------------------------


class _Fit(NamedTuple):
    factors: _Factors
    first: float  # relative error before the sweeps
    residual: float
    n_iter: int
    settled: bool  # whether the sweeps ended by themselves


class _Start(NamedTuple):
    factors: _Factors
    residual: float
    widened: bool  # complex factors of a real matrix


def _recovered(grid: _Grid, key: int, max_iter: int, tol: float, enough: float) -> tuple[tuple[int, int], _Fit]:
    """Return the pivot and the best fit of several starts, a real one for a real matrix where one is as good."""
    if 1 in grid.sizes:
        factors = _trivial(grid)
        residual = grid.residual(factors)[1]
        return (0, 0), _Fit(factors, residual, residual, 0, True)
    i0, j0, condition = _pivot(grid)
    if not condition >= _SINGULAR:
        fit = _refined(grid, _monarch(grid), max_iter, _FALL)
        if fit.residual <= tol:  # Monarch matrices are members, with any number of zeros
            return (i0, j0), fit
        raise LinAlgError(
            "the factors are recovered from a row and a column of blocks that are all invertible, and there are none: "
            f"the best have a block of reciprocal condition {condition:.1g}; project(A, structure='mm*') takes any A"
        )
    starts = _starts(grid, (i0, j0), key, enough, _COMPLEX if grid.real else 0)
    if not starts:
        raise LinAlgError("the blocks have no common eigenvectors that could be inverted: A is not in the class MM*")
    fits: list[tuple[float, _Fit]] = []
    for start in _in_order(starts):
        fit = _refined(grid, start.factors, max_iter, _FALL)
        fits.append((fit.residual * (2 if start.widened else 1), fit))
        if fit.residual <= tol:
            break
    return (i0, j0), min(fits, key=lambda pair: pair[0])[1]


def _algebraic(grid: _Grid, key: int) -> _Factors | None:
    """Return the factors, real for a real matrix, that come nearest before least squares; None if there are none."""
    i0, j0, condition = _pivot(grid)
    starts = _starts(grid, (i0, j0), key, _FLOOR, 0) if condition >= _SINGULAR else []
    return min(starts, key=lambda start: start.residual).factors if starts else None


def _trivial(grid: _Grid) -> _Factors:
    """Return factors of a grid of one block or of blocks of one number: every matrix is a member."""
    b, s = grid.sizes
    unit = np.broadcast_to(np.eye(s, dtype=grid.T.dtype), (b, s, s))
    if s == 1:
        return _Factors(unit, grid.T[..., 0], unit)
    return _normalised(_Factors(grid.T[0], np.ones((1, 1, s), grid.T.dtype), unit))


def _in_order(starts: list[_Start]) -> list[_Start]:
    """Return the starts to refine, the most promising first; a widened one only if it fits better than all others."""
    ordered = sorted(starts, key=lambda start: start.residual)
    own = [start for start in ordered if not start.widened][:_REFINED]
    if ordered[0].widened:
        return [ordered[0], *own]
    return own


def _pivot(grid: _Grid) -> tuple[int, int, float]:
    """Return the row and the column of blocks that are best conditioned, and the least reciprocal condition there.

    A block much smaller than its row and column let expect counts as worse by that: it may be zero but for noise.
    """
    values = np.linalg.svd(grid.T, compute_uv=False)
    largest = values[..., 0]
    size = np.linalg.norm(values, axis=-1)
    rows, columns = np.linalg.norm(size, axis=1, keepdims=True), np.linalg.norm(size, axis=0, keepdims=True)
    expected = rows * columns / (grid.norm or 1.0)
    score = values[..., -1] / np.where(largest > 0, largest, 1.0)
    score = score * np.minimum(1.0, size / np.where(expected > 0, expected, 1.0))
    i0, j0 = int(score.min(axis=1).argmax()), int(score.min(axis=0).argmax())
    return i0, j0, float(min(score[i0].min(), score[:, j0].min()))


def _starts(grid: _Grid, pivot: tuple[int, int], key: int, enough: float, widened: int) -> list[_Start]:
    """Return factors from random combinations, one alone if its relative error is `enough`.

    Of a real matrix they are real, but for the first `widened` combinations also complex.
    """
    b, s = grid.sizes
    terms = _terms(grid.T, *pivot).reshape(b * b, s * s)
    starts = []
    for draw in range(_DRAWS):
        weights = normals(key, Stream.STARTS, range(draw * b, (draw + 1) * b), b, to=np.empty(0))
        F = (weights.ravel() @ terms).reshape(s, s)
        for V in _bases(F, draw < widened):
            start = _start(grid, V, *pivot)
            if start is not None and start.residual <= enough:
                return [start]
            starts += [start] if start is not None else []
    return starts


def _terms(T: np.ndarray, i0: int, j0: int) -> np.ndarray:
    """Return T[i, j0]⁻¹ T[i, j] T[i0, j]⁻¹ T[i0, j0] for all i and j."""
    b, _, s, _ = T.shape
    rows = T.transpose(0, 2, 1, 3).reshape(b, s, b * s)  # all blocks of a row side by side: one factorisation for them
    left = np.linalg.solve(T[:, j0], rows).reshape(b, s, b, s).transpose(0, 2, 1, 3)
    return left @ np.linalg.solve(T[i0], np.broadcast_to(T[i0, j0], (b, s, s)))[None]


def _bases(F: np.ndarray, widened: bool) -> Iterator[np.ndarray]:
    """Yield a basis of eigenvectors; of a real F a real basis of the same spaces, where `widened` after the complex.

    Noise makes complex pairs of real eigenvalues that lie close together, but hardly moves the plane of the two.
    """
    values, V = _eigenvectors(F)
    if is_complex(F) or not values.imag.any():
        yield V if is_complex(F) else V.real
        return
    if widened:
        yield V
    of_pairs = V[:, values.imag > 0]
    yield np.concatenate([V[:, values.imag == 0].real, of_pairs.real, of_pairs.imag], axis=1)


def _eigenvectors(F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues and eigenvectors, orthonormal ones for eigenvalues that coincide."""
    from scipy.sparse.csgraph import connected_components

    values, V = np.linalg.eig(F)
    largest = float(np.max(np.abs(values)))
    count, cluster = connected_components(np.abs(values[:, None] - values) <= _EQUAL * largest, directed=False)
    if count == values.size:
        return values, V
    unit = np.eye(values.size)
    for c in range(count):
        members = np.flatnonzero(cluster == c)
        if members.size > 1:
            value = values[members].mean()
            if not is_complex(F) and abs(value.imag) <= 100 * _EPS * largest:
                value = value.real  # the cluster is its own conjugate
            Vh = np.linalg.svd(F - value * unit)[2]
            values[members], V[:, members] = value, adjoint(Vh[values.size - members.size :])
    return values, V


def _start(grid: _Grid, V: np.ndarray, i0: int, j0: int) -> _Start | None:
    """Return the factors that belong to C[j0]⁻¹ = V, None if V cannot be inverted."""
    b, s = grid.sizes
    A = _unit(grid.T[:, j0] @ V, -2)
    try:
        C = np.linalg.solve(A[i0], grid.T[i0])
    except LinAlgError:
        return None
    empty = np.zeros((b, b, s), np.result_type(A, grid.T))
    factors = _fit_middle(_Factors(A, empty, _unit(C, -1)), grid.T)
    residual = grid.residual(factors)[1]
    return _Start(factors, residual, grid.real and is_complex(A)) if math.isfinite(residual) else None


def _monarch(grid: _Grid) -> _Factors:
    """Return the nearest Monarch matrix with nblocks (b, s), a member with C = I."""
    b, s = grid.sizes
    of = truncate(grid.T.transpose(3, 0, 2, 1), 1)  # slices (k, i), of entries (x, j)
    A, D = of.U[..., 0].transpose(1, 2, 0), of.V[..., 0, :].transpose(1, 2, 0)
    return _normalised(_Factors(A, D, np.broadcast_to(np.eye(s, dtype=A.dtype), (b, s, s))))


# --- alternating least squares ----------------------------------------------------------------------------


def _refined(grid: _Grid, factors: _Factors, max_iter: int, fall: float) -> _Fit:
    """Fit A, C and D in turn, until the error falls by less than `fall` in a sweep or is rounding.

    Each step adds the least-squares solution for what is left, so that its own rounding is mended by the next; a
    step that gained nothing is not made.
    """
    E, residual = grid.residual(factors)
    first, n_iter = residual, 0
    settled = residual <= _FLOOR
    while not settled and n_iter < max_iter:
        before = residual
        for step in (_fit_left, _fit_right, _fit_middle):
            trial = step(factors, E)
            left, size = grid.residual(trial)
            if size < residual:
                factors, E, residual = trial, left, size
        n_iter += 1
        settled = residual <= _FLOOR or residual >= (1 - fall) * before
    return _Fit(factors, first, residual, n_iter, settled)


def _fit_left(f: _Factors, E: np.ndarray) -> _Factors:
    """Add to every A_i the least-squares solution of X [diag(D_i0) C_0, diag(D_i1) C_1, …] = [E_i0, E_i1, …]."""
    right = np.einsum("ijxt,ijt->itx", E @ adjoint(f.C)[None], f.D.conj())
    gram = np.einsum("ijt,iju,jtu->iut", f.D, f.D.conj(), f.C @ adjoint(f.C), optimize=True)
    return _normalised(f._replace(A=f.A + _solved(gram, right).swapaxes(-1, -2)))


def _fit_right(f: _Factors, E: np.ndarray) -> _Factors:
    """Add to every C_j the least-squares solution of [A_0 diag(D_0j); A_1 diag(D_1j); …] X = [E_0j; E_1j; …]."""
    right = np.einsum("ijty,ijt->jty", adjoint(f.A)[:, None] @ E, f.D.conj())
    gram = np.einsum("ijt,iju,itu->jtu", f.D.conj(), f.D, adjoint(f.A) @ f.A, optimize=True)
    return _normalised(f._replace(C=f.C + _solved(gram, right)))


def _fit_middle(f: _Factors, E: np.ndarray) -> _Factors:
    """Add to every D_ij the least-squares solution of A_i diag(x) C_j = E_ij."""
    right = np.einsum("ijxt,ixt->ijt", E @ adjoint(f.C)[None], f.A.conj())
    gram = (adjoint(f.A) @ f.A)[:, None] * (f.C @ adjoint(f.C)).swapaxes(-1, -2)[None]
    return f._replace(D=f.D + _solve_damped(gram, right[..., None])[..., 0])


def _solved(gram: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve normal equations, scaled to a unit diagonal."""
    diagonal = np.sqrt(np.einsum("...tt->...t", gram).real)
    scale = np.where(diagonal > 0, diagonal, 1.0)[..., None]
    return _solve_damped(gram / scale / scale.swapaxes(-1, -2), right / scale) / scale


def _solve_damped(gram: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve with a rounding unit added to the unit diagonal of `gram`, in place: what is singular stays where it is."""
    np.einsum("...tt->...t", gram)[...] += gram.shape[-1] * _EPS
    return np.linalg.solve(gram, right)


def _normalised(f: _Factors) -> _Factors:
    """Give the columns of A and the rows of C norm 1, and D what they had."""
    A_norm, C_norm = np.linalg.norm(f.A, axis=-2), np.linalg.norm(f.C, axis=-1)
    return _Factors(_unit(f.A, -2), f.D * A_norm[:, None] * C_norm, _unit(f.C, -1))


def _unit(X: np.ndarray, axis: int) -> np.ndarray:
    norm = np.linalg.norm(X, axis=axis, keepdims=True)
    return X / np.where(norm > 0, norm, 1.0)


# --- what is said -----------------------------------------------------------------------------------------


def _complain(relative_error: float, tol: float, strict: bool) -> None:
    message = (
        f"the factors that were found have a relative error of {relative_error:.2g}, and tol is {tol:.2g}: A is not in "
        "the class MM*, has more noise than that, or is too ill-conditioned"
    )
    if strict:
        raise LinAlgError(message)
    warn_unconverged(message, 3)
