"""The embedding kernels: entries of the random projection, and one power of the transition matrix.

The order of every sum is part of the definition, so that the result is the same bit for bit for any number of
threads, chunk, column block, part of the rows, and on a device: neighbours in the order of the CSR row, in runs; runs
in float64; squares in groups of 64 columns, of eight lanes each. Nothing may be fused or reassociated.
"""

import numpy as np

from .._core.arrays import Array, device, namespace
from .._core.kernels import kernel

RUN = 256  # neighbours that are added up in the precision of the data, before float64 takes over
GROUP, LANES = 64, 8  # columns whose squares are added together, and partial sums among them


# --- entries of the projection ------------------------------------------------------------------------


def _word_cases():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for rows, columns in ((1, 1), (5, 7), (300, 65), (0, 3)):
            words = rng.integers(0, 2**32, (rows, columns), dtype=np.uint32)
            scale, out = rng.random(rows) + 0.5, np.zeros((rows, columns), dtype)
            yield words, scale, 2**31 // 3, 0.3, None, out
            yield words, scale, 0, 0.0, np.arange(2.0**15) / 7, out


@kernel(cases=_word_cases, versions=("numba", "cupy"))
def entries(words: Array, scale: Array, threshold: int, size: float, table: Array | None, out: Array) -> Array:
    """Return `out`, overwritten, with scale[i] · entry, formed in float64 and rounded once.

    An entry is ±size where word >> 1 is below the threshold and +0.0 elsewhere or, if there is a `table` of 2**15
    numbers, ±table[word >> 17]; the sign from bit 0.
    """
    xp = namespace(words)
    signs = 1.0 - 2.0 * xp.astype(words & 1, xp.float64)
    if table is None:
        values = xp.where((words >> 1) < threshold, size * signs, xp.zeros_like(signs))
    else:
        places = xp.astype(xp.reshape(words >> 17, (-1,)), xp.int64)
        values = xp.reshape(xp.take(table, places, axis=0), words.shape) * signs
    out[...] = xp.astype(values * scale[:, None], out.dtype)
    return out


def _nonzero_cases():
    rng = np.random.default_rng(1)
    for rows, columns in ((1, 1), (7, 5), (400, 70), (0, 3)):
        words = rng.integers(0, 2**32, (rows, columns), dtype=np.uint32)
        for threshold in (2**31 // 50, 2**31):
            yield words, threshold


@kernel(cases=_nonzero_cases, versions=("numba",))
def nonzeros(words: Array, threshold: int) -> tuple[Array, Array]:
    """Return the number of non-zero sparse entries of each row, and for each of them 2 · column + sign bit."""
    xp = namespace(words)
    there = (words >> 1) < threshold
    counts = xp.sum(xp.astype(there, xp.int64), axis=1)
    rows, columns = xp.nonzero(there)
    flat = xp.reshape(words, (-1,))
    bits = xp.astype(xp.take(flat, rows * words.shape[1] + columns, axis=0) & 1, xp.int64) if flat.shape[0] else columns
    return counts, xp.astype(2 * columns + bits, xp.int64)


# --- one power ----------------------------------------------------------------------------------------


def _random_rows(rng, rows, columns, degree, index, dtype):
    """Return a random CSR matrix with empty rows, short rows and one of 3 · RUN + 5 neighbours or so."""
    counts = rng.integers(0, degree + 1, rows)
    counts[rows // 2] = min(columns, 3 * RUN + 5)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    indices = np.concatenate([np.sort(rng.choice(columns, c, replace=False)) for c in counts]).astype(index)
    inverse = (1 / (1.0 + counts)).astype(dtype)
    return indptr, indices, (rng.random(indices.size) + 0.1).astype(dtype), inverse


def _power_cases():
    rng = np.random.default_rng(2)
    for dtype in (np.float32, np.float64):
        for n, width in ((1, 1), (30, 211), (290, 9)):
            source = rng.standard_normal((n, width)).astype(dtype)
            indptr, indices, weights, inverse = _random_rows(rng, n, n, 20, np.int32, dtype)
            total, squares, factors = np.ones((n, width), dtype), rng.random(n), rng.random(n).astype(dtype)
            graph = indptr, indices, weights, inverse, RUN
            yield source, *graph, None, None, None, False, source * 0, None, squares
            yield source, *graph, 1.5, None, None, False, source * 0, total, squares
            if n < 100:
                yield source, *graph, 0.5, None, factors, True, None, total, squares
                graph = indptr, indices, None, inverse, RUN
                yield source, *graph, None, factors, None, False, None, total, None
        for rows in (50, 300):  # eight columns, without and with runs
            indptr, indices, weights, inverse = _random_rows(rng, 50, rows, 20, np.int32, dtype)
            source = rng.standard_normal((rows, 8)).astype(dtype)
            total, factors = np.ones((50, 8), dtype), rng.random(50).astype(dtype)
            for given in (weights, None):
                graph = indptr, indices, given, inverse, RUN
                yield source, *graph, None, None, None, False, total * 0, None, None
                yield source, *graph, None, factors, None, False, None, total, None
        nothing, empty = np.zeros((0, 70), dtype), np.zeros(4, np.int64)  # rows that point nowhere, to no row
        graph = empty, np.zeros(0, np.int32), None, np.zeros(3, dtype), RUN
        yield nothing, *graph, None, None, None, False, np.ones((3, 70), dtype), None, None
        source = rng.standard_normal((30, 9)).astype(dtype)
        wide = np.zeros((4, 12), dtype)  # a part of the rows, without runs, wide indices, columns of a wider array
        indptr, indices, weights, inverse = _random_rows(rng, 4, 9, 5, np.int64, dtype)
        yield (
            source[:9],
            indptr,
            indices,
            weights,
            inverse,
            2**62,
            2.0,
            None,
            None,
            True,
            wide[:, :9],
            None,
            np.zeros(4),
        )


@kernel(cases=_power_cases, versions=("numba", "cupy"))
def propagate(
    source: Array,
    indptr: Array,
    indices: Array,
    weights: Array | None,
    inverse: Array,
    run: int,
    alpha: float | None,
    factors: Array | None,
    lead: Array | None,
    fresh: bool,
    out: Array | None,
    out_total: Array | None,
    out_squares: Array | None,
) -> tuple[Array | None, Array | None, Array | None]:
    """Multiply rows of the transition matrix by a panel and, in the same pass, add the rows up, normalised.

    Row u gives acc = inverse[u] · Σ_j weight_uj · source[j], and s = Σ_c acc_c².

    Parameters
    ----------
    source : array, shape (n, d)
        The power before.
    indptr, indices, weights : arrays
        m rows in CSR; `weights` is None if all are 1.
    inverse : array, shape (m,)
        What sums are multiplied by.
    run : int
        Neighbours to a run.
    alpha : float, optional
        Amount of the normalised rows, whose factor is alpha/√s; where `factors` (m,) are given they are taken
        instead.
    lead : array, shape (m,), optional
        Amounts of the rows of `source`, which are added before.
    fresh : bool
        Start from zero rather than from what is in `out_total`.
    out : array, shape (m, d), optional
        Takes acc.
    out_total : array, shape (m, d), optional
        Gets (lead · source +) factor · acc added.
    out_squares : array of float64, shape (m,), optional
        Gets s added.

    Returns
    -------
    out, out_total, out_squares : arrays
        Those given, overwritten.
    """
    acc = _sums(source, indptr, indices, weights, run) * inverse[:, None]
    return finish(acc, source, alpha, factors, lead, fresh, out, out_total, out_squares)


def _sums(source: Array, indptr: Array, indices: Array, weights: Array | None, run: int) -> Array:
    """Return the sums over neighbours: the turn t of all rows at once."""
    xp = namespace(source)
    where = device(source)
    counts = indptr[1:] - indptr[:-1]
    shape = (counts.shape[0], source.shape[1])
    acc = xp.zeros(shape, dtype=source.dtype, device=where)
    total = xp.zeros(shape, dtype=xp.float64, device=where)
    last = max(int(indices.shape[0]) - 1, 0)
    for turn in range(int(xp.max(counts)) if shape[0] else 0):
        if turn % run == 0 and turn:
            total, acc = total + xp.astype(acc, xp.float64), xp.zeros_like(acc)
        edge = xp.clip(indptr[:-1] + turn, 0, last)
        taken = xp.take(source, xp.take(indices, edge, axis=0), axis=0)
        if weights is not None:
            taken = xp.take(weights, edge, axis=0)[:, None] * taken
        acc = xp.where((turn < counts)[:, None], acc + taken, acc)
    return xp.astype(total + xp.astype(acc, xp.float64), source.dtype)


def squares_of(acc: Array) -> Array:
    """Return the sums of squares of rows: eight lanes to a group of 64 columns, all added left to right."""
    xp = namespace(acc)
    rows, width = acc.shape
    groups = -(-width // GROUP)
    padded = xp.zeros((rows, groups * GROUP), dtype=xp.float64, device=device(acc))
    padded[:, :width] = xp.astype(acc, xp.float64)
    parts = xp.reshape(padded * padded, (rows, groups, GROUP // LANES, LANES))
    lanes = parts[:, :, 0, :]
    for k in range(1, GROUP // LANES):
        lanes = lanes + parts[:, :, k, :]
    sums = lanes[:, :, 0]
    for lane in range(1, LANES):
        sums = sums + lanes[:, :, lane]
    total = xp.zeros(rows, dtype=xp.float64, device=device(acc))
    for group in range(groups):
        total = total + sums[:, group]
    return total


def finish(
    acc: Array,
    source: Array | None,
    alpha: float | None,
    factors: Array | None,
    lead: Array | None,
    fresh: bool,
    out: Array | None,
    out_total: Array | None,
    out_squares: Array | None,
) -> tuple[Array | None, Array | None, Array | None]:
    """Store and add up finished rows, for references."""
    xp = namespace(acc)
    if out is not None:
        out[...] = acc
    s = squares_of(acc) if out_squares is not None or (out_total is not None and factors is None) else None
    if out_total is not None:
        if factors is None:
            factors = row_factors(0.0 if alpha is None else alpha, s, acc.dtype)
        base = xp.zeros_like(acc) if fresh else out_total
        if lead is not None:
            base = base + lead[:, None] * source
        out_total[...] = base + factors[:, None] * acc
    if out_squares is not None:
        out_squares[...] = out_squares + s
    return out, out_total, out_squares


def row_factors(alpha: float, squares: Array, dtype) -> Array:
    """Return alpha/√s, formed in float64 and rounded once; 0 where s = 0."""
    xp = namespace(squares)
    some = squares > 0
    return xp.astype(xp.where(some, alpha / xp.sqrt(xp.where(some, squares, xp.ones_like(squares))), 0.0), dtype)


# --- the first power, of a sparse projection ----------------------------------------------------------


def _first_cases():
    rng = np.random.default_rng(3)
    for dtype in (np.float32, np.float64):
        for n, width in ((1, 1), (50, 70), (290, 9)):
            indptr, indices, weights, inverse = _random_rows(rng, n, n, 20, np.int32, dtype)
            counts = np.minimum(rng.integers(0, 3, n) * rng.integers(0, 2, n), width)
            starts = np.concatenate([[0], np.cumsum(counts)])
            parts = [2 * np.sort(rng.choice(width, c, replace=False)) + rng.integers(0, 2, c) for c in counts]
            packed = np.concatenate(parts).astype(np.int64)
            sizes, total = (rng.random(n) + 0.1).astype(dtype), np.ones((n, width), dtype)
            sparse = sizes, starts, packed, indptr, indices
            yield *sparse, weights, inverse, RUN, 0.7, None, True, width, None, total, np.zeros(n)
            yield *sparse, None, inverse, RUN, None, sizes, False, width, total * 0, total, None


@kernel(cases=_first_cases, versions=("numba",))
def propagate_sparse(
    sizes: Array,
    starts: np.ndarray,
    packed: np.ndarray,
    indptr: Array,
    indices: Array,
    weights: Array | None,
    inverse: Array,
    run: int,
    alpha: float | None,
    factors: Array | None,
    fresh: bool,
    width: int,
    out: Array | None,
    out_total: Array | None,
    out_squares: Array | None,
) -> tuple[Array | None, Array | None, Array | None]:
    """As `propagate` of a sparse panel, bit for bit; row j has ±sizes[j] where `packed` says (see `nonzeros`)."""
    xp = namespace(sizes)
    n = sizes.shape[0]
    rows = np.repeat(np.arange(n), np.diff(starts))
    panel = xp.zeros((n, width), dtype=sizes.dtype, device=device(sizes))
    for row, place in zip(rows, packed, strict=True):
        panel[int(row), int(place) // 2] = -sizes[int(row)] if int(place) % 2 else sizes[int(row)]
    acc = _sums(panel, indptr, indices, weights, run) * inverse[:, None]
    return finish(acc, None, alpha, factors, None, fresh, out, out_total, out_squares)


# --- is a graph symmetric? ----------------------------------------------------------------------------


def _asymmetry_cases():
    rng = np.random.default_rng(4)
    for dtype in (np.float32, np.float64):
        for n, index in ((1, np.int32), (30, np.int64), (300, np.int32)):
            indptr, indices, weights, _ = _random_rows(rng, n, n, 20, index, dtype)
            tags = (rng.random((n, 2)) + 0.1).astype(np.float32)
            yield indptr, indices, weights, tags
            yield indptr, indices, None, tags


@kernel(cases=_asymmetry_cases, versions=("numba",))
def asymmetry(indptr: Array, indices: Array, weights: Array | None, tags: Array) -> tuple[Array, Array]:
    """Return xᵀS y and yᵀS x in float64, where x and y are the columns of `tags` (float32): alike if S is symmetric."""
    xp = namespace(indptr)
    tags = xp.astype(tags, xp.float64)
    rows = xp.searchsorted(indptr, xp.arange(indices.shape[0], device=device(indptr)), side="right") - 1
    here, there = xp.take(tags, rows, axis=0), xp.take(tags, indices, axis=0)
    if weights is not None:
        there = xp.astype(weights, xp.float64)[:, None] * there
    return xp.sum(here[:, 0] * there[:, 1]), xp.sum(here[:, 1] * there[:, 0])
