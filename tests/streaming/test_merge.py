"""Merging: shards of a stream in any tree, of any offset, scale and dtype."""

import functools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from streaming.streams import exact, heavy, powerspec, spiked, state

from linalg_ml.streaming import TopEigenvectorStream

MERGEABLE = ["subspace", "frequent-directions", "exact"]


def shards(X, K, **settings):
    return [TopEigenvectorStream(**settings, rng=i).update(X[i::K]) for i in range(K)]


def tree(streams):
    while len(streams) > 1:
        streams = [a.merge(b) for a, b in zip(streams[::2], streams[1::2], strict=True)]
    return streams[0]


@pytest.mark.slow
def test_eight_shards():
    X = spiked(48000, 400, 4, 21)
    truth, result = exact(X), tree(shards(X, 8)).result()
    err = truth.err(result.vector)
    assert err <= 6e-4
    assert err <= result.error
    assert result.n_rows == 48000


@pytest.mark.parametrize("K", [2, 8])
@pytest.mark.parametrize("center", [False, True])
def test_error_grows_with_the_number(K, center):
    X = spiked(16000, 250, 4, 21) + np.float32(10 * center)
    truth = exact(X, center=center)
    settings = {"method": "subspace", "center": center}
    single = truth.err(TopEigenvectorStream(**settings, rng=0).update(X).result().vector)
    result = tree(shards(X, K, **settings)).result()
    err = truth.err(result.vector)
    assert err <= 2 * K * single + K * 1e-9
    assert err <= result.error
    assert abs(result.value - truth.values[0]) <= result.value_relative_error * result.value
    assert_allclose(result.frobenius_sq, truth.values.sum(), rtol=1e-4)


@pytest.mark.filterwarnings("ignore:all rows kept aside")
def test_estimate_covers():
    for seed in range(4):
        for X in (spiked(8000, 250, 3, seed), heavy(8000, 250, 2, 40, seed), powerspec(8000, 250, 1, seed)):
            truth = exact(X)
            for K in (2, 4):
                result = tree(shards(X, K, method="subspace")).result()
                assert truth.err(result.vector) <= result.error


@pytest.mark.parametrize("method", MERGEABLE)
@pytest.mark.parametrize("center", [False, True])
def test_exact_sums(method, center):
    X = spiked(3000, 250, 8, 2, np.float64) + 100
    parts = [X[:40], X[40:1000], X[1000:1001], X[1001:1500] - 300, X[1500:]]
    whole = np.vstack(parts)
    truth = exact(whole, center=center)
    streams = [TopEigenvectorStream(method=method, center=center, rng=0).update(part) for part in parts]
    result = functools.reduce(TopEigenvectorStream.merge, streams).result()
    assert_allclose(result.frobenius_sq, truth.values.sum(), rtol=1e-10)
    assert result.n_rows == whole.shape[0]
    if center:
        assert_allclose(result.mean, whole.mean(axis=0), rtol=1e-11)
    assert truth.err(result.vector) <= max(result.error, 1e-20)
    if method == "exact":
        assert truth.err(result.vector) <= 1e-18


@pytest.mark.parametrize("center", [False, True])
def test_heaps_join(center):
    X = heavy(8000, 250, 2, 40, 5) + np.float32(1000 * center)
    a = TopEigenvectorStream(method="subspace", center=center, rng=0).update(X[:3000])
    b = TopEigenvectorStream(method="subspace", center=center, rng=0).update(X[3000:])
    result = a.merge(b).result()
    norms = np.linalg.norm(X.astype(np.float64) - center * X.mean(axis=0, dtype=np.float64), axis=1)
    assert_array_equal(result.heavy_indices, np.sort(np.argsort(norms)[-40:]))
    assert exact(X, center=center).err(result.vector) <= result.error


@pytest.mark.parametrize("method", MERGEABLE)
def test_with_an_empty_stream(method):
    X = spiked(900, 250, 8, 2)
    full = TopEigenvectorStream(method=method, rng=0).update(X)
    expected = full.result()
    for empty in (TopEigenvectorStream(method=method, rng=1), TopEigenvectorStream(250, method=method, rng=1)):
        assert_array_equal(full.copy().merge(empty).result().vector, expected.vector)
        result = empty.merge(full).result()
        assert_array_equal(result.vector, expected.vector)
        assert (result.value, result.error, result.n_rows) == (expected.value, expected.error, 900)
        empty.update(X)
        assert empty.n_rows == 1800
        assert full.n_rows == 900


@pytest.mark.parametrize("method", MERGEABLE)
def test_other_is_untouched_and_streams_go_on(method):
    X = spiked(5000, 250, 8, 2, np.float64)
    a = TopEigenvectorStream(method=method, center=True, rng=0).update(X[:1500])
    b = TopEigenvectorStream(method=method, center=True, rng=0).update(X[1500:3000])
    before = state(b)
    assert a.merge(b) is a
    assert state(b) == before
    result = a.update(X[3000:]).result()
    truth = exact(X, center=True)
    assert result.n_rows == 5000
    assert_allclose(result.frobenius_sq, truth.values.sum(), rtol=1e-10)
    assert truth.err(result.vector) <= max(result.error, 1e-20)


@pytest.mark.parametrize("method", MERGEABLE)
@pytest.mark.parametrize(("first", "second"), [(0, 300), (300, 0), (-300, 300)])
def test_scales(method, first, second):
    X = spiked(3000, 250, 8, 2, np.float64)
    a = TopEigenvectorStream(method=method, center=True, rng=0).update(np.ldexp(X[:1000], first))
    b = TopEigenvectorStream(method=method, center=True, rng=0).update(np.ldexp(X[1000:], second))
    result = a.merge(b).result()
    larger = X[:1000] if first > second else X[1000:]
    truth = exact(np.vstack([larger, np.zeros((3000 - larger.shape[0], 250))]), center=True)
    assert truth.err(result.vector) <= max(result.error, 0.01)
    assert_allclose(np.ldexp(result.frobenius_sq, -2 * max(first, second)), truth.values.sum(), rtol=1e-10)


def test_dtypes_may_differ():
    X = spiked(4000, 250, 8, 2)
    a = TopEigenvectorStream(rng=0).update(X[:2000])
    b = TopEigenvectorStream(rng=0).update(X[2000:].astype(np.float64))
    for first, second in ((a, b), (b, a)):
        result = first.copy().merge(second).result()
        assert exact(X).err(result.vector) <= result.error
        assert result.vector.dtype == first.result().vector.dtype
        more = first.copy().merge(second).update(X[:3000]).update(X[3000:].astype(np.float64))
        assert exact(np.concatenate([X, X])).err(more.result().vector) <= more.result().error


@pytest.mark.filterwarnings("ignore:the leading direction")
@pytest.mark.parametrize("method", MERGEABLE)
def test_sparse_shards(method):
    X = np.where(np.random.default_rng(0).random((3000, 250)) < 0.1, spiked(3000, 250, 8, 2, np.float64), 0)
    X[:, 0] += 1
    convert = {"sparse": sparse.csr_array, "dense": np.asarray}
    found = {}
    for kind in convert:
        streams = [
            TopEigenvectorStream(method=method, center=True, rng=0).update(convert[kind](part))
            for part in np.split(X, [500, 1700])
        ]
        found[kind] = streams[0].merge(streams[1]).merge(streams[2]).result()
    assert_allclose(found["sparse"].vector, found["dense"].vector, atol=1e-7)
    assert_allclose(found["sparse"].frobenius_sq, found["dense"].frobenius_sq, rtol=1e-10)
    mixed = TopEigenvectorStream(method=method, center=True, rng=0).update(X)
    with pytest.raises(ValueError, match="of one kind"):
        mixed.merge(TopEigenvectorStream(method=method, center=True, rng=0).update(sparse.csr_array(X)))


def test_with_itself():
    X = spiked(900, 250, 8, 2, np.float64)
    stream = TopEigenvectorStream(method="exact", rng=0).update(X)
    value = stream.result().value
    assert_allclose(stream.merge(stream).result().value, 2 * value)
    assert stream.n_rows == 1800


@pytest.mark.parametrize(
    "settings",
    [
        {"n_components": 2}, {"method": "exact"}, {"order": "arbitrary"}, {"center": True}, {"n_oversamples": 3},
        {"block_size": 64}, {"max_heavy": 3}, {"max_memory": 10**6}, {"forget": 0.5},
    ],
)  # fmt: skip
def test_settings_must_agree(settings):
    X = spiked(300, 250, 8, 2)
    a = TopEigenvectorStream(rng=0).update(X)
    before = state(a)
    with pytest.raises(ValueError, match="same settings"):
        a.merge(TopEigenvectorStream(**settings, rng=0).update(X))
    assert state(a) == before


@pytest.mark.parametrize("settings", [{"method": "oja"}, {"method": "random-order"}, {"forget": 0.9}])
def test_what_cannot_be_merged(settings):
    X = spiked(300, 250, 8, 2)
    a, b = (TopEigenvectorStream(**settings, rng=0).update(X) for _ in range(2))
    with pytest.raises(ValueError, match="cannot be merged"):
        a.merge(b)


def test_widths_and_kinds_must_agree():
    stream = TopEigenvectorStream(rng=0).update(np.eye(5))
    for other in (TopEigenvectorStream(rng=0).update(np.eye(6)), TopEigenvectorStream(6)):
        for a, b in ((stream, other), (other, stream)):
            with pytest.raises(ValueError, match="one width"):
                a.merge(b)
    with pytest.raises(TypeError, match="TopEigenvectorStream"):
        stream.merge(np.eye(5))


@pytest.mark.parametrize("center", [False, True])
def test_arbitrary_order(center):
    X = spiked(4000, 250, 8, 2, np.float64)
    settings = {"method": "subspace", "order": "arbitrary", "center": center}
    result = tree(shards(X, 4, **settings)).result()
    assert exact(X, center=center).err(result.vector) <= result.error
