"""Products of two chains: exact always, and in the two-stage form again where that is known."""

import numpy as np
from array_api_compat import is_numpy_array

from .._core.arrays import Array, cast, compute_dtype, like, namespace
from ._form import Form, two_stage_form, two_stages
from ._stages import Chain, first_blocks, joined, merged


def common(left: Chain, right: Chain) -> tuple[Chain, Chain]:
    """Bring both chains to one dtype."""
    values, others = first_blocks(left), first_blocks(right)
    dtype = compute_dtype(namespace(values).result_type(values, others))
    return tuple(stage.astype(dtype) for stage in left), tuple(stage.astype(dtype) for stage in right)


def promoted(chain: Chain, X: Array) -> tuple[Chain, Array]:
    """Bring chain and operand to one dtype, but in NumPy, whose products do so by themselves."""
    values = first_blocks(chain)
    if is_numpy_array(X) or X.dtype == values.dtype:
        return chain, X
    dtype = compute_dtype(namespace(X).result_type(X, values))
    return tuple(stage.astype(dtype) for stage in chain), cast(X, dtype)


def product(left: Chain, right: Chain) -> Chain:
    """Return the chain of a product, two-stage again where its factors are known to allow it."""
    a, b = two_stage_form(left), two_stage_form(right)
    if a is not None and b is not None:
        kronecker = _kronecker_product(a, b)
        if kronecker is not None:
            return kronecker
    outer, inner = _simplified(left, a), _simplified(right, b)
    if a is not None and len(inner) == 1:
        together = merged(left[-1], inner[0])
        if together is not None:
            return *left[:-1], together
    if b is not None and len(outer) == 1:
        together = merged(outer[0], right[0])
        if together is not None:
            return together, *right[1:]
    return joined(outer, inner)


def thin(form: Form) -> tuple[Array, Array]:
    """Return U (…, m, r) and V (…, r, n) of a matrix with nblocks (1, 1)."""
    left, right, cut = form
    return left[..., 0, : cut.m, 0, :], right[..., 0, :, 0, : cut.n]


def low_rank(U: Array, V: Array) -> Chain:
    """Return the chain, nblocks (1, 1), of U (…, m, r) times V (…, r, n)."""
    dtype = compute_dtype(namespace(U).result_type(U, V))
    U, V = cast(U, dtype), cast(V, dtype)
    return two_stages(U[..., None, :, None, :], V[..., None, :, None, :], U.shape[-2], V.shape[-1])


def _kronecker_product(a: Form, b: Form) -> Chain | None:
    """Return (A1 A2) ⊗ (B1 B2) for two Kronecker products whose factors can be multiplied, else None."""
    xp = namespace(a[0])
    for left, right, cut in (a, b):
        if not _fixed(left, right) or left.ndim != 4 or left.shape[-1] != 1 or cut.padded:
            return None
        if not bool(xp.all(left == left[:1, ...])) or not bool(xp.all(right == right[:1, ...])):
            return None
    A1, B1, A2, B2 = (part for left, right, _ in (a, b) for part in (left[0, :, :, 0], right[0, 0, :, :]))
    if A1.shape[1] != A2.shape[0]:
        return None
    A, B = A1 @ A2, B1 @ B2
    (p, K), (J, q) = A.shape, B.shape
    left = xp.broadcast_to(A[None, :, :, None], (J, p, K, 1))
    right = xp.broadcast_to(B[None, None, :, :], (K, 1, J, q))
    return two_stages(left, right, p * J, K * q)


def _simplified(chain: Chain, form: Form | None) -> Chain:
    """Return a two-stage matrix of which one factor is the unit as the other, a single stage; others as they are."""
    if form is None or len(chain) != 2 or form[0].ndim != 4:
        return chain
    left, right, cut = form
    if left.shape[-1] == 1 and cut.p == cut.K and _are_units(left[..., 0]):
        return (chain[1],)
    if left.shape[-1] == 1 and cut.q == cut.J and _are_units(right[:, 0, :, :]):
        return (chain[0],)
    return chain


def _are_units(W: Array) -> bool:
    """Tell whether all blocks (…, s, s) are the unit matrix, and will stay it."""
    unit = like(np.eye(W.shape[-1]), W, compute_dtype(W.dtype))
    return _fixed(W) and bool(namespace(W).all(unit == W))


def _fixed(*values: Array) -> bool:
    """Tell constants from PyTorch tensors that are being trained, whose present values prove nothing."""
    return not any(getattr(X, "requires_grad", False) for X in values)
