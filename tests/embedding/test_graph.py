"""All kinds of graphs give the same rows, and none is changed."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import load_namespace
from embedding.graphs import random_graph, same_bits, scale_free
from numpy.testing import assert_array_equal
from scipy import sparse

from linalg_ml.embedding import fastrp
from linalg_ml.embedding._graph import as_graph, index_dtype, row_sums

F32 = np.dtype(np.float32)


@pytest.fixture
def S():
    return random_graph(np.random.default_rng(0), 60)


def embedding(graph, **options):
    return fastrp(graph, n_components=16, weights=(0, 1, 1), density=1 / 3, rng=1, **options).embedding


@pytest.mark.parametrize("kind", ["csr_array", "csc_array", "coo_array", "lil_array", "csr_matrix", "coo_matrix"])
def test_scipy(S, kind):
    given = getattr(sparse, kind)(S)
    before = given.copy()
    assert same_bits(embedding(given), embedding(S))
    assert (abs(given - before)).sum() == 0


def test_dense(S):
    for dense in (S.toarray(), S.toarray().tolist(), np.asfortranarray(S.toarray())):
        assert same_bits(embedding(dense), embedding(S))


def test_edges(S):
    C = S.tocoo()
    assert same_bits(embedding((C.row, C.col, C.data), directed=True, node_ids=np.arange(60)), embedding(S))


def test_undirected_edges():
    graph = as_graph((np.array([0, 1, 2, 2, 0]), np.array([1, 0, 2, 1, 1])), F32)
    assert_array_equal(graph.to_scipy().toarray(), [[0, 3, 0], [3, 0, 1], [0, 1, 1]])  # self-loops once
    assert graph.symmetric


def test_canonical_rows():
    raw = sparse.csr_array((np.array([1.0, 2, 0, 3]), np.array([2, 2, 0, 1]), np.array([0, 4, 4, 4])), shape=(3, 3))
    before = raw.indices.copy(), raw.data.copy(), raw.indptr.copy()
    graph = as_graph(raw, F32)
    assert_array_equal(graph.indices, [1, 2])
    assert_array_equal(graph.weights, [3, 3])
    assert graph.indptr.dtype == np.int64
    assert graph.indices.dtype == np.int32
    for now, then in zip((raw.indices, raw.data, raw.indptr), before, strict=True):
        assert_array_equal(now, then)


def test_duplicates_are_summed_in_float64():
    values = np.array([1.0, 2.0**-24, 2.0**-24], np.float32)  # in float32 they would vanish one by one
    graph = as_graph((np.zeros(3, int), np.ones(3, int), values), F32, directed=True)
    assert graph.weights[0] == np.float32(1 + 2.0**-23)


def test_no_copy_of_what_serves(S):
    unweighted = sparse.csr_array((np.ones(S.nnz, np.float32), S.indices, S.indptr), shape=S.shape)
    graph = as_graph(unweighted, F32)
    assert graph.weights is None
    assert np.shares_memory(graph.indices, unweighted.indices)
    assert (
        np.shares_memory(as_graph(S.astype(np.float32), F32).weights, as_graph(S.astype(np.float32), F32).weights)
        is False
    )


def test_integer_and_bool_weights(S):
    ones = (S > 0).astype(np.int64)
    assert same_bits(embedding(ones), embedding(ones.astype(float)))
    assert same_bits(embedding(S > 0), embedding(ones))


def test_row_sums_add_in_order():
    rng = np.random.default_rng(0)
    weights = rng.random(1000).astype(np.float32)
    indptr = np.array([0, 3, 3, 700, 1000])
    expected = [0.0] * 4
    for row in range(4):
        for value in weights[indptr[row] : indptr[row + 1]]:
            expected[row] += float(value)
    assert_array_equal(row_sums(indptr, weights), expected)


def test_networkx():
    nx = pytest.importorskip("networkx")
    G = nx.les_miserables_graph()
    S = nx.to_scipy_sparse_array(G, dtype=float)
    assert same_bits(embedding(G), embedding(S))
    assert as_graph(G, F32).symmetric
    D = nx.DiGraph([(0, 1), (1, 2)])
    assert_array_equal(as_graph(D, F32).to_scipy().toarray(), [[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    with pytest.raises(ValueError, match="empty"):
        embedding(nx.Graph())


def test_igraph():
    igraph = pytest.importorskip("igraph")
    G = igraph.Graph(n=4, edges=[(0, 1), (1, 2), (2, 2)])
    G.es["weight"] = [1.0, 2.0, 3.0]
    assert_array_equal(as_graph(G, F32).to_scipy().toarray(), [[0, 1, 0, 0], [1, 0, 2, 0], [0, 2, 3, 0], [0, 0, 0, 0]])


class Edges:
    """What is asked of the edges of an igraph graph."""

    def __init__(self, **attributes):
        self._attributes = attributes

    def attributes(self):
        return list(self._attributes)

    def __getitem__(self, name):
        return self._attributes[name]


class Igraph:
    """What is asked of an igraph graph, where the package is not installed."""

    def __init__(self, n, edges, directed=False, **attributes):
        self.n, self.edges, self.directed, self.es = n, edges, directed, Edges(**attributes)

    def get_edgelist(self):
        return self.edges

    def is_directed(self):
        return self.directed

    def vcount(self):
        return self.n


def test_a_graph_like_igraphs(monkeypatch):
    monkeypatch.setitem(sys.modules, "igraph", SimpleNamespace(Graph=Igraph))
    plain = as_graph(Igraph(4, [(0, 1), (1, 2), (2, 2), (0, 1)]), F32)
    assert_array_equal(plain.to_scipy().toarray(), [[0, 2, 0, 0], [2, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    assert plain.symmetric
    directed = as_graph(Igraph(3, [(0, 1), (1, 2)], directed=True, weight=[0.5, 2.0]), F32)
    assert_array_equal(directed.to_scipy().toarray(), [[0, 0.5, 0], [0, 0, 2], [0, 0, 0]])
    with pytest.raises(ValueError, match="empty"):
        as_graph(Igraph(0, []), F32)
    for weight in (-1.0, None):
        with pytest.raises(ValueError, match="≥ 0|finite"):
            as_graph(Igraph(2, [(0, 1)], weight=[weight]), F32)


def test_multigraphs_add_up():
    nx = pytest.importorskip("networkx")
    assert_array_equal(as_graph(nx.MultiGraph([(0, 1), (0, 1)]), F32).to_scipy().toarray(), [[0, 2], [2, 0]])


def test_indices_are_wide_where_they_must_be():
    assert index_dtype(2**31 - 1) is np.int32
    assert index_dtype(2**31) is np.int64


def test_wide_indices():
    S = scale_free(100, 3)
    wide = S.copy()
    wide.indices, wide.indptr = S.indices.astype(np.int64), S.indptr.astype(np.int64)
    assert same_bits(embedding(wide), embedding(S))


def test_float32_duplicates_of_a_coo_matrix_are_summed_in_float64():
    values = np.array([1.0, 2.0**-24, 2.0**-24], np.float32)
    graph = as_graph(sparse.coo_array((values, (np.zeros(3, int), np.ones(3, int))), shape=(2, 2)), F32)
    assert graph.weights[0] == np.float32(1 + 2.0**-23)


def test_negative_duplicates_of_a_coo_matrix_are_refused_though_their_sum_is_not():
    twice = sparse.coo_array((np.array([-1.0, 2.0]), ([0, 0], [1, 1])), shape=(2, 2))
    with pytest.raises(ValueError, match="≥ 0"):
        as_graph(twice, F32)


@pytest.mark.parametrize("name", ["array_api_strict", "torch"])
def test_dense_arrays_are_answered_in_their_library(S, name):
    xp = load_namespace(name)
    given = xp.asarray(S.toarray())
    result = fastrp(given, n_components=16, weights=(0, 1, 1), density=1 / 3, keep_powers=True, rng=1)
    plain = fastrp(S, n_components=16, weights=(0, 1, 1), density=1 / 3, rng=1)
    assert type(result.embedding) is type(given)
    assert same_bits(np.asarray(result), plain.embedding)
    assert result.error == plain.error
    assert type(result.transform(given)) is type(given)
    for kept in (result, fastrp(given, n_components=16, rng=1)):
        updated = kept.update([0], [1], 3.0)
        assert type(updated.embedding) is type(given)
        assert updated.error > 0
    out = np.empty((60, 16), np.float32)
    assert fastrp(given, n_components=16, rng=1, out=out).embedding is out
