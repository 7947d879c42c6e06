"""Embedding on a cluster: rows of the adjacency stay where they are, one exchange of rows for every power."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from .._core.arrays import Array, is_sparse, to_numpy
from ._graph import Graph, canonical
from ._model import Options, check_options
from ._powers import Walk, add_rows, scaling
from ._projection import check_ids
from ._result import FastRPResult, Fitted


@dataclass(frozen=True)
class DaskGraph:
    """Rows on the workers, and what every part must know of all of them."""

    blocks: Sequence[Any]  # delayed `Graph`s of whole rows
    edges: np.ndarray  # numbers of their first rows, and of all rows
    degrees: np.ndarray
    dtype: np.dtype
    indptr: np.ndarray  # empty: says that results are NumPy's
    symmetric: bool | None = None

    @property
    def n(self) -> int:
        return int(self.edges[-1])


@dataclass(frozen=True)
class DaskFitted(Fitted):
    """What was embedded on a cluster: the error is computed there, new nodes and edits need the graph in memory."""

    def on_host(self) -> Fitted:
        raise TypeError("transform and update need the adjacency in memory; it is a dask array")

    def walks(self) -> Any:
        """Return products with A and with Sᵀ."""
        graph: Any = self.graph
        forward = DaskWalk(graph, False, np.divide(1.0, graph.degrees, out=np.zeros(graph.n), where=graph.degrees > 0))
        return forward, lambda scale: DaskWalk(graph, True, scale)


@dataclass(frozen=True)
class DaskWalk:
    """Products with a few vectors, which are held by the client."""

    graph: DaskGraph
    transposed: bool
    inverse: np.ndarray  # what rows of products are multiplied by

    def empty(self, columns: int) -> np.ndarray:
        return np.empty((self.graph.n, columns), self.graph.dtype)

    def step(
        self, source: Array, *, out: Array | None = None, factors: Array | None = None, total: Array | None = None
    ) -> None:
        """Fill `out` with the product, and add factors · product to `total`."""
        from dask import compute, delayed

        edges, rows = self.graph.edges, delayed(source)
        if self.transposed:
            cut = [source[a:b] for a, b in pairwise(edges)]
            parts = compute(*(delayed(_back)(block, part) for block, part in zip(self.graph.blocks, cut, strict=True)))
            product = sum(parts[1:], parts[0])
        else:
            product = np.concatenate(compute(*(delayed(_forth)(block, rows) for block in self.graph.blocks)))
        product = product * self.inverse[:, None]
        if out is not None:
            out[...] = product
        if total is not None and factors is not None:
            total += factors[:, None] * product


def _forth(block: Graph, rows: Array) -> Array:
    return block.to_scipy() @ rows


def _back(block: Graph, rows: Array) -> Array:
    return block.to_scipy().T @ rows


def fastrp_on_dask(adjacency: Any, dtype: np.dtype, node_ids: Any, settings: dict[str, Any]) -> FastRPResult:
    """Return the embedding of a dask array of whole rows, itself a dask array in the same blocks."""
    from dask import array, compute, delayed, persist

    edges, parts = _parts(adjacency)
    n = int(edges[-1])
    blocks = persist(*(delayed(_rows)(part, n, dtype, int(first)) for part, first in zip(parts, edges, strict=False)))
    degrees = np.concatenate(compute(*(delayed(_degrees)(block) for block in blocks)))
    graph = DaskGraph(blocks, edges, degrees, dtype, np.empty(0, np.int64))
    ids = range(n) if node_ids is None else check_ids(node_ids, n=n)
    options = check_options(n, degrees, dtype, features=None, **settings)
    fitted = DaskFitted(graph, options, ids, None, None)  # type: ignore[arg-type]
    sums = persist(*_sums(fitted, blocks, edges))
    shapes = [(int(b - a), options.n_components) for a, b in pairwise(edges)]
    E = array.concatenate([array.from_delayed(s[0], shape, dtype=dtype) for s, shape in zip(sums, shapes, strict=True)])
    squares, zero = zip(*compute(*(s[1] for s in sums)), strict=True)
    norms = np.sqrt(np.concatenate(squares, axis=1)) if options.normalize_powers else None
    n_zero = int(np.count_nonzero(np.concatenate(zero) & (degrees > 0)))
    return FastRPResult(E, norms, options.density, options.key, n_zero, fitted)


def _parts(adjacency: Any) -> tuple[np.ndarray, list[Any]]:
    """Return the numbers of first rows and the delayed blocks."""
    if adjacency.ndim != 2 or any(size != size for axis in adjacency.chunks for size in axis):
        raise ValueError("adjacency must be a 2-d dask array of known chunk sizes")
    if adjacency.shape[0] != adjacency.shape[1]:
        raise ValueError(f"adjacency must be square, got shape {adjacency.shape}")
    if adjacency.shape[0] == 0:
        raise ValueError("adjacency is empty")
    if adjacency.numblocks[1] != 1:
        raise ValueError("adjacency must have blocks of whole rows; rechunk it by adjacency.rechunk({1: -1})")
    sizes = adjacency.chunks[0]
    blocks = [block for block, size in zip(adjacency.to_delayed().ravel(), sizes, strict=True) if size]
    return np.concatenate([[0], np.cumsum([size for size in sizes if size])]), blocks


def _rows(block: Any, n: int, dtype: np.dtype, first: int) -> Graph:
    from scipy import sparse

    if block.shape[1] != n:
        raise ValueError(f"adjacency has a block of {block.shape[1]} columns from row {first} on, expected {n}")
    matrix = block if is_sparse(block) else sparse.csr_array(to_numpy(block))
    return canonical(matrix, dtype, name=f"adjacency from row {first} on")


def _degrees(block: Graph) -> np.ndarray:
    return block.degrees


def _sums(fitted: DaskFitted, blocks: Sequence[Any], edges: np.ndarray) -> list[Any]:
    """Return, for each block, the delayed embedding and (squares, which rows are zero)."""
    from dask import delayed

    shared = delayed(fitted.graph.degrees), delayed(fitted.ids)
    options, total = fitted.options, float(fitted.graph.degrees.sum())
    needs = [delayed(_needed)(block, edges) for block in blocks]
    first = partial(_first_power, options=options, total=total)
    powers: list[list[Any]] = [[] for _ in blocks]  # of each block
    for i in range(1, options.q + 1):
        for p, (block, need) in enumerate(zip(blocks, needs, strict=True)):
            if i == 1:
                power = delayed(first)(block, *shared)
            else:
                taken = [delayed(_take)(powers[owner][i - 2], need, owner) for owner in range(len(blocks))]
                power = delayed(_next_power)(block, taken)
            powers[p].append(power)
    add_up = partial(_add_up, options=options, total=total)
    used = [i for i in options.used if i > 0]
    return [
        delayed(add_up, nout=2)([powers[p][i - 1] for i in used], *shared, int(edges[p]), int(edges[p + 1]))
        for p in range(len(blocks))
    ]


def _needed(block: Graph, edges: np.ndarray) -> list[np.ndarray]:
    """Return, for each owner, which of its rows a block points to."""
    columns = block.neighbours()
    cuts = np.searchsorted(columns, edges)
    return [columns[a:b] - edge for a, b, edge in zip(cuts[:-1], cuts[1:], edges[:-1], strict=True)]


def _take(panel: Array, need: list[np.ndarray], owner: int) -> Array:
    return panel[need[owner]]


def _first_power(block: Graph, degrees: np.ndarray, ids: Any, *, options: Options, total: float) -> Array:
    """Draw the rows of N_0 that are needed, and do the first step: no exchange."""
    columns = block.neighbours()
    start = options.starts(degrees, ids, None, total)[0]
    source = start.fill(columns, np.empty((columns.size, start.width), block.dtype))
    return _next_power(block, [source])


def _next_power(block: Graph, taken: list[Array]) -> Array:
    """Do a step from the rows that the block points to, in ascending order of owners: the order of sums is as ever."""
    walk = Walk(block.renumbered(block.neighbours()))
    source = np.concatenate(taken)
    out = walk.empty(source.shape[1])
    walk.step(source, out=out)
    return out


def _add_up(
    powers: list[Array], degrees: np.ndarray, ids: Any, first: int, last: int, *, options: Options, total: float
) -> tuple[Array, tuple[np.ndarray, np.ndarray]]:
    """Return rows of the embedding, the squares of the powers that count, and which rows are zero."""
    start = options.starts(degrees, ids, None, total)[0]
    if 0 in options.used:
        panel = np.empty((last - first, start.width), options.dtype)
        powers = [start.fill(slice(first, last), panel), *powers]
    E, amounts = np.empty((last - first, start.width), options.dtype), options.amounts(start)
    squares = np.zeros((len(amounts), last - first))
    for position, (part, amount) in enumerate(zip(powers, amounts.values(), strict=True)):
        add_rows(part, E, squares[position], fresh=position == 0, **scaling(options, amount, last - first))
    return E, (squares, ~np.any(E, axis=1))
