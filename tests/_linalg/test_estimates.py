"""Norms from probes: the bounds hold as often as they say, whatever the spectrum, and at every scale."""

import numpy as np
import pytest
from matrices import gaussian, huge, tiny, with_spectrum
from numpy.testing import assert_allclose, assert_array_equal

from linalg_ml._core.arrays import to_numpy
from linalg_ml._core.random import Stream, normals
from linalg_ml._linalg.estimates import NormEstimate, check_confidence, exact_norm, frobenius_norm, probes

SEEDS = 600
N = 24
SPECTRA = {
    "rank one": np.r_[1.0, np.zeros(N - 1)],
    "two equal": np.r_[1.0, 1.0, np.zeros(N - 2)],
    "five equal": np.r_[np.ones(5), np.zeros(N - 5)],
    "decaying": 0.5 ** np.arange(N),
    "one and a tail": np.r_[1.0, np.full(N - 1, 0.05)],
    "flat": np.ones(N),
}


def estimates(D, k, confidence):
    """Yield the estimates of many seeds."""
    for seed in range(SEEDS):
        yield frobenius_norm(D @ probes(seed, D.shape[1], k, D.real), confidence=confidence)


def standard_error(share):
    return (share * (1 - share) / SEEDS) ** 0.5


@pytest.mark.parametrize("confidence", [0.81, 0.95])
@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_bounds_cover(spectrum, k, confidence):
    D = np.diag(SPECTRA[spectrum])
    norm = np.linalg.norm(D)
    found = list(estimates(D, k, confidence))
    below = np.mean([e.lower <= norm for e in found])
    above = np.mean([norm <= e.upper for e in found])
    slack = 4 * standard_error(confidence)
    assert below >= confidence - slack
    assert above >= confidence - slack
    if spectrum == "rank one":  # where the bounds are those of the exact law, they are not wider than need be
        assert below <= confidence + slack
        assert above <= confidence + slack


@pytest.mark.parametrize("spectrum", ["rank one", "five equal", "flat"])
def test_bounds_of_complex_matrices_cover(spectrum):
    D = with_spectrum(N, N, SPECTRA[spectrum], dtype=np.complex128)
    norm = np.linalg.norm(D)
    found = list(estimates(D, 2, 0.9))
    assert np.mean([e.lower <= norm for e in found]) >= 0.9 - 4 * standard_error(0.9)
    assert np.mean([norm <= e.upper for e in found]) >= 0.9 - 4 * standard_error(0.9)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_square_of_the_estimate_is_unbiased(spectrum, dtype):
    D = with_spectrum(N, N, SPECTRA[spectrum], seed=5, dtype=dtype)
    squares = np.array([e.estimate**2 for e in estimates(D, 2, 0.95)])
    z = (squares.mean() - np.linalg.norm(D) ** 2) / (squares.std() / SEEDS**0.5)
    assert abs(z) < 4.5


def test_order():
    for k in (1, 3, 20):
        e = frobenius_norm(gaussian(7, k))
        assert isinstance(e, NormEstimate)
        assert 0 < e.lower < e.estimate < e.upper < np.inf
        assert e.confidence == 0.95


def test_more_probes_and_less_confidence_tighten():
    def width(k, confidence):
        e = frobenius_norm(np.ones((4, k)), confidence=confidence)
        return e.upper / e.lower

    assert width(20, 0.95) < width(5, 0.95) < width(5, 0.99)


# --- scales -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_scales(scale, dtype):
    products = gaussian(7, 3, dtype=dtype)
    plain, scaled = frobenius_norm(products), frobenius_norm(products * scale)
    for name in ("estimate", "lower", "upper"):
        assert_allclose(getattr(scaled, name), getattr(plain, name) * scale, rtol=1e-12)


@pytest.mark.parametrize("maker", [tiny, huge])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("error")
def test_denormal_and_huge(maker, dtype, xp):
    X = maker(5, 4, dtype=dtype)
    peak = np.abs(X).max().astype(np.float64)
    expected = np.linalg.norm(X.astype(np.float64) / peak) * peak
    assert_allclose(exact_norm(xp.asarray(X)), expected, rtol=1e-6)


def test_zero():
    assert frobenius_norm(np.zeros((3, 2))) == NormEstimate(0.0, 0.0, 0.0, 0.95)


def test_many_small_numbers_are_summed_in_float64():
    X = np.full((1000, 1000), 1e-4, np.float32)
    X[0, 0] = 1.0
    assert_allclose(exact_norm(X), np.linalg.norm(X.astype(np.float64)), rtol=1e-7)


def test_every_namespace(xp):
    X = gaussian(6, 3)
    assert frobenius_norm(xp.asarray(X)) == frobenius_norm(X)


# --- probes and arguments -----------------------------------------------------------------------------


def test_blocks_of_probes_equal_the_whole():
    to = np.empty(0)
    whole = probes(3, 40, 7, to)
    assert whole.shape == (40, 7)
    assert_array_equal(np.concatenate([probes(3, 40, 3, to), probes(3, 40, 4, to, first=3)], axis=1), whole)
    rows = [normals(3, Stream.PROBES, range(i, i + 8), 7, to=to) for i in range(0, 40, 8)]
    assert_array_equal(np.concatenate(rows), whole)


def test_probes_are_where_the_data_is(xp):
    to = xp.zeros((1, 1), dtype=xp.complex64)
    drawn = probes(3, 10, 2, to)
    assert drawn.dtype == xp.float32
    assert_array_equal(to_numpy(drawn), probes(3, 10, 2, np.empty(0, np.float32)))


def test_probes_are_not_the_sketch():
    to = np.empty(0)
    assert (
        abs(np.corrcoef(probes(3, 1000, 1, to)[:, 0], normals(3, Stream.GAUSSIAN, range(1000), 1, to=to)[:, 0])[0, 1])
        < 0.15
    )


@pytest.mark.parametrize("confidence", [0.8, 0.5, 0, 1, 1.5, -1, np.nan])
def test_confidence_out_of_range(confidence):
    with pytest.raises(ValueError, match=r"confidence must be a number in \(0.8, 1\), got "):
        frobenius_norm(np.ones((2, 2)), confidence=confidence)


def test_confidence_of_the_wrong_type():
    with pytest.raises(TypeError, match="confidence must be a number"):
        check_confidence("95 %")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_products_that_are_not_finite(value):
    with pytest.raises(np.linalg.LinAlgError, match="not finite"):
        frobenius_norm(np.array([[1.0, value]]))
