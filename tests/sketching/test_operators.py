"""Every sketch against its matrix, for every kind of input, and against the answers of its definition."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrices import sparse_matrix
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

import linalg_ml
from linalg_ml import sketching
from linalg_ml.sketching import SRHT, SRTT, CountSketch, Gaussian, SparseSign, TensorSRHT

N = 1500


def srht(m):
    return SRHT(N, m, rng=3)


MAKERS = {
    "SRHT": srht,
    "SRTT": lambda m: SRTT(N, m, rng=3),
    "Gaussian": lambda m: Gaussian(N, m, rng=3),
    "SparseSign": lambda m: SparseSign(N, m, rng=3),
    "SparseSign(s=3)": lambda m: SparseSign(N, m, s=3, rng=3),
    "CountSketch": lambda m: CountSketch(N, m, rng=3),
    "TensorSRHT": lambda m: TensorSRHT((30, 50), m, rng=3),
}
CUTS = [0, 1, 100, 1024, N]


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.fixture
def S(make):
    return make(60)


@pytest.fixture(scope="module")
def A():
    return np.random.default_rng(0).standard_normal((N, 5))


def close(actual, expected, tol=1e-12):
    scale = max(float(np.abs(expected).max()), 1e-300)
    assert_allclose(np.asarray(actual), expected, rtol=0, atol=tol * scale)


# --- the matrix ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 7, 300, 1400, N])
def test_product_is_that_of_the_matrix(make, A, m):
    S = make(m)
    D = S.to_dense()
    assert D.shape == S.shape == (m, N)
    assert D.dtype == S.dtype == np.float64
    close(S @ A, D @ A)
    close(S @ A[:, 0], D @ A[:, 0])
    close(S.T @ A[:m], D.T @ A[:m])
    close(S.H @ A[:m, 0], D.T @ A[:m, 0])
    close(A[:, :3].T @ S.T, A[:, :3].T @ D.T)
    close(A[:m].T @ S, A[:m].T @ D)


@pytest.mark.parametrize("m", [7, 300, 1400])
def test_parts_add_up(make, A, m):
    S = make(m)
    total = sum(S.partial(A[start:stop], start) for start, stop in itertools.pairwise(CUTS))
    close(total, S @ A)


@given(start=st.integers(0, N - 1), length=st.integers(1, N), name=st.sampled_from(sorted(MAKERS)))
def test_part_of_any_rows(start, length, name):
    S = MAKERS[name](40)
    stop = min(start + length, N)
    block = np.random.default_rng(1).standard_normal((stop - start, 2))
    close(S.partial(block, start), S.to_dense()[:, start:stop] @ block)


def test_is_a_linear_operator(S, A):
    operator = aslinearoperator(S)
    D = S.to_dense()
    close(operator.matvec(A[:, 0]), D @ A[:, 0])
    close(operator.matmat(A), D @ A)
    close(operator.rmatvec(D @ A[:, 0]), D.T @ D @ A[:, 0])
    assert S.nbytes < D.nbytes / 100


def test_matrix_is_unbiased(make):
    # E‖Sx‖² = ‖x‖², within four standard errors over 400 draws
    x = np.random.default_rng(5).standard_normal(64)
    x /= np.linalg.norm(x)
    kind = type(make(8))
    shape = (8, 8) if kind is TensorSRHT else 64
    norms = [np.linalg.norm(kind(shape, 16, rng=seed) @ x) ** 2 for seed in range(400)]
    assert abs(np.mean(norms) - 1) < 4 * np.std(norms) / 20


@pytest.mark.parametrize("n", [16, 256, 2048])
def test_orthogonal_rows(n):
    for S, factor in ((SRHT(n, n // 2 + 1, rng=1), n), (SRTT(n - 3, n // 2, rng=1), n - 3)):
        D = S.to_dense()
        close(D @ D.T, factor / S.shape[0] * np.eye(S.shape[0]))


@pytest.mark.parametrize(("m", "s"), [(20, 8), (8, 8), (5, 8), (33, 4), (7, 1)])
def test_sparse_sign_has_s_entries_a_column(m, s):
    S = SparseSign(500, m, s=s, rng=2)
    D = S.to_dense()
    assert S.s == min(m, s)
    assert_array_equal((D != 0).sum(axis=0), S.s)
    close(np.abs(D[D != 0]), np.full(500 * S.s, S.s**-0.5))
    assert_array_equal(S.to_sparse().toarray(), D)


def test_largest_sizes_cost_nothing_to_make():
    assert SRHT(2**40, 100, rng=0).rows.max() < 2**40
    assert SparseSign(2**40, 2**33, rng=0).shape == (2**33, 2**40)
    S = SRHT(2**40, 3, rng=0)
    close(S.partial(np.ones(5), 2**39), sum(S.partial(np.ones(1), 2**39 + i) for i in range(5)))
    assert S.partial(np.ones(1), 2**40 - 1).shape == (3,)
    S = SRTT(2**33, 3, rng=0)
    r, i = int(S.rows[1]), 2**33 - 2
    exact = np.cos(np.pi * (r * (2 * i + 1) % (4 * 2**33)) / (2 * 2**33)) * (2 / 2**33) ** 0.5 * (2**33 / 3) ** 0.5
    close(np.abs(S.partial(np.ones(1), i)[1]), abs(exact))


# --- answers of the definition ------------------------------------------------------------------------


def test_srht_known_answers():
    S = SRHT(1000, 5, rng=7)
    assert_array_equal(S.rows, [15, 162, 440, 907, 937])
    assert_array_equal(S._sigma[:6], [67, 388, 614, 384, 415, 30])
    assert_array_equal(S._positions(0, 1024)[:6], [339, 420, 660, 752, 731, 442])
    close(np.sqrt(5) * S.to_dense()[0, :8], np.array([1, 1, -1, 1, -1, 1, 1, -1]))
    S = SRHT(3000, 700, rng=7)
    assert_array_equal(S.rows[:6], [5, 10, 14, 16, 18, 25])
    assert S.rows[-1] == 4094
    assert S.rows.sum() == 1432755
    assert_array_equal(S._positions(0, 3072)[[0, 1023, 1024, 2999]], [339, 725, 2013, 2240])
    assert round(np.sqrt(700) * S.to_dense().sum()) == -1710
    assert_array_equal(SRHT(6, 5, rng=7).rows, [2, 4, 5, 6, 7])
    assert_array_equal(SRHT(2**34 + 5, 4, rng=7).rows, [17679930379, 24847111173, 25628709026, 28608070612])


def test_other_known_answers():
    S = SRTT(1000, 5, rng=7)
    assert_array_equal(S.rows, [52, 356, 380, 458, 569])
    close(S.to_dense()[0, :2], np.array([0.63034688, -0.61356193]), 1e-8)
    S = TensorSRHT((12, 37), 6, rng=9)
    assert_array_equal(S.rows1, [6, 8, 9, 11, 14, 15])
    assert_array_equal(S.rows2, [25, 24, 22, 52, 4, 24])
    S = SparseSign(1000, 20, s=8, rng=7).to_sparse()
    assert_array_equal(S.indices[:16], [0, 3, 5, 9, 10, 13, 16, 17, 0, 3, 6, 8, 11, 13, 16, 18])
    assert_array_equal(np.sign(S.data[:16]), [-1, -1, 1, 1, -1, 1, -1, -1, -1, -1, 1, -1, 1, 1, -1, 1])
    S = CountSketch(1000, 20, rng=7).to_sparse()
    assert_array_equal(S.indices[:6], [2, 6, 12, 10, 16, 19])
    assert_array_equal(S.data[:6], [-1, -1, -1, -1, -1, 1])
    part = SparseSign(10**7, 3 * 10**6, s=2, rng=7).partial(np.ones(1), 9 * 10**6)  # two words an entry
    assert_array_equal(np.flatnonzero(part), [916773, 2228680])
    assert_array_equal(np.sign(part[[916773, 2228680]]), [-1, 1])
    close(
        Gaussian(10, 3, rng=7).to_dense()[:, 2],
        np.array([-0.07063089471319987, 0.3512096537706223, 0.7861273082784163]),
    )


# --- one seed, one sketch -----------------------------------------------------------------------------


def test_same_seed_same_sketch(make, A):
    S = make(50)
    assert_array_equal(S @ A, make(50) @ A)
    assert_array_equal(pickle.loads(pickle.dumps(S)) @ A, S @ A)


def test_generators_and_fresh_entropy():
    one, two = (SRHT(100, 9, rng=np.random.default_rng(5)) for _ in range(2))
    assert_array_equal(one.rows, two.rows)
    generator = np.random.default_rng(5)
    assert repr(SRHT(100, 9, rng=generator)) != repr(SRHT(100, 9, rng=generator))
    assert repr(SRHT(100, 9)) != repr(SRHT(100, 9))


def test_repr_makes_the_same_sketch(S, A):
    again = eval(repr(S), vars(sketching))
    assert_array_equal(again @ A, S @ A)


def test_every_namespace_and_dtype(make, A, xp):
    S = make(60)
    D = S.to_dense()
    for dtype in ("float32", "float64", "complex64", "complex128"):
        X = (A + 1j * A[:, ::-1] if "complex" in dtype else A).astype(dtype)
        B = S @ xp.asarray(X)
        assert type(B) is type(xp.asarray(X))
        assert B.dtype == getattr(xp, dtype)
        tol = 1e-12 if dtype in ("float64", "complex128") else 1e-5
        close(np.asarray(B), D @ X, tol)
        close(np.asarray(S.T @ B), D.T @ np.asarray(B), tol)
        close(np.asarray(S.partial(xp.asarray(X[7:90]), 7)), D[:, 7:90] @ X[7:90], tol)


def test_reference_is_the_same_sketch(make, A):
    S = make(60)
    B = S @ A
    with linalg_ml.config_context(kernels="reference"):
        close(S @ A, B)


# --- kinds of input -----------------------------------------------------------------------------------


def test_memory_of_every_kind(S, A, tmp_path):
    B = S @ A
    on_disk = np.memmap(tmp_path / "A", A.dtype, "w+", shape=A.shape)
    on_disk[:] = A
    readonly = A.copy()
    readonly.flags.writeable = False
    wide = np.zeros((2 * N, 10))
    wide[::2, ::2] = A
    for kind in (np.asfortranarray(A), wide[::2, ::2], A[::-1].copy()[::-1], on_disk, readonly, A.astype(">f8")):
        before = np.array(kind)
        close(S @ kind, B)
        assert_array_equal(kind, before)
    close(S @ A.tolist(), B)
    close(S @ (A > 0), S.to_dense() @ (A > 0))
    assert (S @ (A > 0)).dtype == np.float64
    assert (S @ A.astype(np.float16)).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int64"])
@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_sparse(S, kind, dtype):
    A = sparse_matrix(N, 40, density=0.05)
    A.data = (10 * A.data + (1j if dtype == "complex128" else 0)).astype(dtype)
    B = S @ kind(A)
    assert isinstance(B, np.ndarray)
    assert B.dtype == np.result_type(dtype, np.float32 if dtype == "float32" else np.float64)
    close(B, S.to_dense() @ A.toarray(), 1e-5 if dtype == "float32" else 1e-12)
    close(S.partial(kind(A).tocsr()[100:200], 100), S.to_dense()[:, 100:200] @ A.toarray()[100:200], 1e-5)


def test_blocks_that_arrive(S, A):
    blocks = [A[start:stop] for start, stop in itertools.pairwise(CUTS)]
    close(S @ blocks, S @ A)
    close(S @ iter(blocks), S @ A)
    close(S @ (row for row in A), S @ A)
    with pytest.raises(ValueError, match=f"A must have {N} rows .*, got 1024"):
        S @ iter(blocks[:-1])
    with pytest.raises(ValueError, match=f"A must end at row {N}"):
        S @ [*blocks, A[:1]]


def test_blocks_of_several_kinds(S, A):
    close(S @ [A[:100], A[100:].astype(np.float32)], S @ np.concatenate([A[:100], A[100:].astype(np.float32)]), 1e-6)
    close(S @ [A[:100], sparse.csr_array(A[100:])], S @ A)
    for second in (1j * A[100:], np.ones((N - 100, 5), np.complex64)):
        with pytest.raises(ValueError, match="A from row 100 on must be float64 as before, or narrower, got complex"):
            S @ [A[:100], second]
    with pytest.raises(ValueError, match="must be float32 as before"):
        S @ [A[:100].astype(np.float32), A[100:]]
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="must come from one array library"):
        S @ [A[:100], torch.asarray(A[100:])]


def test_dask(S, A, dask_scheduler):
    array = pytest.importorskip("dask.array")
    lazy = S @ array.from_array(A, chunks=(400, 2))
    assert isinstance(lazy, array.Array)
    assert lazy.shape == (S.shape[0], 5)
    close(lazy.compute(), S @ A)
    close((S @ array.from_array(A[:, 0], chunks=700)).compute(), S @ A[:, 0])
    bad = A.copy()
    bad[1234, 1] = np.nan
    with pytest.raises(ValueError, match="in row 1234, in the dask block of rows 1200 to 1499"):
        (S @ array.from_array(bad, chunks=(400, 5))).compute()


def test_degenerate_sizes(make):
    kind = type(make(2))
    S = kind((1, 1) if kind is TensorSRHT else 1, 1, rng=0)
    close(np.abs(S @ np.ones((1, 1))), np.abs(S.to_dense()))
    close(make(5) @ np.zeros((N, 1)), np.zeros((5, 1)))


def test_scales(S, A):
    for scale in (1e-300, 1e300):
        close(S @ (A * scale) / scale, S @ A)


# --- Kronecker products -------------------------------------------------------------------------------


def test_kronecker_products(xp):
    rng = np.random.default_rng(2)
    A1, A2 = rng.standard_normal((30, 3)), rng.standard_normal((50, 4)) + 1j
    S = TensorSRHT((30, 50), 40, rng=1)
    close(S.apply_kron(xp.asarray(A1.astype(complex)), xp.asarray(A2)), S.to_dense() @ np.kron(A1, A2))
    matched = np.stack([np.kron(A1[:, j], A2[:, j]) for j in range(3)], axis=1)
    B = S.apply_kron(xp.asarray(A1.astype(complex)), xp.asarray(A2[:, :3]), pairing="matched")
    close(B, S.to_dense() @ matched)


def test_bad_factors():
    S = TensorSRHT((3, 5), 4, rng=0)
    for args, error, message in (
        ((np.ones((4, 2)), np.ones((5, 2))), ValueError, "A1 must have 3 rows"),
        ((np.ones((3, 2)), np.ones((3, 2))), ValueError, "A2 must have 5 rows"),
        ((np.ones(3), np.ones((5, 2))), ValueError, "A1 must be 2-d"),
        ((np.ones((3, 2)), np.full((5, 2), np.nan)), ValueError, "A2 must be finite"),
        ((np.ones((3, 2)), np.ones((5, 3)), "matched"), ValueError, "as many columns"),
        ((np.ones((3, 2)), np.ones((5, 2)), "some"), ValueError, "pairing must be 'all' or 'matched'"),
    ):
        with pytest.raises(error, match=message):
            S.apply_kron(*args)
    for shape in (5, (1, 2, 3), "ab", (0, 3), (2.5, 3)):
        with pytest.raises((ValueError, TypeError), match="shape"):
            TensorSRHT(shape, 1)


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SRHT, SRTT, Gaussian, SparseSign, CountSketch])
@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        ((10, 11), {}, ValueError, "m must be an integer from 1 to 10 .*got 11"),
        ((10, 0), {}, ValueError, "m must be .*got 0"),
        ((-1, 1), {}, ValueError, "n must be an integer from 1 to .*, got -1"),
        ((10.0, 1), {}, TypeError, "n must be an integer"),
        ((10, "3"), {}, TypeError, "m must be an integer"),
        ((True, 1), {}, TypeError, "n must be"),
        ((10, 3), {"rng": -1}, ValueError, "rng must be"),
        ((10, 3), {"rng": 1.5}, TypeError, "rng must be"),
        ((10, 3), {"rng": np.random.RandomState(0)}, TypeError, "rng must be"),
    ],
)
def test_bad_sizes(kind, args, options, error, message):
    with pytest.raises(error, match=message):
        kind(*args, **options)


def test_bad_tensor_sizes():
    for shape, m in (((3, 4), 13), ((2**40, 2**40), 3), ((3, -1), 1)):
        with pytest.raises(ValueError, match="m must be|shape"):
            TensorSRHT(shape, m)
    with pytest.raises(TypeError, match="rng must be"):
        TensorSRHT((3, 4), 2, rng="seed")


def test_too_many_rows_for_exact_numbers():
    for make in (lambda: SRTT(2**41, 3), lambda: SRHT(2**63, 3), lambda: Gaussian(2**63, 3)):
        with pytest.raises(ValueError, match="n must be an integer from 1 to"):
            make()
    with pytest.raises(ValueError, match="m must be at most"):
        CountSketch(2**40, 2**36)


def test_bad_non_zeros():
    with pytest.raises(ValueError, match="s must be an integer ≥ 1, got 0"):
        SparseSign(10, 3, s=0)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.ones((3, 2)), ValueError, "A must have 1500 rows"),
        (np.ones((N, 2, 2)), ValueError, "A must be 1-d or 2-d"),
        (np.ones((N, 0)), ValueError, "A is empty"),
        (np.full((N, 2), "a"), TypeError, "A must hold numbers"),
        (np.full((N, 2), None), TypeError, "A must hold numbers"),
        (3.0, ValueError, "A must be"),
        ("text", TypeError, "A must be"),
    ],
)
def test_bad_matrices(S, bad, error, message):
    with pytest.raises(error, match=message):
        S @ bad


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 777, N - 1])
def test_not_finite(S, A, row, value):
    bad = A.copy()
    bad[row, 3] = value
    for kind in (bad, bad.astype(np.float32), sparse.csr_array(bad), [bad[:700], bad[700:]]):
        with pytest.raises(ValueError, match=f"must be finite, got NaN or infinity in row {row}"):
            S @ kind
    with pytest.raises(ValueError, match=f"block must be finite, got NaN or infinity in row {row}"):
        S.partial(bad, 0)
    with pytest.raises(ValueError, match="Y must be finite"):
        S.T @ bad[row : row + 1].repeat(S.shape[0], axis=0)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia", "dok", "lil"])
def test_not_finite_in_any_sparse_format(S, kind):
    bad = np.zeros((N, 4))
    bad[[7, 9], [1, 2]] = np.nan, 1
    with pytest.raises(ValueError, match="A must be finite, got NaN or infinity in row 7"):
        S @ sparse.csr_array(bad).asformat(kind)


def test_overflow_of_products():
    with pytest.raises(np.linalg.LinAlgError, match="A1 and A2 overflows float64"):
        TensorSRHT((4, 4), 4, rng=0).apply_kron(1e200 * np.eye(4)[:, :1], 1e200 * np.eye(4)[:, :1])
    with pytest.raises(np.linalg.LinAlgError, match="Y overflows float64"):
        SRHT(64, 40, rng=0).T @ np.full(40, 1.7e308)


def test_overflow_is_said(S):
    with pytest.raises(np.linalg.LinAlgError, match="overflows float32"):
        S @ np.full((N, 2), 3e38, np.float32)


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        (-1, ValueError, "start must be an integer from 0 to 1499, got -1"),
        (N, ValueError, "start must be"),
        (1.0, TypeError, "start must be"),
        (N - 3, ValueError, "block must end at row 1500 .* got rows up to 1507"),
    ],
)
def test_bad_parts(S, start, error, message):
    with pytest.raises(error, match=message):
        S.partial(np.ones((10, 2)), start)


def test_bad_right_hand_sides(S):
    with pytest.raises(ValueError, match="Y must have 60 rows"):
        S.T @ np.ones(3)
