"""Linear and ridge regression against scikit-learn's and the textbook; see also tests/test_estimators.py."""

import itertools
import pickle

import numpy as np
import pytest
from array_api_compat import array_namespace
from matrices import gaussian
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from linalg_ml._core.arrays import to_numpy
from linalg_ml.sketching import SketchedLinearRegression

N, D = 5000, 8


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D)) + np.arange(D)
    Y = X @ rng.standard_normal((D, 3)) + [10, -5, 0] + rng.standard_normal((N, 3))
    return X, Y, rng.exponential(size=N)


def same(model, expected, tol=1e-9):
    for name in ("coef_", "intercept_"):
        wanted = np.asarray(getattr(expected, name))
        assert np.shape(getattr(model, name)) == wanted.shape
        assert_allclose(to_numpy(np.asarray(getattr(model, name))), wanted, rtol=tol, atol=tol)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0, 3, 3000])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [slice(None), 0, [0]])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.csc_matrix])
def test_is_the_regression_of_scikit_learn(data, kind, columns, weighted, alpha, fit_intercept):
    X, Y, w = data
    y, w = Y[:, columns], w if weighted else None
    reference = Ridge(alpha, solver="svd") if alpha else LinearRegression()
    expected = reference.set_params(fit_intercept=fit_intercept).fit(X, y, sample_weight=w)
    if y.ndim == 2 and expected.coef_.ndim == 1:  # Ridge, not LinearRegression, drops the axis of a single target
        expected.coef_ = expected.coef_[None, :]
        expected.intercept_ = np.atleast_1d(expected.intercept_) if fit_intercept else 0.0
    model = SketchedLinearRegression(alpha, fit_intercept=fit_intercept, random_state=0)
    assert model.fit(kind(X), y, sample_weight=w) is model
    same(model, expected)
    assert_allclose(model.predict(kind(X[:9])), expected.predict(X[:9]))
    assert_allclose(model.score(X, y), expected.score(X, y))
    assert model.rank_ == D + fit_intercept
    assert model.n_samples_seen_ == N
    assert np.max(model.backward_error_) < 2e-16


@pytest.mark.parametrize("method", ["gram", "sketch", "qr", "lsmr"])
def test_methods(data, method):
    X, Y, w = data
    X = X - np.arange(D)
    same(SketchedLinearRegression(method=method, random_state=0).fit(X, Y, w), LinearRegression().fit(X, Y, w))
    same(SketchedLinearRegression(2.0, method=method).fit(X, Y), Ridge(2.0, solver="svd").fit(X, Y))


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("shape", [(20, 50), (50, 50), (51, 50), (1, 3), (60, 50)])
def test_few_samples(shape, alpha):
    X, y = gaussian(*shape), gaussian(shape[0], 1, seed=1)[:, 0]
    reference = Ridge(alpha, solver="svd") if alpha else LinearRegression()
    for fit_intercept in (False, True) if alpha or shape[0] > shape[1] + 1 else (False,):
        expected = reference.set_params(fit_intercept=fit_intercept).fit(X, y)
        same(SketchedLinearRegression(alpha, fit_intercept=fit_intercept).fit(X, y), expected, 1e-7)


def test_collinear_features_give_the_least_coefficients(data):
    X, Y, _ = data
    X = X[:, [0, 1, 1, 2]]
    model = SketchedLinearRegression(fit_intercept=False).fit(X, Y[:, 0])
    same(model, LinearRegression(fit_intercept=False).fit(X, Y[:, 0]))
    assert model.rank_ == 3


def test_float32(data):
    X, Y, _ = data
    model = SketchedLinearRegression().fit(X.astype(np.float32), Y.astype(np.float32))
    assert model.coef_.dtype == np.float32
    same(model, LinearRegression().fit(X, Y), 1e-4)
    assert model.predict(X.astype(np.float32)).dtype == np.float32


def test_in_a_pipeline():
    X, y = load_diabetes(return_X_y=True)
    ours, theirs = (
        cross_val_score(make_pipeline(StandardScaler(), model), X, y)
        for model in (SketchedLinearRegression(1), Ridge(1))
    )
    assert_allclose(ours, theirs)


# --- standard errors ----------------------------------------------------------------------------------


def textbook(X, y, *, w=None, alpha=0.0, fit_intercept=True):
    """Return standard errors of the coefficients: of a ridge, of its random part."""
    A = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    A, y = (A, y) if w is None else (A * np.sqrt(w)[:, None], y * np.sqrt(w))
    d = A.shape[1]
    inverse = np.linalg.inv(A.T @ A + alpha * np.diag(np.r_[np.ones(X.shape[1]), np.zeros(d - X.shape[1])]))
    r = y - A @ (inverse @ A.T @ y)
    return np.sqrt(np.diag(inverse @ A.T @ A @ inverse) * (r @ r) / (len(X) - d))[: X.shape[1]]


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0, 300])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_standard_errors(data, kind, weighted, alpha, fit_intercept):
    X, Y, w = data
    w = w if weighted else None
    model = SketchedLinearRegression(alpha, fit_intercept=fit_intercept, method="qr").fit(kind(X), Y, w)
    expected = [textbook(X, y, w=w, alpha=alpha, fit_intercept=fit_intercept) for y in Y.T]
    assert_allclose(model.stderr_, expected, rtol=1e-8)
    assert_allclose(model.set_params(method="auto").fit(kind(X), Y[:, 0], w).stderr_, expected[0], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:LSMR stopped")
def test_standard_errors_that_are_not_known(data):
    X, Y, _ = data
    assert SketchedLinearRegression().fit(X[:5], Y[:5]).stderr_ is None
    assert SketchedLinearRegression(method="lsmr").fit(X, Y).stderr_ is None
    assert SketchedLinearRegression(n_sketch=D + 1).fit(X, Y).stderr_ is None


def test_standard_errors_cover_the_truth():
    rng = np.random.default_rng(3)
    X, truth = rng.standard_normal((2000, 5)), np.arange(5.0)
    model = SketchedLinearRegression()
    inside = []
    for _ in range(100):
        model.fit(X, X @ truth + 1 + 2 * rng.standard_normal(2000))
        inside.append(np.abs(model.coef_ - truth) <= 1.96 * model.stderr_)
    assert 0.92 < np.mean(inside) < 0.98


@pytest.mark.parametrize("m", [40, 400])
def test_standard_errors_of_sketches_cover_the_truth(m):
    rng = np.random.default_rng(4)
    X, truth = rng.standard_normal((2000, 5)), np.arange(5.0)
    inside, sizes, errors = [], [], []
    for seed in range(200):
        y = X @ truth + 1 + 2 * rng.standard_normal(2000)
        model = SketchedLinearRegression(n_sketch=m, random_state=seed).fit(X, y)
        inside.append(np.abs(model.coef_ - truth) <= 2 * model.stderr_)
        sizes.append(model.stderr_)
        errors.append(model.coef_ - truth)
    assert 0.92 < np.mean(inside) < 0.98
    assert_allclose(np.sqrt(np.mean(np.square(errors))), np.sqrt(np.mean(np.square(sizes))), rtol=0.1)


# --- streams ------------------------------------------------------------------------------------------


def streamed(model, X, y, cuts, w=None):
    for start, stop in itertools.pairwise(cuts):
        model.partial_fit(X[start:stop], y[start:stop], None if w is None else w[start:stop])
    return model


@pytest.mark.parametrize("cuts", [[0, N], [0, 1, 2, 4999, N], [*range(0, N, 333), N]])
@pytest.mark.parametrize("alpha", [0, 5])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_any_cut_gives_the_same(data, kind, weighted, alpha, cuts):
    X, Y, w = data
    w = w if weighted else None
    options = {"alpha": alpha, "n_sketch": 200, "random_state": 3}
    whole = SketchedLinearRegression(**options).fit(X, Y, w)
    model = streamed(SketchedLinearRegression(**options), kind(X), Y, cuts, w)
    same(model, whole)
    assert_allclose(model.stderr_, whole.stderr_)
    assert model.n_samples_seen_ == N
    assert (model.rank_, model.n_iter_, model.backward_error_) == (D + 1, 0, None)


def test_sketch_solves_its_own_regression(data):
    X, Y, _ = data
    model = SketchedLinearRegression(2.0, n_sketch=200, random_state=3).fit(X, Y)
    sums = model._sketch.sums
    D1 = np.diag(np.r_[np.full(D, 2.0), 0])
    expected = np.linalg.solve(sums[:, : D + 1].T @ sums[:, : D + 1] + D1, sums[:, : D + 1].T @ sums[:, D + 1 :])
    assert_allclose(model.coef_, expected[:D].T)
    assert_allclose(model.intercept_, expected[D] - X.mean(axis=0) @ expected[:D])
    exact = Ridge(2.0).fit(X, Y)
    assert (np.abs(model.coef_ - exact.coef_) < 5 * model.stderr_).all()


def test_fewer_samples_than_rows_of_the_sketch(data):
    X, Y, _ = data
    model = SketchedLinearRegression(n_sketch=4000, random_state=0).fit(X[:50], Y[:50])
    assert_allclose(model.coef_, LinearRegression().fit(X[:50], Y[:50]).coef_, rtol=1)
    assert np.isfinite(model.stderr_).all()


def test_fit_begins_anew(data):
    X, Y, _ = data
    model = SketchedLinearRegression(n_sketch=100, random_state=0).fit(X, Y)
    first = model.coef_
    assert_array_equal(model.fit(X, Y).coef_, first)
    assert model.n_samples_seen_ == N
    assert model.partial_fit(X[:10], Y[:10]).n_samples_seen_ == N + 10


def test_a_stream_goes_on_after_pickling(data):
    X, Y, w = data
    options = {"n_sketch": 100, "random_state": 0}
    model = streamed(SketchedLinearRegression(**options), X, Y[:, 0], [0, 700, 1000], w)
    model = pickle.loads(pickle.dumps(model))
    streamed(model, X, Y[:, 0], [1000, N], w)
    same(model, SketchedLinearRegression(**options).fit(X, Y[:, 0], w))


# --- other libraries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"alpha": 2.0}, {"n_sketch": 300}])
@pytest.mark.parametrize("columns", [0, slice(None)])
def test_array_api(data, xp, columns, options):
    X, y, w = data[0], data[1][:, columns], data[2]
    expected = SketchedLinearRegression(**options, random_state=0).fit(X, y, w)
    with config_context(array_api_dispatch=True):
        model = SketchedLinearRegression(**options, random_state=0).fit(*(xp.asarray(part) for part in (X, y, w)))
        predicted = model.predict(xp.asarray(X))
    assert array_namespace(predicted, model.coef_, model.stderr_) is xp
    assert_allclose(to_numpy(model.coef_), expected.coef_)
    assert_allclose(to_numpy(model.stderr_), expected.stderr_)
    assert_allclose(to_numpy(predicted), expected.predict(X))


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": -1}, ValueError, "alpha must be a number in \\[0,"),
        ({"alpha": "1"}, TypeError, "alpha must be"),
        ({"alpha": -1, "n_sketch": 100}, ValueError, "alpha must be"),
        (
            {"n_sketch": D},
            ValueError,
            "n_sketch must be an integer ≥ 9 \\(at least as many rows as coefficients\\), got 8",
        ),
        ({"n_sketch": 10.5}, TypeError, "n_sketch must be an integer"),
        ({"method": "svd"}, ValueError, "method must be 'auto' or"),
        ({"random_state": -1}, ValueError, "random_state must be"),
    ],
)
def test_bad_parameters(data, options, error, message):
    with pytest.raises(error, match=message):
        SketchedLinearRegression(**options).fit(*data[:2])


def test_bad_streams(data):
    X, Y, w = data
    assert not hasattr(SketchedLinearRegression(), "partial_fit")
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'"):
        SketchedLinearRegression().partial_fit(X, Y)
    model = SketchedLinearRegression(n_sketch=50, random_state=0).partial_fit(X, Y)
    with pytest.raises(ValueError, match="X has 3 features, but SketchedLinearRegression is expecting 8"):
        model.partial_fit(X[:, :3], Y)
    with pytest.raises(ValueError, match="y must have 3 targets as before, got 1"):
        model.partial_fit(X, Y[:, 0])
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(np.full((2, D), np.nan), Y[:2])
    with pytest.raises(ValueError, match="[Nn]egative"):
        model.partial_fit(X, Y, -w)
    assert model.n_samples_seen_ == N
    with pytest.raises(ValueError, match="inconsistent"):
        SketchedLinearRegression().fit(X, Y[1:])
    with pytest.raises(ValueError, match="[Cc]omplex"):
        SketchedLinearRegression().fit(X * 1j, Y)


@pytest.mark.parametrize("n_sketch", [None, 300])
@pytest.mark.parametrize(("dtype", "offset"), [(np.float32, 1e3), (np.float64, 1e8)])
def test_samples_far_from_zero(dtype, offset, n_sketch):
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((600, 3)) + offset).astype(dtype)
    y = ((X.astype(np.float64) - offset) @ [1.0, 2.0, 3.0] + 0.1 * rng.standard_normal(600)).astype(dtype)
    model = SketchedLinearRegression(n_sketch=n_sketch, random_state=0).fit(X, y)
    assert_allclose(model.coef_, [1, 2, 3], atol=0.05)
    assert model.rank_ == 4


def test_few_samples_as_scikit_learn():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 50)), rng.standard_normal(20)
    model, expected = SketchedLinearRegression().fit(X, y), LinearRegression().fit(X, y)
    assert_allclose(model.coef_, expected.coef_, atol=1e-10)
    assert_allclose(model.intercept_, expected.intercept_, atol=1e-10)


def test_refused_samples_change_nothing():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, 3)), rng.standard_normal(600)
    model = SketchedLinearRegression(n_sketch=50, random_state=0).partial_fit(X, y)
    before = model._sketch.sums.copy()
    for change in ({"alpha": -1}, {"fit_intercept": False}, {"method": "magic"}):
        with pytest.raises(ValueError, match=next(iter(change))):
            clone_state(model).set_params(**change).partial_fit(X, y)
    assert_array_equal(model._sketch.sums, before)
    assert model._sketch.n_rows == 600


def clone_state(model):
    return pickle.loads(pickle.dumps(model))


def test_samples_of_no_weight_count_for_nothing():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, 3)), rng.standard_normal(600)
    weights = np.r_[np.ones(100), np.zeros(500)]
    for n_sketch in (None, 20_000):
        model = SketchedLinearRegression(n_sketch=n_sketch, random_state=0)
        alone = model.fit(X[:100], y[:100]).stderr_
        assert_allclose(model.fit(X, y, sample_weight=weights).stderr_, alone, rtol=0.05)
