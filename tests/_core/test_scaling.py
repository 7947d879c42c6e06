"""Powers of two: what is scaled comes back to the bit, and norms neither overflow nor vanish."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from linalg_ml._core.arrays import to_numpy
from linalg_ml._core.scaling import half_exponents, norms, times_power, times_powers, top_exponent


@pytest.mark.parametrize("power", [-1060, -300, 0, 7, 300, 1000])
def test_there_and_back(power):
    S = np.random.default_rng(0).integers(1, 9, (3, 4, 5)) * 2.0**power
    half = half_exponents(S)
    near = times_powers(S, -half)
    assert_array_equal(times_powers(near, half), S)
    assert (np.abs(np.log2(near.max(axis=(-2, -1)))) <= 26).all()
    assert_array_equal(times_power(times_power(S, -power), power), S)
    assert top_exponent(S) == np.frexp(S.max())[1]


def test_zeros():
    S = np.zeros((2, 3, 3))
    assert_array_equal(half_exponents(S), 0)
    assert times_powers(S, half_exponents(S)) is S
    assert top_exponent(S) == 0


def test_norms(xp):
    S = np.random.default_rng(1).standard_normal((2, 5, 4, 3))
    assert_allclose(norms(xp.asarray(S)), np.linalg.norm(S, axis=(-2, -1)))
    Z = S + 1j * S[::-1]
    assert_allclose(norms(xp.asarray(Z)), np.linalg.norm(Z, axis=(-2, -1)))
    assert top_exponent(xp.asarray(Z)) == top_exponent(Z)
    assert_array_equal(to_numpy(times_powers(xp.asarray(S), half_exponents(xp.asarray(S)))), S)
