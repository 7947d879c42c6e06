"""Streaming PCA beside scikit-learn's; the generic checks are in tests/test_estimators.py."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits
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
    assert pca.components_ is first
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
    assert isinstance(Y, type(other_xp.asarray(WIDE)))
    assert_allclose(to_numpy(pca.components_), expected.components_, atol=1e-8)
    assert_allclose(to_numpy(Y), expected.transform(WIDE), atol=1e-6)
    assert_allclose(to_numpy(back), expected.inverse_transform(expected.transform(WIDE)), atol=1e-6)


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
