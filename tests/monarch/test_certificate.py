"""The certificate: never below the true excess, and next to nothing for the best."""

import numpy as np
import pytest
from matrices import gaussian, huge, layouts, tiny

from linalg_ml.monarch import MonarchMatrix, certify, project

SHAPES = [  # m, n, nblocks, rank
    (24, 20, (3, 4), 1),
    (24, 20, (3, 4), 2),
    (24, 20, (2, 2), 5),
    (20, 24, (5, 2), 3),
    (12, 12, (1, 1), 4),
    (6, 40, (3, 2), 1),
    (40, 6, (2, 3), 1),
    (5, 7, (5, 7), 1),  # slices of one number
    (8, 8, (2, 2), 4),  # all ranks
    (11, 13, (3, 4), 2),  # padded
    (7, 5, (3, 4), 1),  # the last column block is padding alone
]
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def excess(A, M):
    """Return (‖A - M‖² - the least)/‖A‖² by the singular values of all slices, in double precision."""
    wide = np.result_type(A, M.left, np.float64)
    A, (J, K) = A.astype(wide), M.nblocks
    dense = MonarchMatrix(M.left.astype(wide), M.right.astype(wide), shape=M.shape[-2:]).to_dense()
    q, least = M.right.shape[-1], 0.0
    for k in range(K):
        for j in range(J):
            part = A[..., j::J, k * q : (k + 1) * q]
            if part.size:
                least += np.sum(np.linalg.svd(part, compute_uv=False)[..., M.rank :] ** 2)
    energy = np.linalg.norm(A) ** 2
    return (np.linalg.norm(A - dense) ** 2 - least) / energy


def spoilt(M, level, seed=1):
    """Return M with relative noise in its left factor."""
    noise = np.random.default_rng(seed).standard_normal(M.left.shape).astype(M.left.real.dtype)
    return MonarchMatrix(M.left * (1 + level * noise).astype(noise.dtype), M.right, shape=M.shape[-2:])


class TestBound:
    @pytest.mark.parametrize(("m", "n", "nblocks", "rank"), SHAPES)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_between_the_excess_and_a_little_more(self, m, n, nblocks, rank, dtype):
        A = gaussian(m, n, seed=m + n, dtype=dtype)
        M = project(A, nblocks=nblocks, rank=rank, pad=True)
        small = 1e-11 if np.finfo(dtype).eps < 1e-12 else 2e-9
        assert max(0, excess(A, M)) <= certify(A, M) + 1e-15 <= small
        for level in (1e-7, 1e-3, 0.02, 1.0, 1e3):
            bad = spoilt(M, level)
            true = excess(A, bad)
            assert true * (1 - 1e-12) <= certify(A, bad) <= true * (1 + 1e-12) + max(1e-11, small)

    @pytest.mark.parametrize("rank", [1, 2])
    def test_case(self, rank):
        A = np.random.default_rng(0).standard_normal((1024, 1024))
        M = project(A, nblocks=32, rank=rank)
        assert certify(A, M) <= 1e-11
        bad = spoilt(M, 0.02)
        assert 0 <= certify(A, bad) - excess(A, bad) <= 1e-10
        assert excess(A, bad) > 1e-5

    def test_any_matrix(self):
        """What was not found by a projection at all."""
        for seed in range(50):
            rng = np.random.default_rng(seed)
            J, K, p, q = rng.integers(1, 5, 4)
            r = rng.integers(1, min(p, q) + 1)
            A = rng.standard_normal((J * p, K * q))
            M = MonarchMatrix(rng.standard_normal((J, p, K, r)), rng.standard_normal((K, r, J, q)))
            assert excess(A, M) <= certify(A, M) <= excess(A, M) + 1e-11

    def test_blind_to_what_the_solver_says(self):
        A = gaussian(24, 24)
        M = project(A, nblocks=4)
        expected = certify(A, M)
        M.singular_values[...] = 7
        M.error = M.relative_error = 0.0
        assert certify(A, M) == expected

    def test_wrong_pair_of_singular_vectors(self):
        """A stationary point that is not the best: the second pair in place of the first."""
        A = gaussian(12, 12)
        u, s, vh = np.linalg.svd(A)
        M = MonarchMatrix((u[:, 1] * s[1]).reshape(1, 12, 1, 1), vh[1].reshape(1, 1, 1, 12))
        assert abs(certify(A, M) - (s[0] ** 2 - s[1] ** 2) / np.sum(s**2)) < 1e-12

    @pytest.mark.parametrize("rank", [1, 3])
    def test_hard_slices(self, rank):
        """Equal, nearly equal and graded singular values, members, and slices of zeros."""
        rng = np.random.default_rng(3)
        Q = np.linalg.qr(rng.standard_normal((2, 16, 16)))[0]
        for s in (np.ones(16), 1 - 1e-10 * np.arange(16), 10.0 ** -np.arange(16), np.eye(16)[0], np.zeros(16)):
            A = np.zeros((32, 32))
            A[::2, :16] = (Q[0] * s) @ Q[1]
            A[1::2, 16:] = 1e-9 * A[::2, :16]
            M = project(A, nblocks=2, rank=rank)
            assert max(0, excess(A, M) if A.any() else 0) <= certify(A, M) <= 1e-11

    def test_project_gives_it(self):
        A = gaussian(24, 24)
        M = project(A, nblocks=4, certify=True)
        assert M.certificate == certify(A, M)
        assert project(A, nblocks=4).certificate is None

    def test_scales(self):
        A = gaussian(24, 24)
        M = spoilt(project(A, nblocks=4), 0.1)
        expected = certify(A, M)
        for power in (-700, 700):
            half = 2.0 ** (power // 2)
            there = MonarchMatrix(M.left * half, M.right * half)
            assert certify(A * 2.0**power, there) == pytest.approx(expected, rel=1e-14)
        unequal = MonarchMatrix(M.left * 2.0**600, M.right * 2.0**-600)
        assert certify(A, unequal) == pytest.approx(expected, rel=1e-14)
        for B in (tiny(24, 24), huge(24, 24)):
            assert certify(B, project(B, nblocks=(24, 1))) < 1e-11

    def test_no_approximation_at_all(self):
        A = gaussian(24, 24)
        far = MonarchMatrix(np.full((4, 6, 4, 1), 1e150), np.full((4, 1, 4, 6), 1e150))
        assert certify(A, far) == np.inf
        zero = MonarchMatrix(np.zeros((4, 6, 4, 1)), np.zeros((4, 1, 4, 6)))
        assert certify(A, zero) == pytest.approx(excess(A, zero), rel=1e-12)
        assert certify(np.zeros((24, 24)), zero) == 0
        assert certify(np.zeros((24, 24)), far * 1e-200) == np.inf


class TestArrays:
    @pytest.mark.parametrize("rank", [1, 2])
    def test_namespaces(self, xp, rank):
        for dtype in ("float64", "complex128"):
            A = gaussian(24, 20, dtype=np.dtype(dtype))
            M = project(A, nblocks=(3, 4), rank=rank)
            there = MonarchMatrix(xp.asarray(M.left), xp.asarray(M.right))
            bound = certify(xp.asarray(A), there)
            assert isinstance(bound, float)
            assert excess(A, M) <= bound <= 1e-11
            bad = spoilt(M, 0.02)
            there = MonarchMatrix(xp.asarray(bad.left), xp.asarray(bad.right))
            assert certify(xp.asarray(A), there) == pytest.approx(certify(A, bad), abs=1e-11)

    def test_batches(self):
        A = np.stack([gaussian(12, 15, seed=seed) for seed in range(6)]).reshape(2, 3, 12, 15)
        M = spoilt(project(A, nblocks=(4, 3)), 0.02)
        assert excess(A, M) <= certify(A, M) <= excess(A, M) + 1e-11
        M = project(A, nblocks=(4, 3), rank=2)
        assert excess(A, M) <= certify(A, M) <= 1e-11

    def test_memory_orders(self):
        A = gaussian(12, 15)
        M = project(A, nblocks=(4, 3))
        for name, B in layouts(A):
            assert certify(B, M) == pytest.approx(certify(A, M), abs=1e-13), name

    def test_memmap(self, tmp_path):
        A = np.memmap(tmp_path / "A", np.float32, "w+", shape=(24, 24))
        A[...] = gaussian(24, 24)
        assert certify(A, project(A, nblocks=4)) <= 2e-9

    def test_other_numbers(self):
        A = np.random.default_rng(0).integers(-5, 5, (12, 12))
        M = project(A, nblocks=3)
        assert certify(A, M) <= 1e-11
        assert certify(A.tolist(), M) == certify(A, M)
        narrow = MonarchMatrix(M.left.astype(np.float32), M.right.astype(np.float32))
        assert excess(A, narrow) <= certify(A, narrow) <= 2e-9
        assert certify(A, MonarchMatrix(M.left + 0j, M.right + 0j)) <= 1e-11


class TestBadInput:
    def test_shapes(self):
        M = project(gaussian(12, 12), nblocks=3)
        for A in (gaussian(12, 11), np.ones(12), np.ones((2, 12, 12))):
            with pytest.raises(ValueError, match=r"A and M must have one shape, got .* and \(12, 12\)"):
                certify(A, M)

    def test_kinds(self, other_xp):
        A = gaussian(12, 12)
        M = project(A, nblocks=3)
        with pytest.raises(TypeError, match="M must be a MonarchMatrix, got ndarray"):
            certify(A, A)
        with pytest.raises(ValueError, match="A must be finite, got NaN or infinity in row 3"):
            certify(np.where(A[3, 4] == A, np.nan, A), M)
        with pytest.raises(TypeError, match="A must"):
            certify("A", M)
        with pytest.raises(ValueError, match="A and M must come from one array library"):
            certify(other_xp.asarray(A), M)

    def test_other_chains(self):
        M = MonarchMatrix.from_stages([np.ones((1, 4, 3, 3)), np.ones((2, 2, 3, 3)), np.ones((4, 1, 3, 3))])
        with pytest.raises(ValueError, match="M must be in the two-stage form"):
            certify(gaussian(12, 12), M)
