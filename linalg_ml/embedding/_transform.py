"""Embedding new nodes from their edges to known ones."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from .._core.arrays import Array, check_array, is_sparse, like, to_numpy
from ._graph import Graph, canonical
from ._model import Options, Start, check_features
from ._powers import Walk, add_rows, scaling
from ._projection import check_ids

if TYPE_CHECKING:
    from ._result import FastRPResult, Fitted


def transform(result: "FastRPResult", B: Any, new_edges: Any, node_ids: Any, features: Any) -> Array:
    """Return the embedding of new nodes; see `FastRPResult.transform`."""
    fitted = result._fitted.on_host()
    rows = _rows(B, new_edges, fitted.graph)
    known = rows.neighbours()
    known = known[known < fitted.graph.n]
    rows = rows.renumbered(np.concatenate([known, np.arange(fitted.graph.n, rows.n_columns)]))
    E = np.empty((rows.n, fitted.options.n_components), rows.dtype)
    news = _new_starts(fitted, rows, new_edges, node_ids, features)
    for group, (start, new) in enumerate(zip(fitted.starts(), news, strict=True)):
        powers = _kept(fitted, group, start, known) or _recomputed(fitted.graph, start, known, fitted.options.q)
        target = E[:, start.offset : start.offset + start.width]
        _sum(rows, powers, new, fitted.options, target)
    return like(E, result.embedding)


def _rows(B: Any, new_edges: Any, graph: Graph) -> Graph:
    """Return [B C] as rows of a graph whose first columns are the known nodes."""
    B = _matrix(B, "B")
    m, n = B.shape
    if n != graph.n:
        raise ValueError(f"B must have a column for each of the {graph.n} known nodes, got shape {(m, n)}")
    C = sparse.csr_array((m, m)) if new_edges is None else _matrix(new_edges, "new_edges")
    if C.shape != (m, m):
        raise ValueError(f"new_edges must have shape {(m, m)}, got {C.shape}")
    return canonical(sparse.hstack([B, C], format="csr"), graph.dtype, name="B")


def _matrix(value: Any, name: str) -> sparse.csr_array:
    checked = check_array(value, name, ndim=2, complex_ok=False, sparse_ok=True)
    on_host = checked.get() if is_sparse(checked) and hasattr(checked, "get") else checked
    return sparse.csr_array(on_host if is_sparse(on_host) else to_numpy(on_host), dtype=np.float64)


def _new_starts(fitted: "Fitted", rows: Graph, new_edges: Any, node_ids: Any, features: Any) -> list[Start]:
    """Return the first panels of the new nodes, on the levels of the fitted graph."""
    m, n, options = rows.n, fitted.graph.n, fitted.options
    drawn = 0 in options.used or new_edges is not None  # their own rows of N_0 count
    if node_ids is None and drawn and isinstance(fitted.ids, np.ndarray) and fitted.ids.max() >= n:
        raise ValueError("node_ids of the new nodes are needed: those of the fitted graph were not 0 … n - 1")
    ids = np.arange(n, n + m, dtype=np.uint64) if node_ids is None else check_ids(node_ids, n=m)
    if node_ids is not None and np.isin(ids, np.asarray(fitted.ids, np.uint64)).any():
        raise ValueError("node_ids must be new, got ids of known nodes")
    X = check_features(features, m)
    if X is not None and fitted.features is not None and X.shape[1] != fitted.features.shape[1]:
        raise ValueError(f"features must have {fitted.features.shape[1]} columns as at fit, got {X.shape[1]}")
    if X is None and options.feature_weight > 0:
        if drawn:
            raise ValueError("features of the new nodes are needed: the embedding has features, and power 0 counts")
        X = sparse.csr_array((m, fitted.features.shape[1]))  # nobody looks at them
    if X is not None and not is_sparse(X):
        X = to_numpy(X)
    return options.starts(rows.degrees, ids, X, float(fitted.graph.degrees.sum()))


def _kept(fitted: "Fitted", group: int, start: Start, known: np.ndarray) -> list[Array] | None:
    """Return N_0 … N_{q-1} of the known neighbours from the powers that were kept."""
    if fitted.powers is None:
        return None
    first = start.fill(known, np.empty((known.size, start.width), fitted.graph.dtype))
    return [first, *(N[known] for N in fitted.powers[group])]


def _recomputed(graph: Graph, start: Start, known: np.ndarray, q: int) -> list[Array]:
    """Return N_0 … N_{q-1} of the known neighbours from all that they reach in as many steps."""
    reach = [known]  # where N_{q-1}, N_{q-2}, … are needed
    for _ in range(q - 1):
        reach.append(np.union1d(known, graph.take(reach[-1]).neighbours()))
    rows = reach[-1]
    panel = start.fill(rows, np.empty((rows.size, start.width), graph.dtype))
    powers = [panel[np.searchsorted(rows, known)]]
    for further in reversed(reach[:-1]):
        walk = Walk(graph.take(further).renumbered(rows))
        out = walk.empty(start.width)
        walk.step(panel, out=out)
        panel, rows = out, further
        powers.append(panel[np.searchsorted(rows, known)])
    return powers


def _sum(rows: Graph, powers: list[Array], new: Start, options: Options, total: Array) -> None:
    """Fill `total` with the weighted sum of the powers of the new nodes."""
    walk, amounts, fresh = Walk(rows), options.amounts(new), True
    panel = new.fill(slice(None), walk.empty(new.width))
    if 0 in amounts:
        add_rows(panel, total, None, fresh=True, **scaling(options, amounts[0], rows.n))
        fresh = False
    for i in range(1, options.q + 1):
        out = walk.empty(new.width) if i < options.q else None
        source = np.concatenate([powers[i - 1], panel])
        if i in amounts:
            walk.step(source, out=out, total=total, fresh=fresh, **scaling(options, amounts[i], rows.n))
            fresh = False
        else:
            walk.step(source, out=out)
        panel = out
