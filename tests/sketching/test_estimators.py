"""The random projection as a scikit-learn transformer; the generic checks are in tests/test_estimators.py."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.spatial.distance import pdist
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from linalg_ml.sketching import SRHT, SubsampledHadamardProjection


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).standard_normal((50, 300))


def test_is_the_sketch_of_the_features(X):
    projection = SubsampledHadamardProjection(n_components=40, random_state=5)
    Z = projection.fit_transform(X)
    S = SRHT(300, 40, rng=5)
    assert_allclose(Z, X @ S.to_dense().T, atol=1e-12)
    assert_allclose(projection.components_, S.to_dense())
    assert_allclose(projection.transform(sparse.csr_array(X)), Z, atol=1e-12)
    assert projection.transform(X.astype(np.float32)).dtype == np.float32
    assert_array_equal(
        projection.get_feature_names_out()[:2], ["subsampledhadamardprojection0", "subsampledhadamardprojection1"]
    )


def test_keeps_distances():
    X = np.random.default_rng(1).standard_normal((40, 5000))
    projection = SubsampledHadamardProjection(eps=0.3, random_state=0).fit(X)
    ratio = pdist(projection.transform(X)) ** 2 / pdist(X) ** 2
    assert 100 < projection.n_components_ < 5000
    assert ratio.min() > 0.7
    assert ratio.max() < 1.3


def test_inverse_gives_what_projects_to_the_same(X):
    projection = SubsampledHadamardProjection(n_components=40, random_state=5)
    Z = projection.fit_transform(X)
    back = projection.inverse_transform(Z)
    assert_allclose(projection.transform(back), Z, atol=1e-10)
    assert np.linalg.norm(back) <= np.linalg.norm(X)
    with pytest.raises(ValueError, match="X must have 40 features"):
        projection.inverse_transform(Z[:, :3])


def test_in_a_pipeline_with_names():
    frame = load_digits(as_frame=True).data
    pipeline = make_pipeline(StandardScaler(), SubsampledHadamardProjection(8, random_state=0)).set_output(
        transform="pandas"
    )
    assert pipeline.fit_transform(frame).columns[7] == "subsampledhadamardprojection7"


def test_array_api(X, xp):
    if xp.__name__.endswith("numpy"):
        pytest.skip("NumPy is what the others are held against")
    projection = SubsampledHadamardProjection(n_components=40, random_state=5)
    expected = projection.fit_transform(X)
    with config_context(array_api_dispatch=True):
        Z = projection.fit_transform(xp.asarray(X))
        back = projection.inverse_transform(Z)
    assert type(Z) is type(back) is type(xp.asarray(X))
    assert_allclose(np.asarray(Z), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 301}, "n_components must be from 1 to n_features=300; got n_components=301"),
        ({"n_components": 0}, "n_components must be an integer ≥ 1"),
        ({"n_components": "all"}, "n_components must be an integer ≥ 1 or 'auto', got 'all'"),
        ({}, "n_components='auto' asks for .* at eps=0.1"),
        ({"eps": 1.5}, "eps must be a number in"),
        ({"n_components": 3, "random_state": -1}, "random_state must be"),
    ],
)
def test_bad_parameters(X, options, message):
    with pytest.raises(ValueError, match=message):
        SubsampledHadamardProjection(**options).fit(X)
