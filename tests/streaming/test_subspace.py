"""Tail-corrected subspace iteration: accuracy on the streams of the specification, and degenerate rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from streaming.streams import exact, heavy, powernorm, powerspec, spiked, split

from linalg_ml.streaming import TopEigenvectorStream, top_eigenvector
from linalg_ml.streaming._kernels import tail_spread


@pytest.mark.slow
@pytest.mark.parametrize(("R", "most", "estimate"), [(1.5, 1.2e-2, 2.07e-2), (4, 3e-5, 4.45e-5), (50, 5e-8, 3.15e-8)])
def test_spike(R, most, estimate):
    X = spiked(60000, 300, R, 1)
    truth, result = exact(X), top_eigenvector(X, rng=0)
    err = truth.err(result.vector)
    assert result.method == "subspace"
    assert err <= most
    assert err <= result.error <= 30 * err
    assert 0.7 * estimate <= result.error <= 1.3 * estimate  # the gap is corrected, and an uneven tail counts
    assert_allclose(truth.values[0], result.value, rtol=result.value_relative_error)
    assert result.confidence == 0.95


@pytest.mark.parametrize(("R", "most"), [(2.5, 1e-2), (4, 1e-3), (50, 2e-6)])
def test_short_spike(R, most):
    X = spiked(9000, 300, R, 1)
    truth, result = exact(X), top_eigenvector(X, rng=0)
    err = truth.err(result.vector)
    assert err <= most
    assert err <= result.error <= 30 * err
    assert abs(result.value - truth.values[0]) <= result.value_relative_error * result.value


def plainly(X, size, block, corrected):
    """Return the leading direction by the algorithm as it is written down: no heap, whole blocks."""
    d = X.shape[1]
    _, s, V = np.linalg.svd(X[:block], full_matrices=False)
    V, S, F, spread = V[:size], s[:size] ** 2, (X[:block] ** 2).sum(), 1.0
    for count, start in enumerate(range(block, X.shape[0], block), 2):
        rows = X[start : start + block]
        Y = rows @ V.T
        if count & (count - 1) == 0:  # how uneven the tail is: from products of remainders of different rows
            rest = rows[:64] - Y[:64] @ V
            products = rest @ rest.T
            mean, squares = np.trace(products) / 64, (products**2).sum() - (np.diag(products) ** 2).sum()
            found = max(1, (d - size) * squares / (64 * 63) / mean**2)
            spread = found if count == 2 else (spread + found) / 2
        F += (rows**2).sum()
        w, U = np.linalg.eigh(np.diag(S) + Y.T @ Y)
        w, U = w[::-1], U[:, ::-1]
        tau = max(0, (F - w.sum()) / (d - size)) if corrected else 0
        tail = max(tau, min(spread * tau, w[-1])) if corrected else 0
        W = U.T @ (np.maximum(S - tail, 0)[:, None] * V + Y.T @ rows)
        V, S = np.linalg.qr(W.T)[0].T, w
    tau = max(0, (F - S.sum()) / (d - size)) if corrected else 0
    return V[np.argmax(S - tau)]


def test_is_the_algorithm_as_written_down():
    X = spiked(128 * 60, 300, 4, 5, np.float64)
    result = top_eigenvector(X, max_heavy=0, rng=0)
    expected = plainly(X, 8, 128, corrected=True)
    assert_allclose(result.vector * np.sign(result.vector @ expected), expected, atol=1e-9)


@pytest.mark.parametrize(
    "energies", [np.ones(300), np.arange(1, 301.0) ** -1, np.append(np.full(3, 100.0), np.ones(97))]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_tail_spread(energies, weighted):
    rng, found = np.random.default_rng(0), []
    weights = 1.0 + np.arange(64) % 3 if weighted else np.ones(64)
    for _ in range(200):
        X = rng.standard_normal((64, energies.size)) * np.sqrt(energies) * np.sqrt(weights)[:, None] * 1e-100
        found.append(tail_spread(X @ X.T, weights, energies.size))
    assert_allclose(np.mean(found), energies.size * (energies**2).sum() / energies.sum() ** 2, rtol=0.03)
    assert np.std(found) < 0.3 * np.mean(found)


def test_tail_spread_of_nothing():
    assert tail_spread(np.ones((1, 1)), np.ones(1), 5) is None
    assert tail_spread(np.zeros((4, 4)), np.ones(4), 5) is None
    assert tail_spread(np.eye(4), np.zeros(4), 5) is None
    assert tail_spread(np.eye(4), np.ones(4), 5) == 1


def test_tail_correction_gives_its_factor():
    X = spiked(128 * 150, 300, 4, 5, np.float64)
    truth = exact(X)
    without = truth.err(plainly(X, 8, 128, corrected=False))
    assert without > 8 * truth.err(top_eigenvector(X, rng=0).vector)


@pytest.mark.slow
def test_heavy_rows():
    X = heavy(40000, 300, 2, 50, 2)
    truth, result = exact(X), top_eigenvector(X, rng=0)
    assert truth.err(result.vector) <= 1e-4
    assert result.n_heavy == 50
    assert not result.heap_saturated
    with pytest.warns(RuntimeWarning, match="raise max_heavy"):
        few = top_eigenvector(X, rng=0, max_heavy=16)
    assert truth.err(few.vector) <= 5e-2
    assert few.heap_saturated


def test_heavy_rows_are_kept_and_named():
    X = heavy(9000, 300, 2, 50, 2)
    truth, result = exact(X), top_eigenvector(X, rng=0)
    norms = np.linalg.norm(X.astype(np.float64), axis=1)
    assert_array_equal(result.heavy_indices, np.sort(np.argsort(norms)[-50:]))
    assert result.heavy_indices.dtype == np.int64
    assert result.n_heavy == 50
    err = truth.err(result.vector)
    with pytest.warns(RuntimeWarning, match="raise max_heavy"):
        few = top_eigenvector(X, rng=0, max_heavy=16)
    none = top_eigenvector(X, rng=0, max_heavy=0)
    assert few.heap_saturated
    assert few.n_heavy == 16
    assert none.n_heavy == 0
    assert truth.err(none.vector) > 20 * err


@pytest.mark.parametrize("n_oversamples", [0, 1, 2])
def test_few_directions_beside_heavy_rows(n_oversamples):
    # What is learned of the rows kept aside must not cost the leading direction of the light ones.
    X = heavy(6000, 270, 2, 40, 1)
    result = top_eigenvector(X, n_oversamples=n_oversamples, rng=0)
    assert exact(X).err(result.vector) <= min(result.error, 1e-3)


@pytest.mark.parametrize("R", [4, 128])
def test_rayleigh_ritz_joins_light_and_heavy(R):
    X = split(20000, 300, R, 20, 3)
    assert exact(X).err(top_eigenvector(X, rng=0).vector) <= {4: 1e-5, 128: 2e-9}[R]


@pytest.mark.slow
@pytest.mark.parametrize(("R", "most"), [(4, 5e-6), (128, 1e-9)])
def test_split(R, most):
    X = split(40000, 300, R, 20, 3)
    assert exact(X).err(top_eigenvector(X, rng=0).vector) <= most


# --- centred --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 10, 1000])
def test_offset(offset, dtype):
    X = (spiked(40000, 300, 4, 31).astype(np.float64) + offset).astype(dtype)
    result = top_eigenvector(X, center=True, rng=0)
    assert exact(X, center=True).err(result.vector) <= 6e-5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_offsets_change_nothing(dtype):
    X = spiked(6000, 300, 4, 31).astype(np.float64)
    errors = []
    for offset in (0, 1000):
        Y = (X + offset).astype(dtype)
        truth, result = exact(Y, center=True), top_eigenvector(Y, center=True, rng=0)
        errors.append(truth.err(result.vector))
        assert errors[-1] <= result.error
        assert_allclose(result.mean, Y.mean(axis=0, dtype=np.float64), rtol=1e-6 if dtype == np.float32 else 1e-13,
                        atol=1e-6 if dtype == np.float32 else 1e-12)  # fmt: skip
        assert_allclose(result.frobenius_sq, truth.values.sum(), rtol=1e-4 if dtype == np.float32 else 1e-10)
        assert result.mean.dtype == dtype
    assert_allclose(errors[0], errors[1], rtol=0.05 if dtype == np.float32 else 1e-6)


def test_offset_and_heavy_rows():
    X = heavy(20000, 300, 2, 40, 5) + np.float32(1000)
    result = top_eigenvector(X, center=True, rng=0)
    assert exact(X, center=True).err(result.vector) <= 1.5e-4
    assert result.n_heavy == 40


@pytest.mark.parametrize("method", ["subspace", "oja", "frequent-directions", "exact"])
def test_a_constant_first_block(method):
    X = spiked(3000, 250, 20, 3, np.float64)
    X[:300] = X[0]
    result = top_eigenvector(X, center=True, method=method, rng=0)
    assert exact(X, center=True).err(result.vector) <= max(result.error, 0.05)


# --- several directions ---------------------------------------------------------------------------------


def largest_sine(V, W):
    return float(np.linalg.norm(V - (V @ W.T) @ W, 2))


def test_several_directions():
    X = powerspec(20000, 300, 1, 4)
    truth = exact(X)
    sines = {}
    for oversamples in (7, 13):
        result = top_eigenvector(X, n_components=3, n_oversamples=oversamples, rng=0)
        V = result.components.astype(np.float64)
        assert_allclose(V @ V.T, np.eye(3), atol=1e-6)
        assert_array_equal(result.vector, result.components[0])
        assert_allclose(result.values, truth.values[:3], rtol=0.01)
        sines[oversamples] = largest_sine(V, truth.vectors[:3])
    assert sines[7] < 1e-2
    assert sines[13] < sines[7]


@pytest.mark.parametrize("center", [False, True])
def test_all_directions(center):
    # Everything is tracked then, and nothing estimated.
    X = spiked(3000, 20, 2, 6, np.float64)
    truth = exact(X, center=center)
    result = top_eigenvector(X, n_components=20, method="subspace", center=center, rng=0)
    assert_allclose(result.components @ result.components.T, np.eye(20), atol=1e-12)
    assert_allclose(result.values, truth.values, rtol=1e-10)
    assert truth.err(result.vector) <= 1e-20


# --- weights, and what is forgotten -----------------------------------------------------------------------


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", ["subspace", "exact", "frequent-directions", "random-order"])
def test_weights_are_repeated_rows(method, center):
    X = spiked(4000, 300, 4, 9, np.float64) + center
    weights = np.random.default_rng(1).integers(1, 4, 4000)
    repeated = np.repeat(X, weights, axis=0)
    truth = exact(repeated, center=center)
    result = top_eigenvector(X, sample_weight=weights, center=center, method=method, rng=0)
    assert_allclose(result.frobenius_sq, truth.values.sum(), rtol=1e-10)
    assert result.n_rows == 4000
    if method == "subspace":
        assert truth.err(result.vector) <= 8e-3
    if method == "exact":
        assert truth.err(result.vector) <= 1e-20
        assert_allclose(result.value, truth.values[0], rtol=1e-10)
    if center:
        assert_allclose(result.mean, repeated.mean(axis=0), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", ["subspace", "exact", "frequent-directions", "random-order", "oja"])
def test_rows_of_no_weight_do_not_count(method, center):
    X = spiked(3000, 250, 20, 9, np.float64)
    junk = 3 * np.random.default_rng(0).standard_normal((400, 250))
    stream = TopEigenvectorStream(method=method, center=center, max_heavy=0, rng=0)
    result = stream.update(junk, np.zeros(400)).update(X).update(junk, np.zeros(400)).result()
    truth = exact(X, center=center)
    assert truth.err(result.vector) <= max(result.error, 0.05)
    assert_allclose(result.frobenius_sq, truth.values.sum(), rtol=1e-10)
    assert result.n_rows == 3800


def test_great_weights():
    X = spiked(6000, 250, 4, 9)
    one = top_eigenvector(X, rng=0)
    many = top_eigenvector(X, sample_weight=np.full(6000, 2.0**30), rng=0)
    assert_array_equal(many.vector, one.vector)
    assert many.value == 2.0**30 * one.value
    assert many.error == one.error


def drifting(n, d):
    """Return rows whose leading direction is replaced half-way."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n, d))
    X[: n // 2, 0] *= 3
    X[n // 2 :, 1] *= 3
    return X


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["subspace", "exact", "frequent-directions"])
def test_forgetting_is_weights(method, dtype):
    X, forget = drifting(20000, 250).astype(dtype), 0.97
    result = TopEigenvectorStream(method=method, forget=forget, rng=0).update(X).result()
    ages = np.arange(20000) // 128
    truth = exact(X, weights=forget ** (ages[-1] - ages))
    assert truth.err(result.vector) <= {"subspace": 1e-2, "exact": 1e-10, "frequent-directions": 1.0}[method]
    assert_allclose(result.frobenius_sq, truth.values.sum(), rtol=1e-5)
    if method == "frequent-directions":
        assert result.value <= truth.values[0] * (1 + 1e-5) <= result.value_bounds[1] * (1 + 2e-5)
    else:
        assert abs(result.value - truth.values[0]) <= (result.value_relative_error + 1e-5) * result.value
        assert abs(result.vector[1]) > 0.98


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["subspace", "exact", "frequent-directions"])
def test_forgetting_for_long(method, dtype, center):
    # Weights grow beyond 2^100 here: the state is scaled on the way, and products of float32 rows would overflow.
    X = spiked(9000, 250, 20, 9, dtype) + dtype(5 * center)
    X[:, :3] += 3
    settings = {"method": method, "forget": 0.1, "center": center, "block_size": 120, "max_heavy": 20, "rng": 0}
    result = TopEigenvectorStream(**settings).update(X).result()
    ages = np.arange(9000) // 120
    weights = 0.1 ** (ages[-1] - ages)
    truth = exact(X, weights=weights, center=center)
    assert_allclose(result.frobenius_sq, truth.values.sum(), rtol=1e-4)
    assert truth.err(result.vector) <= max(result.error, 0.01)
    if center:
        assert_allclose(result.mean, np.average(X, axis=0, weights=weights), rtol=1e-4)


@pytest.mark.parametrize("method", ["subspace", "exact", "frequent-directions"])
def test_bits_of_forgetting_do_not_depend_on_chunks(method):
    X = spiked(14000, 250, 20, 9)
    settings = {"method": method, "forget": 0.13, "block_size": 200, "rng": 0}
    whole = TopEigenvectorStream(**settings).update(X).result()
    stream = TopEigenvectorStream(**settings)
    for start in range(0, 14000, 333):
        stream.update(X[start : start + 333])
    assert_array_equal(stream.result().components, whole.components)
    assert (stream.result().value, stream.result().error) == (whole.value, whole.error)


@pytest.mark.filterwarnings("ignore:all rows kept aside")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("forget", "block"), [(0.5, 1), (0.5, 2), (1e-3, 5)])
@pytest.mark.parametrize("method", ["subspace", "random-order", "frequent-directions", "exact", "oja"])
def test_bits_of_strong_forgetting_in_small_blocks(method, forget, block, dtype):
    X = spiked(500, 30, 20, 9, dtype)
    settings = {"method": method, "forget": forget, "block_size": block, "center": True, "rng": 0}
    whole = TopEigenvectorStream(**settings).update(X).result()
    for height in (1, 3, 40):
        stream = TopEigenvectorStream(**settings)
        for start in range(0, 500, height):
            stream.update(X[start : start + height])
        result = stream.result()
        assert_array_equal(result.components, whole.components)
        assert (result.value, result.error) == (whole.value, whole.error)


# --- scales and dtypes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["subspace", "random-order", "frequent-directions", "exact", "oja"])
@pytest.mark.parametrize("center", [False, True])
def test_scale(method, center):
    X = spiked(3000, 250, 4, 9, np.float64)
    one = top_eigenvector(X, method=method, center=center, rng=0)
    for exponent in (100, -100, 400, -400):
        scaled = top_eigenvector(np.ldexp(X, exponent), method=method, center=center, rng=0)
        assert_array_equal(scaled.vector, one.vector)
        assert scaled.error == one.error
        assert_allclose(scaled.value, np.ldexp(one.value, 2 * exponent), rtol=0)
        assert_allclose(scaled.frobenius_sq, np.ldexp(one.frobenius_sq, 2 * exponent), rtol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scales_at_the_ends_of_the_dtype(dtype):
    X = spiked(2000, 250, 20, 9, dtype)
    info = np.finfo(dtype)
    for exponent in (info.maxexp - 12, info.minexp + 10, info.minexp - 3):
        Y = np.ldexp(X, np.int32(exponent))
        result = top_eigenvector(Y, center=True, rng=0)
        Z = np.ldexp(Y.astype(np.float64), -exponent)
        assert exact(Z, center=True).err(result.vector) <= result.error <= 0.1
        assert not np.isnan([result.value, result.tail, result.frobenius_sq]).any()
        assert np.isfinite(result.mean).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["subspace", "random-order", "frequent-directions", "exact", "oja"])
def test_rows_far_above_those_before(method, dtype):
    X = spiked(4000, 250, 20, 9, dtype)
    jump = 60 if dtype == np.float32 else 900
    X[:600] = np.ldexp(X[:600], np.int32(-jump // 2))
    X[600:] = np.ldexp(X[600:], np.int32(jump // 2))
    result = top_eigenvector(X, method=method, max_heavy=0, rng=0)
    truth = exact(np.ldexp(X[600:].astype(np.float64), -(jump // 2)))
    assert truth.err(result.vector) <= max(result.error, 0.05)
    assert not np.isnan([result.value, result.error, result.order_pvalue]).any()


@pytest.mark.filterwarnings("ignore:all rows kept aside")
def test_float32_is_as_good():
    for make in (lambda t: spiked(20000, 250, 4, 9, t), lambda t: powernorm(20000, 250, 4, 9, 1.5, t)):
        X = make(np.float32)
        truth = exact(X)
        narrow = top_eigenvector(X, rng=0)
        wide = top_eigenvector(X.astype(np.float64), rng=0)
        assert narrow.vector.dtype == np.float32
        assert truth.err(narrow.vector) <= 1.2 * truth.err(wide.vector) + 1e-9


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.bool_, np.int64, np.longdouble, ">f8"])
def test_other_dtypes(dtype):
    X = (10 * spiked(3000, 250, 20, 9)).astype(np.int8).astype(dtype)
    result = top_eigenvector(X, rng=0)
    assert result.vector.dtype == (np.float32 if dtype == np.float16 else np.float64)
    assert exact(X.astype(np.float64)).err(result.vector) <= result.error


# --- degenerate rows ------------------------------------------------------------------------------------

METHODS = ["subspace", "random-order", "oja", "frequent-directions", "exact"]


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 500])
def test_zeros(method, center, n):
    with pytest.warns(RuntimeWarning, match="no direction stands out"):
        result = top_eigenvector(np.zeros((n, 300)), method=method, center=center, rng=0)
    assert_array_equal(result.vector, np.eye(300)[0])
    assert (result.value, result.error, result.frobenius_sq) == (0, 1, 0)
    assert result.confidence is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("max_heavy", [0, 64])
def test_one_row(method, max_heavy):
    a = np.random.default_rng(0).standard_normal(300)
    result = top_eigenvector(a[None, :], method=method, max_heavy=max_heavy, rng=0)
    assert_allclose(abs(result.vector @ a) / np.linalg.norm(a), 1, rtol=1e-12)
    if method != "random-order" or max_heavy:  # its light part has met random directions alone
        assert_allclose(result.value, a @ a)
    assert result.error <= 1e-10
    assert result.vector[np.argmax(np.abs(result.vector))] > 0


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_one_column(method, center):
    X = np.random.default_rng(0).standard_normal((700, 1))
    result = top_eigenvector(X, method=method, center=center, rng=0)
    assert_array_equal(result.vector, [1])
    assert result.error <= 1e-12
    assert_allclose(result.value, ((X - center * X.mean()) ** 2).sum(), rtol=0.3 if method == "random-order" else 1e-9)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", ["subspace", "random-order", "frequent-directions", "exact"])
def test_fewer_rows_than_directions(method, center):
    X = np.random.default_rng(0).standard_normal((3, 300))
    result = top_eigenvector(X, n_components=5, method=method, center=center, rng=0)
    truth = exact(X, center=center)
    assert_allclose(result.components @ result.components.T, np.eye(5), atol=1e-12)
    assert_allclose(result.values, np.where(np.arange(5) < 3, truth.values[:5], 0), atol=1e-10)
    assert truth.err(result.vector) <= 1e-20


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_one_hot_rows(method, center):
    index = np.append(np.random.default_rng(0).integers(0, 300, 4000), np.full(400, 7))
    X = np.eye(300)[np.random.default_rng(1).permutation(index)]
    result = top_eigenvector(X, method=method, center=center, rng=0)
    err = exact(X, center=center).err(result.vector)
    assert err <= result.error
    if method in ("subspace", "exact"):
        assert err <= 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_equal_rows(method):
    a = np.arange(300.0)
    result = top_eigenvector(np.tile(a, (1000, 1)), method=method, rng=0)
    assert_allclose(result.vector, a / np.linalg.norm(a), atol=1e-12)
    assert result.error <= 1e-12
    assert_allclose(result.value, 1000 * (a @ a), rtol=1e-9)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["subspace", "random-order", "exact", "frequent-directions"])
def test_rows_that_are_their_mean(method, dtype, sparse):
    # Rounding about the mean is no direction.
    X = np.tile((np.arange(300) % 7 + 5.3).astype(dtype), (400, 1))
    stream = TopEigenvectorStream(method=method, center=True, rng=0).update(csr_array(X) if sparse else X)
    with pytest.warns(RuntimeWarning, match="equal to zero or to their mean") as said:
        result = stream.result()
    assert len(said) == 1
    assert (result.value, result.error, result.frobenius_sq) == (0, 1, 0)
    assert result.confidence is None
    # Of variance, a millionth of the mean is enough.
    spread = np.random.default_rng(0).standard_normal(X.shape) * np.append(1, np.full(299, 0.1))
    seen = TopEigenvectorStream(method=method, center=True, rng=0).update((X + 1e-4 * spread).astype(dtype)).result()
    assert seen.vector[0] > 0.9


@pytest.mark.parametrize("method", ["subspace", "random-order", "exact", "frequent-directions"])
def test_rank_deficient(method):
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((300, 3)))[0]
    X = (rng.standard_normal((20000, 3)) * [2, 1, 1]) @ Q.T
    result = top_eigenvector(X, method=method, n_components=3, rng=0)
    assert_allclose(result.components @ result.components.T, np.eye(3), atol=1e-12)
    assert exact(X).err(result.vector) <= (5e-3 if method == "random-order" else 1e-12)


def test_rank_deficient_first_block():
    X = spiked(6000, 300, 4, 9, np.float64)
    X[:200] = X[:200, :5] @ np.random.default_rng(0).standard_normal((5, 300)) / 17
    truth, result = exact(X), top_eigenvector(X, rng=0)
    assert truth.err(result.vector) <= result.error <= 0.05


@pytest.mark.parametrize("method", ["subspace", "exact"])
def test_tie(method):
    rng = np.random.default_rng(0)
    X = np.linalg.qr(rng.standard_normal((5000, 300)))[0] * 1.0
    with pytest.warns(RuntimeWarning, match="ill-determined"):
        result = top_eigenvector(X, method=method, rng=0)
    assert abs(np.linalg.norm(X @ result.vector) ** 2 - 1) <= 1e-6
    assert result.error > 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["exact", "frequent-directions", "oja"])
def test_claims_hold_to_rounding(method, dtype):
    # Rows about a shift are rounded to their dtype, and so is the answer.
    for seed in range(20):
        X = spiked(60, 12, 4, seed, dtype) + dtype(3)
        result = top_eigenvector(X, method=method, center=True, rng=0)
        truth = exact(X, center=True)
        assert abs(truth.values[0] - result.value) <= result.value_relative_error * result.value
        assert truth.err(result.vector) <= result.error
        if result.value_bounds is not None:
            assert result.value_bounds[0] <= truth.values[0] <= result.value_bounds[1]


def test_doubt_of_a_value_is_no_more_than_all_of_it():
    X = np.random.default_rng(0).standard_normal((3000, 500))
    assert 0.9 < top_eigenvector(X, method="oja", rng=0).value_relative_error < 1.001
