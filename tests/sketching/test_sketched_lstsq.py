"""Sketch and solve, against its definition with the matrix of the sketch; for the bounds see theorems/test_linf.py."""

import math

import numpy as np
import pytest
from array_api_compat import array_namespace
from matrices import gaussian, regression
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.stats import norm

from linalg_ml._core.arrays import to_numpy
from linalg_ml._core.random import child
from linalg_ml.sketching import (
    SRHT,
    SRTT,
    CountSketch,
    Gaussian,
    KroneckerRows,
    SparseSign,
    TensorSRHT,
    sketched_lstsq,
)

KINDS = {"srht": SRHT, "srtt": SRTT, "gaussian": Gaussian, "sparse_sign": SparseSign, "countsketch": CountSketch}
DENSE = ("srht", "srtt", "gaussian")
N, D, M = 3000, 12, 300


@pytest.fixture(scope="module")
def data():
    A, b = regression(N, D, 10, 0.5, seed=1)
    return A, np.stack([b, 2 * np.flip(b)], axis=1)


def close(actual, expected, tol=1e-10):
    assert_allclose(
        to_numpy(actual) if hasattr(actual, "shape") else actual, expected, rtol=0, atol=tol * np.abs(expected).max()
    )


def solved(A, b, *, sketch, m=M):
    """Return S A, S b and the solution of the sketched problem."""
    S = KINDS[sketch](A.shape[0], m, rng=child(7, 0)).to_dense()
    return S @ A, S @ b, np.linalg.lstsq(S @ A, S @ b)[0]


@pytest.mark.parametrize("sketch", KINDS)
def test_solves_the_sketched_problem(data, sketch):
    A, B = data
    _, _, expected = solved(A, B, sketch=sketch)
    result = sketched_lstsq(A, B, n_sketch=M, sketch=sketch, rng=7)
    close(result.x, expected)
    close(result.residual_norm, np.linalg.norm(B - A @ expected, axis=0))
    assert (result.n_sketch, result.rank, result.method, result.error) == (M, D, "sketch", None)
    x, residual_norm = sketched_lstsq(A, B[:, 0], n_sketch=M, sketch=sketch, rng=7)
    close(x, expected[:, 0])
    assert isinstance(residual_norm, float)


@pytest.mark.parametrize("sketch", DENSE)
@pytest.mark.parametrize("delta", [0.01, 0.2])
def test_bounds_are_those_of_the_formulas(data, sketch, delta):
    A, B = data
    SA, _, x = solved(A, B, sketch=sketch)
    z = norm.ppf(1 - delta / (2 * D))
    r = np.linalg.norm(B - A @ x, axis=0)
    eps, eta = z * math.sqrt(D / (M - D - 1)), math.sqrt(D / M) * (1 + 2 / math.sqrt(D))
    result = sketched_lstsq(A, B, n_sketch=M, delta=delta, sketch=sketch, rng=7, error=True)
    close(result.linf_bound, eps / math.sqrt(D) * r * (1 + eta) / np.linalg.svd(SA, compute_uv=False)[-1])
    widths = np.sqrt(np.diag(np.linalg.inv(SA.T @ SA)))
    close(result.error, z / math.sqrt(M - D - 1) * np.multiply.outer(widths, r))
    alone = sketched_lstsq(A, B[:, 1], n_sketch=M, delta=delta, sketch=sketch, rng=7, error=True)
    close(alone.error, result.error[:, 1])
    close(alone.linf_bound, result.linf_bound[1])


@pytest.mark.parametrize("sketch", KINDS)
def test_jackknife_leaves_out_each_row(data, sketch):
    A, B = data
    m = 60
    SA, Sb, x = solved(A, B, sketch=sketch, m=m)
    changes = np.stack([np.linalg.lstsq(np.delete(SA, i, 0), np.delete(Sb, i, 0))[0] - x for i in range(m)])
    result = sketched_lstsq(A, B, n_sketch=m, sketch=sketch, rng=7, error="jackknife")
    close(result.error, norm.ppf(1 - 0.01 / (2 * D)) * np.sqrt(np.sum(changes**2, axis=0)))


def test_size_follows_from_the_accuracy():
    A, b = regression(8000, 32, 10, 0.5)
    result = sketched_lstsq(A, b, eps=0.5, rng=0)
    assert (result.n_sketch, result.method) == (1697, "sketch")
    z = norm.ppf(1 - 0.1 / 64)
    assert sketched_lstsq(A, b, eps=0.4, delta=0.1, rng=0).n_sketch == 33 + math.ceil(32 * z**2 / 0.4**2)


@pytest.mark.parametrize("error", [False, True, "jackknife"])
def test_exact_where_a_sketch_would_not_pay(data, error):
    A, B = data
    result = sketched_lstsq(A, B, rng=0, error=error)
    assert (result.n_sketch, result.method, result.rank) == (N, "exact", D)
    exact = np.linalg.lstsq(A, B)[0]
    close(result.x, exact)
    assert (np.abs(result.x - exact).max(axis=0) <= result.linf_bound + 1e-14).all()
    assert (result.linf_bound < 1e-12).all()
    if error:
        assert_array_equal(result.error, np.broadcast_to(result.linf_bound, (D, 2)))
    else:
        assert result.error is None
    alone = sketched_lstsq(A, B[:, 0], rng=0, error=True)
    assert isinstance(alone.linf_bound, float)
    assert alone.error.shape == (D,)


@pytest.mark.parametrize("m", [D, D + 1])
def test_bounds_are_infinite_where_rows_do_not_suffice(data, m):
    for error in (True, "jackknife"):
        result = sketched_lstsq(*data, n_sketch=m, rng=0, error=error)
        assert np.isinf(result.linf_bound).all()
        assert not np.isnan(result.error).any()
        assert np.isinf(result.error).all() or (error == "jackknife" and m > D)


def test_all_rows_may_be_asked_for(data):
    A, B = data
    for sketch in ("srht", "srtt"):
        result = sketched_lstsq(A, B, n_sketch=N, sketch=sketch, rng=0)
        assert result.method == "sketch"
        assert (np.abs(result.x - np.linalg.lstsq(A, B)[0]).max(axis=0) <= result.linf_bound).all()


def test_rank_deficient(data):
    A = gaussian(N, 4)[:, [0, 1, 2, 3, 1]]
    result = sketched_lstsq(A, data[1], n_sketch=M, rng=7, error=True)
    S = SRHT(N, M, rng=child(7, 0)).to_dense()
    assert result.rank == 4
    close(result.x, np.linalg.lstsq(S @ A, S @ data[1], rcond=1e-12)[0])
    assert np.isfinite(result.linf_bound).all()
    zero = sketched_lstsq(np.zeros((N, 3)), data[1], n_sketch=M, rng=7, error=True)
    assert zero.rank == 0
    assert_array_equal(zero.x, 0)


@pytest.mark.parametrize("sketch", KINDS)
def test_every_kind_of_array(data, sketch, tmp_path):
    da = pytest.importorskip("dask.array")
    A, B = data
    expected = sketched_lstsq(A, B, n_sketch=M, sketch=sketch, rng=7)
    on_disk = np.memmap(tmp_path / "A", A.dtype, "w+", shape=A.shape)
    on_disk[:] = A
    kinds = [np.asfortranarray(A), on_disk, sparse.csr_array(A), da.from_array(A, chunks=(700, 5)), A.tolist()]
    for kind in kinds:
        result = sketched_lstsq(kind, B, n_sketch=M, sketch=sketch, rng=7)
        close(result.x, expected.x)
        close(result.residual_norm, expected.residual_norm)
        if expected.linf_bound is not None:
            close(result.linf_bound, expected.linf_bound)
    again = sketched_lstsq(A, B, n_sketch=M, sketch=sketch, rng=7)
    assert_array_equal(again.x, expected.x)


def test_dask_on_every_scheduler(data, dask_scheduler):
    da = pytest.importorskip("dask.array")
    A, B = (da.from_array(part, chunks=(1600, -1)) for part in data)
    close(sketched_lstsq(A, B, n_sketch=M, rng=7).x, sketched_lstsq(*data, n_sketch=M, rng=7).x)


@pytest.mark.parametrize("sketch", KINDS)
def test_array_namespaces(data, xp, sketch):
    expected = sketched_lstsq(*data, n_sketch=M, sketch=sketch, rng=7, error="jackknife")
    A, B = (xp.asarray(part) for part in data)
    result = sketched_lstsq(A, B, n_sketch=M, sketch=sketch, rng=7, error="jackknife")
    assert array_namespace(result.x) is xp
    close(result.x, expected.x)
    close(result.error, expected.error)
    narrow = sketched_lstsq(xp.astype(A, xp.float32), xp.astype(B, xp.float32), n_sketch=M, sketch=sketch, rng=7)
    assert narrow.x.dtype == xp.float32
    close(narrow.x, expected.x, 1e-4)


@pytest.mark.parametrize("sketch", KINDS)
def test_complex(sketch):
    A, B = gaussian(N, 5, dtype=np.complex128), gaussian(N, 2, seed=1, dtype=np.complex128)
    for left, right in ((A, B), (A, B.real), (A.real, B)):
        left = left.copy()
        _, _, expected = solved(left, right, sketch=sketch)
        result = sketched_lstsq(left, right, n_sketch=M, sketch=sketch, rng=7, error="jackknife")
        close(result.x, expected)
        exact = np.linalg.lstsq(left, right)[0]
        if sketch in DENSE:
            assert (np.abs(result.x - exact) <= result.error).all()
            assert (np.abs(result.x - exact).max(axis=0) <= result.linf_bound).all()


@pytest.mark.parametrize("scale", [1e120, 1e-120])
def test_scale(data, scale):
    A, B = data
    expected = sketched_lstsq(A, B, n_sketch=M, rng=7)
    result = sketched_lstsq(A * scale, B, n_sketch=M, rng=7)
    close(result.x * scale, expected.x)
    close(result.linf_bound * scale, expected.linf_bound)


def test_pairs_of_rows_are_sketched_by_their_factors():
    K = KroneckerRows(gaussian(60, 3, seed=1), gaussian(50, 4, seed=2))
    b = gaussian(3000, 2, seed=3)
    result = sketched_lstsq(K, b, n_sketch=M, rng=7, error="jackknife")
    with pytest.raises(ValueError, match="for a sketch by TensorSRHT"):
        sketched_lstsq(K, b, n_sketch=M, rng=7, error=True)
    S = TensorSRHT((60, 50), M, rng=child(7, 0)).to_dense()
    A = np.kron(*K.factors)
    close(result.x, np.linalg.lstsq(S @ A, S @ b)[0])
    error = np.abs(result.x - np.linalg.lstsq(A, b)[0])
    assert (error <= result.error).all()
    assert result.linf_bound is None
    for sketch in KINDS:
        formed = sketched_lstsq(K, b, n_sketch=M, rng=7, sketch=sketch).x
        if sketch != "srht":
            close(formed, sketched_lstsq(A, b, n_sketch=M, rng=7, sketch=sketch).x)
    matched = KroneckerRows(gaussian(N, 3, seed=1), gaussian(N, 4, seed=2), pairing="matched")
    close(sketched_lstsq(matched, b, n_sketch=M, rng=7).x, sketched_lstsq(matched.to_dense(), b, n_sketch=M, rng=7).x)


def test_input_is_never_written(data):
    A, B = (part.copy() for part in data)
    for sketch in KINDS:
        sketched_lstsq(A, B, n_sketch=M, sketch=sketch, rng=7, error="jackknife")
    assert_array_equal(A, data[0])
    assert_array_equal(B, data[1])


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"eps": 0}, ValueError, "eps must be a number in \\(0, 1\\), got 0"),
        ({"eps": 1}, ValueError, "eps must be"),
        ({"eps": "0.1"}, TypeError, "eps must be"),
        ({"delta": 0}, ValueError, "delta must be"),
        ({"delta": 1.5}, ValueError, "delta must be"),
        ({"delta": np.nan}, ValueError, "delta must be"),
        ({"n_sketch": D - 1}, ValueError, "n_sketch must be an integer from 12 to 3000 \\(the columns and the rows"),
        ({"n_sketch": N + 1}, ValueError, "n_sketch must be an integer from 12 to 3000 .* got 3001"),
        ({"n_sketch": 100.5}, TypeError, "n_sketch must be an integer"),
        ({"sketch": "hadamard"}, ValueError, "sketch must be 'srht' or 'srtt' or .* got 'hadamard'"),
        ({"error": "bootstrap"}, ValueError, "error must be"),
        ({"sketch": "sparse_sign", "error": True}, ValueError, 'error must be False or "jackknife" for a sketch by'),
        ({"sketch": "countsketch", "error": True}, ValueError, 'error must be False or "jackknife" for a sketch by'),
        ({"rng": "seed"}, TypeError, "rng must be"),
    ],
)
def test_bad_options(data, options, error, message):
    with pytest.raises(error, match=message):
        sketched_lstsq(*data, **options)


@pytest.mark.parametrize("sketch", KINDS)
def test_bad_arrays(data, sketch):
    A, B = data
    options = {"n_sketch": M, "sketch": sketch, "rng": 0}
    with pytest.raises(ValueError, match="A must have at least as many rows as columns here, .* lstsq takes wide A"):
        sketched_lstsq(A[:5], B[:5], sketch=sketch)
    with pytest.raises(ValueError, match="b must have the 3000 rows of A"):
        sketched_lstsq(A, B[1:], **options)
    for bad in (np.nan, np.inf):
        A_bad, B_bad = A.copy(), B.copy()
        A_bad[77, 3] = B_bad[88, 1] = bad
        for kind in (np.asarray, sparse.csr_array):
            with pytest.raises(ValueError, match="A must be finite, got NaN or infinity in row 77"):
                sketched_lstsq(kind(A_bad), B, **options)
            with pytest.raises(ValueError, match="b must be finite, got NaN or infinity in row 88"):
                sketched_lstsq(kind(A), B_bad, **options)


def test_not_finite_in_a_dask_block(data):
    da = pytest.importorskip("dask.array")
    A, B = (part.copy() for part in data)
    A[2345, 3] = np.nan
    with pytest.raises(ValueError, match="finite, got NaN or infinity in row 2345"):
        sketched_lstsq(da.from_array(A, chunks=(500, 4)), B, n_sketch=M)
    with pytest.raises(ValueError, match="finite, got NaN or infinity in row 2345"):
        sketched_lstsq(da.from_array(data[0], chunks=(500, 4)), da.from_array(A[:, 3], chunks=900), n_sketch=M)


def test_mixed_libraries(data, other_xp):
    with pytest.raises(ValueError, match="A and b must come from one array library"):
        sketched_lstsq(other_xp.asarray(data[0]), data[1])
