"""The two-stage form: a left and a right factor, how they lie in the matrix, and the matrix itself."""

import numpy as np
from array_api_compat import is_numpy_array

from .._core.arrays import Array, namespace
from ._layout import Layout
from ._stages import Blocks, Chain, Gather

Form = tuple[Array, Array, Layout]  # left and right factor, and how they lie in the matrix


def two_stages(left: Array, right: Array, m: int, n: int) -> Chain:
    """Return the chain of left (…, J, p, K, r) and right (…, K, r, J, q), cut to m × n."""
    J, p, K, rank = left.shape[-4:]
    q = right.shape[-1]
    outer = Blocks(left, (*left.shape[:-4], 1, J, p, K * rank))
    chain: Chain = (outer, Blocks(right, (*right.shape[:-4], K, 1, rank * J, q)))
    if m < J * p:
        chain = (Gather(np.arange(m), J * p), *chain)
    if n < K * q:
        chain = (*chain, Gather(np.where(np.arange(K * q) < n, np.arange(K * q), -1), n))
    return chain


def two_stage_form(chain: Chain) -> Form | None:
    """Return left, right and layout of a chain of the two-stage form, None of any other."""
    m, n = chain[0].n_out, chain[-1].n_in
    if len(chain) > 2 and isinstance(chain[0], Gather) and chain[0]._run == chain[0].n_out:
        chain = chain[1:]
    if len(chain) > 2 and isinstance(chain[-1], Gather) and chain[-1]._run == chain[-1].n_in:
        chain = chain[:-1]
    if len(chain) != 2:
        return None
    outer, inner = chain
    if isinstance(outer, Gather) or isinstance(inner, Gather):
        return None
    one, J, p, inside = outer.form[-4:]
    K, one_too, outside, q = inner.form[-4:]
    rank, rest = divmod(outside, J)
    if (one, one_too) != (1, 1) or rest or rank * K != inside:
        return None
    batch = np.broadcast_shapes(outer.form[:-4], inner.form[:-4])
    return _shaped(outer, batch, J, p, K, rank), _shaped(inner, batch, K, rank, J, q), Layout(m, n, J, K, p, q)


def _shaped(stage: Blocks, batch: tuple[int, ...], *shape: int) -> Array:
    """Return the values as they are where they have that shape: PyTorch's leaves stay leaves."""
    values, xp = stage.values, namespace(stage.values)
    if tuple(values.shape) == (*batch, *shape):
        return values
    values = xp.reshape(values, (*stage.form[:-4], *shape))
    return values if stage.form[:-4] == batch else xp.broadcast_to(values, (*batch, *shape))


def dense_two_stage(left: Array, right: Array, cut: Layout, out: Array | None = None) -> Array:
    """Return the dense matrix; outer products go straight into their strided places where that can be."""
    xp = namespace(left)
    if is_numpy_array(left) and left.ndim == 4:
        full = np.empty((cut.p * cut.J, cut.K * cut.q), left.dtype) if out is None or cut.padded else out
        _outer(left, right, full.reshape(cut.p, cut.J, cut.K, cut.q))  # a view: each axis is cut by itself
        return full if full is out else placed(full[: cut.m, : cut.n], out)
    U = xp.permute_dims(left, (*range(left.ndim - 4), *(left.ndim + t for t in (-4, -2, -3, -1))))  # (…, J, K, p, r)
    V = xp.permute_dims(right, (*range(right.ndim - 4), *(right.ndim + t for t in (-2, -4, -3, -1))))  # (…, J, K, r, q)
    S = xp.matmul(U, V)  # (…, J, K, p, q)
    t = S.ndim - 4
    dense = xp.permute_dims(S, (*range(t), t + 2, t, t + 1, t + 3))
    dense = xp.reshape(dense, (*S.shape[:-4], cut.p * cut.J, cut.K * cut.q))
    return placed(dense[..., : cut.m, : cut.n], out)


def placed(dense: Array, out: Array | None) -> Array:
    """Return what was computed, in `out` where that was given."""
    if out is None:
        return dense
    out[...] = dense
    return out


def _outer(left: np.ndarray, right: np.ndarray, view: np.ndarray) -> None:
    """Write sum_s left[j, l, k, s] * right[k, s, j, i] to view (p, J, K, q)."""
    if left.shape[-1] == 1:
        rows = np.ascontiguousarray(right[:, 0].transpose(1, 0, 2))  # so that the inner loops run on
        np.multiply(left[..., 0].transpose(1, 0, 2)[..., None], rows, out=view)
    else:
        np.matmul(left.transpose(0, 2, 1, 3), right.transpose(2, 0, 1, 3), out=view.transpose(1, 2, 0, 3))
