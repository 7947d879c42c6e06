"""Chains of more than two factors: the errors and bounds that they report, members, refinement, every library."""

import math
import warnings

import numpy as np
import pytest
from array_api_compat import array_namespace
from matrices import gaussian, huge, layouts, tiny
from numpy.testing import assert_allclose, assert_array_equal
from scipy.fft import fft
from sklearn.exceptions import ConvergenceWarning

from linalg_ml._core.arrays import to_numpy
from linalg_ml.monarch import MonarchMatrix, dft, hadamard, project

DIGITS = [  # rows, columns
    ((2, 3, 4), (3, 2, 5)),
    ((4, 4, 4), (4, 4, 4)),
    ((4, 2, 2, 3), (2, 2, 3, 4)),
    ((2, 1, 5), (3, 4, 3)),
    ((5, 2, 1), (1, 4, 6)),
    ((2, 2, 2, 2, 2), (2, 2, 2, 2, 2)),
]


def member(outs, ins, rank=1, *, seed=0, dtype=np.float64):
    """Return a random matrix of the class, as a chain of stages of the shapes that the specification gives."""
    stages, p = [], len(outs)
    for t in range(p):
        a, d = math.prod(ins[:t]), math.prod(outs[t + 1 :])
        o, i = outs[t] * (rank if t else 1), ins[t] * (rank if t < p - 1 else 1)
        stages.append(gaussian(a * d * o, i, seed=seed + t, dtype=dtype).reshape(a, d, o, i))
    return MonarchMatrix.from_stages(stages)


def two_factor_errors(A, outs, ins, rank):
    """Return the least error of two factors at each split, by the singular values of all slices."""
    m, n = A.shape
    found = []
    for t in range(1, len(outs)):
        p, K = math.prod(outs[:t]), math.prod(ins[:t])
        S = A.reshape(p, m // p, K, n // K).transpose(2, 1, 0, 3)
        found.append(np.sqrt((np.linalg.svd(S, compute_uv=False)[..., rank:] ** 2).sum()))
    return found


def split_by_hand(A, outs, ins, rank):
    """Return the level errors and the product of hierarchical splitting, one slice at a time."""
    W, made, errors = A.reshape(1, 1, *A.shape), [], []
    for t in range(len(outs) - 1):
        a, r, m, n = W.shape
        o, i = outs[t], ins[t]
        W = W.reshape(a, r, o, m // o, i, n // i).transpose(0, 4, 3, 1, 2, 5).reshape(a, i, m // o, r * o, n // i)
        u, s, vh = np.linalg.svd(W, full_matrices=False)
        errors.append(np.sqrt((s[..., rank:] ** 2).sum()))
        X = u[..., :rank]  # (a, i, d, r*o, rank)
        made.append(X.transpose(0, 2, 3, 1, 4).reshape(a, m // o, r * o, i * rank))
        W = (s[..., :rank, None] * vh[..., :rank, :]).swapaxes(2, 3).reshape(a * i, rank, m // o, n // i)
    a, r, o, i = W.shape
    return errors, MonarchMatrix.from_stages([*made, W.reshape(a, 1, r * o, i)]).to_dense()


def quietly(*args, **options):
    options.setdefault("rng", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return project(*args, **options)


class TestSplitting:
    def test_known_values(self):
        A = np.random.default_rng(0).standard_normal((64, 64))
        M = project(A, digits=(4, 4, 4), certify=True)
        assert_allclose(M.error, 54.259108503144596, rtol=1e-12)
        assert_allclose(M.lower_bound, 48.36317951691058, rtol=1e-10)
        M = project(A, digits=(4, 4, 4), rank=2, certify=True)
        assert_allclose(M.error, 41.908501, atol=5e-7)
        assert_allclose(M.lower_bound, 34.178896, atol=5e-7)

    @pytest.mark.parametrize(("outs", "ins"), DIGITS, ids=str)
    @pytest.mark.parametrize("dtype", [np.float64, np.complex128])
    @pytest.mark.parametrize("method", ["auto", "svd"])
    def test_by_hand(self, outs, ins, dtype, method):
        A = gaussian(math.prod(outs), math.prod(ins), seed=3, dtype=dtype)
        M = project(A, digits=(outs, ins), method=method)
        errors, dense = split_by_hand(A, outs, ins, 1)
        assert_allclose(M.level_errors, errors, atol=1e-12)
        assert_allclose(M.to_dense(), dense, atol=1e-11)
        assert M.dtype == dtype
        for t, stage in enumerate(M.stages):
            assert stage.shape == (math.prod(ins[:t]), math.prod(outs[t + 1 :]), outs[t], ins[t])

    @pytest.mark.parametrize("rank", [2, 3])
    @pytest.mark.parametrize("dtype", [np.float64, np.complex128])
    def test_rank(self, rank, dtype):
        outs, ins = (3, 4, 2), (2, 3, 4)
        A = gaussian(24, 24, seed=4, dtype=dtype)
        M = project(A, digits=(outs, ins), rank=rank)
        errors, dense = split_by_hand(A, outs, ins, rank)
        assert_allclose(M.level_errors, errors, atol=1e-12)
        assert_allclose(M.to_dense(), dense, atol=1e-11)
        assert [stage.shape for stage in M.stages] == [
            (1, 8, 3, 2 * rank), (2, 2, rank * 4, 3 * rank), (6, 1, rank * 2, 4)
        ]  # fmt: skip

    @pytest.mark.parametrize(("outs", "ins"), DIGITS, ids=str)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
    def test_reported_errors(self, outs, ins, dtype):
        A = gaussian(math.prod(outs), math.prod(ins), seed=5, dtype=dtype)
        M = project(A, digits=(outs, ins), certify=True)
        wide = np.result_type(dtype, np.float64)
        chain = MonarchMatrix.from_stages([stage.astype(wide) for stage in M.stages])
        error = np.linalg.norm(A.astype(wide) - chain.to_dense())
        assert isinstance(M.error, float)
        assert_allclose(M.error, error, rtol=1e-13)
        assert_allclose(M.relative_error, error / np.linalg.norm(A.astype(wide)), rtol=1e-6)
        assert_allclose(np.sum(np.square(M.level_errors)), error**2, rtol=1e-12 if wide == dtype else 1e-5)
        assert_allclose(M.lower_bound, max(two_factor_errors(A.astype(wide), outs, ins, 1)), rtol=1e-12)
        assert M.lower_bound <= M.error

    def test_two_digits(self):
        """Two digits are the plain projection: the best there is, with all that is known of it."""
        A = gaussian(24, 30, seed=6)
        for rank in (1, 2):
            plain = project(A, nblocks=(6, 5), rank=rank, certify=True, rng=0)
            M = project(A, digits=((4, 6), (5, 6)), rank=rank, certify=True, refine=True, rng=0)
            assert_array_equal(M.to_dense(), plain.to_dense())
            assert M.nblocks == (6, 5)
            assert M.error == plain.error == M.level_errors[0]
            assert_allclose(M.lower_bound, M.error, rtol=1e-12)
            assert_array_equal(M.singular_values, plain.singular_values)
            assert M.certificate <= 1e-11
            assert (M.n_iter, M.converged) == (0, True)

    def test_facts(self):
        M = project(gaussian(8, 8), order=3)
        assert (M.n_iter, M.converged, M.lower_bound, M.certificate) == (0, None, None, None)
        assert M.method == "lanczos"
        assert project(gaussian(8, 8), order=3, rank=2).method == "gram"
        assert project(gaussian(8, 8), order=3, method="svd").method == "svd"
        with pytest.raises(AttributeError, match="two-stage"):
            M.left  # noqa: B018

    def test_same_twice(self):
        A = gaussian(64, 64)
        for a, b in zip(project(A, order=3, rng=1).stages, project(A, order=3, rng=1).stages, strict=True):
            assert_array_equal(a, b)
        assert_allclose(project(A, order=3, rng=2).to_dense(), project(A, order=3, rng=3).to_dense(), atol=1e-11)

    def test_save(self, tmp_path):
        M = project(gaussian(8, 8), order=3, certify=True)
        M.save(tmp_path / "matrix")
        other = MonarchMatrix.load(tmp_path / "matrix")
        assert other.level_errors == M.level_errors
        assert other.lower_bound == M.lower_bound
        assert_array_equal(other.to_dense(), M.to_dense())


class TestGuarantees:
    @pytest.mark.parametrize("rank", [1, 2])
    @pytest.mark.parametrize("size", [1e-8, 1e-3, 0.3, 3.0])
    def test_near_members(self, rank, size):
        """The least error is at most the noise, so √(p - 1) times the noise bounds what is found, and it the bound."""
        for outs, ins in DIGITS[:3]:
            if rank > min(outs[0], ins[-1]):
                continue
            A = member(outs, ins, rank, seed=7).to_dense()
            noise = gaussian(*A.shape, seed=8) * size * np.linalg.norm(A) / np.sqrt(A.size)
            M = project(A + noise, digits=(outs, ins), rank=rank, certify=True)
            level = np.linalg.norm(noise)
            assert M.error <= math.sqrt(len(outs) - 1) * level * (1 + 1e-10)
            assert M.lower_bound <= min(level, M.error) * (1 + 1e-10)
            assert M.error <= math.sqrt(len(outs) - 1) * np.linalg.norm(two_factor_errors(A + noise, outs, ins, rank))

    def test_bound_is_reached_by_best(self):
        """Where one split loses everything, the error is the least there is and equals the bound."""
        outs = ins = (2, 2, 2)
        A = member(outs, ins).to_dense()
        M = project(A, digits=outs, certify=True)
        assert M.lower_bound <= M.error <= 1e-14 * np.linalg.norm(A)
        B = np.kron(np.eye(2), gaussian(4, 4, seed=1))  # the first split is exact
        M = project(B, digits=outs, certify=True)
        assert M.level_errors[0] <= 1e-14
        assert_allclose(M.lower_bound, M.error, rtol=1e-12)

    def test_refined_is_not_below_the_bound(self):
        for seed in range(5):
            A = gaussian(16, 16, seed=seed)
            M = quietly(A, order=4, refine=True, max_iter=200, certify=True)
            assert M.lower_bound <= M.error
            assert M.error <= project(A, order=4, rng=0).error


class TestMembers:
    @pytest.mark.parametrize("rank", [1, 2])
    @pytest.mark.parametrize("dtype", [np.float64, np.complex128])
    def test_recovered(self, rank, dtype):
        outs, ins = (2, 3, 4), (3, 2, 5)
        A = member(outs, ins, rank, dtype=dtype).to_dense()
        M = project(A, digits=(outs, ins), rank=rank, certify=True)
        assert M.relative_error <= 1e-14
        assert np.linalg.norm(A - M.to_dense()) <= 1e-14 * np.linalg.norm(A)
        assert max(M.level_errors) <= 1e-14 * np.linalg.norm(A)
        assert M.lower_bound <= M.error
        if rank == 1:
            M = project(A, digits=(outs, ins), refine=True)
            assert (M.n_iter, M.converged) == (0, True)
            assert M.relative_error <= 1e-14

    @pytest.mark.parametrize("dtype", [np.float32, np.complex64])
    def test_single_precision(self, dtype):
        outs, ins = (2, 3, 4), (3, 2, 5)
        for rank in (1, 2):
            A = member(outs, ins, rank, dtype=dtype).to_dense()
            M = project(A, digits=(outs, ins), rank=rank)
            assert M.dtype == dtype
            assert M.relative_error <= 1e-6

    @pytest.mark.parametrize("digits", [(4, 4, 4), (8, 8), (2,) * 6, (3,) * 4], ids=str)
    def test_fourier(self, digits):
        """A member with its digits reversed, and far from one without."""
        n = math.prod(digits)
        A = fft(np.eye(n), axis=0)
        order = np.arange(n).reshape(digits).transpose().ravel()
        assert project(A[:, order], digits=digits).relative_error <= 1e-14
        assert_array_equal(order, dft(n, digits=digits).stages[-1])
        assert project(A, digits=digits).relative_error > 0.5

    def test_hadamard(self):
        """Slices of equal entries, and a butterfly of six stages."""
        A = hadamard(64).to_dense()
        for digits in ((2,) * 6, (4, 4, 4), (2, 16, 2)):
            M = project(A, digits=digits)
            assert M.relative_error <= 1e-14
            assert_allclose(M.to_dense(), A, atol=1e-13)

    @pytest.mark.parametrize("rank", [1, 2])
    def test_small_noise(self, rank):
        """Errors far below the square root of the rounding unit."""
        outs, ins = (2, 3, 4), (3, 2, 5)
        A = member(outs, ins, rank, seed=1).to_dense()
        A = A + 1e-10 * np.linalg.norm(A) / np.sqrt(A.size) * gaussian(*A.shape, seed=9)
        M = project(A, digits=(outs, ins), rank=rank, certify=True, rng=0)
        long = MonarchMatrix.from_stages(M.stages).to_dense().astype(np.longdouble)
        error = float(np.sqrt(np.sum((A - long) ** 2)))
        assert 1e-11 < M.relative_error < 1e-10
        assert_allclose(M.error, error, rtol=1e-5)
        assert_allclose(np.linalg.norm(M.level_errors), M.error, rtol=1e-3)
        assert_allclose(M.lower_bound, max(two_factor_errors(A, outs, ins, rank)), rtol=1e-3)
        if rank == 1:
            assert quietly(A, digits=(outs, ins), refine=True).error <= M.error

    def test_low_ranks_inside(self):
        """Slices of less rank than is asked for, and slices of zeros."""
        outs = ins = (4, 4, 4)
        A = member(outs, ins, 1, seed=2).to_dense()
        A[:, 16:32] = 0
        A[::4] = 0
        for rank in (1, 2, 4):
            M = project(A, digits=outs, rank=rank)
            assert M.relative_error <= 1e-14
            assert np.isfinite(M.to_dense()).all()

    def test_full_rank(self):
        """At full rank any matrix is a member."""
        A = gaussian(8, 8)
        assert project(A, digits=(2, 2, 2), rank=2).relative_error <= 1e-14
        M = project(A, digits=((8, 1, 1), (1, 1, 8)), rank=8)
        assert M.relative_error <= 1e-14


class TestRefinement:
    def test_known_value(self):
        A = np.random.default_rng(0).standard_normal((64, 64))
        with pytest.warns(ConvergenceWarning, match="stopped after 20 sweeps, the last of which lowered") as caught:
            M = project(A, digits=(4, 4, 4), refine=True)
        assert caught[0].filename == __file__
        assert_allclose(M.error / 54.259108503144596, 0.9798, atol=5e-5)
        assert (M.n_iter, M.converged) == (20, False)
        assert_allclose(M.error, np.linalg.norm(A - M.to_dense()), rtol=1e-13)

    @pytest.mark.parametrize(("outs", "ins"), DIGITS, ids=str)
    @pytest.mark.parametrize("dtype", [np.float64, np.complex128])
    def test_monotone(self, outs, ins, dtype):
        A = gaussian(math.prod(outs), math.prod(ins), seed=10, dtype=dtype)
        errors = [project(A, digits=(outs, ins), rng=0).error]
        for max_iter in range(6):
            M = quietly(A, digits=(outs, ins), refine=True, max_iter=max_iter, tol=0)
            assert M.n_iter == max_iter
            errors.append(M.error)
            assert_allclose(M.error, np.linalg.norm(A - M.to_dense()), rtol=1e-13)
        assert (np.diff(errors) <= 1e-14 * errors[0]).all()
        assert errors[-1] <= errors[0]

    def test_first_sweep(self):
        """One sweep, an entry at a time, by its definition."""
        outs, ins = (2, 3, 2), (3, 2, 2)
        A = gaussian(12, 12, seed=11)
        X = [stage.copy() for stage in project(A, digits=(outs, ins), rng=0).stages]
        p = len(outs)
        rows, columns = (np.stack(np.unravel_index(np.arange(12), digits)) for digits in (outs, ins))

        def entries(t):
            """Return which entry of factor t each entry of A meets."""
            a = np.ravel_multi_index(columns[:t], ins[:t]) if t else np.zeros(12, int)
            d = np.ravel_multi_index(rows[t + 1 :], outs[t + 1 :]) if t < p - 1 else np.zeros(12, int)
            return a[None, :], d[:, None], rows[t][:, None], columns[t][None, :]

        for t in range(p):
            g = math.prod(X[s][entries(s)] for s in range(p) if s != t)
            for entry in np.ndindex(X[t].shape):
                met = np.ones((12, 12), bool)
                for at, position in zip(entry, entries(t), strict=True):
                    met &= at == position
                X[t][entry] = (A * g)[met].sum() / (g**2)[met].sum()
        M = quietly(A, digits=(outs, ins), refine=True, max_iter=1)
        assert_allclose(M.to_dense(), MonarchMatrix.from_stages(X).to_dense(), atol=1e-12)

    def test_stationary(self):
        """In the end no factor can be improved: the residual is orthogonal to what each of its entries does."""
        A = gaussian(8, 8, seed=12)
        M = project(A, order=3, refine=True, max_iter=3000, tol=1e-13)
        assert M.converged
        assert 3 < M.n_iter < 3000
        D = A - M.to_dense()
        for t, stage in enumerate(M.stages):
            for entry in np.ndindex(stage.shape):
                other = [other.copy() for other in M.stages]
                other[t][:] = 0
                other[t][entry] = 1
                g = MonarchMatrix.from_stages(other).to_dense()
                assert abs(np.sum(D * g)) <= 1e-5 * max(np.linalg.norm(g), 1e-300) * M.error

    def test_tolerance(self):
        A = gaussian(27, 27, seed=13)
        counts = [project(A, order=3, refine=True, max_iter=10_000, tol=tol).n_iter for tol in (0.1, 1e-3, 1e-6)]
        assert counts == sorted(counts)
        assert counts[0] < counts[-1]

    def test_no_sweeps(self):
        with pytest.warns(ConvergenceWarning, match="after 0 sweeps"):
            M = project(gaussian(8, 8), order=3, refine=True, max_iter=0, rng=0)
        assert (M.n_iter, M.converged) == (0, False)
        assert M.error == project(gaussian(8, 8), order=3, rng=0).error

    def test_single_precision(self):
        A = gaussian(64, 64)
        M, M32 = (quietly(B, order=3, refine=True, max_iter=5) for B in (A, A.astype(np.float32)))
        assert M32.dtype == np.float32
        assert_allclose(M32.error, M.error, rtol=1e-5)

    def test_zero_slices(self):
        """Entries that multiply nothing but zeros stay, and the others improve."""
        A = gaussian(27, 27, seed=14)
        A[:, 9:18] = 0
        A[1::3] = 0
        M = quietly(A, order=3, refine=True, max_iter=10)
        assert np.isfinite(M.to_dense()).all()
        assert M.error < project(A, order=3).error
        assert_array_equal(M.to_dense()[:, 9:18], 0)

    def test_rank(self):
        with pytest.raises(ValueError, match="refine=True is for rank 1, got rank 2"):
            project(gaussian(64, 64), order=3, rank=2, refine=True)


class TestScales:
    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    @pytest.mark.parametrize("options", [{}, {"rank": 2}, {"refine": True, "max_iter": 3}], ids=str)
    @pytest.mark.parametrize("dtype", [np.float64, np.complex128])
    def test_double(self, scale, options, dtype):
        A = gaussian(64, 64, dtype=dtype)
        expected = quietly(A, order=3, certify=True, rng=0, **options)
        M = quietly(scale * A, order=3, certify=True, rng=0, **options)
        assert_allclose(M.relative_error, expected.relative_error, rtol=1e-12)
        assert_allclose(np.array([M.error, M.lower_bound]) / scale, [expected.error, expected.lower_bound], rtol=1e-12)
        assert_allclose(np.array(M.level_errors) / scale, expected.level_errors, rtol=1e-12)
        assert_allclose(M.to_dense() / scale, expected.to_dense(), atol=1e-11)

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_single(self, scale):
        A = gaussian(64, 64)
        expected = quietly(A, order=3, refine=True, max_iter=3)
        M = quietly((scale * A).astype(np.float32), order=3, refine=True, max_iter=3)
        assert_allclose(M.relative_error, expected.relative_error, rtol=1e-6)
        assert np.isfinite(M.to_dense()).all()

    def test_ends_of_the_range(self):
        for dtype in (np.float32, np.float64):
            for A in (tiny(27, 27, dtype=dtype), huge(27, 27, dtype=dtype)):
                for options in ({}, {"rank": 2}, {"refine": True, "max_iter": 3}):
                    M = quietly(A, order=3, certify=True, **options)
                    assert 0.1 < M.relative_error < 1
                    assert np.isfinite([M.error, M.lower_bound, *M.level_errors]).all()
                    assert 0 < M.lower_bound <= M.error
                    assert np.isfinite(M.to_dense()).all()

    def test_zero(self):
        for refine in (False, True):
            M = project(np.zeros((8, 27)), order=3, certify=True, refine=refine)
            assert (M.error, M.relative_error, M.lower_bound, M.level_errors) == (0, 0, 0, (0, 0))
            assert_array_equal(M.to_dense(), 0)

    def test_graded(self):
        """Columns over twelve decades: small slices are split as well as large ones."""
        A = member((4, 4, 4), (4, 4, 4)).to_dense() * np.logspace(0, -12, 64)
        M = project(A, order=3)
        assert np.linalg.norm((A - M.to_dense()) / np.logspace(0, -12, 64)) <= 1e-13 * np.linalg.norm(A)


class TestArrays:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
    @pytest.mark.parametrize("options", [{}, {"rank": 2}, {"refine": True, "max_iter": 3}], ids=str)
    def test_namespaces(self, xp, dtype, options):
        digits = ((3, 2, 4), (3, 2, 5))
        A = gaussian(24, 30, seed=15, dtype=np.dtype(dtype))
        expected = quietly(A, digits=digits, certify=True, **options)
        M = quietly(xp.asarray(A), digits=digits, certify=True, **options)
        for stage in M.stages:
            assert array_namespace(stage) is array_namespace(xp.asarray(A))
            assert stage.dtype == getattr(xp, dtype)
        tol = 1e-4 if dtype in ("float32", "complex64") else 1e-11
        assert isinstance(M.error, float)
        assert_allclose([M.error, M.lower_bound], [expected.error, expected.lower_bound], rtol=tol)
        assert_allclose(M.level_errors, expected.level_errors, rtol=tol)
        assert_allclose(to_numpy(M.to_dense()), expected.to_dense(), atol=10 * tol)

    @pytest.mark.parametrize("options", [{}, {"rank": 2}, {"refine": True, "max_iter": 2}], ids=str)
    def test_memory_orders(self, options):
        A = gaussian(24, 30)
        before = A.copy()
        digits = ((2, 3, 4), (3, 2, 5))
        expected = quietly(A, digits=digits, **options).to_dense()
        assert_array_equal(A, before)
        for name, B in layouts(A):
            assert_allclose(quietly(B, digits=digits, **options).to_dense(), expected, atol=1e-11, err_msg=name)

    def test_other_numbers(self):
        M = project(np.arange(64).reshape(8, 8), order=3)
        assert M.dtype == np.float64
        assert_allclose(M.error, project(np.arange(64.0).reshape(8, 8), order=3).error, rtol=1e-10)


class TestDigits:
    @pytest.mark.parametrize(
        ("shape", "order", "expected"),
        [
            ((64, 64), 3, ((4, 4, 4), (4, 4, 4))),
            ((24, 90), 3, ((2, 3, 4), (3, 5, 6))),
            ((64, 729), 6, ((2,) * 6, (3,) * 6)),
            ((30, 8), 3, ((2, 3, 5), (2, 2, 2))),
            ((90, 60), 3, ((3, 5, 6), (3, 4, 5))),
            ((36, 16), 4, ((2, 2, 3, 3), (2, 2, 2, 2))),
        ],
    )
    def test_order_alone(self, shape, order, expected):
        A = gaussian(*shape)
        M = project(A, order=order, rng=0)
        assert_array_equal(M.to_dense(), project(A, digits=expected, rng=0).to_dense())
        assert tuple(stage.shape[-2:] for stage in M.stages) == tuple(zip(*expected, strict=True))

    def test_least_sum(self):
        """Against all ways to write a number as a product of three."""
        for n in range(8, 200):
            every = [
                (a, b, n // a // b)
                for a in range(2, n)
                for b in range(a, n)
                if n % (a * b) == 0 and n // a // b >= b
            ]  # fmt: skip
            if every:
                found = tuple(stage.shape[-1] for stage in dft(n, order=3).stages if stage.ndim > 1)
                assert found == min(every, key=lambda digits: (sum(digits), max(digits)))
            else:
                with pytest.raises(ValueError, match=f"got 3 for {n}"):
                    dft(n, order=3)

    def test_forms(self):
        A = gaussian(24, 24)
        expected = project(A, digits=(2, 3, 4), rng=0).to_dense()
        for digits in ([2, 3, 4], ((2, 3, 4), [2, 3, 4]), np.array([2, 3, 4])):
            assert_array_equal(project(A, digits=digits, rng=0).to_dense(), expected)
        assert_array_equal(project(A, digits=(2, 3, 4), order=3, rng=0).to_dense(), expected)

    @pytest.mark.parametrize(
        ("digits", "said"),
        [
            ((2, 3, 5), "product 24, the number of rows"),
            (((2, 3, 4), (2, 3, 4)), "product 30, the number of columns"),
            ((24,), "at least two"),
            (((24,), (30,)), "at least two"),
            ((2, -3, -4), "integers ≥ 1"),
            ((0, 2, 3), "integers ≥ 1"),
            ((2.0, 3.0, 4.0), "tuple of integers or a pair"),
            ("24", "tuple of integers or a pair"),
            (24, "tuple of integers or a pair"),
            (((2, 3, 4), 30), "tuple of integers or a pair"),
            (((2, 12), (2, 3, 5)), "as many for rows as for columns"),
        ],
        ids=str,
    )
    def test_bad_digits(self, digits, said):
        with pytest.raises(ValueError, match=f"digits must .*{said}"):
            project(gaussian(24, 30), digits=digits)

    def test_bad_order(self):
        A = gaussian(24, 30)
        with pytest.raises(ValueError, match="order must be left out or be the number of digits, 3, got 4"):
            project(A, digits=((2, 3, 4), (3, 2, 5)), order=4)
        with pytest.raises(ValueError, match="prime factors of each size, got 4 for 30"):
            project(A, order=4)
        with pytest.raises(ValueError, match="order must be an integer ≥ 2"):
            project(A, order=1)
        with pytest.raises(TypeError, match="order must be an integer ≥ 2"):
            project(A, order=2.5)

    def test_bad_rank(self):
        A = gaussian(24, 30)
        with pytest.raises(ValueError, match=r"level 1: rank must be an integer from 1 to 2 \(the slices are 2 × 10\)"):
            project(A, digits=((2, 3, 4), (3, 2, 5)), rank=3)
        with pytest.raises(ValueError, match=r"level 2: rank must be an integer from 1 to 2 \(.* 12 × 2\), got 3"):
            project(gaussian(32, 30), digits=((4, 4, 2), (5, 3, 2)), rank=3)
        for rank in (0, -1, 1.5):
            with pytest.raises(ValueError, match="rank must be an integer"):
                project(A, digits=((2, 3, 4), (3, 2, 5)), rank=rank)

    def test_bad_matrices(self):
        with pytest.raises(ValueError, match="one matrix"):
            project(np.ones((2, 8, 8)), order=3)
        A = gaussian(8, 8)
        A[3, 4] = np.nan
        with pytest.raises(ValueError, match="A must be finite, got NaN or infinity in row 3"):
            project(A, order=3)
