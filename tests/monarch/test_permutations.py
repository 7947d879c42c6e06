"""Permutations as block stages of zeros and ones: exact for every permutation and every number of groups."""

import numpy as np
import pytest
from array_api_compat import array_namespace
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from linalg_ml._core.arrays import to_numpy
from linalg_ml.monarch import from_permutation, project


def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


def check(P, perm):
    """Hold P against the permutation: on numbers and their adjoint, and its stages against zero and one."""
    n = len(perm)
    x = np.arange(1.0, n + 1)
    assert_array_equal(P @ x, x[perm])
    assert_array_equal(P.T @ x[perm], x)
    for stage in P.stages:
        assert stage.ndim == 4
        assert set(np.unique(stage)) <= {0.0, 1.0}


class TestExact:
    @pytest.mark.parametrize("n", [1, 2, 3, 12, 13, 60, 64])
    def test_every_number_of_groups(self, n):
        perm = np.random.default_rng(n).permutation(n)
        for b in divisors(n):
            P = from_permutation(perm, b)
            check(P, perm)
            assert_array_equal(P.to_dense(), np.eye(n)[perm])
            assert_array_equal(from_permutation(perm, (n // b, b)).to_dense(), np.eye(n)[perm])

    @given(st.permutations(range(24)), st.sampled_from(divisors(24)))
    def test_any(self, perm, b):
        check(from_permutation(perm, b), perm)

    @pytest.mark.parametrize("n", [1024, 4096])
    def test_large(self, n):
        perm = np.random.default_rng(0).permutation(n)
        P = from_permutation(perm)
        check(P, perm)
        s = int(n**0.5)
        assert [stage.shape for stage in P.stages] == [(s, 1, s, s), (1, s, s, s), (s, 1, s, s)]

    def test_few_groups_that_exchange_everything(self):
        """Pairs of groups with many numbers in common, and matchings that can be used once alone."""
        n, b = 240, 4
        for step in (1, 7, 60, 120, 121, 239):
            for perm in (np.roll(np.arange(n), step), np.arange(n)[::-1], np.arange(n).reshape(b, -1).T.ravel()):
                check(from_permutation(perm, b), perm)
        skew = np.arange(n)
        skew[:62] = np.roll(skew[:62], 1)  # two numbers leave their group
        check(from_permutation(skew, b), skew)
        check(from_permutation(skew, (b, n // b)), skew)


class TestTwoStages:
    @pytest.mark.parametrize("n", [12, 36])
    @pytest.mark.parametrize("seed", range(4))
    def test_where_projection_is_exact(self, n, seed):
        """The form is there exactly where a projection with those blocks has no error."""
        rng = np.random.default_rng(seed)
        for b in divisors(n):
            s = n // b
            for perm in (rng.permutation(n), np.arange(n), np.roll(np.arange(n), seed), (5 * np.arange(n) + seed) % n):
                P = from_permutation(perm, b)
                A = np.eye(n)[perm]
                exact = [pair for pair in ((s, b), (b, b)) if project(A, nblocks=pair).error < 1e-12]
                if exact:
                    assert P.nblocks == exact[0]
                    assert P.rank == 1
                else:
                    assert len(P.stages) == 3
                check(P, perm)

    def test_neighbours(self):
        """Permutations of whole groups and inside of groups, of any number of groups."""
        rng = np.random.default_rng(0)
        groups = np.arange(60).reshape(12, 5)
        for perm in (groups[rng.permutation(12)].ravel(), rng.permuted(groups, axis=1).ravel(), np.arange(60)):
            P = from_permutation(perm, 12)
            assert P.nblocks == (5, 12)
            check(P, perm)

    def test_systems(self):
        """Pivoted solves of permutation blocks are exact."""
        for perm in (np.roll(np.arange(60), 7), np.random.default_rng(0).permutation(60)):
            P = from_permutation(perm)
            b = np.random.default_rng(1).standard_normal((60, 2))
            assert_array_equal(P.solve(b), b[np.argsort(perm)])
            assert P.slogdet()[1] == 0
            assert P.slogdet()[0] == np.linalg.slogdet(np.eye(60)[perm])[0]


class TestArrays:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_namespaces(self, xp, dtype):
        for perm in (np.random.default_rng(3).permutation(12), np.arange(12)):
            P = from_permutation(xp.asarray(perm), dtype=dtype)
            assert array_namespace(P.stages[0]) is array_namespace(xp.asarray(perm))
            assert P.dtype == getattr(xp, dtype)
            x = xp.asarray(np.arange(12.0, dtype=dtype))
            assert_array_equal(to_numpy(P @ x), perm)

    @pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint64])
    def test_integers(self, dtype):
        check(from_permutation(np.array([2, 0, 3, 1], dtype)), [2, 0, 3, 1])

    def test_dtype_of_the_library(self, xp):
        P = from_permutation(xp.asarray([1, 0]), dtype=xp.float32)
        assert P.dtype == xp.float32

    def test_lists_and_views(self):
        check(from_permutation([1, 0, 2]), [1, 0, 2])
        check(from_permutation(np.arange(12)[::-1]), np.arange(12)[::-1])

    def test_same_twice(self):
        perm = np.random.default_rng(0).permutation(240)
        for a, b in zip(from_permutation(perm).stages, from_permutation(perm).stages, strict=True):
            assert_array_equal(a, b)


class TestBadInput:
    @pytest.mark.parametrize(
        ("perm", "said"),
        [
            ([0, 1, 1], "every number once, got 1 2 times"),
            ([0, 1, 3], "the numbers 0 to 2, got 3"),
            ([0, -1, 1], "the numbers 0 to 2, got -1"),
            ([1, 2, 3], "the numbers 0 to 2, got 3"),
            ([[0, 1], [1, 0]], "1-d and not empty"),
            ([], "1-d and not empty"),
            (3, "1-d and not empty"),
        ],
        ids=str,
    )
    def test_no_permutation(self, perm, said):
        with pytest.raises(ValueError, match=f"perm must .*{said}"):
            from_permutation(perm)

    def test_no_integers(self):
        for perm in ([0.0, 1.0], [False, True], ["a", "b"], [None, 1]):
            with pytest.raises(TypeError, match="perm must hold integers"):
                from_permutation(perm)

    @pytest.mark.parametrize("nblocks", [0, -1, 5, 2.0, "3", (3, 3), (1, 2, 3)])
    def test_blocks(self, nblocks):
        with pytest.raises(ValueError, match="nblocks must be an integer K that divides 12"):
            from_permutation(np.arange(12), nblocks)

    def test_dtype(self):
        with pytest.raises(ValueError, match="dtype must be float32 or float64, got 'int64'"):
            from_permutation([0, 1], dtype="int64")
