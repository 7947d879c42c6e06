"""The stream as an object: chunks, results on the way, what it keeps of the caller's arrays, every kind of array."""

import gc
import hashlib
import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import NotFittedError
from streaming.streams import exact, heavy, spiked, state

import linalg_ml
from linalg_ml._core.arrays import to_numpy
from linalg_ml.streaming import TopEigenvectorStream, top_eigenvector

METHODS = ["subspace", "random-order", "oja", "frequent-directions", "exact"]
X = spiked(2500, 250, 20, 77, np.float64)
X[::97] *= 2  # rows that move the heap
CHUNKS = (1, 7, 128, 1000, 2500)


def bits(result):
    values = (result.value, result.error, result.order_pvalue, result.frobenius_sq, result.tail)
    mean = b"" if result.mean is None else result.mean.tobytes()
    return result.components.tobytes(), values, result.values.tobytes(), result.heavy_indices.tobytes(), mean


def in_chunks(rows, size, weights=None, **settings):
    stream = TopEigenvectorStream(**settings, rng=0)
    for start in range(0, rows.shape[0], size):
        stream.update(rows[start : start + size], None if weights is None else weights[start : start + size])
    return stream


# --- chunks ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the stream does not look shuffled")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_chunks_do_not_matter(method, center, dtype):
    rows = X.astype(dtype)
    before = hashlib.sha256(rows).digest()
    found = {bits(in_chunks(rows, size, method=method, center=center).result()) for size in CHUNKS}
    assert len(found) == 1
    assert hashlib.sha256(rows).digest() == before


@pytest.mark.slow
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_chunks_do_not_matter_at_full_size(method, center):
    rows = spiked(6000, 300, 4, 77, np.float64)
    found = {bits(in_chunks(rows, size, method=method, center=center).result()) for size in (1, 7, 128, 1000, 6000)}
    assert len(found) == 1


@pytest.mark.parametrize("settings", [{"order": "arbitrary"}, {"forget": 0.8}, {"max_heavy": 0}, {"n_components": 4}])
def test_chunks_do_not_matter_under_other_settings(settings):
    found = {bits(in_chunks(X, size, method="subspace", **settings).result()) for size in CHUNKS}
    assert len(found) == 1


@pytest.mark.parametrize("center", [False, True])
def test_chunks_of_weighted_and_of_sparse_rows_do_not_matter(center):
    weights = np.random.default_rng(0).random(2500)
    settings = {"method": "subspace", "center": center}
    assert len({bits(in_chunks(X, size, weights, **settings).result()) for size in (1, 7, 2500)}) == 1
    rows = sparse.csr_array(np.where(np.abs(X) > 1.5, X, 0))
    assert len({bits(in_chunks(rows, size, **settings).result()) for size in (7, 128, 2500)}) == 1


def test_chunks_across_a_change_of_scale_do_not_matter():
    rows = X.copy()
    rows[1300:] = np.ldexp(rows[1300:], 300)
    results = [in_chunks(rows, size, method="subspace", max_heavy=0).result() for size in (1, 128, 2500)]
    for result in results[1:]:
        assert_array_equal(result.vector, results[0].vector)
        assert result.value == results[0].value


@pytest.mark.parametrize("method", METHODS)
def test_result_changes_nothing(method):
    stream = TopEigenvectorStream(method=method, rng=0)
    seen = []
    for start in range(0, 2500, 430):
        stream.update(X[start : start + 430])
        before = state(stream)
        seen.append(bits(stream.result()))
        assert seen[-1] == bits(stream.result())
        assert state(stream) == before
        assert seen[-1] == bits(in_chunks(X[: start + 430], 190, method=method).result())
    assert bits(stream.result()) == bits(in_chunks(X, 2500, method=method).result())


@pytest.mark.parametrize("method", METHODS)
def test_copy_goes_on_by_itself(method):
    stream = TopEigenvectorStream(method=method, rng=0).update(X[:1100])
    copy = stream.copy()
    before = bits(stream.result())
    copy.update(X[1100:])
    assert bits(stream.result()) == before
    assert bits(copy.result()) == bits(TopEigenvectorStream(method=method, rng=0).update(X).result())
    assert bits(stream.update(X[1100:]).result()) == bits(copy.result())


def test_seeds():
    rows = np.eye(250)[np.random.default_rng(0).integers(0, 40, 2500)]  # one-hot: random directions are needed
    rows[:, 7] *= 3
    results = [TopEigenvectorStream(method="random-order", rng=rng).update(rows).result() for rng in (0, 0, 1)]
    assert_array_equal(results[0].vector, results[1].vector)
    generator = np.random.default_rng(0)
    first, second = (TopEigenvectorStream(method="random-order", rng=generator).update(X).result() for _ in range(2))
    assert not np.array_equal(first.vector, second.vector)


def test_rows_are_not_kept_and_not_written():
    block, stream, read_only = np.empty((100, 250)), TopEigenvectorStream(center=True, rng=0), X.copy()
    weights = np.ones(100)
    read_only.flags.writeable = False
    for start in range(0, 2500, 100):
        block[:] = X[start : start + 100]
        weights[:] = 1
        stream.update(block, weights)
        block[:], weights[:] = np.nan, np.nan
    whole = TopEigenvectorStream(center=True, rng=0).update(read_only)
    assert bits(stream.result()) == bits(whole.result())


def test_single_rows_may_be_vectors():
    stream = TopEigenvectorStream(rng=0)
    for row in X[:400]:
        assert stream.update(row) is stream
    assert stream.n_rows == 400
    assert stream.n_features == 250
    assert bits(stream.result()) == bits(TopEigenvectorStream(rng=0).update(X[:400]).result())


def test_empty():
    stream = TopEigenvectorStream(250)
    with pytest.raises(NotFittedError, match="empty"):
        stream.result()
    assert stream.update(np.empty((0, 250))).n_rows == 0
    with pytest.raises(ValueError, match="250 columns"):
        stream.update(np.empty((0, 3)))
    stream.update(X)
    before = bits(stream.result())
    assert bits(stream.update(np.empty((0, 250))).result()) == before
    assert "250" in repr(stream)


# --- arrays of every kind -------------------------------------------------------------------------------


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_other_namespaces(method, center, other_xp):
    expected = TopEigenvectorStream(method=method, center=center, n_components=1, rng=0).update(X[:1300]).result()
    stream = TopEigenvectorStream(method=method, center=center, rng=0)
    for start, stop in ((0, 100), (100, 101), (101, 600), (600, 1300)):
        stream.update(other_xp.asarray(X[start:stop]))
    result = stream.result()
    assert isinstance(result.vector, type(other_xp.asarray(X[0])))
    assert_allclose(to_numpy(result.vector), expected.vector, atol=1e-10)
    for name in ("value", "error", "value_relative_error", "frobenius_sq", "tail", "order_pvalue", "gap_estimate"):
        assert_allclose(getattr(result, name), getattr(expected, name), rtol=1e-8, atol=1e-12)
    assert_array_equal(result.heavy_indices, expected.heavy_indices)
    if center:
        assert_allclose(to_numpy(result.mean), expected.mean, atol=1e-12)


def test_libraries_and_kinds_do_not_mix(other_xp):
    stream = TopEigenvectorStream(rng=0).update(X[:300])
    before = state(stream)
    for block in (other_xp.asarray(X[300:]), sparse.csr_array(X[300:])):
        with pytest.raises(ValueError, match="must be like the rows before"):
            stream.update(block)
        assert state(stream) == before


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_sparse_rows_are_dense_ones(method, center):
    rows = sparse.random(3000, 250, 0.05, random_state=0, format="csr")
    rows[::50] *= 5
    expected = TopEigenvectorStream(method=method, center=center, rng=0).update(rows.toarray()).result()
    for convert in (sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
        result = TopEigenvectorStream(method=method, center=center, rng=0).update(convert(rows)).result()
        assert_allclose(result.vector, expected.vector, atol=1e-8)
        assert_allclose([result.value, result.frobenius_sq], [expected.value, expected.frobenius_sq], rtol=1e-9)
        assert_array_equal(result.heavy_indices, expected.heavy_indices)
        if center:
            assert_allclose(result.mean, expected.mean, atol=1e-12)


def test_sparse_rows_at_an_offset():
    # Norms about the mean must not lose their digits.
    dense = 1000 + X
    rows = sparse.csr_array(dense)
    result = TopEigenvectorStream(method="subspace", center=True, rng=0).update(rows).result()
    expected = TopEigenvectorStream(method="subspace", center=True, rng=0).update(dense).result()
    assert_allclose(result.frobenius_sq, exact(dense, center=True).values.sum(), rtol=1e-10)
    assert_allclose(abs(result.vector @ expected.vector), 1, atol=1e-9)


def test_float32_stream_takes_float64_blocks():
    stream = TopEigenvectorStream(rng=0).update(X[:100].astype(np.float32)).update(X[100:])
    result = stream.result()
    assert result.vector.dtype == np.float32
    assert_array_equal(result.vector, TopEigenvectorStream(rng=0).update(X.astype(np.float32)).result().vector)


def test_pickle():
    stream = TopEigenvectorStream(center=True, rng=0).update(X[:1000])
    other = pickle.loads(pickle.dumps(stream))
    assert bits(other.update(X[1000:]).result()) == bits(TopEigenvectorStream(center=True, rng=0).update(X).result())


# --- memory ---------------------------------------------------------------------------------------------


def test_memory_used_is_what_was_said():
    d, k = 250, 2
    stream = TopEigenvectorStream(n_components=k, method="subspace", center=True, rng=0)
    most = 0
    for start in range(0, 2500, 37):
        stream.update(X[start : start + 37])
        most = max(most, stream.memory_used)
    words = 3 * (k + 7) + 64 + 128 + 14
    assert most <= 8 * words * d
    assert stream.result().memory_used == stream.memory_used


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("order", ["random", "arbitrary"])
@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_max_memory_is_obeyed(method, order, center):
    d = 200
    with pytest.raises(ValueError, match="max_memory must be at least") as said:
        TopEigenvectorStream(d, method=method, order=order, center=center, max_memory=1000)
    least = int(str(said.value).split("at least ")[1].split()[0])
    for limit in (least, 2 * least, 600_000):
        stream = TopEigenvectorStream(method=method, order=order, center=center, max_memory=limit, rng=0)
        for start in range(0, 900, 45):
            stream.update(X[start : start + 45, :d])
            assert stream.memory_used <= limit
        assert 0 < stream.result().memory_used <= limit


@pytest.mark.parametrize("method", ["subspace", "random-order", "frequent-directions", "oja", "exact"])
@pytest.mark.filterwarnings("ignore:the leading direction")
def test_no_more_is_alive_than_is_stated(method):
    # Views would keep larger arrays alive than they are.
    rows, limit = np.random.default_rng(0).standard_normal((6000, 400)), 2_000_000 if method == "exact" else 500_000
    TopEigenvectorStream(method=method, max_memory=limit, rng=0).update(rows).result()  # imports and kernels
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        stream = TopEigenvectorStream(method=method, max_memory=limit, rng=0).update(rows)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held <= stream.memory_used + 150_000  # objects, and what the interpreter caches
    assert stream.memory_used <= limit


@pytest.mark.filterwarnings("ignore:the leading direction")
@pytest.mark.parametrize("kind", ["int64", "float16", "Fortran"])
def test_large_blocks_are_converted_in_parts(kind):
    rows = np.random.default_rng(0).integers(-50, 50, (6000, 400))
    rows = rows.astype("f8", order="F") if kind == "Fortran" else rows.astype(kind)
    expected = TopEigenvectorStream(rng=0).update(np.ascontiguousarray(rows, "f4" if kind == "float16" else "f8"))
    tracemalloc.start()
    try:
        stream = TopEigenvectorStream(rng=0).update(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000 < rows.size * 4
    assert bits(stream.result()) == bits(expected.result())


def test_max_memory_chooses_the_method():
    assert TopEigenvectorStream(max_memory=2**20, rng=0).update(X).result().method == "exact"
    assert TopEigenvectorStream(max_memory=2**18, rng=0).update(X).result().method == "subspace"
    narrow, wide = X[:, :230], X[:, :231]
    assert TopEigenvectorStream(rng=0).update(narrow).result().method == "exact"
    assert TopEigenvectorStream(rng=0).update(wide).result().method == "subspace"


MEASURE = """
import sys, tracemalloc
import numpy as np
from linalg_ml.streaming import TopEigenvectorStream

rng = np.random.default_rng(0)
for words in sys.argv[1:]:
    d, n, center = (int(word) for word in words.split(","))
    stream = TopEigenvectorStream(center=bool(center), rng=0)
    stream.copy().update(rng.standard_normal((700, d))).result()  # imports and kernels
    tracemalloc.start()
    for _ in range(n // 100):
        stream.update(rng.standard_normal((100, d)))
    stream.result()
    print(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
"""


def peaks(*streams):
    """Return the most bytes at a time for streams of (d, n, center), blocks that come in included."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", MEASURE, *(",".join(str(int(word)) for word in stream) for stream in streams)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=900)
    return [int(line) for line in done.stdout.split()]


def test_memory_does_not_grow():
    found = peaks(*[(1000, n, center) for center in (False, True) for n in (1000, 6000)])
    for few, many in (found[:2], found[2:]):
        assert many <= 8e6
        assert abs(many / few - 1) <= 0.1


@pytest.mark.slow
def test_memory_at_full_size():
    few, many, wide = peaks((1000, 20_000, False), (1000, 100_000, False), (20_000, 2000, False))
    assert many <= 8e6
    assert abs(many / few - 1) <= 0.1
    assert wide <= 150e6


@pytest.mark.filterwarnings("ignore:the leading direction")
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", ["subspace", "frequent-directions"])
def test_sparse_rows_stay_sparse(method, center):
    import tracemalloc

    d = 3000
    rows = sparse.random(3000, d, 0.003, random_state=0, format="csr")
    top_eigenvector(rows[:300], method=method, center=center, rng=0)
    tracemalloc.start()
    result = top_eigenvector(rows, method=method, center=center, rng=0)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used <= 2.5 * (3 * 8 + 64 + 128 + 14) * 8 * d  # all rows, dense: 72 MB
    assert result.n_rows == 3000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the leading direction")
def test_wide_sparse_rows_stay_sparse():
    import tracemalloc

    rows = sparse.random(6000, 100_000, 0.0005, random_state=0, format="csr")
    for center in (False, True):
        top_eigenvector(rows[:500], center=center, rng=0)  # kernels
        tracemalloc.start()
        top_eigenvector(rows, center=center, rng=0)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert used <= 2.5 * 230 * 8 * 100_000


def test_few_wide_rows_make_no_square():
    import tracemalloc

    rows = np.random.default_rng(0).standard_normal((2, 20_000))
    tracemalloc.start()
    result = top_eigenvector(rows, n_components=5, rng=0)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used <= 50e6
    assert_allclose(result.components @ result.components.T, np.eye(5), atol=1e-12)


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"n_components": 0}, "n_components"),
        ({"n_components": 251}, "n_components must be an integer from 1 to 250"),
        ({"block_size": 0}, "block_size"),
        ({"max_heavy": -1}, "max_heavy"),
        ({"n_oversamples": -1}, "n_oversamples"),
        ({"forget": 0}, "forget"),
        ({"forget": 1.1}, "forget"),
        ({"forget": np.nan}, "forget"),
        ({"method": "magic"}, "method must be"),
        ({"order": "sorted"}, "order must be"),
        ({"max_memory": 1000}, "max_memory must be at least"),
        ({"method": "oja", "n_components": 2}, "one direction"),
    ],
)
def test_settings_that_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        TopEigenvectorStream(250, **settings)
    with pytest.raises(ValueError, match=match):
        TopEigenvectorStream(**settings).update(X)


def test_refused_first_block_leaves_a_fresh_stream():
    stream = TopEigenvectorStream(rng=0)
    for block in (np.full((3, 5), np.nan), np.full((900, 400), np.inf)):
        with pytest.raises(ValueError, match="row 0"):
            stream.update(block)
    assert stream.n_features is None
    assert bits(stream.update(X).result()) == bits(TopEigenvectorStream(rng=0).update(X).result())


def test_kept_aside_rows_survive_everything():
    rows = heavy(6000, 250, 2, 30, 4)
    stream = in_chunks(rows, 500, method="subspace")
    result = stream.result()
    assert result.n_heavy == 30
    assert exact(rows).err(result.vector) <= result.error


def test_result_says_all():
    result = TopEigenvectorStream(n_components=2, center=True, method="subspace", rng=0).update(X).result()
    for name in ("value", "error", "value_relative_error", "gap_estimate", "order_pvalue", "frobenius_sq", "tail"):
        assert type(getattr(result, name)) is float
    for name in ("n_rows", "n_heavy", "memory_used"):
        assert type(getattr(result, name)) is int
    assert type(result.heap_saturated) is bool
    assert result.value_bounds is None
    assert result.value == result.values[0]
    assert result.n_heavy == result.heavy_indices.size
    with pytest.raises(AttributeError):
        result.value = 1
    assert linalg_ml.streaming.TopEigenvectorResult is type(result)
