"""Embedding: time, memory and error of FastRP, and of what follows an embedding."""

import numpy as np
from scipy import sparse

from linalg_ml.embedding import fastrp, projection_matrix, tune


def graph(n, degree, weighted=False):
    """Return an undirected graph in which early nodes are popular."""
    rng = np.random.default_rng(0)
    src = np.repeat(np.arange(degree, n), degree)
    dst = (rng.random(src.size) ** 2 * src).astype(np.int64)
    S = sparse.coo_array((np.ones(src.size, np.float32), (src, dst)), shape=(n, n))
    S = (S + S.T).tocsr()
    S.data[:] = rng.random(S.nnz) if weighted else 1
    return S


class Embed:
    """The whole embedding, with the default weights of the powers."""

    params = (64, 128), ("float32", "float64"), ("unweighted", "weighted")
    param_names = "n_components", "dtype", "edges"

    def setup(self, n_components, dtype, edges):
        self.S = graph(50_000, 10, edges == "weighted")
        self.time_fastrp(n_components, dtype, edges)

    def time_fastrp(self, n_components, dtype, edges):
        fastrp(self.S, n_components=n_components, dtype=dtype, rng=0)

    def peakmem_fastrp(self, n_components, dtype, edges):
        fastrp(self.S, n_components=n_components, dtype=dtype, rng=0)


class Options:
    """What options cost."""

    params = (
        {},
        {"density": 1 / 3},
        {"projection": "gaussian"},
        {"weights": (1, 1, 1, 1), "self_weight": 1.0},
        {"normalize_powers": False},
        {"max_memory": 50_000 * (2 * 64 * 4 + 24)},
    )
    param_names = ("options",)

    def setup(self, options):
        self.S = graph(50_000, 10)
        self.time_fastrp(options)

    def time_fastrp(self, options):
        fastrp(self.S, rng=0, **options)


class After:
    """New nodes, edits, the error, and a search."""

    def setup(self):
        self.S = graph(20_000, 10)
        self.result = fastrp(self.S, keep_powers=True, rng=0)
        self.B = self.S[:100]
        self.time_error()
        self.time_transform()
        self.time_update()

    def time_error(self):
        self.result.estimate_error()

    def time_transform(self):
        self.result.transform(self.B)

    def time_update(self):
        self.result.update([1], [15_000], 2.0)

    def time_tune_one_pass(self):
        tune(self.S, lambda E: 0.0, normalization=[0.0], rows=np.arange(1000), rng=0)


class Projection:
    """Entries of the random projection."""

    params = ("sparse", "gaussian")
    param_names = ("projection",)

    def setup(self, projection):
        self.ids = np.arange(20_000)
        self.time_projection_matrix(projection)

    def time_projection_matrix(self, projection):
        projection_matrix(self.ids, 128, projection=projection, rng=0)


class Error:
    """The relative error that the result reports."""

    params = (32, 128)
    param_names = ("n_components",)
    unit = "relative error"

    def track_relative_error(self, n_components):
        return fastrp(graph(20_000, 10), n_components=n_components, rng=0).relative_error
