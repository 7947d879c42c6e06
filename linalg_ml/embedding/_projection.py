"""The random projection: drawn from the node's id wherever it is needed, and never stored."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj, is_cupy_array

from .._core.arrays import Array, check_choice, check_int, check_real, like, namespace, to_numpy
from .._core.random import RNG, Stream, key_of, normal_table, sparse_threshold, words
from ._kernels import entries, nonzeros

KINDS = ("sparse", "gaussian")
_WORDS = 2**18  # random words at a time: 1 MB, which stays in a second-level cache


@dataclass(frozen=True)
class Projection:
    """A matrix with independent entries of mean 0 and variance 1/width, a row for every id."""

    kind: str
    density: float
    width: int
    key: int
    stream: Stream = Stream.ROWS

    @cached_property
    def threshold(self) -> int:
        return sparse_threshold(self.density)

    @cached_property
    def size(self) -> float:
        """Magnitude of the non-zero entries of the sparse kind."""
        return math.sqrt(2**31 / (self.threshold * self.width))

    @cached_property
    def table(self) -> np.ndarray | None:
        return normal_table().astype(np.float64) / math.sqrt(self.width) if self.kind == "gaussian" else None

    def fill(self, ids: range | Array, scale: Array, out: Array, first: int = 0) -> Array:
        """Return `out`, filled with scale[i] · entry of columns first … first + out.shape[1] - 1 of rows `ids`."""
        table = like(self.table, out) if self.table is not None else None
        count = out.shape[1]
        for start, stop in pieces(len(ids), count):
            drawn = words(self.key, self.stream, ids[start:stop], count, first=first, to=out)
            entries(drawn, scale[start:stop], self.threshold, self.size, table, out[start:stop, :])
        return out

    def nonzeros(self, ids: range | np.ndarray, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return, for the sparse kind, where the non-zeros of each row start, and 2 · column + sign bit of them."""
        counts, packed = [np.zeros(1, np.int64)], [np.empty(0, np.int64)]
        for start, stop in pieces(len(ids), count):
            part = nonzeros(words(self.key, self.stream, ids[start:stop], count, first=first), self.threshold)
            counts.append(part[0])
            packed.append(part[1])
        return np.cumsum(np.concatenate(counts)), np.concatenate(packed)


def pieces(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield the edges of blocks of rows whose entries fit a cache."""
    size = max(1, _WORDS // max(1, columns))
    return ((start, min(start + size, rows)) for start in range(0, rows, size))


# --- checks -------------------------------------------------------------------------------------------


def check_density(density: Any) -> float:
    """Return a density whose threshold is not zero."""
    density = check_real(density, "density", 0.0, 1.0, open_ends=False)
    if sparse_threshold(density) == 0:
        raise ValueError(f"density must be in (0, 1], got {density:g}: not one entry would be non-zero")
    return density


def check_dtype(dtype: Any) -> np.dtype:
    """Return float32 or float64."""
    try:
        name = None if dtype is None else np.dtype(dtype).name  # NumPy takes None for float64
    except TypeError:
        name = None
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
    return np.dtype(name)


def check_ids(ids: Any, name: str = "node_ids", n: int | None = None) -> np.ndarray:
    """Return ids as uint64: distinct, not negative, `n` of them."""
    ids = np.asarray(to_numpy(ids) if hasattr(ids, "get") else ids)
    if ids.ndim != 1 or (ids.size == 0 and n is None):
        raise ValueError(f"{name} must be a 1-d array of at least one integer, got shape {ids.shape}")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {ids.dtype}")
    if n is not None and ids.size != n:
        raise ValueError(f"{name} must name each of the {n} nodes, got {ids.size} ids")
    if ids.size and ids.min() < 0:
        raise ValueError(f"{name} must not be negative, got {ids.min()}")
    distinct, counts = np.unique(ids, return_counts=True)
    if distinct.size < ids.size:
        raise ValueError(f"{name} must be distinct, got {distinct[counts > 1][0]} more than once")
    return ids.astype(np.uint64)


def projection_matrix(
    node_ids: Any,
    n_components: int,
    *,
    projection: str = "sparse",
    density: float = 1 / 3,
    rng: RNG = None,
    dtype: Any = np.float32,
) -> Array:
    """Return rows of the random projection that `fastrp` uses.

    Parameters
    ----------
    node_ids : array_like of int, shape (n,)
        Ids of the nodes, distinct and not negative; `fastrp` numbers nodes 0 … n - 1 if not told otherwise.
    n_components : int
        Number of columns.
    projection : {"sparse", "gaussian"}, default "sparse"
        "sparse": ±√(1/(density · n_components)) with probability `density`, else 0. "gaussian": normal.
    density : float in (0, 1], default 1/3
        Share of entries that are not zero.
    rng : None, int or numpy.random.Generator, optional
        Randomness. With the same integer and density this is the projection inside ``fastrp(..., rng=rng)``.
    dtype : dtype, default float32
        float32 or float64.

    Returns
    -------
    R : array, shape (n, n_components)
        Independent entries of mean 0 and variance 1/n_components; in the library and on the device of `node_ids`.

    Raises
    ------
    ValueError
        Ids that repeat or are negative, no id, `n_components` < 1, a density outside (0, 1], an unknown projection,
        another dtype.
    TypeError
        Ids or `n_components` that are not integers, or an `rng` of another kind.

    See Also
    --------
    fastrp : the embedding, which draws these rows and does not store them.

    Notes
    -----
    A row depends on the seed and the id alone: permuted ids give permuted rows. Columns do not depend on
    `n_components`, but for the factor 1/√n_components. The float32 matrix is the rounded float64 matrix. For fixed
    vectors u and v, E⟨Rᵀu, Rᵀv⟩ = ⟨u, v⟩, with variance (‖u‖²‖v‖² + ⟨u, v⟩² + (κ - 3) Σ u_j²v_j²)/n_components,
    where κ = 1/density (sparse, [1]_, [2]_) or 3 (Gaussian). Time: a call of Philox4x32-10 for every four entries.

    References
    ----------
    .. [1] D. Achlioptas, "Database-friendly random projections", J. Computer and System Sciences 66 (2003).
    .. [2] P. Li, T. J. Hastie, K. W. Church, "Very sparse random projections", KDD 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.embedding import projection_matrix
    >>> np.sign(projection_matrix([0, 3], 8, rng=7)).astype(int)
    array([[ 0,  0,  1,  1,  0, -1, -1,  1],
           [ 0, -1, -1, -1, -1,  0,  1,  0]])
    """
    ids = check_ids(node_ids)
    n_components = check_int(n_components, "n_components")
    check_choice(projection, "projection", KINDS)
    made = Projection(projection, check_density(density), n_components, key_of(rng))
    dtype = check_dtype(dtype)
    if is_cupy_array(node_ids):
        xp = namespace(node_ids)
        where = xp.asarray(ids)
        return made.fill(where, xp.ones(ids.size), xp.empty((ids.size, n_components), dtype=dtype))
    R = made.fill(ids, np.ones(ids.size), np.empty((ids.size, n_components), dtype))
    return like(R, node_ids) if is_array_api_obj(node_ids) else R
