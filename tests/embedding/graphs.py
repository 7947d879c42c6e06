"""Graphs for the tests of this folder, and the definition of the embedding in dense float64."""

import numpy as np
from scipy import sparse

from linalg_ml.embedding import projection_matrix


def random_graph(rng, n, *, directed=True, weighted=True, degree=4.0):
    """Return a sparse adjacency with isolated and dangling nodes and self-loops among the rest."""
    A = rng.random((n, n)) < min(1.0, degree / n)
    W = np.where(A, rng.random((n, n)) + 0.1 if weighted else 1.0, 0.0)
    W = W if directed else np.triu(W) + np.triu(W, 1).T
    return sparse.csr_array(W)


def scale_free(n, m, seed=0):
    """Return an undirected graph with a few nodes of high degree."""
    rng = np.random.default_rng(seed)
    src = np.repeat(np.arange(m, n), m)
    dst = (rng.random(src.size) ** 3 * src).astype(np.int64)  # early nodes are popular
    S = sparse.coo_array((np.ones(src.size), (src, dst)), shape=(n, n))
    S = (S + S.T).tocsr()
    S.data[:] = 1
    return S


def blocks(n, k, seed=0, inside=0.05, between=0.005):
    """Return a block model and the block of each node."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    p = np.where(labels[:, None] == labels, inside, between)
    A = np.triu(rng.random((n, n)) < p, 1)
    return sparse.csr_array((A + A.T).astype(float)), labels


def transition(S):
    r = S.sum(axis=1)
    return np.divide(S, r[:, None], out=np.zeros_like(S), where=r[:, None] > 0), r


def unit_rows(N):
    norms = np.linalg.norm(N, axis=1, keepdims=True)
    return np.divide(N, norms, out=np.zeros_like(N), where=norms > 0)


def brute_force(S, R, weights, self_weight=0.0, normalization=0.0, normalize_powers=True):
    """Return the embedding by its definition."""
    A, r = transition(np.asarray(S, float))
    level = np.ones_like(r) if normalization == 0 else (np.where(r > 0, r, 1.0) / max(r.sum(), 1e-300)) ** normalization
    N = level[:, None] * R
    total = self_weight * (unit_rows(N) if normalize_powers else N)
    for weight in weights:
        N = A @ N
        total = total + weight * (unit_rows(N) if normalize_powers else N)
    return total


def similarity(S, weights, self_weight, normalization, norms):
    """Return M with E = M R, from the norms of the powers that count."""
    A, r = transition(np.asarray(S, float))
    level = (np.where(r > 0, r, 1.0)) ** normalization
    M, power, amounts = 0.0, np.eye(len(r)), [self_weight, *weights]
    used = [i for i, weight in enumerate(amounts) if weight != 0]
    for i, weight in enumerate(amounts):
        if i in used:
            c = np.full(len(r), float(weight))
            if norms is not None:
                row = norms[used.index(i)]
                c = np.divide(weight, row, out=np.zeros_like(row), where=row > 0)
            M = M + c[:, None] * power * level
        power = A @ power
    return M


def same_bits(a, b):
    same_kind = a.dtype == b.dtype and a.shape == b.shape
    return same_kind and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


def projection_of(n, d, seed, density, kind="sparse"):
    return projection_matrix(np.arange(n), d, projection=kind, density=density, rng=seed, dtype=np.float64)
