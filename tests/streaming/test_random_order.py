"""The theorem's algorithm: block power steps, heavy rows aside, the better of light and heavy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from streaming.streams import exact, heavy, powerspec, spiked, split

from linalg_ml.streaming import TopEigenvectorStream, top_eigenvector


def check_split(n, R):
    X = split(n, 300, R, 20, 3)
    truth, result = exact(X), top_eigenvector(X, method="random-order", rng=0)
    err = truth.err(result.vector)
    assert 0.8 / (R + 1) <= err <= 1.25 / (R + 1)
    assert err <= result.error


@pytest.mark.parametrize("R", [8, 64])
def test_either_or_costs_its_share(R):
    check_split(16000, R)


@pytest.mark.slow
@pytest.mark.parametrize("R", [4, 8, 16, 32, 64, 128])
def test_either_or_at_full_size(R):
    check_split(40000, R)


def test_estimate_covers():
    for seed in range(3):
        for X in (spiked(8000, 250, 40, seed), heavy(8000, 250, 3, 30, seed), powerspec(8000, 250, 2, seed)):
            truth = exact(X)
            result = top_eigenvector(X, method="random-order", rng=seed)
            assert truth.err(result.vector) <= result.error
            assert_allclose(result.value, truth.values[0], rtol=min(1, result.value_relative_error))
            assert result.confidence is None


def test_longer_streams_are_better():
    errors = []
    for n in (2000, 32000):
        X = spiked(n, 250, 8, 5)
        errors.append(exact(X).err(top_eigenvector(X, method="random-order", rng=0).vector))
    assert errors[1] < errors[0] / 3


def test_heavy_rows_are_all_named():
    X = heavy(6000, 250, 2, 30, 4)
    result = top_eigenvector(X, method="random-order", rng=0)
    norms = np.linalg.norm(X, axis=1)
    assert result.n_heavy == 64
    assert set(np.argsort(norms)[-30:]) <= set(result.heavy_indices)


@pytest.mark.parametrize("center", [False, True])
def test_without_a_heap(center):
    X = spiked(6000, 250, 20, 4)
    result = top_eigenvector(X, method="random-order", max_heavy=0, center=center, rng=0)
    truth = exact(X, center=center)
    assert truth.err(result.vector) <= 0.05
    assert result.n_heavy == 0
    assert_allclose(result.frobenius_sq, truth.values.sum(), rtol=1e-5)


def test_several_directions():
    X = powerspec(30000, 250, 2, 4)
    truth = exact(X)
    V = top_eigenvector(X, method="random-order", n_components=3, rng=0).components.astype(np.float64)
    assert_allclose(V @ V.T, np.eye(3), atol=1e-6)
    assert np.linalg.norm(V - (V @ truth.vectors[:3].T) @ truth.vectors[:3], 2) < 0.2


def test_as_many_components_as_asked_for():
    X = np.random.default_rng(0).standard_normal((900, 40))
    X[5] *= 1e4
    result = TopEigenvectorStream(method="random-order", n_components=3, max_heavy=1, rng=0).update(X).result()
    assert result.components.shape == (3, 40)
    assert_allclose(result.components @ result.components.T, np.eye(3), atol=1e-12)
    assert result.values.shape == (3,)
