"""Results that act as matrices: products from both sides, SciPy's view of them, and files."""

import json
import os
import stat
import zipfile

import numpy as np
import pytest
from array_api_compat import array_namespace
from hypothesis import given
from hypothesis import strategies as st
from matrices import gaussian
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator, svds

from linalg_ml._core.arrays import like, to_numpy
from linalg_ml._core.factorization import Factorization


class Product(Factorization):
    """The product of two matrices, and things that a file must keep."""

    def __init__(self, left, right, **rest):
        self.left, self.right, self.rest = left, right, rest
        self.shape = (left.shape[0], right.shape[1])
        self.dtype = left.dtype

    def _factors(self, X):
        return (self.left, self.right) if sparse.issparse(X) else (like(self.left, X), like(self.right, X))

    def _apply(self, X):
        left, right = self._factors(X)
        return left @ (right @ X)

    def _apply_adjoint(self, Y):
        left, right = (A.conj().T if isinstance(A, np.ndarray) else A.T for A in self._factors(Y))
        return right @ (left @ Y)

    def _parts(self):
        return {"left": self.left, "right": self.right, **self.rest}

    @classmethod
    def _from_parts(cls, parts):
        return cls(**parts)


class Other(Product):
    pass


@pytest.fixture(params=[np.float32, np.float64, np.complex64, np.complex128])
def pair(request):
    """Give a map and the same as a matrix."""
    left, right = gaussian(6, 2, dtype=request.param), gaussian(2, 4, seed=1, dtype=request.param)
    return Product(left, right), left @ right


REAL = Product(gaussian(6, 2), gaussian(2, 4, seed=1))
DENSE = REAL.left @ REAL.right


def close(got, expected):
    tolerance = 50 * np.finfo(expected.dtype).eps
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert_allclose(to_numpy(got), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max(initial=0))


# --- products -----------------------------------------------------------------------------------------


class TestProducts:
    def test_what_it_is(self, pair):
        A, dense = pair
        assert A.shape == dense.shape == (6, 4)
        assert A.H.shape == (4, 6)
        assert A.ndim == A.H.ndim == 2
        assert A.H.dtype == A.dtype
        assert A.H.H is A
        assert repr(A.H) == f"{A!r}.H"
        close(A.to_dense(), dense)
        close(A.H.to_dense(), dense.conj().T)

    @pytest.mark.parametrize("columns", [(), (1,), (3,)])
    def test_from_both_sides(self, pair, columns):
        A, dense = pair
        X = gaussian(4, 3, seed=2, dtype=A.dtype)[:, : columns[0] if columns else 1].reshape(4, *columns)
        Y = gaussian(6, 3, seed=3, dtype=A.dtype)[:, : columns[0] if columns else 1].reshape(6, *columns)
        close(A @ X, dense @ X)
        close(A.H @ Y, dense.conj().T @ Y)
        close(Y.T @ A, Y.T @ dense)
        close(X.T @ A.H, X.T @ dense.conj().T)

    def test_named_products(self, pair):
        A, dense = pair
        X, Y = gaussian(4, 3, dtype=A.dtype), gaussian(6, 3, dtype=A.dtype)
        close(A.matvec(X[:, 0]), dense @ X[:, 0])
        close(A.matmat(X), dense @ X)
        close(A.rmatvec(Y[:, 0]), dense.conj().T @ Y[:, 0])
        close(A.rmatmat(Y), dense.conj().T @ Y)

    def test_transpose(self):
        close(REAL.T.to_dense(), DENSE.T)
        assert REAL.T.T is REAL
        complex_map = Product(REAL.left * 1j, REAL.right)
        with pytest.raises(TypeError, match=r"transpose of a complex map is not defined here; use \.H"):
            _ = complex_map.T

    def test_every_namespace(self, xp):
        X, Y = xp.asarray(gaussian(4, 3)), xp.asarray(gaussian(6, 3))
        y = Y[:, 0]
        for got, expected in [
            (REAL @ X, DENSE @ to_numpy(X)),
            (REAL.rmatvec(y), DENSE.T @ to_numpy(y)),
            # strict arrays refuse `Y.T @ REAL` themselves: the operator is asked directly
            (REAL.__rmatmul__(Y.T), to_numpy(Y).T @ DENSE),
            (REAL.__rmatmul__(y), to_numpy(y) @ DENSE),
        ]:
            assert array_namespace(got) is array_namespace(X)
            close(to_numpy(got), expected)

    def test_lists_and_sparse_from_the_left(self):
        close([1.0, 0, 0, 0, 0, 2.0] @ REAL, DENSE[0] + 2 * DENSE[5])
        Y = sparse.csr_array(np.eye(3, 6))
        close(Y @ REAL, DENSE[:3])

    def test_wrong_sizes_raise(self):
        for product in (lambda: REAL @ np.ones(5), lambda: np.ones(5) @ REAL, lambda: REAL.rmatvec(np.ones(4))):
            with pytest.raises(ValueError, match="match|mismatch|size"):
                product()


class TestSciPy:
    def test_aslinearoperator(self, pair):
        A, dense = pair
        operator = aslinearoperator(A)
        assert operator.shape == A.shape
        assert operator.dtype == A.dtype
        X, Y = gaussian(4, 3, dtype=A.dtype), gaussian(6, 3, dtype=A.dtype)
        close(operator @ X, dense @ X)
        close(operator.rmatmat(Y), dense.conj().T @ Y)
        close(operator.rmatvec(Y[:, 0]), dense.conj().T @ Y[:, 0])

    def test_svds(self):
        values = svds(aslinearoperator(REAL), k=1, return_singular_vectors=False, v0=np.ones(min(DENSE.shape)))
        assert_allclose(values, np.linalg.norm(DENSE, 2))


# --- files --------------------------------------------------------------------------------------------

REST = {"count": 3, "share": 0.1, "kind": "auto", "nothing": None, "flag": True, "shape_given": (6, 4)}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "product.npz"
    Product(REAL.left, REAL.right, **REST).save(path)
    return path


class TestFiles:
    def test_round_trip(self, saved, tmp_path):
        loaded = Product.load(saved)
        assert_array_equal(loaded.to_dense(), REAL.to_dense())
        assert {name: tuple(x) if isinstance(x, list) else x for name, x in loaded.rest.items()} == REST
        assert os.listdir(tmp_path) == ["product.npz"]

    @pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.int8, ">f8", bool])
    def test_dtypes(self, dtype, tmp_path):
        Product(REAL.left, REAL.right, extra=np.arange(3).astype(dtype)).save(tmp_path / "a.npz")
        extra = Product.load(str(tmp_path / "a.npz")).rest["extra"]
        assert extra.dtype == np.dtype(dtype)
        assert_array_equal(extra, np.arange(3).astype(dtype))

    def test_arrays_of_other_libraries(self, xp, tmp_path):
        Product(xp.asarray(REAL.left), xp.asarray(REAL.right)).save(tmp_path / "a.npz")
        assert_array_equal(Product.load(tmp_path / "a.npz").to_dense(), REAL.to_dense())

    def test_bytes(self):
        assert REAL.nbytes == (6 * 2 + 2 * 4) * 8

    def test_name_is_kept_as_it_is(self, tmp_path):
        REAL.save(tmp_path / "without_suffix")
        assert os.listdir(tmp_path) == ["without_suffix"]
        assert Product.load(tmp_path / "without_suffix").shape == (6, 4)

    def test_relative_paths(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        REAL.save("a.npz")
        assert Product.load("a.npz").shape == (6, 4)

    @pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
    def test_permissions_are_those_of_any_new_file(self, saved, tmp_path):
        (tmp_path / "plain").write_text("")
        assert stat.S_IMODE(os.stat(saved).st_mode) == stat.S_IMODE(os.stat(tmp_path / "plain").st_mode)

    def test_saving_again_replaces(self, saved):
        Product(2 * REAL.left, REAL.right).save(saved)
        assert_allclose(Product.load(saved).to_dense(), 2 * DENSE)


class TestFailures:
    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            Product.load(tmp_path / "nowhere.npz")

    def test_other_class(self, saved):
        with pytest.raises(ValueError, match="holds Product of format 1, not Other of format 1"):
            Other.load(saved)

    def test_other_format(self, tmp_path):
        header = json.dumps({"class": "Product", "format": 2, "parts": {}})
        np.savez(tmp_path / "a.npz", header=np.array(header))
        with pytest.raises(ValueError, match="holds Product of format 2"):
            Product.load(tmp_path / "a.npz")

    @pytest.mark.parametrize(
        "write",
        [
            pytest.param(lambda path: path.write_bytes(b""), id="empty"),
            pytest.param(lambda path: path.write_text("not an archive"), id="text"),
            pytest.param(lambda path: np.save(open(path, "wb"), np.ones(3)), id="npy"),  # noqa: SIM115
            pytest.param(lambda path: np.savez(open(path, "wb"), left=np.ones(3)), id="foreign npz"),  # noqa: SIM115
            pytest.param(lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "hello"), id="zip"),
        ],
    )
    def test_foreign_files(self, write, tmp_path):
        path = tmp_path / "foreign.npz"
        write(path)
        with pytest.raises(ValueError, match=r"foreign.npz' was not written by Product.save"):
            Product.load(path)

    @pytest.mark.parametrize("header", ["[]", "3", "null", "{}", "{", '{"class": "Product", "format": 1}'])
    def test_foreign_headers(self, header, tmp_path):
        np.savez(tmp_path / "a.npz", header=np.array(header))
        with pytest.raises(ValueError, match=r"was not written by Product.save"):
            Product.load(tmp_path / "a.npz")

    @pytest.mark.parametrize("size", [1, 10, 100, 500, 1000, -1, -30])
    def test_truncated(self, saved, size):
        saved.write_bytes(saved.read_bytes()[:size])
        with pytest.raises(ValueError, match="was not written by"):
            Product.load(saved)

    @given(position=st.integers(0, 10**6), value=st.integers(1, 255))
    def test_one_wrong_byte(self, saved, position, value):
        content = bytearray(saved.read_bytes())
        content[position % len(content)] ^= value
        broken = saved.with_name("broken.npz")
        broken.write_bytes(content)
        try:
            loaded = Product.load(broken)
        except ValueError:
            return
        assert_array_equal(loaded.to_dense(), REAL.to_dense())  # the byte was one that nobody reads

    def test_pickles_are_not_loaded(self, tmp_path):
        header = json.dumps({"class": "Product", "format": 1, "parts": {}})
        np.savez(tmp_path / "a.npz", header=np.array(header), left=np.array([{}], object), right=REAL.right)
        with pytest.raises(ValueError, match="allow_pickle"):
            Product.load(tmp_path / "a.npz")

    def test_pickles_are_not_written(self, saved):
        self.failing_save(saved, TypeError, extra=np.array([{}], object))

    def test_what_json_lacks(self, saved):
        self.failing_save(saved, TypeError, extra={1, 2})

    def test_a_disk_that_is_full(self, saved, monkeypatch):
        def half(file, **arrays):
            file.write(b"half of it")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", half)
        self.failing_save(saved, OSError)

    def test_interrupted(self, saved, monkeypatch):
        def interrupted(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", interrupted)
        self.failing_save(saved, KeyboardInterrupt)

    @staticmethod
    def failing_save(saved, error, **rest):
        """Check that a save that fails keeps what was there, and leaves nothing else."""
        before = saved.read_bytes()
        with pytest.raises(error):
            Product(2 * REAL.left, REAL.right, **rest).save(saved)
        assert saved.read_bytes() == before
        assert os.listdir(saved.parent) == [saved.name]
