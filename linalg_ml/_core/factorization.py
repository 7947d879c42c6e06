"""The base of results that act as matrices."""

import json
import os
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from .arrays import Array, is_complex, is_sparse, namespace, to_numpy
from .files import replacing


class LinearMap(ABC):
    """Something with a shape that can be multiplied from the left and from the right.

    A subclass gives `shape`, `dtype`, `_apply` (the map times a vector or matrix) and `_apply_adjoint`.
    SciPy's `aslinearoperator` accepts it as it is.
    """

    __array_ufunc__ = None  # NumPy then leaves `ndarray @ self` to __rmatmul__
    shape: tuple[int, int]
    dtype: np.dtype

    @abstractmethod
    def _apply(self, X: Any) -> Any:
        """Return the map times a vector or matrix."""

    @abstractmethod
    def _apply_adjoint(self, Y: Any) -> Any:
        """Return the conjugate transpose times a vector or matrix."""

    @property
    def ndim(self) -> int:
        """Number of axes: 2."""
        return 2

    def __matmul__(self, X: Any) -> Any:
        return self._apply(X)

    def __rmatmul__(self, Y: Any) -> Any:
        """Return ``Y @ self``, by the adjoint of everything."""
        return _adjoint(self.H @ _adjoint(Y))

    def matvec(self, x: Array) -> Array:
        """Multiply a vector."""
        return self @ x

    def matmat(self, X: Array) -> Array:
        """Multiply a matrix."""
        return self @ X

    def rmatvec(self, y: Array) -> Array:
        """Multiply a vector by the adjoint."""
        return self.H @ y

    def rmatmat(self, Y: Array) -> Array:
        """Multiply a matrix by the adjoint."""
        return self.H @ Y

    @property
    def H(self) -> "LinearMap":
        """The adjoint (conjugate transpose), as a view."""
        return _Adjoint(self)

    @property
    def T(self) -> "LinearMap":
        """The transpose, as a view; of a real map it is the adjoint."""
        if np.issubdtype(self.dtype, np.complexfloating):
            raise TypeError("the transpose of a complex map is not defined here; use .H")
        return self.H

    def to_dense(self) -> np.ndarray:
        """Return the matrix as a NumPy array."""
        return self @ np.eye(self.shape[1], dtype=self.dtype)


def _adjoint(A: Any) -> Any:
    """Return the conjugate transpose of a matrix, the conjugate of a vector."""
    if not hasattr(A, "ndim"):
        A = np.asarray(A)
    if is_complex(A):
        A = A.conj() if is_sparse(A) else namespace(A).conj(A)
    return A.T if A.ndim == 2 else A


class _Adjoint(LinearMap):
    """The adjoint of a map, sharing all it holds."""

    def __init__(self, of: LinearMap):
        self._of = of
        self.shape = (of.shape[1], of.shape[0])
        self.dtype = of.dtype

    def _apply(self, X: Any) -> Any:
        return self._of._apply_adjoint(X)

    def _apply_adjoint(self, Y: Any) -> Any:
        return self._of._apply(Y)

    @property
    def H(self) -> LinearMap:
        return self._of

    @property
    def nbytes(self) -> int:
        return self._of.nbytes  # type: ignore[attr-defined]

    def to_dense(self) -> np.ndarray:
        return self._of.to_dense().conj().T

    def __repr__(self) -> str:
        return f"{self._of!r}.H"


class Factorization(LinearMap):
    """A map that is made of stored parts, and can be written to a file and read back.

    A subclass gives `_parts`, a dict of arrays, numbers, strings, tuples and None, and `_from_parts`.
    """

    @abstractmethod
    def _parts(self) -> dict[str, Any]:
        """Return all that makes this map."""

    @classmethod
    @abstractmethod
    def _from_parts(cls, parts: dict[str, Any]) -> Self:
        """Make the map of what `_parts` returned."""

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return sum(getattr(part, "nbytes", 0) for part in self._parts().values())

    def save(self, path: str | os.PathLike) -> None:
        """Write to `path` as an .npz file without pickles; a file that is there is replaced in one step.

        Arrays of other libraries are written as NumPy arrays.
        """
        arrays: dict[str, Any] = {}
        rest = {}
        for name, part in self._parts().items():
            if hasattr(part, "__array_namespace__") or hasattr(part, "shape"):
                arrays[name] = to_numpy(part)
                if arrays[name].dtype.hasobject:
                    raise TypeError(f"{name} holds Python objects, which only a pickle could store")
            else:
                rest[name] = part
        header = json.dumps({"class": type(self).__name__, "format": 1, "parts": rest})
        with replacing(path) as file:
            np.savez(file, header=np.array(header), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read what `save` wrote; anything else is a ValueError that says why."""
        with open(path, "rb") as stored:  # what the system says of a path is not ours to reword
            try:
                with np.load(stored, allow_pickle=False) as file:
                    header = json.loads(str(file["header"]))
                    arrays = {name: file[name] for name in file.files if name != "header"}
                found, version, rest = header["class"], header["format"], header["parts"]
            except Exception as error:  # zipfile has half a dozen kinds of them for files that are damaged
                why = f"was not written by {cls.__name__}.save, or is damaged: {error}"
                raise ValueError(f"{os.fspath(path)!r} {why}") from error
        if found != cls.__name__ or version != 1:
            raise ValueError(f"{os.fspath(path)!r} holds {found} of format {version}, not {cls.__name__} of format 1")
        return cls._from_parts({**rest, **arrays})
