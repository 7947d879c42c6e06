"""How a matrix is cut into slices, and what block sizes and ranks are accepted."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrices import layouts

from linalg_ml._core.arrays import to_numpy
from linalg_ml.monarch._compact import factor_slices, merge_slices
from linalg_ml.monarch._layout import Layout, check_rank, check_size, largest_divisor, layout, slices


class TestSlices:
    @given(st.tuples(*[st.integers(1, 5)] * 4))
    def test_by_definition(self, sizes):
        J, K, p, q = sizes
        A = np.arange(J * p * K * q).reshape(J * p, K * q)
        S = slices(A, Layout(J * p, K * q, J, K, p, q))
        assert S.shape == (K, J, p, q)
        for k, j, l, i in np.ndindex(S.shape):
            assert S[k, j, l, i] == A[l * J + j, k * q + i]

    def test_is_a_view_in_every_memory_order(self):
        cut = layout(24, 20, (3, 4), pad=False)
        for _, A in layouts(np.arange(480.0).reshape(24, 20)):
            assert np.shares_memory(slices(A, cut), A)

    def test_batch(self, xp):
        A = np.arange(2 * 3 * 24 * 20.0).reshape(2, 3, 24, 20)
        cut = layout(24, 20, (3, 4), pad=False)
        S = slices(xp.asarray(A), cut)
        assert np.array_equal(to_numpy(S[1, 2, ...]), slices(A[1, 2], cut))

    def test_factors_of_slices(self, xp):
        rng = np.random.default_rng(0)
        left, right = rng.standard_normal((2, 3, 8, 4, 2)), rng.standard_normal((2, 4, 2, 3, 5))
        U, V = (to_numpy(X) for X in factor_slices(xp.asarray(left), xp.asarray(right)))
        assert (U.shape, V.shape) == ((2, 4, 3, 8, 2), (2, 4, 3, 2, 5))
        for k, j in np.ndindex(4, 3):
            assert np.array_equal(U[:, k, j], left[:, j, :, k])
            assert np.array_equal(V[:, k, j], right[:, k, :, j])
        back = merge_slices(xp.asarray(U), xp.asarray(V))
        assert np.array_equal(to_numpy(back[0]), left)
        assert np.array_equal(to_numpy(back[1]), right)

    def test_merged_factors_are_contiguous(self):
        left, right = merge_slices(np.ones((4, 3, 8, 2)), np.ones((4, 3, 2, 5)))
        assert left.flags.c_contiguous
        assert right.flags.c_contiguous


class TestBlocks:
    @pytest.mark.parametrize(
        ("n", "count"),
        [
            (1, 1),
            (2, 1),
            (3, 1),
            (4, 2),
            (5, 2),
            (7, 3),
            (12, 3),
            (13, 4),
            (46, 7),
            (64, 8),
            (768, 24),
            (997, 32),
            (1021, 32),
            (1024, 32),
            (1994, 45),
            (2304, 48),
            (3072, 48),
            (4096, 64),
        ],
    )
    def test_default(self, n, count):
        """The largest divisor up to √n, unless it is below √n/2: then the rounded root, and padding."""
        cut = layout(n, 1024, None, pad=False)
        assert cut.nblocks == (count, 32)
        assert layout(1024, n, None, pad=False).nblocks == (32, count)
        assert cut.padded == (n % count != 0)
        assert 0.4 * math.sqrt(n) <= count <= math.sqrt(n) + 0.5

    def test_an_integer_means_both(self):
        assert layout(24, 20, 4, pad=False) == Layout(24, 20, 4, 4, 6, 5)
        assert layout(24, 20, np.int64(4), pad=False) == layout(24, 20, [4, 4], pad=False)
        assert layout(24, 20, (3, 4), pad=False).n_parameters(2) == 2 * (24 * 4 + 20 * 3)

    @given(st.integers(1, 60), st.integers(1, 60), st.data())
    def test_padding(self, m, n, data):
        J, K = data.draw(st.integers(1, m)), data.draw(st.integers(1, n))
        cut = layout(m, n, (J, K), pad=True)
        assert 0 <= cut.p * J - m < J
        assert 0 <= cut.q * K - n < K
        assert cut.padded == bool(m % J or n % K)
        if cut.padded:
            with pytest.raises(ValueError, match="must divide the shape.*pad=True"):
                layout(m, n, (J, K), pad=False)
        else:
            assert layout(m, n, (J, K), pad=False) == cut

    @pytest.mark.parametrize(
        "nblocks", [0, -1, 2.0, 0.5, "3", (2,), (2, 3, 4), (2, 0), (2, 1.5), {2, 3}, np.array([2, 3])]
    )
    @pytest.mark.parametrize("pad", [True, False])
    def test_no_blocks(self, nblocks, pad):
        with pytest.raises(ValueError, match="nblocks must be"):
            layout(24, 20, nblocks, pad)

    def test_more_blocks_than_rows(self):
        with pytest.raises(ValueError, match="at most the number of rows, 24, got 25"):
            layout(24, 20, (25, 1), pad=True)
        with pytest.raises(ValueError, match="at most the number of columns, 20, got 21"):
            layout(24, 20, (1, 21), pad=True)

    def test_booleans(self):
        with pytest.raises(TypeError, match="nblocks"):
            layout(24, 20, True, pad=False)

    def test_sizes(self):
        check_size(2**31, 2**31)
        with pytest.raises(ValueError, match="2147483648 × 4294967296 are too large"):
            check_size(2**31, 2**32)
        with pytest.raises(ValueError, match="too large"):
            layout(2**40, 2**40, 2**20, pad=False)

    def test_divisors(self):
        for n in range(1, 200):
            divisors = [d for d in range(1, n + 1) if n % d == 0]
            assert largest_divisor(n) == max(d for d in divisors if d * d <= n)
            for limit in (1, 7, n):
                assert largest_divisor(n, limit) == max(d for d in divisors if d <= limit)

    def test_ranks(self):
        assert check_rank(np.int32(3), 3, 5) == 3
        for rank in (0, -2, 4):
            with pytest.raises(ValueError, match="rank must be an integer from 1 to 3.*slices are 3 × 5"):
                check_rank(rank, 3, 5)
        for rank in (1.0, "a", None):
            with pytest.raises(ValueError, match="rank must be an integer from 1 to 3"):
                check_rank(rank, 3, 5)
