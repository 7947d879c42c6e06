"""MonarchMatrix: matrices that are products of block-diagonal and permutation matrices."""

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from numbers import Number
from typing import Any, Self

import numpy as np
from array_api_compat import is_array_api_obj, is_dask_array

from .._core.arrays import (
    Array,
    can_write,
    cast,
    check_array,
    check_real,
    check_same,
    compute_dtype,
    is_complex,
    is_sparse,
    like,
    namespace,
    to_numpy,
)
from .._core.factorization import Factorization
from .._core.rows import as_rows
from . import _solve
from ._form import Form, dense_two_stage, placed, two_stage_form, two_stages
from ._layout import Layout, check_rank
from ._products import common, low_rank, product, promoted, thin
from ._read import chain_of, check_factors, check_shape
from ._stages import (
    Blocks,
    Chain,
    Gather,
    apply,
    conjugated,
    first_blocks,
    joined,
    to_dense,
    transposed,
)

_PANEL = 2**25  # bytes of dense columns at a time, where a whole matrix is not asked for
_FACTS = (
    "error", "relative_error", "weighted_error", "singular_values", "gap", "n_iter", "converged", "certificate",
    "level_errors", "lower_bound", "method",
)  # fmt: skip


class MonarchMatrix(Factorization):
    """A matrix that is a product of block-diagonal matrices and permutations.

    The two-stage form, which `project` gives and this constructor takes, has J blocks of p rows in its left and K
    blocks of q columns in its right factor::

        M[l*J + j, k*q + i] = sum_s left[j, l, k, s] * right[k, s, j, i]

    It has rank*(m*K + n*J) numbers in place of m*n, and multiplies a vector at two operations for each. Every slice,
    rows j, J+j, 2J+j, … and columns k*q to (k+1)*q - 1, is an arbitrary matrix of rank `rank`.

    Parameters
    ----------
    left : array, shape (..., J, p, K, rank)
        Left factor, of any array library; leading axes are a batch of matrices.
    right : array, shape (..., K, rank, J, q)
        Right factor, of the dtype of `left`.
    shape : (int, int), optional
        Rows m ≤ J*p and columns n ≤ K*q; by default J*p and K*q. What is beyond is cut off, so that sizes need not be
        multiples of the numbers of blocks.

    Attributes
    ----------
    shape : tuple of int
        (..., m, n).
    dtype : dtype
        Of the stages; real for `circulant` of real data, whose stages are complex.
    stages : tuple of array
        The chain as a product, its last stage applied first: floating arrays (..., a, d, O, I) are block stages, which
        take x, viewed as (a, I, d), to y[a, :, d] = W[a, d] @ x[a, :, d]; 1-d integer arrays are gathers,
        y[t] = x[index[t]], and 0 where the index is -1.
    left, right, nblocks, rank
        The factors, (J, K), and the rank; only of a matrix in the two-stage form, else an AttributeError.
    nbytes, n_parameters : int
        Bytes of all stages, numbers in the block stages.
    error, relative_error : float or None
        ‖A - M‖_F of the matrix A it was made of, of the factors as they are, and the same over ‖A‖_F. These and the
        following are set by the functions that approximate (`project`, `recompress`, …), and None elsewhere.
    weighted_error : float or None
        Error in the metric of `weights`.
    singular_values, gap : array or None
        Singular values that were kept, (..., K, J, rank), and 1 - σ²_{rank+1}/σ²_rank of every slice, (..., K, J).
    n_iter : int or None
        Sweeps of an iteration; 0 for a closed form.
    converged : bool or None
        Whether the iteration ended by its tolerance.
    certificate : float or None
        Upper bound on (error² - least error²)/‖A‖_F², see `certify`.
    level_errors, lower_bound : tuple of float, float; or None
        Of a chain of more than two stages: error of each split, and a lower bound on the least error.
    method : str or None
        What was used: "lanczos", "gram", "svd" or "squaring".

    Raises
    ------
    ValueError
        If the factors do not fit each other or `shape`, are empty or not finite.
    TypeError
        If they are no arrays of numbers, or of different dtypes.

    See Also
    --------
    project : the best Monarch approximation of a matrix.

    Notes
    -----
    The factors are not copied. With PyTorch tensors ``@`` is differentiable with respect to the factors and the
    input. `solve` and `inv` factor block by block with pivoting, in O(numbers × block size); they are backward stable
    stage by stage, the whole as far as the stages are well conditioned.

    References
    ----------
    .. [1] T. Dao et al., "Monarch: expressive structured matrices for efficient and accurate training", ICML 2022,
       Definition 3.1.
    .. [2] D. Y. Fu et al., "Monarch Mixer: a simple sub-quadratic GEMM-based architecture", NeurIPS 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.monarch import MonarchMatrix
    >>> left = np.arange(8.0).reshape(2, 2, 2, 1)
    >>> M = MonarchMatrix(left, np.ones((2, 1, 2, 2)))
    >>> M @ np.ones(4)
    array([ 2., 18., 10., 26.])
    >>> M.to_dense()
    array([[0., 0., 1., 1.],
           [4., 4., 5., 5.],
           [2., 2., 3., 3.],
           [6., 6., 7., 7.]])
    """

    error: float | None = None
    relative_error: float | None = None
    weighted_error: float | None = None
    singular_values: np.ndarray | None = None
    gap: np.ndarray | None = None
    n_iter: int | None = None
    converged: bool | None = None
    certificate: float | None = None
    level_errors: tuple[float, ...] | None = None
    lower_bound: float | None = None
    method: str | None = None

    shape: tuple[int, ...]  # type: ignore[assignment]  # of a batch, longer than that of its base
    _chain: Chain
    _takes_real: bool = False  # complex stages whose product is real

    def __init__(self, left: Any, right: Any, *, shape: tuple[int, int] | None = None):
        left, right = check_factors(left, right)
        *_, J, p, K, _ = left.shape
        q = right.shape[-1]
        m, n = check_shape((J * p, K * q) if shape is None else shape)
        if not (m <= J * p and n <= K * q):
            raise ValueError(f"shape must be at most ({J * p}, {K * q}), the size of the factors, got ({m}, {n})")
        self._set(two_stages(left, right, m, n))

    def _set(self, chain: Chain, takes_real: bool = False) -> None:
        self._chain = chain
        self._takes_real = takes_real
        values = first_blocks(chain)
        batch = np.broadcast_shapes(*(stage.form[:-4] for stage in chain if isinstance(stage, Blocks)))
        self.shape = (*batch, chain[0].n_out, chain[-1].n_in)
        self.dtype = namespace(values).real(values).dtype if takes_real else values.dtype

    @classmethod
    def _of(cls, chain: Chain, *, takes_real: bool = False, **facts: Any) -> Self:
        """Make the matrix of a chain that is known to be right; `facts` are the attributes of an approximation."""
        made = cls.__new__(cls)
        made._set(chain, takes_real)
        made.__dict__.update(facts)
        return made

    # --- making ---------------------------------------------------------------------------------------

    @classmethod
    def from_stages(cls, stages: Iterable[Any], shape: tuple[int, int] | None = None) -> Self:
        """Make the matrix of a chain of stages, the last of them applied first.

        Parameters
        ----------
        stages : iterable of array
            Floating arrays of shape (..., a, d, O, I) are block stages, 1-d integer arrays gathers (see the class); at
            least one is a block stage.
        shape : (int, int), optional
            Rows and columns; needed where the last stage is a gather that does not reach its whole input.

        Returns
        -------
        M : MonarchMatrix
            The product.

        Raises
        ------
        ValueError, TypeError
            If a stage is neither, does not fit its neighbour or `shape`, or gathers a place twice.

        Examples
        --------
        >>> import numpy as np
        >>> from linalg_ml.monarch import MonarchMatrix
        >>> swap = MonarchMatrix.from_stages([np.eye(3)[None, None], np.array([2, 1, 0])])
        >>> swap @ np.array([1.0, 2.0, 3.0])
        array([3., 2., 1.])
        """
        return cls._of(chain_of(list(stages), None if shape is None else check_shape(shape)))

    @classmethod
    def from_blockdiag(cls, w1: Any, w2: Any) -> Self:
        """Make the matrix of the two block-diagonal factors in which reference PyTorch code stores weights.

        Parameters
        ----------
        w1 : array, shape (K, rank*J, q)
            The factor applied first (`w1_bfly`): block k takes the inputs k*q … to rank*J numbers, j fastest.
        w2 : array, shape (J, p, K*rank)
            The factor applied second (`w2_bfly`), its inputs (k, s), s fastest.

        Returns
        -------
        M : MonarchMatrix
            Shares the numbers of `w1` and `w2`.

        Raises
        ------
        ValueError
            If the shapes do not fit each other.
        """
        w1, w2 = check_array(w1, "w1", ndim=3), check_array(w2, "w2", ndim=3)
        K, J = w1.shape[0], w2.shape[0]
        rank, rest = divmod(w1.shape[1], J)
        if rest or rank * K != w2.shape[2]:
            raise ValueError(
                f"w1 (K, rank*J, q) and w2 (J, p, K*rank) must fit each other, got {w1.shape} and {w2.shape}"
            )
        xp = check_same(w1=w1, w2=w2)
        return cls(xp.reshape(w2, (J, w2.shape[1], K, rank)), xp.reshape(w1, (K, rank, J, w1.shape[2])))

    def to_blockdiag(self) -> tuple[Array, Array]:
        """Return (w1, w2), the factors in the layout of `from_blockdiag`, as views.

        Returns
        -------
        w1, w2 : array
            Shapes (K, rank*J, q) and (J, p, K*rank).

        Raises
        ------
        AttributeError
            If the matrix is not in the two-stage form.
        """
        left, right = self.left, self.right
        xp = namespace(left)
        *batch, J, p, K, rank = left.shape
        return xp.reshape(right, (*batch, K, rank * J, right.shape[-1])), xp.reshape(left, (*batch, J, p, K * rank))

    # --- parts ----------------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        """Number of axes, those of a batch included."""
        return len(self.shape)

    @property
    def stages(self) -> tuple[Array, ...]:
        """The chain, its last stage applied first."""
        return tuple(stage.W if isinstance(stage, Blocks) else stage.index for stage in self._chain)

    @cached_property
    def _form(self) -> Form | None:
        """Left and right factor and layout, if this is a two-stage Monarch matrix."""
        return None if self._takes_real else two_stage_form(self._chain)

    def _two_stage(self) -> Form:
        if self._form is None:
            raise AttributeError("this chain of stages is not in the two-stage form: it has no left, right or nblocks")
        return self._form

    @property
    def left(self) -> Array:
        """Left factor, shape (..., J, p, K, rank)."""
        return self._two_stage()[0]

    @property
    def right(self) -> Array:
        """Right factor, shape (..., K, rank, J, q)."""
        return self._two_stage()[1]

    @property
    def nblocks(self) -> tuple[int, int]:
        """(J, K): number of blocks of the left and of the right factor."""
        return self._two_stage()[2].nblocks

    @property
    def rank(self) -> int:
        """Rank of the slices."""
        return self.left.shape[-1]

    @property
    def _layout(self) -> Layout:
        return self._two_stage()[2]

    @property
    def n_parameters(self) -> int:
        """Numbers in the block stages."""
        return sum(math.prod(stage.form) for stage in self._chain if isinstance(stage, Blocks))

    @property
    def nbytes(self) -> int:
        """Bytes of all stages."""
        values = first_blocks(self._chain)
        item = np.dtype(compute_dtype(values.dtype)).itemsize
        return item * self.n_parameters + sum(stage.index.nbytes for stage in self._chain if isinstance(stage, Gather))

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.shape))
        error = "" if self.relative_error is None else f", relative error {self.relative_error:.3g}"
        kind = f"{len(self._chain)} stages"
        if self._form is not None:
            kind = f"nblocks {self.nblocks}, rank {self.rank}"
        return f"<MonarchMatrix {shape}, {kind}, {self.n_parameters} parameters{error}>"

    def _parts(self) -> dict[str, Any]:
        facts = {name: self.__dict__[name] for name in _FACTS if name in self.__dict__}
        stages = {f"stage{t}": to_numpy(stage) for t, stage in enumerate(self.stages)}
        return {"shape": self.shape, "takes_real": self._takes_real, "n_stages": len(stages), **stages, **facts}

    @classmethod
    def _from_parts(cls, parts: dict[str, Any]) -> Self:
        chain = chain_of([parts[f"stage{t}"] for t in range(parts["n_stages"])], tuple(parts["shape"])[-2:])
        facts = {name: parts[name] for name in _FACTS if name in parts}
        if facts.get("level_errors") is not None:
            facts["level_errors"] = tuple(facts["level_errors"])
        return cls._of(chain, takes_real=parts["takes_real"], **facts)

    # --- transposes -----------------------------------------------------------------------------------

    @property
    def T(self) -> "MonarchMatrix":
        """The transpose; shares the numbers of this matrix."""
        return self._of(transposed(self._chain), takes_real=self._takes_real)

    @property
    def H(self) -> "MonarchMatrix":
        """The conjugate transpose; shares the numbers of a real matrix."""
        return self._of(conjugated(transposed(self._chain)), takes_real=self._takes_real)

    def conj(self) -> "MonarchMatrix":
        """Return the complex conjugate."""
        return self._of(conjugated(self._chain), takes_real=self._takes_real)

    # --- products -------------------------------------------------------------------------------------

    def __matmul__(self, X: Any) -> Any:
        """Multiply a vector (n,), a matrix (n, B), a batch (..., n, B) or another MonarchMatrix."""
        if isinstance(X, MonarchMatrix):
            return self._times(X)
        return self._apply(X)

    def __rmatmul__(self, Y: Any) -> Any:
        """Return ``Y @ self`` for Y of shape (m,), (B, m) or (..., B, m)."""
        Y = self._operand(Y, "Y", -1)
        if Y.shape[-1] != self.shape[-2]:
            raise ValueError(
                f"Y must have {self.shape[-2]} columns, as the matrix has rows, got shape {tuple(Y.shape)}"
            )
        return self.T._apply_rows(Y)

    def _operand(self, X: Any, name: str, axis: int) -> Array:
        """Return X as an array of the library of the stages; only the axis that is summed over may not be empty."""
        if is_sparse(X):
            raise TypeError(f"{name} must be dense, got a sparse matrix; take .toarray() of it, or of parts of it")
        if is_array_api_obj(X) and X.ndim > 1 and 0 in X.shape and X.shape[axis] and not is_dask_array(X):
            X = cast(X, compute_dtype(X.dtype, name))
        else:
            X = check_array(X, name, finite=False)
        if not X.ndim:
            raise ValueError(f"{name} must be a vector or a matrix, got a number")
        check_same(**{"the matrix": first_blocks(self._chain), name: X})
        return X

    def _apply(self, X: Any) -> Any:
        X = self._operand(X, "X", -2)
        vector = X.ndim == 1
        rows = X.shape[0] if vector else X.shape[-2]
        if rows != self.shape[-1]:
            raise ValueError(
                f"X must have {self.shape[-1]} rows, as the matrix has columns, got shape {tuple(X.shape)}"
            )
        Y = self._columns(X[:, None] if vector else X, apply)
        return Y[..., 0] if vector else Y

    def _apply_rows(self, X: Array) -> Array:
        transpose = namespace(X).matrix_transpose
        return (
            self._columns(X[:, None], apply)[..., 0] if X.ndim == 1 else transpose(self._columns(transpose(X), apply))
        )

    def _columns(self, X: Array, function: Callable[[Chain, Array], Array]) -> Array:
        """Return what a function of the chain makes of columns X (…, n, B), in the dtype of both."""
        real = self._takes_real and not is_complex(X)
        chain, X = promoted(self._chain, X)
        Y = function(chain, X)
        return namespace(Y).real(Y) if real else Y

    def _apply_adjoint(self, Y: Any) -> Any:
        return self.H._apply(Y)

    def apply_rows(self, X: Any) -> Any:
        """Multiply every row of X: the transposed product ``X @ M.T``, as a linear layer applies its weight.

        Parameters
        ----------
        X : array, shape (B, n) or (n,); memmap, dask array or iterable of blocks of rows
            Samples as rows. Not copied: it is read by BLAS as it lies.

        Returns
        -------
        Y : array, shape (B, m)
            A Fortran-ordered view for NumPy arrays; what is on disk or a cluster is read block by block, and answered
            as `X` was given (an iterator of blocks for an iterable).

        Raises
        ------
        ValueError
            If X does not have n columns.

        Examples
        --------
        >>> import numpy as np
        >>> from linalg_ml import monarch
        >>> monarch.hadamard(4).apply_rows(np.eye(4)[:2])
        array([[ 1.,  1.,  1.,  1.],
               [ 1., -1.,  1., -1.]])
        """
        if is_dask_array(X) or is_sparse(X) or not (is_array_api_obj(X) or _is_nested(X)):
            return as_rows(X, "X").map_rows(lambda block, start: self.apply_rows(_dense_rows(block)))
        X = self._operand(X, "X", -1)
        if X.shape[-1] != self.shape[-1]:
            raise ValueError(f"X must have {self.shape[-1]} columns, as the matrix has, got shape {tuple(X.shape)}")
        return self._apply_rows(X)

    def _times(self, other: "MonarchMatrix") -> "MonarchMatrix":
        """Return the product of two matrices of this wing: exact, and in the two-stage form where that is known."""
        if self.shape[-1] != other.shape[-2]:
            raise ValueError(f"the shapes {self.shape} and {other.shape} cannot be multiplied")
        values, others = first_blocks(self._chain), first_blocks(other._chain)
        check_same(left=values, right=others)
        thin = _thin_product(self, other)
        if thin is not None:
            return self._of(thin)
        left, right = common(self._chain, other._chain)
        if not (self._takes_real or other._takes_real):
            return self._of(product(left, right))
        both_real = all(M._takes_real or not is_complex(first_blocks(M._chain)) for M in (self, other))
        return self._of(joined(left, right), takes_real=both_real)

    # --- dense ----------------------------------------------------------------------------------------

    def to_dense(self, out: Array | None = None) -> Array:
        """Return the matrix as an array of its library.

        Parameters
        ----------
        out : array, shape (..., m, n), optional
            Where to write it, of the same dtype; by default a new array.

        Returns
        -------
        A : array, shape (..., m, n)
            `out`, where it was given.

        Raises
        ------
        ValueError
            If `out` does not fit or cannot be written to.
        """
        if out is not None:
            self._check_out(out)
        if self._form is not None:
            return dense_two_stage(*self._form, out)
        flipped = self.T._form
        if flipped is not None:
            transpose = namespace(flipped[0]).matrix_transpose
            dense = transpose(dense_two_stage(*flipped, None if out is None else transpose(out)))
            return dense if out is None else out
        dense = to_dense(self._chain, 0, self.shape[-1])
        return placed(namespace(dense).real(dense) if self._takes_real else dense, out)

    def _check_out(self, out: Any) -> None:
        accepted = f"out must be an array of shape {self.shape} and dtype {self.dtype}, from the library of the matrix"
        if not is_array_api_obj(out) or tuple(out.shape) != self.shape or out.dtype != self.dtype:
            raise ValueError(accepted)
        if namespace(out) is not namespace(first_blocks(self._chain)):
            raise ValueError(accepted)
        if not can_write(out):
            raise ValueError("out must be writeable, got an array that is read-only")

    def _panels(self, n: int) -> Iterator[tuple[int, Array]]:
        """Yield (first column, dense columns) for the first n columns, a few at a time."""
        step = max(1, _PANEL // (16 * math.prod(self.shape[:-1])))
        for start in range(0, n, step):
            panel = to_dense(self._chain, start, min(n, start + step))
            yield start, namespace(panel).real(panel) if self._takes_real else panel

    # --- numbers --------------------------------------------------------------------------------------

    def norm(self) -> float:
        """Return the Frobenius norm, without forming the matrix where it is in the two-stage form.

        Returns
        -------
        norm : float
            ‖M‖_F, for a batch that of the whole stack.
        """
        from ._compact import chain_norm

        return chain_norm(self)

    def diagonal(self) -> Array:
        """Return the main diagonal, O(n · rank) in the two-stage form.

        Returns
        -------
        d : array, shape (..., min(m, n))
            Entries M[t, t].
        """
        xp = namespace(first_blocks(self._chain))
        length = min(self.shape[-2:])
        form = self._form or self.T._form
        if form is None:
            parts = [
                xp.linalg.diagonal(panel[..., start : start + panel.shape[-1], :])
                for start, panel in self._panels(length)
            ]
            return xp.concat(parts, axis=-1)
        left, right, cut = form
        rank = left.shape[-1]
        t = np.arange(length)
        row = ((t % cut.J) * cut.p + t // cut.J) * cut.K + t // cut.q
        batch = left.shape[:-4]
        U = xp.take(xp.reshape(left, (*batch, cut.J * cut.p * cut.K, rank)), like(row, left), axis=len(batch))
        column = ((t // cut.q)[:, None] * rank + np.arange(rank)) * cut.J * cut.q
        column = column + ((t % cut.J) * cut.q + t % cut.q)[:, None]
        V = xp.take(xp.reshape(right, (*batch, -1)), like(column.ravel(), right), axis=len(batch))
        return xp.sum(U * xp.reshape(V, (*batch, length, rank)), axis=-1)

    def trace(self) -> Any:
        """Return the trace.

        Returns
        -------
        trace : scalar
            Sum of the diagonal; an array for a batch.

        Raises
        ------
        ValueError
            If the matrix is not square.
        """
        if self.shape[-1] != self.shape[-2]:
            raise ValueError(f"the trace is of square matrices, got shape {self.shape}")
        diagonal = self.diagonal()
        return namespace(diagonal).sum(diagonal, axis=-1)

    # --- sums -----------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> "MonarchMatrix":
        """Add a matrix of the same nblocks; the ranks add up."""
        if not isinstance(other, MonarchMatrix):
            return NotImplemented
        if self.shape[-2:] != other.shape[-2:]:
            raise ValueError(f"matrices of shapes {self.shape} and {other.shape} cannot be added")
        try:
            left, right, cut = self._two_stage()
            other_left, other_right, other_cut = other._two_stage()
        except AttributeError:
            raise ValueError("a sum is formed of matrices in the two-stage form; add their dense forms") from None
        if cut != other_cut:
            raise ValueError(f"a sum needs equal nblocks, got {cut.nblocks} and {other_cut.nblocks}")
        xp = check_same(left=left, right=other_left)
        dtype = compute_dtype(xp.result_type(left, other_left))
        batch = np.broadcast_shapes(self.shape[:-2], other.shape[:-2])

        def stacked(a: Array, b: Array, axis: int) -> Array:
            return xp.concat([xp.broadcast_to(cast(x, dtype), (*batch, *x.shape[-4:])) for x in (a, b)], axis=axis)

        return self._of(two_stages(stacked(left, other_left, -1), stacked(right, other_right, -3), cut.m, cut.n))

    def __sub__(self, other: Any) -> "MonarchMatrix":
        """Subtract a matrix of the same nblocks; the ranks add up."""
        return self + (-other) if isinstance(other, MonarchMatrix) else NotImplemented

    def __neg__(self) -> "MonarchMatrix":
        return self * -1

    def __mul__(self, scalar: Any) -> "MonarchMatrix":
        """Multiply by a number."""
        return self._scaled(operator.mul, scalar)

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> "MonarchMatrix":
        """Divide by a number."""
        return self._scaled(operator.truediv, scalar)

    def _scaled(self, operation: Callable[[Array, Any], Array], scalar: Any) -> "MonarchMatrix":
        """Multiply or divide one block stage, and bring the others to the dtype of the result."""
        if not isinstance(scalar, Number) and getattr(scalar, "ndim", None) != 0:
            return NotImplemented
        at, first = next((t, stage) for t, stage in enumerate(self._chain) if isinstance(stage, Blocks))
        values = operation(first.values, scalar)
        dtype = compute_dtype(values.dtype)
        before, after = (
            tuple(stage.astype(dtype) for stage in part) for part in (self._chain[:at], self._chain[at + 1 :])
        )
        return self._of(
            (*before, Blocks(values, first.form), *after),
            takes_real=self._takes_real and not _is_complex_number(scalar),
        )

    def recompress(self, rank: int | None = None, *, tol: float | None = None) -> "MonarchMatrix":
        """Return the nearest matrix of lower rank with the same nblocks.

        Parameters
        ----------
        rank : int, optional
            Rank of the result's slices.
        tol : float, optional
            Instead of `rank`: the least common rank whose relative Frobenius error is at most this. With neither, 10
            times the rounding unit of the dtype.

        Returns
        -------
        M : MonarchMatrix
            With `error` and `relative_error` against this matrix, its `singular_values`, and `gap`.

        Raises
        ------
        ValueError
            If both are given, or out of range.
        AttributeError
            If the matrix is not in the two-stage form.

        Notes
        -----
        The best approximation, slice by slice: a QR of both factors of a slice and an SVD of the small core, so that
        singular values are right to rounding relative to the largest of their slice.
        """
        from ._compact import recompress

        cut = self._two_stage()[2]
        if rank is not None and tol is not None:
            raise ValueError("give rank or tol, not both")
        if rank is not None:
            rank = check_rank(rank, cut.p, cut.q)
        if tol is not None:
            tol = check_real(tol, "tol", 0, 1, open_ends=False)
        return recompress(self, rank, tol)

    def project(self, nblocks: Any = None, rank: int = 1, **options: Any) -> "MonarchMatrix":
        """Return the best Monarch approximation of this matrix with other blocks or another rank.

        Parameters
        ----------
        nblocks : int or (int, int), optional
            (J, K), as in `linalg_ml.monarch.project`.
        rank : int, default 1
            Rank of the slices.
        **options : dict
            Further arguments of `linalg_ml.monarch.project`.

        Returns
        -------
        M : MonarchMatrix
            With its error against this matrix, which is formed densely.
        """
        from ._project import project

        return project(self.to_dense(), nblocks=nblocks, rank=rank, **options)

    # --- systems --------------------------------------------------------------------------------------

    def solve(self, b: Any) -> Array:
        """Solve ``M x = b`` stage by stage, with pivoting inside the blocks.

        Parameters
        ----------
        b : array, shape (m,), (m, B) or (..., m, B)
            Right-hand sides.

        Returns
        -------
        x : array
            Of the shape of `b`.

        Raises
        ------
        ValueError
            If the matrix is not square, or `b` does not fit.
        LinAlgError
            If a block is singular to working precision after scaling of its rows and columns; it is named. Also where
            blocks are not square (rank > 1, padding) and the matrix is too large, 4096, to be factored densely.

        Notes
        -----
        Backward stable for each stage, so the relative forward error is at most about eps times the product of the
        condition numbers of the stages. The blocks are factored anew in every call, and inverted to see whether they
        are singular: for many right-hand sides that come one after the other, ``M.inv() @ b`` is faster by far.
        """
        self._check_square("solve")
        b = self._operand(b, "b", -2)
        vector = b.ndim == 1
        if (b.shape[0] if vector else b.shape[-2]) != self.shape[-2]:
            raise ValueError(f"b must have {self.shape[-2]} rows, as the matrix has, got shape {tuple(b.shape)}")
        x = self._columns(b[:, None] if vector else b, _solve.solve)
        return x[..., 0] if vector else x

    def inv(self) -> "MonarchMatrix":
        """Return the inverse, a chain of the inverted stages.

        Returns
        -------
        M : MonarchMatrix
            The inverse; dense in one block where the blocks of this matrix are not square.

        Raises
        ------
        ValueError, LinAlgError
            As `solve`.
        """
        self._check_square("inv")
        return self._of(_solve.inverse(self._chain), takes_real=self._takes_real)

    def slogdet(self) -> tuple[Any, Any]:
        """Return sign and natural logarithm of the absolute value of the determinant.

        Returns
        -------
        sign, logabsdet : scalar
            As `numpy.linalg.slogdet`; arrays for a batch. A singular matrix has sign 0 and -inf.

        Raises
        ------
        ValueError, LinAlgError
            If the matrix is not square, or is too large for a dense factorisation where its blocks are not square.
        """
        self._check_square("slogdet")
        sign, logabsdet = _solve.slogdet(self._chain)
        if self._takes_real:
            sign = namespace(sign).sign(namespace(sign).real(sign))
        return sign, logabsdet

    def det(self) -> Any:
        """Return the determinant.

        Returns
        -------
        det : scalar
            May overflow where `slogdet` does not.
        """
        sign, logabsdet = self.slogdet()
        return sign * namespace(logabsdet).exp(logabsdet)

    def _check_square(self, what: str) -> None:
        if self.shape[-1] != self.shape[-2]:
            raise ValueError(f"{what} needs a square matrix, got shape {self.shape}")


def _thin_product(left: MonarchMatrix, right: MonarchMatrix) -> Chain | None:
    """Return the chain of a product of which one operand has nblocks (1, 1), again as one of these; else None."""
    if left._form is not None and left.nblocks == (1, 1):
        U, V = thin(left._form)
        return low_rank(U, right.T._apply_rows(V))
    if right._form is not None and right.nblocks == (1, 1):
        U, V = thin(right._form)
        return low_rank(left._apply(U), V)
    return None


def _is_nested(X: Any) -> bool:
    """Tell lists of numbers, or of such lists, from lists of arrays."""
    return isinstance(X, list | tuple) and not any(hasattr(item, "ndim") and item.ndim for item in X)


def _is_complex_number(scalar: Any) -> bool:
    return isinstance(scalar, complex) or (hasattr(scalar, "dtype") and is_complex(scalar))


def _dense_rows(block: Array) -> Array:
    return block.toarray() if is_sparse(block) else block
