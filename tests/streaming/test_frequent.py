"""Frequent Directions: what it guarantees holds for every stream, split and merge."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from streaming.streams import exact, lowrank_adv, powerspec, spiked

from linalg_ml._core.arrays import to_numpy
from linalg_ml.streaming import FrequentDirections, top_eigenvector

STREAMS = {
    "1/j": lambda: powerspec(5000, 300, 1, 0, np.float64),
    "spiked": lambda: spiked(5000, 300, 4, 0, np.float64),
    "one after another": lambda: lowrank_adv(5000, 300, 5.6, 20, 0).astype(np.float64),
}


def check(A, sketch, slack=1e-9):
    """Hold all that is promised of B for A."""
    B, delta, size = sketch.sketch(), sketch.error, sketch.n_sketch
    assert B.shape[0] <= size
    lost = np.linalg.eigvalsh(A.T @ A - B.T @ B)
    energies = np.linalg.svd(A, compute_uv=False) ** 2
    scale = energies[0]
    assert lost[0] >= -slack * scale
    assert lost[-1] <= delta * (1 + 1e-9) + slack * scale
    tails = np.append(energies[::-1].cumsum()[::-1], np.zeros(size))[:size]
    assert delta <= (tails / (size - np.arange(size))).min() * (1 + 1e-9) + slack * scale
    return delta, lost[-1]


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("stream", STREAMS)
def test_certificate(stream, size):
    A = STREAMS[stream]()
    check(A, FrequentDirections(300, size).update(A))
    parts = [FrequentDirections(300, size).update(part) for part in np.split(A, [100, 2500, 4000])]
    merged = parts[0].merge(parts[1]).merge(parts[2].merge(parts[3]))
    assert merged.n_rows == A.shape[0]
    check(A, merged)


def test_certificate_is_tight_on_decaying_spectra():
    A = STREAMS["1/j"]()
    for size in (8, 32):
        delta, lost = check(A, FrequentDirections(300, size).update(A))
        assert delta <= 1.02 * lost


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9), st.integers(0, 10))
def test_small_streams(n, d, size, seed):
    rng = np.random.default_rng(seed)
    A = rng.integers(-2, 3, (n, d)) * 10.0 ** rng.integers(-3, 4, (n, 1))
    sketch = FrequentDirections(d, size)
    for part in np.split(A, np.sort(rng.integers(0, n + 1, 2))):
        sketch.update(part)
    check(A, sketch, slack=1e-12)


def test_chunks_do_not_matter():
    A = STREAMS["1/j"]()[:700]
    sketches = []
    for size in (1, 7, 64, 700):
        sketch = FrequentDirections(300, 8)
        for start in range(0, 700, size):
            assert sketch.update(A[start : start + size]) is sketch
        sketches.append(sketch)
    for sketch in sketches[1:]:
        assert_array_equal(sketch.sketch(), sketches[0].sketch())
        assert sketch.error == sketches[0].error


def test_questions_change_nothing():
    A = STREAMS["1/j"]()[:700]
    asked, other = FrequentDirections(300, 8), FrequentDirections(300, 8)
    for start in range(0, 700, 11):
        for sketch in (asked, other):
            sketch.update(A[start : start + 11])
        asked.sketch(), asked.error, asked.top(1)
    assert_array_equal(asked.sketch(), other.sketch())
    assert asked.error == other.error


def test_top():
    A = STREAMS["1/j"]()
    sketch = FrequentDirections(300, 32).update(A)
    components, values = sketch.top(3)
    B, truth = sketch.sketch(), exact(A)
    assert_allclose(components @ components.T, np.eye(3), atol=1e-12)
    assert_allclose(values, np.linalg.norm(B @ components.T, axis=0) ** 2)
    for value, exactly in zip(values, truth.values, strict=False):
        assert value <= exactly * (1 + 1e-12) <= (value + sketch.error) * (1 + 1e-12)
    with pytest.raises(ValueError, match="rows of the sketch"):
        sketch.top(33)


def test_few_rows_are_kept_exactly():
    A = np.random.default_rng(0).standard_normal((5, 40))
    sketch = FrequentDirections(40, 8).update(A)
    assert_allclose(sketch.sketch(), A)
    assert sketch.error == 0
    assert FrequentDirections(40).sketch().shape == (0, 40)
    assert FrequentDirections(40).error == 0


def test_low_rank_is_kept():
    A = np.random.default_rng(0).standard_normal((900, 5)) @ np.random.default_rng(1).standard_normal((5, 60))
    sketch = FrequentDirections(60, 8).update(A)
    B = sketch.sketch()
    assert_allclose(B.T @ B, A.T @ A, atol=1e-9 * np.linalg.norm(A) ** 2)


@pytest.mark.parametrize(
    "convert", [sparse.csr_array, sparse.csc_matrix, lambda A: A.astype(np.float32), np.asfortranarray]
)
def test_kinds_of_rows(convert):
    A = np.random.default_rng(0).integers(-3, 4, (500, 30)).astype(np.float64)
    expected = FrequentDirections(30, 6).update(A)
    sketch = FrequentDirections(30, 6).update(convert(A))
    assert_allclose(sketch.sketch(), expected.sketch(), atol=1e-9)
    assert_allclose(sketch.error, expected.error)
    assert sketch.sketch().dtype == np.float64


def test_other_namespaces(other_xp):
    A = np.random.default_rng(0).standard_normal((500, 30))
    expected = FrequentDirections(30, 6).update(A)
    sketch = FrequentDirections(30, 6).update(other_xp.asarray(A))
    B = to_numpy(sketch.sketch())
    assert_allclose(B.T @ B, expected.sketch().T @ expected.sketch(), atol=1e-9)
    assert_allclose(sketch.error, expected.error)


@pytest.mark.parametrize("exponent", [-400, -100, 100, 400])
def test_scale(exponent):
    A = np.random.default_rng(0).standard_normal((500, 30))
    expected = FrequentDirections(30, 6).update(A)
    sketch = FrequentDirections(30, 6).update(np.ldexp(A, exponent))
    assert_array_equal(np.ldexp(sketch.sketch(), -exponent), expected.sketch())
    assert sketch.error == np.ldexp(expected.error, 2 * exponent)


def test_bad_input():
    A = np.random.default_rng(0).standard_normal((50, 30))
    sketch = FrequentDirections(30, 6).update(A)
    before = sketch.sketch()
    bad = A.copy()
    bad[7, 3] = np.nan
    with pytest.raises(ValueError, match="row 57"):
        sketch.update(bad)
    with pytest.raises(ValueError, match="30 columns"):
        sketch.update(A[:, :20])
    for block in (A.astype(complex), A.astype(object), A.astype(str)):
        with pytest.raises(TypeError):
            sketch.update(block)
    with pytest.raises(ValueError, match="same settings"):
        sketch.merge(FrequentDirections(30, 7))
    with pytest.raises(TypeError, match="FrequentDirections"):
        sketch.merge(A)
    assert_array_equal(sketch.sketch(), before)
    assert sketch.n_rows == 50
    for arguments in ((0,), (30, 0), (2.5,)):
        with pytest.raises((ValueError, TypeError)):
            FrequentDirections(*arguments)


def test_save_and_load(tmp_path):
    A = STREAMS["1/j"]()[:700]
    sketch = FrequentDirections(300, 8).update(A[:333])
    sketch.save(tmp_path / "sketch.npz")
    loaded = FrequentDirections.load(tmp_path / "sketch.npz")
    for each in (sketch, loaded):
        each.update(A[333:])
    assert_array_equal(loaded.sketch(), sketch.sketch())
    assert (loaded.error, loaded.n_rows) == (sketch.error, 700)
    copy = sketch.copy()
    copy.update(A)
    assert sketch.n_rows == 700
    assert "700" in repr(sketch)


# --- as a method ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("center", [False, True])
def test_method_certifies(center):
    for p in (0.5, 1, 2):
        X = powerspec(4000, 250, p, 3)
        truth = exact(X, center=center)
        result = top_eigenvector(X, method="frequent-directions", center=center, rng=0)
        low, high = result.value_bounds
        assert truth.err(result.vector) <= result.error
        assert low <= truth.values[0] * (1 + 1e-6)
        assert truth.values[0] <= high * (1 + 1e-6)
        assert result.confidence == 1
        assert result.value == low
        assert_allclose(result.value_relative_error, (high - low) / low, rtol=1e-9)
        assert 1 <= result.gap_estimate <= truth.R * (1 + 1e-6)
    assert result.error < 5e-3
