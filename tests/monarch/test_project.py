"""The projection: the optimum by brute force, hard slices, every kind of input, and the error it reports."""

import tracemalloc

import numpy as np
import pytest
import scipy.fft
from array_api_compat import array_namespace
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import toeplitz

from linalg_ml import config_context
from linalg_ml._core.arrays import to_numpy
from linalg_ml.monarch import MonarchMatrix, certify, project
from linalg_ml.monarch._layout import layout


def slices_of(A, J, K):
    """Return the slices (K, J, p, q) of one matrix, by the definition and padded with zeros."""
    p, q = -(-A.shape[0] // J), -(-A.shape[1] // K)
    S = np.zeros((K, J, p, q), A.dtype)
    for row in range(A.shape[0]):
        for column in range(A.shape[1]):
            S[column // q, row % J, row // J, column % q] = A[row, column]
    return S


def least_error(A, J, K, rank):
    """Return the least error that any Monarch matrix has, from all singular values of all slices."""
    sigma = np.linalg.svd(slices_of(A, J, K), compute_uv=False)
    return np.linalg.norm(sigma[..., rank:])


def excess(A, M):
    """Return what M loses beyond the best, relative to ‖A‖²; in double precision, of the factors as they are."""
    wide = [to_numpy(factor).astype(np.result_type(factor.dtype, np.float64)) for factor in (M.left, M.right)]
    dense = MonarchMatrix(*wide, shape=M.shape[-2:]).to_dense()
    A = A.astype(dense.dtype)
    best = least_error(A, *M.nblocks, M.rank)
    return (np.linalg.norm(A - dense) ** 2 - best**2) / np.linalg.norm(A) ** 2


def random_matrix(rng, m, n, dtype):
    A = rng.standard_normal((m, n))
    if np.issubdtype(dtype, np.complexfloating):
        A = A + 1j * rng.standard_normal((m, n))
    return A.astype(dtype)


class TestOptimum:
    @settings(max_examples=200)
    @given(
        m=st.integers(1, 24),
        n=st.integers(1, 24),
        J=st.integers(1, 24),
        K=st.integers(1, 24),
        rank=st.integers(1, 4),
        dtype=st.sampled_from([np.float64, np.complex128]),
        seed=st.integers(0, 2**32),
    )
    def test_any_shape(self, m, n, J, K, rank, dtype, seed):
        J, K = min(J, m), min(K, n)
        rank = min(rank, -(-m // J), -(-n // K))
        A = random_matrix(np.random.default_rng(seed), m, n, dtype)
        M = project(A, nblocks=(J, K), rank=rank, pad=True, rng=0)
        best = least_error(A, J, K, rank)
        assert M.shape == (m, n)
        assert_allclose(M.error, best, rtol=1e-12, atol=1e-13 * np.linalg.norm(A))
        assert_allclose(np.linalg.norm(A - M.to_dense()), best, rtol=1e-12, atol=1e-13 * np.linalg.norm(A))

    @pytest.mark.parametrize(("rank", "expected"), [(1, 0.941218928863666), (2, 0.887159066208755)])
    def test_square(self, rank, expected):
        A = np.random.default_rng(0).standard_normal((1024, 1024))
        assert abs(project(A, nblocks=32, rank=rank, rng=0).relative_error - expected) <= 1e-13
        single = A.astype(np.float32)
        assert excess_of_energy(single, project(single, nblocks=32, rank=rank, rng=0)) <= 1e-10

    @pytest.mark.parametrize(
        ("nblocks", "rank", "expected"), [((24, 48), 1, 0.956618806300857), (4, 48, 0.756885855693578)]
    )
    def test_rectangular(self, nblocks, rank, expected):
        A = np.random.default_rng(1).standard_normal((768, 3072))
        assert abs(project(A, nblocks=nblocks, rank=rank, rng=0).relative_error - expected) <= 1e-13

    def test_padding(self):
        A = np.random.default_rng(0).standard_normal((1021, 997))
        assert abs(project(A, nblocks=(32, 30), pad=True, rng=0).relative_error - 0.94246542896145) <= 1e-13

    def test_default_blocks_of_primes(self):
        M = project(np.random.default_rng(0).standard_normal((31, 64)), rng=0)
        assert M.nblocks == (6, 8)
        assert M.shape == (31, 64)

    @pytest.mark.parametrize("method", ["auto", "svd"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
    def test_methods(self, dtype, method):
        A = random_matrix(np.random.default_rng(3), 60, 48, dtype)
        for rank in (1, 3):
            M = project(A, nblocks=(5, 4), rank=rank, method=method, rng=0)
            assert M.dtype == dtype
            assert abs(excess(A, M)) <= (1e-13 if M.dtype.itemsize // (1 + np.iscomplexobj(A)) == 8 else 1e-9)


def excess_of_energy(A, M):
    """As `excess`, for the shapes of large slices: by panels of LAPACK's singular values."""
    J, K = M.nblocks
    S = A.astype(np.float64).reshape(A.shape[0] // J, J, K, -1).transpose(2, 1, 0, 3)
    best = np.linalg.norm(np.linalg.svd(S, compute_uv=False)[..., M.rank :])
    dense = MonarchMatrix(M.left.astype(np.float64), M.right.astype(np.float64)).to_dense()
    return (np.linalg.norm(A - dense) ** 2 - best**2) / np.linalg.norm(A) ** 2


class TestHardSlices:
    def slices(self, spectrum, seed=0):
        """Return a matrix of 16 slices of order 16 with these singular values."""
        rng = np.random.default_rng(seed)
        u, v = (np.linalg.qr(rng.standard_normal((4, 4, 16, 16)))[0] for _ in range(2))
        S = (u * spectrum) @ v
        return S.transpose(2, 1, 0, 3).reshape(64, 64)

    @pytest.mark.parametrize("rank", [1, 2, 3, 8])
    @pytest.mark.parametrize("spectrum", [
        pytest.param(np.ones(16), id="flat"),
        pytest.param(1 - 1e-10 * np.arange(16), id="clustered"),
        pytest.param(10.0 ** -np.arange(16), id="geometric"),
        pytest.param(np.repeat(2.0 ** -np.arange(8), 2), id="in pairs"),
        pytest.param(np.append(np.ones(3), np.zeros(13)), id="deficient"),
    ])  # fmt: skip
    def test_spectra(self, spectrum, rank):
        A = self.slices(spectrum)
        M = project(A, nblocks=4, rank=rank, rng=0)
        assert excess(A, M) <= 1e-15
        assert_allclose(M.error, np.linalg.norm(A - M.to_dense()), rtol=1e-6, atol=1e-15 * np.linalg.norm(A))

    def test_double_singular_values(self):
        """One sweep of Gram-Schmidt leaves 273 of these 1024 slices wrong."""
        order = np.arange(1024).reshape(32, 32).T.ravel()
        A = scipy.fft.dct(np.eye(1024), axis=0, norm="ortho")[:, order]
        expected = {1: 0.8333170557383889, 2: 0.6235660596672933, 3: 0.4409277893085185}
        for rank, value in expected.items():
            assert abs(project(A, nblocks=32, rank=rank, rng=0).relative_error - value) <= 1e-12

    def test_kernels(self):
        x = np.linspace(0, 1, 1024)
        A = np.exp(-8 * abs(x[:, None] - x))
        found = [project(A, nblocks=32, rank=rank, rng=0).relative_error for rank in (1, 2, 3)]
        assert_allclose(found[:2], [0.0672723168, 0.0103644609], atol=1e-10)
        assert found[2] <= 1e-14
        found = [project(toeplitz(1 / (1 + np.arange(1024))), nblocks=32, rank=r, rng=0).relative_error for r in (1, 4)]
        assert_allclose(found, [0.2595659701, 0.0007586149], atol=1e-10)

    @pytest.mark.parametrize("rank", [1, 2])
    @pytest.mark.parametrize("factor", [1e200, 1e-200, 2.0**-1060])
    def test_far_from_one(self, factor, rank):
        A = np.random.default_rng(0).standard_normal((48, 60)) * 2.0**20
        near, far = (project(B, nblocks=(4, 5), rank=rank, rng=0) for B in (A, A * factor))
        tolerance = 1e-14 if factor != 2.0**-1060 else 1e-3  # subnormal numbers have few digits
        assert_allclose(far.relative_error, near.relative_error, rtol=tolerance)
        assert_allclose(far.error / factor, near.error, rtol=tolerance)
        assert np.isfinite(far.left).all()
        assert np.isfinite(far.right).all()

    @pytest.mark.parametrize("rank", [1, 3])
    def test_zeros(self, rank):
        M = project(np.zeros((12, 16)), nblocks=4, rank=rank)
        assert (M.error, M.relative_error) == (0, 0)
        assert not M.left.any()
        A = np.random.default_rng(0).standard_normal((12, 16))
        A[1::4, 4:8] = 0
        M = project(A, nblocks=4, rank=rank, rng=0)
        assert not M.to_dense()[1::4, 4:8].any()
        assert abs(excess(A, M)) <= 1e-14

    def test_norm_beyond_the_largest_number(self):
        A = np.random.default_rng(0).standard_normal((24, 36))
        for rank in (1, 2):
            near, far = (project(B, nblocks=(4, 6), rank=rank, rng=0).relative_error for B in (A, A * 1e307))
            assert_allclose(far, near, rtol=1e-12)

    @pytest.mark.parametrize(("shape", "nblocks"), [((24, 56), (14, 27)), ((56, 24), (27, 5))])
    def test_error_of_complex_factors_as_returned(self, shape, nblocks):
        """At rounding level: what turns the factors comes before their residual is taken."""
        A = random_matrix(np.random.default_rng(4), *shape, np.complex64)
        M = project(A, nblocks=nblocks, rank=2, pad=True)
        wide = [factor.astype(np.complex128) for factor in (M.left, M.right)]
        true = np.linalg.norm(A - MonarchMatrix(*wide, shape=shape).to_dense())
        assert_allclose(M.error, true, rtol=1e-3)


class TestMembers:
    def member(self, rank, dtype=np.float64):
        rng = np.random.default_rng(2)
        left, right = rng.standard_normal((30, 20, 16, rank)), rng.standard_normal((16, rank, 30, 24))
        return MonarchMatrix(left, right).to_dense().astype(dtype)

    @pytest.mark.parametrize("rank", [1, 3])
    def test_exact(self, rank):
        A = self.member(rank)
        first, second = (project(A, nblocks=(30, 16), rank=rank, rng=5) for _ in range(2))
        assert first.relative_error <= 1e-13
        assert_allclose(first.to_dense(), A, atol=1e-13 * np.linalg.norm(A))
        assert_array_equal(first.left, second.left)
        assert_array_equal(first.right, second.right)

    @pytest.mark.parametrize("rank", [1, 3])
    def test_memory_orders(self, rank, tmp_path):
        A = self.member(3)
        expected = project(A, nblocks=(30, 16), rank=rank, rng=0).to_dense()
        A.tofile(tmp_path / "A")
        others = (
            np.asfortranarray(A),
            np.repeat(A, 2, axis=1)[:, ::2],
            np.memmap(tmp_path / "A", "f8", "r", 0, A.shape),
        )
        for B in others:
            got = project(B, nblocks=(30, 16), rank=rank, rng=0).to_dense()
            assert_allclose(got, expected, atol=1e-14 * np.abs(A).max())

    @pytest.mark.parametrize("rank", [1, 2])
    def test_small_noise(self, rank):
        """A shortcut by ‖A‖² - Σσ² is off a hundredfold here."""
        A = self.member(rank)
        noise = np.random.default_rng(9).standard_normal(A.shape)
        B = A + noise * (1e-10 * np.linalg.norm(A) / np.linalg.norm(noise))
        M = project(B, nblocks=(30, 16), rank=rank, rng=0)
        expected = np.linalg.norm((B - A).ravel()) / np.linalg.norm(B)
        assert 0.8 * expected < M.relative_error < expected
        assert_allclose(M.relative_error, np.linalg.norm(B - M.to_dense()) / np.linalg.norm(B), rtol=1e-3)


class TestFacts:
    def test_singular_values_and_gap(self):
        A = np.random.default_rng(0).standard_normal((60, 48))
        sigma = np.linalg.svd(slices_of(A, 5, 4), compute_uv=False)
        for rank in (1, 2):
            M = project(A, nblocks=(5, 4), rank=rank, rng=0)
            assert M.singular_values.shape == (4, 5, rank)
            assert M.gap.shape == (4, 5)
            assert_allclose(M.singular_values, sigma[..., :rank], rtol=1e-12)
            assert_allclose(
                M.gap, 1 - (sigma[..., rank] / sigma[..., rank - 1]) ** 2, atol=0.05 if rank == 1 else 1e-10
            )
            assert (M.n_iter, M.converged, M.weighted_error, M.level_errors) == (0, None, None, None)

    def test_gauge(self):
        for rank, dtype in ((1, np.float64), (3, np.float64), (2, np.complex128)):
            A = random_matrix(np.random.default_rng(1), 60, 48, dtype)
            M = project(A, nblocks=(5, 4), rank=rank, rng=0)
            V, U = M.right.transpose(0, 2, 1, 3), M.left.transpose(2, 0, 3, 1)
            top = np.take_along_axis(V, np.abs(V).argmax(-1)[..., None], -1)
            assert (top.real > 0).all()
            assert_allclose(top.imag, 0, atol=1e-14)
            assert_allclose(np.linalg.norm(U, axis=-1), np.linalg.norm(V, axis=-1), rtol=1e-12)

    def test_methods_are_named(self):
        A = np.random.default_rng(0).standard_normal((16, 16))
        assert project(A, rng=0).method == "lanczos"
        assert project(A, rank=2, rng=0).method == "gram"
        assert project(A, method="svd", rng=0).method == "svd"
        with config_context(kernels="reference"):
            assert project(A, rng=0).method == "squaring"

    def test_certificate(self):
        A = np.random.default_rng(0).standard_normal((256, 256))
        for rank in (1, 2):
            M = project(A, nblocks=16, rank=rank, certify=True, rng=0)
            assert 0 <= M.certificate <= 1e-11
            assert M.certificate == certify(A, M)

    def test_batches(self):
        A = np.random.default_rng(0).standard_normal((2, 3, 12, 20))
        for rank in (1, 2):
            M = project(A, nblocks=(3, 4), rank=rank, rng=0)
            assert M.shape == A.shape
            assert M.singular_values.shape == (2, 3, 4, 3, rank)
            each = [[project(a, nblocks=(3, 4), rank=rank, rng=0) for a in row] for row in A]
            assert_allclose(M.to_dense(), [[m.to_dense() for m in row] for row in each], atol=1e-13)
            assert_allclose(M.error, np.linalg.norm([[m.error for m in row] for row in each]), rtol=1e-13)

    def test_seeds_only_start(self):
        A = np.random.default_rng(0).standard_normal((60, 48))
        errors = [project(A, nblocks=(5, 4), rng=rng).error for rng in (None, 0, 1, np.random.default_rng(2))]
        assert_allclose(errors, errors[0], rtol=1e-13)


class TestInput:
    @pytest.mark.parametrize("rank", [1, 2])
    def test_namespaces(self, xp, rank):
        A = np.random.default_rng(0).standard_normal((24, 30))
        M = project(xp.asarray(A), nblocks=(4, 5), rank=rank, rng=0)
        assert array_namespace(M.left) is array_namespace(xp.asarray(A))
        assert_allclose(M.error, least_error(A, 4, 5, rank), rtol=1e-12)
        assert_allclose(to_numpy(M.to_dense()), project(A, nblocks=(4, 5), rank=rank, rng=0).to_dense(), atol=1e-12)

    @pytest.mark.parametrize(
        ("dtype", "expected"), [(np.float16, np.float32), (np.int8, np.float64), (bool, np.float64)]
    )
    def test_dtypes(self, dtype, expected):
        A = np.random.default_rng(0).integers(0, 2, (12, 12)).astype(dtype)
        M = project(A, nblocks=3, rng=0)
        assert M.dtype == expected
        assert_allclose(M.error, least_error(A.astype(expected), 3, 3, 1), rtol=1e-5)

    def test_input_is_left_alone(self):
        A = np.random.default_rng(0).standard_normal((24, 30))
        A.flags.writeable = False
        for options in ({}, {"rank": 2}, {"order": 3}, {"weights": np.ones(30)}, {"certify": True}):
            before = A.copy()
            project(A, rng=0, **options)
            assert_array_equal(A, before)

    @pytest.mark.parametrize(("options", "message"), [
        ({"nblocks": 5}, "nblocks must divide the shape, got 5 blocks for 24 rows; pad=True"),
        ({"nblocks": (4, 7)}, "got 7 blocks for 30 columns"),
        ({"nblocks": 0}, "nblocks must be an integer ≥ 1, got 0"),
        ({"nblocks": 2.5}, "nblocks must be an integer"),
        ({"nblocks": (2, 3, 4)}, "nblocks must be an integer or a pair"),
        ({"nblocks": 31, "pad": True}, "nblocks must be at most the number of rows, 24"),
        ({"nblocks": (4, 5), "rank": 7}, r"rank must be an integer from 1 to 6 \(the slices are 6 × 6\), got 7"),
        ({"nblocks": (4, 5), "rank": 0}, "rank must be an integer from 1 to 6"),
        ({"nblocks": (4, 5), "rank": 1.5}, "rank must be an integer from 1 to 6, got 1.5"),
        ({"structure": "butterfly"}, "structure must be 'monarch' or 'mm\\*'"),
        ({"method": "qr"}, "method must be 'auto' or 'svd'"),
        ({"max_iter": -1}, "max_iter must be an integer ≥ 0"),
        ({"tol": 2}, "tol must be a number"),
        ({"order": 3, "nblocks": 4}, "digits give the blocks"),
        ({"order": 3, "weights": np.ones(30)}, "weights are for two factors"),
        ({"structure": "mm*", "rank": 2}, "goes with nblocks alone"),
        ({"structure": "mm*", "method": "svd"}, "method is not for structure='mm\\*'"),
        ({"weights": np.ones(30), "refine": True}, "refine is not for weights, where it would be ignored"),
        ({"weights": np.ones(30), "method": "svd"}, "method is not for weights"),
        ({"order": 3, "pad": True}, "pad is not for order and digits"),
    ])  # fmt: skip
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            project(np.ones((24, 30)), **options)

    @pytest.mark.parametrize(("A", "error", "message"), [
        (np.ones(3), ValueError, "A must have at least two axes"),
        (np.ones((0, 3)), ValueError, "A is empty"),
        (np.array([["a"]]), TypeError, "A must hold numbers"),
        (object(), TypeError, "A must be"),
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), ValueError, "A must be finite, got NaN or infinity in row 1"),
        (np.array([[1.0, np.inf], [0.0, 1.0]]), ValueError, "A must be finite, got NaN or infinity in row 0"),
    ])  # fmt: skip
    def test_bad_matrices(self, A, error, message):
        for options in ({}, {"method": "svd"}):
            with pytest.raises(error, match=message):
                project(A, **options)

    def test_batches_where_one_matrix_is_asked_for(self):
        A = np.ones((2, 8, 8))
        for options in ({"order": 3}, {"weights": np.ones(8)}, {"structure": "mm*"}):
            with pytest.raises(ValueError, match="takes one matrix, got a batch"):
                project(A, **options)

    def test_sizes_beyond_an_index(self):
        with pytest.raises(ValueError, match="too large: their product must be below"):
            layout(2**40, 2**40, 2**20, False)


class TestMemory:
    @pytest.mark.parametrize("rank", [1, 2])
    def test_panels_alone(self, rank, tmp_path):
        """The matrix is never copied: what is added is the factors, two panels, and little else."""
        n, nblocks = 2048, 32
        A = np.memmap(tmp_path / "A", np.float32, "w+", shape=(n, n))
        A[:] = np.random.default_rng(0).standard_normal((n, n), dtype=np.float32)
        project(A[:64], nblocks=32, rank=rank, rng=0)  # what is compiled and cached counts for no matrix
        tracemalloc.start()
        try:
            M = project(A, nblocks=nblocks, rank=rank, rng=0)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        panel = 4 * n * n // nblocks
        assert peak <= M.nbytes + 2 * panel + 2**23
