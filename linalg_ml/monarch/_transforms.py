"""Transforms and other structured matrices as exact chains of stages, their input permutation included.

All angles are integers over a denominator until the last step, so that no entry is off by more than a rounding.
"""

import math
import operator
from collections.abc import Collection
from typing import Any

import numpy as np
import scipy.linalg

from .._core.arrays import (
    cast,
    check_array,
    check_choice,
    check_int,
    is_complex,
    like,
    namespace,
    real_dtype,
)
from ._form import two_stages
from ._layout import check_size, largest_divisor
from ._matrix import MonarchMatrix
from ._order import one_tuple
from ._stages import Blocks, Chain, Gather, blocks, transposed

_REAL = ("float32", "float64")
_COMPLEX = ("complex64", "complex128")


def dft(
    n: int,
    nblocks: int | tuple[int, int] | None = None,
    *,
    order: int = 2,
    digits: tuple[int, ...] | None = None,
    dtype: Any = "complex128",
) -> MonarchMatrix:
    """Make the discrete Fourier transform as an exact Monarch matrix.

    Parameters
    ----------
    n : int
        Length.
    nblocks : int or (int, int), optional
        K, a divisor of n, or (n/K, K): the K blocks of the stage that is applied first are n/K × n/K, the others K × K.
        By default the largest divisor ≤ √n.
    order : int, default 2
        Number of stages: n is split into so many factors > 1, those of the least sum.
    digits : tuple of int, optional
        The factors themselves, instead of `order` and `nblocks`.
    dtype : {"complex128", "complex64"}, default "complex128"
        Of the entries, which are computed in double precision.

    Returns
    -------
    F : MonarchMatrix, shape (n, n)
        ``F @ x`` is ``scipy.fft.fft(x, axis=0)``. Its stages: as many block stages, and a gather, which sorts the input
        by the remainder of its index (reverses its digits); none where that changes nothing.

    Raises
    ------
    ValueError
        If `nblocks` or `digits` do not fit n, or n has no `order` factors > 1, or more than one of them is given.
    TypeError
        If `n` is no integer.

    See Also
    --------
    dct : the cosine transforms.
    circulant : convolutions.

    Notes
    -----
    The decomposition of Cooley and Tukey, for any n; a prime is one dense block. Without the gather the Fourier matrix
    is as far from Monarch matrices as a random one. A product with B columns takes 2nB·(sum of the digits) complex
    operations: more than an FFT has, but they are matrix products.

    References
    ----------
    .. [1] T. Dao et al., "Monarch: expressive structured matrices for efficient and accurate training", ICML 2022,
       Section 3.1.
    .. [2] D. Y. Fu et al., "Monarch Mixer: a simple sub-quadratic GEMM-based architecture", NeurIPS 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml import monarch
    >>> F = monarch.dft(60)
    >>> x = np.random.default_rng(0).standard_normal(60)
    >>> bool(np.allclose(F @ x, np.fft.fft(x)))
    True
    >>> monarch.dft(64, order=6)
    <MonarchMatrix 64 × 64, 7 stages, 768 parameters>
    """
    name = _dtype_name(dtype, _COMPLEX)
    sizes = _sizes(n, nblocks, order, digits)
    return MonarchMatrix._of((*_fourier(sizes, name), *_sorting(_reversed_digits(sizes))))


def dct(
    n: int,
    type: int = 2,
    norm: str | None = None,
    nblocks: int | tuple[int, int] | None = None,
    *,
    dtype: Any = "float64",
) -> MonarchMatrix:
    """Make a discrete cosine transform as an exact Monarch matrix of rank 2.

    Parameters
    ----------
    n : int
        Length.
    type : {2, 3, 4}, default 2
        DCT-II, DCT-III or DCT-IV.
    norm : {None, "ortho"}, default None
        As in `scipy.fft.dct`: None for the plain sums, "ortho" for an orthogonal matrix.
    nblocks : int or (int, int), optional
        K, a divisor of n, or (n/K, K). By default the largest divisor ≤ √n.
    dtype : {"float64", "float32"}, default "float64"
        Of the entries, which are computed in double precision.

    Returns
    -------
    C : MonarchMatrix, shape (n, n)
        ``C @ x`` is ``scipy.fft.dct(x, type, axis=0, norm=norm)``. Two block stages of rank 2 and, where it is not the
        identity, a gather.

    Raises
    ------
    ValueError
        If `type` or `norm` is none of these, or `nblocks` does not fit n.
    TypeError
        If `n` is no integer.

    See Also
    --------
    dft : the Fourier transform.

    Notes
    -----
    Makhoul's permutation, even places up and odd places down, makes the transform the real part of a Fourier matrix
    between diagonal ones. The diagonals go into the factors, and the real part of a product of rank 1 has rank 2.
    Type 3 is the transpose of type 2.

    References
    ----------
    .. [1] J. Makhoul, "A fast cosine transform in one and two dimensions", IEEE Transactions on Acoustics, Speech and
       Signal Processing 28 (1980), 27-34.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import fft
    >>> from linalg_ml import monarch
    >>> x = np.random.default_rng(0).standard_normal(60)
    >>> bool(np.allclose(monarch.dct(60, type=4) @ x, fft.dct(x, type=4)))
    True
    """
    name = _dtype_name(dtype, _REAL)
    if type not in (2, 3, 4):
        raise ValueError(f"type must be 2, 3 or 4, got {type!r}")
    if norm is not None:
        check_choice(norm, "norm", ("ortho",))
    K, _ = _sizes(n, nblocks, 2, None)
    left, right = _cosine_factors(n, K, type, norm)
    order = np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)[::-1]])
    stages = two_stages(left.astype(name), right.astype(name), n, n)
    chain: Chain = (*stages, *_sorting(order[_reversed_digits((K, n // K))]))
    return MonarchMatrix._of(transposed(chain) if type == 3 else chain)


def hadamard(
    n: int,
    nblocks: int | tuple[int, int] | None = None,
    *,
    order: int = 2,
    digits: tuple[int, ...] | None = None,
    dtype: Any = "float64",
) -> MonarchMatrix:
    """Make the Hadamard matrix of Sylvester's order as an exact Monarch matrix.

    Parameters
    ----------
    n : int
        Length, a power of two.
    nblocks : int or (int, int), optional
        K, a power of two up to n, or (n/K, K): the matrix is H_K ⊗ H_{n/K}. By default the largest K ≤ √n.
    order : int, default 2
        Number of stages.
    digits : tuple of int, optional
        Sizes of the Kronecker factors, instead of `order` and `nblocks`.
    dtype : {"float64", "float32"}, default "float64"
        Of the entries.

    Returns
    -------
    H : MonarchMatrix, shape (n, n)
        Entries 1 and -1, as `scipy.linalg.hadamard`.

    Raises
    ------
    ValueError
        If n is no power of two, or `nblocks`, `order` or `digits` do not fit it.
    TypeError
        If `n` is no integer.

    See Also
    --------
    from_kronecker : any Kronecker product.

    Notes
    -----
    A product with B columns takes nB·(sum of the digits) additions: n log₂ n of them for digits of 2, as the fast
    transform, but larger digits make fewer passes over memory.

    Examples
    --------
    >>> from linalg_ml import monarch
    >>> monarch.hadamard(4).to_dense()
    array([[ 1.,  1.,  1.,  1.],
           [ 1., -1.,  1., -1.],
           [ 1.,  1., -1., -1.],
           [ 1., -1., -1.,  1.]])
    """
    name = _dtype_name(dtype, _REAL)
    n = check_int(n, "n")
    if n & (n - 1):
        raise ValueError(f"n must be a power of two, got {n}")
    sizes = _sizes(n, nblocks, order, digits)
    stages, before = [], 1
    for size in sizes:
        after = n // before // size
        form = (before, after, size, size)
        stages.append(Blocks(np.broadcast_to(scipy.linalg.hadamard(size, dtype=name), form), form))
        before *= size
    return MonarchMatrix._of(tuple(stages))


def circulant(c: Any) -> MonarchMatrix:
    """Make a circulant matrix, a convolution, as an exact chain of Monarch stages.

    Parameters
    ----------
    c : array_like, shape (n,)
        The first column, real or complex, of any array library.

    Returns
    -------
    C : MonarchMatrix, shape (n, n)
        ``C[i, j] = c[(i - j) % n]``. Its stages are complex; of real `c` it is a real matrix, and a product with real
        input is real.

    Raises
    ------
    ValueError
        If `c` is empty, not finite, or not 1-d.
    TypeError
        If `c` holds no numbers.

    See Also
    --------
    dft : the Fourier transform that diagonalises it.

    Notes
    -----
    F^H diag(fft(c)/n) F for the Fourier matrix F = L R P of `dft`. Its middle, L^H diag L, is a block stage again, so
    the chain has three block stages, R^H, that one and R, between P^T and P: K + 2n/K complex numbers a row, for the
    largest divisor K ≤ √n. A prime n gives dense blocks. Accurate to rounding relative to the norm of the matrix.

    References
    ----------
    .. [1] T. Dao et al., "Monarch: expressive structured matrices for efficient and accurate training", ICML 2022,
       Section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml import monarch
    >>> C = monarch.circulant([1.0, 2.0, 3.0, 4.0])
    >>> C @ np.array([1.0, 0.0, 0.0, 0.0])
    array([1., 2., 3., 4.])
    """
    c = check_array(c, "c", ndim=1)
    xp = namespace(c)
    name = "complex64" if real_dtype(c) == "float32" else "complex128"
    n = c.shape[0]
    check_size(n, n)
    K = largest_divisor(n)
    sizes = (K, n // K)
    outer, inner = _fourier(sizes, name)
    L = like(outer.values[0, ...], c)  # (J, p, K)
    spectrum = xp.permute_dims(xp.reshape(cast(xp.fft.fft(cast(c / n, name)), name), (K, n // K)), (1, 0))
    middle = xp.matmul(xp.conj(xp.matrix_transpose(L)), spectrum[:, :, None] * L)
    R = like(inner.values[0, 0, ...], c)
    form = inner.form
    right, left = (Blocks(xp.broadcast_to(W, form), form) for W in (R, xp.conj(R)))  # R is symmetric
    gathers = _sorting(_reversed_digits(sizes))
    chain = (*transposed(gathers), left, blocks(middle[None, ...]), right, *gathers)
    return MonarchMatrix._of(chain, takes_real=not is_complex(c))


# --- sizes ------------------------------------------------------------------------------------------------------


def inner_blocks(n: int, nblocks: Any) -> int:
    """Return K, the number of blocks of the stage applied first to n numbers, of K, (n/K, K) or None."""
    if nblocks is None:
        return largest_divisor(n)
    accepted = f"an integer K that divides {n}, or a pair ({n}/K, K)"
    pair = tuple(nblocks) if isinstance(nblocks, list | tuple) else (None, nblocks)
    try:
        J, K = (None if item is None else operator.index(item) for item in pair)
    except (TypeError, ValueError):
        raise ValueError(f"nblocks must be {accepted}, got {nblocks!r}") from None
    if K is None or K < 1 or n % K or (J is not None and n != J * K):
        raise ValueError(f"nblocks must be {accepted}, got {nblocks!r}")
    return K


def _sizes(n: Any, nblocks: Any, order: Any, digits: Any) -> tuple[int, ...]:
    """Return the digits of 0 … n-1 for the stages of a transform, most significant first in the output."""
    n = check_int(n, "n")
    check_size(n, n)
    if order == 2 and digits is None:
        K = inner_blocks(n, nblocks)
        return K, n // K
    if nblocks is not None:
        raise ValueError(f"give nblocks or {'order' if digits is None else 'digits'}, not both")
    return one_tuple(n, order, digits)


def _dtype_name(dtype: Any, accepted: Collection[str]) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype).rpartition(".")[2]  # of another library
    if name not in accepted:
        raise ValueError(f"dtype must be {' or '.join(accepted)}, got {dtype!r}")
    return name


# --- Fourier ----------------------------------------------------------------------------------------------------


def _roots(exponents: np.ndarray, n: int) -> np.ndarray:
    """Return exp(-2πi e/n) for integers e, through angles of at most an eighth of a turn: exact where it can be."""
    if exponents.size > n:  # each angle once
        return _roots(np.arange(n), n)[exponents % n]
    quarters, rest = np.divmod(4 * (exponents % n), n)
    near = 2 * rest <= n
    angle = np.pi / 2 * np.where(near, rest, n - rest) / n
    cos, sin = np.where(near, np.cos(angle), np.sin(angle)), np.where(near, np.sin(angle), np.cos(angle))
    return np.array([1, -1j, -1, 1j])[quarters] * (cos - 1j * sin)


def _fourier(sizes: tuple[int, ...], dtype: str) -> tuple[Blocks, ...]:
    """Return the block stages of the Fourier transform of input with reversed digits.

    Digit c of the input has the weight i_1⋯i_{t-1}, so stage t has entries ω^(c y) with ω = exp(-2πi/(i_t⋯i_p)), which
    sees of the output y only the digits from t on.
    """
    stages, before, n = [], 1, math.prod(sizes)
    for size in sizes:
        after = n // size
        table = _roots(np.arange(n), n).astype(dtype)
        outputs = np.arange(size) * after + np.arange(after)[:, None]
        core = table[outputs[:, :, None] * np.arange(size) % n]
        form = (before, after, size, size)
        stages.append(Blocks(np.broadcast_to(core, form), form))
        before, n = before * size, after
    return tuple(stages)


def _reversed_digits(sizes: tuple[int, ...]) -> np.ndarray:
    """Return which input goes to each column: the digits of the column, read from the other end."""
    return np.arange(math.prod(sizes)).reshape(sizes[::-1]).T.ravel()


def _sorting(index: np.ndarray) -> Chain:
    """Return the gather of a permutation, nothing for the identity."""
    return () if np.array_equal(index, np.arange(index.size)) else (Gather(index, index.size),)


def _cosine_factors(n: int, K: int, type: int, norm: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return left (J, p, K, 2) and right (K, 2, J, q) of types 2 and 4, and of the transpose of type 3.

    They are the real form of D F E, a Fourier matrix between diagonals, whose angles are added as integers.
    """
    q = n // K
    row, k = np.arange(n).reshape(K, q).T[:, :, None], np.arange(K)
    j, i = np.arange(q)[:, None], np.arange(q)
    if type == 4:
        left = _roots(8 * k * row + 2 * row + 1, 8 * n)
        u = i * K + k[:, None, None]
        right = _roots(2 * K * i * j + u + n * (2 * u >= n), 2 * n)
    else:
        left = _roots((4 * k + 1) * row, 4 * n)
        right = np.broadcast_to(_roots(i * j, q), (K, q, q))
    scale = np.full(n, 2.0)
    if norm is not None:
        scale /= math.sqrt(2 * n)
        scale[0] /= math.sqrt(2) if type != 4 else 1
    elif type == 3:
        scale[0] = 1
    left = left * scale[row]
    return np.stack([left.real, -left.imag], axis=-1), np.stack([right.real, right.imag], axis=1)
