"""Projection: the best Monarch approximation of a dense matrix, of any number of factors and in any metric."""

from typing import Any

from .._core import arrays
from .._core.arrays import (
    Array,
    cast,
    check_array,
    check_choice,
    check_int,
    check_real,
    compute_dtype,
)
from .._core.random import RNG, key_of
from ._layout import check_rank, layout
from ._matrix import MonarchMatrix
from ._mm import project_mm
from ._nearest import assembled, nearest
from ._order import project_chain
from ._weighted import project_weighted

_KINDS: dict[str, tuple[str, tuple[str, ...]]] = {  # of projection, and the options that they do not look at
    "": ("", ()),
    "mm*": ("structure='mm*'", ("pad", "refine", "method")),
    "chain": ("order and digits", ("pad",)),
    "weights": ("weights", ("refine", "method")),
}


def project(
    A: Any,
    *,
    nblocks: int | tuple[int, int] | None = None,
    rank: int = 1,
    pad: bool = False,
    order: int = 2,
    digits: Any = None,
    structure: str = "monarch",
    weights: Any = None,
    refine: bool = False,
    max_iter: int = 20,
    tol: float = 1e-6,
    method: str = "auto",
    certify: bool = False,
    check_finite: bool = True,
    rng: RNG = None,
) -> MonarchMatrix:
    """Find the Monarch matrix nearest to a dense matrix in the Frobenius norm, in closed form.

    Parameters
    ----------
    A : array_like, shape (..., m, n)
        Real or complex, of any array library, in any memory order; a `numpy.memmap` is read panel by panel. Leading
        axes are a batch of matrices. float16 and bfloat16 are computed in float32, integers in float64 (as a copy).
    nblocks : int or (int, int), optional
        (J, K): J blocks in the left factor, K in the right one, so that a slice of A has p = m/J rows and q = n/K
        columns; an integer means both. By default for each side the largest divisor ≤ its square root, or, where that
        is less than half the root (primes), the rounded root with padding.
    rank : int, default 1
        Rank of each slice, up to min(p, q). The result has ``rank*(m*K + n*J)`` numbers.
    pad : bool, default False
        Whether `nblocks` need not divide the shape: A counts as if zeros were appended, and the result is cut to the
        shape of A. It is still the best, for zeros are approximated by zeros.
    order : int, default 2
        Number of factors. More than two are found by splitting one after the other; the error is at most
        √(order - 1) times the least.
    digits : tuple, or pair of tuples, optional
        Sizes of the factors for rows and columns, most significant first, in place of `order`; one tuple for both.
    structure : {"monarch", "mm*"}, default "monarch"
        "mm*": the product of a Monarch matrix and the transpose of one; a heuristic, never worse than "monarch".
    weights : array, shape (n, n), (K, q, q) or (n,), optional
        Metric Σ of the inputs, for instance XᵀX of calibration data: minimise tr((A - M) Σ (A - M)ᴴ). Exact for
        diagonal and block weights; for (n, n) by block descent from there, which lowers the loss in every step.
    refine : bool, default False
        For more than two factors: sweeps of least squares over the factors (rank 1 only), which never raise the error.
    max_iter : int, default 20
        Most sweeps of `refine`, of full `weights` and of "mm*".
    tol : float, default 1e-6
        Relative fall of the loss in a sweep, below which they end.
    method : {"auto", "svd"}, default "auto"
        "auto": real rank 1 by Lanczos steps on each slice, all else by Gram matrices with a correction. "svd": LAPACK
        on every slice; slower.
    certify : bool, default False
        Also give `certificate` (see `monarch.certify`), or, of more than two factors, `lower_bound`; with `weights` and
        "mm*" there is none.
    check_finite : bool, default True
        Whether NaN and infinity are refused.
    rng : None, int or numpy.random.Generator, optional
        Start vectors of the Lanczos steps; the result depends on them by rounding only.

    Returns
    -------
    M : MonarchMatrix
        With `error` = ‖A - M‖_F of its factors as they are, `relative_error`, `singular_values` (..., K, J, rank),
        `gap` (..., K, J) of the slices, `method`; where it applies `weighted_error`, `n_iter`, `converged`,
        `certificate`, `level_errors`, `lower_bound`. Error and relative error of a batch are of the whole stack.

    Raises
    ------
    ValueError
        If A is empty, not finite or has fewer than two axes, `nblocks` does not divide its shape, or `rank` exceeds a
        slice.
    TypeError
        If A holds no numbers, or is real where `weights` are complex.
    LinAlgError
        If `weights` are not positive definite (the block is named).

    Warns
    -----
    ConvergenceWarning
        If `max_iter` sweeps did not reach `tol`.

    See Also
    --------
    suggest : error against number of parameters, for all block sizes.
    certify : how far a given Monarch matrix is from the best.

    Notes
    -----
    The slices, rows j, J+j, 2J+j, … and columns k*q to (k+1)*q - 1, do not share a number of the factors, so the best
    approximation is a truncated singular value decomposition of each (Theorem 1 of [1]_), and
    ``error**2`` = ‖A‖² - Σ σ². It is reached to rounding whatever the gaps: where singular values nearly tie, the
    factors are badly determined (`gap`) but the error is not. Members of the class are recovered exactly. The error is
    that of the returned factors, summed over residuals of slices, and right also far below √eps.

    Rank 1 costs about 4mn operations for each Lanczos step (2 on exact members, at most min(p, q), some 20 in float32
    and 30 in float64 on random slices); higher rank 2mn·min(p, q). Extra memory: the factors and two panels of m × q
    numbers a thread; libraries other than NumPy hold all slices at once.

    References
    ----------
    .. [1] T. Dao et al., "Monarch: expressive structured matrices for efficient and accurate training", ICML 2022,
       Theorem 1.
    .. [2] D. Y. Fu et al., "Monarch Mixer: a simple sub-quadratic GEMM-based architecture", NeurIPS 2023.
    .. [3] Q.-T. Le, L. Zheng, E. Riccietti, R. Gribonval, "Butterfly factorization with error guarantees",
       arXiv:2411.04506, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml import monarch
    >>> x = np.linspace(0, 1, 64)
    >>> M = monarch.project(np.exp(-8 * abs(x[:, None] - x)), nblocks=8, rank=2)
    >>> M
    <MonarchMatrix 64 × 64, nblocks (8, 8), rank 2, 2048 parameters, relative error 0.0451>
    """
    A = check_array(A, "A", finite=False, convert=False)
    if A.ndim < 2:
        raise ValueError(f"A must have at least two axes, got shape {tuple(A.shape)}")
    check_choice(structure, "structure", ("monarch", "mm*"))
    check_choice(method, "method", ("auto", "svd"))
    max_iter, tol = check_int(max_iter, "max_iter", 0), check_real(tol, "tol", 0, 1, open_ends=False)
    key = key_of(rng)
    order = check_int(order, "order", 2)
    chain = order != 2 or digits is not None
    _check_together(structure, chain, nblocks, rank, weights)
    _check_ignored(structure, chain, weights, pad=pad, refine=refine, method=method != "auto")
    A = cast(A, compute_dtype(A.dtype))
    if structure == "mm*":
        _one_matrix(A, "structure='mm*'", finite=check_finite)
        return project_mm(A, nblocks, max_iter=max_iter, tol=tol, key=key)  # type: ignore[arg-type]
    if chain:
        _one_matrix(A, "a chain of more than two factors", finite=check_finite)
        return project_chain(
            A, order, digits, rank, refine=refine, max_iter=max_iter, tol=tol, certify=certify, method=method, key=key
        )
    cut = layout(A.shape[-2], A.shape[-1], nblocks, pad)
    rank = check_rank(rank, cut.p, cut.q)
    if weights is not None:
        _one_matrix(A, "weights", finite=check_finite)
        return project_weighted(A, cut, rank, weights, max_iter=max_iter, tol=tol)
    found, used = nearest(A, cut, rank, method, key, finite=check_finite)
    return assembled(A, cut, found, used, certify=certify)


def _check_together(structure: str, chain: bool, nblocks: Any, rank: Any, weights: Any) -> None:
    """Refuse arguments that would be ignored beside others."""
    if structure == "mm*" and (chain or weights is not None or rank != 1):
        raise ValueError("structure='mm*' goes with nblocks alone, not with order, digits, rank or weights")
    if chain and weights is not None:
        raise ValueError("weights are for two factors, not for order or digits")
    if chain and nblocks is not None:
        raise ValueError(f"digits give the blocks of more than two factors, got nblocks={nblocks!r} beside them")


def _check_ignored(structure: str, chain: bool, weights: Any, **given: bool) -> None:
    """Refuse options that are not for this kind of projection."""
    kind, without = _KINDS[
        "mm*" if structure == "mm*" else "chain" if chain else "weights" if weights is not None else ""
    ]
    for name in without:
        if given[name]:
            raise ValueError(f"{name} is not for {kind}, where it would be ignored")


def _one_matrix(A: Array, what: str, *, finite: bool) -> None:
    """Refuse batches where the method takes one matrix."""
    if A.ndim > 2:
        raise ValueError(f"{what} takes one matrix, got a batch of shape {tuple(A.shape)}")
    if finite:
        arrays.check_finite(A, "A")
