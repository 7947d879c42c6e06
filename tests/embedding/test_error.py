"""The bound of the error, against the error as it is."""

import numpy as np
import pytest
from embedding.graphs import blocks, scale_free, similarity
from scipy import sparse

from linalg_ml import config_context
from linalg_ml.embedding import fastrp
from linalg_ml.embedding._error import is_symmetric
from linalg_ml.embedding._graph import as_graph

pytestmark = pytest.mark.filterwarnings("ignore:.*rows of zeros")

SETTINGS = [
    (graph, weights, normalization, normalize)
    for graph in ("blocks", "scale-free")
    for weights, normalization in (((0, 0, 1, 1), 0.0), ((1,), -0.5))
    for normalize in (True, False)
]


def graph_of(name):
    return blocks(250, 5, inside=0.1)[0] if name == "blocks" else scale_free(250, 4)


def true_error(S, result, weights, normalization, normalize, self_weight=0.0):
    E = result.embedding.astype(float)
    if normalize:
        norms = result.row_norms
        e = result._fitted.options.exponent
        M = similarity(S, weights, self_weight, normalization, norms * 2.0**e)
    else:
        M = similarity(S, weights, self_weight, normalization, None) * S.sum() ** -normalization
    return np.linalg.norm(E @ E.T - M @ M.T)


def held(setting, seeds):
    """Return the ratios of bound and truth."""
    name, weights, normalization, normalize = setting
    S, ratios = graph_of(name), []
    options = {"n_components": 16, "weights": weights, "normalization": normalization, "normalize_powers": normalize}
    for seed in seeds:
        result = fastrp(S, rng=seed, density=250**-0.5 if weights == (1,) else "auto", **options)
        ratios.append(result.error / true_error(S.toarray(), result, weights, normalization, normalize))
    return np.array(ratios)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_coverage(setting, count):
    ratios = held(setting, range(count))
    assert np.mean(ratios >= 1) >= 0.95
    assert 1.3 <= np.median(ratios) <= 2.1


def test_directed_graph_with_self_weight():
    rng = np.random.default_rng(0)
    S = sparse.random_array((200, 200), density=0.03, rng=rng, format="csr")
    ratios = []
    for seed in range(20):
        result = fastrp(S, n_components=32, weights=(1, 2), self_weight=0.5, normalization=0.5, rng=seed)
        ratios.append(result.error / true_error(S.toarray(), result, (1, 2), 0.5, True, 0.5))
    assert 1.3 <= np.median(ratios) <= 2.1


def test_features():
    S, rho = graph_of("blocks"), 0.3
    X = np.random.default_rng(0).standard_normal((250, 6))
    ratios = []
    for seed in range(20):
        result = fastrp(S, n_components=64, features=X, feature_weight=rho, rng=seed)
        E = result.embedding.astype(float)
        M = similarity(S.toarray(), (0, 0, 1, 1), 0, 0, result.row_norms[..., 0])
        F = similarity(S.toarray(), (0, 0, 1, 1), 0, 0, result.row_norms[..., 1]) @ X
        truth = np.linalg.norm(E @ E.T - (1 - rho) * M @ M.T - rho * F @ F.T)
        ratios.append(result.error / truth)
    assert np.mean(np.array(ratios) >= 1) >= 0.9
    assert 1.3 <= np.median(ratios) <= 2.1


def test_more_probes_and_another_confidence():
    S = graph_of("blocks")
    result = fastrp(S, n_components=32, rng=0)
    error, relative = result.estimate_error(n_probes=300, confidence=0.99)
    truth = true_error(S.toarray(), result, (0, 0, 1, 1), 0.0, True)
    assert 1 <= error / truth < 1.3
    np.testing.assert_allclose(relative, error / np.linalg.norm(result.embedding) ** 2, rtol=1e-5)
    np.testing.assert_allclose(result.relative_error, result.error / (error / relative), rtol=1e-12)
    with pytest.raises(ValueError, match="n_probes"):
        result.estimate_error(0)
    with pytest.raises(ValueError, match="confidence"):
        result.estimate_error(confidence=0.5)


def test_after_an_update():
    S = graph_of("scale-free")
    updated = fastrp(S, n_components=32, keep_powers=True, rng=0).update([0], [200], 5.0)
    T = updated._fitted.graph.to_scipy(float).toarray()
    assert 1 <= updated.estimate_error(300)[0] / true_error(T, updated, (0, 0, 1, 1), 0.0, True) < 1.3


def test_symmetry_is_seen():
    S = scale_free(300, 4)
    weighted = S * sparse.csr_array(1.0 + np.arange(300)[:, None] * np.arange(300))  # up to 10^5
    assert is_symmetric(as_graph(S, np.dtype(np.float32)))
    assert is_symmetric(as_graph(weighted, np.dtype(np.float32)))
    for matrix in (S, weighted):
        off = matrix.copy()
        off.data[np.argmin(off.data)] *= 1.001  # one entry, a light one
        assert not is_symmetric(as_graph(off, np.dtype(np.float32)))
    star = np.arange(1, 300), np.zeros(299, int)  # the hub has no out-edge
    assert not is_symmetric(as_graph(star, np.dtype(np.float32), directed=True))
    assert is_symmetric(as_graph(sparse.csr_array((3, 3)), np.dtype(np.float32)))


def test_power_zero_alone():
    S = graph_of("scale-free")
    result = fastrp(S, n_components=32, weights=(), self_weight=2.0, normalization=-0.5, rng=0)
    assert 1 <= result.estimate_error(300)[0] / true_error(S.toarray(), result, (), -0.5, True, 2.0) < 1.3


@pytest.mark.parametrize("k", [1, 7, 8, 16])
def test_numbers_of_probes(k):
    """Panels of eight columns have a path of their own in the kernel."""
    S = scale_free(600, 6, seed=1)
    assert np.diff(S.indptr).max() > 256
    for weights in (np.ones(S.nnz), np.random.default_rng(0).random(S.nnz)):
        S.data = weights
        result = fastrp(S, n_components=16, rng=0)
        fast = result.estimate_error(k)
        with config_context(kernels="reference"):
            np.testing.assert_allclose(result.estimate_error(k), fast, rtol=1e-4)
