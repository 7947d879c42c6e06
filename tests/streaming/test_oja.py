"""Oja's rule over a grid of rates: any order, one direction."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from streaming.streams import exact, powerspec, spiked

from linalg_ml.streaming import top_eigenvector

ARRANGEMENTS = {
    "random": lambda along, norms: np.arange(along.size),
    "along up": lambda along, norms: np.argsort(along),
    "along down": lambda along, norms: np.argsort(-along),
    "norm up": lambda along, norms: np.argsort(norms),
}


def arranged(X, truth, how):
    along = np.abs(X.astype(np.float64) @ truth.vectors[0])
    return X[ARRANGEMENTS[how](along, np.linalg.norm(X, axis=1))]


@pytest.mark.parametrize("how", ARRANGEMENTS)
@pytest.mark.parametrize("R", [81, 325])
def test_guarantee_in_every_order(how, R):
    d = 60
    X = spiked(4000, d, 4 * R, 3)
    truth = exact(X)
    assert 40 * np.log(d) <= truth.R
    err = truth.err(top_eigenvector(arranged(X, truth, how), method="oja", rng=0).vector)
    assert err <= 20 * np.log(d) / truth.R


@pytest.mark.slow
@pytest.mark.parametrize("how", ARRANGEMENTS)
def test_guarantee_at_full_size(how):
    d = 200
    X = spiked(40000, d, 325, 3)
    truth = exact(X)
    assert 40 * np.log(d) <= truth.R
    err = truth.err(top_eigenvector(arranged(X, truth, how), method="oja", rng=0).vector)
    assert err <= 20 * np.log(d) / truth.R


def test_estimate_covers():
    for seed in range(4):
        for X in (spiked(3000, 100, 300, seed), powerspec(3000, 100, 2, seed)):
            truth = exact(X)
            result = top_eigenvector(X, method="oja", rng=seed)
            assert truth.err(result.vector) <= result.error
            low, high = result.value_bounds
            assert low * (1 - 1e-6) <= truth.values[0] <= high * (1 + 1e-6)
            assert low <= result.value <= high
            assert result.confidence in (None, 1.0)
            assert 1 <= result.gap_estimate <= truth.R * (1 + 1e-6)


def test_one_long_row_among_many():
    X = 1e-3 * np.random.default_rng(0).standard_normal((3000, 100))
    X[1234] = np.arange(100.0)
    result = top_eigenvector(X, method="oja", rng=0)
    assert exact(X).err(result.vector) <= 1e-4


def test_scales_that_are_powers_of_two_only_shift_the_grid():
    X = spiked(2000, 60, 400, 3, np.float64)
    one = top_eigenvector(X, method="oja", rng=0)
    assert_array_equal(top_eigenvector(X * 2.0**20, method="oja", rng=0).vector, one.vector)
    truth = exact(X)
    for scale in (1e-6, 1e6):
        assert truth.err(top_eigenvector(X * scale, method="oja", rng=0).vector) <= 20 * np.log(60) / truth.R


def test_the_window_slides_far():
    # Norms over many decades: chains that have overshot go, and new ones start.
    X = spiked(2500, 60, 400, 3, np.float64)
    X *= np.logspace(-30, 0, 2500)[:, None]
    truth = exact(X)
    result = top_eigenvector(X, method="oja", rng=0)
    assert np.isfinite(result.vector).all()
    assert truth.err(result.vector) <= max(result.error, 0.3)
    jump = spiked(2500, 60, 400, 3, np.float64)
    jump[:100] *= 1e-25
    assert exact(jump).err(top_eigenvector(jump, method="oja", rng=0).vector) <= 0.1
