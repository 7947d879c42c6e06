"""How well the embedding keeps inner products, from Gaussian probes through the embedding's own kernel."""

from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import is_dask_array
from scipy import sparse

from .._core.arrays import Array, like, namespace, to_numpy
from .._core.random import Stream, normals, uniforms, words
from .._linalg.estimates import frobenius_norm
from ._graph import Graph, canonical
from ._model import FeatureStart, Start, to_numpy_sparse
from ._powers import Walk
from ._projection import pieces

if TYPE_CHECKING:
    from ._result import Fitted


def estimate(fitted: "Fitted", E: Array, norms: np.ndarray | None, k: int, confidence: float) -> tuple[float, float]:
    """Return a bound of ‖E Eᵀ - M Mᵀ‖_F, and what part it is of ‖E‖_F²; for the Notes of `FastRPResult`."""
    graph, options = fitted.graph, fitted.options
    ids = fitted.ids if isinstance(fitted.ids, range) else like(fitted.ids, graph.indptr)
    here = namespace(graph.indptr).empty(0, dtype=graph.dtype)
    Z = normals(options.key, Stream.PROBES, ids, k, to=here)
    walks = fitted.walks()
    V = namespace(Z).zeros_like(Z)
    for group, start in enumerate(fitted.starts()):
        factors = _row_factors(fitted, start, norms if norms is None or norms.ndim == 2 else norms[..., group])
        V += _gram(walks, start, factors, Z, options.q)
    products = E @ (E.T @ Z)
    products = products.compute() if is_dask_array(products) else products
    bound = frobenius_norm(products - V, confidence=confidence).upper
    size = squared_norm(E)
    return bound, bound / size if size > 0 else 0.0  # without edges E and M are zero, and so is their difference


def squared_norm(E: Array) -> float:
    """Return ‖E‖_F², in pieces that are added in float64: no second copy of E."""
    if is_dask_array(E):
        return float((E.astype(np.float64) ** 2).sum().compute())
    total = 0.0
    for start, stop in pieces(E.shape[0], E.shape[1]):
        rows = to_numpy(E[start:stop]).ravel()
        total += float(rows @ rows)
    return total


def _row_factors(fitted: "Fitted", start: Start, norms: np.ndarray | None) -> dict[int, Array]:
    """Return c_i of the powers that count, from the norms that were computed."""
    n, dtype = fitted.graph.n, fitted.graph.dtype
    factors = {}
    for position, (i, amount) in enumerate(fitted.options.amounts(start).items()):
        if norms is None:
            values = np.full(n, amount)
        else:
            some = norms[position] > 0
            values = np.divide(amount, norms[position], out=np.zeros(n), where=some)
        factors[i] = like(values.astype(dtype), fitted.graph.indptr)
    return factors


def _gram(walks: Any, start: Start, factors: dict[int, Array], Z: Array, q: int) -> Array:
    """Return M Mᵀ Z of one group of columns, M = Σ diag(c_i) Aⁱ L."""
    forward, backward = walks
    xp = namespace(Z)
    T = factors[q][:, None] * Z
    for i in range(q, 0, -1):  # Aᵀ T = Sᵀ(D⁻¹ T)
        next_T = xp.zeros_like(T)
        backward.step(forward.inverse[:, None] * T, out=next_T)
        T = next_T + factors[i - 1][:, None] * Z if i - 1 in factors else next_T
    Y = _middle(start, T)
    V = factors[0][:, None] * Y if 0 in factors else xp.zeros_like(Y)
    for i in range(1, q + 1):
        next_Y = xp.empty_like(Y)
        wanted = {"factors": factors[i], "total": V} if i in factors else {}
        forward.step(Y, out=next_Y, **wanted)
        Y = next_Y
    return V


def _middle(start: Start, T: Array) -> Array:
    """Return L² T, or X Xᵀ T."""
    if isinstance(start, FeatureStart):
        X = to_numpy_sparse(start.features)
        return like(np.asarray(X @ (X.T @ to_numpy(T).astype(np.float64))), T).astype(T.dtype)
    return like((start.levels**2).astype(T.dtype), T)[:, None] * T


class _Backward(Walk):
    """Products with Sᵀ."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.inverse = like(np.ones(graph.n, graph.dtype), graph.indptr)


def transposed(graph: Graph) -> Walk:
    """Return products with Sᵀ; a symmetric S serves as it is."""
    S = graph.to_scipy()
    if graph.symmetric or (graph.symmetric is None and is_symmetric(S)):
        return _Backward(graph)
    back = canonical(S.T.tocsr(), graph.dtype)
    weights = None if back.weights is None else like(back.weights, graph.indptr)
    indptr, indices = like(back.indptr, graph.indptr), like(back.indices, graph.indptr)
    return _Backward(Graph(indptr, indices, weights, back.n_columns, back.degrees, back.dtype))


def is_symmetric(S: sparse.csr_array) -> bool:
    """Tell whether S is symmetric to rounding, by one random vector: much less work than to transpose it."""
    x = uniforms(words(0, Stream.STARTS, range(S.shape[0])))[:, 0]
    there, back = S @ x, S.T @ x
    return bool(np.abs(there - back).max() <= 1e-12 * np.abs(there).max())
