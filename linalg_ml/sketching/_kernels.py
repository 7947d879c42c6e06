"""The sketching kernels: Walsh–Hadamard transform, rows mixed and sampled (SRHT), rows added at random places."""

import numpy as np

from .._core.arrays import Array, device, like, namespace
from .._core.kernels import kernel

GROUP = 1024  # rows that SRHT permutes among themselves: part of the operator's definition
RUN_BITS = 11  # rows (2**11) that SRHT transforms together: 64 columns of them fit a second-level cache


# --- fast Walsh–Hadamard transform --------------------------------------------------------------------


def _hadamard_cases():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for shape in ((1, 1, 1), (2, 2, 3), (3, 8, 17), (1, 64, 1), (2, 512, 70), (1, 4096, 5), (0, 4, 2), (2, 32, 0)):
            yield rng.standard_normal(shape).astype(dtype), 0.25, False
        yield rng.standard_normal((1, 2**17, 1)).astype(dtype), 1.0, False
        yield rng.standard_normal((1, 2**12, 70)).astype(dtype), 1.0, True
        yield rng.standard_normal((16, 6, 2)).astype(dtype).transpose(1, 0, 2)[::2], 1.0, False


@kernel(cases=_hadamard_cases, versions=("numba", "cupy"))
def hadamard(x: Array, scale: float, overwrite: bool) -> Array:
    """Return ``scale * H x`` along axis 1 of x (pre, 2**L, post), natural order; may write to x if `overwrite`."""
    xp = namespace(x)
    pre, n, post = x.shape
    span = 1
    while span < n:
        pairs = xp.reshape(x, (pre, n // (2 * span), 2, span, post))
        a, b = pairs[:, :, 0, :, :], pairs[:, :, 1, :, :]
        x = xp.reshape(xp.stack([a + b, a - b], axis=2), (pre, n, post))
        span *= 2
    return x * scale


# --- rows mixed and sampled ---------------------------------------------------------------------------


def group_positions(sigma: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return, for each group (row of two words a, c), the positions in it of its rows 0 … G-1."""
    size = sigma.size
    multipliers = groups[:, :1].astype(np.int64) | 1
    shifts = groups[:, 1:].astype(np.int64)
    return sigma[(multipliers * np.arange(size) + shifts) % size]


def _mix_cases():
    rng = np.random.default_rng(1)
    for dtype in (np.float32, np.float64):
        for total, rows, columns, samples in ((1, 1, 1, 1), (8, 5, 3, 8), (64, 37, 9, 7), (2048, 1999, 5, 20),
                                              (4096, 1500, 70, 40), (4096, 4096, 1, 600)):  # fmt: skip
            bits = min(RUN_BITS, total.bit_length() - 1)
            size = min(GROUP, total)
            start = (total - rows) // 2
            first, last = start >> bits, (start + rows - 1) >> bits
            n_groups = (last - first + 1 << bits) // size
            yield (
                rng.standard_normal((rows, columns)).astype(dtype),
                rng.standard_normal((samples, columns)).astype(dtype),
                start,
                rng.permutation(size),
                rng.integers(0, 2**32, (n_groups, 2), dtype=np.uint32),
                rng.choice(np.array([-1, 1], np.int8), rows),
                bits,
                np.sort(rng.integers(0, 1 << bits, samples)),
                rng.permutation(samples),
                rng.integers(0, 2, (last - first + 1, samples), dtype=np.uint8),
            )


@kernel(cases=_mix_cases, versions=("numba",))
def mix_rows(
    block: Array,
    out: Array,
    start: int,
    sigma: np.ndarray,
    groups: np.ndarray,
    signs: np.ndarray,
    bits: int,
    low: np.ndarray,
    order: np.ndarray,
    flips: np.ndarray,
) -> Array:
    """Return `out`, which may be overwritten, plus the unscaled SRHT of rows start … start + len(block) - 1.

    All other rows count as zero. The aligned runs of 2**bits rows that `block` touches are signed, permuted within
    groups, transformed, and sampled.

    Parameters
    ----------
    block : array, shape (rows, d)
        The rows.
    out : array, shape (m, d)
        What is added to. What follows is small and lies on the host.
    sigma : array, shape (G,)
        The permutation of a group of G rows.
    groups : array of uint32, shape (…, 2)
        The two words of each group in the runs touched.
    signs : array of int8, shape (rows,)
        Signs of the rows.
    low, order : arrays, shape (m,)
        Sampled row of a run, ascending, and the row of the result that it adds to.
    flips : array of uint8, shape (runs, m)
        1 where a run's samples are subtracted.
    """
    xp = namespace(block)
    rows, columns = block.shape
    first = start >> bits << bits
    position = group_positions(sigma, groups) + sigma.size * np.arange(groups.shape[0])[:, None]
    source, sign = np.zeros(position.size, np.int64), np.zeros(position.size)
    inside = position.ravel()[start - first : start - first + rows]
    source[inside], sign[inside] = np.arange(rows), signs
    mixed = xp.take(block, like(source, block), axis=0) * like(sign, block, block.dtype)[:, None]
    mixed = hadamard(xp.reshape(mixed, (flips.shape[0], 1 << bits, columns)), 1.0, True)
    taken = xp.take(mixed, like(low, block), axis=1) * like(1.0 - 2.0 * flips, block, block.dtype)[:, :, None]
    return out + xp.take(xp.sum(taken, axis=0), like(np.argsort(order), block), axis=0)


# --- rows added at random places ----------------------------------------------------------------------


def sparse_rows(words: np.ndarray, m: int, s: int) -> tuple[np.ndarray, np.ndarray]:
    """Return target rows (int64) and signs (int8) of columns with s non-zeros among m rows, from their words.

    Non-zero t lies in band t, rows ⌊t·m/s⌋ to ⌊(t+1)·m/s⌋ - 1, so that rows are distinct by construction. One
    word gives row and sign; where bands are wider than 2**20 rows, two words do, so that no bit serves both.
    """
    edges = np.arange(s + 1) * m // s
    wide = words.shape[1] == 2 * s
    places, sign_words = (words[:, 0::2], words[:, 1::2]) if wide else (words, words)
    rows = edges[:-1] + ((places.astype(np.uint64) * np.diff(edges).astype(np.uint64)) >> np.uint64(32)).astype(
        np.int64
    )
    return rows, 1 - 2 * (sign_words & np.uint32(1)).astype(np.int8)


def add_rows(values: Array, slots: np.ndarray, size: int) -> Array:
    """Return `size` rows, row i the sum of the rows of `values` whose slot is i, in order.

    The standard has no scatter: each round takes the next row of every slot.
    """
    xp = namespace(values)
    by_slot = np.argsort(slots, kind="stable")
    counts = np.bincount(slots, minlength=size)
    firsts = np.cumsum(counts) - counts
    total = xp.zeros((size, values.shape[1]), dtype=values.dtype, device=device(values))
    for turn in range(int(counts.max(initial=0))):
        there = turn < counts
        taken = xp.take(
            values, like(np.where(there, by_slot[np.minimum(firsts + turn, slots.size - 1)], 0), values), axis=0
        )
        total = total + xp.where(like(there, values)[:, None], taken, xp.zeros_like(taken))
    return total


def _scatter_cases():
    rng = np.random.default_rng(2)
    for dtype in (np.float32, np.float64):
        for rows, columns, m, s in ((1, 1, 1, 1), (50, 3, 20, 8), (300, 70, 33, 4), (20, 2, 1_100_000, 1)):
            n_words = 2 * s if -(-m // s) > 2**20 else s
            words = rng.integers(0, 2**32, (rows, n_words), dtype=np.uint32)
            out = rng.standard_normal((m, columns)).astype(dtype)
            yield rng.standard_normal((rows, columns)).astype(dtype), out, words, s


@kernel(cases=_scatter_cases, versions=("numba", "cupy"))
def scatter_rows(block: Array, out: Array, words: np.ndarray, s: int) -> Array:
    """Return `out`, which may be overwritten, plus sign · block[j] at the target rows of `sparse_rows`, for all j."""
    xp = namespace(block)
    rows, signs = sparse_rows(words, out.shape[0], s)
    source = np.repeat(np.arange(block.shape[0]), s)
    values = xp.take(block, like(source, block), axis=0) * like(signs.ravel(), block, block.dtype)[:, None]
    return out + add_rows(values, rows.ravel(), out.shape[0])


# --- residuals of least squares -----------------------------------------------------------------------


def _residual_cases():
    rng = np.random.default_rng(3)
    for dtype in (np.float32, np.float64):
        for rows, columns in ((1, 1), (3, 5), (4, 64), (61, 17), (2500, 33), (7, 700)):
            A, b, x = rng.standard_normal((rows, columns)), rng.standard_normal(rows), rng.standard_normal(columns)
            yield A.astype(dtype), b.astype(dtype), x.astype(dtype)


@kernel(cases=_residual_cases, versions=("numba",))
def residual_product(A: Array, b: Array, x: Array) -> Array:
    """Return Aᵀr and, as one entry more, ‖r‖², for r = b - A x; real, one pass over A, summed in float64."""
    xp = namespace(A)
    r = b - A @ x
    wide = xp.astype(r, xp.float64)
    return xp.concat([xp.astype(A.T @ r, xp.float64), xp.sum(wide * wide, keepdims=True)])
