"""Rows in blocks: every kind of input gives what NumPy gives on the whole."""

import operator

import numpy as np
import pytest
from array_api_compat import array_namespace, is_dask_array
from matrices import gaussian, layouts, sparse_matrix
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from linalg_ml._core import rows as rows_module
from linalg_ml._core.arrays import check_finite, to_numpy
from linalg_ml._core.rows import as_rows

M, N = 37, 5
WHOLE = gaussian(M, N)


@pytest.fixture(params=["one block", "blocks of 4", "blocks of 1"])
def block_bytes(request, monkeypatch):
    size = {"one block": 2**24, "blocks of 4": 4 * 8 * N, "blocks of 1": 1}[request.param]
    monkeypatch.setattr(rows_module, "_BLOCK_BYTES", size)


def memmap(tmp_path):
    stored = np.memmap(tmp_path / "A", dtype=np.float64, mode="w+", shape=(M, N))
    stored[:] = WHOLE
    stored.flush()
    return np.memmap(tmp_path / "A", dtype=np.float64, mode="r", shape=(M, N))


def cuts(*edges):
    return [WHOLE[start:stop] for start, stop in zip([0, *edges], [*edges, M], strict=True)]


def dask_array(A=WHOLE, chunks=(10, 2)):
    return pytest.importorskip("dask.array").from_array(A, chunks=chunks)


# Each makes rows anew, since some can be read once only.
KINDS = {
    "ndarray": lambda tmp_path: WHOLE,
    "Fortran": lambda tmp_path: np.asfortranarray(WHOLE),
    "negative strides": lambda tmp_path: WHOLE[::-1].copy()[::-1],
    "byte-swapped": lambda tmp_path: WHOLE.astype(">f8"),
    "memmap": memmap,
    "nested list": lambda tmp_path: WHOLE.tolist(),
    "csr": lambda tmp_path: sparse.csr_array(WHOLE),
    "csr matrix": lambda tmp_path: sparse.csr_matrix(WHOLE),
    "csc": lambda tmp_path: sparse.csc_array(WHOLE),
    "coo": lambda tmp_path: sparse.coo_array(WHOLE),
    "list of blocks": lambda tmp_path: cuts(1, 20),
    "generator of blocks": lambda tmp_path: iter(cuts(7, 8, 30)),
    "generator of rows": lambda tmp_path: iter(WHOLE),
    "generator of lists": lambda tmp_path: (row.tolist() for row in WHOLE),
    "blocks and rows": lambda tmp_path: (item for item in [WHOLE[:5], WHOLE[5], WHOLE[6:]]),
    "sparse blocks": lambda tmp_path: (sparse.csr_array(block) for block in cuts(3, 9)),
}


def dense(block):
    return block.toarray() if sparse.issparse(block) else to_numpy(block)


def gram(block, start):
    return block.T @ block


def check(make):
    """Hold blocks, map_reduce and map_rows of rows made by `make` against NumPy on the whole."""
    position = 0
    for start, block in make().blocks():
        assert start == position
        assert block.ndim == 2
        assert dense(block).dtype == np.float64
        assert_array_equal(dense(block), WHOLE[start : start + block.shape[0]])
        position += block.shape[0]
    assert position == M
    assert_allclose(dense(make().map_reduce(gram, operator.add)), WHOLE.T @ WHOLE, rtol=1e-12)
    # The combination keeps the order, and `start` is the number of the first row.
    starts = make().map_reduce(lambda block, start: [(start, block.shape[0])], operator.add)
    assert starts[0][0] == 0
    assert [start + size for start, size in starts] == [*(start for start, _ in starts[1:]), M]


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_blocks_and_map_reduce(self, kind, tmp_path):
        check(lambda: as_rows(KINDS[kind](tmp_path)))

    def test_map_rows(self, kind, tmp_path):
        def twice_and_number(block, start):
            return np.column_stack([2 * dense(block), start + np.arange(block.shape[0])])

        mapped = as_rows(KINDS[kind](tmp_path)).map_rows(twice_and_number)
        if not isinstance(mapped, np.ndarray):
            mapped = np.concatenate(list(mapped))
        assert_array_equal(mapped, np.column_stack([2 * WHOLE, np.arange(M)]))

    def test_input_is_not_changed(self, kind, tmp_path):
        before = WHOLE.copy()
        as_rows(KINDS[kind](tmp_path)).map_reduce(gram, operator.add)
        assert_array_equal(WHOLE, before)


@pytest.mark.usefixtures("block_bytes")
class TestArrays:
    def test_every_namespace(self, xp):
        A = xp.asarray(WHOLE)
        rows = as_rows(A)
        assert rows.shape == (M, N)
        assert rows.dtype == "float64"
        for _, block in rows.blocks():
            assert array_namespace(block) is array_namespace(A)
        check(lambda: as_rows(A))
        mapped = rows.map_rows(lambda block, start: 2 * block[:, :2])
        assert array_namespace(mapped) is array_namespace(A)
        assert_array_equal(to_numpy(mapped), 2 * WHOLE[:, :2])

    def test_other_device(self):
        strict = pytest.importorskip("array_api_strict")
        A = strict.asarray(WHOLE, device=strict.Device("device1"))
        mapped = as_rows(A).map_rows(lambda block, start: block)
        assert mapped.device == A.device
        assert_array_equal(to_numpy(mapped), WHOLE)

    def test_views_not_copies(self):
        for _, A in layouts(WHOLE):
            for _, block in as_rows(A).blocks():
                assert np.shares_memory(block, A)

    def test_one_axis(self, xp):
        rows = as_rows(xp.asarray(WHOLE[:, 0]))
        assert rows.shape == (M,)
        assert_array_equal(np.concatenate([to_numpy(block) for _, block in rows.blocks()]), WHOLE[:, 0])
        assert_array_equal(to_numpy(rows.map_rows(lambda block, start: -block)), -WHOLE[:, 0])

    @pytest.mark.parametrize("dtype", ["int8", "bool", "float16", "float32", "longdouble"])
    def test_dtypes(self, dtype):
        rows = as_rows(np.ones((M, N), dtype))
        expected = {"float16": "float32", "float32": "float32"}.get(dtype, "float64")
        assert rows.dtype == expected
        assert {block.dtype.name for _, block in rows.blocks()} == {expected}

    def test_sparse_results_stay_sparse(self):
        A = sparse_matrix(M, N, 0.4)
        mapped = as_rows(A).map_rows(lambda block, start: 2 * block)
        assert mapped.format == "csr"
        assert_array_equal(mapped.toarray(), 2 * A.toarray())

    def test_results_that_cannot_be_written(self):
        # Whether a block's result is writable must not decide whether it is kept.
        def sometimes_read_only(block, start):
            part = 2.0 * block
            part.flags.writeable = start % 8 == 0
            return part

        assert_array_equal(as_rows(WHOLE).map_rows(sometimes_read_only), 2 * WHOLE)


@pytest.mark.parametrize("multiple", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("kind", ["ndarray", "memmap", "csr"])
def test_multiple_of(multiple, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "_BLOCK_BYTES", 4 * 8 * N)
    blocks = list(as_rows(KINDS[kind](tmp_path)).blocks(multiple))
    assert all(start % multiple == 0 for start, _ in blocks)
    assert all(block.shape[0] % multiple == 0 for _, block in blocks[:-1])
    assert_array_equal(np.concatenate([dense(block) for _, block in blocks]), WHOLE)
    sizes = as_rows(WHOLE).map_reduce(lambda block, start: [block.shape[0]], operator.add, multiple_of=multiple)
    assert sum(sizes) == M


def test_a_block_is_neither_tiny_nor_everything():
    sizes = [block.nbytes for _, block in as_rows(np.zeros((5 * 2**20, 2), np.float32)).blocks()]
    assert len(sizes) > 1
    assert max(sizes) <= 2**25


# --- iterables ----------------------------------------------------------------------------------------


class TestIterables:
    def test_shape_is_known_at_the_end(self):
        rows = as_rows(iter(cuts(3)))
        assert rows.shape == (None, None)
        list(rows.blocks())
        assert rows.shape == (M, N)

    def test_generators_can_be_read_once(self):
        rows = as_rows((block for block in cuts(3)), "stream")
        list(rows.blocks())
        with pytest.raises(
            ValueError, match="stream is an iterator that was read already, and this needs another pass"
        ):
            list(rows.blocks())

    def test_lists_can_be_read_again(self):
        rows = as_rows(cuts(3))
        for _ in range(2):
            assert_allclose(rows.map_reduce(gram, operator.add), WHOLE.T @ WHOLE, rtol=1e-12)

    def test_widths_that_differ(self):
        blocks = [WHOLE[:3], WHOLE[3:5, :4]]
        with pytest.raises(
            ValueError, match=f"stream must yield blocks of one width, got 4 columns at row 3 after blocks of {N}"
        ):
            list(as_rows(iter(blocks), "stream").blocks())

    def test_blocks_without_rows_are_passed_over(self):
        starts = [start for start, _ in as_rows(iter([WHOLE[:0], WHOLE[:3], WHOLE[:0], WHOLE[3:]])).blocks()]
        assert starts == [0, 3]

    def test_no_block(self):
        with pytest.raises(ValueError, match="stream is empty: it yielded no block"):
            list(as_rows(iter([]), "stream").blocks())

    @pytest.mark.parametrize(
        ("item", "error", "message"),
        [
            (np.ones((2, 2, 2)), ValueError, "stream from row 3 on must be 1-d or 2-d"),
            (1.0, ValueError, "stream from row 3 on must be 1-d or 2-d"),
            ("text", TypeError, "stream from row 3 on must be a NumPy"),
            (np.array(["a"]), TypeError, "stream from row 3 on must hold numbers"),
            (np.ones((1, N)) * 1j, TypeError, "stream from row 3 on must be real"),
        ],
    )
    def test_blocks_are_checked(self, item, error, message):
        with pytest.raises(error, match=message):
            list(as_rows(iter([WHOLE[:3], item]), "stream", complex_ok=False).blocks())

    @pytest.mark.parametrize("library", ["array_api_strict", "torch"])
    def test_blocks_of_other_namespaces(self, library):
        xp = pytest.importorskip(library)
        rows = as_rows(xp.asarray(block) for block in cuts(3, 9))
        assert_allclose(to_numpy(rows.map_reduce(gram, operator.add)), WHOLE.T @ WHOLE, rtol=1e-12)


# --- dask ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("dask_scheduler")
class TestDask:
    # Functions are nested: workers get those by value, they cannot import this file.
    @pytest.mark.parametrize("chunks", [(M, N), (10, 2), (1, N), ((7, 0, 30), (N,))])
    def test_like_the_whole(self, chunks):
        def second_moments(block, start):
            return block.T @ block

        def twice_and_number(block, start):
            return np.column_stack([2 * block, start + np.arange(block.shape[0])])

        rows = as_rows(dask_array(chunks=chunks))
        assert rows.shape == (M, N)
        assert rows.dtype == "float64"
        assert_array_equal(np.concatenate([block for _, block in rows.blocks()]), WHOLE)
        assert_allclose(rows.map_reduce(second_moments, operator.add), WHOLE.T @ WHOLE, rtol=1e-12)
        mapped = rows.map_rows(twice_and_number)
        assert is_dask_array(mapped)
        assert mapped.shape == (M, N + 1)
        assert mapped.dtype == np.float64
        assert_array_equal(mapped.compute(), np.column_stack([2 * WHOLE, np.arange(M)]))

    def test_combination_keeps_the_order(self):
        starts = as_rows(dask_array(chunks=(1, N))).map_reduce(lambda block, start: [start], operator.add)
        assert starts == list(range(M))  # more blocks than one level of the tree combines

    def test_lazy_reduction(self):
        delayed = as_rows(dask_array()).map_reduce(lambda block, start: block.sum(), operator.add, compute=False)
        assert hasattr(delayed, "dask")
        assert_allclose(delayed.compute(), WHOLE.sum())

    def test_one_axis(self):
        rows = as_rows(dask_array(WHOLE[:, 0], chunks=10))
        assert_allclose(rows.map_reduce(lambda block, start: block.sum(), operator.add), WHOLE[:, 0].sum())
        assert_array_equal(rows.map_rows(lambda block, start: -block).compute(), -WHOLE[:, 0])

    def test_sparse_chunks(self):
        A = dask_array(chunks=(10, N)).map_blocks(sparse.csr_matrix)
        total = as_rows(A).map_reduce(lambda block, start: block.sum(), operator.add)
        assert_allclose(total, WHOLE.sum())

    def test_integers_become_float64(self):
        rows = as_rows(dask_array(np.arange(M * N, dtype=np.int32).reshape(M, N)))
        assert rows.dtype == "float64"
        assert rows.map_reduce(lambda block, start: {block.dtype.name}, operator.or_) == {"float64"}

    def test_unknown_chunks_are_refused(self):
        A = dask_array(chunks=(10, N))
        kept = A[A[:, 0] > 0]
        with pytest.raises(
            ValueError, match=r"A is a dask array of unknown chunk sizes; call A.compute_chunk_sizes\(\)"
        ):
            as_rows(kept)
        total = as_rows(kept.compute_chunk_sizes()).map_reduce(lambda block, start: block.sum(), operator.add)
        assert_allclose(total, WHOLE[WHOLE[:, 0] > 0].sum())

    def test_filters_may_leave_chunks_empty(self):
        A = dask_array(np.arange(40.0).reshape(20, 2), chunks=(5, 2))
        kept = A[A[:, 0] > 25].compute_chunk_sizes()
        assert kept.chunks[0][0] == 0
        rows = as_rows(kept)
        expected = np.arange(26.0, 40).reshape(-1, 2)
        assert rows.map_reduce(lambda block, start: [start], operator.add)[0] == 0
        assert_array_equal(np.concatenate([block for _, block in rows.blocks()]), expected)
        assert_array_equal(rows.map_rows(lambda block, start: block).compute(), expected)

    def test_row_of_a_nan_is_named(self):
        def strict_sum(block, start):
            check_finite(block, "A", start)
            return block.sum()

        A = WHOLE.copy()
        A[23, 1] = np.nan
        with pytest.raises(ValueError, match="A must be finite, got NaN or infinity in row 23"):
            as_rows(dask_array(A)).map_reduce(strict_sum, operator.add)


class TestDaskRefused:
    def test_empty(self):
        with pytest.raises(ValueError, match="A is empty"):
            as_rows(dask_array(np.ones((0, 3)), chunks=(1, 3)))

    def test_three_axes(self):
        with pytest.raises(ValueError, match="A must be 1-d or 2-d"):
            as_rows(dask_array(np.ones((2, 2, 2)), chunks=1))

    def test_dtypes(self):
        with pytest.raises(TypeError, match="A must hold numbers"):
            as_rows(dask_array(np.array([["a"]]), chunks=1))
        with pytest.raises(TypeError, match="A must be real"):
            as_rows(dask_array(np.ones((2, 2)) * 1j, chunks=1), complex_ok=False)


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("A", [None, "text", {1: 2}, 3, object()])
def test_no_rows(A):
    with pytest.raises((TypeError, ValueError), match="rows must be"):
        as_rows(A, "rows")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(library):
    frame = pytest.importorskip(library).DataFrame({"a": [1.0, 2.0]})
    with pytest.raises(TypeError, match=r"\.to_numpy\(\)"):
        as_rows(frame)


@pytest.mark.parametrize("A", [np.ones((2, 2, 2)), np.ones((0, 3)), np.ones((3, 0)), [], [[]]])
def test_wrong_shapes(A):
    with pytest.raises(ValueError, match="A (must be 1-d or 2-d|is empty)"):
        as_rows(A)


def test_complex_where_real_is_needed():
    with pytest.raises(TypeError, match="A must be real"):
        as_rows(WHOLE * 1j, complex_ok=False)
    assert as_rows(WHOLE * 1j).dtype == "complex128"


def test_the_base_class_has_no_rows():
    with pytest.raises(TypeError, match="abstract"):
        rows_module.Rows("A", True)
