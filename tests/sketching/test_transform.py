"""The fast Walsh–Hadamard transform against the matrix it stands for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import hadamard

import linalg_ml
from linalg_ml.sketching import fwht

DTYPES = (np.float32, np.float64, np.complex64, np.complex128)


def random(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.issubdtype(dtype, np.complexfloating) else x).astype(dtype)


def tolerance(dtype, n):
    return (1e-6 if np.finfo(dtype).eps > 1e-10 else 1e-14) * max(1, np.log2(n))


def assert_close(y, expected, n):
    assert_allclose(y, expected, rtol=0, atol=tolerance(y.dtype, n) * max(np.abs(expected).max(), 1e-300))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 3, 8, 17])
@pytest.mark.parametrize("n", [2**k for k in range(13)])
def test_is_the_hadamard_matrix(n, d, dtype):
    x = random((n, d), dtype)
    y = fwht(x, axis=0)
    assert y.dtype == dtype
    assert y.flags.c_contiguous
    assert_close(y, hadamard(n) @ x.astype(np.result_type(dtype, np.float64)), n)


@pytest.mark.parametrize("n", [2**13, 2**17])
def test_long_columns_take_several_passes(n):
    x = random((n, 3))
    assert_close(fwht(fwht(x, axis=0), axis=0, norm="forward"), x, n)
    for r in (0, 1, 5000, n - 1):  # a row of H is cheap to make
        row = 1 - 2.0 * (np.bitwise_count(r & np.arange(n)) & 1)
        assert_close(fwht(x, axis=0)[r], row @ x, n)


@given(
    shape=st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=4),
    data=st.data(),
    dtype=st.sampled_from(DTYPES),
)
def test_any_axis_of_any_array(shape, data, dtype):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = random(shape, dtype)
    expected = np.moveaxis(np.tensordot(hadamard(shape[axis]), x, (1, axis)), 0, axis)
    assert_close(fwht(x, axis=axis), expected, 8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_of_every_kind(dtype):
    x = random((64, 48), dtype)
    expected = hadamard(64) @ x
    readonly = x.copy()
    readonly.flags.writeable = False
    wide = random((128, 96), dtype)
    wide[::2, ::2] = x
    for kind in (np.asfortranarray(x), wide[::2, ::2], x[::-1][::-1], readonly, x.astype(x.dtype.newbyteorder())):
        before = kind.copy()
        assert_close(fwht(kind, axis=0), expected, 64)
        assert_array_equal(kind, before)


@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
def test_norms(norm):
    x = random(32)
    factor = {"ortho": 32**-0.5, "forward": 1 / 32}.get(norm, 1)
    assert_close(fwht(x, norm=norm), factor * hadamard(32) @ x, 32)


def test_orders():
    H = hadamard(32)
    y = fwht(np.eye(32), axis=0, order="sequency")
    assert_array_equal((np.diff(y, axis=1) != 0).sum(axis=1), np.arange(32))
    places = [int(f"{k:05b}"[::-1], 2) for k in range(32)]
    assert_array_equal(fwht(np.eye(32), axis=0, order="dyadic"), H[places])


def test_pads_and_cuts():
    x = random((5, 6))
    padded = np.zeros((8, 6))
    padded[:5] = x
    assert_close(fwht(x, n=8, axis=0), hadamard(8) @ padded, 8)
    assert_close(fwht(x, n=4, axis=0), hadamard(4) @ x[:4], 8)
    assert_array_equal(fwht(x, n=1), x[:, :1])


def test_other_numbers():
    assert fwht([True, False]).dtype == np.float64
    assert_array_equal(fwht(np.arange(4)), [6, -2, -4, 0])
    assert fwht(np.ones(4, np.float16)).dtype == np.float32
    assert_close(fwht([1j, 2]), np.array([2 + 1j, -2 + 1j]), 2)


def test_overwrite():
    x = random((64, 8))
    kept = x.copy()
    y = fwht(x, axis=0)
    assert_array_equal(x, kept)
    assert not np.shares_memory(x, y)
    z = fwht(x, axis=0, overwrite_x=True)
    assert np.shares_memory(x, z)
    assert_array_equal(z, y)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_what_cannot_be_written_to_is_not(dtype, tmp_path):
    x = random((64, 8), dtype)
    expected = fwht(x, axis=0)
    readonly = x.copy()
    readonly.flags.writeable = False
    np.save(tmp_path / "x.npy", x)
    for kind in (readonly, np.load(tmp_path / "x.npy", mmap_mode="r")):
        assert_array_equal(fwht(kind, axis=0, overwrite_x=True), expected)
        assert_array_equal(kind, x)


def test_every_namespace(xp):
    for dtype in DTYPES:
        x = random((16, 5), dtype)
        y = fwht(xp.asarray(x), axis=0)
        assert type(y) is type(xp.asarray(x))
        assert_close(np.asarray(y), hadamard(16) @ x, 16)


def test_reference_agrees_with_the_kernel():
    x = random((2**11, 9))
    with linalg_ml.config_context(kernels="reference"):
        expected = fwht(x, axis=0)
    assert_close(fwht(x, axis=0), expected, x.shape[0])


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        (([1.0, 2.0, 3.0],), {}, ValueError, "x must have a power of two .* got 3; .* n=4"),
        (([1.0, 2.0],), {"n": 3}, ValueError, "n must be a power of two, got 3; .* 4"),
        (([1.0, 2.0],), {"n": 0}, ValueError, "n must be an integer ≥ 1, got 0"),
        (([1.0, 2.0],), {"n": 2.0}, TypeError, "n must be an integer"),
        (([1.0, 2.0],), {"axis": 1}, ValueError, "axis must be an integer from -1 to 0"),
        (([1.0, 2.0],), {"axis": "0"}, TypeError, "axis must be an integer"),
        (([1.0, 2.0],), {"norm": "l2"}, ValueError, "norm must be None or 'backward'"),
        (([1.0, 2.0],), {"order": "zigzag"}, ValueError, "order must be 'natural'"),
        ((3.0,), {}, ValueError, "x must have at least one axis"),
        (([],), {}, ValueError, "x is empty"),
        (([1.0, np.nan],), {}, ValueError, "x must be finite, got NaN or infinity in row 1"),
        (([[1.0], [np.inf]],), {"axis": 0}, ValueError, "in row 1"),
        (([1e308, 1e308],), {}, np.linalg.LinAlgError, "overflows float64"),
        (([1e308, -1e308, 1e308, -1e308],), {}, np.linalg.LinAlgError, "overflows float64"),
        ((["a", "b"],), {}, TypeError, "x must hold numbers"),
        (({},), {}, TypeError, "x must be"),
    ],
)
def test_bad_input(args, options, error, message):
    with pytest.raises(error, match=message):
        fwht(*args, **options)
