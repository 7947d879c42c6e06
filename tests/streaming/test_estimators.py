"""Streaming PCA beside scikit-learn's; the generic checks are in tests/test_estimators.py."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas import DataFrame
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from streaming.streams import exact, heavy, spiked

from linalg_ml._core.arrays import to_numpy
from linalg_ml.streaming import StreamingPCA, TopEigenvector, TopEigenvectorStream

X = load_digits().data  # 64 features: 'auto' is exact
WIDE = spiked(2500, 250, 20, 7, np.float64) + 3  # more: it is not


def aligned(V, W):
    """Return rows of V with the signs of those of W."""
    return V * np.sign((V * W).sum(axis=1))[:, None]


# --- beside scikit-learn ----------------------------------------------------------------------------------


@pytest.mark.parametrize("whiten", [False, True])
def test_is_pca_where_it_is_exact(whiten):
    expected = PCA(5, svd_solver="full", whiten=whiten).fit(X)
    pca = StreamingPCA(5, whiten=whiten, random_state=0).fit(X)
    assert_allclose(aligned(pca.components_, expected.components_), expected.components_, atol=1e-9)
    for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_", "noise_variance_"):
        assert_allclose(getattr(pca, name), getattr(expected, name), rtol=1e-9, atol=1e-12)
    assert (pca.n_components_, pca.n_samples_seen_, pca.n_features_in_) == (5, 1797, 64)
    signs = np.sign((pca.components_ * expected.components_).sum(axis=1))
    coordinates = pca.transform(X)
    assert_allclose(coordinates * signs, expected.transform(X), atol=1e-8)
    assert_allclose(pca.inverse_transform(coordinates), expected.inverse_transform(expected.transform(X)), atol=1e-8)
    if whiten:
        assert_allclose(coordinates.var(axis=0, ddof=1), 1)


@pytest.mark.parametrize("whiten", [False, True])
def test_is_nearly_pca_where_it_is_not(whiten):
    expected = PCA(1, svd_solver="full", whiten=whiten).fit(WIDE)
    pca = StreamingPCA(1, whiten=whiten, random_state=0).fit(WIDE)
    err = exact(WIDE, center=True).err(pca.components_[0])
    assert err <= pca.error_ <= 0.01
    assert_allclose(pca.mean_, WIDE.mean(axis=0))
    assert_allclose(pca.explained_variance_, expected.explained_variance_, rtol=0.02)
    assert_allclose(pca.explained_variance_ratio_, expected.explained_variance_ratio_, rtol=0.02)
    assert_allclose(pca.noise_variance_, expected.noise_variance_, rtol=0.02)
    Y = pca.transform(WIDE)
    assert_allclose(pca.transform(pca.inverse_transform(Y)), Y, atol=1e-9)


def test_better_than_incremental_pca():
    rows = spiked(20000, 250, 4, 3)
    truth = exact(rows, center=True)
    ours = truth.err(StreamingPCA(random_state=0).fit(rows).components_[0])
    theirs = truth.err(IncrementalPCA(1).fit(rows).components_[0])
    assert ours <= theirs / 3


def test_in_place_of_incremental_pca():
    ours, theirs = StreamingPCA(4, random_state=0), IncrementalPCA(4)
    for part in np.array_split(X, 7):
        ours.partial_fit(part)
        theirs.partial_fit(part)
    assert_allclose(ours.transform(X).shape, theirs.transform(X).shape)
    assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=0.05)
    assert ours.n_samples_seen_ == theirs.n_samples_seen_
    assert_allclose(ours.mean_, theirs.mean_)


@pytest.mark.parametrize("whiten", [False, True])
def test_covariance_and_precision(whiten):
    iris = load_iris().data
    for rows, k in ((X, 5), (iris, 1), (iris, 3), (iris, 4)):
        expected, pca = PCA(k, svd_solver="full").fit(rows), StreamingPCA(k, whiten=whiten, random_state=0).fit(rows)
        covariance, precision = pca.get_covariance(), pca.get_precision()
        assert_allclose(covariance, expected.get_covariance(), atol=1e-10)
        assert_allclose(precision, expected.get_precision(), rtol=1e-8, atol=1e-10)
        assert_allclose(covariance @ precision, np.eye(rows.shape[1]), atol=1e-10)
    assert_allclose(covariance, np.cov(iris.T))
    scaled = StreamingPCA(2, whiten=whiten, random_state=0).fit(np.ldexp(iris, 300))
    plain = StreamingPCA(2, whiten=whiten, random_state=0).fit(iris)
    assert_allclose(np.ldexp(scaled.get_covariance(), -600), plain.get_covariance())
    assert_allclose(np.ldexp(scaled.get_precision(), 600), plain.get_precision())
    narrow = StreamingPCA(2, random_state=0).fit(iris.astype(np.float32))
    assert narrow.get_covariance().dtype == narrow.get_precision().dtype == np.float32
    thin = StreamingPCA(2, random_state=0).fit(sparse.csr_array(iris))
    assert_allclose(thin.get_covariance(), plain.get_covariance())


def test_no_precision_where_there_is_no_variance():
    flat = np.random.default_rng(0).standard_normal((500, 3)) @ np.random.default_rng(1).standard_normal((3, 10))
    for k in (3, 7, 10):
        pca = StreamingPCA(k, random_state=0).fit(flat)
        assert_allclose(pca.get_covariance(), np.cov(flat.T), atol=1e-12)
        with pytest.raises(np.linalg.LinAlgError, match="no variance"):
            pca.get_precision()


# --- portions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [X, WIDE], ids=["exact", "subspace"])
def test_portions_do_not_matter(rows):
    whole = StreamingPCA(2, random_state=0).fit(rows)
    for size in (1, 7, 128, 1000):
        pca = StreamingPCA(2, random_state=0)
        for start in range(0, len(rows), size):
            assert pca.partial_fit(rows[start : start + size]) is pca
        assert_array_equal(pca.components_, whole.components_)
        assert_array_equal(pca.explained_variance_, whole.explained_variance_)
        assert_array_equal(pca.mean_, whole.mean_)
        assert pca.error_ == whole.error_
        assert pca.n_samples_seen_ == len(rows)


def test_one_row_first():
    pca = StreamingPCA(2, random_state=0).partial_fit(X[:1])
    with pytest.warns(RuntimeWarning, match="no direction stands out"):
        V = pca.components_
    assert V.shape == (2, 64)
    for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_", "noise_variance_"):
        assert np.isfinite(getattr(pca, name)).all()
    assert_allclose(pca.mean_, X[0])
    assert_allclose(pca.transform(X[:1]), 0)
    pca.partial_fit(X[1:])
    assert_allclose(pca.explained_variance_, PCA(2).fit(X).explained_variance_)


def test_attributes_follow_the_rows():
    pca = StreamingPCA(1, random_state=0).partial_fit(WIDE[:1000])
    first = pca.components_
    pca.partial_fit(WIDE[1000:])
    assert not np.array_equal(pca.components_, first)
    pca.fit(WIDE[:1000])
    assert_array_equal(pca.components_, first)
    assert pca.n_samples_seen_ == 1000


@pytest.mark.parametrize("n", [1, 5, 1000])
def test_as_many_components_as_the_first_portion_allows(n):
    pca = StreamingPCA(None, random_state=0).partial_fit(X[:n]).partial_fit(X[n:])
    assert pca.n_components_ == min(n, 64)
    assert pca.components_.shape == (min(n, 64), 64)
    assert pca.get_feature_names_out().shape == (min(n, 64),)


def test_uncentred():
    pca = StreamingPCA(1, center=False, random_state=0).fit(WIDE)
    top = TopEigenvector(random_state=0).fit(WIDE)
    assert_array_equal(pca.mean_, np.zeros(250))
    assert_array_equal(top.eigenvector_, pca.components_[0])
    assert_array_equal(top.components_, pca.components_)
    assert_array_equal(top.transform(WIDE), pca.transform(WIDE))
    truth = exact(WIDE)
    assert truth.err(top.eigenvector_) <= top.error_
    assert_allclose(top.eigenvalue_, truth.values[0], rtol=0.01)
    assert top.n_samples_seen_ == 2500


def test_settings_reach_the_stream():
    settings = {"method": "subspace", "n_oversamples": 2, "block_size": 64, "max_heavy": 9, "order": "arbitrary"}
    pca = StreamingPCA(1, center=True, random_state=3, **settings).fit(WIDE)
    stream = TopEigenvectorStream(center=True, rng=3, **settings).update(WIDE)
    assert_array_equal(pca.components_, stream.result().components)
    drift = StreamingPCA(1, forget=0.5, random_state=0).fit(np.vstack([WIDE, WIDE[:, ::-1]]))
    assert exact(WIDE[:, ::-1], center=True).err(drift.components_[0]) < 0.1


def test_heavy_rows_are_named():
    rows = heavy(6000, 250, 2, 30, 4)
    norms = np.linalg.norm(rows, axis=1)
    top = TopEigenvector(random_state=0).fit(rows)
    assert_array_equal(top.heavy_indices_, np.sort(np.argsort(norms)[-30:]))


# --- weights, sparse rows, dtypes, libraries ----------------------------------------------------------------


def test_weights():
    weights = np.random.default_rng(0).integers(0, 4, 1797)
    weighted = StreamingPCA(3, random_state=0).fit(X, sample_weight=weights)
    repeated = StreamingPCA(3, random_state=0).fit(np.repeat(X, weights, axis=0))
    assert_allclose(aligned(weighted.components_, repeated.components_), repeated.components_, atol=1e-8)
    assert_allclose(weighted.singular_values_, repeated.singular_values_)
    assert_allclose(weighted.mean_, repeated.mean_)
    with pytest.raises(ValueError, match="zero"):
        StreamingPCA().fit(X, sample_weight=np.zeros(1797))


@pytest.mark.parametrize("rows", [X, WIDE], ids=["exact", "subspace"])
def test_equal_weights_are_none(rows):
    plain = StreamingPCA(2, whiten=True, random_state=0).fit(rows)
    for weight in (100, 1e-3):
        pca = StreamingPCA(2, whiten=True, random_state=0).fit(rows, sample_weight=np.full(len(rows), weight))
        for name in ("explained_variance_", "explained_variance_ratio_", "noise_variance_", "mean_"):
            assert_allclose(getattr(pca, name), getattr(plain, name), rtol=1e-9)
        assert_allclose(pca.get_covariance(), plain.get_covariance(), atol=1e-9)
        assert_allclose(pca.singular_values_, np.sqrt(weight) * plain.singular_values_)
        assert_allclose(pca.transform(rows), plain.transform(rows), atol=1e-7)


@pytest.mark.parametrize("d", [4, 250])
def test_variance_under_forgetting(d):
    rows = np.random.default_rng(0).standard_normal((20000, d)) * np.append(3, np.ones(d - 1))
    pca = StreamingPCA(1, forget=0.9, whiten=True, random_state=0).fit(rows)
    assert_allclose(pca.explained_variance_, 9, rtol=0.2)
    assert_allclose(pca.noise_variance_, 1, rtol=0.1)
    assert_allclose(pca.transform(rows).std(), 1, rtol=0.1)
    assert_allclose(pca.explained_variance_ratio_, 9 / (8 + d), rtol=0.2)


def test_portions_without_weight():
    pca, other = (StreamingPCA(2, random_state=0).partial_fit(X[:900]) for _ in range(2))
    assert pca.partial_fit(X[900:], sample_weight=np.zeros(897)) is pca
    assert pca.n_samples_seen_ == 1797
    assert_allclose(pca.components_, other.components_, atol=1e-12)
    assert_allclose(pca.mean_, other.mean_)
    first = StreamingPCA(2, random_state=0)
    for rows, weights in ((X[:9], np.zeros(9)), (X[:9], np.ones(3)), (X[:9], -np.ones(9))):
        with pytest.raises(ValueError, match="weight"):
            first.partial_fit(rows, sample_weight=weights)
    with pytest.raises(NotFittedError):
        first.transform(X)
    assert first.partial_fit(WIDE[:7]).n_features_in_ == 250  # of another width: nothing was seen before


@pytest.mark.parametrize("rows", [X, WIDE], ids=["exact", "subspace"])
@pytest.mark.parametrize("exponent", [-900, -600, -350, 350, 600, 900])
def test_data_of_extreme_scale(rows, exponent):
    plain = StreamingPCA(2, whiten=True, random_state=0).fit(rows)
    pca = StreamingPCA(2, whiten=True, random_state=0).fit(np.ldexp(rows, exponent))
    assert_array_equal(pca.components_, plain.components_)
    assert_array_equal(pca.explained_variance_ratio_, plain.explained_variance_ratio_)
    for name, power in (("mean_", 1), ("singular_values_", 1), ("explained_variance_", 2), ("noise_variance_", 2)):
        with np.errstate(over="ignore", under="ignore"):
            assert_array_equal(getattr(pca, name), np.ldexp(getattr(plain, name), power * exponent))
    Y = pca.transform(np.ldexp(rows, exponent))
    assert_allclose(Y, plain.transform(rows), atol=1e-8)
    assert_allclose(np.ldexp(pca.inverse_transform(Y), -exponent), plain.inverse_transform(Y), atol=1e-8)


@pytest.mark.parametrize("rows", [X, WIDE], ids=["exact", "subspace"])
def test_sparse(rows):
    rows = np.where(rows > 3, rows, 0)
    dense, thin = (StreamingPCA(2, random_state=0).fit(convert(rows)) for convert in (np.asarray, sparse.csr_array))
    assert_allclose(thin.components_, dense.components_, atol=1e-7)
    assert_allclose(thin.mean_, dense.mean_)
    assert_allclose(thin.transform(sparse.csr_array(rows)), dense.transform(rows), atol=1e-5)
    assert_allclose(thin.transform(rows), dense.transform(rows), atol=1e-5)


def test_dtypes():
    pca = StreamingPCA(2, random_state=0).fit(WIDE.astype(np.float32))
    assert pca.components_.dtype == pca.mean_.dtype == pca.transform(WIDE.astype(np.float32)).dtype == np.float32
    assert StreamingPCA(2).fit((10 * X).astype(int)).components_.dtype == np.float64


def test_other_namespaces(other_xp):
    expected = StreamingPCA(2, whiten=True, random_state=0).fit(WIDE)
    with config_context(array_api_dispatch=True):
        pca = StreamingPCA(2, whiten=True, random_state=0).fit(other_xp.asarray(WIDE))
        Y = pca.transform(other_xp.asarray(WIDE))
        back = pca.inverse_transform(Y)
        covariance, precision = pca.get_covariance(), pca.get_precision()
        for ask in (pca.transform, pca.inverse_transform):
            with pytest.raises(ValueError, match=r"must use the same namespace"):
                ask(WIDE)
    assert isinstance(Y, type(other_xp.asarray(WIDE)))
    assert type(covariance) is type(precision) is type(Y)
    assert_allclose(to_numpy(covariance), expected.get_covariance(), atol=1e-8)
    assert_allclose(to_numpy(precision), expected.get_precision(), atol=1e-8)
    pca.components_[0, :] = 0
    pca.mean_[0] = 1e9
    assert_allclose(to_numpy(pca.components_), expected.components_, atol=1e-8)
    assert_allclose(to_numpy(pca.mean_), expected.mean_)
    assert_allclose(to_numpy(pca.components_), expected.components_, atol=1e-8)
    assert_allclose(to_numpy(Y), expected.transform(WIDE), atol=1e-6)
    assert_allclose(to_numpy(back), expected.inverse_transform(expected.transform(WIDE)), atol=1e-6)


@pytest.mark.parametrize("whiten", [False, True])
def test_coordinates_of_any_kind(whiten):
    pca = StreamingPCA(2, whiten=whiten, random_state=0).fit(X)
    Y = pca.transform(X)
    rows = pca.inverse_transform(Y)
    for convert in (sparse.csr_array, sparse.csc_matrix, DataFrame, np.ndarray.tolist, np.asfortranarray):
        assert_allclose(pca.inverse_transform(convert(Y)), rows, atol=1e-9)
    assert pca.inverse_transform(Y.astype(np.float32)).dtype == np.float32
    assert pca.inverse_transform(np.ones((3, 2), int)).dtype == np.float64


def test_coordinates_that_are_refused():
    for estimator, width in ((StreamingPCA(2, random_state=0), 2), (TopEigenvector(random_state=0), 1)):
        estimator.fit(X)
        wrong = {
            "NaN": np.full((3, width), np.nan),
            "infinity": np.full((3, width), np.inf),
            f"{width} components": np.ones((3, width + 1)),
            "2D array": np.ones(width),
            "Complex": np.ones((3, width), complex),
            "minimum of 1": np.ones((0, width)),
        }
        for match, Y in wrong.items():
            with pytest.raises(ValueError, match=match):
                estimator.inverse_transform(Y)
        with pytest.raises(NotFittedError):
            clone(estimator).inverse_transform(np.ones((3, width)))


def test_inverse_of_the_leading_direction():
    top = TopEigenvector(random_state=0).fit(X)
    assert_allclose(top.inverse_transform(top.transform(X)), X @ np.outer(top.eigenvector_, top.eigenvector_))


# --- as an estimator ----------------------------------------------------------------------------------------


def test_merge():
    parts = [StreamingPCA(2, random_state=i).fit(part) for i, part in enumerate(np.array_split(X, 3))]
    before = pickle.dumps(parts[1])
    assert parts[0].merge(parts[1]) is parts[0]
    assert pickle.dumps(parts[1]) == before
    merged = parts[0].merge(parts[2])
    assert merged.n_samples_seen_ == 1797
    assert_allclose(merged.explained_variance_, PCA(2).fit(X).explained_variance_)
    with pytest.raises(TypeError, match="StreamingPCA"):
        merged.merge(TopEigenvector().fit(X))
    with pytest.raises(ValueError, match="same settings"):
        merged.merge(StreamingPCA(3).fit(X))
    with pytest.raises(NotFittedError):
        merged.merge(StreamingPCA(2))


def test_names_and_output():
    frame = load_digits(as_frame=True).data
    pca = StreamingPCA(3, random_state=0).set_output(transform="pandas")
    out = make_pipeline(pca).fit_transform(frame)
    assert list(out.columns) == ["streamingpca0", "streamingpca1", "streamingpca2"]
    assert list(pca.feature_names_in_) == list(frame.columns)
    pca.partial_fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        pca.partial_fit(frame.rename(columns=lambda name: name + "x"))
    assert list(TopEigenvector().fit(frame).get_feature_names_out()) == ["topeigenvector0"]


@pytest.mark.parametrize("rows", [X, WIDE], ids=["exact", "subspace"])
def test_pickle_and_clone(rows):
    pca = StreamingPCA(2, random_state=0).partial_fit(rows[:700])
    other = pickle.loads(pickle.dumps(pca))
    for each in (pca, other):
        each.partial_fit(rows[700:])
    assert_array_equal(other.components_, pca.components_)
    fresh = clone(pca)
    with pytest.raises(NotFittedError):
        fresh.transform(rows)
    assert_array_equal(fresh.fit(rows).components_, pca.components_)


@pytest.mark.parametrize("name", ["components_", "mean_", "heavy_indices_", "explained_variance_", "singular_values_"])
def test_attributes_are_the_callers(name):
    pca, other = (StreamingPCA(2, method="subspace", whiten=True, random_state=0).fit(WIDE) for _ in range(2))
    getattr(pca, name)[:] = 0
    assert_array_equal(getattr(pca, name), getattr(other, name))
    assert_array_equal(pca.transform(WIDE), other.transform(WIDE))


def test_eigenvector_is_the_callers():
    top = TopEigenvector(random_state=0).fit(WIDE)
    top.eigenvector_[:] = 0
    assert_allclose(np.linalg.norm(top.eigenvector_), 1)


def test_changed_settings_are_refused():
    for name, was, now in (("n_components", 2, 5), ("method", "auto", "oja"), ("forget", 1.0, 0.5), ("center", 1, 0)):
        pca = StreamingPCA(**{"n_components": 2, "center": 1, "random_state": 0, name: was}).partial_fit(X[:900])
        other = clone(pca).fit(X[900:])
        pca.set_params(**{name: now})
        for rows in (X[900:], X[900:901]):  # the short way, too
            with pytest.raises(ValueError, match=f"{name} was {was!r} .* is {now!r} now"):
                pca.partial_fit(rows)
        with pytest.raises(ValueError, match=name):
            pca.merge(other)
        with pytest.raises(ValueError, match=name):
            other.merge(pca)
        assert pca.n_samples_seen_ == 900
        pca.set_params(**{name: was}).partial_fit(X[900:])
        assert pca.n_samples_seen_ == 1797
    pca.set_params(n_components=3, center=True).fit(X)
    assert pca.n_components_ == 3
    top = TopEigenvector(random_state=np.random.default_rng(0)).partial_fit(X[:9]).partial_fit(X[9:])
    top = pickle.loads(pickle.dumps(top)).partial_fit(X)  # its generator is another object, but the same
    with pytest.raises(ValueError, match="block_size was 128"):
        top.set_params(block_size=64).partial_fit(X)


def test_whitening_may_be_changed():
    pca = StreamingPCA(2, random_state=0).partial_fit(X[:900])
    whitened = pca.set_params(whiten=True).partial_fit(X[900:]).transform(X)
    assert_allclose(whitened.std(axis=0, ddof=1), 1)


def test_not_fitted():
    for estimator in (StreamingPCA(), TopEigenvector()):
        for ask in (lambda e: e.transform(X), lambda e: e.components_, lambda e: e.error_, lambda e: e.heavy_indices_):
            with pytest.raises(NotFittedError):
                ask(estimator)
        assert not hasattr(estimator, "n_samples_seen_")


def bad(row, value=np.nan):
    rows = X.copy()
    rows[row, 3] = value
    return rows


def test_refused_rows_change_nothing():
    pca = StreamingPCA(2, random_state=0).partial_fit(X[:900])
    before = pickle.dumps(pca)
    for rows, match in ((bad(5), "row 905"), (bad(1796, np.inf), "row 2696"), (X[:, :10], "64 features")):
        with pytest.raises(ValueError, match=match):
            pca.partial_fit(rows)
    with pytest.raises(ValueError, match="row 905"):
        pca.partial_fit(bad(5)[:20])
    assert pca.n_samples_seen_ == 900
    other = pickle.loads(before)
    for each in (pca, other):
        each.partial_fit(X[900:])
    assert_array_equal(pca.components_, other.components_)


def test_refused_first_portion():
    pca = StreamingPCA(None, random_state=0)
    with pytest.raises(ValueError, match="row 5"):
        pca.partial_fit(bad(5))
    with pytest.raises(NotFittedError):
        pca.components_  # noqa: B018
    pca.partial_fit(WIDE[:7])  # of another width, and another number of components
    assert (pca.n_features_in_, pca.n_components_, pca.n_samples_seen_) == (250, 7, 7)


def test_refused_fit_does_not_answer_for_other_rows():
    pca = StreamingPCA(2, random_state=0).fit(X)
    assert pca.components_.shape == (2, 64)
    with pytest.raises(ValueError, match="row 5"):
        pca.fit(bad(5))
    with pytest.raises(NotFittedError):
        pca.components_  # noqa: B018


@pytest.mark.parametrize(
    "settings", [{"n_components": 65}, {"n_components": 0}, {"forget": 2}, {"block_size": 0}, {"method": "x"}]
)
def test_settings_that_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        StreamingPCA(**settings).fit(X)
