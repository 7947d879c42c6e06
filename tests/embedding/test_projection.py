"""The random projection: known answers, independence of what it must not depend on, statistics."""

import numpy as np
import pytest
from conftest import load_namespace
from numpy.testing import assert_allclose, assert_array_equal

from linalg_ml import config_context
from linalg_ml.embedding import projection_matrix


def test_known_signs():
    R = projection_matrix([0, 3], 8, rng=7)
    assert_array_equal(np.sign(R), [[0, 0, 1, 1, 0, -1, -1, 1], [0, -1, -1, -1, -1, 0, 1, 0]])
    assert not np.signbit(R[R == 0]).any()
    assert_allclose(np.abs(R[R != 0]), np.sqrt(3 / 8), rtol=1e-6)


def test_density_and_signs():
    R = projection_matrix(np.arange(200_000), 64, density=0.01, rng=1)
    assert abs(np.mean(R != 0) - 0.00999) < 1e-5
    assert abs(np.mean(np.sign(R[R != 0]))) < 0.01


@pytest.mark.parametrize("kind", ["sparse", "gaussian"])
def test_rows_depend_on_the_id_alone(kind):
    ids = np.array([5, 2**40 + 7, 0, 999, 3])
    R = projection_matrix(ids, 70, projection=kind, rng=3)
    order = np.array([3, 0, 4, 1, 2])
    assert_array_equal(projection_matrix(ids[order], 70, projection=kind, rng=3), R[order])
    assert_array_equal(projection_matrix(ids[2:4], 70, projection=kind, rng=3), R[2:4])
    assert_allclose(projection_matrix(ids, 35, projection=kind, rng=3) * np.sqrt(0.5), R[:, :35], rtol=1e-6)
    with config_context(kernels="reference"):
        assert_array_equal(projection_matrix(ids, 70, projection=kind, rng=3), R)
    wide = projection_matrix(ids, 70, projection=kind, rng=3, dtype=np.float64)
    assert_array_equal(wide.astype(np.float32), R)


@pytest.mark.parametrize("kind", ["sparse", "gaussian"])
def test_mean_and_variance(kind):
    R = projection_matrix(np.arange(20_000), 16, projection=kind, density=0.1, rng=2, dtype=np.float64) * 4
    assert abs(R.mean()) < 5 / np.sqrt(R.size)
    assert abs((R**2).mean() - 1) < 5 * np.sqrt(9 / R.size)
    other = projection_matrix(np.arange(20_000), 16, projection=kind, density=0.1, rng=3, dtype=np.float64) * 4
    for shifted in (other, np.roll(other, 1, axis=0), np.roll(R, 1, axis=0), np.roll(R, 1, axis=1)):
        assert abs((R * shifted).mean()) < 5 / np.sqrt(R.size)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (([0, 0], 4), ValueError, "distinct"),
        (([-1], 4), ValueError, "negative"),
        (([], 4), ValueError, "node_ids"),
        (([0.5], 4), TypeError, "integers"),
        (([0], 0), ValueError, "n_components"),
        (([0], 2.0), TypeError, "n_components"),
    ],
)
def test_bad_input(arguments, error, text):
    with pytest.raises(error, match=text):
        projection_matrix(*arguments)


@pytest.mark.parametrize("density", [0, -0.1, 1.5, np.nan, 1e-12])
def test_bad_density(density):
    with pytest.raises(ValueError, match="density"):
        projection_matrix([0], 4, density=density)


def test_bad_options():
    with pytest.raises(ValueError, match="projection"):
        projection_matrix([0], 4, projection="normal")
    with pytest.raises(TypeError, match="rng"):
        projection_matrix([0], 4, rng="seed")
    with pytest.raises(ValueError, match="dtype"):
        projection_matrix([0], 4, dtype=np.int32)


@pytest.mark.parametrize("name", ["array_api_strict", "torch"])
def test_other_libraries_get_their_arrays(name):
    ids = load_namespace(name).asarray(np.array([3, 0, 9]))
    R = projection_matrix(ids, 8, rng=1)
    assert type(R) is type(ids)
    assert_array_equal(np.asarray(R), projection_matrix([3, 0, 9], 8, rng=1))
