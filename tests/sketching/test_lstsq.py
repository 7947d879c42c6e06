"""Least squares to full accuracy: against LAPACK, against 80-bit arithmetic, and against its own claims."""

import itertools
import threading
import warnings

import numpy as np
import pytest
from array_api_compat import array_namespace
from matrices import (
    accurate_lstsq,
    backward_error,
    badly_scaled,
    gaussian,
    huge,
    ill_conditioned,
    regression,
    tiny,
    with_spectrum,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg, sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

from linalg_ml._core.arrays import to_numpy
from linalg_ml.sketching import KroneckerRows, LstsqResult, lstsq

DIRECT = ("gram", "sketch", "qr")  # these claim the accuracy of Householder QR
ALL = (*DIRECT, "lsmr")
UNIT = 2.0**-53

long_enough = pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="longdouble is float64 here")


@pytest.fixture(params=DIRECT)
def method(request):
    return request.param


@pytest.fixture(autouse=True)
def no_warnings(request):
    """Make every warning an error: where one is due, a test says so. LSMR alone claims little, and may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if "lsmr" in request.node.name:
            warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def close(actual, expected, tol=1e-10):
    actual, expected = np.asarray(to_numpy(actual) if hasattr(actual, "shape") else actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert_allclose(actual, expected, rtol=0, atol=tol * max(float(np.abs(expected).max()), 1e-300))


def householder(A, b):
    Q, R = linalg.qr(A, mode="economic")
    return linalg.solve_triangular(R, Q.conj().T @ b)


# --- accuracy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [1e-12, 1e-3, 1])
@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10, 1e12])
def test_backward_error_is_that_of_householder_qr(condition, residual):
    A, b = regression(4000, 100, condition, residual, seed=1)
    allowed = max(2e-16, 10 * backward_error(A, b, householder(A, b)))
    for method in DIRECT:
        result = lstsq(A, b, method=method, rng=0)
        exact = backward_error(A, b, result.x)
        assert exact <= allowed
        # an estimate of something far below the unit roundoff is of its own rounding
        assert exact / 2 <= result.backward_error + UNIT / 10
        assert result.backward_error / 2 <= exact + UNIT / 10
        close(result.residual_norm, np.linalg.norm(b - A @ result.x), 1e-10 if residual > 1e-6 else 0.1)


@long_enough
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("residual", [1e-12, 1e-3, 1])
@pytest.mark.parametrize("condition", [1e1, 1e4, 1e7])
def test_forward_error_is_on_the_safe_side(condition, residual, dtype, method):
    A, b = regression(600, 30, condition, residual, seed=2, dtype=dtype)
    exact = accurate_lstsq(A, b)
    result = lstsq(A, b, method=method, rng=0)
    error = float(np.linalg.norm((result.x - exact).astype(dtype)) / np.linalg.norm(exact.astype(dtype)))
    assert error <= result.forward_error <= 1e4 * max(error, UNIT)


@long_enough
@pytest.mark.parametrize("method", ["sketch", "qr"])
@pytest.mark.parametrize("damp", [0, 1e-3])
@pytest.mark.parametrize("condition", [1e1, 1e4, 1e6])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_forward_error_of_wide_ones(dtype, condition, damp, method):
    n, d = 15, 130
    A, b = ill_conditioned(n, d, condition, seed=3, dtype=dtype), gaussian(n, 1, seed=4, dtype=dtype)[:, 0]
    small = 1 / condition  # αx + Aᴴy = 0, A x - λ²/α y = b, as well conditioned as A for such an α
    system = np.block([[small * np.eye(d), A.conj().T], [A, -(damp**2) / small * np.eye(n)]])
    exact = accurate_lstsq(system, np.r_[np.zeros(d), b])[:d]
    result = lstsq(A, b, damp=damp, method=method, rng=0)
    assert result.method == method
    error = float(np.linalg.norm((result.x - exact).astype(dtype)) / np.linalg.norm(exact.astype(dtype)))
    assert error <= result.forward_error <= 1e4 * max(error, UNIT)


def test_tol_stops_earlier():
    A, b = regression(4000, 100, 1e9, 1e-3)
    exact, rough = (lstsq(A, b, method="sketch", tol=tol, rng=0) for tol in (None, 1e-6))
    assert rough.n_iter < exact.n_iter
    assert exact.backward_error < UNIT < rough.backward_error < 1e-6


# --- rank ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 37, 60])
def test_rank_deficient(rank, method):
    A = gaussian(4000, rank, seed=1) @ gaussian(rank, 100, seed=2)
    b = gaussian(4000, 1, seed=3)[:, 0]
    result = lstsq(A, b, method=method, rng=0)
    expected = linalg.lstsq(A, b, cond=1e-12)[0]
    assert result.rank == rank
    assert np.linalg.norm(result.x - expected) <= 1e-12 * np.linalg.norm(expected)
    assert result.backward_error < 2 * UNIT
    assert result.singular_values.shape == (100,)


@pytest.mark.parametrize("kind", ["zero column", "zero columns", "duplicate columns", "sum of columns"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("width", [5, 40, 120])
def test_dependent_columns(kind, width, dtype, method):
    A = gaussian(2000, width, seed=4)
    if kind == "zero columns":
        A[:, :3] = 0
    else:
        A[:, 2] = {"zero column": 0, "duplicate columns": A[:, 1], "sum of columns": A.sum(axis=1) - A[:, 2]}[kind]
    A, b = A.astype(dtype), gaussian(2000, 1, seed=5, dtype=dtype)[:, 0]
    result = lstsq(A, b, method=method, rng=0)
    eps = np.finfo(dtype).eps
    assert result.rank == np.linalg.matrix_rank(A, tol=1e5 * eps)
    close(result.x, np.linalg.lstsq(A.astype(float), b.astype(float), rcond=1e4 * eps)[0], 1e4 * eps)


@pytest.mark.parametrize("method", ["auto", *ALL])
@pytest.mark.parametrize("shape", [(3000, 100), (50, 50), (20, 60), (1, 1)])
def test_zero_matrix_and_zero_right_hand_side(shape, method):
    n, d = shape
    A, b = gaussian(n, d, seed=6), gaussian(n, 1, seed=7)[:, 0]
    result = lstsq(np.zeros(shape), b, method=method, rng=0)
    assert_array_equal(result.x, np.zeros(d))
    assert result.rank in (0, None)
    close(result.residual_norm, np.linalg.norm(b))
    assert result.backward_error == 0
    result = lstsq(A, np.zeros(n), method=method, rng=0)
    assert_array_equal(result.x, np.zeros(d))
    assert result.residual_norm == result.backward_error == 0


def test_right_hand_side_orthogonal_to_the_columns(method):
    A = np.zeros((3000, 20))
    A[:1500] = gaussian(1500, 20)
    b = np.r_[np.zeros(1500), np.ones(1500)]
    result = lstsq(A, b, method=method, rng=0)
    assert np.linalg.norm(result.x) < 1e-12
    assert result.backward_error < 1e-15
    close(result.residual_norm, 1500**0.5)


@pytest.mark.parametrize("residual", [1e-12, 1e-3, 1])
@pytest.mark.parametrize("condition", [1e15, 1e17])
def test_numerically_singular(condition, residual, method):
    A, b = regression(4000, 100, condition, residual, seed=8)
    result = lstsq(A, b, method=method, rng=0)
    assert backward_error(A, b, result.x) <= 3e-15
    assert 80 < result.rank <= 100
    assert np.isfinite(result.forward_error)


def test_cond_decides_the_rank(method):
    A = with_spectrum(2000, 20, np.r_[np.ones(15), np.full(5, 1e-6)], seed=9)
    b = gaussian(2000, 1)[:, 0]
    for cond, rank in [(None, 20), (1e-8, 20), (1e-4, 15), (0, 20)]:
        result = lstsq(A, b, method=method, cond=cond, rng=0)
        assert result.rank == rank
        close(result.x, np.linalg.lstsq(A, b, rcond=cond or 1e-15)[0], 1e-6)


# --- scales, shapes, dtypes ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", *ALL])
@pytest.mark.parametrize(("scale", "b_scale"), [(1e140, 1e140), (1e-140, 1e-140), (1e140, 1e-140), (1e-140, 1e140)])
@pytest.mark.parametrize("shape", [(3000, 30), (30, 300)])
def test_scale_changes_nothing(shape, scale, b_scale, method):
    A, b = gaussian(*shape, seed=1), gaussian(shape[0], 1, seed=2)[:, 0]
    expected = lstsq(A, b, method=method, rng=0)
    result = lstsq(A * scale, b * b_scale, method=method, rng=0)
    close(result.x / b_scale * scale, expected.x, 1e-12)
    assert result.rank == expected.rank
    assert result.backward_error < 1e-15
    if shape[0] > shape[1]:
        close(result.residual_norm / b_scale, expected.residual_norm)
    if expected.singular_values is not None:
        close(result.singular_values / scale, expected.singular_values)


def test_scale_of_float32(method):
    A, b = gaussian(3000, 30, dtype=np.float32), gaussian(3000, 1, seed=2, dtype=np.float32)[:, 0]
    expected = lstsq(A, b, method=method, rng=0)
    for scale, b_scale in itertools.product([1e-30, 1e30], [1e-20, 1e20]):
        if 1e-30 < b_scale / scale < 1e30:
            result = lstsq(A * np.float32(scale), b * np.float32(b_scale), method=method, rng=0)
            close(result.x.astype(np.float64) / b_scale * scale, expected.x.astype(np.float64), 1e-5)


@pytest.mark.parametrize("method", ["auto", *ALL])
@pytest.mark.parametrize("shape", [(2000, 12), (12, 100)])
@pytest.mark.parametrize("make", [huge, tiny])
def test_ends_of_the_range(make, shape, method):
    A, b = make(*shape, seed=1), make(shape[0], 1, seed=2)[:, 0]
    scale = np.abs(A).max()
    result = lstsq(A, b, method=method, rng=0)
    close(result.x, np.linalg.lstsq(A / scale, b / scale)[0])
    assert result.backward_error < 3e-15
    assert np.isfinite(result.residual_norm)


@pytest.mark.parametrize("method", ["auto", *ALL])
@pytest.mark.parametrize("decades", [-6, 6])
def test_scaled_columns(decades, method):
    A = badly_scaled(4000, 60, abs(decades), seed=3)[:, :: int(np.sign(decades))]
    b = A @ np.ones(60) + 1e-3 * gaussian(4000, 1, seed=4)[:, 0]
    result = lstsq(A, b, method=method, rng=0)
    close(result.x * np.linalg.norm(A, axis=0), householder(A, b) * np.linalg.norm(A, axis=0))
    assert backward_error(A, b, result.x) < 2e-16 or method == "lsmr"


@pytest.mark.parametrize("condition", [1e1, 1e4, 1e6, 1e9])
def test_float32(condition, method):
    A, b = regression(4000, 100, condition, 1e-3, dtype=np.float32)
    result = lstsq(A, b, method=method, rng=0)
    assert result.x.dtype == np.float32
    error = backward_error(*(part.astype(np.float64) for part in (A, b, result.x)))
    assert error < 1e-7
    assert error / 2 < result.backward_error < 2 * error + 1e-9
    assert result.backward_error > 1e-12  # of the float32 answer, not of what it was rounded from


@pytest.mark.parametrize("method", ["auto", *ALL])
@pytest.mark.parametrize(
    "shape", [(1, 1), (7, 1), (5000, 1), (50, 50), (2, 2), (200, 200), (51, 50), (401, 50), (99, 50), (400, 50)]
)
def test_shapes(shape, method):
    A, b = gaussian(*shape, seed=5), gaussian(shape[0], 1, seed=6)[:, 0]
    if shape[0] == shape[1] or method == "lsmr":
        A += 2 * shape[0] ** 0.5 * np.eye(*shape)
    result = lstsq(A, b, method=method, rng=0)
    close(result.x, np.linalg.lstsq(A, b)[0])
    assert result.rank in (shape[1], None)
    assert isinstance(result.residual_norm, float)


@pytest.mark.parametrize("method", ["auto", *ALL])
def test_right_hand_sides_are_independent(method):
    A, b = regression(4000, 60, 10, 1e-3)
    B = np.stack([b, 1e9 * np.flip(b), A @ np.arange(60.0), np.zeros(4000), 1e-9 * A[:, 3]], axis=1)
    together = lstsq(A, B, method=method, rng=0)
    assert together.x.shape == (60, 5)
    for name in ("residual_norm", "backward_error", "forward_error"):
        assert getattr(together, name).shape == (5,)
    for j in range(5):
        alone = lstsq(A, B[:, j], method=method, rng=0)
        close(together.x[:, j], alone.x, 1e-12 if method != "lsmr" else 1e-9)
        assert together.backward_error[j] < (2e-16 if method != "lsmr" else 1e-12)
    assert lstsq(A, b[:, None]).x.shape == (60, 1)
    assert_array_equal(B[:, 3], 0)


def test_as_many_right_hand_sides_as_one_likes():
    A, B = gaussian(1000, 300), gaussian(1000, 700, seed=1)
    close(lstsq(A, B, rng=0).x, np.linalg.lstsq(A, B)[0])


@pytest.mark.parametrize("method", ["auto", *ALL])
@pytest.mark.parametrize(("a_complex", "b_complex"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("shape", [(3000, 30), (30, 300), (40, 40)])
def test_complex(shape, a_complex, b_complex, method):
    kinds = {False: np.float64, True: np.complex128}
    A = gaussian(*shape, seed=1, dtype=kinds[a_complex])
    b = gaussian(shape[0], 2, seed=2, dtype=kinds[b_complex])
    if shape[0] == shape[1]:
        A += 20 * np.eye(shape[0])
    result = lstsq(A, b, method=method, rng=0)
    assert result.x.dtype == np.complex128
    close(result.x, np.linalg.lstsq(A, b)[0])


@pytest.mark.parametrize(
    ("dtype", "computed"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.complex64, np.complex64),
        (np.longdouble, np.float64),
        (np.clongdouble, np.complex128),
        (np.int8, np.float64),
        (np.uint64, np.float64),
        (np.int64, np.float64),
        (np.bool_, np.float64),
        (">f8", np.float64),
    ],
)
def test_dtypes(dtype, computed, method):
    A, b = gaussian(2000, 10, seed=1) * 10, gaussian(2000, 1, seed=2)[:, 0] * 10
    if np.issubdtype(dtype, np.complexfloating):
        A = A + 1j * gaussian(2000, 10, seed=3)
    if np.dtype(dtype).kind in "ub":
        A, b = abs(A), abs(b)
    A, b = (A > 5, b > 5) if dtype == np.bool_ else (A.astype(dtype), b.astype(dtype))
    result = lstsq(A, b, method=method, rng=0)
    assert result.x.dtype == computed
    wide = np.result_type(computed, np.float64)
    close(result.x, np.linalg.lstsq(A.astype(wide), b.astype(wide))[0], 1e-4 if computed(1).itemsize == 4 else 1e-5)
    assert lstsq(A, b.astype(wide)).x.dtype == wide


# --- kinds of input -----------------------------------------------------------------------------------

N, D = 4096, 40


@pytest.fixture(scope="module")
def data():
    return regression(N, D, 1e3, 1e-2, seed=1)  # LSMR alone does not get to 1e-10 there


@pytest.fixture(scope="module")
def x(data):
    return np.linalg.lstsq(*data)[0]


def memmap(A, tmp_path):
    out = np.memmap(tmp_path / "A", A.dtype, "w+", shape=A.shape)
    out[:] = A
    out.flush()
    return np.memmap(tmp_path / "A", A.dtype, "r", shape=A.shape)


@pytest.mark.parametrize("method", ["auto", *ALL])
def test_same_answer_from_every_kind_of_array(data, x, method, tmp_path):
    A, b = data
    kinds = {
        "ndarray": A,
        "Fortran": np.asfortranarray(A),
        "strided": np.repeat(A, 2, axis=1)[:, ::2],
        "memmap": memmap(A, tmp_path),
        "CSR": sparse.csr_array(A),
        "COO matrix": sparse.coo_matrix(A),
        "lists": A.tolist(),
    }
    for kind in kinds.values():
        result = lstsq(kind, b, method=method, rng=0)
        close(result.x, x, 1e-10 if method != "lsmr" else 1e-2)
        again = lstsq(kind, b, method=method, rng=0)
        assert_array_equal(again.x, result.x)
        assert again.backward_error == result.backward_error


@pytest.mark.parametrize("method", ["auto", *ALL])
def test_array_namespaces(data, x, xp, method):
    A, b = (xp.asarray(part) for part in data)
    result = lstsq(A, b, method=method, rng=0)
    assert array_namespace(result.x) is xp
    close(result.x, x, 1e-10 if method != "lsmr" else 1e-2)
    narrow = lstsq(xp.astype(A, xp.float32), xp.astype(b, xp.float32), method=method, rng=0)
    assert narrow.x.dtype == xp.float32
    close(narrow.x, x.astype(np.float32), 1e-3 if method != "lsmr" else 1e-1)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_wide_and_complex_in_namespaces(xp, dtype):
    A, b = gaussian(30, 400, seed=1, dtype=dtype), gaussian(30, 2, seed=2, dtype=dtype)
    for m in (A, A.T):
        rhs = b if m is A else gaussian(400, 2, seed=2, dtype=dtype)
        for method in DIRECT:
            result = lstsq(xp.asarray(m), xp.asarray(rhs), method=method, rng=0)
            assert array_namespace(result.x) is xp
            close(result.x, np.linalg.lstsq(m, rhs)[0])


@pytest.mark.parametrize("method", DIRECT)
def test_dask(data, x, method):
    da = pytest.importorskip("dask.array")
    A, b = data
    for chunks, right in [((1000, 17), b), ((N, D), da.from_array(b, chunks=700)), ((601, D), b[:, None])]:
        result = lstsq(da.from_array(A, chunks=chunks), right, method=method, rng=0)
        assert isinstance(result.x, np.ndarray)
        close(result.x[..., 0] if result.x.ndim == 2 else result.x, x)
    again = lstsq(da.from_array(A, chunks=(601, D)), b[:, None], method=method, rng=0)
    assert_array_equal(again.x, result.x)


@pytest.mark.parametrize(("method", "condition"), [("auto", 1e3), ("sketch", 10)])
def test_dask_on_a_cluster(method, condition, dask_scheduler):
    da = pytest.importorskip("dask.array")
    A, b = regression(3000, 10, condition, 1e-2)
    result = lstsq(da.from_array(A, chunks=(1500, 10)), da.from_array(b, chunks=1500), method=method, rng=0)
    close(result.x, np.linalg.lstsq(A, b)[0])


def test_lsmr_on_dask():
    da = pytest.importorskip("dask.array")
    A, b = gaussian(3000, 5), gaussian(3000, 1, seed=1)[:, 0]
    close(lstsq(da.from_array(A, chunks=(1500, 5)), b, method="lsmr").x, np.linalg.lstsq(A, b)[0])


@pytest.mark.parametrize("method", DIRECT)
def test_wide_dask(method):
    da = pytest.importorskip("dask.array")
    A, b = gaussian(30, 600), gaussian(30, 1, seed=1)[:, 0]
    result = lstsq(da.from_array(A, chunks=(7, 100)), b, method=method, rng=0)
    close(result.x, np.linalg.lstsq(A, b)[0])


class Counted:
    """Rows that count how often they are read."""

    def __init__(self, A):
        self.A, self.shape, self.dtype, self.ndim = A, A.shape, A.dtype, 2
        self.rows_read, self.lock = 0, threading.Lock()

    def __getitem__(self, key):
        part = self.A[key]
        with self.lock:
            self.rows_read += part.shape[0]
        return part


@pytest.mark.parametrize(
    ("method", "condition", "least", "most"),
    [("auto", 10, 2, 5), ("auto", 1e10, 2, 5), ("gram", 1e6, 3, 7), ("qr", 1e10, 2, 4), ("sketch", 1e10, 10, 60)],
)
def test_passes_are_counted(method, condition, least, most):
    da = pytest.importorskip("dask.array")
    A, b = regression(N, 60, condition, 1e-3)
    rows = Counted(A)
    with pytest.importorskip("dask").config.set(scheduler="threads"):
        result = lstsq(
            da.from_array(rows, chunks=(1000, 60), meta=np.empty((0, 0)), fancy=False), b, method=method, rng=0
        )
    assert rows.rows_read == result.n_passes * N
    assert least <= result.n_passes <= most


def test_passes_of_memmaps(tmp_path):
    A, b = regression(N, 60, 1e3, 1e-2)
    on_disk = lstsq(memmap(A, tmp_path), b, rng=0)
    assert on_disk.method == "gram"
    assert on_disk.n_passes == 1 + (on_disk.n_iter + 2 if on_disk.n_iter else 1)
    qr = lstsq(memmap(A, tmp_path), b, method="qr", rng=0)
    assert 2 <= qr.n_passes <= 4


@pytest.mark.parametrize("method", ["auto", *ALL])
@pytest.mark.parametrize("shape", [(N, D), (D, 500)])
def test_input_is_never_written(method, shape):
    A, b = gaussian(*shape), gaussian(shape[0], 3, seed=1)
    for scale in (1, 1e130):
        kinds = [A * scale, sparse.csr_array(A * scale)]
        for kind in kinds:
            right = b * scale
            before, right_before = kind.copy(), right.copy()
            lstsq(kind, right, method=method, damp=0.1, rng=0)
            assert_array_equal((kind.data, before.data)[0], (kind.data, before.data)[1])
            assert_array_equal(right, right_before)
    A.flags.writeable = b.flags.writeable = False
    lstsq(A, b, method=method, rng=0)


def test_seed_changes_rounding_only(data, x):
    first, second = (lstsq(*data, method="sketch", rng=seed).x for seed in (1, np.random.default_rng(2)))
    assert (first != second).any()
    close(first, second, 1e-12)


# --- ridge --------------------------------------------------------------------------------------------


def ridge(A, b, damp):
    U, s, Vh = np.linalg.svd(A, full_matrices=False)
    return Vh.conj().T @ ((s / (s**2 + damp**2))[:, None] * (U.conj().T @ b.reshape(b.shape[0], -1)))


def augmented(A, b, damp):
    d = A.shape[1]
    return np.concatenate([A, damp * np.eye(d)]), np.concatenate([b, np.zeros((d, *b.shape[1:]))])


@pytest.mark.parametrize("method", ["auto", *ALL])
@pytest.mark.parametrize("damp", [1e-6, 1e-3, 1, 1e3])
@pytest.mark.parametrize("shape", [(3000, 30), (60, 50), (40, 40), (30, 300), (150, 1400)])
def test_ridge(shape, damp, method):
    A, b = gaussian(*shape, seed=1), gaussian(shape[0], 2, seed=2)
    if shape[0] < 100 and method == "lsmr":
        damp = max(damp, 1)  # LSMR alone does not get far otherwise
    result = lstsq(A, b, damp=damp, method=method, rng=0)
    close(result.x, ridge(A, b, damp))
    if shape[0] > shape[1] or damp > 0.1:
        close(result.residual_norm, np.linalg.norm(b - A @ result.x, axis=0), 1e-8)
    assert np.max(result.backward_error) < 3e-16 or method == "lsmr"


@pytest.mark.parametrize("damp", [1e-6, 1e-3, 1])
def test_ridge_of_ill_conditioned(damp, method):
    A, b = regression(2000, 50, 1e8, 1e-3)
    B, c = augmented(A, b, damp)
    result = lstsq(A, b, damp=damp, method=method, rng=0)
    assert backward_error(B, c, result.x) < 2e-16
    close(result.x, householder(B, c), 1e-7)
    tolerance = {"sketch": 0.6, "gram": 1e-3, "qr": 1e-6}[result.method]
    assert_allclose(result.singular_values, np.linalg.svd(B, compute_uv=False), rtol=tolerance)


def test_ridge_of_scikit_learn(method):
    A, b = regression(2000, 50, 1e3, 1)
    expected = Ridge(0.49, fit_intercept=False, solver="svd").fit(A, b).coef_
    close(lstsq(A, b, damp=0.7, method=method, rng=0).x, expected)
    close(lstsq(sparse.csr_array(A), b, damp=0.7, method=method, rng=0).x, expected)


def test_ridge_makes_full_rank(method):
    A, b = gaussian(2000, 10)[:, [0, 1, 1, 2, 2, 2]], gaussian(2000, 1, seed=1)[:, 0]
    result = lstsq(A, b, damp=0.1, method=method, rng=0)
    assert result.rank == 6
    close(result.x[:, None], ridge(A, b, 0.1), result.forward_error)


@pytest.mark.parametrize("scale", [1e140, 1e-140])
def test_ridge_follows_the_scale(scale, method):
    A, b = gaussian(2000, 20), gaussian(2000, 1, seed=1)[:, 0]
    close(lstsq(A * scale, b, damp=2 * scale, method=method).x * scale, lstsq(A, b, damp=2).x)


# --- wide ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "sketch", "qr"])
@pytest.mark.parametrize("condition", [1e2, 1e6, 1e8, 1e12, 1e15])
@pytest.mark.parametrize("shape", [(100, 1500), (40, 50)])
def test_wide(shape, condition, method):
    A = ill_conditioned(*shape, condition, seed=1)
    b = A @ gaussian(shape[1], 1, seed=2)[:, 0]
    result = lstsq(A, b, method=method, rng=0)
    assert np.linalg.norm(A @ result.x - b) <= 1e-13 * np.linalg.norm(b)
    assert result.residual_norm <= 1e-13 * np.linalg.norm(b)
    expected = np.linalg.lstsq(A, b, rcond=1e-16)[0]
    close(result.x, expected, max(1e-12, 1e-13 * condition) if condition < 1e15 else 1)
    assert result.rank == shape[0] or condition > 1e14
    assert result.backward_error < 1e-15


@pytest.mark.parametrize("method", ["auto", "sketch", "qr"])
@pytest.mark.parametrize("damp", [0, 0.1])
@pytest.mark.parametrize("rank", [1, 25, 60])
def test_wide_rank_deficient(rank, damp, method):
    A = gaussian(60, rank, seed=1) @ gaussian(rank, 900, seed=2)
    B = gaussian(60, 3, seed=3)
    result = lstsq(A, B, damp=damp, method=method, rng=0)
    expected = ridge(A, B, damp) if damp else np.linalg.lstsq(A, B, rcond=1e-12)[0]
    error = np.linalg.norm(result.x - expected, axis=0) / np.linalg.norm(expected, axis=0)
    assert (error <= np.maximum(1e-10, result.forward_error)).all()  # x = Aᴴw of a w that is b/λ² in part
    assert result.rank == (60 if damp else rank)
    residual = np.linalg.norm(B - A @ expected, axis=0)
    assert_allclose(result.residual_norm, residual, rtol=1e-9, atol=1e-11)
    assert result.backward_error.shape == (3,)


@pytest.mark.parametrize("method", ["auto", "sketch", "qr"])
def test_wide_sparse(method):
    A = sparse.random_array((150, 2000), density=0.05, rng=1, format="csr")
    b = gaussian(150, 1)[:, 0]
    close(lstsq(A, b, method=method, rng=0).x, np.linalg.lstsq(A.toarray(), b)[0])


def test_what_wide_ones_are_solved_by():
    b = np.ones(150)
    assert lstsq(gaussian(150, 2000), b, rng=0).method == "sketch"
    assert lstsq(ill_conditioned(150, 2000, 1e9), b, rng=0).method == "qr"
    assert lstsq(gaussian(150, 200), b, rng=0).method == "qr"
    assert lstsq(gaussian(150, 2000), np.ones((150, 9)), rng=0).method == "qr"


# --- sparse -------------------------------------------------------------------------------------------


def sparse_problem(n, d, per_row, condition=1.0, *, seed=0):
    """Return a sparse A of full rank; with a condition, half of its columns come so near to the others."""
    rng = np.random.default_rng(seed)
    A = sparse.random_array((n, d), density=per_row / d, rng=rng, format="csr") + sparse.eye_array(n, d)
    if condition > 1:
        half = d // 2
        A = sparse.hstack([A[:, :half], A[:, :half] + A[:, half : 2 * half] / condition])
    return sparse.csr_array(A), rng.standard_normal(n)


@pytest.mark.parametrize(
    ("n", "d", "condition", "method"),
    [
        (1000, 400, 1, "lsmr"),
        (1000, 400, 1e4, "gram"),
        (1000, 400, 1e9, "qr"),
        (8000, 30, 1, "gram"),
        (8000, 30, 1e4, "gram"),
        (8000, 30, 1e9, "sketch"),
        (200, 30, 1e9, "qr"),
    ],
)
def test_what_sparse_ones_are_solved_by(n, d, condition, method):
    A, b = sparse_problem(n, d, 2, condition)
    result = lstsq(A, b, rng=0)
    assert result.method == method
    assert backward_error(A.toarray(), b, result.x) < 3e-15 if method == "lsmr" else 2e-16
    assert (result.rank, result.singular_values) == (None, None) if method == "lsmr" else result.rank == d


@pytest.mark.parametrize("method", ["auto", *ALL])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
def test_sparse_kinds(kind, method):
    A, B = sparse_problem(800, 20, 3)
    B = np.stack([B, B**2], axis=1)
    for dtype in (np.float64, np.complex128, np.float32):
        result = lstsq(kind(A.astype(dtype)), B.astype(dtype), method=method, rng=0)
        assert result.x.dtype == dtype
        close(result.x, np.linalg.lstsq(A.toarray(), B)[0].astype(dtype), 1e-10 if dtype != np.float32 else 1e-4)
    close(lstsq(kind(A * 1j), B, method=method, rng=0).x, np.linalg.lstsq(A.toarray() * 1j, B)[0])


def test_sparse_with_nothing_in_it():
    A = sparse.csr_array((500, 8))
    result = lstsq(A, np.ones(500))
    assert_array_equal(result.x, 0)
    assert result.rank in (0, None)


def differences(n):
    """Return the matrix whose inverse takes cumulative sums: its condition grows with n."""
    return sparse.diags_array([np.ones(n), -np.ones(n - 1)], offsets=[0, -1], format="csr")


def test_warns_where_nothing_else_can_take_over():
    A = differences(20_001)
    with pytest.warns(ConvergenceWarning, match="LSMR stopped after 300 iterations at a backward error of"):
        result = lstsq(A, np.ones(20_001), rng=0)
    assert (result.method, result.n_iter) == ("lsmr", 300)
    assert result.backward_error > 1e-15


# --- operators ----------------------------------------------------------------------------------------


class CountedOperator(LinearOperator):
    def __init__(self, A):
        super().__init__(A.dtype, A.shape)
        self.A, self.products = A, 0

    def _matvec(self, x):
        return self._matmat(x)

    def _rmatvec(self, x):
        return self._rmatmat(x)

    def _matmat(self, X):
        self.products += 1
        return self.A @ X

    def _rmatmat(self, X):
        self.products += 1
        return self.A.conj().T @ X


@pytest.mark.parametrize("damp", [0, 0.5])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_operator(dtype, damp):
    A, B = gaussian(600, 20, dtype=dtype), gaussian(600, 2, seed=1, dtype=dtype)
    operator = CountedOperator(A)
    result = lstsq(operator, B, damp=damp, rng=0)
    close(result.x, np.linalg.lstsq(*augmented(A, B, damp))[0])
    assert (result.method, result.rank, result.singular_values) == ("lsmr", None, None)
    assert np.isinf(result.forward_error).all()
    assert (result.backward_error < 1e-14).all()
    assert result.n_passes == operator.products  # with A, and with its adjoint
    x, residues, _, _ = lstsq(aslinearoperator(A), B[:, 0], damp=damp)
    close(x, result.x[:, 0])
    close(residues, result.residual_norm[0] ** 2)


def test_operator_that_converges_too_slowly():
    A, b = regression(600, 20, 1e9, 1e-3)
    with pytest.warns(ConvergenceWarning, match="LSMR stopped after .* the answer may be inaccurate"):
        result = lstsq(aslinearoperator(A), b, rng=0)
    assert result.backward_error > 1e-15


def test_wide_operator():
    A, b = gaussian(20, 600), gaussian(20, 1, seed=1)[:, 0]
    close(lstsq(aslinearoperator(A), b, rng=0).x, np.linalg.lstsq(A, b)[0])


# --- covariance ---------------------------------------------------------------------------------------


def textbook(A, b, damp=0.0):
    """Return σ²(AᴴA)⁻¹, of a ridge σ²(AᴴA + λ²I)⁻¹AᴴA(AᴴA + λ²I)⁻¹."""
    G = A.conj().T @ A
    inverse = np.linalg.inv(G + damp**2 * np.eye(G.shape[0]))
    x = inverse @ A.conj().T @ b
    return np.linalg.norm(b - A @ x) ** 2 / (A.shape[0] - A.shape[1]) * inverse @ G @ inverse


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("damp", [0, 0.3])
def test_covariance(damp, dtype, method):
    A, b = regression(3000, 20, 30, 0.3, dtype=dtype)
    result = lstsq(A, b, damp=damp, method=method, return_covariance="exact", rng=0)
    close(result.covariance, textbook(A, b, damp))
    many = lstsq(A, np.stack([b, 2 * b], axis=1), damp=damp, method=method, return_covariance="exact", rng=0)
    assert many.covariance.shape == (20, 20, 2)
    close(many.covariance[:, :, 1], 4 * textbook(A, b, damp))
    quick = lstsq(A, b, damp=damp, method=method, return_covariance=True, rng=0)
    if quick.method != "sketch" or damp > 0:
        close(quick.covariance, textbook(A, b, damp))
    assert lstsq(A, b).covariance is None


def test_exact_covariance_of_the_gram_matrix():
    A, b = regression(4000, 60, 1e6, 1)
    expected = lstsq(A, b, method="qr", return_covariance=True).covariance
    close(lstsq(A, b, method="gram", return_covariance="exact").covariance, expected, 1e-8)
    close(lstsq(A, b, method="gram", return_covariance=True).covariance, expected, 1e-2)


@pytest.mark.parametrize("scale", [1e140, 1e-140])
def test_covariance_follows_the_scale(scale, method):
    A, b = regression(3000, 20, 30, 0.3)
    expected = textbook(A, b)
    result = lstsq(A * scale, b * scale, method=method, return_covariance="exact", rng=0)
    close(result.covariance, expected)


@pytest.mark.parametrize("rows", ["Gaussian", "Student t(2)"])
def test_standard_errors_of_the_sketch(rows):
    n, d = 20_000, 100
    rng = np.random.default_rng(1)
    A = rng.standard_normal((n, d)) if rows == "Gaussian" else rng.standard_t(2, (n, d))
    b = rng.standard_normal(n)
    exact = lstsq(A, b, method="qr", return_covariance=True)
    close(exact.covariance, textbook(A, b))
    result = lstsq(A, b, method="sketch", return_covariance=True, rng=0)
    assert result.method == "sketch"
    ratio = np.sqrt(np.diag(result.covariance) / np.diag(exact.covariance))
    m = 8 * d  # of at least
    assert np.sqrt(np.mean((ratio - 1) ** 2)) <= 1.3 / np.sqrt(2 * (m - d))
    assert abs(np.mean(ratio) - 1) < 0.02
    assert lstsq(A, b, method="sketch", return_covariance="exact", rng=0).n_passes == result.n_passes + 1


def test_covariance_where_the_rank_is_less(method):
    A, b = gaussian(2000, 8)[:, [0, 1, 2, 3, 3]], gaussian(2000, 1, seed=1)[:, 0]
    result = lstsq(A, b, method=method, return_covariance="exact", rng=0)
    x = np.linalg.lstsq(A, b, rcond=1e-12)[0]
    expected = np.linalg.norm(b - A @ x) ** 2 / (2000 - 4) * np.linalg.pinv(A.T @ A, rcond=1e-12)
    close(result.covariance, expected)


@pytest.mark.parametrize(
    ("A", "options", "message"),
    [
        (gaussian(9, 9), {}, "return_covariance needs more rows than the rank, got 9 rows and rank 9"),
        (gaussian(5, 9), {}, "return_covariance needs more rows than columns"),
        (gaussian(90, 9), {"method": "lsmr"}, "return_covariance needs a factorisation"),
        (aslinearoperator(gaussian(90, 9)), {}, "return_covariance needs a factorisation"),
        (KroneckerRows(gaussian(9, 2), gaussian(9, 2)), {}, "return_covariance is not offered for KroneckerRows"),
    ],
)
def test_covariance_that_does_not_exist(A, options, message):
    with pytest.raises(ValueError, match=message):
        lstsq(A, np.ones(A.shape[0]), return_covariance=True, **options)


# --- what auto picks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "condition", "columns", "method"),
    [
        ((500, 300), 10, 1, "qr"),  # n < 2d
        ((2000, 100), 10, 1, "qr"),  # small
        ((4000, 100), 10, 1, "gram"),
        ((4000, 100), 1e6, 1, "gram"),
        ((4000, 100), 1e9, 1, "qr"),  # d ≤ 128
        ((3000, 200), 10, 1, "gram"),
        ((3000, 200), 1e9, 1, "sketch"),
        ((3000, 200), 1e9, 3, "qr"),  # k > d/80
        ((1000, 210), 1e9, 1, "qr"),  # n < 8d
    ],
)
def test_what_auto_picks(shape, condition, columns, method):
    A, b = regression(*shape, condition, 1e-3, seed=3)
    result = lstsq(A, b if columns == 1 else np.stack([b] * columns, axis=1), rng=0)
    assert result.method == method
    assert np.max(result.backward_error) < 2e-16


def test_what_auto_picks_on_disk(tmp_path):
    A, b = regression(4000, 200, 10, 1e-3)
    assert lstsq(memmap(A, tmp_path), b, rng=0).method == "gram"
    A, b = regression(4000, 200, 1e9, 1e-3)
    assert lstsq(memmap(A, tmp_path), b, rng=0).method == "qr"


def test_column_whose_mass_lies_in_one_row():
    A = gaussian(6000, 150, seed=5)
    A[:, 7] = 0
    A[4321, 7] = 70
    b = A @ np.ones(150) + 1e-3 * gaussian(6000, 1, seed=6)[:, 0]
    result = lstsq(A, b, rng=0)  # sampled rows miss it, and tell less of A than is true
    assert result.method in ("gram", "sketch")
    assert result.rank == 150
    assert backward_error(A, b, result.x) < 2e-16
    close(result.x, householder(A, b), 1e-12)


@pytest.mark.parametrize(("condition", "given_up"), [(1e5, False), (1e6, False), (1e9, True), (1e12, True)])
@pytest.mark.parametrize(("shape", "instead"), [((3000, 40), "qr"), ((3000, 150), "sketch"), ((500, 150), "qr")])
def test_gram_is_given_up_where_it_would_be_slow(shape, instead, condition, given_up):
    A, b = regression(*shape, condition, 1e-3)
    result = lstsq(A, b, method="gram", rng=0)
    assert result.method == (instead if given_up else "gram")
    assert backward_error(A, b, result.x) < 2e-16


def test_sketch_needs_enough_rows():
    A, b = regression(800, 100, 10, 1e-3)
    assert lstsq(A, b, method="sketch", rng=0).method == "sketch"
    assert lstsq(A[:799], b[:799], method="sketch", rng=0).method == "qr"


# --- as SciPy -----------------------------------------------------------------------------------------

REALS, COMPLEXES = [np.float32, np.float64, np.longdouble], [np.complex64, np.complex128, np.clongdouble]


def eps_of(dtype):
    return np.finfo(np.float32 if np.dtype(dtype) in (np.float32, np.complex64) else np.float64).eps


def dominant(shape, dtype, rng):
    """Return random entries on [0, 1) with a heavy diagonal, as SciPy's tests do."""
    A = rng.random(shape)
    if np.issubdtype(dtype, np.complexfloating):
        A = A + 1j * rng.random(shape)
    A = A.astype(dtype)
    for i in range(shape[1]):
        A[i, i] = 20 * (0.1 + A[i, i])
    return A


class TestAsSciPy:
    """The cases of `TestLstsq` in scipy/linalg/tests/test_basic.py but for its empty inputs."""

    @pytest.mark.parametrize("dtype", REALS + COMPLEXES)
    @pytest.mark.parametrize("b", [((1, 0), (0, 1)), (1, 0), ((2, 1), (-30, 4))])
    @pytest.mark.parametrize("a", [((1, 20), (-30, 4))])
    def test_exact(self, a, b, dtype):
        a, b = np.array(a, dtype), np.array(b, dtype)
        x, residues, rank, s = lstsq(a, b)
        assert rank == 2
        assert residues.shape == (0,)
        close(s, linalg.svdvals(a.astype(complex)), 1e-5)
        assert_allclose(a @ x, b, rtol=25 * eps_of(dtype), atol=25 * eps_of(dtype))

    @pytest.mark.parametrize("dtype", REALS + COMPLEXES)
    def test_overdetermined(self, dtype):
        a, b = np.array([[1, 2], [4, 5], [3, 4]], dtype), np.array([1, 2, 3], dtype)
        expected = (-0.428571428571429, 0.85714285714285)
        if np.issubdtype(dtype, np.complexfloating):
            a[0, 0], b[1] = 1 + 2j, 2 + 4j
            expected = (-0.4831460674157303 + 0.258426966292135j, 0.921348314606741 + 0.292134831460674j)
        x, residues, rank, _ = lstsq(a, b)
        assert rank == 2
        assert np.shape(residues) == ()
        assert_allclose(np.sum(np.abs(a @ x - b) ** 2), residues, rtol=25 * eps_of(dtype), atol=25 * eps_of(dtype))
        assert_allclose(x, expected, rtol=25 * eps_of(dtype), atol=25 * eps_of(dtype))

    @pytest.mark.parametrize("dtype", REALS)
    def test_underdetermined(self, dtype):
        x, residues, rank, _ = lstsq(np.array([[1, 2, 3], [4, 5, 6]], dtype), np.array([1, 2], dtype))
        assert rank == 2
        assert residues.shape == (0,)
        expected = (-0.055555555555555, 0.111111111111111, 0.277777777777777)
        assert_allclose(x, expected, rtol=25 * eps_of(dtype), atol=25 * eps_of(dtype))

    @pytest.mark.parametrize("dtype", REALS + COMPLEXES)
    @pytest.mark.parametrize("n", [20, 200])
    def test_random_square(self, n, dtype):
        rng = np.random.RandomState(1234)
        a = dominant((n, n), dtype, rng)
        for _ in range(2):
            b = rng.random_sample([n, 3]).astype(dtype)
            x, residues, rank, _ = lstsq(a, b)
            assert rank == n
            assert residues.shape == (0,)
            assert_allclose(a @ x, b, rtol=400 * eps_of(dtype), atol=400 * eps_of(dtype))

    @pytest.mark.parametrize("dtype", REALS + COMPLEXES)
    @pytest.mark.parametrize("shape", [(20, 15), (200, 2)])
    def test_random_tall(self, shape, dtype):
        rng = np.random.RandomState(1234)
        a = dominant(shape, dtype, rng)
        for _ in range(4):
            b = rng.random_sample([shape[0], 3]).astype(dtype)
            x, residues, rank, _ = lstsq(a, b)
            assert rank == shape[1]
            assert residues.shape == (3,)
            wide = np.complex128 if np.issubdtype(dtype, np.complexfloating) else np.float64
            aw, bw = a.astype(wide), b.astype(wide)
            direct = linalg.solve(aw.conj().T @ aw, aw.conj().T @ bw)
            assert_allclose(x, direct, rtol=25 * eps_of(dtype), atol=25 * eps_of(dtype))

    @pytest.mark.parametrize("a_type", [int, float, np.float32, complex, np.complex64])
    @pytest.mark.parametrize("b_type", [int, float, np.float32, complex, np.complex64])
    def test_dtypes(self, a_type, b_type):
        a, b = np.eye(3, 2, dtype=a_type), np.ones(3, b_type)
        assert lstsq(a, b).x.dtype == linalg.lstsq(a, b)[0].dtype

    @pytest.mark.parametrize("columns", [None, 1, 3])
    @pytest.mark.parametrize("shape", [(30, 5), (5, 5), (5, 30)])
    @pytest.mark.parametrize("rank", [5, 3])
    def test_shapes_of_what_is_returned(self, shape, rank, columns):
        A = gaussian(shape[0], rank) @ gaussian(rank, shape[1], seed=1)
        b = gaussian(shape[0], columns or 1, seed=2)
        b = b[:, 0] if columns is None else b
        got, expected = tuple(lstsq(A, b)), linalg.lstsq(A, b, cond=1e-12)
        for left, right in zip(got, expected, strict=True):
            assert np.shape(left) == np.shape(right)
        close(got[0], expected[0])
        if np.size(expected[1]):
            close(got[1], expected[1])
        assert got[2] == expected[2]
        close(got[3], expected[3])


def test_result_names_what_it_holds(data):
    result = lstsq(*data)
    assert isinstance(result, LstsqResult)
    assert "backward_error" in repr(result)
    with pytest.raises(AttributeError):
        result.x = None


# --- bad input ----------------------------------------------------------------------------------------

GOOD = gaussian(2000, 12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"damp": -1}, ValueError, "damp must be a number in \\[0, .*\\], got -1"),
        ({"damp": np.nan}, ValueError, "damp must be"),
        ({"damp": np.inf}, ValueError, "damp must be"),
        ({"damp": "1"}, TypeError, "damp must be"),
        ({"damp": 1j}, TypeError, "damp must be"),
        ({"method": "svd"}, ValueError, "method must be 'auto' or 'gram' or .* got 'svd'"),
        ({"cond": -0.1}, ValueError, "cond must be"),
        ({"cond": 1.1}, ValueError, "cond must be"),
        ({"tol": 0}, ValueError, "tol must be"),
        ({"tol": 1}, ValueError, "tol must be"),
        ({"rng": "seed"}, TypeError, "rng must be"),
        ({"rng": -1}, ValueError, "rng must be"),
        ({"return_covariance": "yes"}, ValueError, "return_covariance must be"),
        ({"return_covariance": "maybe"}, ValueError, "return_covariance must be"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        lstsq(GOOD, np.ones(2000), **options)


@pytest.mark.parametrize(
    ("A", "b", "error", "message"),
    [
        (GOOD, np.ones(1999), ValueError, "b must have the 2000 rows of A, got shape \\(1999,\\)"),
        (sparse.csr_array(GOOD), np.ones(1999), ValueError, "b must have the 2000 rows of A"),
        (aslinearoperator(GOOD), np.ones(1999), ValueError, "b must have the 2000 rows of A"),
        (KroneckerRows(GOOD[:9], GOOD[:9]), np.ones(1999), ValueError, "b must have the 81 rows of A"),
        (GOOD, np.ones((2000, 1, 1)), ValueError, "b must be 1-d or 2-d"),
        (GOOD, np.ones((2000, 0)), ValueError, "b is empty"),
        (GOOD, 1.0, ValueError, "b must be 1-d or 2-d"),
        (GOOD, "b", TypeError, "b must be"),
        (GOOD, ["b"] * 2000, TypeError, "b must hold numbers"),
        (GOOD, None, TypeError, "b must be"),
        (GOOD, sparse.csr_array(np.ones((2000, 1))), TypeError, "b must be dense here"),
        ("A", np.ones(1), TypeError, "A must be"),
        (None, np.ones(1), TypeError, "A must be"),
        ([["1"]], np.ones(1), TypeError, "A must hold numbers"),
        (np.ones(5), np.ones(5), ValueError, "A must be .*2-d"),
        (np.ones((5, 2, 2)), np.ones(5), ValueError, "A must be .*2-d"),
        (np.ones((0, 2)), np.ones(0), ValueError, "A is empty"),
        (np.ones((2, 0)), np.ones(2), ValueError, "A is empty"),
        ((GOOD[i : i + 9] for i in range(9)), np.ones(5), ValueError, "A must be a 2-d array whose rows"),
        (np.ma.masked_array(GOOD), np.ones(2000), TypeError, "masked"),
    ],
)
def test_bad_arrays(A, b, error, message):
    with pytest.raises(error, match=message):
        lstsq(A, b)


@pytest.mark.parametrize("method", ["auto", *ALL])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("shape", [(2000, 12), (3000, 200), (12, 12), (12, 40)])
def test_not_finite(shape, value, method):
    A, b = gaussian(*shape), gaussian(shape[0], 1)[:, 0]
    bad = A.copy()
    bad[7, 3] = value
    with pytest.raises(ValueError, match="A must be finite, got NaN or infinity in row 7"):
        lstsq(bad, b, method=method, rng=0)
    with pytest.raises(ValueError, match="A must be finite, got NaN or infinity in row 7"):
        lstsq(sparse.csr_array(bad), b, method=method, rng=0)
    bad = b.copy()
    bad[11] = value
    for kind in (A, sparse.csr_array(A), aslinearoperator(A)):
        with pytest.raises(ValueError, match="b must be finite, got NaN or infinity in row 11"):
            lstsq(kind, bad, method=method, rng=0)


@pytest.mark.parametrize("method", ["auto", "sketch", "qr", "lsmr"])
def test_not_finite_in_a_dask_block(method):
    da = pytest.importorskip("dask.array")
    bad = GOOD.copy()
    bad[1234, 3] = np.nan
    with pytest.raises(ValueError, match="in row 1234, in the dask block of rows \\d+ to \\d+"):
        lstsq(da.from_array(bad, chunks=(500, 12)), np.ones(2000), method=method)
    b = np.ones(2000)
    b[567] = np.nan
    with pytest.raises(ValueError, match="finite, got NaN or infinity in row 567"):
        lstsq(da.from_array(GOOD, chunks=(500, 12)), da.from_array(b, chunks=100), method=method)


def test_mixed_libraries(other_xp):
    A, b = other_xp.asarray(GOOD), np.ones(2000)
    with pytest.raises(ValueError, match="A and b must come from one array library"):
        lstsq(A, b)
    with pytest.raises(ValueError, match="A and b must come from one array library"):
        lstsq(GOOD, other_xp.asarray(b))
    with pytest.raises(TypeError, match="b must be a NumPy array beside a LinearOperator"):
        lstsq(aslinearoperator(GOOD), other_xp.asarray(b))


# --- what LSMR cannot see -----------------------------------------------------------------------------


def test_lsmr_gives_the_least_norm_of_dependent_columns():
    B = gaussian(400, 5)
    A = sparse.csr_array(np.concatenate([B, 10 * B[:, :1]], axis=1))
    b = gaussian(400, 1, seed=1)[:, 0]
    expected = np.linalg.lstsq(A.toarray(), b)[0]
    close(lstsq(A, b, method="lsmr", rng=0).x, expected)
    M = sparse.random_array((4000, 600), density=0.003, random_state=0, format="csr")
    M = sparse.hstack([M, 10 * M]).tocsr()
    result = lstsq(M, np.ones(4000), rng=0)
    assert_allclose(
        np.linalg.norm(result.x), np.linalg.norm(np.linalg.lstsq(M.toarray(), np.ones(4000), rcond=1e-12)[0])
    )


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200])
def test_ends_of_the_range_without_factorising(scale):
    A, b = gaussian(60, 5), gaussian(60, 1, seed=1)[:, 0]
    exact = np.linalg.lstsq(A, b)[0]
    close(lstsq(A * scale, b, method="lsmr", rng=0).x * scale, exact)
    close(lstsq(aslinearoperator(A), b * scale, rng=0).x / scale, exact)


def test_operator_that_overflows():
    with pytest.raises(np.linalg.LinAlgError, match="scale A"), np.errstate(over="ignore", invalid="ignore"):
        lstsq(aslinearoperator(gaussian(60, 5) * 1e300), np.ones(60), rng=0)
