"""The kernel of this wing: the best approximation of rank one of every slice of a matrix."""

import numpy as np

from .._core.arrays import Array, cast, like, namespace, real_dtype, to_numpy
from .._core.kernels import kernel
from .._core.scaling import half_exponents, times_powers

_SQUARINGS = 40  # squares of squares tell 1 from 1 - 1e-11; ties never end, and there any vector is as good
_PURE = 1 - 1e-4  # tr(H²)/tr(H)² from which three squarings more leave one vector


def _rank_one_cases():
    rng = np.random.default_rng(4)
    shapes = [
        (1, 1, 1, (1, 1)),
        (1, 7, 5, (7, 5)),  # slices of one number
        (2, 12, 15, (3, 5)),
        (1, 6, 40, (3, 2)),  # wide slices
        (1, 7, 13, (3, 4)),  # padded, the last column block with zeros alone
        (1, 9, 1, (2, 1)),
        (1, 36, 34, (2, 2)),
        (1, 81, 70, (1, 1)),  # beyond shared memory in float64
    ]
    for dtype in (np.float32, np.float64):
        for batch, m, n, nblocks in shapes:
            yield rng.standard_normal((batch, m, n)).astype(dtype), nblocks, 5
        member = rng.standard_normal((4, 6, 4, 1)) * rng.standard_normal((6, 4, 5))
        member[:, :, 1] = 0
        yield member.reshape(1, 24, 20).astype(dtype), (6, 4), 2**64 - 1
        spoilt = rng.standard_normal((1, 12, 12)).astype(dtype)
        spoilt[0, 4, 5], spoilt[0, 3, 11] = np.nan, np.inf
        yield spoilt, (3, 3), 0
        huge, least = float(np.finfo(dtype).max) / 1000, float(np.finfo(dtype).smallest_subnormal)
        yield (rng.standard_normal((1, 12, 12)) * huge).astype(dtype), (3, 4), 0
        yield ((100 * rng.standard_normal((1, 12, 12))).round() * least).astype(dtype), (3, 4), 0
        rotations = np.linalg.qr(rng.standard_normal((6, 8, 8)))[0]  # every vector is as good as any other
        yield rotations.reshape(2, 24, 8).astype(dtype), (3, 1), 0


@kernel(cases=_rank_one_cases, versions=("numba", "cupy"))
def rank_one(
    A: Array, nblocks: tuple[int, int], key: int
) -> tuple[Array, Array, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the best approximation of rank one of every slice, and how good it is.

    Slice (k, j) of block counts (J, K) has the entries A[…, l·J + j, k·q + i], l < p = ⌈m/J⌉, i < q = ⌈n/K⌉, zeros
    beyond the shape. Slices that hold NaN or infinity have norm NaN, and zeros elsewhere.

    Parameters
    ----------
    A : array, real, shape (batch, m, n)
        The matrices; the fast versions copy a share of one column block at a time.
    nblocks : pair of int
        (J, K).
    key : int
        Key of the random starts, of stream `STARTS` and id (b·K + k)·J + j; the reference draws none.

    Returns
    -------
    left, right : arrays, shapes (batch, J, p, K) and (batch, K, J, q)
        u √σ and √σ v, the entry of largest modulus of v positive; zeros for slices of zeros.
    sigma, gap, residual, norm : arrays of float64 on the host, shape (batch, K, J)
        σ; 1 - (σ₂/σ)², an estimate, 0 for slices of zeros; ‖S - left right‖_F of the factors as returned; ‖S‖_F.
    suspect : array of bool on the host, shape (batch, K, J)
        True where ‖S v‖² is not the eigenvalue that was found: another method must do this slice.
    """
    xp = namespace(A)
    S, finite = _slices(A, *nblocks)
    half = half_exponents(S)
    S = times_powers(S, -half, 2)
    v, theta = _leading_vector(S)
    u = xp.matmul(S, v[..., None])[..., 0]
    sigma = _norm(u, 1)
    root = like(np.sqrt(np.where(sigma > 0, sigma, 1)), S, S.dtype)[..., None]
    right = xp.where(root > 0, v * root, v) * like(sigma > 0, S, S.dtype)[..., None]
    left = u / root
    top = xp.take_along_axis(right, xp.argmax(xp.abs(right), axis=-1, keepdims=True), axis=-1)
    sign = xp.where(top < 0, -xp.ones_like(top), xp.ones_like(top))
    left, right = left * sign, right * sign
    rest = cast(S, "float64") - cast(left, "float64")[..., :, None] * cast(right, "float64")[..., None, :]
    second = _leading_vector(cast(rest, real_dtype(S)))[1]
    gap = np.where(sigma > 0, np.maximum(1 - second / np.where(theta > 0, theta, 1), 0), 0)
    power = np.ldexp(1.0, half)
    left, right = (times_powers(factor[..., None], half, 1)[..., 0] for factor in (left, right))
    norm = np.where(finite, _norm(S, 2) * power * power, np.nan)
    left = xp.permute_dims(left, (0, 2, 3, 1))
    return left, right, sigma * power * power, gap, _norm(rest, 2) * power * power, norm, np.zeros_like(finite)


def _slices(A: Array, J: int, K: int) -> tuple[Array, np.ndarray]:
    """Return the slices (batch, K, J, p, q), zeros for those that are not finite, and which are finite."""
    xp = namespace(A)
    batch, m, n = A.shape
    p, q = -(-m // J), -(-n // K)
    A = xp.concat([A, xp.zeros((batch, p * J - m, n), dtype=A.dtype)], axis=1)
    A = xp.concat([A, xp.zeros((batch, p * J, q * K - n), dtype=A.dtype)], axis=2)
    S = xp.permute_dims(xp.reshape(A, (batch, p, J, K, q)), (0, 3, 2, 1, 4))
    finite = xp.all(xp.isfinite(S), axis=(-2, -1))
    return xp.where(finite[..., None, None], S, xp.zeros_like(S)), to_numpy(finite)


def _norm(X: Array, axes: int) -> np.ndarray:
    """Return norms over the last axes of numbers near one, summed in float64."""
    xp = namespace(X)
    return np.sqrt(to_numpy(xp.sum(cast(X, "float64") ** 2, axis=tuple(range(-axes, 0)))))


def _leading_vector(S: Array) -> tuple[Array, np.ndarray]:
    """Return the leading right singular vector v of every slice (…, p, q), and ‖S v‖², by repeated squaring.

    Squares of H = SᵀS/tr, or of S Sᵀ where that is smaller, end in vvᵀ, or in a projector on several v that are all
    as good. One product with S itself takes away what rounding has left in H.
    """
    xp = namespace(S)
    St = xp.matrix_transpose(S)
    H = xp.matmul(St, S) if S.shape[-2] >= S.shape[-1] else xp.matmul(S, St)
    H = H / _trace(H)
    more = 3
    for _ in range(_SQUARINGS):
        H = xp.matmul(H, H)
        trace = _trace(H)
        H = H / trace
        if bool(xp.all(trace > _PURE)):
            more -= 1
            if more < 0:
                break
    longest = xp.argmax(xp.linalg.diagonal(H), axis=-1)
    v = xp.take_along_axis(H, longest[..., None, None], axis=-1)
    if S.shape[-2] >= S.shape[-1]:
        v = xp.matmul(S, v)
    v = xp.matmul(St, v / _length(v))[..., 0]
    v = v / _length(v[..., None])[..., 0]
    return v, _norm(xp.matmul(S, v[..., None])[..., 0], 1) ** 2


def _trace(H: Array) -> Array:
    """Return traces (…, 1, 1), ones for matrices of zeros."""
    trace = namespace(H).linalg.trace(H)
    return namespace(H).where(trace > 0, trace, trace * 0 + 1)[..., None, None]


def _length(v: Array) -> Array:
    """Return lengths of columns (…, n, 1) as (…, 1, 1), ones for columns of zeros."""
    xp = namespace(v)
    length = xp.sqrt(xp.sum(v * v, axis=-2, keepdims=True))
    return xp.where(length > 0, length, xp.ones_like(length))
