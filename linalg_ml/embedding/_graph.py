"""Graphs as canonical CSR rows, whatever they come as."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj, is_dask_array, is_numpy_array
from scipy import sparse

from .._core.arrays import Array, check_array, compute_dtype, is_cupy_sparse, is_sparse, like, to_numpy

ACCEPTED = (
    "a sparse or dense square matrix, a networkx or igraph graph, or a tuple (src, dst) or (src, dst, weight) of edge "
    "arrays"
)
_ROOM = 2.0**20  # more than the entries of a projection are likely to be
_ROWS = 2**20  # neighbours summed at a time


@dataclass(frozen=True)
class Graph:
    """Rows of out-neighbours: sorted, each once, weights positive and of the dtype of the embedding.

    Attributes
    ----------
    indptr, indices : arrays
        int64; int32 while columns are fewer than 2**31.
    weights : array or None
        None where all are 1.
    n_columns : int
        Number of nodes that rows may point to.
    degrees : ndarray of float64
        Sums of the weights of rows, on the host.
    dtype : numpy.dtype
        Of the weights, and of all that is computed from them.
    symmetric : bool or None
        None: not known.
    """

    indptr: Array
    indices: Array
    weights: Array | None
    n_columns: int
    degrees: np.ndarray
    dtype: np.dtype
    symmetric: bool | None = None

    @property
    def n(self) -> int:
        return self.indptr.shape[0] - 1

    @property
    def nnz(self) -> int:
        return self.indices.shape[0]

    @property
    def inverse(self) -> Array:
        """1/degree, rounded once, 0 for nodes without out-neighbours; where the graph lies."""
        some = self.degrees > 0
        with np.errstate(over="ignore"):
            inverse = np.divide(1.0, self.degrees, out=np.zeros(self.n), where=some).astype(self.dtype)
        if not np.isfinite(inverse).all():
            raise ValueError(f"adjacency has rows whose weights add up to less than {self.dtype} can divide by")
        return like(inverse, self.indptr)

    def take(self, rows: np.ndarray) -> "Graph":
        """Return some of the rows."""
        counts = np.diff(self.indptr)[rows]
        indptr = np.concatenate([[0], np.cumsum(counts)])
        places = np.repeat(self.indptr[rows] - indptr[:-1], counts) + np.arange(indptr[-1])
        weights = None if self.weights is None else self.weights[places]
        return Graph(indptr, self.indices[places], weights, self.n_columns, self.degrees[rows], self.dtype)

    def renumbered(self, columns: np.ndarray) -> "Graph":
        """Return the same rows, pointing to places in the sorted `columns`, which hold all that they point to."""
        indices: np.ndarray = np.searchsorted(columns, self.indices).astype(index_dtype(columns.size))
        return Graph(self.indptr, indices, self.weights, columns.size, self.degrees, self.dtype)

    def neighbours(self) -> np.ndarray:
        """Return what the rows point to, sorted, each once."""
        return np.unique(self.indices).astype(np.int64)

    def on_host(self) -> "Graph":
        """Return the graph in NumPy arrays."""
        weights = None if self.weights is None else to_numpy(self.weights)
        parts = to_numpy(self.indptr), to_numpy(self.indices), weights
        return Graph(*parts, self.n_columns, self.degrees, self.dtype, self.symmetric)

    def to_scipy(self, dtype: Any = None) -> sparse.csr_array:
        """Return the rows as a SciPy array on the host, without copying indices."""
        weights = np.ones(self.nnz, dtype or self.dtype) if self.weights is None else to_numpy(self.weights)
        parts = (weights.astype(dtype or self.dtype, copy=False), to_numpy(self.indices), to_numpy(self.indptr))
        return sparse.csr_array(parts, shape=(self.n, self.n_columns))


def is_foreign(A: Any) -> bool:
    """Tell dense arrays of other libraries than NumPy, in which answers are given."""
    return is_array_api_obj(A) and not is_numpy_array(A) and not is_dask_array(A)


def index_dtype(n: int) -> type:
    return np.int32 if n < 2**31 else np.int64


# --- from what users have -----------------------------------------------------------------------------


def as_graph(adjacency: Any, dtype: np.dtype, *, directed: bool = False, n: int | None = None) -> Graph:
    """Return `adjacency` as a graph of `n` nodes (where that is known), or say what is wrong with it."""
    if isinstance(adjacency, tuple):
        return _from_edges(adjacency, dtype, bool(directed), n)
    matrix, symmetric = _as_matrix(adjacency)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"adjacency must be square, got shape {tuple(matrix.shape)}")
    return canonical(matrix, dtype, symmetric=symmetric)


def _as_matrix(adjacency: Any) -> tuple[Any, bool | None]:
    """Return the adjacency as a sparse matrix, and whether it is known to be symmetric."""
    if is_sparse(adjacency):
        if len(adjacency.shape) != 2:
            raise ValueError(f"adjacency must be 2-d, got shape {tuple(adjacency.shape)}")
        return adjacency, None
    if _is_instance(adjacency, "networkx", "Graph"):
        return _from_networkx(adjacency), not adjacency.is_directed()
    if _is_instance(adjacency, "igraph", "Graph"):
        return _from_igraph(adjacency), not adjacency.is_directed()
    if not hasattr(adjacency, "__array__") and not isinstance(adjacency, list | np.ndarray):
        raise TypeError(
            f"adjacency must be {ACCEPTED}, got {type(adjacency).__module__}.{type(adjacency).__qualname__}"
        )
    dense = check_array(adjacency, "adjacency", ndim=2, complex_ok=False, finite=False)
    return sparse.csr_array(to_numpy(dense)), None


def _is_instance(value: Any, module: str, name: str) -> bool:
    """Tell instances of a class of an optional package, which must be loaded if there are any."""
    return module in sys.modules and isinstance(value, getattr(sys.modules[module], name, ()))


def _from_networkx(graph: Any) -> Any:
    import networkx

    if len(graph) == 0:
        raise ValueError("adjacency is empty: the graph has no node")
    return networkx.to_scipy_sparse_array(graph, dtype=np.float64, format="csr")


def _from_igraph(graph: Any) -> Any:
    edges = np.asarray(graph.get_edgelist(), np.int64).reshape(-1, 2)
    weights = graph.es["weight"] if "weight" in graph.es.attributes() else np.ones(len(edges))
    return _matrix_of(edges[:, 0], edges[:, 1], np.asarray(weights, np.float64), graph.is_directed(), graph.vcount())


def _from_edges(edges: tuple, dtype: np.dtype, directed: bool, n: int | None) -> Graph:
    if len(edges) not in (2, 3):
        raise ValueError(f"adjacency as a tuple must be (src, dst) or (src, dst, weight), got {len(edges)} parts")
    src, dst = (check_nodes(part, name, n) for part, name in zip(edges, ("src", "dst"), strict=False))
    weights = np.ones(src.size) if len(edges) == 2 else check_weights(edges[2], "weight", src.size)
    if src.size != dst.size:
        raise ValueError(f"src and dst must have one length, got {src.size} and {dst.size}")
    if n is None:
        n = 1 + max(src.max(initial=-1), dst.max(initial=-1))
    return canonical(_matrix_of(src, dst, weights, directed, int(n)), dtype, symmetric=None if directed else True)


def _matrix_of(src: np.ndarray, dst: np.ndarray, weights: np.ndarray, directed: bool, n: int) -> sparse.csr_array:
    if directed:
        return sparse.coo_array((weights, (src, dst)), shape=(n, n)).tocsr()
    if weights.size and not weights.min() >= 0:
        raise ValueError("adjacency must have weights ≥ 0, got a negative one or NaN")
    half = sparse.coo_array((weights, (np.minimum(src, dst), np.maximum(src, dst))), shape=(n, n)).tocsr()
    half.sum_duplicates()  # before they are mirrored, so that both directions round alike
    return (half + sparse.triu(half, 1, format="csr").T).tocsr()


# --- checks -------------------------------------------------------------------------------------------


def check_nodes(nodes: Any, name: str, n: int | None) -> np.ndarray:
    """Return numbers of nodes below `n` as int64."""
    nodes = np.asarray(to_numpy(nodes) if hasattr(nodes, "get") else nodes)
    nodes = nodes.astype(np.int64) if nodes.size == 0 else nodes
    if nodes.ndim != 1:
        raise ValueError(f"{name} must be 1-d, got shape {nodes.shape}")
    if nodes.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, the numbers of nodes, got dtype {nodes.dtype}")
    if nodes.size and (nodes.min() < 0 or nodes.max() >= (2**40 if n is None else n)):
        wrong = nodes.min() if nodes.min() < 0 else nodes.max()
        known = "at least 0 and below 2**40" if n is None else f"from 0 to {n - 1}"
        raise ValueError(f"{name} must be numbers of nodes {known}, got {wrong}")
    return nodes.astype(np.int64, copy=False)


def check_weights(weights: Any, name: str, size: int) -> np.ndarray:
    """Return `size` weights ≥ 0 as float64."""
    weights = check_array(np.broadcast_to(weights, (size,)) if np.ndim(weights) == 0 else weights, name, ndim=1,
                          complex_ok=False) if size else np.empty(0)  # fmt: skip
    weights = to_numpy(weights).astype(np.float64, copy=False)
    if weights.size != size:
        raise ValueError(f"{name} must have one number for each of the {size} edges, got {weights.size}")
    if size and weights.min() < 0:
        raise ValueError(f"{name} must be ≥ 0, got {weights.min():g}")
    return weights


def canonical(matrix: Any, dtype: np.dtype, *, symmetric: bool | None = None, name: str = "adjacency") -> Graph:
    """Return a sparse matrix with canonical rows; its own arrays where these serve, and never changed."""
    if 0 in matrix.shape:
        raise ValueError(f"{name} is empty: got shape {tuple(matrix.shape)}")
    compute_dtype(matrix.dtype, name, complex_ok=False)
    if matrix.format == "coo":  # which adds up what is there twice as soon as it becomes CSR
        matrix = matrix.astype(np.float64)
        _check_values(to_numpy(matrix.data), name)
    rows = matrix.tocsr() if is_cupy_sparse(matrix) else sparse.csr_array(matrix.tocsr())
    data = to_numpy(rows.data) if is_cupy_sparse(rows) else rows.data
    data = data.astype(compute_dtype(data.dtype), copy=False)
    low, high = _check_values(data, name)
    if not rows.has_canonical_format or low == 0:
        rows = rows.astype(np.float64) if is_cupy_sparse(rows) else rows.astype(np.float64, copy=True)
        rows.sum_duplicates()
        rows.eliminate_zeros()
        rows.sort_indices()
        data = to_numpy(rows.data)
        low, high = _check_values(data, name)
    return _rounded(rows, data, low == high == 1, dtype, symmetric)


def _check_values(data: np.ndarray, name: str) -> tuple[float, float]:
    """Return the smallest and the largest weight; 1 of none."""
    if data.size == 0:
        return 1.0, 1.0
    low, high = data.min(), data.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    if low < 0:
        raise ValueError(f"{name} must have weights ≥ 0, got {low:g}")
    return low, high


def _rounded(rows: Any, data: np.ndarray, all_one: bool, dtype: np.dtype, symmetric: bool | None) -> Graph:
    n_columns = rows.shape[1]
    indptr = rows.indptr.astype(np.int64, copy=False)
    indices = rows.indices.astype(index_dtype(n_columns), copy=False)
    if all_one:
        degrees = np.diff(to_numpy(indptr)).astype(np.float64)
        return Graph(indptr, indices, None, n_columns, degrees, dtype, symmetric)
    with np.errstate(over="ignore"):
        weights = data.astype(dtype, copy=False)
    if not np.isfinite(weights.max()):
        raise ValueError(f"adjacency has weights beyond the range of {dtype}: up to {data.max():g}")
    degrees = check_degrees(row_sums(to_numpy(indptr), weights), dtype)
    return Graph(indptr, indices, like(weights, indptr), n_columns, degrees, dtype, symmetric)


def check_degrees(degrees: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the degrees, if sums over neighbours stay in range whatever the entries of the projection."""
    if not degrees.max(initial=0) < np.finfo(dtype).max / _ROOM:
        raise ValueError(f"adjacency has rows whose weights add up to {degrees.max():g}, out of the range of {dtype}")
    return degrees


def row_sums(indptr: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the sums of rows in float64, in the order of the rows: `bincount` adds one after the other."""
    sums = np.zeros(indptr.size - 1)
    start = 0
    while start < sums.size:
        stop = max(start + 1, int(np.searchsorted(indptr, indptr[start] + _ROWS, side="right")) - 1)
        counts = np.diff(indptr[start : stop + 1])
        part = weights[indptr[start] : indptr[stop]]
        sums[start:stop] = np.bincount(np.repeat(np.arange(stop - start), counts), part, stop - start)
        start = stop
    return sums
