"""scikit-learn's checks, and ours, on every estimator that a wing exposes."""

import pickle

import numpy as np
import pytest
import sklearn
from array_api_compat import array_namespace
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import linalg_ml
from linalg_ml._core.arrays import to_numpy

# Arguments under which an estimator fits the small data of the checks (down to two features or so).
ARGUMENTS = {"SubsampledHadamardProjection": {"n_components": 2}}
# Further ways to run, each checked by scikit-learn as well.
VARIANTS = {
    "MonarchRegressor": [{"nblocks": 1}, {"alpha": 0.0, "rank": 2}],
    "SketchedLinearRegression": [{"n_sketch": 200}, {"alpha": 1.0}],
}
# Checks that an estimator is known to fail, with the reason: {"Estimator": {"check_name": "why"}}.
EXPECTED_FAILURES = {}


def estimator_classes():
    """Yield the estimators that wings name in their `__all__`."""
    for name in linalg_ml.__all__:
        wing = getattr(linalg_ml, name)
        for inner in getattr(wing, "__all__", ()):
            value = getattr(wing, inner)
            if isinstance(value, type) and issubclass(value, BaseEstimator):
                yield value


def make(cls, **variant):
    """Make an estimator, with a fixed seed where it takes one."""
    arguments = {**ARGUMENTS.get(cls.__name__, {}), **variant}
    if "random_state" in cls._get_param_names():
        arguments["random_state"] = 0
    return cls(**arguments)


CLASSES = list(estimator_classes())


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def estimator(request):
    return make(request.param)


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 12)) @ rng.standard_normal((12, 12))
    return X, X[:, 0] + 0.1 * rng.standard_normal(60)


@pytest.fixture
def data(estimator, samples):
    """Give samples, or for estimators of pairs of samples what they take: a square matrix of numbers ≥ 0."""
    X, y = samples
    return (np.abs(X @ X.T), y) if estimator.__sklearn_tags__().input_tags.pairwise else (X, y)


def answer(estimator, X):
    """Return what a fitted estimator says of X."""
    for method in ("transform", "predict"):
        if hasattr(estimator, method):
            return getattr(estimator, method)(X)
    return None


def needs_transform(estimator):
    if not hasattr(estimator, "transform"):
        pytest.skip("it has no transform")


@parametrize_with_checks(
    [make(cls, **variant) for cls in CLASSES for variant in [{}, *VARIANTS.get(cls.__name__, [])]],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES.get(type(estimator).__name__, {}),
)
def test_scikit_learn(estimator, check):
    check(estimator)


def test_tables_name_estimators_that_exist():
    assert set(EXPECTED_FAILURES) <= {cls.__name__ for cls in CLASSES}


class TestGeneral:
    def test_fit_changes_no_parameter(self, estimator, data):
        before = {name: (id(value), repr(value)) for name, value in estimator.get_params().items()}
        fitted = estimator.fit(*data)
        assert fitted is estimator
        assert {name: (id(value), repr(value)) for name, value in estimator.get_params().items()} == before

    def test_fit_changes_no_data(self, estimator, data):
        X, y = (part.copy() for part in data)
        answer(estimator.fit(X, y), X)
        assert_array_equal(X, data[0])
        assert_array_equal(y, data[1])

    def test_clone_and_refit(self, estimator, data):
        X, y = data
        first, second = answer(estimator.fit(X, y), X), answer(clone(estimator).fit(X, y), X)
        assert_array_equal(second, first)
        assert_array_equal(answer(estimator.fit(X, y), X), first)

    def test_pickle(self, estimator, data):
        X, y = data
        expected = answer(estimator.fit(X, y), X)
        assert_array_equal(answer(pickle.loads(pickle.dumps(estimator)), X), expected)

    def test_features(self, estimator, data):
        pandas = pytest.importorskip("pandas")
        X, y = data
        names = [f"x{i}" for i in range(X.shape[1])]
        estimator.fit(pandas.DataFrame(X, columns=names), y)
        assert estimator.n_features_in_ == X.shape[1]
        assert estimator.feature_names_in_.tolist() == names

    def test_fitted_attributes_end_in_an_underscore(self, estimator, data):
        estimator.fit(*data)
        new = set(vars(estimator)) - set(estimator.get_params())
        assert not {name for name in new if not name.endswith("_") and not name.startswith("_")}

    @pytest.mark.parametrize("container", ["pandas", "polars"])
    def test_set_output(self, estimator, data, container):
        needs_transform(estimator)
        frames = pytest.importorskip(container)
        X, y = data
        expected = estimator.fit(X, y).transform(X)
        framed = estimator.set_output(transform=container).transform(X)
        assert isinstance(framed, frames.DataFrame)
        assert list(framed.columns) == estimator.get_feature_names_out().tolist()
        assert_array_equal(framed.to_numpy(), expected)

    def test_names_of_outputs(self, estimator, data):
        needs_transform(estimator)
        X, y = data
        names = estimator.fit(X, y).get_feature_names_out()
        assert len(set(names)) == estimator.transform(X).shape[1]
        assert all(name.startswith(type(estimator).__name__.lower()) for name in names)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_dtypes_are_kept(self, estimator, data, dtype):
        needs_transform(estimator)
        if np.dtype(dtype).name not in estimator.__sklearn_tags__().transformer_tags.preserves_dtype:
            pytest.skip("it does not claim to")
        X, y = data
        assert estimator.fit(X.astype(dtype), y).transform(X.astype(dtype)).dtype == dtype

    def test_array_api(self, estimator, data, other_xp):
        if not estimator.__sklearn_tags__().array_api_support:
            pytest.skip("it does not claim to")
        X, y = data
        expected = answer(clone(estimator).fit(X, y), X)
        with sklearn.config_context(array_api_dispatch=True):
            there = other_xp.asarray(X)
            got = answer(estimator.fit(there, other_xp.asarray(y)), there)
        assert array_namespace(got) is array_namespace(there)
        assert_allclose(to_numpy(got), expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
