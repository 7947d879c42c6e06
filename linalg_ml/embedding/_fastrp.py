"""FastRP: node embeddings from powers of the transition matrix and a very sparse random projection."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from array_api_compat import is_dask_array, is_numpy_array

from .._core.arrays import Array, check_int, like, namespace, to_numpy
from .._core.random import RNG
from ._graph import Graph, as_graph, is_foreign
from ._model import Options, check_features, check_options
from ._powers import Sum, Walk, block_width, embed
from ._projection import check_dtype, check_ids
from ._result import FastRPResult, Fitted


def fastrp(
    adjacency: Any,
    *,
    n_components: int = 128,
    weights: Any = (0.0, 0.0, 1.0, 1.0),
    self_weight: float = 0.0,
    normalization: float = 0.0,
    projection: str = "sparse",
    density: float | str = "auto",
    normalize_powers: bool = True,
    directed: bool = False,
    features: Any = None,
    feature_weight: float = 0.5,
    node_ids: Any = None,
    dtype: Any = np.float32,
    keep_powers: bool = False,
    max_memory: int | None = None,
    out: Array | None = None,
    rng: RNG = None,
    verbose: bool = False,
) -> FastRPResult:
    """Embed the nodes of a graph.

    Nodes get vectors whose inner products approximate how alike their neighbourhoods of 1, 2, … steps are: a weighted
    sum of powers of the random walk's transition matrix times a random projection, at the speed of memory.

    Parameters
    ----------
    adjacency : sparse or dense matrix, shape (n, n), graph, or tuple of arrays
        Weights ≥ 0 of the edges from i (row) to j (column), as they are: a SciPy or CuPy sparse matrix or array, a
        dense matrix, which is made sparse on the host, a networkx or igraph graph (edge attribute ``weight``, 1 where
        there is none; nodes in the graph's order). A tuple (src, dst) or (src, dst, weight) is a list of edges, never a
        matrix. Of duplicate edges the weights are summed. A dask array whose blocks hold whole rows, dense or sparse,
        is embedded on the cluster, without `features`, `keep_powers`, `max_memory` and `out`.
    n_components : int, default 128
        Length d of the vectors; multiples of 64 are fastest.
    weights : sequence of float, default (0, 0, 1, 1)
        Weights of the powers 1, 2, …: the paper uses (0, 0, 1, w).
    self_weight : float, default 0
        Weight of power 0, the node itself.
    normalization : float, default 0
        Exponent β of the degrees, usually in [-1, 1]: the columns are scaled by (degree/sum of degrees)^β, so that hubs
        count less where it is negative. Worth tuning, see `tune`.
    projection : {"sparse", "gaussian"}, default "sparse"
        Kind of the random projection.
    density : float in (0, 1] or "auto", default "auto"
        Share of entries of the sparse projection that are not zero. "auto": 1/√n if `self_weight` and ``weights[0]``
        are 0, else 1/3, because the rows of low powers at nodes of low degree need it.
    normalize_powers : bool, default True
        Divide the rows of each power by their length before they are added.
    directed : bool, default False
        Whether edges of a tuple go one way.
    features : array_like or sparse matrix, shape (n, p), optional
        Properties of the nodes, mixed in by columns of their own.
    feature_weight : float in [0, 1], default 0.5
        Share of the features in inner products, and of the columns.
    node_ids : array_like of int, shape (n,), optional
        Ids from which the rows of the projection are drawn; default 0 … n - 1. The same id and seed give the same row
        in every graph.
    dtype : dtype, default float32
        float32 or float64, of the embedding and of all that is computed; weights of edges are rounded to it.
    keep_powers : bool, default False
        Keep all powers in the result, for `FastRPResult.update` and many calls of `FastRPResult.transform`.
    max_memory : int, optional
        Bytes of working arrays, input and output not counted. What does not fit is done in blocks of columns, in twice
        the time.
    out : ndarray, shape (n, n_components), optional
        Where to write the embedding, a `numpy.memmap` for instance; C-contiguous, of `dtype`.
    rng : None, int or numpy.random.Generator, optional
        Randomness. An integer stands for the same embedding, for ever.
    verbose : bool, default False
        Show progress.

    Returns
    -------
    result : FastRPResult
        With ``embedding``, an array of shape (n, n_components) and `dtype`, its ``error``, ``transform`` and
        ``update``. The embedding is a NumPy array; of a CuPy matrix a CuPy array on the same device, of a dense matrix
        of PyTorch or another library one of its arrays on its device, of a dask array a dask array in the same blocks
        of rows.

    Raises
    ------
    ValueError
        Not square, empty, weights that are negative, not finite or beyond the range of `dtype`, node numbers that are
        negative or too large, an option out of range, weights of powers that are all zero, ids that repeat or are
        negative, a `max_memory` that is too small, an option that dask arrays do not have.
    TypeError
        Not a graph, complex weights, node numbers or ids that are not integers, or an option of the wrong type.

    Warns
    -----
    UserWarning
        `normalization` outside [-1, 1]; rows of nodes with edges that are zero: in a directed graph their walks may end
        before the powers that count; else the projection has no non-zero near them, and a greater `density` cures it.

    See Also
    --------
    FastRP : the scikit-learn estimator.
    tune : search for `weights` and `normalization`.
    projection_matrix : the projection R.

    Notes
    -----
    With S the adjacency, D the diagonal matrix of row sums r, A = D⁻¹S, L = diag((r/Σr)^β) and R the projection:
    N_0 = L R, N_i = A N_{i-1}, U_i = rows of N_i divided by their length, and the embedding is
    Σ_i α_i U_i [1]_. Rows of nodes without out-edges are zero but for the part of power 0.

    The embedding E is M R for a matrix M that is never formed, so E Eᵀ estimates the similarities M Mᵀ; ``error``
    bounds ‖E Eᵀ - M Mᵀ‖_F, with probability 0.95, from Gaussian probes. Typically ‖E Eᵀ - M Mᵀ‖_F ≈ ‖M‖_F²/√d.

    Every sum has a defined order: the result is the same bit for bit for any number of threads, any `max_memory`, on
    dask, and for a node whatever happens in other components.

    Time: (q - 1)·nnz·d multiply-adds, as many random reads of rows as there are edges; the first power costs little
    where the projection is sparse (density ≤ 1/16). Memory: two n × d panels, the result being one of them, with the
    default weights; a third one where powers below q - 1 count.

    Columns are not standardised, which would couple all nodes; regularised classifiers like it:
    ``make_pipeline(StandardScaler(), LogisticRegression())`` on the embedding.

    References
    ----------
    .. [1] H. Chen, S. F. Sultan, Y. Tian, M. Chen, S. Skiena, "Fast and accurate network embeddings via very sparse
       random projection", CIKM 2019.

    Examples
    --------
    >>> import networkx as nx
    >>> from linalg_ml.embedding import fastrp
    >>> result = fastrp(nx.karate_club_graph(), n_components=32, rng=0)
    >>> result.embedding.shape
    (34, 32)
    >>> bool(result.relative_error < 1)
    True
    """
    dtype = check_dtype(dtype)
    settings = {
        "n_components": n_components, "weights": weights, "self_weight": self_weight, "normalization": normalization,
        "projection": projection, "density": density, "normalize_powers": normalize_powers,
        "feature_weight": feature_weight, "rng": rng,
    }  # fmt: skip
    if is_dask_array(adjacency):
        from ._dask import fastrp_on_dask

        _refuse(features=features, max_memory=max_memory, out=out, keep_powers=keep_powers or None)
        return warned(fastrp_on_dask(adjacency, dtype, node_ids, settings), 2)
    graph = as_graph(adjacency, dtype, directed=directed, n=None if node_ids is None else np.size(node_ids))
    features = check_features(features, graph.n)
    options = check_options(graph.n, graph.degrees, dtype, features=features, **settings)
    ids = range(graph.n) if node_ids is None else check_ids(node_ids, n=graph.n)
    how: dict[str, Any] = {"keep_powers": keep_powers, "max_memory": max_memory, "out": out, "verbose": verbose}
    result = fit(graph, options, ids, features, **how)
    if out is None and is_foreign(adjacency):
        result = replace(result, embedding=like(result.embedding, adjacency))
    return warned(result, 2)


def _refuse(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"{name} is not accepted with a dask adjacency")


def fit(
    graph: Graph,
    options: Options,
    ids: range | np.ndarray,
    features: Any,
    *,
    keep_powers: bool = False,
    max_memory: int | None = None,
    out: Array | None = None,
    verbose: bool = False,
) -> FastRPResult:
    """Return the embedding of a checked graph under checked options."""
    block = block_width(graph.n, options, None if max_memory is None else check_int(max_memory, "max_memory"))
    if block is not None and keep_powers:
        raise ValueError("keep_powers needs all columns at once: give more max_memory, or none")
    _check_out(out, (graph.n, options.n_components), options.dtype)
    walk = Walk(graph)
    starts = options.starts(graph.degrees, ids, features, float(graph.degrees.sum()))
    done = embed(walk, options, starts, out=out, block=block, keep=keep_powers, verbose=verbose)
    fitted = Fitted(graph, options, ids, features, done.kept if keep_powers else None)
    return result_of(fitted, done)


def _check_out(out: Any, shape: tuple[int, int], dtype: np.dtype) -> None:
    if out is None:
        return
    if not is_numpy_array(out):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.shape != shape or out.dtype != dtype or not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError(
            f"out must be a C-contiguous, writeable array of shape {shape} and dtype {dtype}, got shape "
            f"{out.shape} and dtype {out.dtype}"
        )


def result_of(fitted: Fitted, done: Sum) -> FastRPResult:
    """Return what users get."""
    options = fitted.options
    norms = None
    if options.normalize_powers:
        groups = [np.stack([np.sqrt(to_numpy(s[i])) for i in options.used]) for s in done.squares]
        norms = groups[0] if len(groups) == 1 else np.stack(groups, axis=-1)
    n_zero = count_zero_rows(done.embedding, norms, fitted.graph.degrees)
    return FastRPResult(done.embedding, norms, options.density, options.key, n_zero, fitted)


def count_zero_rows(E: Array, norms: np.ndarray | None, degrees: np.ndarray) -> int:
    """Return how many nodes with edges have a row of zeros."""
    if norms is not None:
        zero = ~np.any(norms.reshape(norms.shape[0], norms.shape[1], -1), axis=(0, 2))
    else:
        xp = namespace(E)
        zero = ~to_numpy(xp.any(E != 0, axis=1))
    return int(np.count_nonzero(zero & (degrees > 0)))


def warned(result: FastRPResult, stacklevel: int) -> FastRPResult:
    """Return the result after a warning of rows of zeros; `stacklevel` counts from the function that calls this one."""
    if result.n_zero_rows:
        warnings.warn(
            f"{result.n_zero_rows} nodes with edges have rows of zeros: their walks end before the powers that count, "
            "or the sparse projection has no non-zero near them, which a greater density cures",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    return result
