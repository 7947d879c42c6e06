"""Matrices of other kinds as Monarch matrices: Kronecker products, low rank, block-diagonal ones."""

from typing import Any

import numpy as np

from .._core.arrays import (
    Array,
    cast,
    check_array,
    check_same,
    compute_dtype,
    like,
    namespace,
)
from ._form import two_stages
from ._layout import check_size
from ._matrix import MonarchMatrix


def from_kronecker(A: Any, B: Any) -> MonarchMatrix:
    """Make the Kronecker product of two matrices as an exact Monarch matrix of rank 1.

    Parameters
    ----------
    A : array_like, shape (p, K)
        Left factor, of any array library.
    B : array_like, shape (J, q)
        Right factor, of the same library.

    Returns
    -------
    M : MonarchMatrix, shape (p*J, K*q)
        A ⊗ B, with nblocks (J, K). The factors are not copied where their dtypes agree; the blocks are repeated as
        views.

    Raises
    ------
    ValueError
        If a factor is empty, not finite or not 2-d, or they are of different libraries.
    TypeError
        If a factor holds no numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml import monarch
    >>> A, B = np.array([[1.0, 2.0]]), np.eye(2)
    >>> monarch.from_kronecker(A, B).to_dense()
    array([[1., 0., 2., 0.],
           [0., 1., 0., 2.]])
    """
    A, B = _of_one_dtype(A=check_array(A, "A", ndim=2), B=check_array(B, "B", ndim=2))
    xp = namespace(A)
    (p, K), (J, q) = A.shape, B.shape
    check_size(p, J, K, q)
    left = xp.broadcast_to(A[None, :, :, None], (J, p, K, 1))
    right = xp.broadcast_to(B[None, None, :, :], (K, 1, J, q))
    return MonarchMatrix._of(two_stages(left, right, p * J, K * q))


def from_lowrank(U: Any, V: Any) -> MonarchMatrix:
    """Make the product U V of a tall and a wide matrix as a Monarch matrix with one block.

    Parameters
    ----------
    U : array_like, shape (m, rank)
        Left factor, of any array library.
    V : array_like, shape (rank, n)
        Right factor, of the same library.

    Returns
    -------
    M : MonarchMatrix, shape (m, n)
        U V, with nblocks (1, 1); its factors are views of U and V where their dtypes agree.

    Raises
    ------
    ValueError
        If a factor is empty, not finite or not 2-d, or they do not fit each other, or are of different libraries.
    TypeError
        If a factor holds no numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml import monarch
    >>> monarch.from_lowrank(np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]])).to_dense()
    array([[3., 4.],
           [6., 8.]])
    """
    U, V = _of_one_dtype(U=check_array(U, "U", ndim=2), V=check_array(V, "V", ndim=2))
    if U.shape[1] != V.shape[0]:
        raise ValueError(f"U (m, rank) and V (rank, n) must fit each other, got {tuple(U.shape)} and {tuple(V.shape)}")
    m, n = U.shape[0], V.shape[1]
    check_size(m, n)
    return MonarchMatrix._of(two_stages(U[None, :, None, :], V[None, :, None, :], m, n))


def from_block_diagonal(B: Any) -> MonarchMatrix:
    """Make a block-diagonal matrix as an exact Monarch matrix of rank 1.

    Parameters
    ----------
    B : array_like, shape (K, s, q)
        The blocks, of any array library.

    Returns
    -------
    M : MonarchMatrix, shape (K*s, K*q)
        With nblocks (s, K): the right factor is a view of `B`, the left one the unit, repeated as a view.

    Raises
    ------
    ValueError
        If `B` is empty, not finite or not 3-d.
    TypeError
        If `B` holds no numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml import monarch
    >>> monarch.from_block_diagonal([[[1.0, 2.0]], [[3.0, 4.0]]]).to_dense()
    array([[1., 2., 0., 0.],
           [0., 0., 3., 4.]])
    """
    B = check_array(B, "B", ndim=3)
    xp = namespace(B)
    K, s, q = B.shape
    check_size(K, s, K, q)
    unit = like(np.eye(K), B, B.dtype)
    left = xp.broadcast_to(unit[None, :, :, None], (s, K, K, 1))
    return MonarchMatrix._of(two_stages(left, B[:, None, :, :], K * s, K * q))


def _of_one_dtype(**pair: Array) -> tuple[Array, ...]:
    xp = check_same(**pair)
    name = compute_dtype(xp.result_type(*pair.values()))
    return tuple(cast(X, name) for X in pair.values())
