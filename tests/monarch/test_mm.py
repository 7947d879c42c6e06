"""factor_mm and project(structure="mm*"): products of a Monarch matrix and the transpose of one."""

import warnings

import numpy as np
import pytest
from array_api_compat import array_namespace
from matrices import gaussian, huge, layouts
from numpy.linalg import LinAlgError
from scipy.linalg import circulant, hadamard
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from linalg_ml._core.arrays import to_numpy
from linalg_ml.monarch import _mm, factor_mm, project
from linalg_ml.monarch._mm import _Grid, _monarch, _refined, _start, project_mm


def dense(A, D, C):
    """Return the product of the factors, by its definition."""
    b, s, _ = A.shape
    return np.einsum("ixt,ijt,jty->xiyj", A, D, C, optimize=True).reshape(b * s, b * s)


def factors(b, s, *, kind="orthogonal", seed=6, dtype=np.float64):
    """Draw A, C and D in this order; complex ones from twice the numbers."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        X = rng.standard_normal(shape)
        return X + 1j * rng.standard_normal(shape) if np.issubdtype(dtype, np.complexfloating) else X

    A, C, D = draw(b, s, s), draw(b, s, s), draw(b, b, s)
    if kind == "orthogonal":
        A, C = np.linalg.qr(A)[0], np.linalg.qr(C)[0]
    return A, D, C


def member(b, s, **options):
    return dense(*factors(b, s, **options))


def noisy(M, size, seed=83):
    N = np.random.default_rng(seed).standard_normal(M.shape)
    return M + size * np.linalg.norm(M) / np.linalg.norm(N) * N


def true_error(M, result):
    """Return the relative error of the factors of a result, in extended precision."""
    A, D, C = (to_numpy(X).astype(np.clongdouble) for X in (result.A, result.D, result.C))
    M = to_numpy(M).astype(np.clongdouble)
    P = dense(A, D, C)
    E = M - (P.real if result.matrix.dtype != result.A.dtype else P)
    return float(np.sqrt(np.sum(np.abs(E) ** 2) / np.sum(np.abs(M) ** 2)))


class TestMembers:
    """The factors of members are found to rounding."""

    def test_orthogonal(self):
        result = factor_mm(member(32, 32), rng=0)
        assert result.relative_error <= 5e-14
        assert result.converged
        assert result.A.dtype == np.float64

    def test_gaussian(self):
        result = factor_mm(member(32, 32, kind="gaussian"), nblocks=32, rng=0)
        assert result.relative_error <= 1e-12
        assert result.converged

    def test_circulant(self):
        """Its factors are complex, the operator is real."""
        M = circulant(np.random.default_rng(0).standard_normal(1024))
        result = factor_mm(M, nblocks=32, rng=0)
        assert result.relative_error <= 1e-12
        assert result.A.dtype == np.complex128
        x = np.random.default_rng(1).standard_normal(1024)
        assert result.matrix.dtype == (result.matrix @ x).dtype == np.float64
        assert np.linalg.norm(result.matrix @ x - M @ x) <= 1e-12 * np.linalg.norm(M @ x)

    @pytest.mark.parametrize("key", range(3))
    def test_repeated_eigenvalues(self, key):
        M = hadamard(256)
        assert factor_mm(M, nblocks=16, rng=key).relative_error <= 1e-14
        kronecker = np.kron(gaussian(12, 12, seed=1), gaussian(8, 8, seed=2))
        result = factor_mm(kronecker, nblocks=8, rng=key)
        assert result.relative_error <= 1e-13
        assert result.A.dtype == np.float64

    def test_clusters_of_eigenvalues(self):
        """Entries of D that are equal in pairs for all blocks."""
        A, D, C = factors(4, 8, seed=3)
        M = dense(A, np.repeat(D[..., :4], 2, axis=-1), C)
        assert factor_mm(M, nblocks=4, rng=0).relative_error <= 1e-13

    def test_clusters_of_complex_pairs(self):
        """Blocks that are circulants, each of them twice."""
        first = np.random.default_rng(4).standard_normal((3, 3, 8))
        T = np.array([[np.kron(np.eye(2), circulant(c)) for c in row] for row in first])
        result = factor_mm(T.transpose(2, 0, 3, 1).reshape(48, 48), nblocks=3, rng=0)
        assert result.relative_error <= 1e-13
        assert result.A.dtype == np.complex128

    @pytest.mark.parametrize(("b", "s"), [(2, 3), (3, 2), (2, 32), (32, 2), (5, 7), (12, 4)])
    @pytest.mark.parametrize("dtype", [np.float64, np.complex128])
    def test_shapes(self, b, s, dtype):
        M = member(b, s, dtype=dtype, seed=b + s)
        result = factor_mm(M, nblocks=b, rng=0)
        assert (result.A.shape, result.C.shape, result.D.shape) == ((b, s, s), (b, s, s), (b, b, s))
        assert result.relative_error <= 1e-12
        assert result.converged
        assert {X.dtype for X in (result.A, result.C, result.D)} == {np.dtype(dtype)}
        np.testing.assert_allclose(result.matrix.to_dense(), dense(result.A, result.D, result.C), atol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(result.A, axis=1), 1)
        np.testing.assert_allclose(np.linalg.norm(result.C, axis=2), 1)

    def test_the_factors_are_those_of_the_member(self):
        """Up to order, sign and scale."""
        A, _, C = factors(3, 6, seed=1)
        result = factor_mm(member(3, 6, seed=1), nblocks=3, rng=0)
        for found, given in ((result.A, A), (result.C.swapaxes(1, 2), C.swapaxes(1, 2))):
            overlap = np.abs(given.swapaxes(1, 2) @ found)
            np.testing.assert_allclose(overlap.max(axis=1), 1, atol=1e-10)

    def test_operator(self):
        M = member(4, 6, seed=2)
        matrix = factor_mm(M, nblocks=4, rng=0).matrix
        x = gaussian(24, 3)
        assert [X.shape for X in matrix.stages] == [(1, 4, 6, 6), (6, 1, 4, 4), (1, 4, 6, 6)]
        np.testing.assert_allclose(matrix @ x, M @ x, atol=1e-12)
        np.testing.assert_allclose(matrix.T @ x, M.T @ x, atol=1e-12)
        np.testing.assert_allclose(matrix.solve(M @ x), x, rtol=1e-8)
        assert matrix.n_parameters == 4 * 36 * 2 + 16 * 6

    @pytest.mark.parametrize("b", [1, 24])
    def test_every_matrix_has_one_block_and_blocks_of_one(self, b):
        M = gaussian(24, 24)
        M[3] = 0
        result = factor_mm(M, nblocks=b, strict=True)
        assert result.relative_error <= 1e-15
        np.testing.assert_allclose(result.matrix.to_dense(), M, atol=1e-14)

    def test_default_nblocks(self):
        assert factor_mm(member(4, 6), rng=0).A.shape == (4, 6, 6)
        assert factor_mm(gaussian(7, 7), rng=0).A.shape == (1, 7, 7)
        assert factor_mm([[3.0]]).matrix.to_dense() == [[3.0]]

    def test_blocks_of_very_different_size(self):
        A, D, C = factors(4, 6)
        graded = 10.0 ** (-5 * np.arange(4))[:, None, None]
        assert factor_mm(dense(A * graded, D, C * graded[::-1]), nblocks=4, rng=0).relative_error <= 1e-13


class TestZeros:
    """Zeros in the middle factor do no harm outside of one row and one column of blocks."""

    @staticmethod
    def holed(seed=1):
        A, D, C = factors(6, 8, seed=seed)
        rng = np.random.default_rng(seed)
        D[rng.random(D.shape) < 0.4] = 0
        D[2, 3] = 0
        D[4] = 1 + rng.random(D[4].shape)
        D[:, 1] = 1 + rng.random(D[:, 1].shape)
        return A, D, C

    @pytest.mark.parametrize("seed", range(3))
    def test_recovered(self, seed):
        result = factor_mm(dense(*self.holed(seed)), nblocks=6, rng=0)
        assert result.pivot == (4, 1)
        assert result.relative_error <= 1e-13

    @pytest.mark.parametrize("size", [1e-13, 1e-6])
    def test_a_block_of_noise_is_no_pivot(self, size):
        result = factor_mm(noisy(dense(*self.holed()), size), nblocks=6, tol=2 * size, rng=0)
        assert result.pivot == (4, 1)
        assert result.relative_error <= size

    def test_no_pivot(self):
        for M in (np.eye(16), np.zeros((16, 16)), np.ones((16, 16))):  # Monarch matrices themselves
            assert factor_mm(M, nblocks=4).relative_error <= 1e-15
        M = gaussian(16, 16)
        M[:4] = 0  # a row of every block
        with pytest.raises(LinAlgError, match="invertible.*mm\\*"):
            factor_mm(M, nblocks=4)

    def test_singular_eigenvectors_are_no_start(self):
        grid = _Grid.of(member(2, 4), 2)
        assert _start(grid, np.diag([1.0, 1.0, 1.0, 0.0]), 0, 0) is None

    def test_no_start(self, monkeypatch):
        monkeypatch.setattr(_mm, "_start", lambda *arguments: None)
        with pytest.raises(LinAlgError, match="no common eigenvectors"):
            factor_mm(member(2, 4), nblocks=2)
        assert quietly(member(2, 4), 2).relative_error < 1

    def test_no_common_eigenvectors(self):
        """Blocks that make a Jordan block."""
        T = np.broadcast_to(np.eye(4), (2, 2, 4, 4)).copy()
        T[1, 1] += np.eye(4, k=1)
        M = T.transpose(2, 0, 3, 1).reshape(8, 8)
        with pytest.warns(ConvergenceWarning, match="class MM"):
            assert not factor_mm(M, nblocks=2, rng=0).converged


class TestNoise:
    @pytest.mark.parametrize("size", [1e-4, 1e-2])
    @pytest.mark.parametrize("key", [0, 7, 15, 23])
    def test_filtered(self, size, key):
        """The part of the noise in the class is fitted, all else is the error."""
        b = s = 16
        result = factor_mm(noisy(member(b, s), size), nblocks=b, tol=2 * size, rng=key)
        expected = size * np.sqrt(1 - (2 * b * s**2 + b**2 * s - 2 * b * s) / (b * s) ** 2)
        assert result.relative_error <= 0.95 * size
        assert result.relative_error == pytest.approx(expected, rel=0.01)
        assert result.converged
        assert result.A.dtype == np.float64

    @pytest.mark.slow
    @pytest.mark.parametrize("size", [1e-4, 1e-2])
    def test_every_key(self, size):
        M = noisy(member(16, 16), size)
        errors = [factor_mm(M, nblocks=16, tol=2 * size, rng=key).relative_error for key in range(24)]
        assert max(errors) <= 0.95 * size

    def test_of_complex_factors(self):
        """A real circulant with noise has no real factors still."""
        M = noisy(circulant(np.random.default_rng(0).standard_normal(64)), 1e-3)
        result = factor_mm(M, nblocks=8, tol=2e-3, rng=0)
        assert result.converged
        assert result.A.dtype == np.complex128

    @pytest.mark.parametrize("size", [1e-5, 1e-10, 1e-13])
    def test_error(self, size):
        M = noisy(member(6, 8), size)
        result = factor_mm(M, nblocks=6, tol=1e-4, rng=0)
        assert result.relative_error == pytest.approx(true_error(M, result), rel=1e-2, abs=3e-16)
        assert result.error == pytest.approx(result.relative_error * np.linalg.norm(M), rel=1e-12)
        assert size / 2 < result.relative_error < size

    def test_sweeps_never_raise_the_error(self):
        M = noisy(member(6, 8, kind="gaussian"), 1e-4)
        errors = []
        for max_iter in range(8):
            result = factor_mm(M, nblocks=6, max_iter=max_iter, tol=0.9, rng=3)
            assert result.n_iter <= max_iter
            errors.append(result.relative_error)
        assert all(np.diff(errors) <= 1e-16)
        assert errors[-1] < errors[0] / 3


class TestNoMembers:
    def test_warns(self):
        M = gaussian(64, 64)
        with pytest.warns(ConvergenceWarning, match="relative error of 0.*not in the class"):
            result = factor_mm(M, nblocks=8, rng=0)
        assert not result.converged
        assert result.relative_error == pytest.approx(true_error(M, result), rel=1e-12)

    def test_strict(self):
        with pytest.raises(LinAlgError, match="not in the class"):
            factor_mm(gaussian(16, 16), nblocks=4, strict=True, rng=0)

    def test_warning_points_at_the_caller(self):
        with pytest.warns(ConvergenceWarning) as caught:
            factor_mm(gaussian(16, 16), nblocks=4, rng=0)
        assert caught[0].filename == __file__


class TestScale:
    @pytest.mark.parametrize("power", [-660, 660])
    def test_powers(self, power):
        """A power of two goes to D, and the error is as exact as without."""
        M = noisy(member(4, 8), 1e-3)
        plain, scaled = (factor_mm(X, nblocks=4, tol=1e-2, rng=0) for X in (M, M * 2.0**power))
        assert scaled.relative_error == plain.relative_error
        assert scaled.error == plain.error * 2.0**power
        np.testing.assert_array_equal(scaled.A, plain.A)
        np.testing.assert_array_equal(scaled.D, plain.D * 2.0**power)

    @pytest.mark.parametrize("scale", [1e200, 1e-200])
    def test_members(self, scale):
        result = factor_mm(member(4, 8) * scale, nblocks=4, rng=0)
        assert result.relative_error <= 1e-13
        assert result.error <= 1e-11 * scale

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_to_the_ends_of_the_range(self, dtype):
        info = np.finfo(dtype)
        M = member(4, 8, kind="gaussian")
        M = M / np.abs(M).max()
        for peak in (0.99 * float(info.max), float(info.tiny) * 100):
            result = factor_mm((M * peak).astype(dtype), nblocks=4, rng=0)
            assert result.converged
            assert all(np.isfinite(X).all() for X in (result.A, result.C, result.D))
            assert result.error > 0 or peak < 1
        result = factor_mm(np.round(M * 2**20).astype(dtype) * info.smallest_subnormal, nblocks=4, tol=1e-4, rng=0)
        assert result.relative_error < 1e-4

    def test_huge(self):
        with pytest.warns(ConvergenceWarning):
            result = factor_mm(huge(16, 16), nblocks=4, rng=0)
        assert 0 < result.relative_error < 1


class TestNamespaces:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
    def test_answer_in_kind(self, xp, dtype):
        M = member(4, 6, dtype=np.dtype(dtype)).astype(dtype)
        A = xp.asarray(M)
        result = factor_mm(A, nblocks=4, rng=0)
        for X in (result.A, result.C, result.D, *result.matrix.stages, result.matrix.to_dense()):
            assert array_namespace(X) is array_namespace(A)
            assert X.dtype == A.dtype
        assert type(result.error) is type(result.relative_error) is float
        assert result.converged
        assert result.relative_error <= (1e-6 if dtype in ("float32", "complex64") else 1e-13)
        assert result.relative_error == pytest.approx(true_error(M, result), rel=1e-3, abs=3e-16)

    def test_same_factors(self, other_xp):
        M = member(4, 6)
        here, there = factor_mm(M, nblocks=4, rng=5), factor_mm(other_xp.asarray(M), nblocks=4, rng=5)
        np.testing.assert_array_equal(to_numpy(there.A), here.A)

    def test_projection(self, xp):
        A = xp.asarray(gaussian(24, 24).astype(np.float32))
        M = quietly(A, 4)
        assert M.dtype == A.dtype
        assert array_namespace(M.to_dense()) is array_namespace(A)

    def test_real_operator_of_complex_factors(self, xp):
        A = xp.asarray(circulant(np.arange(1.0, 17.0) ** 2).astype(np.float32))
        result = factor_mm(A, nblocks=4, rng=0)
        assert str(result.A.dtype).endswith("complex64")
        assert result.matrix.to_dense().dtype == A.dtype
        assert result.relative_error == pytest.approx(true_error(A, result), rel=1e-3)

    def test_integers_and_lists(self):
        assert factor_mm(hadamard(16).tolist(), nblocks=4).relative_error <= 1e-14

    def test_memory_layouts(self):
        M = member(4, 6)
        plain = factor_mm(M, nblocks=4, rng=0)
        for name, A in layouts(M):
            before = A.copy()
            np.testing.assert_array_equal(factor_mm(A, nblocks=4, rng=0).D, plain.D, err_msg=name)
            np.testing.assert_array_equal(A, before)


class TestRandomness:
    def test_same_key_same_bits(self):
        M = noisy(member(4, 6), 1e-3)
        first, second = (factor_mm(M, nblocks=4, tol=1e-2, rng=9) for _ in range(2))
        np.testing.assert_array_equal(first.A, second.A)

    def test_generator_advances(self):
        M, rng = noisy(member(4, 6), 1e-3), np.random.default_rng(0)
        first, second = (factor_mm(M, nblocks=4, tol=1e-2, rng=rng) for _ in range(2))
        assert (first.A != second.A).any()

    def test_any_key(self):
        M = member(4, 6)
        assert all(factor_mm(M, nblocks=4, rng=rng).relative_error <= 1e-13 for rng in (None, 0, 1, 2**70))


class TestBadInput:
    @pytest.mark.parametrize(
        ("A", "match"),
        [
            (np.ones((4, 6)), "A must be square"),
            (np.ones(4), "A must be 2-d"),
            (np.ones((2, 4, 4)), "A must be 2-d"),
            (np.empty((0, 0)), "A is empty"),
            (np.full((4, 4), np.nan), "A must be finite"),
            (np.diag([1, 1, np.inf, 1]), "A must be finite, got NaN or infinity in row 2"),
        ],
    )
    def test_matrix(self, A, match):
        with pytest.raises(ValueError, match=match):
            factor_mm(A)

    @pytest.mark.parametrize("nblocks", [0, -2, 5, 24, 2.5, "4", (4, 4)])
    def test_nblocks(self, nblocks):
        with pytest.raises(ValueError, match="nblocks must be"):
            factor_mm(np.eye(12), nblocks=nblocks)
        with pytest.raises(ValueError, match="nblocks must be"):
            project_mm(np.eye(12), nblocks, key=0, max_iter=1, tol=0.1)

    def test_options(self):
        M = member(2, 2)
        with pytest.raises(ValueError, match="max_iter must be"):
            factor_mm(M, max_iter=-1)
        with pytest.raises(ValueError, match="tol must be"):
            factor_mm(M, tol=-1e-3)
        with pytest.raises(TypeError, match="tol must be"):
            factor_mm(M, tol="small")
        with pytest.raises(TypeError, match="rng must be"):
            factor_mm(M, rng=0.5)
        with pytest.raises(TypeError, match="A must"):
            factor_mm(np.array([["a", "b"], ["c", "d"]]))


def quietly(A, nblocks, *, key=0, max_iter=20, tol=1e-6):
    """Return project_mm of what it may not fit within so many sweeps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return project_mm(A, nblocks, key=key, max_iter=max_iter, tol=tol)


def monarch_error(A, b):
    """Return the relative error of the nearest Monarch matrix with nblocks (b, n/b), by SVDs of its slices."""
    n = A.shape[0]
    S = A.reshape(n // b, b, n // b, b).transpose(2, 1, 0, 3)
    discarded = np.linalg.svd(S, compute_uv=False)[..., 1:]
    return np.sqrt(np.sum(discarded**2)) / np.linalg.norm(A)


def rbf():
    X = load_digits().data[:64] / 16
    return np.exp(-np.sum((X[:, None] - X) ** 2, axis=-1) / 16)


class TestProjection:
    @pytest.mark.parametrize(("A", "monarch", "goal"), [(gaussian(64, 64), 0.7778, 0.6489), (rbf(), 0.1622, 0.0529)])
    def test_figures(self, A, monarch, goal):
        assert monarch_error(A, 8) == pytest.approx(monarch, abs=5e-5)
        M = quietly(A, 8)
        assert M.relative_error <= goal + 5e-5
        assert np.linalg.norm(A - M.to_dense()) == pytest.approx(M.error, rel=1e-12)
        assert M.error == pytest.approx(M.relative_error * np.linalg.norm(A), rel=1e-12)

    def test_by_project(self):
        A = gaussian(24, 24)
        with pytest.warns(ConvergenceWarning) as caught:
            M = project(A, structure="mm*", nblocks=4, max_iter=3, rng=0)
        assert caught[0].filename == __file__
        assert M.relative_error == quietly(A, 4, max_iter=3).relative_error
        assert M.error < project(A, nblocks=(4, 6), rng=0).error

    def test_monarch_start_alone(self):
        """From the Monarch matrix the sweeps reach these figures until one gains less than a hundredth."""
        grid = _Grid.of(gaussian(64, 64), 8)
        start = _monarch(grid)
        assert grid.residual(start)[1] == pytest.approx(monarch_error(gaussian(64, 64), 8), rel=1e-13)
        assert _refined(grid, start, 20, 0.01).residual <= 0.66

    @pytest.mark.parametrize("seed", range(12))
    def test_never_worse_than_monarch(self, seed):
        rng = np.random.default_rng(seed)
        b, s = (int(size) for size in rng.integers(1, 8, 2))
        dtype = (np.float64, np.complex128, np.float32)[seed % 3]
        A = gaussian(b * s, b * s, seed=seed, dtype=dtype) * 10.0 ** (seed - 6)
        M = quietly(A, b, max_iter=int(rng.integers(0, 4)))
        eps = float(np.finfo(dtype).eps)
        assert M.relative_error <= monarch_error(A.astype(np.result_type(dtype, float)), b) * (1 + eps) + 4 * eps
        assert M.dtype == dtype

    @pytest.mark.parametrize("A", [np.eye(16), np.zeros((16, 16)), np.kron(hadamard(4), np.eye(4))])
    def test_no_pivot(self, A):
        """What has no invertible row and column of blocks is fitted from the Monarch matrix alone."""
        M = project_mm(A, 4, key=0, max_iter=20, tol=1e-6)
        assert M.relative_error <= 1e-15
        assert M.converged
        np.testing.assert_allclose(M.to_dense(), A, atol=1e-15)

    def test_members(self):
        A = member(4, 8)
        M = project_mm(A, 4, key=0, max_iter=20, tol=1e-6)
        assert M.relative_error <= 1e-13
        assert M.converged
        assert project_mm(A, None, key=0, max_iter=20, tol=1e-6).relative_error <= 1e-13

    def test_warns_where_it_stops_at_the_limit(self):
        with pytest.warns(ConvergenceWarning, match="after 2 sweeps"):
            M = project_mm(gaussian(36, 36), 6, key=0, max_iter=2, tol=1e-6)
        assert not M.converged
        assert M.n_iter == 2

    def test_converges(self):
        M = project_mm(gaussian(36, 36), 6, key=0, max_iter=50, tol=0.05)
        assert M.converged
        assert 0 < M.n_iter < 50

    def test_real_stays_real(self):
        M = quietly(circulant(np.random.default_rng(0).standard_normal(36)), 6)
        assert M.dtype == M.stages[0].dtype == np.float64

    def test_scale(self):
        A = gaussian(24, 24)
        plain, scaled = quietly(A, 4), quietly(A * 2.0**-660, 4)
        assert scaled.relative_error == plain.relative_error
        assert scaled.error == plain.error * 2.0**-660

    def test_not_square(self):
        with pytest.raises(ValueError, match="A must be square"):
            project_mm(np.ones((4, 6)), 2, key=0, max_iter=1, tol=0.1)
