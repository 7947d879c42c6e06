"""The powers of the transition matrix, one after the other, and their weighted sum."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from array_api_compat import is_cupy_array, is_numpy_array

from .._core.arrays import Array, like, namespace
from .._core.progress import progress
from ._graph import Graph
from ._kernels import GROUP, RUN, propagate, propagate_sparse, row_factors
from ._model import Options, Start
from ._projection import pieces

_LINE = 64  # bytes of a cache line

Squares = dict[int, Array]  # of a power that counts: the sums of squares of its rows


def aligned(rows: int, columns: int, dtype: np.dtype) -> np.ndarray:
    """Return an empty array that begins where a cache line does: rows of whole lines are read from no line more.

    NumPy's own large arrays begin 16 bytes behind; reading them at random takes a tenth longer.
    """
    size = rows * columns * dtype.itemsize
    memory = np.empty(size + _LINE, np.uint8)
    skip = -memory.ctypes.data % _LINE
    return memory[skip : skip + size].view(dtype).reshape(rows, columns)


class Walk:
    """One step of the random walk: rows of D⁻¹S times a panel; or of another diagonal matrix than D⁻¹."""

    def __init__(self, graph: Graph, scale: Array | None = None):
        self.graph, self.inverse = graph, graph.inverse if scale is None else scale

    def empty(self, columns: int, rows: int | None = None) -> Array:
        xp, rows = namespace(self.graph.indptr), self.graph.n if rows is None else rows
        if is_numpy_array(self.graph.indptr):
            return aligned(rows, columns, self.graph.dtype)
        return xp.empty((rows, columns), dtype=self.graph.dtype)

    def squares(self) -> Array:
        return namespace(self.graph.indptr).zeros(self.graph.n, dtype="float64")

    def step(
        self,
        source: Array,
        *,
        alpha: float | None = None,
        factors: Array | None = None,
        lead: Array | None = None,
        fresh: bool = False,
        out: Array | None = None,
        total: Array | None = None,
        squares: Array | None = None,
    ) -> None:
        """Do what `propagate` does."""
        graph = self.graph
        propagate(source, graph.indptr, graph.indices, graph.weights, self.inverse, RUN, alpha, factors, lead, fresh,
                  out, total, squares)  # fmt: skip

    def first_step(
        self,
        start: Start,
        first: int,
        count: int,
        *,
        alpha: float | None,
        factors: Array | None,
        fresh: bool,
        out: Array | None,
        total: Array | None,
        squares: Array | None,
    ) -> None:
        """Do the first step from the non-zeros of a sparse projection, with the bits of the dense one."""
        graph = self.graph
        sizes, starts, packed = start.nonzeros(first, count, graph.dtype)  # type: ignore[union-attr]
        propagate_sparse(sizes, starts, packed, graph.indptr, graph.indices, graph.weights, self.inverse, RUN, alpha,
                         factors, fresh, count, out, total, squares)  # fmt: skip

    def from_nonzeros(self, start: Start) -> bool:
        return start.is_sparse and not is_cupy_array(self.graph.indptr)


# --- one block of columns -----------------------------------------------------------------------------


@dataclass
class Block:
    """Columns first … first + count - 1 of a group, and what is done with them.

    `total` gets the weighted sum: None lets a panel that is free at the end take it. Rows are normalised by their own
    squares as they come (`fused`), or multiplied by `factors`; with neither, squares alone are added up.
    """

    walk: Walk
    start: Start
    first: int
    count: int
    amounts: dict[int, float]
    q: int
    squares: Squares | None = None
    factors: dict[int, Array] | None = None
    total: Array | None = None
    fused: bool = False
    keep: bool = False
    started: bool = False
    kept: list[Array] = field(default_factory=list)
    free: list[Array] = field(default_factory=list)

    def run(self) -> Array | None:
        """Return the weighted sum."""
        source = None
        dense = self.q > 0 and not self.walk.from_nonzeros(self.start)
        if dense:
            source = self.start.fill(slice(None), self._panel(), self.first)
        if 0 in self.amounts:
            self._add_start(source)
        for i in range(1, self.q + 1):
            out = self._panel() if i < self.q else None
            self._step(i, source, out)
            if source is not None and not (self.keep and i > 1):
                self.free.append(source)
            if self.keep and out is not None:
                self.kept.append(out)
            source = out
        return self.total

    def _panel(self) -> Array:
        return self.free.pop() if self.free else self.walk.empty(self.count)

    def _wants_sums(self) -> bool:
        return self.fused or self.factors is not None

    def _step(self, i: int, source: Array | None, out: Array | None) -> None:
        """Do the step to power i. The rows of power q - 1 are added in the last step, which reads them anyway."""
        wanted, q = self.amounts, self.q
        deferred = i == q - 1 and i in wanted
        adds = i in wanted and not deferred and self._wants_sums()
        squares = self.squares[i] if self.squares is not None and i in wanted else None
        how: dict[str, Any] = {"alpha": None, "factors": None, "fresh": False, "total": None}
        if adds:
            how = {"total": self._begin(), "fresh": not self.started, **self._scaling(i)}
        if i == q and q - 1 in wanted and q > 1 and self._wants_sums():
            how["lead"] = self._row_factors(q - 1)
        if source is None:
            self.walk.first_step(self.start, self.first, self.count, out=out, squares=squares, **how)
        else:
            self.walk.step(source, out=out, squares=squares, **how)
        self.started = self.started or adds

    def _begin(self) -> Array:
        if self.total is None:
            self.total = self._panel()
        return self.total

    def _scaling(self, i: int) -> dict[str, Any]:
        if self.factors is not None:
            return {"alpha": None, "factors": self.factors[i]}
        return {"alpha": self.amounts[i], "factors": None}

    def _row_factors(self, i: int) -> Array:
        if self.factors is not None:
            return self.factors[i]
        assert self.squares is not None
        return row_factors(self.amounts[i], self.squares[i], self.walk.graph.dtype)

    def _add_start(self, panel: Array | None) -> None:
        """Add the rows of N_0, drawn in small pieces where there is no panel of it."""
        squares = self.squares[0] if self.squares is not None else None
        total = self._begin() if self._wants_sums() else None
        for start, stop in pieces(self.walk.graph.n, self.count):
            rows = slice(start, stop)
            if panel is None:
                part = self.start.fill(rows, self.walk.empty(self.count, stop - start), self.first)
            else:
                part = panel[rows]
            how = self._scaling(0)
            if how["factors"] is not None:
                how["factors"] = how["factors"][rows]
            add_rows(part, None if total is None else total[rows], None if squares is None else squares[rows],
                     fresh=not self.started, **how)  # fmt: skip
        self.started = self.started or total is not None


def add_rows(
    part: Array, total: Array | None, squares: Array | None, *, alpha: float | None, factors: Array | None, fresh: bool
) -> None:
    """Add rows of a panel to `total`: the step of a walk that stays where it is, so that it rounds as the others."""
    rows = np.arange(part.shape[0] + 1)
    indptr, indices = like(rows, part), like(rows[:-1].astype(np.int32), part)
    inverse = like(np.ones(part.shape[0], part.dtype), part)
    propagate(part, indptr, indices, None, inverse, RUN, alpha, factors, None, fresh, None, total, squares)


def scaling(options: Options, amount: float, rows: int) -> dict[str, Any]:
    """Return what `Walk.step` and `add_rows` multiply a few rows by."""
    if options.normalize_powers:
        return {"alpha": amount, "factors": None}
    return {"alpha": None, "factors": np.full(rows, amount, options.dtype)}


# --- all columns --------------------------------------------------------------------------------------


@dataclass
class Sum:
    """The embedding, sums of squares of a group's powers, and N_1 … N_{q-1} of the groups where they are kept."""

    embedding: Array
    squares: list[Squares]
    kept: list[list[Array]]


def embed(
    walk: Walk,
    options: Options,
    starts: list[Start],
    *,
    out: Array | None = None,
    block: int | None = None,
    keep: bool = False,
    verbose: bool = False,
) -> Sum:
    """Return the weighted sum of the powers; columns in blocks of `block`, None for all of a group together."""
    whole = len(starts) == 1 and (block is None or block >= starts[0].width)
    if out is None and not whole:
        out = walk.empty(options.n_components)
    result = Sum(out, [], [])
    for start in progress(starts, "columns", verbose=verbose):
        target = None if out is None else out[:, start.offset : start.offset + start.width]
        amounts = options.amounts(start)
        squares = {i: walk.squares() for i in amounts} if options.normalize_powers else None
        if block is None or block >= start.width:
            job = Block(walk, start, 0, start.width, amounts, options.q, squares, total=target, keep=keep)
            job.fused = options.normalize_powers
            job.factors = None if options.normalize_powers else _constant(walk, amounts)
            total = job.run()
            result.embedding = total if out is None else out
            result.kept.append(job.kept)
        else:
            assert target is not None
            _in_blocks(walk, options, start, amounts, squares, target, block)
        result.squares.append(squares or {})
    return result


def _in_blocks(
    walk: Walk, options: Options, start: Start, amounts: dict, squares: Squares | None, target: Array, block: int
) -> None:
    """Add up squares in a first pass over the blocks, rows in a second; squares are of all columns of a row."""
    if squares is not None:
        for first, count in _columns(start.width, block):
            Block(walk, start, first, count, amounts, options.q, squares).run()
        factors = {i: row_factors(amounts[i], squares[i], walk.graph.dtype) for i in amounts}
    else:
        factors = _constant(walk, amounts)
    for first, count in _columns(start.width, block):
        total = target[:, first : first + count]
        Block(walk, start, first, count, amounts, options.q, factors=factors, total=total).run()


def _columns(width: int, block: int) -> Iterator[tuple[int, int]]:
    return ((first, min(block, width - first)) for first in range(0, width, block))


def _constant(walk: Walk, amounts: dict[int, float]) -> dict[int, Array]:
    xp, n = namespace(walk.graph.indptr), walk.graph.n
    return {i: xp.full(n, amount, dtype=walk.graph.dtype) for i, amount in amounts.items()}


def block_width(n: int, options: Options, max_memory: int | None) -> int | None:
    """Return how many columns are done together so that the working arrays fit `max_memory` bytes; None for all."""
    if max_memory is None:
        return None
    size, n_used = options.dtype.itemsize, len(options.used)
    fixed = n * n_used * (8 if options.normalize_powers else 0) + n * n_used * size
    widest = max(options.widths)
    if fixed + 2 * n * size * widest <= max_memory:
        return None
    width = int((max_memory - fixed) // (2 * n * size)) // GROUP * GROUP
    if width < GROUP:
        least = fixed + 2 * n * size * min(GROUP, widest)
        raise ValueError(f"max_memory must be at least {least} bytes here, got {max_memory}")
    return width
