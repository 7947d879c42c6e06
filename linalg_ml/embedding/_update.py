"""Edited edges: the new graph, and the embedding recomputed where something changed."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.arrays import Array, like, to_numpy
from ._fastrp import count_zero_rows, fit, warned
from ._graph import Graph, check_degrees, check_nodes, check_weights, row_sums
from ._model import FeatureStart, Start
from ._powers import Walk, add_rows, scaling

if TYPE_CHECKING:
    from ._result import FastRPResult, Fitted

_SHARE = 2  # rows with more than 1/_SHARE of all edges: do the whole power


def update(result: "FastRPResult", src: Any, dst: Any, weight: Any, directed: bool) -> "FastRPResult":
    """Return the result after the edits; see `FastRPResult.update`."""
    fitted = result._fitted.on_host()
    graph, touched = edited(fitted.graph, src, dst, weight, directed)
    if fitted.powers is None:
        anew = fit(graph, fitted.options, fitted.ids, fitted.features)
        return warned(replace(anew, embedding=like(anew.embedding, result.embedding)), 3)
    E = to_numpy(result.embedding).copy()
    norms = None if result.row_norms is None else result.row_norms.copy()
    powers = [[N.copy() for N in group] for group in fitted.powers]
    now = replace(fitted, graph=graph, powers=powers)
    for group, (old, new) in enumerate(zip(fitted.starts(), now.starts(), strict=True)):
        change = Change(now, new, powers[group], touched)
        rows = change.spread(old)
        target = E[:, new.offset : new.offset + new.width]
        squares = change.add_up(rows, target)
        if norms is not None:
            of_group = norms if norms.ndim == 2 else norms[..., group]
            for position, values in enumerate(squares):
                of_group[position, rows] = np.sqrt(values)
    n_zero = count_zero_rows(E, norms, graph.degrees)
    E = like(E, result.embedding)
    return warned(replace(result, embedding=E, row_norms=norms, n_zero_rows=n_zero, _fitted=now), 3)


# --- the graph ----------------------------------------------------------------------------------------


def edited(graph: Graph, src: Any, dst: Any, weight: Any, directed: bool) -> tuple[Graph, np.ndarray]:
    """Return the graph after the edits, and the nodes whose rows changed."""
    src, dst = check_nodes(src, "src", graph.n), check_nodes(dst, "dst", graph.n)
    if src.size != dst.size:
        raise ValueError(f"src and dst must have one length, got {src.size} and {dst.size}")
    values = check_weights(1.0 if weight is None else weight, "weight", src.size)
    with np.errstate(over="ignore"):
        values = values.astype(graph.dtype)
    if not np.isfinite(values).all():
        raise ValueError(f"weight must be in the range of {graph.dtype}")
    if not directed:  # both directions of an edge beside each other, so that the last entry counts for both
        src, dst = np.stack([src, dst], axis=1).ravel(), np.stack([dst, src], axis=1).ravel()
        values = np.repeat(values, 2)
    rows = np.unique(src)
    keys = np.searchsorted(rows, src) * graph.n_columns + dst
    last = keys.size - 1 - np.unique(keys[::-1], return_index=True)[1]
    part, changed = _edited_rows(graph.take(rows), keys[last], values[last])
    symmetric = True if graph.symmetric and not directed else None
    return replace(_spliced(graph, rows, part), symmetric=symmetric), rows[changed]


def _edited_rows(part: Graph, keys: np.ndarray, values: np.ndarray) -> tuple[Graph, np.ndarray]:
    """Return rows in which the entries at `keys` (row · n + column, sorted) are `values`, and which rows changed."""
    n, m = part.n_columns, part.n
    old_keys = np.repeat(np.arange(m), np.diff(part.indptr)) * n + part.indices
    old_values = np.ones(part.nnz, part.dtype) if part.weights is None else part.weights
    places = np.searchsorted(old_keys, keys)
    there = np.zeros(keys.size, bool)
    inside = places < old_keys.size
    there[inside] = old_keys[places[inside]] == keys[inside]
    before = np.zeros(keys.size, part.dtype)
    before[there] = old_values[places[there]]
    stays = np.ones(old_keys.size, bool)
    stays[places[there]] = False
    all_keys = np.concatenate([old_keys[stays], keys[values > 0]])
    all_values = np.concatenate([old_values[stays], values[values > 0]])
    order = np.argsort(all_keys, kind="stable")
    all_keys, all_values = all_keys[order], all_values[order]
    indptr = np.searchsorted(all_keys, np.arange(m + 1) * n).astype(np.int64)
    indices = (all_keys % n).astype(part.indices.dtype)
    degrees = check_degrees(row_sums(indptr, all_values), part.dtype)
    new = Graph(indptr, indices, all_values, n, degrees, part.dtype)
    return new, np.unique(keys[before != values] // n)


def _spliced(graph: Graph, rows: np.ndarray, part: Graph) -> Graph:
    """Return the graph with these rows replaced."""
    replaced = np.zeros(graph.n, bool)
    replaced[rows] = True
    counts = np.diff(graph.indptr)
    old = np.repeat(~replaced, counts)
    counts[rows] = np.diff(part.indptr)
    new = np.repeat(~replaced, counts)
    indices = np.empty(new.size, graph.indices.dtype)
    indices[new], indices[~new] = graph.indices[old], part.indices
    weights = None
    if graph.weights is not None or np.any(part.weights != 1):
        weights = np.empty(new.size, graph.dtype)
        weights[new] = 1 if graph.weights is None else graph.weights[old]
        weights[~new] = part.weights
    degrees = graph.degrees.copy()
    degrees[rows] = part.degrees
    return Graph(np.concatenate([[0], np.cumsum(counts)]), indices, weights, graph.n_columns, degrees, graph.dtype)


# --- the embedding ------------------------------------------------------------------------------------


@dataclass
class Change:
    """The powers of a group of columns, after the rows of `touched` nodes changed."""

    fitted: "Fitted"
    start: Start
    powers: list[Array]  # N_1 … N_{q-1}, made right in place
    touched: np.ndarray

    def spread(self, old: Start) -> np.ndarray:
        """Bring the powers up to date; return the rows of the embedding that change."""
        options, graph = self.fitted.options, self.fitted.graph
        changed = self._first_changed(old)
        rows = [changed] if 0 in options.used else []
        for i in range(1, options.q + 1):
            wanted = np.union1d(self.touched, _pointing_to(graph, changed))
            changed = self._redone(i, wanted) if i < options.q else wanted
            if i in options.used:
                rows.append(changed)
        if not options.normalize_powers and options.amounts(self.start) != options.amounts(old):
            return np.arange(graph.n)  # the sum of all weights changed
        return np.unique(np.concatenate(rows)).astype(np.int64)

    def _first_changed(self, old: Start) -> np.ndarray:
        """Return the nodes whose rows of N_0 are not the same bits."""
        if isinstance(self.start, FeatureStart) or self.fitted.options.normalization == 0:
            return self.touched[:0]
        before, after = (start.fill(self.touched, self._empty(self.touched.size)) for start in (old, self.start))
        return self.touched[_differ(before, after)]

    def _empty(self, rows: int) -> Array:
        return np.empty((rows, self.start.width), self.fitted.graph.dtype)

    def _redone(self, i: int, rows: np.ndarray) -> np.ndarray:
        """Recompute these rows of power i (all of them, if they have most of the edges); return those that changed."""
        graph = self.fitted.graph
        if np.diff(graph.indptr)[rows].sum() * _SHARE > graph.nnz:
            rows = np.arange(graph.n)
        walk, source = self._walk(i, rows)
        new = walk.empty(self.start.width)
        walk.step(source, out=new)
        changed = _differ(self.powers[i - 1][rows], new)
        self.powers[i - 1][rows] = new
        return rows[changed]

    def _walk(self, i: int, rows: np.ndarray) -> tuple[Walk, Array]:
        """Return the step to power i of these rows, and the panel it starts from."""
        graph = self.fitted.graph
        part = graph if rows.size == graph.n else graph.take(rows)
        if i > 1:
            return Walk(part), self.powers[i - 2]
        columns = part.neighbours()
        return Walk(part.renumbered(columns)), self.start.fill(columns, self._empty(columns.size))

    def add_up(self, rows: np.ndarray, E: Array) -> list[np.ndarray]:
        """Write these rows of the embedding anew; return the sums of squares of the powers that count."""
        options, n = self.fitted.options, rows.size
        amounts = options.amounts(self.start)
        squares = [np.zeros(n) for _ in amounts]
        total, fresh = self._empty(n), True
        for sums, (i, amount) in zip(squares, amounts.items(), strict=True):
            how = {"fresh": fresh, **scaling(options, amount, n)}
            if i == options.q and i > 0:
                walk, source = self._walk(i, rows)
                walk.step(source, total=total, squares=sums, **how)
            else:
                part = self.start.fill(rows, self._empty(n)) if i == 0 else self.powers[i - 1][rows]
                add_rows(part, total, sums, **how)
            fresh = False
        E[rows] = total
        return squares


def _pointing_to(graph: Graph, nodes: np.ndarray) -> np.ndarray:
    """Return the nodes with an edge to one of `nodes`."""
    if nodes.size == 0:
        return nodes
    wanted = np.zeros(graph.n_columns, bool)
    wanted[nodes] = True
    edges = np.flatnonzero(wanted[graph.indices])
    return np.unique(np.searchsorted(graph.indptr, edges, side="right") - 1)


def _differ(before: Array, after: Array) -> np.ndarray:
    """Return which rows are not the same bits."""
    kind = np.uint32 if before.dtype == np.float32 else np.uint64
    return np.any(np.ascontiguousarray(before).view(kind) != np.ascontiguousarray(after).view(kind), axis=1)
