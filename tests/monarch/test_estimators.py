"""MonarchRegressor: ridge regression at full rank, the weighted projection below it."""

import warnings

import numpy as np
import pytest
from matrices import gaussian, ill_conditioned
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, Ridge

from linalg_ml.monarch import MonarchRegressor, project


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 12)) @ rng.standard_normal((12, 12)) + 3
    return X, X @ rng.standard_normal((12, 18)) + rng.standard_normal((80, 18)) - 1


def fit(X, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return MonarchRegressor(**options).fit(X, y)


def objective(model, X, Y):
    residual = Y - X @ model.coef_.T - model.intercept_
    return np.linalg.norm(residual) ** 2 + model.alpha * np.linalg.norm(model.coef_) ** 2


class TestRidge:
    @pytest.mark.parametrize("fit_intercept", [False, True])
    @pytest.mark.parametrize("alpha", [1e-3, 1.0, 100.0])
    @pytest.mark.parametrize("nblocks", [None, 3, (2, 6), (1, 1), (18, 12)])
    def test_full_rank(self, data, nblocks, alpha, fit_intercept):
        X, Y = data
        expected = Ridge(alpha=alpha, fit_intercept=fit_intercept, solver="svd").fit(X, Y)
        model = MonarchRegressor(nblocks, rank=100, alpha=alpha, fit_intercept=fit_intercept).fit(X, Y)
        assert_allclose(model.coef_, expected.coef_, rtol=1e-10, atol=1e-12)
        assert_allclose(model.intercept_, expected.intercept_, rtol=1e-10, atol=1e-11)
        assert_allclose(model.predict(X), expected.predict(X), rtol=1e-10, atol=1e-11)
        assert model.score(X, Y) == pytest.approx(expected.score(X, Y), rel=1e-12)
        assert_allclose(model.loss_, objective(model, X, Y), rtol=1e-12)
        assert model.n_iter_ == 1

    def test_more_features_than_samples(self, data):
        X, Y = (part[:8] for part in data)
        expected = Ridge(alpha=0.5, solver="svd").fit(X, Y)
        model = MonarchRegressor(rank=9, alpha=0.5).fit(X, Y)
        assert_allclose(model.coef_, expected.coef_, rtol=1e-9, atol=1e-11)

    def test_no_ridge(self, data):
        X, Y = data
        expected = LinearRegression().fit(X, Y)
        model = MonarchRegressor(rank=9, alpha=0.0).fit(X, Y)
        assert_allclose(model.coef_, expected.coef_, rtol=1e-9, atol=1e-11)

    @pytest.mark.parametrize("samples", [8, 80])
    def test_no_ridge_and_dependent_features(self, data, samples):
        """The solution of least norm; also where features repeat, are constant or are zero."""
        X, Y = (part[:samples].copy() for part in data)
        X[:, 3], X[:, 5], X[:, 7] = X[:, 2], 4.0, 0.0
        expected = LinearRegression().fit(X, Y)
        model = MonarchRegressor(rank=9, alpha=0.0).fit(X, Y)
        assert_allclose(model.coef_, expected.coef_, rtol=1e-8, atol=1e-9)
        low = fit(X, Y, rank=1, alpha=0.0)
        assert np.isfinite(low.coef_).all()
        assert (np.diff(low.loss_) <= 0).all()
        assert_allclose(low.loss_[-1], objective(low, X, Y), rtol=1e-9)

    def test_constant_targets(self, data):
        """Predicted to the last bit, which the score asks for."""
        X, Y = data
        Y = Y.copy()
        Y[:, ::4] = 2.0
        model = MonarchRegressor(nblocks=3, rank=4).fit(X, Y)
        assert model.score(X, Y) == pytest.approx(Ridge(solver="svd").fit(X, Y).score(X, Y), rel=1e-12)
        assert_array_equal(model.predict(X)[:, ::4], 2.0)
        assert_array_equal(fit(X, Y, nblocks=3, fit_intercept=False).predict(0 * X), 0.0)

    def test_ill_conditioned(self):
        """The samples are never squared for the solution."""
        X = ill_conditioned(60, 12, 1e9)
        W = gaussian(12, 12, seed=1)
        model = MonarchRegressor(rank=4, alpha=0.0, fit_intercept=False).fit(X, X @ W.T)
        assert_allclose(model.coef_, W, atol=1e-5)


class TestProjection:
    def test_is_the_weighted_projection(self, data):
        X, Y = data
        model = fit(X, Y, nblocks=3, rank=2, alpha=2.0, fit_intercept=False)
        W, sigma = Ridge(alpha=2.0, fit_intercept=False, solver="svd").fit(X, Y).coef_, X.T @ X + 2 * np.eye(12)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            expected = project(W, nblocks=3, rank=2, weights=sigma)
        assert_allclose(model.coef_, expected.to_dense(), rtol=1e-8, atol=1e-10)
        assert_allclose(model.coef_operator_.weighted_error, expected.weighted_error, rtol=1e-10)
        assert_allclose(model.coef_operator_.error, np.linalg.norm(W - model.coef_), rtol=1e-9)

    @pytest.mark.parametrize("fit_intercept", [False, True])
    @pytest.mark.parametrize("rank", [1, 2])
    def test_loss(self, data, rank, fit_intercept):
        X, Y = data
        model = fit(X, Y, nblocks=3, rank=rank, fit_intercept=fit_intercept)
        assert model.loss_.shape == (model.n_iter_ + 1,)
        assert (np.diff(model.loss_) <= 0).all()
        assert_allclose(model.loss_[-1], objective(model, X, Y), rtol=1e-12)
        best = objective(Ridge(fit_intercept=fit_intercept).fit(X, Y), X, Y)
        assert_allclose(model.coef_operator_.weighted_error**2, model.loss_[-1] - best, rtol=1e-9)
        start = fit(X, Y, nblocks=3, rank=rank, fit_intercept=fit_intercept, max_iter=0)
        assert_allclose(start.loss_, model.loss_[:1], rtol=1e-13)
        assert model.loss_[-1] < 0.9 * start.loss_[0]

    def test_better_than_the_plain_projection(self):
        X = load_digits().data / 16
        X, Y = X[:, :32], X[:, 32:]
        model = fit(X, Y, nblocks=4, max_iter=5)
        plain = project(Ridge().fit(X, Y).coef_, nblocks=4).to_dense()
        centred = (X - X.mean(axis=0)), (Y - Y.mean(axis=0))
        assert model.loss_[-1] < 0.95 * np.linalg.norm(centred[1] - centred[0] @ plain.T) ** 2

    def test_recovers_monarch_coefficients(self):
        rng = np.random.default_rng(2)
        W = np.einsum("jlks,ksji->ljki", rng.standard_normal((4, 6, 3, 2)), rng.standard_normal((3, 2, 4, 5)))
        W, X = W.reshape(24, 15), rng.standard_normal((50, 15))
        model = MonarchRegressor((4, 3), rank=2, alpha=0.0).fit(X, X @ W.T + 7)
        assert_allclose(model.coef_, W, atol=1e-12)
        assert_allclose(model.intercept_, 7, atol=1e-12)
        assert model.coef_operator_.converged
        assert model.coef_operator_.relative_error < 1e-13

    def test_units_of_features(self, data):
        X, Y = data
        units = 2.0 ** np.random.default_rng(1).integers(-20, 20, 12)
        expected = fit(X, Y, nblocks=3, alpha=0.0)
        model = fit(X * units, Y, nblocks=3, alpha=0.0)
        assert_allclose(model.coef_ * units, expected.coef_, rtol=1e-5, atol=1e-7)


class TestShapes:
    def test_one_target(self, data):
        X, Y = data
        expected = Ridge(solver="svd").fit(X, Y[:, 0])
        for nblocks in (None, 3, (1, 4), 1):
            model = MonarchRegressor(nblocks).fit(X, Y[:, 0])
            assert_allclose(model.coef_, expected.coef_, rtol=1e-10)
            assert model.coef_.shape == (12,)
            assert isinstance(model.intercept_, float)
            assert model.intercept_ == pytest.approx(expected.intercept_)
            assert model.predict(X).shape == (80,)
            column = MonarchRegressor(nblocks).fit(X, Y[:, :1])
            assert_array_equal(column.coef_, model.coef_[None])
            assert column.intercept_.shape == (1,)
            assert column.predict(X).shape == (80, 1)
        with pytest.raises(ValueError, match="nblocks must be at most the number of rows, 1"):
            MonarchRegressor((3, 3)).fit(X, Y[:, 0])

    def test_default_blocks(self, data):
        X, Y = data
        assert fit(X, Y).coef_operator_.nblocks == (3, 3)
        model = fit(X[:, :11], Y[:, :13])  # primes: padded
        assert model.coef_operator_.nblocks == (4, 3)
        assert model.coef_.shape == (13, 11)
        assert_allclose(model.loss_[-1], objective(model, X[:, :11], Y[:, :13]), rtol=1e-12)
        full = MonarchRegressor(rank=4).fit(X[:, :11], Y[:, :13])
        assert_allclose(full.coef_, Ridge(solver="svd").fit(X[:, :11], Y[:, :13]).coef_, rtol=1e-10, atol=1e-12)

    def test_operator(self, data):
        X, Y = data
        model = fit(X, Y, nblocks=3, rank=2)
        assert model.coef_operator_.shape == (18, 12)
        assert (model.coef_operator_.nblocks, model.coef_operator_.rank) == ((3, 3), 2)
        assert_array_equal(model.coef_operator_.to_dense(), model.coef_)
        assert_allclose(model.predict(X), X @ model.coef_.T + model.intercept_, rtol=1e-12, atol=1e-12)
        assert MonarchRegressor(nblocks=3, rank=50).fit(X, Y).coef_operator_.rank == 4

    def test_dtypes(self, data):
        X, Y = data
        expected = fit(X, Y, nblocks=3, rank=2)
        model = fit(X.astype(np.float32), Y, nblocks=3, rank=2)
        assert model.coef_.dtype == model.intercept_.dtype == model.predict(X.astype(np.float32)).dtype == np.float32
        assert_allclose(model.predict(X.astype(np.float32)), expected.predict(X), atol=1e-2)
        integers = np.round(X).astype(int)
        assert_array_equal(fit(integers, Y).coef_, fit(integers.astype(float), Y).coef_)

    def test_data_without_variation(self):
        model = MonarchRegressor(alpha=0.0).fit(np.ones((5, 4)), np.full((5, 6), 2.0))
        assert_array_equal(model.coef_, 0)
        assert_allclose(model.predict(np.ones((1, 4))), 2)
        assert_allclose(model.loss_, 0, atol=1e-28)

    def test_no_randomness(self, data):
        X, Y = data
        assert_array_equal(fit(X, Y, random_state=0).coef_, fit(X, Y, random_state=1).coef_)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"nblocks": 5}, "nblocks must divide the shape"),
            ({"nblocks": 0}, "nblocks must be"),
            ({"nblocks": 2.5}, "nblocks must be an integer"),
            ({"rank": 0}, "rank must be an integer ≥ 1"),
            ({"alpha": -1.0}, "alpha must be a number in"),
            ({"tol": -1.0}, "tol must be a number in"),
            ({"max_iter": -1}, "max_iter must be an integer ≥ 0"),
        ],
    )
    def test_arguments(self, data, options, message):
        with pytest.raises(ValueError, match=message):
            MonarchRegressor(**options).fit(*data)

    def test_sparse(self, data):
        with pytest.raises(TypeError, match="Sparse data was passed for X, but dense data is required"):
            MonarchRegressor().fit(sparse.csr_array(data[0]), data[1])

    def test_warns(self, data):
        with pytest.warns(ConvergenceWarning, match="stopped after 1 sweeps") as caught:
            MonarchRegressor(nblocks=3, max_iter=1).fit(*data)
        assert caught[0].filename == __file__
