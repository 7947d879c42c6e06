"""MonarchMatrix against the dense matrix of its definition: products, parts, sums, files, every library."""

import copy
import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
from conftest import load_namespace
from hypothesis import given
from hypothesis import strategies as st
from matrices import layouts
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

from linalg_ml._core.arrays import to_numpy
from linalg_ml.monarch import MonarchMatrix, project
from linalg_ml.monarch._stages import blocks

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
CASES = [  # m, n, J, K, rank
    (600, 384, 30, 16, 3),
    (12, 12, 1, 1, 5),
    (7, 13, 3, 4, 1),  # padded
    (7, 13, 3, 4, 2),
    (64, 1, 8, 1, 1),
    (1, 64, 1, 8, 1),
    (1, 1, 1, 1, 1),
    (6, 20, 6, 20, 1),  # slices of one number
    (24, 20, 3, 4, 9),  # more than a slice can hold
]
KINDS = ["one stage", "two stages", "padded", "transposed", "gathers", "four stages", "takes real"]


def draw(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal(shape)
    return (X + 1j * rng.standard_normal(shape) if np.issubdtype(dtype, np.complexfloating) else X).astype(dtype)


def monarch(m, n, J, K, rank=1, *, dtype=np.float64, seed=0, batch=()):
    left = draw((*batch, J, -(-m // J), K, rank), dtype, seed)
    right = draw((*batch, K, rank, J, -(-n // K)), dtype, seed + 1)
    return MonarchMatrix(left, right, shape=(m, n))


def by_definition(left, right, m, n):
    """Return sum_s L[j,l,k,s] R[k,s,j,i] at row l*J + j and column k*q + i, one number after the other."""
    (J, p, K, rank), q = left.shape, right.shape[-1]
    M = np.zeros((p * J, K * q), np.result_type(left, right))
    for j, l, k, i in itertools.product(range(J), range(p), range(K), range(q)):
        M[l * J + j, k * q + i] = sum(left[j, l, k, s] * right[k, s, j, i] for s in range(rank))
    return M[:m, :n]


def stage_by_definition(stage, n):
    """Return the dense matrix of a stage for n numbers: y[a, :, d] = W[a, d] @ x[a, :, d], or y[t] = x[index[t]]."""
    if stage.ndim == 1:
        return np.array([[float(i == column) for column in range(n)] for i in stage])
    *batch, A, D, O, I = stage.shape
    M = np.zeros((*batch, A, O, D, A, I, D), stage.dtype)
    for a, d in itertools.product(range(A), range(D)):
        M[..., a, :, d, a, :, d] = stage[..., a, d, :, :]
    return M.reshape(*batch, A * O * D, A * I * D)


def dense_of(M):
    """Return the dense matrix of a chain, stage by stage."""
    total = np.eye(M.shape[-1])
    for stage in reversed(M.stages):
        total = stage_by_definition(to_numpy(stage), total.shape[-2]) @ total
    return total.real if M._takes_real else total


def make(kind, dtype=np.float64, batch=()):
    """Return a 12 × 12 matrix of that kind."""
    if kind == "one stage":
        return MonarchMatrix.from_stages([draw((*batch, 3, 2, 2, 2), dtype)])
    if kind == "two stages":
        return monarch(12, 12, 3, 4, 2, dtype=dtype, batch=batch)
    if kind == "padded":
        return monarch(12, 12, 5, 5, 2, dtype=dtype, batch=batch)
    if kind == "transposed":
        return monarch(12, 12, 3, 4, 2, dtype=dtype, batch=batch).T
    if kind == "gathers":
        first, last = np.random.default_rng(1).permutation(12), np.random.default_rng(2).permutation(15)[:12]
        first[3] = last[5] = -1
        return MonarchMatrix.from_stages([last, draw((*batch, 1, 3, 5, 4), dtype), first], (12, 12))
    if kind == "four stages":
        shapes = [(3, 2, 2, 3), (1, 6, 3, 2), (2, 3, 2, 1), (1, 2, 3, 6)]
        return MonarchMatrix.from_stages([draw((*batch, *shape), dtype, t) for t, shape in enumerate(shapes)])
    wide = np.result_type(dtype, np.complex64)
    F = np.fft.fft(np.eye(12), norm="ortho")
    spectrum = np.fft.fft(draw((*batch, 12)))
    left, right = F.conj().T, spectrum[..., None] * F
    chain = (blocks(left[None, None].astype(wide)), blocks(right[..., None, None, :, :].astype(wide)))
    return MonarchMatrix._of(chain, takes_real=True)


def assert_near(got, expected, A, x=None, factor=50):
    """Hold a product to a few roundings of ‖A‖‖x‖."""
    got, expected, x = to_numpy(got), to_numpy(expected), np.ones(1) if x is None else to_numpy(x)
    assert got.shape == expected.shape
    assert norm(got - expected) <= factor * max(map(rounding, (got, expected, A))) * norm(A) * max(norm(x), 1)


def norm(A):
    return float(np.linalg.norm(A))


def rounding(A):
    return float(np.finfo(A.dtype).eps)


class TestDefinition:
    @pytest.mark.parametrize(("m", "n", "J", "K", "rank"), CASES[1:])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_formula(self, m, n, J, K, rank, dtype):
        M = monarch(m, n, J, K, rank, dtype=dtype)
        expected = by_definition(M.left, M.right, m, n)
        assert M.shape == (m, n)
        assert M.dtype == dtype == M.to_dense().dtype
        assert (M.nblocks, M.rank) == ((J, K), rank)
        assert_near(M.to_dense(), expected, expected)
        assert_near(dense_of(M), expected, expected)

    def test_rows_are_strided_and_columns_are_not(self):
        """The trap of this layout: row l*J + j, not j*p + l."""
        left, right = np.zeros((3, 4, 2, 1)), np.zeros((2, 1, 3, 5))
        left[1, 2, 1, 0] = right[1, 0, 1, 3] = 1
        assert np.argwhere(MonarchMatrix(left, right).to_dense()).tolist() == [[2 * 3 + 1, 1 * 5 + 3]]

    def test_the_papers_square_class(self):
        """M = P L Pᵀ R with block-diagonal L and R and the permutation of a b × n/b transpose."""
        b, n = 4, 20
        M = monarch(n, n, b, n // b)
        P = np.eye(n)[np.arange(n).reshape(n // b, b).T.ravel()].T
        L = stage_by_definition(M.left[..., 0][:, None], n)
        R = stage_by_definition(M.right[:, 0][:, None], n)
        assert_near(P @ L @ P.T @ R, M.to_dense(), M.to_dense())

    @given(
        st.tuples(*[st.integers(1, 5)] * 4), st.integers(1, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)
    )
    def test_any_shape(self, sizes, rank, less_rows, less_columns, dtype):
        J, K, p, q = sizes
        m, n = max(1, p * J - less_rows), max(1, q * K - less_columns)
        left, right = draw((J, p, K, rank), DTYPES[dtype]), draw((K, rank, J, q), DTYPES[dtype], 1)
        M = MonarchMatrix(left, right, shape=(m, n))
        A = np.einsum("jlks,ksji->ljki", left, right).reshape(p * J, q * K)[:m, :n]
        X, Y = draw((n, 3), seed=2), draw((m, 2), seed=3)
        assert_near(M @ X, A @ X, A, X)
        assert_near(M.T @ Y, A.T @ Y, A, Y)
        assert_near(M.H.to_dense(), A.conj().T, A)
        assert_near(M.diagonal(), np.diagonal(A), A)
        assert M.norm() == pytest.approx(norm(A), rel=1e3 * rounding(A))


class TestProducts:
    @pytest.mark.parametrize(("m", "n", "J", "K", "rank"), CASES)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("operand", [np.float64, np.complex64])
    def test_every_shape(self, m, n, J, K, rank, dtype, operand):
        M = monarch(m, n, J, K, rank, dtype=dtype)
        A = M.to_dense()
        for shape in [(n,), (n, 0), (n, 1), (n, 5), (n, 40), (2, 3, n, 4), (2, n, 0)]:
            X = draw(shape, operand, 2)
            kept = X.copy()
            got = M @ X
            assert got.dtype == (A @ X).dtype
            assert_near(got, A @ X, A, X)
            assert np.array_equal(X, kept)
        for shape in [(m,), (0, m), (1, m), (5, m), (40, m), (2, 3, 4, m)]:
            Y = draw(shape, operand, 3)
            assert_near(Y @ M, Y @ A, A, Y)
        for shape in [(n,), (0, n), (1, n), (5, n), (40, n), (2, 3, n)]:
            X = draw(shape, operand, 4)
            assert_near(M.apply_rows(X), X @ A.T, A, X)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("batch", [(), (3,), (2, 1)])
    def test_every_kind(self, kind, dtype, batch):
        M = make(kind, dtype, batch)
        A = dense_of(M)
        assert M.shape == A.shape == (*batch, 12, 12)
        for N, B in [(M, A), (M.T, A.mT), (M.H, A.conj().mT), (M.conj(), A.conj()), (M.T.T, A), (M.H.conj(), A.mT)]:
            assert_near(N.to_dense(), B, A)
            assert N.dtype == N.to_dense().dtype == M.dtype
            for shape in [(12,), (12, 1), (12, 20), (2, 3, 12, 2)]:
                for operand in (np.float32, np.complex128):
                    X = draw(shape, operand, 7)
                    expected = np.matmul(B, X[:, None])[..., 0] if X.ndim == 1 else np.matmul(B, X)
                    assert_near(N @ X, expected, A, X)
                    assert (N @ X).dtype == np.result_type(M.dtype, operand)
        Y = draw((5, 12), seed=8)
        assert_near(Y @ M, Y @ A, A, Y)
        assert_near(M.apply_rows(Y), Y @ A.mT, A, Y)
        assert_near(Y[0] @ M, np.matmul(Y[0], A), A, Y)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("columns", [3, 40])
    def test_memory_orders(self, kind, columns):
        M = make(kind)
        A = dense_of(M)
        for _, X in layouts(draw((12, columns))):
            assert_near(M @ X, A @ X, A, X)
            assert_near(M.T @ X, A.T @ X, A, X)
        for _, X in layouts(draw((columns, 12))):
            assert_near(M.apply_rows(X), X @ A.T, A, X)
            assert_near(X @ M, X @ A, A, X)
        for _, X in layouts(draw((2, 12, columns))):
            assert_near(M @ X, A @ X, A, X)
        for _, left in layouts(draw((3, 4, 4, 2))):
            for _, right in layouts(draw((4, 2, 3, 3), seed=1)):
                N = MonarchMatrix(left, right)
                B = by_definition(left, right, 12, 12)
                assert_near(N @ draw((12, columns)), B @ draw((12, columns)), B, np.eye(12))
                assert_near(N.to_dense(), B, B)

    def test_many_chunks(self, monkeypatch):
        monkeypatch.setattr("linalg_ml.monarch._stages._SCRATCH", 2000)
        for kind in KINDS:
            M = make(kind)
            A = dense_of(M)
            for shape in [(12, 101), (3, 2, 12, 101), (50, 3, 12, 2), (3, 12, 0), (0, 12, 4)[1:]]:
                X = draw(shape)
                assert_near(M @ X, A @ X, A, X)

    def test_integers_bools_and_lists(self):
        M = make("two stages", np.float32)
        A = M.to_dense()
        X = np.arange(24).reshape(12, 2)
        for Y in (X, X.tolist(), X % 2 == 0, X.astype(np.uint8), X.astype(np.float16), X.astype(np.longdouble)):
            assert_near(M @ Y, A @ np.asarray(Y, np.float64), A, X)
        assert (M @ X.astype(np.float16)).dtype == np.float32
        assert (M @ X).dtype == np.float64
        assert_near(M.apply_rows(X.T.tolist()), X.T @ A.T.astype(float), A, X)
        assert_near(M.apply_rows(X[:, 0].tolist()), A @ X[:, 0].astype(float), A, X)
        assert (M @ np.zeros((12, 0), int)).shape == (12, 0)
        assert (M @ np.zeros((0, 12, 3))).shape == (0, 12, 3)
        assert (np.zeros((0, 12), bool) @ M).shape == M.apply_rows(np.zeros((0, 12))).shape == (0, 12)

    def test_of_a_batch_with_a_batch(self):
        M = monarch(12, 10, 3, 5, 2, batch=(3, 1))
        A = M.to_dense()
        X = draw((4, 10, 6))
        assert (M @ X).shape == (3, 4, 12, 6)
        assert_near(M @ X, A @ X, A, X)
        assert (M @ X[0, :, 0]).shape == (3, 1, 12)

    def test_nan_passes(self):
        M = make("two stages")
        X = np.ones((12, 10))
        X[4, 7] = np.nan
        assert np.isnan(M @ X).all(axis=0).tolist() == [t == 7 for t in range(10)]

    @pytest.mark.parametrize("kind", KINDS)
    def test_wrong_operands(self, kind):
        M = make(kind)
        with pytest.raises(ValueError, match="X must have 12 rows.*got shape \\(11,\\)"):
            M @ np.ones(11)
        with pytest.raises(ValueError, match="X must have 12 rows.*got shape \\(11, 12\\)"):
            M @ np.ones((11, 12))
        with pytest.raises(ValueError, match="got shape"):
            np.ones((12, 11)) @ M
        with pytest.raises(ValueError, match="X must have 12 columns"):
            M.apply_rows(np.ones((12, 11)))
        with pytest.raises(ValueError, match="X must be a vector or a matrix, got a number"):
            M @ np.float64(3)
        with pytest.raises(ValueError, match="empty"):
            M @ np.ones((0, 3))
        with pytest.raises(TypeError, match="X must be dense"):
            M @ sparse.eye_array(12).tocsr()
        with pytest.raises(TypeError, match="Y must be dense"):
            sparse.eye_array(12).tocsr() @ M
        for X in ("abc", None, np.array(["a"] * 12), np.array([object()] * 12)):
            with pytest.raises(TypeError, match="X"):
                M @ X


class TestMemory:
    """Large inputs are not copied."""

    LIMIT = 10 * 2**20  # far below the input

    def extra(self, function, output):
        """Return the bytes that are there at once, less those of the output."""
        tracemalloc.start()
        function()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak - output

    def test_products(self):
        M = monarch(1024, 1024, 32, 32, dtype=np.float32)
        X = draw((1024, 8192), np.float32)
        output = X.nbytes
        for N in (M, M.T):
            assert self.extra(lambda N=N: N @ X, output) < self.LIMIT
            assert self.extra(lambda N=N: X.T @ N, output) < self.LIMIT
            assert self.extra(lambda N=N: N.apply_rows(X.T), output) < self.LIMIT
            assert self.extra(lambda N=N: N.apply_rows(X.reshape(-1, 1024)), output) < self.LIMIT
            assert self.extra(lambda N=N: X.reshape(-1, 1024) @ N, output) < self.LIMIT
            assert self.extra(lambda N=N: N @ np.asfortranarray(X)[:, ::2], 1.5 * output) < self.LIMIT
            assert self.extra(lambda N=N: N @ X.reshape(1024, 1024, 8), output) < self.LIMIT
            assert self.extra(lambda N=N: N @ X.reshape(2, 1024, -1), output) < self.LIMIT

    def test_other_chains(self):
        X = draw((1024, 8192), np.float32)
        stages = [draw((32, 1, 32, 32), np.float32), draw((1, 32, 32, 32), np.float32)]
        order = np.random.default_rng(0).permutation(1024)
        for chain in ([stages[1]], [stages[0]], stages * 2, [order, *stages, order]):
            M = MonarchMatrix.from_stages(chain)
            assert self.extra(lambda M=M: M @ X, X.nbytes) < self.LIMIT
            assert self.extra(lambda M=M: M.apply_rows(X.reshape(-1, 1024)), X.nbytes) < self.LIMIT

    def test_thin_middle(self):
        """Long columns through a narrow stage: the input must not be taken in pieces sized by the middle."""
        M = monarch(8, 2**18, 2, 2, dtype=np.float32)
        X = draw((2**18, 64), np.float32)
        assert self.extra(lambda: X.T @ M.T, 8 * 64 * 4) < self.LIMIT
        assert self.extra(lambda: M @ X, 8 * 64 * 4) < self.LIMIT

    def test_dense(self):
        M = monarch(2048, 2048, 32, 64)
        out = np.empty((2048, 2048))
        assert self.extra(M.to_dense, out.nbytes) < 2**20
        for target in (out, out.T):
            assert self.extra(lambda target=target: M.to_dense(target), 0) < 2**20
            assert self.extra(lambda target=target: M.T.to_dense(target), 0) < 2**20

    def test_norm_and_diagonal(self):
        M = monarch(2048, 2048, 32, 64)
        for N in (M, M.T):
            assert self.extra(N.norm, 0) < 2 * M.nbytes
            assert self.extra(N.diagonal, 0) < M.nbytes


class TestRows:
    """`apply_rows` of what is not in memory."""

    def test_memmap(self, tmp_path):
        M = make("two stages")
        X = np.memmap(tmp_path / "X", np.float64, "w+", shape=(1000, 12))
        X[...] = draw((1000, 12))
        X = np.memmap(tmp_path / "X", np.float64, "r", shape=(1000, 12))
        assert_near(M.apply_rows(X), np.asarray(X) @ M.to_dense().T, M.to_dense(), X)

    def test_dask(self):
        da = pytest.importorskip("dask.array")
        M = make("takes real")
        X = draw((60, 12))
        Y = M.apply_rows(da.from_array(X, chunks=(17, 12)))
        assert isinstance(Y, da.Array)
        assert_near(Y.compute(scheduler="threads"), X @ M.to_dense().T, M.to_dense(), X)
        with pytest.raises(ValueError, match="12 columns"):
            M.apply_rows(da.ones((60, 11), chunks=(17, 11))).compute(scheduler="threads")

    def test_iterables(self):
        M = make("two stages")
        X = draw((60, 12))
        expected = X @ M.to_dense().T
        sizes = [slice(0, 17), slice(17, 40), slice(40, 60)]
        for source in (
            (X[s] for s in sizes),
            [X[s] for s in sizes],
            tuple(X[s] for s in [slice(0, 30), slice(30, 60)]),
            (sparse.csr_array(X[s]) for s in sizes),
            list(X),
        ):
            got = M.apply_rows(source)
            assert not isinstance(got, np.ndarray)
            assert_near(np.concatenate(list(got)), expected, M.to_dense(), X)

    def test_sparse(self):
        M = make("two stages")
        X = sparse.random_array((50, 12), density=0.3, rng=np.random.default_rng(0), format="csr")
        assert_near(M.apply_rows(X), X.toarray() @ M.to_dense().T, M.to_dense(), X.toarray())

    def test_layout_of_the_answer(self):
        Y = monarch(24, 20, 3, 4).apply_rows(draw((50, 20)))
        assert Y.shape == (50, 24)
        assert Y.flags.f_contiguous


class TestDense:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("batch", [(), (2, 3)])
    def test_out(self, kind, batch):
        M = make(kind, batch=batch)
        expected = dense_of(M)
        for _, out in layouts(np.full((*batch, 12, 12), np.nan)):
            if out.flags.writeable:
                assert M.to_dense(out) is out
                assert_near(out, expected, expected)

    @pytest.mark.parametrize(("m", "n", "J", "K", "rank"), CASES)
    def test_out_of_every_shape(self, m, n, J, K, rank):
        M = monarch(m, n, J, K, rank)
        expected = M.to_dense()
        for N, A in [(M, expected), (M.T, expected.T)]:
            for _, out in layouts(np.full(A.shape, np.nan)):
                if out.flags.writeable:
                    assert np.array_equal(N.to_dense(out=out), A)
                    assert np.array_equal(out, A)

    def test_wrong_out(self):
        M = make("two stages")
        for out in (np.empty((12, 11)), np.empty((12, 12), np.float32), [[0.0] * 12] * 12, "x"):
            with pytest.raises(ValueError, match="out must be an array of shape \\(12, 12\\) and dtype float64"):
                M.to_dense(out)
        out = np.empty((12, 12))
        out.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            M.to_dense(out)


class TestParts:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", [np.float32, np.complex128])
    @pytest.mark.parametrize("batch", [(), (2, 3)])
    def test_numbers(self, kind, dtype, batch):
        M = make(kind, dtype, batch)
        A = dense_of(M).astype(np.result_type(M.dtype, np.float64))
        eps = float(np.finfo(M.dtype).eps)
        assert M.norm() == pytest.approx(norm(A), rel=100 * eps)
        assert isinstance(M.norm(), float)
        assert_near(M.diagonal(), np.diagonal(A, axis1=-2, axis2=-1).astype(M.dtype), A)
        assert_near(M.trace(), np.trace(A, axis1=-2, axis2=-1).astype(M.dtype), A)

    def test_wide_and_high(self):
        for m, n in [(20, 7), (7, 20)]:
            for M in (monarch(m, n, 3, 4, 2), MonarchMatrix.from_stages([draw((1, 1, m, n))])):
                assert_near(M.diagonal(), np.diagonal(M.to_dense()), M.to_dense())
                with pytest.raises(ValueError, match="square"):
                    M.trace()

    def test_panels(self, monkeypatch):
        monkeypatch.setattr("linalg_ml.monarch._matrix._PANEL", 600)
        for kind in KINDS:
            M = make(kind)
            assert M.norm() == pytest.approx(np.linalg.norm(dense_of(M)), rel=1e-14)
            assert_near(M.diagonal(), np.diagonal(dense_of(M)), dense_of(M))

    @pytest.mark.parametrize("scale", [1e-150, 1e-290, 1e150, 1e290])
    @pytest.mark.parametrize("rank", [1, 2])
    def test_extreme_norms(self, scale, rank):
        M = monarch(12, 12, 3, 4, rank)
        expected = M.norm()
        big = MonarchMatrix(M.left * scale, M.right)
        assert big.norm() == pytest.approx(expected * scale, rel=1e-14)
        assert MonarchMatrix(M.left * scale, M.right / scale).norm() == pytest.approx(expected, rel=1e-14)
        assert big.T.norm() == pytest.approx(expected * scale, rel=1e-14)
        chain = MonarchMatrix.from_stages([*big.stages, np.arange(12)[::-1]])
        assert chain.norm() == pytest.approx(expected * scale, rel=1e-14)
        assert (M - M).norm() <= 1e-15 * expected

    def test_extreme_factors(self):
        """Powers of two at both ends of the range."""
        for dtype, top in [(np.float32, 127), (np.float64, 1023)]:
            left, right = np.full((2, 3, 3, 1), 2.0**top, dtype), np.full((3, 1, 2, 2), 2.0**-top / 4, dtype)
            assert MonarchMatrix(left, right).norm() == pytest.approx(6 / 4, rel=1e-6)
            assert MonarchMatrix(right.transpose(0, 3, 2, 1), left.transpose(0, 3, 2, 1)).norm() == pytest.approx(1.5)

    def test_norm_beyond_the_largest_number(self):
        assert MonarchMatrix(np.full((2, 3, 2, 2), 1e200), np.full((2, 2, 2, 3), 1e200)).norm() == np.inf

    def test_zero(self):
        M = MonarchMatrix(np.zeros((2, 3, 2, 2)), np.zeros((2, 2, 2, 3)))
        assert M.norm() == M.trace() == 0
        assert not M.to_dense().any()

    def test_counts(self):
        M = monarch(24, 20, 3, 4, 2, dtype=np.float32)
        assert M.n_parameters == 2 * (24 * 4 + 20 * 3) == M.T.n_parameters
        assert M.nbytes == 4 * M.n_parameters
        gathers = make("gathers", np.complex64)
        assert gathers.n_parameters == 60
        assert gathers.nbytes == 60 * 8 + 24 * 8
        assert (M.ndim, monarch(4, 4, 2, 2, batch=(3,)).ndim) == (2, 3)

    def test_attributes_of_the_two_stage_form_only(self):
        for kind in ("one stage", "transposed", "gathers", "four stages", "takes real"):
            M = make(kind)
            for name in ("left", "right", "nblocks", "rank"):
                assert not hasattr(M, name)
            with pytest.raises(AttributeError, match="not in the two-stage form"):
                M.to_blockdiag()
            with pytest.raises(AttributeError, match="not in the two-stage form"):
                M.recompress()
        M = make("transposed").T
        assert (M.nblocks, M.rank) == ((3, 4), 2)

    def test_repr(self):
        assert repr(monarch(24, 20, 3, 4, 2)) == "<MonarchMatrix 24 × 20, nblocks (3, 4), rank 2, 312 parameters>"
        assert repr(make("four stages")) == "<MonarchMatrix 12 × 12, 4 stages, 120 parameters>"
        assert repr(monarch(4, 4, 2, 2, batch=(5,))).startswith("<MonarchMatrix 5 × 4 × 4, nblocks (2, 2)")
        assert "relative error 0." in repr(project(draw((12, 12)), nblocks=3))

    def test_nothing_is_copied(self):
        M = monarch(24, 20, 3, 4, 2)
        for N in (M.T, M.T.T, M.H, M.conj(), M.T.H):
            for stage in N.stages:
                assert np.shares_memory(stage, M.left) or np.shares_memory(stage, M.right)
        C = monarch(24, 20, 3, 4, 2, dtype=np.complex128)
        assert np.shares_memory(C.T.stages[0], C.right)


class TestSums:
    def test_sum_and_difference(self):
        M, N = monarch(24, 20, 3, 4, 2), monarch(24, 20, 3, 4, 1, dtype=np.complex64, seed=3)
        A, B = M.to_dense(), N.to_dense()
        for got, expected in [(M + N, A + B), (M - N, A - B), (-M, -A), (N - M, B - A)]:
            assert_near(got.to_dense(), expected, B * 10)
        assert (M + N).rank == (N - M).rank == 3
        assert (M + N).nblocks == (3, 4)
        assert (M + N).dtype == np.complex128
        assert (M - M).norm() <= 1e-15 * M.norm()

    def test_padded(self):
        M, N = monarch(7, 13, 3, 4, 2), monarch(7, 13, 3, 4, 1, seed=3)
        assert_near((M + N).to_dense(), M.to_dense() + N.to_dense(), M.to_dense())

    def test_batches(self):
        M, N = monarch(6, 6, 2, 3, batch=(4, 1)), monarch(6, 6, 2, 3, seed=3, batch=(5,))
        for other in (N, monarch(6, 6, 2, 3, seed=3)):
            assert_near((M + other).to_dense(), M.to_dense() + other.to_dense(), M.to_dense())

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_scalars(self, kind, dtype):
        M = make(kind, dtype)
        A = M.to_dense()
        for c in (3, 2.5, 1 - 2j, np.float32(0.5), np.array(3.0), np.complex128(1j), True, -1):
            assert_near((M * c).to_dense(), A * c, A)
            assert_near((c * M).to_dense(), A * c, A)
            assert_near((M / c).to_dense(), A / c, A)
            assert (M * c).dtype == (A * c).dtype
            assert (M * c).to_dense().dtype == (A * c).dtype
        assert_near((M / 3).to_dense(), A / 3, A)

    def test_a_stage_twice(self):
        """One array in two places is scaled in one of them."""
        W = draw((1, 3, 4, 4))
        M = MonarchMatrix.from_stages([W, W])
        assert_near((M * 3).to_dense(), 3 * dense_of(M), dense_of(M))
        assert_near((M / 3).to_dense(), dense_of(M) / 3, dense_of(M))

    def test_division_is_no_multiplication(self):
        M = monarch(4, 4, 2, 2)
        assert np.isfinite((M * 1e-320 / 1e-320).to_dense()).all()
        assert np.array_equal((M / 3).left, M.left / 3)

    def test_scalars_keep_the_original(self):
        M = make("two stages")
        before = M.to_dense()
        M * 2, M / 2, -M, M + M, M - M
        assert np.array_equal(M.to_dense(), before)

    @pytest.mark.parametrize("other", [np.ones(3), "a", None, [1.0], np.ones((12, 12))])
    def test_no_numbers(self, other):
        M = make("two stages")
        for operation in (
            lambda: M * other,
            lambda: other * M,
            lambda: M / other,
            lambda: M + other,
            lambda: M - other,
            lambda: other + M,
        ):
            with pytest.raises(TypeError):
                operation()

    def test_refusals(self):
        M = monarch(12, 12, 3, 4)
        with pytest.raises(ValueError, match="equal nblocks, got \\(3, 4\\) and \\(4, 3\\)"):
            M + monarch(12, 12, 4, 3)
        with pytest.raises(ValueError, match="shapes \\(12, 12\\) and \\(12, 8\\)"):
            M + monarch(12, 8, 3, 4)
        with pytest.raises(ValueError, match="two-stage form"):
            M + M.T
        with pytest.raises(TypeError):
            M * M


class TestRecompress:
    def test_sum_of_copies(self):
        M = monarch(24, 20, 3, 4, 2)
        N = (M + M).recompress()
        assert N.rank == 2
        assert_near(N.to_dense(), 2 * M.to_dense(), 2 * M.to_dense())
        assert N.relative_error < 1e-14
        assert N.singular_values.shape == (4, 3, 2)
        assert (N.n_iter, N.method) == (0, "svd")

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("rank", [1, 2, 3])
    @pytest.mark.parametrize("shape", [(24, 20), (23, 18)])
    def test_the_best_of_a_rank(self, dtype, rank, shape):
        M = monarch(*shape, 3, 4, 4, dtype=dtype)
        N = M.recompress(rank)
        best = project(M.to_dense(), nblocks=(3, 4), rank=rank, pad=True)
        eps = float(np.finfo(dtype).eps)
        assert N.rank == rank
        assert N.dtype == dtype
        assert N.relative_error == pytest.approx(best.relative_error, rel=100 * eps)
        assert N.singular_values == pytest.approx(best.singular_values, rel=1000 * eps)
        assert N.gap == pytest.approx(best.gap, abs=1e4 * eps)
        true = np.linalg.norm(M.to_dense().astype(complex) - N.to_dense().astype(complex))
        assert N.error == pytest.approx(true, rel=100 * eps)
        assert N.relative_error == pytest.approx(N.error / M.norm(), rel=1e-12)

    @pytest.mark.parametrize("size", [1e-3, 1e-10, 1e-13])
    def test_error_far_below_the_root_of_rounding(self, size):
        M, E = monarch(24, 20, 3, 4, 1), monarch(24, 20, 3, 4, 1, seed=8)
        E = E * (size * M.norm() / E.norm())
        N = (M + E).recompress(1)
        expected = np.sqrt(np.sum((M + E).recompress(2).singular_values[..., 1] ** 2))
        assert N.error == pytest.approx(expected, rel=max(1e-8, 1e-15 / size))
        assert 0.1 * size < N.relative_error < size

    def test_rounding_counts(self):
        """The error is that of the returned factors, not of those before rounding."""
        M = monarch(24, 20, 3, 4, 2, dtype=np.float32)
        N = M.recompress(2)
        wide = [MonarchMatrix(X.left.astype(float), X.right.astype(float)).to_dense() for X in (M, N)]
        assert N.error == pytest.approx(np.linalg.norm(wide[0] - wide[1]), rel=1e-6)
        assert 1e-9 < N.relative_error < 1e-6

    def test_tolerance(self):
        scales = np.array([1, 1e-2, 1e-4, 1e-6])
        left = np.linalg.qr(draw((4, 3, 8, 4)))[0].transpose(1, 2, 0, 3) * scales
        right = np.linalg.qr(draw((4, 3, 6, 4), seed=1))[0].transpose(0, 3, 1, 2)
        M = MonarchMatrix(left, right)
        for tol, rank in [(1, 1), (0.5, 1), (5e-3, 2), (1e-3, 2), (1e-5, 3), (1e-7, 4), (0, 4)]:
            N = M.recompress(tol=tol)
            assert N.rank == rank
            assert N.relative_error <= max(tol, 1e-15)
        assert M.recompress().rank == 4

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_scales(self, scale):
        M = monarch(24, 20, 3, 4, 3)
        N = MonarchMatrix(M.left * scale, M.right).recompress(1)
        assert N.relative_error == pytest.approx(M.recompress(1).relative_error, rel=1e-14)
        assert N.error == pytest.approx(M.recompress(1).error * scale, rel=1e-14)
        assert N.singular_values == pytest.approx(M.recompress(1).singular_values * scale, rel=1e-13)
        assert np.abs(np.log10(np.abs(N.left).max() / np.abs(N.right).max())) < 2

    def test_zero_and_wide(self):
        M = MonarchMatrix(np.zeros((2, 3, 2, 2)), np.zeros((2, 2, 2, 3)))
        N = M.recompress()
        assert (N.rank, N.error, N.relative_error) == (1, 0.0, 0.0)
        wide = monarch(12, 12, 3, 4, 9)
        assert wide.recompress().rank == 3
        assert_near(wide.recompress().to_dense(), wide.to_dense(), wide.to_dense())
        assert monarch(12, 12, 3, 4, 1).recompress(3).rank == 1

    def test_batch(self):
        M = monarch(12, 12, 3, 4, 3, batch=(2, 5))
        N = M.recompress(2)
        assert N.shape == (2, 5, 12, 12)
        assert N.singular_values.shape == (2, 5, 4, 3, 2)
        assert N.error == pytest.approx(np.linalg.norm(M.to_dense() - N.to_dense()), rel=1e-12)

    def test_refusals(self):
        M = monarch(12, 12, 3, 4, 2)
        with pytest.raises(ValueError, match="not both"):
            M.recompress(1, tol=0.1)
        with pytest.raises(ValueError, match="slices are 4 × 3"):
            M.recompress(4)
        for rank in (0, -1, 1.5, "a"):
            with pytest.raises(ValueError, match="rank"):
                M.recompress(rank)
        for tol in (-1, 2, np.nan):
            with pytest.raises(ValueError, match="tol"):
                M.recompress(tol=tol)


def block_diagonal(K, s, q, seed=0, batch=()):
    """Return the two-stage form of K blocks s × q, the left factor the unit, and its dense form."""
    B = draw((*batch, K, s, q), seed=seed)
    left = np.broadcast_to(np.eye(K)[None, :, :, None], (s, K, K, 1))
    M = MonarchMatrix(left, B.reshape(K, 1, s, q))
    dense = np.zeros((K, s, K, q))
    dense[range(K), :, range(K), :] = B
    return M, dense.reshape(K * s, K * q)


def group_diagonal(J, p, seed=0):
    """Return the two-stage form, right factor the unit, of J blocks p × p on strided groups."""
    W = draw((J, p, p), seed=seed)
    right = np.broadcast_to(np.eye(J)[None, None], (p, 1, J, J))
    return MonarchMatrix(W[..., None], right), stage_by_definition(W[None], J * p)


def kronecker(A, B):
    left = np.broadcast_to(A[None, :, :, None], (B.shape[0], *A.shape, 1))
    return MonarchMatrix(left, np.broadcast_to(B[None, None], (A.shape[1], 1, *B.shape)))


class TestProductsOfTwo:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("other", KINDS)
    @pytest.mark.parametrize("batch", [(), (3,)])
    def test_always_exact(self, kind, other, batch):
        M, N = make(kind, np.complex64), make(other, np.float64, batch)
        A, B = M.to_dense(), N.to_dense()
        for left, right, expected in [(M, N, A @ B), (N, M, B @ A), (M, M.H, A @ A.conj().mT), (N.T, N, B.mT @ B)]:
            got = left @ right
            assert got.shape == expected.shape
            assert got.dtype == expected.dtype
            assert_near(got.to_dense(), expected, A, B, factor=300)
            assert_near(got @ np.ones(12), expected @ np.ones(12), A, B, factor=300)
            assert sum(np.prod(s.shape) for s in got.stages) <= sum(
                np.prod(s.shape) for s in left.stages + right.stages
            )

    @pytest.mark.parametrize(("m", "n", "J", "K", "rank"), CASES)
    def test_with_low_rank(self, m, n, J, K, rank):
        """Case (a): either operand has one block."""
        M = monarch(m, n, J, K, rank)
        left, right = monarch(9, m, 1, 1, 3), monarch(n, 8, 1, 1, 2)
        for got, expected in [(left @ M, left.to_dense() @ M.to_dense()), (M @ right, M.to_dense() @ right.to_dense())]:
            assert got.nblocks == (1, 1)
            assert_near(got.to_dense(), expected, expected, factor=500)
        assert (left @ M @ right).rank <= 3
        for kind in KINDS:
            N = make(kind)
            thin = monarch(12, 12, 1, 1, 2)
            assert (N @ thin).nblocks == (thin @ N).nblocks == (1, 1)
            assert_near((thin @ N).to_dense(), thin.to_dense() @ N.to_dense(), N.to_dense(), thin.to_dense())

    @pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 1), (6, 5)])
    def test_low_rank_batches(self, shape):
        """Axes of one must not be taken for those of a factor."""
        m, n = shape
        for one, two in itertools.product([(), (1, 2), (2, 1), (2, 3), (1, 1)], repeat=2):
            try:
                np.broadcast_shapes(one, two)
            except ValueError:
                continue
            M, N = monarch(m, 4, 1, 1, 1, batch=one), monarch(4, n, 1, 1, 1, batch=two, seed=3)
            assert_near((M @ N).to_dense(), M.to_dense() @ N.to_dense(), M.to_dense(), N.to_dense())
            other = monarch(4, n, 2, 1, 1, batch=two, seed=3)
            assert_near((M @ other).to_dense(), M.to_dense() @ other.to_dense(), M.to_dense(), other.to_dense())

    def test_with_block_diagonal(self):
        """Case (b): blocks on the K input blocks from the right, on the J output groups from the left."""
        for rank in (1, 2):
            M = monarch(24, 20, 3, 4, rank)
            for width in (1, 5, 40):
                N, B = block_diagonal(4, 5, width)
                got = M @ N
                assert (got.nblocks, got.rank) == ((3, 4), rank)
                assert_near(got.to_dense(), M.to_dense() @ B, M.to_dense(), B)
                alone = M @ MonarchMatrix.from_stages([N.right.reshape(4, 1, 5, width)])
                assert alone.nblocks == (3, 4)
            N, B = group_diagonal(3, 8)
            got = N @ M
            assert (got.nblocks, got.rank) == ((3, 4), rank)
            assert_near(got.to_dense(), B @ M.to_dense(), M.to_dense(), B)

    def test_block_diagonals(self):
        (M, A), (N, B) = block_diagonal(4, 3, 5), block_diagonal(4, 5, 2, seed=2)
        assert (M @ N).nblocks == (3, 4)
        assert_near((M @ N).to_dense(), A @ B, A, B)
        (M, A), (N, B) = group_diagonal(4, 3), group_diagonal(4, 3, seed=2)
        assert (M @ N).nblocks == (4, 3)
        assert_near((M @ N).to_dense(), A @ B, A, B)
        (N, B) = block_diagonal(3, 4, 4)
        assert_near((M @ N).to_dense(), A @ B, A, B)
        assert_near((N @ M).to_dense(), B @ A, A, B)

    def test_block_diagonal_of_other_blocks(self):
        M = monarch(24, 24, 4, 6)
        N, B = block_diagonal(4, 6, 6)
        assert_near((M @ N).to_dense(), M.to_dense() @ B, M.to_dense(), B)
        padded = monarch(23, 24, 4, 6)
        N, B = block_diagonal(6, 4, 4)
        assert (padded @ N).nblocks == (4, 6)
        assert_near((padded @ N).to_dense(), padded.to_dense() @ B, padded.to_dense(), B)
        padded = monarch(24, 23, 4, 6)
        assert_near((padded.T @ padded).to_dense(), padded.to_dense().T @ padded.to_dense(), np.eye(24) * 100)

    def test_kronecker(self):
        """Case (c), with the sizes that fit and with those that do not."""
        A, B, C, D = draw((2, 3)), draw((4, 5)), draw((3, 6), seed=2), draw((5, 2), seed=3)
        M, N = kronecker(A, B), kronecker(C, D)
        assert np.allclose(M.to_dense(), np.kron(A, B))
        assert (M @ N).nblocks == (4, 6)
        assert (M @ N).rank == 1
        assert_near((M @ N).to_dense(), np.kron(A @ C, B @ D), np.kron(A, B), np.kron(C, D))
        N = kronecker(draw((5, 2)), draw((3, 7)))
        assert_near((M @ N).to_dense(), M.to_dense() @ N.to_dense(), M.to_dense(), N.to_dense())

    def test_seams(self):
        """What meets in the middle is merged where that does not take more numbers."""
        perm = np.random.default_rng(0).permutation(12)
        W = draw((3, 2, 2, 2))
        M, N = MonarchMatrix.from_stages([W, perm]), MonarchMatrix.from_stages([np.argsort(perm), W])
        assert len((M @ N).stages) == 1
        assert_near((M @ N).to_dense(), M.to_dense() @ N.to_dense(), M.to_dense(), N.to_dense())
        assert len((M @ MonarchMatrix.from_stages([perm, W])).stages) == 3
        wide = MonarchMatrix.from_stages([draw((1, 2, 30, 1))]), MonarchMatrix.from_stages([draw((1, 2, 1, 40))])
        assert (wide[0] @ wide[1]).n_parameters == 140

    def test_reprojection(self):
        M = monarch(24, 24, 4, 6)
        P = (M @ M).project(nblocks=(4, 6), rank=2)
        expected = project(M.to_dense() @ M.to_dense(), nblocks=(4, 6), rank=2)
        assert P.relative_error == pytest.approx(expected.relative_error, rel=1e-12)

    def test_refusals(self):
        with pytest.raises(ValueError, match="\\(24, 20\\) and \\(24, 20\\) cannot be multiplied"):
            monarch(24, 20, 3, 4) @ monarch(24, 20, 3, 4)


class TestBlockdiag:
    def test_layout(self):
        """The reference code: out = w2 applied to w1 applied to the blocks of x, with these permutations between."""
        M = monarch(24, 20, 3, 4, 2)
        w1, w2 = M.to_blockdiag()
        assert w1.shape == (4, 2 * 3, 5)
        assert w2.shape == (3, 8, 4 * 2)
        x = draw((7, 20))
        first = np.einsum("bki,koi->bko", x.reshape(7, 4, 5), w1).reshape(7, 4 * 2, 3)  # (k s), then j
        second = np.einsum("bij,joi->bjo", first, w2)  # of group j
        assert_near(second.transpose(0, 2, 1).reshape(7, 24), M.apply_rows(x), M.to_dense(), x)

    def test_round_trip_shares_memory(self):
        M = monarch(24, 20, 3, 4, 2)
        w1, w2 = M.to_blockdiag()
        N = MonarchMatrix.from_blockdiag(w1, w2)
        for X in (w1, N.right):
            assert np.shares_memory(X, M.right)
        for X in (w2, N.left):
            assert np.shares_memory(X, M.left)
        assert np.array_equal(N.to_dense(), M.to_dense())

    def test_refusals(self):
        w1, w2 = np.ones((4, 6, 5)), np.ones((3, 8, 8))
        MonarchMatrix.from_blockdiag(w1, w2)
        for a, b in [(np.ones((4, 7, 5)), w2), (w1, np.ones((3, 8, 9))), (np.ones((5, 6, 5)), w2)]:
            with pytest.raises(ValueError, match="must fit each other"):
                MonarchMatrix.from_blockdiag(a, b)
        with pytest.raises(ValueError, match="w1 must be 3-d"):
            MonarchMatrix.from_blockdiag(np.ones((4, 6)), w2)
        with pytest.raises(TypeError, match="one dtype"):
            MonarchMatrix.from_blockdiag(w1.astype(np.float32), w2)


class TestMaking:
    def test_wrong_factors(self):
        left, right = draw((3, 8, 4, 2)), draw((4, 2, 3, 5))
        for a, b in [
            (left[0], right),
            (left, right[0]),
            (left, right[:3]),
            (left[..., :1], right),
            (left, right[:, :, :2]),
        ]:
            with pytest.raises(ValueError, match="must fit each other, got shapes"):
                MonarchMatrix(a, b)
        with pytest.raises(ValueError, match="must fit each other"):
            MonarchMatrix(left[None], right)
        with pytest.raises(TypeError, match="one dtype, got float64 and float32"):
            MonarchMatrix(left, right.astype(np.float32))
        with pytest.raises(TypeError, match="one dtype, got complex128 and float64"):
            MonarchMatrix(left.astype(complex), right)
        for value in (np.nan, np.inf):
            bad = right.copy()
            bad[2, 1, 0, 0] = value
            with pytest.raises(ValueError, match="right must be finite"):
                MonarchMatrix(left, bad)
        with pytest.raises(ValueError, match="left is empty"):
            MonarchMatrix(left[:, :0], right)
        for bad in (None, "ab", np.array("a"), {1: 2}, left.astype(object)):
            with pytest.raises(TypeError, match="left"):
                MonarchMatrix(bad, right)

    def test_integers_become_floats(self):
        M = MonarchMatrix(np.ones((2, 2, 2, 1), int), np.ones((2, 1, 2, 2), bool))
        assert M.dtype == np.float64
        assert MonarchMatrix([[[[1]]]], [[[[2]]]]).to_dense().tolist() == [[2.0]]
        assert MonarchMatrix(*(np.ones((1, 1, 1, 1), np.float16),) * 2).dtype == np.float32

    def test_wrong_shapes(self):
        left, right = draw((3, 8, 4, 2)), draw((4, 2, 3, 5))
        for shape in [(25, 20), (24, 21)]:
            with pytest.raises(ValueError, match="at most \\(24, 20\\)"):
                MonarchMatrix(left, right, shape=shape)
        for shape in [(0, 20), (24, -1), 24, (24,), (24, 20, 1)]:
            with pytest.raises(ValueError, match="shape must"):
                MonarchMatrix(left, right, shape=shape)
        with pytest.raises(TypeError, match="shape"):
            MonarchMatrix(left, right, shape=(24.0, 20))
        assert MonarchMatrix(left, right, shape=(1, 1)).to_dense().shape == (1, 1)

    def test_sizes_beyond_integers(self):
        """Refused before any number is looked at."""
        left, right = (np.broadcast_to(np.float64(0), shape) for shape in [(1, 2**32, 1, 1), (1, 1, 1, 2**31)])
        with pytest.raises(ValueError, match="too large"):
            MonarchMatrix(left, right)
        with pytest.raises(ValueError, match="too large"):
            MonarchMatrix.from_stages([left.reshape(1, 1, -1, 1), right])

    def test_from_stages(self):
        for kind in KINDS[:-1]:
            M = make(kind)
            N = MonarchMatrix.from_stages(M.stages, M.shape)
            assert np.array_equal(N.to_dense(), M.to_dense())
            assert N.shape == M.shape
            for one, other in zip(N.stages, M.stages, strict=True):
                assert one.ndim == 1 or np.shares_memory(one, other)

    def test_batches_broadcast(self):
        M = MonarchMatrix.from_stages([draw((2, 1, 1, 3, 4, 8)), draw((3, 4, 1, 6, 5))])
        A = np.stack([[by_definition(L, R, 12, 20) for R in M.right[0]] for L in M.left[:, 0]])
        assert M.shape == (2, 3, 12, 20)
        assert (M.nblocks, M.rank) == ((3, 4), 2)
        assert_near(M.to_dense(), A, A)
        assert M.norm() == pytest.approx(norm(A), rel=1e-14)
        assert_near(M.diagonal(), np.diagonal(A, axis1=-2, axis2=-1), A)
        assert_near(M.recompress(1).to_dense(), project(A, nblocks=(3, 4), rank=1).to_dense(), A)
        w1, w2 = M.to_blockdiag()
        assert w1.shape == (2, 3, 4, 6, 5)
        assert w2.shape == (2, 3, 3, 4, 8)
        assert_near((M + M).to_dense(), 2 * A, A)

    def test_wrong_stages(self):
        W, V = draw((1, 3, 4, 5)), draw((5, 1, 3, 2))
        MonarchMatrix.from_stages([W, V])
        cases = [
            ([], "at least one block stage"),
            ([np.arange(3)], "at least one block stage"),
            ([W, W], "stage 0 takes 15 numbers, but gets 12"),
            ([W, np.arange(14)], "stage 0 takes 15 numbers, but gets 14"),
            ([W, [0] * 15], "stage 1 must gather .* at most once"),
            ([W, np.r_[np.arange(14), -2]], "stage 1 must gather"),
            ([np.array([0, 12]), W], "stage 0 must gather from 0 to 11"),
            ([np.array([], int), W], "stage 0"),
            ([W[0]], "stage 0 must be a block stage"),
            ([np.arange(12.0), W], "stage 0 must be a block stage"),
            ([np.ones(12, bool), W], "stage 0 must be a block stage"),
            ([W, np.full((5, 1, 3, 2), np.nan)], "stage 1 must be finite"),
            ([W, V[:, :, :, :0]], "stage 1 is empty"),
            ([np.ones((2, 1, 3, 4, 5)), np.ones((3, 5, 1, 3, 2))], "batch axes of stages must broadcast"),
        ]
        for stages, message in cases:
            with pytest.raises(ValueError, match=message):
                MonarchMatrix.from_stages(stages)
        with pytest.raises(TypeError, match="one dtype, got float32, float64"):
            MonarchMatrix.from_stages([W, V.astype(np.float32)])
        for bad in ("a", None, object()):
            with pytest.raises(TypeError, match="stage 1"):
                MonarchMatrix.from_stages([W, bad])
        with pytest.raises(ValueError, match="must have 12 rows, which the stages give, got 13"):
            MonarchMatrix.from_stages([W, V], (13, 10))
        with pytest.raises(ValueError, match="stage 1 takes 10 numbers, but gets 11"):
            MonarchMatrix.from_stages([W, V], (12, 11))
        with pytest.raises(ValueError, match="stage 1 must gather from 0 to 13"):
            MonarchMatrix.from_stages([W, np.arange(15)], (12, 14))

    def test_gathers_that_leave_out(self):
        W = draw((1, 3, 4, 5))
        index = np.r_[np.arange(10) * 2, -np.ones(5, int)]
        M = MonarchMatrix.from_stages([W, index], (12, 30))
        assert M.shape == (12, 30)
        assert MonarchMatrix.from_stages([W, index]).shape == (12, 19)
        assert_near(M.to_dense(), dense_of(M), dense_of(M))
        assert_near(M.T.to_dense(), dense_of(M).T, dense_of(M))


class TestFiles:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("batch", [(), (2, 3)])
    def test_round_trip(self, kind, dtype, batch, tmp_path):
        M = make(kind, dtype, batch)
        M.save(tmp_path / "M.npz")
        for N in (
            MonarchMatrix.load(tmp_path / "M.npz"),
            pickle.loads(pickle.dumps(M)),
            copy.copy(M),
            copy.deepcopy(M),
        ):
            assert (N.shape, N.dtype, N._takes_real) == (M.shape, M.dtype, M._takes_real)
            assert np.array_equal(N.to_dense(), M.to_dense())
            assert len(N.stages) == len(M.stages)
            assert hasattr(N, "nblocks") == hasattr(M, "nblocks")
            assert_near(N @ np.arange(12.0), M @ np.arange(12.0), M.to_dense(), np.arange(12.0))

    @pytest.mark.parametrize(
        "options", [{}, {"certify": True}, {"rank": 2, "method": "svd"}, {"weights": np.arange(1.0, 25)}]
    )
    def test_facts(self, options, tmp_path):
        M = project(draw((24, 24)), nblocks=4, **options)
        M.save(tmp_path / "M.npz")
        for N in (MonarchMatrix.load(tmp_path / "M.npz"), pickle.loads(pickle.dumps(M)), copy.copy(M)):
            for name in MonarchMatrix.__annotations__:
                one, other = getattr(M, name), getattr(N, name)
                if not name.startswith("_"):
                    assert type(one) is type(other)
                    assert np.array_equal(one, other)

    def test_facts_of_a_chain(self, tmp_path):
        M = MonarchMatrix._of(make("four stages")._chain, level_errors=(0.25, 0.5), lower_bound=0.5, converged=False)
        M.save(tmp_path / "M.npz")
        N = MonarchMatrix.load(tmp_path / "M.npz")
        assert (N.level_errors, N.lower_bound, N.converged) == ((0.25, 0.5), 0.5, False)
        assert N.error is None

    def test_damaged(self, tmp_path):
        make("gathers").save(tmp_path / "M.npz")
        text = (tmp_path / "M.npz").read_bytes()
        (tmp_path / "half").write_bytes(text[: len(text) // 2])
        with pytest.raises(ValueError, match="damaged"):
            MonarchMatrix.load(tmp_path / "half")

    def test_the_original_is_not_changed_by_a_copy(self):
        M = make("two stages")
        N = copy.deepcopy(M)
        N.left[...] = 0
        assert M.to_dense().any()
        assert not N.to_dense().any()


class TestOperator:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", [np.float64, np.complex128])
    def test_scipy(self, kind, dtype):
        M = make(kind, dtype)
        A = dense_of(M)
        L = aslinearoperator(M)
        x = draw(12, dtype)
        assert L.dtype == M.dtype
        assert_near(L @ x, A @ x, A, x)
        assert_near(L.H @ x, A.conj().T @ x, A, x)
        assert_near(L @ draw((12, 3)), A @ draw((12, 3)), A, np.eye(12))
        assert_near(L.matvec(x[:, None]), (A @ x)[:, None], A, x)
        assert_near((L @ L) @ x, A @ (A @ x), A, 100 * x)

    def test_methods(self):
        M = monarch(24, 20, 3, 4, 2, dtype=np.complex128)
        A = M.to_dense()
        x, y = draw(20), draw(24)
        assert_near(M.matvec(x), A @ x, A, x)
        assert_near(M.rmatvec(y), A.conj().T @ y, A, y)
        assert_near(M.matmat(x[:, None]), (A @ x)[:, None], A, x)
        assert_near(M.rmatmat(y[:, None]), (A.conj().T @ y)[:, None], A, y)


def everywhere(kind, xp, dtype=np.float64, batch=()):
    """Return that matrix with its stages in another library."""
    M = make(kind, dtype, batch)
    stages = tuple(
        type(stage)(xp.asarray(stage.values), stage.form) if hasattr(stage, "values") else stage for stage in M._chain
    )
    return MonarchMatrix._of(stages, takes_real=M._takes_real)


class TestLibraries:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("dtype", "batch"), [(np.float32, ()), (np.complex128, ()), (np.float64, (2, 3))])
    def test_same_answers(self, kind, dtype, batch, other_xp):
        xp = other_xp
        M = everywhere(kind, xp, dtype, batch)
        expected = make(kind, dtype, batch)
        A = dense_of(expected)
        assert str(M.dtype).endswith(str(expected.dtype))
        assert (M.shape, M.nbytes) == (expected.shape, expected.nbytes)
        for N, B in [(M, A), (M.H, A.conj().mT)]:
            dense = N.to_dense()
            assert dense.dtype == M.dtype
            assert_near(dense, B, A)
            for shape in [(12,), (12, 0), (2, 3, 12, 4)]:
                for operand in (np.float32, np.complex128):
                    X = draw(shape, operand)
                    got = N @ xp.asarray(X)
                    assert str(got.dtype).endswith(str(np.result_type(expected.dtype, operand)))
                    assert_near(got, np.matmul(B, X[:, None])[..., 0] if X.ndim == 1 else np.matmul(B, X), A, X)
        Y = draw((5, 12), dtype)
        assert_near(M.apply_rows(xp.asarray(Y)), Y @ A.mT, A, Y)
        assert_near(M.__rmatmul__(xp.asarray(Y)), Y @ A, A, Y)
        assert_near(M @ xp.asarray(np.arange(12)), A @ np.arange(12.0), A, 12 * np.arange(12.0))
        assert M.norm() == pytest.approx(norm(A), rel=100 * float(np.finfo(dtype).eps))
        assert_near(M.diagonal(), np.diagonal(A, axis1=-2, axis2=-1), A)
        assert_near(M.trace(), np.trace(A, axis1=-2, axis2=-1), A)
        assert_near((M * 2.0).to_dense(), 2 * A, A)
        assert_near((M / 2).to_dense(), A / 2, A)
        assert_near((M @ M).to_dense(), A @ A, A, A)
        assert_near((M @ M.H).to_dense(), A @ A.conj().mT, A, A)

    @pytest.mark.parametrize("kind", KINDS)
    def test_dense_out(self, kind, xp):
        M = everywhere(kind, xp)
        out = xp.zeros((12, 12), dtype=xp.float64)
        assert M.to_dense(out) is out
        assert_near(out, dense_of(make(kind)), dense_of(make(kind)))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_sums(self, dtype, xp):
        M, N = everywhere("two stages", xp, dtype), everywhere("two stages", xp, np.complex64)
        B = make("two stages", np.complex64).to_dense()
        A = make("two stages", dtype).to_dense() + B
        assert_near((M + N).to_dense(), A, 10 * B)
        compressed = (M + M).recompress()
        assert compressed.rank == 2
        assert compressed.dtype == M.dtype
        assert_near(compressed.to_dense(), 2 * make("two stages", dtype).to_dense(), A)

    def test_operator_sign(self, other_xp):
        """The other library leaves `array @ M` to the matrix."""
        if "strict" in other_xp.__name__:
            pytest.skip("array_api_strict refuses what is not its own")
        M = everywhere("two stages", other_xp)
        Y = draw((5, 12))
        assert_near(other_xp.asarray(Y) @ M, Y @ dense_of(make("two stages")), dense_of(make("two stages")), Y)

    def test_two_libraries(self, other_xp):
        M = make("two stages")
        with pytest.raises(ValueError, match="one array library"):
            M @ other_xp.ones((12, 3))
        with pytest.raises(ValueError, match="one array library"):
            M @ everywhere("two stages", other_xp)
        with pytest.raises(ValueError, match="one array library"):
            M.left.shape and MonarchMatrix(other_xp.asarray(M.left), M.right)

    def test_save(self, other_xp, tmp_path):
        M = everywhere("gathers", other_xp)
        M.save(tmp_path / "M.npz")
        assert_near(MonarchMatrix.load(tmp_path / "M.npz").to_dense(), dense_of(make("gathers")), np.eye(12))


class TestAutograd:
    @pytest.fixture
    def torch(self):
        load_namespace("torch")
        import torch

        return torch

    @pytest.mark.parametrize("kind", ["rows", "columns", "right", "transposed", "dense", "product"])
    def test_training(self, kind, torch):
        """Gradient descent on leaves as factors, with one matrix object throughout, recovers the factors' product."""
        M = monarch(12, 12, 3, 4, 2, seed=4)
        left, right = (torch.tensor(X, requires_grad=True) for X in (M.left, M.right))
        goal = torch.tensor(draw((12, 12), seed=9))
        X = torch.eye(12, dtype=torch.float64)
        trained = MonarchMatrix(left, right)
        assert trained.left is left
        assert trained.right is right
        predict = {
            "rows": lambda: trained.apply_rows(X).T,
            "columns": lambda: trained @ X,
            "right": lambda: X @ trained,
            "transposed": lambda: (trained.T @ X).T,
            "dense": trained.to_dense,
            "product": lambda: (trained @ MonarchMatrix(*(t.detach() for t in (left, right)))).to_dense(),
        }[kind]
        losses = []
        for _ in range(10 if kind == "product" else 150):
            loss = torch.sum((predict() - goal) ** 2)
            loss.backward()
            losses.append(float(loss.detach()))
            with torch.no_grad():
                for factor in (left, right):
                    factor -= (0.001 if kind == "product" else 0.03) * factor.grad
                    factor.grad = None
        assert losses[-1] < 0.9 * losses[0]
        if kind != "product":
            best = project(goal.numpy(), nblocks=(3, 4), rank=2).error ** 2
            assert best * (1 - 1e-9) <= losses[-1] <= 1.2 * best

    @pytest.mark.parametrize("kind", KINDS)
    def test_gradients(self, kind, torch):
        """Every way through a chain, held against differences."""
        M = make(kind, np.float64)
        leaves = [
            torch.tensor(stage.values, requires_grad=True) if hasattr(stage, "values") else None for stage in M._chain
        ]
        x = torch.tensor(draw((12, 3)), requires_grad=True)

        def product(x, *values):
            values = iter(values)
            chain = tuple(type(s)(next(values), s.form) if hasattr(s, "values") else s for s in M._chain)
            return MonarchMatrix._of(chain, takes_real=M._takes_real) @ x

        assert torch.autograd.gradcheck(product, (x, *(leaf for leaf in leaves if leaf is not None)))

    def test_transposes_and_sums(self, torch):
        left, right = (torch.tensor(X, requires_grad=True) for X in (draw((3, 2, 2, 2)), draw((2, 2, 3, 3))))

        def number(left, right):
            M = MonarchMatrix(left, right)
            return sum((M.T @ M).to_dense().sum() + (M + M * 2).trace() + N.to_dense().sum() for N in (M.H, M.T.T))

        assert torch.autograd.gradcheck(number, (left, right))

    def test_units_in_training_are_not_constants(self, torch):
        """Factors that happen to be units, or equal, must get their gradients."""
        unit = torch.eye(2, dtype=torch.float64)[None, :, :, None].repeat(2, 1, 1, 1).requires_grad_()
        M = MonarchMatrix(unit, torch.ones((2, 1, 2, 2), dtype=torch.float64))
        N = MonarchMatrix(unit.detach().clone(), torch.ones((2, 1, 2, 2), dtype=torch.float64))
        (M @ N).to_dense().sum().backward()
        expected = unit.detach().clone().requires_grad_()
        (MonarchMatrix(expected, M.right).to_dense() @ N.to_dense()).sum().backward()
        assert torch.equal(unit.grad, expected.grad)

    def test_numbers_in_training(self, torch):
        """Those that are floats do not ask for a graph."""
        M = monarch(12, 12, 3, 4, 2)
        trained = MonarchMatrix(*(torch.tensor(X, requires_grad=True) for X in (M.left, M.right)))
        assert trained.norm() == pytest.approx(M.norm())
        assert (trained.T @ trained).norm() == pytest.approx((M.T @ M).norm())
        assert trained.recompress(1).error == pytest.approx(M.recompress(1).error)
        assert trained.slogdet()[1].item() == pytest.approx(M.slogdet()[1])
        assert "MonarchMatrix 12 × 12" in repr(trained)

    def test_scalar_in_training(self, torch):
        scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        M = MonarchMatrix(torch.ones((2, 2, 2, 1), dtype=torch.float64), torch.ones((2, 1, 2, 2), dtype=torch.float64))
        (M * scale).to_dense().sum().backward()
        assert float(scale.grad) == 16
