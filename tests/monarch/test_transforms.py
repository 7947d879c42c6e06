"""Transforms and other structured matrices: exact for every length, in the library of what they are made of."""

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
from array_api_compat import array_namespace
from matrices import gaussian, layouts
from numpy.testing import assert_allclose, assert_array_equal

from linalg_ml._core.arrays import to_numpy
from linalg_ml.monarch import (
    MonarchMatrix,
    circulant,
    dct,
    dft,
    from_block_diagonal,
    from_kronecker,
    from_lowrank,
    hadamard,
    project,
)

SIZES = [1, 2, 3, 4, 7, 10, 12, 46, 60, 64, 81, 127, 210]


def distance(M, A):
    """Return the relative Frobenius error."""
    return np.linalg.norm(M.to_dense() - A) / np.linalg.norm(A)


def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


class TestDFT:
    @pytest.mark.parametrize("n", SIZES)
    def test_every_length(self, n):
        F = dft(n)
        assert F.shape == (n, n)
        assert F.dtype == np.complex128
        assert distance(F, scipy.fft.fft(np.eye(n), axis=0)) <= 5e-16
        x = gaussian(n, 3, dtype=np.complex128)
        assert_allclose(F @ x, scipy.fft.fft(x, axis=0), atol=1e-15 * n)
        assert_allclose(F @ x[:, 0].real, scipy.fft.fft(x[:, 0].real), atol=1e-15 * n)
        assert_allclose(F.apply_rows(x.T), scipy.fft.fft(x.T), atol=1e-15 * n)

    @pytest.mark.parametrize("n", [1, 2, 12, 13, 60])
    def test_every_number_of_blocks(self, n):
        A = scipy.fft.fft(np.eye(n), axis=0)
        for K in divisors(n):
            F = dft(n, K)
            assert distance(F, A) <= 5e-16
            assert [stage.shape for stage in F.stages[:2]] == [(1, n // K, K, K), (K, 1, n // K, n // K)]
            assert_array_equal(dft(n, (n // K, K)).to_dense(), F.to_dense())

    def test_known_stages(self):
        """Formulas of the decomposition, written out for one length."""
        n, K, q = 12, 3, 4
        L, R, order = dft(n).stages
        w = np.exp(-2j * np.pi / n)
        for j, l, k in np.ndindex(q, K, K):
            assert_allclose(L[0, j, l, k], w ** (k * (l * q + j)), atol=1e-14)
        for k, j, i in np.ndindex(K, q, q):
            assert_allclose(R[k, 0, j, i], w ** (K * i * j), atol=1e-14)
        assert_array_equal(order, np.arange(n).reshape(q, K).T.ravel())

    @pytest.mark.parametrize(
        "digits",
        [(4, 4, 4), (8, 8), (2,) * 6, (3,) * 4, (2, 3, 5), (5, 3, 2), (7, 1, 2), (1, 1, 1), (1, 13, 1)],
        ids=str,
    )
    def test_digits(self, digits):
        n = int(np.prod(digits))
        F = dft(n, digits=digits)
        assert distance(F, scipy.fft.fft(np.eye(n), axis=0)) <= 5e-16
        assert F.n_parameters == n * sum(digits)
        blocks = [stage for stage in F.stages if stage.ndim > 1]
        assert [stage.shape[-2:] for stage in blocks] == [(d, d) for d in digits]

    def test_order(self):
        """The factors of the least sum, ascending."""
        for n, order, digits in [(60, 3, (3, 4, 5)), (64, 3, (4, 4, 4)), (64, 6, (2,) * 6), (36, 2, (6, 6))]:
            F = dft(n, order=order)
            assert tuple(stage.shape[-1] for stage in F.stages if stage.ndim > 1) == digits
        assert distance(dft(90, order=3), scipy.fft.fft(np.eye(90), axis=0)) <= 5e-16

    def test_exact_entries(self):
        """Quarters of a turn are exact."""
        assert_array_equal(dft(4).to_dense(), scipy.linalg.dft(4).round())
        A = dft(16, 1).to_dense()
        assert set(A[:, 4].tolist()) == {1, -1, 1j, -1j}
        assert_allclose(A[:, 1:], A[:, :0:-1].conj(), atol=2e-16)

    def test_large(self):
        """No angle grows with n."""
        n = 4096
        x = gaussian(n, 2, dtype=np.complex128)
        y = scipy.fft.fft(x, axis=0)
        for F in (dft(n), dft(n, digits=(16, 16, 16)), dft(n, order=12)):
            assert np.linalg.norm(F @ x - y) <= 2e-15 * np.linalg.norm(y)

    def test_algebra(self):
        n = 60
        F = dft(n)
        A = F.to_dense()
        assert_allclose(F.H.to_dense(), A.conj().T, atol=1e-14)
        assert_allclose(F.T.to_dense(), A, atol=1e-13)
        assert_allclose(F.inv().to_dense(), A.conj() / n, atol=1e-15)
        sign, logabsdet = F.slogdet()
        expected = np.linalg.slogdet(A)
        assert_allclose([sign, logabsdet], [expected.sign, n / 2 * np.log(n)], atol=1e-12)
        b = gaussian(n, 2, dtype=np.complex128)
        assert_allclose(F.solve(b), scipy.fft.ifft(b, axis=0), atol=1e-14)
        assert_allclose(F.norm(), n, rtol=1e-14)

    def test_sorting_is_essential(self):
        """With its gather the transform is a member; without it the nearest member is far away."""
        n = 1024
        A = scipy.fft.fft(np.eye(n), axis=0)
        assert_allclose(project(A, nblocks=32).relative_error, 0.98425, atol=5e-6)
        assert project(A[:, dft(n).stages[-1]], nblocks=32).relative_error <= 1e-14

    def test_single_precision(self):
        F = dft(60, dtype="complex64")
        assert F.dtype == np.complex64
        assert (F @ np.ones((60, 2), np.float32)).dtype == np.complex64
        assert distance(F, dft(60).to_dense()) <= 1e-7


class TestDCT:
    @pytest.mark.parametrize("type", [2, 3, 4])
    @pytest.mark.parametrize("norm", [None, "ortho"])
    @pytest.mark.parametrize("n", SIZES)
    def test_every_length(self, n, type, norm):
        C = dct(n, type, norm)
        assert C.dtype == np.float64
        assert distance(C, scipy.fft.dct(np.eye(n), type, axis=0, norm=norm)) <= 9e-16
        x = gaussian(n, 3)
        assert_allclose(C @ x, scipy.fft.dct(x, type, axis=0, norm=norm), atol=1e-15 * n)

    @pytest.mark.parametrize("type", [2, 3, 4])
    def test_every_number_of_blocks(self, type):
        for n in (12, 15):
            for K in divisors(n):
                A = scipy.fft.dct(np.eye(n), type, axis=0)
                assert distance(dct(n, type, nblocks=K), A) <= 9e-16
                assert_array_equal(dct(n, type, nblocks=(n // K, K)).to_dense(), dct(n, type, nblocks=K).to_dense())

    def test_rank(self):
        """Rank 2 exactly, with Makhoul's permutation, and not with the plain one."""
        n = 64
        C = dct(n)
        assert C.n_parameters == 2 * 2 * n * 8
        A = scipy.fft.dct(np.eye(n), axis=0)
        order = C.stages[-1]
        assert sorted(order) == list(range(n))
        assert project(A[:, order], nblocks=8, rank=2).relative_error <= 1e-14
        assert project(A[:, order], nblocks=8, rank=1).relative_error > 0.1
        assert project(A[:, dft(n).stages[-1]], nblocks=8, rank=2).relative_error > 0.1

    def test_orthogonal(self):
        for type in (2, 3, 4):
            C = dct(60, type, "ortho")
            assert_allclose((C.T @ C).to_dense(), np.eye(60), atol=1e-14)

    def test_single_precision(self):
        C = dct(60, dtype=np.float32)
        assert (C @ np.ones(60, np.float32)).dtype == np.float32
        assert distance(C, dct(60).to_dense()) <= 2e-7


class TestHadamard:
    @pytest.mark.parametrize("n", [1, 2, 4, 8, 64, 128])
    def test_sylvester(self, n):
        A = scipy.linalg.hadamard(n)
        assert_array_equal(hadamard(n).to_dense(), A)
        for K in divisors(n):
            H = hadamard(n, K)
            assert_array_equal(H.to_dense(), A)
            assert (H.nblocks, H.rank) == ((n // K, K), 1)

    def test_digits(self):
        A = scipy.linalg.hadamard(64)
        for options in ({"order": 6}, {"order": 3}, {"digits": (2, 8, 4)}, {"digits": (64, 1)}):
            H = hadamard(64, **options)
            assert_array_equal(H.to_dense(), A)
        assert hadamard(64, order=6).n_parameters == 64 * 12

    def test_single_precision(self):
        assert (hadamard(8, dtype="float32") @ np.ones(8, np.float32)).dtype == np.float32

    @pytest.mark.parametrize("n", [3, 6, 12, 1023])
    def test_other_lengths(self, n):
        with pytest.raises(ValueError, match=f"n must be a power of two, got {n}"):
            hadamard(n)


class TestCirculant:
    @pytest.mark.parametrize("n", SIZES)
    @pytest.mark.parametrize("dtype", [np.float64, np.complex128])
    def test_every_length(self, n, dtype):
        c = gaussian(n, 1, seed=n, dtype=dtype)[:, 0]
        C = circulant(c)
        assert C.dtype == dtype
        A = scipy.linalg.circulant(c)
        assert distance(C, A) <= 1e-15
        assert_allclose(C.T.to_dense(), A.T, atol=1e-14)
        x = gaussian(n, 3)
        assert (C @ x).dtype == dtype
        assert_allclose(C @ x, A @ x, atol=1e-14 * n)
        assert_allclose(C @ (1j * x), A @ (1j * x), atol=1e-14 * n)

    def test_stages(self):
        """The transforms share the blocks of their middle."""
        C = circulant(gaussian(60, 1)[:, 0])
        assert [stage.shape for stage in C.stages if stage.ndim > 1] == [(6, 1, 10, 10), (1, 10, 6, 6), (6, 1, 10, 10)]

    def test_systems(self):
        c = np.r_[8.0, gaussian(23, 1)[:, 0]]
        b = gaussian(24, 2)
        assert_allclose(circulant(c).solve(b), np.linalg.solve(scipy.linalg.circulant(c), b), atol=1e-13)

    @pytest.mark.parametrize("scale", [1e-300, 1e300])
    def test_ends_of_the_range(self, scale):
        c = gaussian(60, 1)[:, 0]
        assert_allclose(circulant(scale * c).to_dense() / scale, scipy.linalg.circulant(c), atol=1e-14)

    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
    def test_namespaces(self, xp, dtype):
        c = gaussian(12, 1, dtype=np.dtype(dtype))[:, 0]
        C = circulant(xp.asarray(c))
        assert C.dtype == getattr(xp, dtype)
        assert array_namespace(C.stages[1]) is array_namespace(xp.asarray(c))
        y = C @ xp.asarray(c)
        assert y.dtype == getattr(xp, dtype)
        tol = 1e-5 if "32" in dtype or dtype == "complex64" else 1e-13
        assert_allclose(to_numpy(y), scipy.linalg.circulant(c) @ c, atol=tol)

    def test_integers(self):
        assert_allclose(circulant([1, 2, 3]).to_dense(), [[1, 3, 2], [2, 1, 3], [3, 2, 1]], atol=1e-15)

    def test_layouts(self):
        c = gaussian(1, 12)[0]
        for name, other in layouts(c):
            assert_allclose(circulant(other).to_dense(), scipy.linalg.circulant(c), atol=1e-14, err_msg=name)

    def test_bad_input(self):
        for bad in (np.ones((2, 2)), [], [np.nan, 1.0]):
            with pytest.raises(ValueError, match="c "):
                circulant(bad)
        with pytest.raises(TypeError, match="c must"):
            circulant("abc")


class TestMadeOfFactors:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
    def test_namespaces(self, xp, dtype):
        A, B = gaussian(3, 5, dtype=np.dtype(dtype)), gaussian(4, 2, seed=1, dtype=np.dtype(dtype))
        stack = gaussian(3, 20, dtype=np.dtype(dtype)).reshape(3, 4, 5)
        made = {
            "kronecker": (from_kronecker(xp.asarray(A), xp.asarray(B)), np.kron(A, B), (4, 5), 1),
            "lowrank": (from_lowrank(xp.asarray(A), xp.asarray(A.T.copy())), A @ A.T, (1, 1), 5),
            "diagonal": (from_block_diagonal(xp.asarray(stack)), scipy.linalg.block_diag(*stack), (4, 3), 1),
        }
        for name, (M, expected, nblocks, rank) in made.items():
            assert array_namespace(M.left) is array_namespace(xp.asarray(A))
            assert M.left.dtype == M.right.dtype == getattr(xp, dtype)
            assert M.shape == expected.shape
            assert (M.nblocks, M.rank) == (nblocks, rank)
            assert_allclose(to_numpy(M.to_dense()), expected, rtol=1e-5, atol=1e-6, err_msg=name)
            x = np.ones(expected.shape[1], np.dtype(dtype))
            assert_allclose(to_numpy(M @ xp.asarray(x)), expected @ x, rtol=1e-4, atol=1e-5, err_msg=name)

    def test_exact(self):
        A, B = gaussian(1, 7), gaussian(6, 1)
        assert_array_equal(from_kronecker(A, B).to_dense(), np.kron(A, B))
        assert_array_equal(from_kronecker(3.0 * np.eye(1), B).to_dense(), 3 * B)
        stack = gaussian(2, 3).reshape(1, 2, 3)
        assert_array_equal(from_block_diagonal(stack).to_dense(), stack[0])

    def test_factors_are_shared(self):
        A, B, stack = gaussian(3, 5), gaussian(4, 2), gaussian(6, 5).reshape(2, 3, 5)
        M = from_kronecker(A, B)
        assert np.shares_memory(M.left, A)
        assert np.shares_memory(M.right, B)
        assert np.shares_memory(from_lowrank(A, A.T).left, A)
        assert np.shares_memory(from_block_diagonal(stack).right, stack)

    def test_dtypes_are_joined(self):
        M = from_kronecker(np.ones((2, 2), np.float32), np.ones((1, 2), np.complex64))
        assert M.dtype == np.complex64
        assert from_lowrank(np.ones((2, 1), np.float32), np.ones((1, 2))).dtype == np.float64
        assert from_kronecker([[1, 2]], [[3]]).dtype == np.float64

    def test_products_stay_in_the_class(self):
        A, B, C, D = (gaussian(4, 4, seed=t) for t in range(4))
        M = from_kronecker(A, B) @ from_kronecker(C, D)
        assert M.nblocks == (4, 4)
        assert_allclose(M.to_dense(), np.kron(A @ C, B @ D), atol=1e-13)
        stack = gaussian(16, 4).reshape(4, 4, 4)
        M = from_kronecker(A, B) @ from_block_diagonal(stack)
        assert M.nblocks == (4, 4)
        assert_allclose(M.to_dense(), np.kron(A, B) @ scipy.linalg.block_diag(*stack), atol=1e-13)

    def test_transforms_multiply(self):
        assert_allclose((dft(12).H @ dft(12)).to_dense(), 12 * np.eye(12), atol=1e-13)
        assert isinstance(hadamard(16) @ dct(16), MonarchMatrix)

    def test_save(self, tmp_path):
        for M in (dft(12), circulant(gaussian(12, 1)[:, 0]), from_kronecker(np.eye(2), gaussian(3, 2))):
            M.save(tmp_path / "matrix")
            assert_array_equal(MonarchMatrix.load(tmp_path / "matrix").to_dense(), M.to_dense())
            (tmp_path / "matrix").unlink()

    def test_bad_input(self, other_xp):
        with pytest.raises(ValueError, match=r"U \(m, rank\) and V \(rank, n\) must fit"):
            from_lowrank(np.ones((3, 2)), np.ones((3, 2)))
        for call in (
            lambda: from_kronecker(np.ones(3), np.eye(2)),
            lambda: from_kronecker(np.eye(2), np.full((1, 1), np.inf)),
            lambda: from_lowrank(np.ones((3, 0)), np.ones((0, 3))),
            lambda: from_block_diagonal(np.eye(3)),
            lambda: from_kronecker(np.eye(2), other_xp.asarray(np.eye(2))),
            lambda: from_lowrank(np.eye(2), other_xp.asarray(np.eye(2))),
        ):
            with pytest.raises(ValueError, match="must|empty"):
                call()
        with pytest.raises(TypeError, match="A must"):
            from_kronecker("ab", np.eye(2))


class TestBadSizes:
    @pytest.mark.parametrize("make", [dft, dct])
    def test_lengths(self, make):
        for n in (0, -3):
            with pytest.raises(ValueError, match="n must be an integer ≥ 1"):
                make(n)
        for n in (4.0, "4", None):
            with pytest.raises(TypeError, match="n must be an integer ≥ 1"):
                make(n)
        with pytest.raises(ValueError, match="too large"):
            make(2**40)

    @pytest.mark.parametrize("nblocks", [0, -2, 5, 2.0, "2", (3, 3), (2, 3, 2), (2.0, 6), (0, 12), None.__class__])
    def test_blocks(self, nblocks):
        for make in (dft, lambda n, nblocks: dct(n, nblocks=nblocks)):
            with pytest.raises(ValueError, match="nblocks must be an integer K that divides 12, or a pair"):
                make(12, nblocks)

    def test_digits(self):
        for digits, said in [
            ((3, 5), "product n = 12"),
            ((12,), "at least two"),
            ((-3, -4), "integers ≥ 1"),
            (12, "tuple of integers"),
            ((3.0, 4.0), "tuple of integers"),
            (((3, 4), (3, 4)), "tuple of integers"),
        ]:
            with pytest.raises(ValueError, match=said):
                dft(12, digits=digits)
        with pytest.raises(ValueError, match="order must be left out or be the number of digits, 2, got 3"):
            dft(12, order=3, digits=(3, 4))
        with pytest.raises(ValueError, match="number of prime factors of each size, got 4 for 12"):
            dft(12, order=4)
        with pytest.raises(ValueError, match="order must be an integer ≥ 2"):
            dft(12, order=1)
        for options in ({"order": 3}, {"digits": (3, 4)}):
            with pytest.raises(ValueError, match="give nblocks or"):
                dft(12, 3, **options)

    def test_options(self):
        for kind in (1, 5, "2", None):
            with pytest.raises(ValueError, match="type must be 2, 3 or 4"):
                dct(12, kind)
        with pytest.raises(ValueError, match="norm must be 'ortho'"):
            dct(12, norm="forward")
        with pytest.raises(ValueError, match="dtype must be complex64 or complex128, got 'float64'"):
            dft(12, dtype="float64")
        for make in (dct, hadamard):
            with pytest.raises(ValueError, match="dtype must be float32 or float64"):
                make(8, dtype="complex128")
