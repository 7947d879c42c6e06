"""The nearest two-stage matrix: an independent truncated singular value decomposition of every slice."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import is_numpy_array

from .._core.arrays import Array, check_finite, is_complex, namespace
from .._linalg.estimates import exact_norm
from ._certificate import certificate
from ._compact import merge_slices
from ._form import two_stages
from ._kernels import rank_one
from ._layout import Layout
from ._matrix import MonarchMatrix
from ._slices import panels, truncate

_TOGETHER = 2**22  # bytes of slices


class Found(NamedTuple):
    """Factors, and for each slice (…, K, J) what is known of it."""

    left: Array  # (…, J, p, K, r)
    right: Array  # (…, K, r, J, q)
    sigma: np.ndarray  # (…, K, J, r)
    gap: np.ndarray
    residual: np.ndarray
    norm: np.ndarray


def assembled(A: Array, cut: Layout, found: Found, method: str, *, certify: bool) -> MonarchMatrix:
    error, norm = (exact_norm(norms) for norms in (found.residual, found.norm))
    relative = error / norm if 0 < norm < math.inf else _ratio(found.residual, found.norm)
    facts: dict[str, Any] = {
        "error": error,
        "relative_error": relative,
        "singular_values": found.sigma,
        "gap": found.gap,
        "n_iter": 0,
        "method": method,
    }
    M = MonarchMatrix._of(two_stages(found.left, found.right, cut.m, cut.n), **facts)
    if certify:
        M.certificate = certificate(A, M)
    return M


def _ratio(residuals: np.ndarray, norms: np.ndarray) -> float:
    """Return the ratio of the norms of all, of which each may be a number where that of all is too large to be one."""
    error, norm = (exact_norm(np.ldexp(values, -64)) for values in (residuals, norms))
    return error / norm if norm else 0.0


def nearest(A: Array, cut: Layout, rank: int, method: str, key: int, *, finite: bool) -> tuple[Found, str]:
    """Return the factors nearest to A (…, m, n), in its dtype of computation, and the method used."""
    if rank == 1 and method == "auto" and not is_complex(A):
        return _by_lanczos(A, cut, key, finite=finite)
    return _by_decomposition(A, cut, rank, "gram" if method == "auto" else method, finite=finite)


def _by_decomposition(A: Array, cut: Layout, rank: int, method: str, *, finite: bool) -> tuple[Found, str]:
    """Decompose the slices, on the host one column block after the other, elsewhere all at once."""
    if not is_numpy_array(A):
        S = namespace(A).stack([panel for _, panel in panels(A, cut, finite=finite)], axis=-4)
        of = truncate(S, rank, method)
        return Found(*merge_slices(of.U, of.V), of.sigma, of.gap, of.residual, of.norm), method
    batch = A.shape[:-2]
    left = np.empty((*batch, cut.J, cut.p, cut.K, rank), A.dtype)
    right = np.empty((*batch, cut.K, rank, cut.J, cut.q), A.dtype)
    sigma = np.empty((*batch, cut.K, cut.J, rank))
    gap, residual, norm = np.empty((3, *batch, cut.K, cut.J))
    for k, panel in panels(A, cut, finite=finite):
        for j in _groups(cut, panel):
            of = truncate(panel[..., j, :, :], rank, method)
            left[..., j, :, k, :] = of.U
            right[..., k, :, j, :] = np.swapaxes(of.V, -3, -2)
            sigma[..., k, j, :] = of.sigma
            gap[..., k, j], residual[..., k, j], norm[..., k, j] = of.gap, of.residual, of.norm
    return Found(left, right, sigma, gap, residual, norm), method


def _groups(cut: Layout, panel: np.ndarray) -> Iterator[slice]:
    """Yield slices of a panel that are decomposed together, for the copies that this takes."""
    step = max(1, _TOGETHER // (panel.nbytes // cut.J))
    for start in range(0, cut.J, step):
        yield slice(start, start + step)


def _by_lanczos(A: Array, cut: Layout, key: int, *, finite: bool) -> tuple[Found, str]:
    """Find the leading pair of every slice by the kernel, and check what it says."""
    xp = namespace(A)
    batch = A.shape[:-2]
    stack = A if A.ndim == 3 else xp.reshape(A, (math.prod(batch), *A.shape[-2:]))
    left, right, sigma, gap, residual, norm, suspect = rank_one(stack, cut.nblocks, key)
    if finite and not np.isfinite(norm).all():
        check_finite(A, "A")
    for b, k, j in np.argwhere(suspect):
        of = truncate(_slice(stack, cut, b, k, j), 1)
        left[b, j, :, k], right[b, k, j, :] = of.U[:, 0], of.V[0, :]
        sigma[b, k, j], gap[b, k, j], residual[b, k, j] = of.sigma[0], of.gap, of.residual
    left = xp.reshape(left, (*batch, cut.J, cut.p, cut.K, 1))
    right = xp.reshape(right, (*batch, cut.K, 1, cut.J, cut.q))
    per_slice = (*batch, cut.K, cut.J)
    sigma, gap, residual, norm = sigma.reshape(*per_slice, 1), *(x.reshape(per_slice) for x in (gap, residual, norm))
    used = "squaring" if rank_one.choose((stack,)) == "reference" else "lanczos"
    return Found(left, right, sigma, gap, residual, norm), used


def _slice(stack: Array, cut: Layout, b: int, k: int, j: int) -> Array:
    """Return one slice, padded; through a panel of its column block."""
    columns = cut._replace(K=1)
    part = stack[b, :, k * cut.q : (k + 1) * cut.q]
    return next(panels(part, columns, finite=False))[1][j, :, :]
