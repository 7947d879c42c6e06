"""What is accepted as an array, what is refused and in which words, and what becomes of dtypes."""

from fractions import Fraction

import numpy as np
import pytest
from array_api_compat import array_namespace
from matrices import gaussian, layouts, sparse_matrix
from numpy.testing import assert_array_equal
from scipy import sparse

from linalg_ml._core.arrays import (
    all_finite,
    can_write,
    cast,
    check_array,
    check_choice,
    check_finite,
    check_int,
    check_real,
    check_same,
    compute_dtype,
    is_complex,
    like,
    real_dtype,
    to_numpy,
)

NUMBERS = gaussian(4, 3)


# --- dtypes -------------------------------------------------------------------------------------------

PROMOTION = {
    "float32": "float32",
    "float64": "float64",
    "complex64": "complex64",
    "complex128": "complex128",
    "float16": "float32",
    "bfloat16": "float32",
    "longdouble": "float64",
    "clongdouble": "complex128",
    "bool": "float64",
    **{f"{sign}int{bits}": "float64" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@pytest.mark.parametrize(("given", "computed"), PROMOTION.items())
def test_promotion(xp, given, computed):
    dtype = getattr(xp, given, None)
    if dtype is None:
        pytest.skip(f"{xp.__name__} has no {given}")
    A = xp.astype(xp.asarray([[1, 0], [1, 1]]), dtype)
    checked = check_array(A, "A")
    assert array_namespace(checked) is array_namespace(A)
    assert checked.dtype == getattr(xp, computed)
    assert compute_dtype(A.dtype) == computed
    assert_array_equal(to_numpy(checked), [[1, 0], [1, 1]])
    assert is_complex(checked) == ("complex" in computed)
    assert real_dtype(checked) == {"complex64": "float32", "complex128": "float64"}.get(computed, computed)


@pytest.mark.parametrize("dtype", ["O", "U3", "S3", "M8[s]", "m8[s]", [("a", float)]])
def test_dtypes_that_are_no_numbers(dtype):
    with pytest.raises(TypeError, match=r"points must hold numbers \(bool, integer, float or complex\), got dtype "):
        check_array(np.zeros((2, 2), dtype), "points")


def test_torch_dtypes_that_are_no_numbers():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="A must hold numbers"):
        check_array(torch.zeros(2, dtype=torch.float8_e4m3fn), "A")


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_where_real_is_needed(xp, dtype):
    A = xp.ones((2, 2), dtype=getattr(xp, dtype))
    with pytest.raises(TypeError, match=f"W must be real, got dtype {dtype}"):
        check_array(A, "W", complex_ok=False)
    assert check_array(A, "W") is A


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">i4", ">c16"])
def test_other_byte_order(dtype):
    A = np.array([[1, 2], [3, 4]], dtype)
    checked = check_array(A, "A")
    assert checked.dtype.isnative
    assert_array_equal(checked, A)
    unconverted = check_array(A, "A", convert=False)
    assert unconverted.dtype == A.dtype


def test_convert_false_leaves_the_dtype(xp):
    A = xp.ones((2, 2), dtype=xp.int32)
    assert check_array(A, "A", convert=False) is A


# --- kinds of input -----------------------------------------------------------------------------------


class TestAccepted:
    def test_nothing_is_copied(self, xp):
        A = xp.asarray(NUMBERS)
        assert check_array(A, "A", ndim=2) is A
        assert cast(A, "float64") is A

    @pytest.mark.parametrize("number", range(6))
    def test_no_layout_is_copied(self, number):
        _, A = list(layouts(NUMBERS))[number]
        checked = check_array(A, "A")
        assert np.shares_memory(checked, A)
        assert checked.strides == A.strides

    def test_the_callers_array_is_not_changed(self):
        A = np.arange(6, dtype=np.int16).reshape(2, 3)
        before = A.copy()
        check_array(A, "A")[...] = -1
        assert A.dtype == np.int16
        assert_array_equal(A, before)

    @pytest.mark.parametrize("A", [[[1, 2], [3, 4]], ([1, 2], [3, 4]), [(True, 2.0), (3, 4)]])
    def test_nested_lists(self, A):
        checked = check_array(A, "A", ndim=2)
        assert checked.dtype == np.float64
        assert_array_equal(checked, [[1, 2], [3, 4]])

    @pytest.mark.parametrize("number", [3, 3.0, np.float32(3), np.int8(3), 3 + 1j])
    def test_scalars(self, number):
        assert check_array(number, "A").shape == ()
        with pytest.raises(ValueError, match="A must be 1-d or 2-d"):
            check_array(number, "A", ndim=(1, 2))

    def test_matrix_and_memmap_become_arrays(self, tmp_path):
        stored = np.memmap(tmp_path / "A", dtype=np.float64, mode="w+", shape=(4, 3))
        stored[:] = NUMBERS
        with pytest.warns(PendingDeprecationWarning):
            matrix = np.matrix(NUMBERS)
        for A in (stored, matrix):
            checked = check_array(A, "A")
            assert type(checked) is np.ndarray
            assert np.shares_memory(checked, A)

    @pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
    @pytest.mark.parametrize("maker", [sparse.csr_array, sparse.csr_matrix])
    def test_sparse(self, kind, maker):
        A = maker(sparse_matrix(6, 5, 0.5)).asformat(kind)
        checked = check_array(A, "A", sparse_ok=True)
        assert isinstance(checked, sparse.csr_array)
        assert_array_equal(checked.toarray(), A.toarray())
        if kind == "csr":
            assert np.shares_memory(checked.data, A.data)

    def test_sparse_integers(self):
        assert check_array(sparse.csr_array(np.eye(3, dtype=np.int8)), "A", sparse_ok=True).dtype == np.float64


class TestRefused:
    @pytest.mark.parametrize(
        ("A", "got"),
        [
            (None, "NoneType"),
            ("text", "str"),
            (b"bytes", "bytes"),
            ({1: 2}, "dict"),
            ({1, 2}, "set"),
            (range(3), "range"),
            (iter([1]), "list_iterator"),
            (Fraction(1, 2), "fractions.Fraction"),
            (object(), "object"),
        ],
    )
    def test_no_array(self, A, got):
        with pytest.raises(TypeError, match=f"X must be a NumPy, CuPy, PyTorch or other array-API array.* got {got}"):
            check_array(A, "X")

    @pytest.mark.parametrize("A", [[None, 1], ["a", "b"], [object()], [[1, "x"]]])
    def test_lists_of_other_things(self, A):
        with pytest.raises(TypeError, match="A must hold numbers"):
            check_array(A, "A")

    def test_ragged_lists(self):
        with pytest.raises(ValueError, match="A is no regular array"):
            check_array([[1, 2], [3]], "A")

    def test_sparse_where_dense_is_needed(self):
        with pytest.raises(TypeError, match=r"A must be dense here, got scipy.sparse.*shape \(6, 5\).*\.toarray\(\)"):
            check_array(sparse_matrix(6, 5), "A")

    def test_sparse_vector(self):
        with pytest.raises(ValueError, match="A must be 2-d if it is sparse"):
            check_array(sparse.coo_array(np.ones(3)), "A", sparse_ok=True)

    def test_pydata_sparse(self):
        pydata = pytest.importorskip("sparse")
        with pytest.raises(TypeError, match=r"pydata/sparse.*\.to_scipy_sparse\(\)"):
            check_array(pydata.COO.from_numpy(np.eye(3)), "A", sparse_ok=True)

    @pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
    @pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
    def test_torch_sparse(self, layout):
        torch = pytest.importorskip("torch")
        with pytest.raises(TypeError, match=r"sparse PyTorch tensor.*\.to_dense\(\)"):
            check_array(getattr(torch.eye(3), layout)(), "A", sparse_ok=True)

    def test_masked(self):
        with pytest.raises(TypeError, match="A is a masked array"):
            check_array(np.ma.masked_less(NUMBERS, 0), "A")

    def test_dask(self):
        array = pytest.importorskip("dask.array")
        with pytest.raises(TypeError, match="A is a dask array, which is not accepted here"):
            check_array(array.ones((3, 3)), "A")

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_data_frames(self, library):
        frames = pytest.importorskip(library)
        frame = frames.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
        for A in (frame, frame["a"]):
            with pytest.raises(TypeError, match=r"convert a data frame by \.to_numpy\(\)"):
                check_array(A, "A")
        assert_array_equal(check_array(frame.to_numpy(), "A"), [[1, 3], [2, 4]])

    @pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
    def test_wrong_ndim(self, xp, shape):
        with pytest.raises(ValueError, match=r"A must be 2-d, got .* of shape \("):
            check_array(xp.ones(shape), "A", ndim=2)

    def test_wrong_ndim_of_several(self):
        with pytest.raises(ValueError, match="b must be 1-d or 2-d"):
            check_array(np.ones((2, 2, 2)), "b", ndim=(1, 2))

    @pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
    def test_empty(self, xp, shape):
        with pytest.raises(ValueError, match=r"A is empty: got shape \(.*every axis must be at least 1 long"):
            check_array(xp.ones(shape), "A")

    def test_empty_list(self):
        with pytest.raises(ValueError, match="A is empty"):
            check_array([], "A")


# --- NaN and infinity ---------------------------------------------------------------------------------

BAD = [np.nan, np.inf, -np.inf]


class TestFinite:
    @pytest.mark.parametrize("bad", BAD)
    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
    def test_row_is_named(self, xp, bad, dtype):
        A = np.ones((5, 4), dtype)
        A[3, 2] = A[4, 0] = bad
        with pytest.raises(ValueError, match=r"A must be finite, got NaN or infinity in row 3$"):
            check_array(xp.asarray(A), "A")

    @pytest.mark.parametrize(("shape", "place"), [((), ()), ((5,), (2,)), ((2, 3, 4), (1, 2, 0))])
    def test_other_shapes(self, xp, shape, place):
        A = np.ones(shape)
        A[place] = np.nan
        with pytest.raises(ValueError, match=f"in row {place[0] if place else 0}$"):
            check_array(xp.asarray(A), "A")

    @pytest.mark.parametrize("bad", BAD)
    @pytest.mark.parametrize("row", [1, 3, 5])
    def test_sparse(self, bad, row):
        A = sparse_matrix(6, 5, 0.5).tolil()
        A[row, 2] = bad
        A[2, :] = 0  # empty rows do not shift the number
        with pytest.raises(ValueError, match=f"in row {row}$"):
            check_array(A.tocsr(), "A", sparse_ok=True)

    def test_rows_are_counted_from_the_first(self):
        with pytest.raises(ValueError, match="in row 1002$"):
            check_finite(np.array([[1.0], [2.0], [np.nan]]), "A", 1000)

    def test_infinities_that_cancel(self):
        with pytest.raises(ValueError, match="in row 0"):
            check_array(np.array([np.inf, -np.inf]), "A")

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
    def test_sums_may_overflow(self, dtype):
        A = np.full((10, 10), np.finfo(dtype).max, dtype)
        assert check_array(A, "A") is A

    @pytest.mark.parametrize("bad", BAD)
    def test_no_layout_hides_it(self, bad):
        A = NUMBERS.copy()
        A[2, 1] = bad
        for _, B in layouts(A):
            assert not all_finite(B)

    def test_not_asked_for(self):
        A = np.array([np.nan])
        assert check_array(A, "A", finite=False) is A

    def test_half_precision_is_computed_in_single(self):
        assert all_finite(check_array(np.full(100, 60000, np.float16), "A"))


# --- several arrays -----------------------------------------------------------------------------------


class TestSame:
    def test_namespace_is_returned(self, xp):
        A, b = xp.ones((2, 2)), xp.ones(2)
        assert check_same(A=A, b=b) is array_namespace(A)

    def test_mixed_namespaces(self, other_xp):
        with pytest.raises(
            ValueError, match=r"A and b must come from one array library, got numpy.ndarray of shape .* and "
        ):
            check_same(A=np.ones(2), c=np.ones(2), b=other_xp.ones(2))

    def test_mixed_devices(self):
        strict = pytest.importorskip("array_api_strict")
        there = strict.ones(2, device=strict.Device("device1"))
        with pytest.raises(ValueError, match=r"A and b must be on one device, got .*CPU_DEVICE.* and .*device1"):
            check_same(A=strict.ones(2), b=there)


# --- numbers and words --------------------------------------------------------------------------------


class TestInt:
    @pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
    def test_accepted(self, value):
        number = check_int(value, "rank")
        assert number == 3
        assert type(number) is int

    @pytest.mark.parametrize("value", [3.0, "3", None, [3], True, np.True_, 3j, np.array([3])])
    def test_wrong_types(self, value):
        with pytest.raises(TypeError, match="rank must be an integer ≥ 1, got "):
            check_int(value, "rank")

    @pytest.mark.parametrize("value", [0, -1, np.int64(-5)])
    def test_too_small(self, value):
        with pytest.raises(ValueError, match=f"rank must be an integer ≥ 1, got {value}"):
            check_int(value, "rank")

    def test_too_large(self):
        with pytest.raises(ValueError, match=r"rank must be an integer from 1 to 5 \(columns of A\), got 6"):
            check_int(6, "rank", high=5, why="columns of A")
        assert check_int(5, "rank", high=5) == 5
        assert check_int(0, "power", low=0) == 0


class TestReal:
    @pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), Fraction(1, 2)])
    def test_accepted(self, value):
        number = check_real(value, "eps", 0, 1)
        assert number == 0.5
        assert type(number) is float

    @pytest.mark.parametrize("value", ["0.5", None, True, np.True_, 0.5j, np.complex64(0.5), [0.5], np.array([0.5])])
    def test_wrong_types(self, value):
        with pytest.raises(TypeError, match=r"eps must be a number in \(0, 1\), got "):
            check_real(value, "eps", 0, 1)

    @pytest.mark.parametrize("value", [0, 1, -0.1, np.nan, np.inf])
    def test_outside(self, value):
        with pytest.raises(ValueError, match=r"eps must be a number in \(0, 1\), got "):
            check_real(value, "eps", 0, 1)

    def test_closed_ends(self):
        assert check_real(0, "tol", 0, 1, open_ends=False) == 0
        with pytest.raises(ValueError, match=r"tol must be a number in \[0, 1\], got 1.5"):
            check_real(1.5, "tol", 0, 1, open_ends=False)


def test_choice():
    assert check_choice("auto", "method", ("auto", "qr")) == "auto"
    assert check_choice(None, "norm", (None, "ortho")) is None
    for value in ("svd", None, 1, np.array(["auto"])):
        with pytest.raises(ValueError, match="method must be 'auto' or 'qr', got "):
            check_choice(value, "method", ("auto", "qr"))


# --- moving -------------------------------------------------------------------------------------------


class TestMoving:
    def test_there_and_back(self, xp):
        A = xp.zeros(1)
        there = like(NUMBERS, A)
        assert array_namespace(there) is array_namespace(A)
        assert_array_equal(to_numpy(there), NUMBERS)
        assert like(NUMBERS, A, xp.float32).dtype == xp.float32

    @pytest.mark.parametrize("number", range(6))
    @pytest.mark.filterwarnings("error")
    def test_every_layout(self, xp, number):
        name, values = list(layouts(NUMBERS))[number]
        assert_array_equal(to_numpy(like(values, xp.zeros(1))), NUMBERS, err_msg=name)

    def test_numpy_is_not_copied(self):
        assert to_numpy(NUMBERS) is NUMBERS
        assert like(NUMBERS, np.zeros(1)) is NUMBERS

    def test_other_device(self):
        strict = pytest.importorskip("array_api_strict")
        there = strict.ones(2, device=strict.Device("device1"))
        moved = like(NUMBERS, there)
        assert moved.device == there.device
        assert_array_equal(to_numpy(moved), NUMBERS)

    def test_torch_views(self):
        torch = pytest.importorskip("torch")
        z = torch.tensor([1 + 2j, 3 - 1j])
        assert_array_equal(to_numpy(z.conj()), [1 - 2j, 3 + 1j])
        assert_array_equal(to_numpy(z.conj().imag), [-2, 1])
        assert_array_equal(to_numpy(torch.ones(2, requires_grad=True)), [1, 1])

    def test_can_write(self):
        read_only = np.zeros(2)
        read_only.flags.writeable = False
        assert can_write(np.zeros(2))
        assert not can_write(read_only)
