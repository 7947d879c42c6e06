"""Frequent Directions: what it guarantees holds for every stream, split and merge."""

import pickle

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


@given(st.integers(1, 40), st.integers(1, 12), st.integers(2, 9), st.integers(0, 10))
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


@pytest.mark.parametrize("exponent", [-560, -400, -100, 100, 400, 560])
def test_scale(exponent):
    A = np.random.default_rng(0).standard_normal((500, 30))
    expected = FrequentDirections(30, 6).update(A)
    sketch = FrequentDirections(30, 6).update(np.ldexp(A, exponent))
    assert_array_equal(np.ldexp(sketch.sketch(), -exponent), expected.sketch())
    with np.errstate(over="ignore", under="ignore"):
        assert sketch.error == np.ldexp(expected.error, 2 * exponent)


def mixed_scales():
    """Return rows that need another scale now and then, zeros first."""
    A = np.random.default_rng(0).standard_normal((120, 30))
    A[:20] = 0
    return np.ldexp(A, np.repeat([0, -900, -650, 7, -300, 500], 20)[:, None])


def test_rows_far_above_those_before():
    A = np.random.default_rng(0).standard_normal((500, 30))
    alone = FrequentDirections(30, 6).update(A)
    for exponent in (250, 450, 700, 1000):
        sketch = FrequentDirections(30, 6).update(A[:5]).update(np.ldexp(A, exponent))
        A5 = np.vstack([np.ldexp(A[:5], -exponent), A])
        B = np.ldexp(sketch.sketch(), -exponent)
        lost = np.linalg.eigvalsh(A5.T @ A5 - B.T @ B)
        delta = sketch.error if exponent > 500 else np.ldexp(sketch.error, -2 * exponent)
        assert np.isinf(delta) or delta < 1.5 * alone.error
        assert lost[0] > -1e-9 * np.linalg.norm(A) ** 2
        assert lost[-1] <= delta * (1 + 1e-9)
        components, values = sketch.top(2)
        assert_allclose(components @ components.T, np.eye(2), atol=1e-12)
        assert not np.isnan(values).any()
        assert np.isinf(values).all() == (exponent > 500)


@pytest.mark.parametrize("value", [np.finfo(np.float64).max, 5e-324])
def test_ends_of_the_numbers(value):
    A = value * np.random.default_rng(0).integers(-1, 2, (300, 30))
    sketch = FrequentDirections(30, 6).update(A)
    components, values = sketch.top(2)
    assert_allclose(components @ components.T, np.eye(2), atol=1e-12)
    assert not np.isnan(sketch.sketch()).any()
    assert (values == (np.inf if value > 1 else 0)).all()
    assert sketch.error == (np.inf if value > 1 else 0)


def test_chunks_do_not_matter_to_scales():
    A = mixed_scales()
    whole = FrequentDirections(30, 6).update(A)
    for size in (1, 7, 64):
        sketch = FrequentDirections(30, 6)
        for start in range(0, 120, size):
            sketch.update(A[start : start + size])
        assert_array_equal(sketch.sketch(), whole.sketch())
        assert sketch.error == whole.error
    for convert in (sparse.csr_array, np.asfortranarray):
        assert_allclose(FrequentDirections(30, 6).update(convert(A)).sketch(), whole.sketch(), rtol=1e-9)


def test_float32_rows_of_a_scale():
    A = np.random.default_rng(0).integers(-3, 4, (500, 30)).astype(np.float32)
    sketch, expected = FrequentDirections(30, 6).update(np.ldexp(A, -130)), FrequentDirections(30, 6).update(A)
    assert_array_equal(np.ldexp(sketch.sketch(), 130), expected.sketch())
    high = np.ldexp(A.astype(np.float64), 400)
    sketch.update(high).update(A)
    B, delta = np.ldexp(sketch.sketch(), -400), np.ldexp(sketch.error, -800)
    wide = A.astype(np.float64)
    lost = np.linalg.eigvalsh(wide.T @ wide - B.T @ B)
    assert -1e-9 * lost[-1] <= lost[0] <= lost[-1] <= delta * (1 + 1e-9)


@pytest.mark.parametrize("exponents", [(0, 600), (600, 0), (-700, -900), (-700, 600)])
def test_merge_of_scales(exponents):
    A = np.random.default_rng(0).standard_normal((500, 30))
    parts = [FrequentDirections(30, 6).update(np.ldexp(A, exponent)) for exponent in exponents]
    zeros = FrequentDirections(30, 6).update(np.zeros((7, 30)))
    top = parts[int(np.argmax(exponents))].copy()
    merged = parts[0].copy().merge(parts[1]).merge(zeros)
    assert merged.n_rows == 1007
    for sketch in (merged, zeros.copy().merge(parts[1]).merge(parts[0])):
        B, expected = (np.ldexp(each.sketch(), -max(exponents)) for each in (sketch, top))
        gap = np.linalg.norm(B.T @ B - expected.T @ expected, 2)
        assert gap <= np.ldexp(top._state.delta, 2 * (top._exponent - max(exponents))) * (1 + 1e-9)


def test_merge_with_itself():
    A = np.random.default_rng(0).standard_normal((500, 30))
    sketch = FrequentDirections(30, 6).update(A)
    check(np.vstack([A, A]), sketch.merge(sketch))


def test_save_and_load_a_scale(tmp_path):
    A = mixed_scales()
    for n in (10, 30, 90):
        sketch = FrequentDirections(30, 6).update(A[:n])
        sketch.save(tmp_path / "sketch.npz")
        loaded, copy = FrequentDirections.load(tmp_path / "sketch.npz"), sketch.copy()
        for each in (sketch, loaded, copy):
            each.update(A[n:])
            assert_array_equal(each.sketch(), sketch.sketch())
            assert each.error == sketch.error


def test_calls_that_fail_change_nothing(monkeypatch):
    A = mixed_scales()
    sketch, other = FrequentDirections(30, 6).update(A[:51]), FrequentDirections(30, 6).update(A)
    before = pickle.dumps(sketch.copy())  # the same rows beyond those in use
    eigh = np.linalg.eigh
    for good, call in ((0, sketch.update), (1, sketch.update), (0, sketch.merge)):  # shrinkings that succeed first
        left = iter([eigh] * good)
        monkeypatch.setattr(np.linalg, "eigh", lambda matrix, left=left: next(left)(matrix))
        with pytest.raises(StopIteration):
            call(other if call == sketch.merge else A)
    monkeypatch.undo()
    unchanged = pickle.loads(before)
    for each in (sketch, unchanged):
        each.update(A)
    assert_array_equal(sketch.sketch(), unchanged.sketch())
    assert (sketch.n_rows, sketch.error) == (171, unchanged.error)


def test_one_library(other_xp):
    A = np.random.default_rng(0).standard_normal((50, 30))
    here, there = FrequentDirections(30, 6).update(A), FrequentDirections(30, 6).update(other_xp.asarray(A))
    with pytest.raises(ValueError, match=r"like the rows before it, of numpy, got of \w"):
        here.update(other_xp.asarray(A))
    with pytest.raises(ValueError, match="got of numpy"):
        there.update(A)
    for ours, theirs in ((here, there), (there, here)):
        with pytest.raises(ValueError, match="both sketches"):
            ours.merge(theirs)
    assert here.n_rows == there.n_rows == 50
    assert here.update(sparse.csr_array(A)).n_rows == 100  # of NumPy as well
    empty = FrequentDirections(30, 6).merge(there)
    assert type(empty.sketch()) is type(there.sketch())


def test_smallest_sketch():
    A = np.random.default_rng(0).standard_normal((500, 30)) * np.append(10, np.ones(29))
    sketch = FrequentDirections(30, 2).update(A)
    check(A, sketch)
    assert abs(sketch.top(1)[0][0, 0]) > 0.9
    with pytest.raises(ValueError, match="n_sketch must be an integer ≥ 2, got 1"):
        FrequentDirections(30, 1)
    with pytest.raises(ValueError, match="the sketch is empty"):
        FrequentDirections(30, 2).top(1)


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
        assert low <= result.value <= low * (1 + 1e-6)  # rounding of float32 rows
        assert_allclose(result.value_relative_error, (high - low) / low, atol=1e-6)
        assert 1 <= result.gap_estimate <= truth.R * (1 + 1e-6)
    assert result.error < 5e-3
