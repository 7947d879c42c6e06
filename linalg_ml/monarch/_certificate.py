"""How far a Monarch matrix is from the best one: a bound from the matrix and the factors alone."""

import math
from typing import Any

import numpy as np
import scipy.linalg
from array_api_compat import is_numpy_array

from .._core.arrays import Array, check_array, check_same, namespace, real_dtype, to_numpy, wide
from .._core.scaling import norms, times_powers
from ._compact import _cut_off, adjoint, factor_slices
from ._layout import Layout
from ._matrix import MonarchMatrix
from ._slices import panels

_MARGIN = {"float64": 1e-12, "float32": 1e-9}  # relative, by the dtype of the factors


def certify(A: Any, M: MonarchMatrix) -> float:
    """Bound how far a Monarch matrix is from the best approximation of `A` with its blocks and its rank.

    Parameters
    ----------
    A : array_like, shape (..., m, n)
        Dense matrix, or a batch of them; a `numpy.memmap` is read panel by panel.
    M : MonarchMatrix
        Any matrix of that shape in the two-stage form, however it was found.

    Returns
    -------
    certificate : float
        Upper bound on (‖A - M‖_F² - least ‖A - M'‖_F²)/‖A‖_F² over all M' with the blocks and the rank of `M`; of a
        batch, of the whole stack. For an answer of `project` about 1e-12 in double and 1e-9 in single precision.

    Raises
    ------
    ValueError
        If `M` is of another shape or not in the two-stage form, or `A` is empty or not finite.
    TypeError
        If `M` is no MonarchMatrix, or `A` holds no numbers.

    See Also
    --------
    project : gives this bound with ``certify=True``.

    Notes
    -----
    By Theorem 1 of [1]_ the excess is a sum over slices S ≈ U V: what the leading `rank` eigenvalues of SᴴS have above
    the captured energy c = ‖S‖² - ‖S - U V‖². For rank 1 a Cholesky factorisation of (1 + δ) c I - SᴴS shows, at a
    tenth of the cost of eigenvalues, that they have at most δ c; where it breaks down, and for higher ranks, they are
    computed. All of it in double precision; 4 max(p, q) units of rounding are added. What a solver says of its singular
    values plays no part, and ‖S - U V‖ is that of the factors as they are.

    The cost is mn·min(p, q) flops and, for higher ranks, the eigenvalues of all Gram matrices; `A` is read twice. The
    memory is a few panels of m × q numbers, and the factors, in double precision.

    References
    ----------
    .. [1] T. Dao et al., "Monarch: expressive structured matrices for efficient and accurate training", ICML 2022,
       Theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml import monarch
    >>> A = np.random.default_rng(0).standard_normal((64, 64))
    >>> M = monarch.project(A, nblocks=8)
    >>> monarch.certify(A, M) < 1e-11
    True
    >>> monarch.certify(A, M * 1.01) > 1e-6
    True
    """
    if not isinstance(M, MonarchMatrix):
        raise TypeError(f"M must be a MonarchMatrix, got {type(M).__name__}")
    A = check_array(A, "A", finite=False, convert=False)
    if tuple(A.shape) != tuple(M.shape):
        raise ValueError(f"A and M must have one shape, got {tuple(A.shape)} and {tuple(M.shape)}")
    if M._form is None or M._takes_real:
        raise ValueError("M must be in the two-stage form: for other chains of stages the least error is not known")
    check_same(A=A, M=M.left)
    return certificate(A, M)


def certificate(A: Array, M: MonarchMatrix) -> float:
    """Return the bound of `certify` for an array of M's library and shape; it is searched for NaN here."""
    left, right, cut = M._two_stage()
    if cut.padded:
        left, right = _cut_off(left, right, cut)
    half, of_left = _half_exponent(_peak(A, cut)), _half_exponent(_largest(left))
    left = times_powers(wide(left), np.asarray(-of_left))
    right = times_powers(wide(right), np.asarray(np.clip(of_left - half, -1000, 1000)))
    U, V = factor_slices(left, right)
    margin = _MARGIN[real_dtype(M.left)]
    excess = energy = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # where M is no approximation at all
        for k, panel in panels(A, cut, finite=False):
            S = times_powers(wide(panel), np.asarray(-half))
            more, whole = _excess(S, U[..., k, :, :, :], V[..., k, :, :, :], margin)
            excess, energy = excess + more, energy + whole
    rounding = 4 * max(cut.p, cut.q) * float(np.finfo(np.float64).eps)
    if energy == 0:
        return 0.0 if excess == 0 else math.inf
    return excess / energy + rounding if math.isfinite(excess) else math.inf


def _peak(A: Array, cut: Layout) -> float:
    """Return the largest modulus, column block by column block."""
    return max(_largest(panel) for _, panel in panels(A, cut))


def _largest(X: Array) -> float:
    xp = namespace(X)
    return float(xp.max(xp.abs(X)))


def _half_exponent(peak: float) -> int:
    """Return e with 4**e near `peak`, so that squares of what is divided by it neither overflow nor vanish."""
    return math.frexp(peak)[1] // 2 if peak > 0 else 0


def _excess(S: Array, U: Array, V: Array, margin: float) -> tuple[float, float]:
    """Return at least what the slices (…, J, p, q) of a panel lose by U V against the best, and their energy."""
    xp = namespace(S)
    rank, (p, q) = U.shape[-1], S.shape[-2:]
    whole = norms(S) ** 2
    lost = norms(S - xp.matmul(U, V)) ** 2
    if rank >= min(p, q):  # nothing need be lost
        return float(lost.sum()), float(whole.sum())
    gram = xp.matmul(adjoint(S), S) if q < p else xp.matmul(S, adjoint(S))
    captured = whole - lost
    if rank == 1 and is_numpy_array(gram):
        above = _beyond_largest(gram, captured, margin)
    else:
        above = _beyond_leading(gram, captured, rank)
    return float(above.sum()), float(whole.sum())


def _beyond_leading(gram: Array, captured: np.ndarray, rank: int) -> np.ndarray:
    """Return what the sum of the leading eigenvalues has above the captured energy."""
    energies = to_numpy(namespace(gram).linalg.eigvalsh(gram))
    return np.maximum(energies[..., -rank:].sum(axis=-1) - captured, 0)


def _beyond_largest(gram: np.ndarray, captured: np.ndarray, margin: float) -> np.ndarray:
    """Return at least what the largest eigenvalue has above the captured energy: the margin, where that is shown."""
    shifted = -gram
    diagonal = np.arange(gram.shape[-1])
    shifted[..., diagonal, diagonal] += (1 + margin) * captured[..., None]
    shown = np.empty(captured.shape, bool)
    for at in np.ndindex(captured.shape):
        shown[at] = _is_positive_definite(shifted[at])
    above = margin * captured
    if not shown.all():
        above[~shown] = _beyond_leading(gram[~shown], captured[~shown], 1)
    return above


def _is_positive_definite(H: np.ndarray) -> bool:
    """Tell whether Cholesky succeeds; `numpy.linalg.cholesky` would say so only of a whole stack. Overwrites H."""
    factor = scipy.linalg.lapack.zpotrf if np.iscomplexobj(H) else scipy.linalg.lapack.dpotrf
    return factor(H.T, clean=False, overwrite_a=True)[1] == 0
