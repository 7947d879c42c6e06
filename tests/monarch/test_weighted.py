"""Projection in the metric of the inputs: optimal where it says so, monotone elsewhere, with the errors it reports."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from array_api_compat import array_namespace
from matrices import gaussian, huge, layouts, positive_definite, tiny
from numpy.linalg import LinAlgError
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import block_diag
from sklearn.exceptions import ConvergenceWarning

from linalg_ml._core.arrays import to_numpy
from linalg_ml.monarch import MonarchMatrix, project

SHAPES = [  # m, n, nblocks, rank
    (12, 10, (3, 2), 1),
    (12, 10, (3, 2), 2),
    (6, 40, (3, 2), 1),
    (40, 6, (2, 3), 2),
    (8, 6, (1, 1), 3),
    (5, 7, (5, 7), 1),
    (11, 13, (3, 4), 2),  # padded
    (7, 5, (3, 4), 1),  # the last column block is padding alone
]


def blocks_of(n, K, *, seed=0, dtype=np.float64):
    q = -(-n // K)
    return np.stack([positive_definite(q, seed=seed + 7 * k, dtype=dtype) for k in range(K)])


def dense(weights, n):
    """Return the weights of the n columns as one matrix."""
    full = np.diag(weights) if weights.ndim == 1 else block_diag(*weights) if weights.ndim == 3 else weights
    return full[:n, :n]


def in_double(M):
    """Return the product of the factors as they are, without rounding of its own."""
    wide = np.result_type(M.dtype, np.float64)
    return MonarchMatrix(M.left.astype(wide), M.right.astype(wide), shape=M.shape).to_dense()


def weighted_norm(D, sigma):
    return np.sqrt(np.trace(D @ sigma @ D.conj().T).real)


def least(A, weights, nblocks, rank):
    """Return the least weighted error for block weights: the discarded singular values of all slices times Σ^½."""
    n = A.shape[1]
    (J, K), total = nblocks, 0.0
    q = -(-n // K)
    sigma = dense(weights, n)
    for k in range(K):
        columns = slice(k * q, min((k + 1) * q, n))
        if columns.start >= n:
            continue
        C = np.linalg.cholesky(sigma[columns, columns])
        for j in range(J):
            total += np.sum(np.linalg.svd(A[j::J, columns] @ C, compute_uv=False)[rank:] ** 2)
    return np.sqrt(total)


def quietly(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return project(*args, **options)


@pytest.fixture(scope="module")
def case():
    """Give A, full weights and their diagonal blocks for nblocks (6, 5)."""
    A = np.random.default_rng(3).standard_normal((48, 60))
    X = np.random.default_rng(4).standard_normal((200, 60)) @ np.random.default_rng(5).standard_normal((60, 60))
    sigma = X.T @ X / 200
    return A, sigma, np.stack([sigma[k : k + 12, k : k + 12] for k in range(0, 60, 12)])


class TestClosedForm:
    def test_known_value(self, case):
        A, _, blocks = case
        M = project(A, nblocks=(6, 5), weights=blocks)
        assert_allclose(M.weighted_error, 329.61382841138, rtol=1e-12)
        assert (M.n_iter, M.converged, M.method) == (0, True, "gram")

    @pytest.mark.parametrize(("m", "n", "nblocks", "rank"), SHAPES)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
    def test_optimal(self, m, n, nblocks, rank, dtype):
        A = gaussian(m, n, seed=m, dtype=dtype)
        wide = np.result_type(dtype, np.float64)
        of_blocks = blocks_of(n, nblocks[1], dtype=wide)
        diagonal = np.random.default_rng(1).uniform(0.1, 10, n)
        tol = 1e-5 if dtype == np.float32 else 1e-12
        for weights in (of_blocks, diagonal):
            M = project(A, nblocks=nblocks, rank=rank, pad=True, weights=weights)
            assert M.dtype == dtype
            assert M.shape == (m, n)
            D = A - in_double(M)
            scale = weighted_norm(A.astype(wide), dense(weights, n))
            assert abs(M.weighted_error - least(A.astype(wide), weights, nblocks, rank)) <= tol * scale
            assert abs(M.weighted_error - weighted_norm(D, dense(weights, n))) <= tol * scale
            assert_allclose(M.error, np.linalg.norm(D), rtol=1e-12, atol=1e-14)
            assert_allclose(M.relative_error, M.error / np.linalg.norm(A), rtol=1e-6)

    def test_singular_values(self, case):
        A, _, blocks = case
        M = project(A, nblocks=(6, 5), rank=3, weights=blocks)
        for k, j in np.ndindex(5, 6):
            s = np.linalg.svd(A[j::6, 12 * k : 12 * k + 12] @ np.linalg.cholesky(blocks[k]), compute_uv=False)
            assert_allclose(M.singular_values[k, j], s[:3], rtol=1e-12)
            assert_allclose(M.gap[k, j], 1 - (s[3] / s[2]) ** 2, rtol=1e-10)

    def test_unit_weights_change_nothing(self, case):
        A, *_ = case
        expected = project(A, nblocks=(6, 5), rank=2)
        for weights in (np.ones(60), 4 * np.eye(60), np.stack([np.eye(12)] * 5)):
            M = project(A, nblocks=(6, 5), rank=2, weights=weights)
            assert_allclose(M.left, expected.left, atol=1e-12)
            assert_allclose(M.right, expected.right, atol=1e-12)
            assert_allclose(M.weighted_error, M.error * np.sqrt(np.max(weights)), rtol=1e-14)

    def test_gauge(self, case):
        A, _, blocks = case
        M = project(A, nblocks=(6, 5), rank=2, weights=1e60 * blocks)
        U, V = M.left.transpose(2, 0, 1, 3), M.right.transpose(0, 2, 1, 3)
        assert_allclose(np.linalg.norm(U, axis=2), np.linalg.norm(V, axis=3), rtol=1e-12)
        assert (np.take_along_axis(V, np.abs(V).argmax(axis=3, keepdims=True), axis=3) > 0).all()

    def test_full_rank_is_exact(self, case):
        A, sigma, _ = case
        for weights in (sigma, np.diag(sigma)):
            M = project(A, nblocks=(6, 5), rank=8, weights=weights)
            assert M.relative_error < 1e-14
            assert M.weighted_error < 1e-13 * weighted_norm(A, sigma)
            assert M.converged

    def test_rows_of_zeros_stay(self, case):
        A, sigma, blocks = case
        A = A.copy()
        A[[3, 9, 20]] = 0
        for weights in (sigma, blocks, np.diag(sigma)):
            for rank in (1, 3):
                M = quietly(A, nblocks=(6, 5), rank=rank, weights=weights).to_dense()
                assert not M[[3, 9, 20]].any()

    def test_slices_of_zeros(self):
        A = np.zeros((12, 12))
        M = project(A, nblocks=3, weights=np.ones(12))
        assert (M.error, M.relative_error, M.weighted_error) == (0, 0, 0)
        A[::3, :4] = 1
        M = project(A, nblocks=3, weights=np.arange(1.0, 13))
        assert_allclose(M.to_dense(), A, atol=1e-15)


class TestDescent:
    @pytest.mark.parametrize(
        ("sweeps", "expected"), [(0, 328.893713457), (1, 285.378311323), (5, 273.138587732), (20, 272.455475536)]
    )
    def test_known_values(self, case, sweeps, expected):
        A, sigma, _ = case
        with pytest.warns(ConvergenceWarning, match=f"stopped after {sweeps} sweeps"):
            M = project(A, nblocks=(6, 5), weights=sigma, max_iter=sweeps)
        assert_allclose(M.weighted_error, expected, rtol=2e-12)
        assert_allclose(M.weighted_error, weighted_norm(A - M.to_dense(), sigma), rtol=1e-12)
        assert_allclose(M.error, np.linalg.norm(A - M.to_dense()), rtol=1e-13)
        assert (M.n_iter, M.converged, M.singular_values) == (sweeps, False, None)

    def test_better_than_the_plain_projection(self, case):
        A, sigma, _ = case
        plain = weighted_norm(A - project(A, nblocks=(6, 5)).to_dense(), sigma)
        assert_allclose(plain, 334.992880544, rtol=1e-11)
        assert quietly(A, nblocks=(6, 5), weights=sigma).weighted_error < 0.82 * plain

    def test_converges(self, case):
        A, sigma, _ = case
        M = project(A, nblocks=(6, 5), weights=sigma, max_iter=1000)
        assert M.converged
        assert M.n_iter < 100
        last = quietly(A, nblocks=(6, 5), weights=sigma, max_iter=M.n_iter - 1).weighted_error
        assert 1 - (M.weighted_error / last) ** 2 < 1e-6

    @pytest.mark.parametrize(("m", "n", "nblocks", "rank"), SHAPES)
    @pytest.mark.parametrize("dtype", [np.float32, np.complex128])
    def test_monotone(self, m, n, nblocks, rank, dtype):
        A, sigma = gaussian(m, n, seed=m, dtype=dtype), positive_definite(n, np.geomspace(0.01, 1, n), dtype=dtype)
        errors = [
            quietly(A, nblocks=nblocks, rank=rank, pad=True, weights=sigma, max_iter=t, tol=0.0) for t in (0, 1, 4)
        ]
        unit = 10 * np.finfo(dtype).eps
        for before, M in pairwise(errors):
            assert M.weighted_error <= before.weighted_error + unit * weighted_norm(A, sigma)
        assert_allclose(M.weighted_error, weighted_norm(A - in_double(M), sigma), rtol=1e-10, atol=1e-14)

    def test_no_column_block_can_be_improved(self, case):
        """Against one exact step, written another way: weighted least squares, then truncation in Σ_kk."""
        A, sigma, _ = case
        M = project(A, nblocks=(6, 5), weights=sigma, max_iter=1000, tol=1e-9).to_dense()
        loss = weighted_norm(A - M, sigma)
        for k in range(5):
            inside = np.arange(12 * k, 12 * k + 12)
            rest = np.setdiff1d(np.arange(60), inside)
            regression = np.linalg.solve(sigma[np.ix_(inside, inside)], sigma[np.ix_(inside, rest)])
            target = A[:, inside] + (A - M)[:, rest] @ regression.T
            C = np.linalg.cholesky(sigma[np.ix_(inside, inside)])
            better = M.copy()
            for j in range(6):
                u, s, vh = np.linalg.svd(target[j::6] @ C)
                better[j::6, inside] = np.linalg.solve(C.T, (u[:, :1] * s[0] @ vh[:1]).T).T
            assert weighted_norm(A - better, sigma) >= loss * (1 - 1e-9)

    def test_exact_without_sweeps(self, case):
        """One block of columns, and weights that are block-diagonal: the closed form is all there is to do."""
        A, sigma, blocks = case
        M = project(A, nblocks=(6, 1), rank=2, weights=sigma, max_iter=0)
        assert (M.n_iter, M.converged) == (0, True)
        assert_allclose(M.weighted_error, least(A, sigma, (6, 1), 2), rtol=1e-12)
        M = project(A, nblocks=(6, 5), weights=block_diag(*blocks), max_iter=0)
        assert (M.n_iter, M.converged) == (0, True)
        assert_allclose(M.weighted_error, 329.61382841138, rtol=1e-12)

    def test_singular_weights(self, case):
        """Fewer samples than columns: definite blocks are enough."""
        A, *_ = case
        X = gaussian(30, 60, seed=8)
        M = quietly(A, nblocks=(6, 5), weights=X.T @ X)
        assert_allclose(M.weighted_error, np.linalg.norm((A - M.to_dense()) @ X.T), rtol=1e-11)
        assert M.weighted_error < 0.75 * np.linalg.norm((A - project(A, nblocks=(6, 5)).to_dense()) @ X.T)
        narrow = X.astype(np.float32)
        M32 = quietly(A, nblocks=(6, 5), weights=narrow.T @ narrow)
        assert_allclose(M32.weighted_error, M.weighted_error, rtol=1e-3)

    def test_symmetric_up_to_rounding(self, case):
        A, sigma, _ = case
        skew = sigma * (1 + 1e-14 * gaussian(60, 60))
        expected = quietly(A, nblocks=(6, 5), weights=sigma).weighted_error
        assert_allclose(quietly(A, nblocks=(6, 5), weights=skew).weighted_error, expected, rtol=1e-10)


class TestAccuracy:
    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize("rank", [1, 2])
    def test_members(self, full, rank):
        rng = np.random.default_rng(2)
        A = np.einsum("jlks,ksji->ljki", rng.standard_normal((4, 8, 5, rank)), rng.standard_normal((5, rank, 4, 7)))
        A = A.reshape(32, 35)
        sigma = positive_definite(35, np.geomspace(1e-8, 1, 35))
        weights = sigma if full else np.stack([sigma[k : k + 7, k : k + 7] for k in range(0, 35, 7)])
        M = project(A, nblocks=(4, 5), rank=rank, weights=weights)
        assert M.relative_error < 1e-13
        assert M.weighted_error < 1e-14 * weighted_norm(A, sigma)
        noise = gaussian(32, 35, seed=9) * 1e-11 * np.linalg.norm(A)
        M = quietly(A + noise, nblocks=(4, 5), rank=rank, weights=weights)
        left, right = (X.astype(np.longdouble) for X in (M.left, M.right))
        D = A + noise - np.einsum("jlks,ksji->ljki", left, right).reshape(32, 35)
        assert_allclose(M.error, float(np.sqrt(np.sum(D**2))), rtol=1e-4)
        assert_allclose(M.weighted_error, float(np.sqrt(np.sum((D @ dense(weights, 35)) * D))), rtol=1e-4)

    @pytest.mark.parametrize("kind", ["full", "blocks", "diagonal"])
    def test_scales(self, case, kind):
        A, sigma, blocks = case
        weights = {"full": sigma, "blocks": blocks, "diagonal": np.diag(sigma)}[kind]
        expected = quietly(A, nblocks=(6, 5), weights=weights, max_iter=2)
        for a, w in ((-200, -200), (-200, 200), (200, -200), (200, 200)):
            M = quietly(A * 10.0**a, nblocks=(6, 5), weights=weights * 10.0**w, max_iter=2)
            assert_allclose(M.relative_error, expected.relative_error, rtol=1e-12)
            assert_allclose(M.error / 10.0**a, expected.error, rtol=1e-12)
            assert_allclose(M.weighted_error / 10.0 ** (a + w // 2), expected.weighted_error, rtol=1e-12)
            assert_allclose(M.to_dense() / 10.0**a, expected.to_dense(), atol=1e-12)

    def test_graded_columns(self, case):
        """Columns in other units give the same matrix in other units."""
        A, sigma, blocks = case
        units = 2.0 ** np.random.default_rng(1).integers(-300, 300, 60)
        for weights in (sigma, np.diag(sigma), blocks):
            expected = quietly(A, nblocks=(6, 5), weights=weights, max_iter=3)
            q = units.reshape(5, 12)
            changed = {
                1: lambda w: w / units**2,
                2: lambda w: w / units / units[:, None],
                3: lambda w, q=q: w / q[:, :, None] / q[:, None, :],
            }[weights.ndim](weights)
            M = quietly(A * units, nblocks=(6, 5), weights=changed, max_iter=3)
            assert_allclose(M.weighted_error, expected.weighted_error, rtol=1e-10)
            assert_allclose(M.to_dense() / units, expected.to_dense(), atol=1e-10)

    def test_ends_of_the_range(self):
        for A in (tiny(12, 12), huge(12, 12), huge(12, 12, dtype=np.float32)):
            for weights in (np.arange(1.0, 13), positive_definite(12)):
                M = quietly(A, nblocks=3, weights=weights)
                assert np.isfinite([M.error, M.weighted_error, M.relative_error]).all()
                assert 0.1 < M.relative_error < 1
                assert np.isfinite(M.left).all()


class TestArrays:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
    def test_namespaces(self, xp, dtype):
        A = gaussian(12, 15, dtype=np.dtype(dtype))
        sigma = positive_definite(15, np.geomspace(0.01, 1, 15), dtype=np.dtype(dtype))
        blocks = np.stack([sigma[k : k + 5, k : k + 5] for k in range(0, 15, 5)])
        tol = 1e-4 if dtype in ("float32", "complex64") else 1e-11
        for weights in (sigma, blocks, np.diag(sigma).real.copy()):
            expected = quietly(A, nblocks=(4, 3), weights=weights, max_iter=5)
            M = quietly(xp.asarray(A), nblocks=(4, 3), weights=xp.asarray(weights), max_iter=5)
            assert array_namespace(M.left) is array_namespace(xp.asarray(A))
            assert M.left.dtype == getattr(xp, dtype) == M.right.dtype
            assert isinstance(M.weighted_error, float)
            assert_allclose(M.weighted_error, expected.weighted_error, rtol=tol)
            assert_allclose(to_numpy(M.to_dense()), expected.to_dense(), atol=tol)

    def test_memory_orders(self, case):
        A, sigma, blocks = case
        for weights in (sigma, blocks):
            expected = quietly(A, nblocks=(6, 5), weights=weights, max_iter=2).to_dense()
            for name, B in layouts(A):
                M = quietly(B, nblocks=(6, 5), weights=weights, max_iter=2)
                assert_allclose(M.to_dense(), expected, atol=1e-12, err_msg=name)

    def test_input_is_unchanged(self, case):
        A, sigma, _ = (X.copy() for X in case)
        quietly(A, nblocks=(6, 5), weights=sigma)
        assert_array_equal(A, case[0])
        assert_array_equal(sigma, case[1])

    def test_other_numbers(self, case):
        A, sigma, _ = case
        M = quietly(A.astype(np.complex128), nblocks=(6, 5), weights=sigma, max_iter=2)
        assert M.dtype == np.complex128
        assert_allclose(M.to_dense(), quietly(A, nblocks=(6, 5), weights=sigma, max_iter=2).to_dense(), atol=1e-10)
        M = project([[1, 2], [3, 4]], nblocks=1, weights=[1, 2])
        assert M.dtype == np.float64


class TestBadInput:
    @pytest.mark.parametrize(
        "shape", [(11,), (12, 11), (13, 13), (2, 6, 6), (3, 4, 5), (1, 1, 1, 12)], ids=lambda shape: str(shape)
    )
    def test_shapes(self, shape):
        with pytest.raises(ValueError, match=r"weights must be of shape \(12,\) or \(12, 12\) or \(3, 4, 4\)"):
            project(gaussian(12, 12), nblocks=3, weights=np.ones(shape))

    @pytest.mark.parametrize("kind", ["full", "blocks", "diagonal"])
    @pytest.mark.parametrize("value", [0.0, -1.0])
    def test_not_positive_definite(self, kind, value):
        diagonal = np.ones(12)
        diagonal[9] = value
        weights = {"full": np.diag(diagonal), "diagonal": diagonal, "blocks": np.stack([np.eye(4)] * 3)}[kind]
        if kind == "blocks":
            weights[2] = np.ones((4, 4)) * value
        with pytest.raises(LinAlgError, match="weights must be positive definite, but their block 2 is not"):
            project(gaussian(12, 12), nblocks=3, weights=weights)

    def test_positive_diagonal_is_not_enough(self):
        weights = np.stack([np.eye(2), [[1, 2], [2, 1]]])
        with pytest.raises(LinAlgError, match="block 1 is not"):
            project(gaussian(4, 4), nblocks=2, weights=weights)

    @pytest.mark.parametrize("size", [1.2, 3.0, 1e300])
    def test_definite_blocks_are_not_enough(self, size):
        sigma = np.eye(12)
        sigma[0, 11] = sigma[11, 0] = size
        with pytest.raises(LinAlgError, match="negative eigenvalue"):
            project(gaussian(12, 12), nblocks=3, weights=sigma)

    def test_not_hermitian(self):
        sigma = np.eye(12)
        sigma[0, 1] = 0.1
        with pytest.raises(ValueError, match="weights must be symmetric"):
            project(gaussian(12, 12), nblocks=3, weights=sigma)
        for weights in (np.eye(12) + 0.1j * np.ones((12, 12)), np.ones(12) + 1j):
            with pytest.raises(ValueError, match="weights must be symmetric"):
                project(gaussian(12, 12, dtype=np.complex128), nblocks=3, weights=weights)

    def test_kinds(self):
        with pytest.raises(TypeError, match="weights must be real where A is"):
            project(gaussian(12, 12), nblocks=3, weights=np.eye(12, dtype=np.complex128))
        with pytest.raises(ValueError, match="weights must be finite"):
            project(gaussian(12, 12), nblocks=3, weights=np.full(12, np.nan))
        with pytest.raises(ValueError, match="one matrix"):
            project(np.ones((2, 12, 12)), nblocks=3, weights=np.ones(12))
        with pytest.raises(TypeError, match="weights"):
            project(gaussian(12, 12), nblocks=3, weights="identity")

    def test_other_library(self, other_xp):
        with pytest.raises(ValueError, match="A and weights must come from one array library"):
            project(other_xp.asarray(gaussian(12, 12)), nblocks=3, weights=np.ones(12))
