"""Rows that are Kronecker products of the rows of two small matrices, never formed as a whole."""

from typing import Any

import numpy as np

from .._core.arrays import Array, cast, check_array, check_choice, check_same, compute_dtype, namespace
from ._formed import FormedMap


class KroneckerRows(FormedMap):
    """A tall matrix whose rows are Kronecker products of the rows of two small ones.

    As in regression on tensor grids, on products of features, and in polynomial kernels. `lstsq`,
    `sketched_lstsq`, `SRHT` and `SparseSign` accept it as data.

    Parameters
    ----------
    A1 : array_like, shape (n1, d1)
        First factor, real or complex.
    A2 : array_like, shape (n2, d2)
        Second factor, of the same library and device.
    pairing : {"all", "matched"}, default "all"
        "all": A1 ⊗ A2, row i·n2 + j is A1[i] ⊗ A2[j]. "matched" (n1 = n2): row i is A1[i] ⊗ A2[i].

    Attributes
    ----------
    shape : tuple
        (n1·n2, d1·d2), or (n1, d1·d2) if matched.
    dtype : dtype
        Of the products.
    pairing : str
        As given.

    Raises
    ------
    ValueError, TypeError
        If the factors do not fit each other, or are not finite.

    See Also
    --------
    TensorSRHT : the sketch for "all".
    numpy.kron : the matrix, formed.

    Notes
    -----
    Products with vectors cost n1·d1·d2 + n1·n2·d2 ("all") or n·d1·d2 ("matched"). Rows are formed 4 MB at a
    time where an algorithm needs them.

    References
    ----------
    .. [1] H. Diao, R. Jayaram, Z. Song, W. Sun, D. P. Woodruff, "Optimal sketching for Kronecker product
       regression and low rank approximation", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.sketching import KroneckerRows, lstsq
    >>> rng = np.random.default_rng(0)
    >>> K = KroneckerRows(rng.standard_normal((300, 4)), rng.standard_normal((200, 5)))
    >>> K.shape
    (60000, 20)
    >>> x = lstsq(K, K @ np.arange(20.0)).x
    >>> np.allclose(x, np.arange(20))
    True
    """

    def __init__(self, A1: Any, A2: Any, pairing: str = "all"):
        A1, A2 = check_array(A1, "A1", ndim=2), check_array(A2, "A2", ndim=2)
        check_same(A1=A1, A2=A2)
        self.pairing = check_choice(pairing, "pairing", ("all", "matched"))
        (n1, d1), (n2, d2) = A1.shape, A2.shape
        if pairing == "matched" and n1 != n2:
            raise ValueError(f"A1 and A2 must have as many rows as each other if matched, got {n1} and {n2}")
        self.shape = (n1 * n2 if pairing == "all" else n1, d1 * d2)
        name = np.result_type(compute_dtype(A1.dtype), compute_dtype(A2.dtype)).name
        self.dtype = np.dtype(name)
        self.factors = cast(A1, name), cast(A2, name)

    def __repr__(self) -> str:
        shapes = [tuple(A.shape) for A in self.factors]
        return f"KroneckerRows of {shapes[0]} and {shapes[1]}, pairing={self.pairing!r}"

    @property
    def example(self) -> Array:
        """An array of the library and on the device of the rows."""
        return self.factors[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the factors."""
        return sum(int(np.prod(A.shape)) for A in self.factors) * self.dtype.itemsize

    def rows(self, start: int, stop: int) -> Array:
        """Form rows `start` … `stop` - 1.

        Parameters
        ----------
        start, stop : int
            A range of row numbers.

        Returns
        -------
        block : array, shape (stop - start, d1·d2)
            Dense.
        """
        A1, A2 = self.factors
        xp = namespace(A1)
        if self.pairing == "matched":
            left, right = A1[start:stop, ...], A2[start:stop, ...]
        else:
            n2 = A2.shape[0]
            numbers = xp.arange(start, stop, device=A1.device)
            left, right = xp.take(A1, numbers // n2, axis=0), xp.take(A2, numbers % n2, axis=0)
        return xp.reshape(left[:, :, None] * right[:, None, :], (stop - start, self.shape[1]))

    def _apply(self, X: Any) -> Array:
        X = check_array(X, "X", ndim=(1, 2))
        A1, A2 = self.factors
        xp = check_same(A1=A1, X=X)
        if X.shape[0] != self.shape[1]:
            raise ValueError(f"X must have {self.shape[1]} rows for {self!r}, got shape {tuple(X.shape)}")
        k = 1 if X.ndim == 1 else X.shape[1]
        cube = xp.reshape(X, (A1.shape[1], A2.shape[1], k))
        half = xp.tensordot(A1, cube, axes=1)  # (n1, d2, k)
        if self.pairing == "matched":
            out = xp.sum(half * A2[:, :, None], axis=1)
        else:
            out = xp.reshape(xp.permute_dims(xp.tensordot(A2, half, axes=((1,), (1,))), (1, 0, 2)), (-1, k))
        return out[:, 0] if X.ndim == 1 else out

    def _apply_adjoint(self, Y: Any) -> Array:
        Y = check_array(Y, "Y", ndim=(1, 2))
        A1, A2 = self.factors
        xp = check_same(A1=A1, Y=Y)
        if Y.shape[0] != self.shape[0]:
            raise ValueError(
                f"Y must have {self.shape[0]} rows for the adjoint of {self!r}, got shape {tuple(Y.shape)}"
            )
        k = 1 if Y.ndim == 1 else Y.shape[1]
        B1, B2 = (xp.conj(A) if xp.isdtype(A.dtype, "complex floating") else A for A in (A1, A2))
        if self.pairing == "matched":
            weighted = B2[:, :, None] * xp.reshape(Y, (-1, 1, k))  # (n, d2, k)
            out = xp.tensordot(B1, weighted, axes=((0,), (0,)))
        else:
            cube = xp.reshape(Y, (A1.shape[0], A2.shape[0], k))
            half = xp.tensordot(B1, cube, axes=((0,), (0,)))  # (d1, n2, k)
            out = xp.permute_dims(xp.tensordot(B2, half, axes=((0,), (1,))), (1, 0, 2))
        out = xp.reshape(out, (-1, k))
        return out[:, 0] if Y.ndim == 1 else out

    def to_dense(self) -> Array:
        """Return the matrix, formed, in the library of the factors."""
        return self.rows(0, self.shape[0])
