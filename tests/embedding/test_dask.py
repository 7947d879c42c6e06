"""Rows of the adjacency on a cluster: the same bits as in memory."""

from itertools import pairwise

import numpy as np
import pytest
from embedding.graphs import random_graph, same_bits, scale_free
from scipy import sparse

from linalg_ml.embedding import fastrp

array = pytest.importorskip("dask.array")

OPTIONS = {
    "n_components": 40,
    "weights": (0, 1, 2),
    "normalization": -0.5,
    "self_weight": 0.25,
    "density": 0.05,
    "rng": 3,
}


def lazy(S, sizes):
    """Return a dask array with CSR blocks of these numbers of rows."""
    from dask import delayed

    edges = np.concatenate([[0], np.cumsum(sizes)])
    rows = [S[a:b] for a, b in pairwise(edges)]
    parts = [array.from_delayed(delayed(block), block.shape, meta=S[:0]) for block in rows]
    return array.concatenate(parts)


@pytest.mark.parametrize("normalize", [True, False])
def test_same_bits(dask_scheduler, normalize):
    S = scale_free(700, 5)
    S.data = np.random.default_rng(0).random(S.nnz)
    expected = fastrp(S, normalize_powers=normalize, **OPTIONS)
    for graph in (lazy(S, [100, 350, 250]), array.from_array(S.toarray(), chunks=(300, 700))):
        result = fastrp(graph, normalize_powers=normalize, **OPTIONS)
        assert result.embedding.chunks[0] == graph.chunks[0]
        assert same_bits(result.embedding.compute(), expected.embedding)
        if normalize:
            assert same_bits(result.row_norms, expected.row_norms)
        np.testing.assert_allclose(result.error, expected.error, rtol=1e-3)
        np.testing.assert_allclose(result.relative_error, expected.relative_error, rtol=1e-3)


def test_directed_with_ids(dask_scheduler):
    S = random_graph(np.random.default_rng(0), 90)
    ids = np.arange(90) * 7
    expected = fastrp(S, node_ids=ids, **OPTIONS)
    assert same_bits(fastrp(lazy(S, [30, 60]), node_ids=ids, **OPTIONS).embedding.compute(), expected.embedding)


def test_blocks_without_edges():
    S = scale_free(90, 3).tolil()
    S[30:60] = 0
    S = sparse.csr_array(S)
    S.eliminate_zeros()
    options = {**OPTIONS, "density": 1 / 3}
    result = fastrp(lazy(S, [30, 30, 30]), **options)
    assert same_bits(result.embedding.compute(), fastrp(S, **options).embedding)


def test_result_as_an_array_and_zero_rows():
    S = scale_free(300, 2)
    options = {"n_components": 8, "weights": (1,), "density": 0.02, "rng": 0}
    with pytest.warns(UserWarning, match="rows of zeros"):
        expected = fastrp(S, **options)
    with pytest.warns(UserWarning, match="rows of zeros") as said:
        result = fastrp(lazy(S, [100, 200]), **options)
    assert said[0].filename == __file__
    assert result.n_zero_rows == expected.n_zero_rows > 0
    assert same_bits(np.asarray(result), expected.embedding)


def test_refused(dask_scheduler):
    from dask import delayed

    S = scale_free(60, 3)
    with pytest.raises(ValueError, match="whole rows"):
        fastrp(array.from_array(S.toarray(), chunks=(30, 30)))
    with pytest.raises(ValueError, match="square"):
        fastrp(array.ones((4, 5)))
    with pytest.raises(ValueError, match="from row 30 on must have weights"):
        fastrp(lazy(sparse.vstack([S[:30], -S[30:]], format="csr"), [30, 30]), rng=0)
    with pytest.raises(ValueError, match="2-d dask array of known chunk"):
        fastrp(array.ones(4))
    with pytest.raises(ValueError, match="empty"):
        fastrp(array.ones((0, 0)))
    with pytest.raises(ValueError, match="block of 59 columns from row 0"):
        fastrp(array.from_delayed(delayed(S[:, :59]), (60, 60), meta=S[:0]))
    for refused in ({"features": np.ones((60, 2))}, {"max_memory": 10**9}, {"keep_powers": True}, {"out": S}):
        with pytest.raises(ValueError, match=f"{next(iter(refused))} is not accepted"):
            fastrp(lazy(S, [60]), **refused)
    result = fastrp(lazy(S, [60]), rng=0)
    with pytest.raises(TypeError, match="in memory"):
        result.transform(S)
    with pytest.raises(TypeError, match="in memory"):
        result.update([0], [1])
