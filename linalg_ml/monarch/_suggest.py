"""Which block sizes and which rank: error against number of parameters, for all of them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from .._core.arrays import check_array, check_finite, check_int, check_real, to_numpy
from .._core.progress import progress
from ._compact import adjoint
from ._layout import Layout, layout
from ._slices import panels

_LARGEST = 2048  # short side of slices whose spectra are still computed
_SQUARED = 1e-5  # errors below this are lost in Gram matrices, and found by singular values
_EXACT = 1e-14  # errors up to this are rounding, and count as equal
_PRINTED = 24  # rows of the table


class SuggestRow(NamedTuple):
    """One shape: `project` with these `nblocks` and this `rank` gives this error with so many parameters."""

    n_parameters: int
    relative_error: float
    nblocks: tuple[int, int]
    rank: int
    family: str


@dataclass(frozen=True)
class SuggestResult:
    """Shapes of Monarch matrices for one matrix, each better than all that have no more parameters.

    Attributes
    ----------
    rows : tuple of SuggestRow
        The front: `n_parameters` grow, `relative_error` (of the best approximation, in the Frobenius norm) falls. Each
        has `nblocks` and `rank`, as `project` takes them, and its `family`: "low rank" for nblocks (1, 1),
        "block-dense" for (1, K), "monarch" for all others.
    best : SuggestRow
        The smallest that reaches `tol` if that was given and is reached; else that of least error, errors up to 1e-14
        counting as equal.
    shape : (int, int)
        Of the matrix.
    budget : int
        Most parameters of a row.
    tol : float or None
        As it was given.
    skipped : tuple of (int, int)
        `nblocks` within the budget that were not tried, their slices being larger than 2048 × 2048.
    """

    rows: tuple[SuggestRow, ...]
    best: SuggestRow
    shape: tuple[int, int]
    budget: int
    tol: float | None
    skipped: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        m, n = self.shape
        lines = [f"{'parameters':>10}  {'of dense':>8}  {'rel. error':>10}  {'nblocks':>12}  {'rank':>4}  family"]
        for row in self._printed():
            error = f"{row.relative_error:.4g}" if row.relative_error > _EXACT else "exact"
            cells = f"{row.n_parameters:>10}  {row.n_parameters / (m * n):>8.2%}  {error:>10}  {row.nblocks!s:>12}"
            lines.append(f"{cells}  {row.rank:>4}  {row.family}" + "  <- best" * (row == self.best))
        left_out = len(self.rows) - len(lines) + 1
        lines += [f"({left_out} rows between these are not shown)"] * bool(left_out)
        if self.skipped:
            lines.append(f"not tried, slices too large: nblocks {', '.join(map(str, self.skipped))}")
        return "\n".join(lines)

    def _printed(self) -> list[SuggestRow]:
        """Return the rows, or so many of them, evenly spread over the logarithm of the number of parameters."""
        if len(self.rows) <= _PRINTED:
            return list(self.rows)
        sizes = np.array([row.n_parameters for row in self.rows])
        near = np.searchsorted(sizes, np.geomspace(sizes[0], sizes[-1], _PRINTED)[1:-1])
        return [self.rows[t] for t in sorted({0, *near.tolist(), len(self.rows) - 1, self.rows.index(self.best)})]

    def plot(self, ax: Any = None) -> Any:
        """Draw the error of all rows against their parameters, both on logarithmic axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default on new axes of pyplot's.

        Returns
        -------
        ax : matplotlib.axes.Axes
            The axes.

        Raises
        ------
        ImportError
            If matplotlib is not there.
        """
        if ax is None:
            try:
                from matplotlib import pyplot
            except ImportError as error:
                raise ImportError("plot needs matplotlib: pip install 'linalg-ml[plot]'") from error
            ax = pyplot.figure().add_subplot()
        for family, marker, colour in (("low rank", "s", "C0"), ("block-dense", "^", "C1"), ("monarch", "o", "C2")):
            rows = [row for row in self.rows if row.family == family]
            if rows:
                ax.plot(*_points(rows), marker, color=colour, markersize=4, label=family)
        ax.plot(*_points([self.best]), "*", color="C3", markersize=14, zorder=3, label="best")
        ax.set(xscale="log", yscale="log", xlabel="parameters", ylabel="relative error")
        ax.legend()
        return ax


def _points(rows: list[SuggestRow]) -> tuple[list[int], list[float]]:
    """Return parameters and errors, exact ones where a logarithm still shows them."""
    return [row.n_parameters for row in rows], [max(row.relative_error, _EXACT) for row in rows]


def suggest(A: Any, *, budget: int | None = None, tol: float | None = None, verbose: bool = False) -> SuggestResult:
    """Find the block sizes and ranks that approximate a matrix best, for every number of parameters.

    Parameters
    ----------
    A : array_like, shape (m, n)
        Real or complex. An array of another library than NumPy is copied to the host.
    budget : int, optional
        Most parameters of a shape, by default mn/2, or mn if `tol` is given; more than mn are never tried.
    tol : float, optional
        Relative error that `best` has to reach, with as few parameters as it can.
    verbose : bool, default False
        Whether to show a progress bar.

    Returns
    -------
    result : SuggestResult
        `rows`, the Pareto front of error against parameters; `best`; `skipped`. Printed, it is a table, and `plot`
        draws it.

    Raises
    ------
    ValueError
        If A is not a finite matrix, or no shape is within the budget.
    TypeError
        If A holds no numbers.

    See Also
    --------
    project : the matrix of a shape.

    Notes
    -----
    All pairs of divisors (J, K) of m and n with mK + nJ ≤ budget are tried, with all ranks that the budget allows: rank
    r takes r(mK + nJ) parameters, and its error is that of truncating all slices at r (Theorem 1 of [1]_). Sizes with
    few divisors, such as primes, have few shapes; zeros appended to A give it more. Low rank, (1, 1), and block columns
    of low rank, (1, K), are among them.

    One eigenvalue decomposition of the Gram matrices of all slices, in double precision, gives the errors of all ranks;
    where they fall below 1e-6, which squares do not resolve, singular values do. For each pair that costs 2mn·min(p, q)
    operations and O(mn·min(p, q)) for the eigenvalues: seconds for n = 1024, minutes for n = 4096 on one core. The
    largest panel, A itself for (1, 1), is held twice in double precision.

    References
    ----------
    .. [1] T. Dao et al., "Monarch: expressive structured matrices for efficient and accurate training", ICML 2022,
       Theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.linalg import block_diag
    >>> from linalg_ml import monarch
    >>> A = block_diag(*np.random.default_rng(0).standard_normal((4, 4, 4)))
    >>> result = monarch.suggest(A)
    >>> print(result)
    parameters  of dense  rel. error       nblocks  rank  family
            32    12.50%      0.8813        (1, 1)     1  low rank
            48    18.75%      0.7775        (1, 2)     1  block-dense
            64    25.00%      0.6918        (2, 2)     1  monarch
            80    31.25%      0.5876        (1, 4)     1  block-dense
            96    37.50%      0.3454        (2, 4)     1  monarch
           128    50.00%       exact        (4, 4)     1  monarch  <- best
    >>> monarch.project(A, nblocks=result.best.nblocks, rank=result.best.rank).relative_error < 1e-15
    True
    """
    A = to_numpy(check_array(A, "A", ndim=2, finite=False, convert=False))
    check_finite(A, "A")
    m, n = A.shape
    tol = None if tol is None else check_real(tol, "tol", 0, 1, open_ends=False)
    most = m * n if tol is not None else m * n // 2
    budget = most if budget is None else min(check_int(budget, "budget"), m * n)
    tried, skipped = _shapes(m, n, budget)
    rows: list[SuggestRow] = []
    scale = _power(A)
    for cut in progress(tried, "shapes", total=len(tried), verbose=verbose):
        rows += _rows(A, cut, budget, scale)
    front = _front(rows)
    return SuggestResult(front, _best(front, tol), (m, n), budget, tol, skipped)


def _shapes(m: int, n: int, budget: int) -> tuple[list[Layout], tuple[tuple[int, int], ...]]:
    """Return the layouts whose rank 1 is within the budget, and the block sizes of those that are too large to try."""
    pairs = product(_divisors(m), _divisors(n))
    within = [cut for cut in (layout(m, n, pair, pad=False) for pair in pairs) if cut.n_parameters(1) <= budget]
    tried = [cut for cut in within if min(cut.p, cut.q) <= _LARGEST]
    if not tried:
        why = "slices of all shapes within it are larger than 2048 × 2048" if within else "every shape takes more"
        raise ValueError(f"budget leaves no Monarch form of a {m} × {n} matrix: got {budget} parameters, and {why}")
    return tried, tuple(cut.nblocks for cut in within if min(cut.p, cut.q) > _LARGEST)


def _divisors(n: int) -> list[int]:
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})


def _power(A: np.ndarray) -> float:
    """Return a power of two by which the largest modulus is near one, so that squares keep their digits."""
    peak = max(float(abs(A[start : start + 256]).max()) for start in range(0, len(A), 256))
    return math.ldexp(1.0, -min(max(math.frexp(peak)[1], -1000), 1000))


def _rows(A: np.ndarray, cut: Layout, budget: int, scale: float) -> list[SuggestRow]:
    """Return what all ranks within the budget give for one pair of block sizes."""
    smallest = cut.n_parameters(1)
    ranks = range(1, min(cut.p, cut.q, budget // smallest) + 1)
    errors = _errors(A, cut, scale, _by_gram)
    if errors[ranks[-1]] < _SQUARED:
        errors = _errors(A, cut, scale, _by_svd)
    family = "low rank" if cut.nblocks == (1, 1) else "block-dense" if cut.J == 1 else "monarch"
    return [SuggestRow(rank * smallest, float(errors[rank]), cut.nblocks, rank, family) for rank in ranks]


def _errors(A: np.ndarray, cut: Layout, scale: float, squares: Any) -> np.ndarray:
    """Return the relative errors of the ranks 0, 1, … min(p, q)."""
    total = np.zeros(min(cut.p, cut.q))
    for panel in _panels(A, cut, scale):
        total += squares(panel).sum(axis=0)
    beyond = np.append(np.cumsum(total[::-1])[::-1], 0.0)  # the smallest are added first
    return np.sqrt(beyond / (beyond[0] or 1.0))


def _panels(A: np.ndarray, cut: Layout, scale: float) -> Iterator[np.ndarray]:
    """Yield the slices (J, p, q) of each column block in double precision, scaled."""
    for _, panel in panels(A, cut, finite=False):
        panel = panel.astype(np.result_type(panel, np.float64), copy=False)
        panel *= scale
        yield panel


def _by_gram(S: np.ndarray) -> np.ndarray:
    """Return the squared singular values (J, min(p, q)), descending, by the smaller Gram matrices."""
    gram = S @ adjoint(S) if S.shape[-2] < S.shape[-1] else adjoint(S) @ S
    return np.maximum(np.linalg.eigvalsh(gram)[..., ::-1], 0)


def _by_svd(S: np.ndarray) -> np.ndarray:
    return np.linalg.svd(S, compute_uv=False) ** 2


def _front(rows: list[SuggestRow]) -> tuple[SuggestRow, ...]:
    """Return the rows that are better than all with no more parameters; of exact ones the first is the last."""
    front: list[SuggestRow] = []
    for row in sorted(rows, key=lambda row: row[:2]):
        if not front or max(row.relative_error, _EXACT) < front[-1].relative_error:
            front.append(row)
    return tuple(front)


def _best(front: tuple[SuggestRow, ...], tol: float | None) -> SuggestRow:
    """Return the smallest row that reaches `tol`, else the last, whose error is least."""
    reached = [row for row in front if tol is not None and row.relative_error <= tol]
    return reached[0] if reached else front[-1]
