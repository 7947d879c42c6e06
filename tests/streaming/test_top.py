"""One call over data at hand: arrays, files, clusters."""

import numpy as np
import pytest
from matrices import layouts
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from streaming.streams import exact, spiked

from linalg_ml.streaming import top_eigenvector

X = spiked(3000, 250, 20, 7, np.float64)
EXPECTED = top_eigenvector(X, rng=0)


def test_one_row_is_an_iterable_or_has_two_axes():
    with pytest.raises(ValueError, match=r"rows must be 2-d.* got an array of shape \(5,\)"):
        top_eigenvector(np.arange(1.0, 6.0))
    assert top_eigenvector([np.arange(1.0, 6.0)]).n_rows == 1
    listed = np.random.default_rng(0).standard_normal((50, 5)).tolist()
    assert top_eigenvector(listed, certify=True, sample_weight=np.ones(50), rng=0).n_rows == 50


def test_layouts():
    for name, rows in layouts(X):
        before = rows.copy()
        result = top_eigenvector(rows, rng=0)
        assert_array_equal(rows, before)
        assert result.vector.tobytes() == EXPECTED.vector.tobytes(), name
        assert (result.value, result.error) == (EXPECTED.value, EXPECTED.error)


def test_memmap(tmp_path):
    stored = np.memmap(tmp_path / "rows", dtype=np.float64, mode="w+", shape=X.shape)
    stored[:] = X
    stored.flush()
    rows = np.memmap(tmp_path / "rows", dtype=np.float64, mode="r", shape=X.shape)
    for limit in (None, 300_000):  # the whole is larger than what is allowed as state
        result = top_eigenvector(rows, rng=0, max_memory=limit)
        assert result.vector.tobytes() == top_eigenvector(X, rng=0, max_memory=limit).vector.tobytes()
    certified = top_eigenvector(rows, rng=0, certify=True)
    assert exact(X).err(certified.vector) <= certified.error


def test_sparse():
    rows = sparse.csr_array(np.where(X > 1, X, 0))
    expected = top_eigenvector(rows.toarray(), rng=0)
    for convert in (sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
        assert_allclose(top_eigenvector(convert(rows), rng=0).vector, expected.vector, atol=1e-9)
    for center in (False, True):
        certified = top_eigenvector(rows, center=center, certify=True, rng=0)
        assert exact(rows.toarray(), center=center).err(certified.vector) <= certified.error + 1e-14


def test_nested_lists():
    rows = X[:40, :5]
    assert_allclose(top_eigenvector(rows.tolist(), rng=0).vector, top_eigenvector(rows, rng=0).vector)


def test_auto():
    assert EXPECTED.method == "subspace"
    assert top_eigenvector(X[:, :230], rng=0).method == "exact"
    assert top_eigenvector(X[:, :230], rng=0, max_memory=100_000).method == "subspace"
    assert top_eigenvector(X, rng=0, max_memory=10**7).method == "exact"
    assert top_eigenvector(X, rng=0, n_components=8).method == "exact"  # d ≤ 3·15 + 64 + 128 + 14
    exactly = top_eigenvector(X[:, :230], rng=0)
    assert exactly.confidence == 1
    assert exact(X[:, :230]).err(exactly.vector) <= exactly.error <= 1e-12


def test_other_namespaces(other_xp):
    result = top_eigenvector(other_xp.asarray(X), certify=True, rng=0)
    expected = top_eigenvector(X, certify=True, rng=0)
    assert isinstance(result.vector, type(other_xp.asarray(X[0])))
    assert_allclose(np.asarray(result.vector), expected.vector, atol=1e-10)
    assert_allclose([result.value, result.error], [expected.value, expected.error], rtol=1e-6)
    with pytest.warns(RuntimeWarning, match="no direction stands out"):
        nothing = top_eigenvector(other_xp.zeros((5, 300)), method="oja", rng=0)
    assert isinstance(nothing.vector, type(other_xp.asarray(X[0])))


def test_weights():
    weights = np.random.default_rng(0).random(3000)
    result = top_eigenvector(X, sample_weight=weights, rng=0)
    truth = exact(X, weights=weights)
    assert truth.err(result.vector) <= result.error
    assert_allclose(result.frobenius_sq, truth.values.sum())
    with pytest.raises(ValueError, match="sample_weight"):
        top_eigenvector(iter(X), sample_weight=weights)
    with pytest.raises(ValueError, match="sample_weight"):
        top_eigenvector(X, sample_weight=weights[:-1])
    with pytest.raises(ValueError, match="negative"):
        top_eigenvector(X, sample_weight=-weights)


def test_certify_needs_two_passes():
    with pytest.raises(ValueError, match="reads the rows twice"):
        top_eigenvector(iter(X), certify=True)


def test_progress(capsys):
    top_eigenvector(X, rng=0, verbose=True)
    assert capsys.readouterr().err
    top_eigenvector(X, rng=0)
    assert not capsys.readouterr().err


@pytest.mark.filterwarnings("error")
def test_warnings_point_at_the_caller():
    with pytest.warns(RuntimeWarning, match="no direction stands out") as seen:
        top_eigenvector(np.zeros((3, 300)))
    assert seen[0].filename == __file__


# --- dask -------------------------------------------------------------------------------------------------


def dask_rows(rows, chunks):
    return pytest.importorskip("dask.array").from_array(rows, chunks=chunks)


@pytest.mark.usefixtures("dask_scheduler")
@pytest.mark.parametrize("chunks", [(1000, 250), (1700, 60)])
def test_dask(chunks):
    for center in (False, True):
        truth = exact(X, center=center)
        result = top_eigenvector(dask_rows(X, chunks), center=center, rng=0)
        assert truth.err(result.vector) <= result.error <= 0.01
        assert result.n_rows == 3000
        assert_allclose(result.frobenius_sq, truth.values.sum())
        certified = top_eigenvector(dask_rows(X, chunks), center=center, certify=True, rng=0)
        assert truth.err(certified.vector) <= certified.error + 1e-14


def test_dask_in_detail():
    rows = dask_rows(X, (1000, 250))
    weights = np.random.default_rng(0).random(3000)
    weighted = top_eigenvector(rows, sample_weight=weights, rng=0)
    assert_allclose(weighted.frobenius_sq, exact(X, weights=weights).values.sum())
    one = top_eigenvector(dask_rows(X, (3000, 250)), rng=0)
    assert_array_equal(one.vector, EXPECTED.vector)
    assert_array_equal(top_eigenvector(rows, rng=0).vector, top_eigenvector(rows, rng=0).vector)
    narrow = top_eigenvector(rows[:, :200], rng=0)
    assert narrow.method == "exact"
    assert exact(X[:, :200]).err(narrow.vector) <= 1e-20
    with pytest.raises(ValueError, match="cannot be merged"):
        top_eigenvector(rows, method="random-order")
    spoilt = X.copy()
    spoilt[1234, 5] = np.nan
    with pytest.raises(ValueError, match="row 234, in the dask block of rows 1000"):
        top_eigenvector(dask_rows(spoilt, (1000, 250)), rng=0)
