"""Kernels of the streams: norms of rows, products of a block with the tracked directions, and a step of both."""

import numpy as np

from .._core.arrays import Array, cast, device, like, namespace, to_numpy
from .._core.kernels import kernel

LOST = 1e-12  # of the longest row: a remainder below it has no direction
LEAST_PIVOT = 1e-4  # of Cholesky: below it rows are made orthogonal one by one

# --- norms --------------------------------------------------------------------------------------------


def _energy_cases():
    rng = np.random.default_rng(5)
    for dtype in (np.float32, np.float64):
        for rows, columns in ((0, 3), (1, 1), (3, 7), (128, 100), (5, 1001), (40, 64)):
            yield (rng.standard_normal((rows, columns)).astype(dtype),)
        yield (rng.standard_normal((9, 14)).astype(dtype)[::2, ::3],)
        yield (rng.standard_normal((9, 14)).astype(dtype).T,)


@kernel(cases=_energy_cases, versions=("numba",))
def row_energies(X: Array) -> np.ndarray:
    """Return the squared norm of every row of X (b, d), summed in float64, on the host; that of a row by itself."""
    wide = cast(X, "float64")
    return to_numpy(namespace(X).sum(wide * wide, axis=1))


def _shifted_cases():
    rng = np.random.default_rng(13)
    for dtype in (np.float32, np.float64):
        for rows, columns in ((0, 3), (1, 1), (3, 7), (128, 100), (5, 1001), (40, 64)):
            yield rng.standard_normal((rows, columns)).astype(dtype), 10 * rng.standard_normal(columns)


@kernel(cases=_shifted_cases, versions=("numba",))
def shifted_rows(X: Array, shift: Array) -> tuple[Array, np.ndarray]:
    """Return X (b, d) minus shift (d,), formed in float64 and rounded once; and `row_energies` of that."""
    moved = cast(cast(X, "float64") - shift, str(X.dtype).rpartition(".")[2])
    return moved, row_energies.reference(moved)


def _heap_cases():
    rng = np.random.default_rng(14)
    for n, size in ((0, 2), (1, 1), (9, 3), (100, 20)):
        heap = np.floor(10 * rng.random(size))
        yield np.floor(15 * rng.random(n)), heap, rng.permutation(size) + 3, 50


@kernel(cases=_heap_cases, versions=("numba",))
def heap_swaps(
    energies: np.ndarray, heap: np.ndarray, index: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return which rows go into a heap, in turn, and the slots they take; and its energies and indices after that.

    A row longer than the shortest one takes its slot; of equal ones the latest goes. Indices of rows begin at `first`.
    """
    heap, index = heap.copy(), index.copy()
    rows, slots = [], []
    for row in np.flatnonzero(energies > heap.min()):
        if energies[row] > heap.min():
            ties = np.flatnonzero(heap == heap.min())
            slot = int(ties[np.argmax(index[ties])])
            heap[slot], index[slot] = energies[row], first + row
            rows.append(row)
            slots.append(slot)
    return np.array(rows, np.int64), np.array(slots, np.int64), heap, index


def _sum_cases():
    rng = np.random.default_rng(7)
    for energies, first, width in ((0, 3, 8), (1, 0, 8), (5, 3, 8), (5, 4, 8), (300, 7, 128), (300, 127, 128)):
        bins = max(1, -(-(first + energies) // width))
        values = rng.standard_normal(energies) ** 2
        values[::4] = 0
        yield values, rng.standard_normal((3, bins)) * (np.arange(bins) == 0), first, width


@kernel(cases=_sum_cases, versions=("numba",))
def bin_sums(energies: np.ndarray, sums: np.ndarray, first: int, width: int) -> np.ndarray:
    """Return sums (3, bins) of logarithms, of ones, and of energies, of those that are not zero.

    `sums` is what is added to, in order, so that it does not matter how a stream was cut. The first energy is at place
    `first` of the first bin, which holds `width` of them.
    """
    total = sums.copy()
    for i, energy in enumerate(energies):
        if energy > 0:
            bin = (first + i) // width
            total[:, bin] += (np.log(energy), 1.0, energy)
    return total


# --- products of a block ------------------------------------------------------------------------------


def _product_cases():
    rng = np.random.default_rng(6)
    shapes = ((1, 1, 1, 0, 0), (3, 5, 2, 1, 0), (7, 17, 3, 0, 2), (128, 33, 8, 1, 3), (20, 300, 13, 1, 1),
              (9, 70, 7, 0, 0), (5, 5000, 2, 0, 1), (0, 4, 2, 1, 0))  # fmt: skip
    for dtype in (np.float32, np.float64):
        for b, d, size, m, p in shapes:
            V = np.linalg.qr(rng.standard_normal((d, size)))[0].T.copy()
            places = np.sort(rng.choice(b, p, replace=False))
            yield (
                rng.standard_normal((b, d)).astype(dtype), V, rng.standard_normal((m, b)), places,
                rng.standard_normal((p, d)).astype(dtype),
            )  # fmt: skip


@kernel(cases=_product_cases, versions=("numba",))
def block_products(
    X: Array, V: Array, weights: np.ndarray, places: np.ndarray, patch: Array
) -> tuple[np.ndarray, Array, Array]:
    """Return YᵀY (l, l) on the host, YᵀX (l, d) and weights X (m, d), all in float64, for Y = X Vᵀ.

    Products and sums within the block are formed in the dtype of X (b, d); V (l, d) is float64. Rows `places` of X are
    those of `patch` instead.
    """
    xp = namespace(X)
    if places.size:
        source = np.arange(X.shape[0])
        source[places] = X.shape[0] + np.arange(places.size)
        X = xp.take(xp.concat([X, patch], axis=0), like(source, X), axis=0)
    name = str(X.dtype).rpartition(".")[2]
    Y = xp.matmul(X, xp.matrix_transpose(cast(V, name)))
    wide = to_numpy(cast(Y, "float64"))
    products = cast(xp.matmul(xp.matrix_transpose(Y), X), "float64")
    sums = cast(xp.matmul(like(np.ascontiguousarray(weights), X, name), X), "float64")
    return wide.T @ wide, products, sums


# --- a step -------------------------------------------------------------------------------------------


def _rows_cases():
    rng = np.random.default_rng(8)
    for size, d in ((1, 1), (2, 3), (4, 9), (8, 100), (13, 40)):
        yield rng.standard_normal((size, d)) * np.logspace(0, 3, size)[:, None], np.empty((0, d))
    W = rng.standard_normal((6, 20))
    W[2] = 0
    W[4] = W[1]
    for spare in range(4):
        yield W, np.random.default_rng(9).standard_normal((spare, 20))


@kernel(cases=_rows_cases, versions=("numba",))
def orthonormal_rows(W: Array, spare: Array) -> tuple[Array, np.ndarray]:
    """Return orthonormal rows V (l, d) that span those of W, in order, and which of W had no direction of their own.

    Twice by Cholesky; where rows are nearly dependent by modified Gram-Schmidt, twice a row. Rows without a direction
    are replaced by those of `spare`, in order; if these do not suffice, V is zero from there on.
    """
    xp = namespace(W)
    V = W
    for _ in range(2):
        norms = np.sqrt(to_numpy(xp.sum(V * V, axis=1)))
        if not norms.min() > LOST * norms.max():
            return _one_by_one(W, spare)
        V = V / like(norms, V)[:, None]
        gram = to_numpy(xp.matmul(V, xp.matrix_transpose(V)))
        try:
            L = np.linalg.cholesky(gram)
        except np.linalg.LinAlgError:
            return _one_by_one(W, spare)
        if np.diag(L).min() < LEAST_PIVOT:
            return _one_by_one(W, spare)
        V = xp.matmul(like(np.linalg.inv(L), V), V)
    return V, np.zeros(W.shape[0], np.bool_)


def _one_by_one(W: Array, spare: Array) -> tuple[Array, np.ndarray]:
    xp = namespace(W)
    longest = float(xp.max(xp.linalg.vector_norm(W, axis=1)))
    lost = np.zeros(W.shape[0], np.bool_)
    rows: list[Array] = []
    for j in range(W.shape[0]):
        row = _remainder(W[j, :], rows)
        if not float(xp.linalg.vector_norm(row)) > LOST * longest:
            used = int(lost.sum())
            lost[j] = True
            if used == spare.shape[0]:
                missing = xp.zeros((W.shape[0] - j, W.shape[1]), dtype=W.dtype, device=device(W))
                return xp.concat([xp.stack(rows), missing], axis=0) if rows else missing, lost
            row = _remainder(spare[used, :], rows)
        rows.append(row / xp.linalg.vector_norm(row))
    return xp.stack(rows), lost


def _remainder(row: Array, rows: list[Array]) -> Array:
    xp = namespace(row)
    for _ in range(2):
        for other in rows:
            row = row - xp.sum(row * other) * other
    return row


def _advance_cases():
    rng = np.random.default_rng(10)
    shapes = ((1, 1, False), (5, 2, True), (30, 5, True), (100, 8, True), (40, 13, False), (3, 3, False))
    for d, size, centred in shapes:
        V = np.linalg.qr(rng.standard_normal((d, size)))[0].T.copy()
        X = rng.standard_normal((32, d)) * np.logspace(0.5, 0, d)
        Y = X @ V.T
        S = 1e3 * np.logspace(2, 0, size)
        means = (0.1 * rng.standard_normal(d), X.mean(axis=0)) if centred else (X[0, :0], X[0, :0])
        yield (
            V, S, Y.T @ Y, Y.T @ X, np.sum(X * X, axis=1), means[0], 50.0, means[1], 32.0, 0.5 * float(S.sum()),
            1.0 + size % 2, np.empty((0, d)),
        )  # fmt: skip
    V, none = np.eye(3, 12), np.empty(0)
    gram, products = np.diag([3.0, 2.0, 0.0]), np.diag([3.0, 2.0, 0.0]) @ V
    for spare in range(3):
        arguments = (V, np.array([9.0, 4.0, 0.0]), gram, products, np.full(3, 2.0), none, 0.0, none, 3.0, 12.0, 1.0)
        yield *arguments, np.random.default_rng(11).standard_normal((spare, 12))


@kernel(cases=_advance_cases, versions=("numba",))
def advance(
    V: Array, S: np.ndarray, gram: np.ndarray, products: Array, energies: np.ndarray, mean: Array, weight: float,
    own_mean: Array, own_weight: float, energy: float, spread: float, spare: Array,
) -> tuple[Array, np.ndarray, np.ndarray, Array, np.ndarray]:  # fmt: skip
    """Return the directions (l, d) and their energies after a block, which directions are those of `spare`, the mean of
    all rows, their energy, and the sums of energies and of squared energies of the block.

    Parameters
    ----------
    V, S : arrays, shapes (l, d) and (l,)
        Orthonormal directions and their energies before it.
    gram, products : arrays, shapes (l, l) and (l, d)
        YᵀY and YᵀX for Y = X Vᵀ.
    energies : array, shape (b,)
        Squared norms of the rows.
    mean, weight : array, shape (d,) or (0,), and float
        Mean and weight of the rows before the block; no mean if rows are not centred.
    own_mean, own_weight : array and float
        Those of the block.
    energy : float
        Squared norm of all rows before it. What the directions do not hold lies in the others; the energy of one of
        these, times `spread` and at most that of the last direction, is taken off before the directions turn.
    spread : float
        At least 1; see `tail_spread`.
    spare : array, shape (s, d)
        As in `orthonormal_rows`.
    """
    xp = namespace(V)
    size, d = V.shape
    own, square = float(energies.sum()), float(np.dot(energies, energies))
    energy += own
    if mean.shape[0]:
        # Ross et al. 2008: a block about its own mean, and one row more for the distance of the means.
        total = weight + own_weight
        share = weight / total if total else 1.0
        jump = mean - own_mean
        mean = mean - (1 - share) * jump
        energy += own_weight * float(share * xp.sum(jump * jump) - xp.sum(own_mean * own_mean))
        rows, weights = xp.stack([own_mean, jump]), np.array([-own_weight, own_weight * share])
        seen = xp.matmul(V, xp.matrix_transpose(rows))
        products = products + xp.matmul(seen * like(weights, V), rows)
        wide = to_numpy(seen)
        gram = gram + (wide * weights[None, :]) @ wide.T
    w, U = np.linalg.eigh(np.diag(S) + gram)
    w, turn = np.maximum(w[::-1], 0.0), U.T[::-1]
    top = turn[np.arange(size), np.argmax(np.abs(turn), axis=1)]
    turn = np.ascontiguousarray(turn * np.where(top < 0, -1.0, 1.0)[:, None])
    tau = max(0.0, (energy - float(w.sum())) / (d - size)) if d > size else 0.0
    kept = like(np.maximum(S - max(tau, min(spread * tau, float(w[-1]))), 0.0), V)
    W = xp.matmul(like(turn, V), kept[:, None] * V + products)
    V, lost = orthonormal_rows.reference(W, spare)
    return V, np.where(lost, np.minimum(w, tau), w), lost, mean, np.array([energy, own, square])


def _run_cases():
    rng = np.random.default_rng(15)
    for dtype in (np.float32, np.float64):
        for n, block, d, size, heavy, centred in (
            (3, 1, 5, 1, 0, False), (24, 8, 20, 3, 4, False), (33, 8, 20, 3, 4, True), (160, 32, 70, 8, 5, True)
        ):  # fmt: skip
            V = np.linalg.qr(rng.standard_normal((d, size)))[0].T.copy()
            stored = (1.2 * rng.standard_normal((heavy, d))).astype(dtype)
            heap = np.sum(stored.astype(np.float64) ** 2, axis=1)
            shift, mean = (3 * rng.standard_normal(d), 0.1 * rng.standard_normal(d)) if centred else (np.empty(0),) * 2
            X = rng.standard_normal((n, d)) * np.logspace(0.7, 0, d) + (shift if centred else 0)
            S = 1e3 * np.logspace(0.5, 0, size) * d
            state = V, S, mean, 50.0, 1.5 * float(S.sum())
            yield X.astype(dtype), shift, stored, heap, rng.permutation(heavy), 40, block, *state, 1.5, 1e9
            X[n // 2] *= 1e6
            yield X.astype(dtype), shift, stored, heap, rng.permutation(heavy), 40, block, *state, 1.5, 1e9


@kernel(cases=_run_cases, versions=("numba",))
def take_blocks(
    X: Array, shift: Array, heavy: Array, heap: np.ndarray, index: np.ndarray, first: int, block: int, V: Array,
    S: np.ndarray, mean: Array, weight: float, energy: float, spread: float, limit: float,
) -> tuple:  # fmt: skip
    """Take in whole blocks of a stream: form norms, keep the longest rows aside, and step by `block` rows.

    It ends before a block with a squared norm above `limit`, or with directions that lose themselves.

    Parameters
    ----------
    X : array, shape (n, d)
        The rows; what is no whole block is left.
    shift : array, shape (d,) or (0,)
        Taken off all rows first.
    heavy, heap, index : arrays, shapes (H, d), (H,) and (H,)
        The rows kept aside, their squared norms and their places; those of X are `first` and so on.
    V, S, mean, weight, energy, spread
        As in `advance`.

    Returns
    -------
    taken : int
        Number of blocks.
    energies : array, shape (taken * block,)
        Squared norms of the rows as they came.
    slots : array of int64
        Those of the heap that have changed.
    fresh : array, shape (len(slots), d)
        The rows in these.
    heap, index : arrays
        As above, afterwards.
    V, S, mean : arrays
        As in `advance`, after the last block.
    facts : array, shape (taken, 3)
        Energy of all rows after each block, and the sums of energies and of squared energies of its light rows.
    """
    xp = namespace(X)
    taken, norms, changed, facts = 0, [np.empty(0)], set(), []
    stored = [heavy[i, :] for i in range(heavy.shape[0])]
    none = V[:0, :]
    for start in range(0, X.shape[0] - block + 1, block):
        rows = X[start : start + block, :]
        if shift.shape[0]:
            rows, energies = shifted_rows.reference(rows, shift)
        else:
            energies = row_energies.reference(rows)
        if not energies.max() <= limit:
            break
        light, kept, patch = energies.copy(), list(stored), []
        places, slots, new_heap, new_index = heap_swaps.reference(energies, heap, index, first + start) if stored else (
            np.empty(0, np.int64), np.empty(0, np.int64), heap, index
        )  # fmt: skip
        left = heap.copy()
        for row, slot in zip(places, slots, strict=True):
            patch.append(kept[slot])
            light[row], left[slot] = left[slot], energies[row]
            kept[slot] = rows[int(row), :]
        weights = np.ones((1 if mean.shape[0] else 0, block))
        patches = xp.stack(patch) if patch else rows[:0, :]
        gram, products, sums = block_products.reference(rows, V, weights, places, patches)
        own = sums[0, :] / float(block) if mean.shape[0] else mean
        made = advance.reference(V, S, gram, products, light, mean, weight, own, float(block), energy, spread, none)
        if made[2].any():
            break
        V, S, _, mean, fact = made
        stored, heap, index, energy = kept, new_heap, new_index, float(fact[0])
        weight += block
        changed |= set(slots.tolist())
        norms.append(energies)
        facts.append(fact)
        taken += 1
    slots = np.array(sorted(changed), np.int64)
    fresh = xp.stack([stored[slot] for slot in slots]) if changed else X[:0, :]
    return taken, np.concatenate(norms), slots, fresh, heap, index, V, S, mean, np.array(facts).reshape(taken, 3)


def tail_spread(gram: np.ndarray, weights: np.ndarray, n_untracked: int) -> float | None:
    """Return how unevenly energy lies over the untracked directions: λ̄ / τ, at least 1.

    τ is the mean of their energies λ, and λ̄ = Σλ²/Σλ the mean that a random remainder of the leading direction meets,
    since it points to where energy is. Products of different rows tell: E ⟨x, x'⟩² = Σλ² for independent rows.

    Parameters
    ----------
    gram : array, shape (b, b)
        Of the rows' remainders outside the tracked directions, which must not know these rows.
    weights : array, shape (b,)
        Of the rows.
    n_untracked : int
        Number of directions in which the remainders lie.
    """
    own = np.diag(gram)
    total, pairs = float(weights.sum()), float(weights.sum()) ** 2 - float(np.dot(weights, weights))
    mean = float(own.sum()) / total if total else 0.0
    if not pairs > 0 or not mean > 0:
        return None
    relative = gram / mean
    squares = float(np.sum(relative * relative)) - float(np.sum(np.diag(relative) ** 2))
    return max(1.0, n_untracked * squares / pairs)


# --- rows one after the other -------------------------------------------------------------------------


def _chain_cases():
    rng = np.random.default_rng(12)
    for b, d, chains in ((0, 3, 2), (1, 1, 1), (4, 7, 3), (40, 50, 21)):
        V = rng.standard_normal((chains, d))
        V /= np.linalg.norm(V, axis=1, keepdims=True)
        yield rng.standard_normal((b, d)), V, 0.01 * 2.0 ** np.arange(chains), np.zeros(chains), np.ones(chains)


@kernel(cases=_chain_cases, versions=("numba",))
def oja_steps(
    X: Array, V: Array, rates: np.ndarray, growth: np.ndarray, seen: np.ndarray
) -> tuple[Array, np.ndarray, np.ndarray]:
    """Take Oja's step for every row of X (b, d) in turn, in chains V (G, d) of unit vectors with these rates (G,).

    Returns the vectors, the logarithm of how much they have grown, added to `growth`, and Σ(v·a)², added to `seen`.
    """
    xp = namespace(X)
    for i in range(X.shape[0]):
        a = X[i, :]
        s = to_numpy(xp.matmul(V, a))
        norms = 1 + 2 * rates * s**2 + rates**2 * s**2 * float(xp.sum(a * a))
        V = (V + like(rates * s, V)[:, None] * a) / like(np.sqrt(norms), V)[:, None]
        growth, seen = growth + np.log(norms) / 2, seen + s**2
    return xp.asarray(V, copy=True), growth.copy(), seen.copy()
