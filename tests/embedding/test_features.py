"""Properties of nodes, mixed in by columns of their own."""

import numpy as np
import pytest
from conftest import load_namespace
from embedding.graphs import brute_force, projection_of, random_graph, same_bits, scale_free, unit_rows
from numpy.testing import assert_allclose
from scipy import sparse

from linalg_ml._core.random import Stream
from linalg_ml.embedding import fastrp
from linalg_ml.embedding._projection import Projection


@pytest.fixture
def X():
    X = np.random.default_rng(0).standard_normal((300, 9))
    X[X < -0.8] = 0
    return X


@pytest.mark.parametrize("rho", [0.0, 0.25, 0.5, 1.0])
def test_two_embeddings_side_by_side(X, rho):
    S = random_graph(np.random.default_rng(1), 300)
    d_f = 0 if rho == 0 else min(50, max(1, int(np.floor(rho * 50 + 0.5))))
    E = fastrp(S, n_components=50, features=X, feature_weight=rho, density=1 / 3, dtype=np.float64, rng=3).embedding
    nodes = projection_of(300, 50 - d_f, 3, 1 / 3) if d_f < 50 else np.empty((300, 0))
    P = Projection("sparse", 1 / 3, max(1, d_f), 3, Stream.FEATURES).fill(range(9), np.ones(9), np.empty((9, d_f)))
    weights = (0, 0, 1, 1)
    parts = [
        np.sqrt(1 - rho) * brute_force(S.toarray(), nodes, weights),
        np.sqrt(rho) * brute_force(S.toarray(), X @ P, weights),
    ]
    assert_allclose(E, np.hstack(parts), atol=1e-12)


def test_split_of_inner_products(X):
    S = scale_free(300, 4)
    options = {"weights": (0, 1), "rng": 0, "dtype": np.float64, "n_components": 64}
    both = fastrp(S, features=X, feature_weight=0.25, **options).embedding
    structure, content = (unit_rows(part) for part in (both[:, :48], both[:, 48:]))
    assert_allclose(both @ both.T, 0.75 * structure @ structure.T + 0.25 * content @ content.T, atol=1e-6)


def test_scale_of_features_does_not_matter(X):
    S = scale_free(300, 4)
    E, scaled = (fastrp(S, features=factor * X, normalization=-0.5, rng=0).embedding for factor in (1, 1e3))
    assert_allclose(scaled, E, atol=1e-6)


def test_sparse_features_and_blocks(X):
    S = scale_free(300, 4)
    expected = fastrp(S, features=X, n_components=300, self_weight=1.0, rng=0)
    assert same_bits(
        fastrp(S, features=sparse.csr_array(X), n_components=300, self_weight=1.0, rng=0).embedding, expected.embedding
    )
    memory = 300 * (2 * 64 * 4 + 3 * 12)
    parts = fastrp(S, features=X, n_components=300, self_weight=1.0, max_memory=memory, rng=0)
    assert same_bits(parts.embedding, expected.embedding)
    assert expected.row_norms.shape == (3, 300, 2)


@pytest.mark.parametrize("name", ["array_api_strict", "torch"])
def test_features_of_other_libraries(X, name):
    xp, S = load_namespace(name), scale_free(300, 4)
    options = {"n_components": 32, "self_weight": 1.0, "rng": 0}
    expected, result = fastrp(S, features=X, **options), fastrp(S, features=xp.asarray(X), **options)
    assert same_bits(result.embedding, expected.embedding)
    assert result.error == expected.error
    new = S[:5], None, np.arange(5) + 1000
    assert same_bits(result.transform(*new, xp.asarray(X[:5])), expected.transform(*new, X[:5]))


def test_features_out_of_range(X):
    with pytest.raises(ValueError, match="features are out of the range of float32"):
        fastrp(scale_free(300, 4), features=X * 1e300, rng=0)
