"""A chain of stages: what every matrix of this wing is made of.

A block stage W (…, a, d, O, I) takes x, viewed as (a, I, d), to y, viewed as (a, O, d):
y[a, :, d] = W[a, d] @ x[a, :, d]. A gather takes x to y[t] = x[index[t]], and to zero where the index is -1. A chain
is written as a product: its last stage is applied first.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from array_api_compat import is_numpy_array

from .._core.arrays import Array, cast, compute_dtype, device, is_complex, like, namespace, real_dtype

_SCRATCH = 2**23  # bytes between two stages: near the caches, and wide enough for BLAS
_FEW = 8  # columns up to which a copy of the input costs less than strided products


@dataclass(frozen=True, eq=False)
class Blocks:
    """A block stage: `values` holds W in any shape that `form` (…, a, d, O, I) reshapes without a copy."""

    values: Array
    form: tuple[int, ...]

    @property
    def W(self) -> Array:
        return namespace(self.values).reshape(self.values, self.form)

    @property
    def n_in(self) -> int:
        a, d, _, i = self.form[-4:]
        return a * i * d

    @property
    def n_out(self) -> int:
        a, d, o, _ = self.form[-4:]
        return a * o * d

    @property
    def square(self) -> bool:
        return self.form[-1] == self.form[-2]

    @property
    def T(self) -> "Blocks":
        return blocks(namespace(self.values).matrix_transpose(self.W))

    @property
    def conj(self) -> "Blocks":
        return self if not is_complex(self.values) else Blocks(namespace(self.values).conj(self.values), self.form)

    def astype(self, dtype: str) -> "Blocks":
        return Blocks(cast(self.values, dtype), self.form)

    def apply(self, X: Array, out: np.ndarray | None = None) -> Array:
        """Return the stage times X (…, n_in, B); `out` may be given for a NumPy array."""
        if is_numpy_array(X):
            return self._apply_numpy(X, out)
        xp = namespace(X)
        a, d, _, i = self.form[-4:]
        columns = X.shape[-1]
        X = swapped(xp.reshape(X, (*X.shape[:-2], a, i, d, columns)))
        Y = swapped(xp.matmul(self.W, X))
        return xp.reshape(Y, (*Y.shape[:-4], self.n_out, columns))

    def _apply_numpy(self, X: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        """Do so with both permutations as leading dimensions of BLAS, and by plain methods: a vector is soon done."""
        a, d, o, i = self.form[-4:]
        W = self.values.reshape(self.form)
        columns = X.shape[-1]
        X = X.reshape(*X.shape[:-2], a, i, d, columns).swapaxes(-3, -2)
        few = d > 1 and columns <= _FEW
        if few or (d > 1 and X.strides[-1] != X.itemsize):
            X = np.ascontiguousarray(X)
        if out is None:
            batch = () if W.ndim == X.ndim == 4 else np.broadcast_shapes(W.shape[:-4], X.shape[:-4])
            out = np.empty((*batch, a * o * d, columns), np.result_type(W, X))
        target = out.reshape(*out.shape[:-2], a, o, d, columns).swapaxes(-3, -2)
        if few:
            target[...] = W @ X
        else:
            np.matmul(W, X, out=target)
        return out


def blocks(W: Array) -> Blocks:
    """Return the block stage of W (…, a, d, O, I)."""
    return Blocks(W, tuple(W.shape))


def swapped(X: Array) -> Array:
    """Swap the axes -3 and -2: (…, a, I, d, B) and (…, a, d, I, B)."""
    axes = (*range(X.ndim - 3), X.ndim - 2, X.ndim - 3, X.ndim - 1)
    return namespace(X).permute_dims(X, axes)


@dataclass(frozen=True, eq=False)
class Gather:
    """A gather: `index` lies on the host."""

    index: np.ndarray
    n_in: int

    @property
    def n_out(self) -> int:
        return self.index.size

    @property
    def square(self) -> bool:
        return self.is_permutation

    @cached_property
    def is_permutation(self) -> bool:
        return self.n_in == self.n_out and bool((self.index >= 0).all())

    @cached_property
    def _run(self) -> int | None:
        """Length of the leading run 0, 1, 2, … if nothing but zeros follows it: a truncation or a padding."""
        length = int(np.count_nonzero(self.index >= 0))
        return length if np.array_equal(self.index[:length], np.arange(length)) else None

    @property
    def T(self) -> "Gather":
        index = np.full(self.n_in, -1, np.int64)
        there = np.flatnonzero(self.index >= 0)
        index[self.index[there]] = there
        return Gather(index, self.n_out)

    @property
    def conj(self) -> "Gather":
        return self

    def astype(self, dtype: str) -> "Gather":
        return self

    def apply(self, X: Array, out: np.ndarray | None = None) -> Array:
        """Return the stage times X (…, n_in, B)."""
        xp = namespace(X)
        if self._run is not None:
            Y = X[..., : self._run, :]
            missing = self.n_out - self._run
            if missing:
                zeros = xp.zeros((*X.shape[:-2], missing, X.shape[-1]), dtype=X.dtype, device=device(X))
                Y = xp.concat([Y, zeros], axis=-2)
        else:
            Y = xp.take(X, like(np.maximum(self.index, 0), X), axis=X.ndim - 2)
            if self.index.min(initial=0) < 0:
                Y = xp.where(like(self.index >= 0, X)[:, None], Y, xp.zeros_like(Y))
        if out is not None:
            out[...] = Y
            return out
        return Y


Stage = Blocks | Gather
Chain = tuple[Stage, ...]


def transposed(chain: Chain) -> Chain:
    return tuple(stage.T for stage in reversed(chain))


def conjugated(chain: Chain) -> Chain:
    return tuple(stage.conj for stage in chain)


def first_blocks(chain: Chain) -> Array:
    """Return the values of a block stage: they tell the namespace, device and dtype of the chain."""
    return next(stage.values for stage in chain if isinstance(stage, Blocks))


def joined(left: Chain, right: Chain) -> Chain:
    """Return the chain of a product, merged at the seam where that does not take more numbers."""
    *rest, a = left
    b, *others = right
    if isinstance(a, Gather) and isinstance(b, Gather):
        index = np.where(a.index >= 0, b.index[np.maximum(a.index, 0)], -1)
        gather = Gather(index, b.n_in)
        if not gather.is_permutation or gather._run != gather.n_out or not (rest or others):
            return (*rest, gather, *others)
        return joined(tuple(rest), tuple(others)) if rest and others else (*rest, *others)
    together = merged(a, b, grow=False)
    return left + right if together is None else (*rest, together, *others)


def merged(a: Stage, b: Stage, *, grow: bool = True) -> Blocks | None:
    """Return the product of two block stages whose blocks multiply each other, a[i, j] @ b[i, j]; else None.

    None also where the product would have more numbers than both, unless it may grow.
    """
    if isinstance(a, Gather) or isinstance(b, Gather) or a.form[-4:-2] != b.form[-4:-2]:
        return None
    form = (*np.broadcast_shapes(a.form[:-4], b.form[:-4]), *a.form[-4:-1], b.form[-1])
    if math.prod(form) > math.prod(a.form) + math.prod(b.form) and not grow:
        return None
    return blocks(namespace(a.values).matmul(a.W, b.W))


def apply(chain: Chain, X: Array) -> Array:
    """Return the chain times X (…, n, B)."""
    if not is_numpy_array(X) or any(isinstance(stage, Blocks) and len(stage.form) > 4 for stage in chain):
        for stage in reversed(chain):
            X = stage.apply(X)
        return X
    out = np.empty((*X.shape[:-2], chain[0].n_out, X.shape[-1]), np.result_type(X, first_blocks(chain)))
    width = out.itemsize * _numbers_between(chain, X)
    if X.ndim == 2 or width * X.shape[-1] > _SCRATCH:
        for at in np.ndindex(X.shape[:-2]):
            _apply_by_columns(chain, X[at], out[at], max(_FEW + 1, _SCRATCH // width))
        return out
    width *= max(1, X.shape[-1]) * (3 if X.shape[-1] <= _FEW else 1)  # few columns are copied on both sides
    step = max(1, _SCRATCH // width)
    for at in np.ndindex(X.shape[:-3]):
        for start in range(0, X.shape[-3], step):
            part = slice(start, start + step)
            _apply_into(chain, X[at][part], out[at][part])
    return out


def _numbers_between(chain: Chain, X: np.ndarray) -> int:
    """Return how many numbers a column has at most between two stages: what one takes and what it gives."""
    sizes = [stage.n_out for stage in chain[:0:-1]]
    first = chain[-1]
    copied = isinstance(first, Blocks) and first.form[-3] > 1 and X.strides[-1] != X.itemsize
    sizes = [first.n_in if copied else 0, *sizes, 0]
    return max(1, *(a + b for a, b in itertools.pairwise(sizes)))


def _apply_by_columns(chain: Chain, X: np.ndarray, out: np.ndarray, most: int) -> None:
    """Write the chain times X (n, B) to `out`, `most` columns at a time, so that what lies between stages is small."""
    columns = X.shape[1]
    step = math.ceil(columns / max(1, math.ceil(columns / most)))
    for start in range(0, columns, step or 1):
        _apply_into(chain, X[:, start : start + step], out[:, start : start + step])


def _apply_into(chain: Chain, X: np.ndarray, out: np.ndarray) -> None:
    for stage in reversed(chain[1:]):
        X = stage.apply(X)
    chain[0].apply(X, out)


def to_dense(chain: Chain, start: int, stop: int) -> Array:
    """Return columns `start` to `stop` of the chain, (…, m, stop - start)."""
    values = first_blocks(chain)
    unit = np.zeros((chain[-1].n_in, stop - start), real_dtype(values))
    unit[np.arange(start, stop), np.arange(stop - start)] = 1
    return apply(chain, like(unit, values, compute_dtype(values.dtype)))


def parity(index: np.ndarray) -> int:
    """Return the sign of a permutation."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n = index.size
    graph = csr_array((np.ones(n, bool), index, np.arange(n + 1)), shape=(n, n))
    cycles = connected_components(graph, directed=False)[0]
    return -1 if (n - cycles) % 2 else 1


def check_gather(index: np.ndarray, n_in: int, position: int) -> Gather:
    """Return the gather, or refuse numbers out of range, and those that repeat: its transpose would be no gather."""
    used = index[index >= 0]
    repeated = np.unique(used).size < used.size
    if not index.size or n_in < 1 or index.min() < -1 or index.max() >= n_in or repeated:
        raise ValueError(
            f"stage {position} must gather from 0 to {n_in - 1} (or -1 for zero), every place at most once"
        )
    return Gather(index, n_in)
