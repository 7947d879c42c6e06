"""How well the embedding keeps inner products, from Gaussian probes through the embedding's own kernel."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import is_cupy_array, is_dask_array

from .._core.arrays import Array, like, namespace, to_numpy
from .._core.random import Stream, normals, uniforms, words
from .._linalg.estimates import frobenius_norm
from ._graph import Graph, canonical
from ._kernels import asymmetry
from ._model import FeatureStart, NodeStart, Start, to_numpy_sparse
from ._powers import Walk
from ._projection import pieces

_ALIKE = 1e-11  # above the rounding of sums of positive numbers, below an entry among 10^9
_NARROW = 4  # pieces are this much smaller than those of projections: rows are read twice while in the cache

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
        _add_gram(V, walks, start, factors, Z, options.q)
    products, size = _through(E, Z)
    products -= V
    bound = frobenius_norm(products, confidence=confidence).upper
    return bound, bound / size if size > 0 else 0.0  # without edges E and M are zero, and so is their difference


def _through(E: Array, Z: Array) -> tuple[Array, float]:
    """Return E Eᵀ Z and ‖E‖_F², added in float64; E is read in pieces, twice."""
    if is_dask_array(E):
        return (E @ (E.T @ Z)).compute(), float((E.astype(np.float64) ** 2).sum().compute())
    E = E if is_cupy_array(Z) else to_numpy(E)  # which may be in the caller's library
    products, size = namespace(Z).zeros((E.shape[1], Z.shape[1]), dtype=Z.dtype), 0.0
    for start, stop in pieces(E.shape[0], _NARROW * E.shape[1]):
        rows = E[start:stop]
        products += rows.T @ Z[start:stop]
        flat = rows.reshape(-1)
        size += float(flat @ flat)
    return E @ products, size


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


def _add_gram(V: Array, walks: Any, start: Start, factors: dict[int, Array], Z: Array, q: int) -> None:
    """Add M Mᵀ Z of one group of columns to V, M = Σ diag(c_i) Aⁱ L.

    What multiplies the rows of a product is part of the product: D⁻¹ where Aᵀ = Sᵀ D⁻¹ comes next, L² at the end.
    """
    forward, backward = walks
    last = like((start.levels**2).astype(Z.dtype) if isinstance(start, NodeStart) else np.ones(len(Z), Z.dtype), Z)
    scales = [last, *[forward.inverse] * q]

    def probes(i: int) -> Array:
        return (factors[i] * scales[i])[:, None] * Z

    T, spare = forward.empty(Z.shape[1]), forward.empty(Z.shape[1])
    T[...] = probes(q)
    for i in range(q - 1, -1, -1):
        backward(scales[i]).step(T, out=spare)
        T, spare = spare, T
        if i in factors:
            T += probes(i)
    if isinstance(start, FeatureStart):
        X = to_numpy_sparse(start.features)
        T[...] = like(np.asarray(X @ (X.T @ to_numpy(T).astype(np.float64))), T).astype(T.dtype)
    if 0 in factors:
        V += factors[0][:, None] * T
    for i in range(1, q + 1):
        wanted = {"factors": factors[i], "total": V} if i in factors else {}
        forward.step(T, out=spare if i < q else None, **wanted)
        T, spare = spare, T


def transposed(graph: Graph) -> Callable[[Array], Walk]:
    """Return a function from the diagonal of a matrix to products with it times Sᵀ; a symmetric S serves as it is."""
    if not (graph.symmetric or (graph.symmetric is None and is_symmetric(graph))):
        back = canonical(graph.to_scipy().T.tocsr(), graph.dtype)
        weights = None if back.weights is None else like(back.weights, graph.indptr)
        indptr, indices = like(back.indptr, graph.indptr), like(back.indices, graph.indptr)
        graph = Graph(indptr, indices, weights, back.n_columns, back.degrees, back.dtype)
    return lambda scale: Walk(graph, scale)


def is_symmetric(graph: Graph) -> bool:
    """Tell whether S is symmetric to rounding, from two random vectors: xᵀS y = yᵀS x for no other S, almost surely."""
    tags = uniforms(words(0, Stream.STARTS, range(graph.n), 2))
    tags /= np.sqrt(np.where(graph.degrees > 0, graph.degrees, 1.0))[:, None]  # no edge is too light to be seen
    tags = tags.astype(np.float32)
    there, back = asymmetry(graph.indptr, graph.indices, graph.weights, like(tags, graph.indptr))
    return abs(float(there) - float(back)) <= _ALIKE * float(there)
