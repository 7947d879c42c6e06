"""Systems, inverses and determinants, stage by stage where the blocks are square, else densely."""

from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from .._core.arrays import Array, all_finite, device, like, namespace, real_dtype, to_numpy
from ._stages import Blocks, Chain, Gather, blocks, first_blocks, parity, swapped, to_dense

_DENSE = 4096  # rows up to which a chain of other blocks is factored densely


def solve(chain: Chain, b: Array) -> Array:
    """Return x with M x = b, for b (…, n, B) of the dtype of the chain."""
    x = b
    for t, stage in enumerate(_square_stages(chain)):
        if isinstance(stage, Gather):
            x = stage.T.apply(x)
        else:
            _check_regular(stage, t)
            x = _solve_stage(stage, x)
    return x


def inverse(chain: Chain) -> Chain:
    """Return the chain of the inverse."""
    inverted = []
    for t, stage in enumerate(_square_stages(chain)):
        inverted.append(stage.T if isinstance(stage, Gather) else blocks(_inverse_of(stage, t)))
    return tuple(reversed(inverted))


def slogdet(chain: Chain) -> tuple[Any, Any]:
    """Return sign and log|det|: the permutations inside a block stage are a similarity and have no sign."""
    values = first_blocks(chain)
    xp = namespace(values)
    sign: Any = xp.ones((), dtype=values.dtype, device=device(values))
    logabsdet: Any = like(np.zeros(()), values, real_dtype(values))
    for stage in _square_stages(chain):
        if isinstance(stage, Gather):
            sign = sign * parity(stage.index)
        else:
            signs, logs = xp.linalg.slogdet(stage.W)
            sign = sign * xp.prod(signs, axis=(-2, -1))
            logabsdet = logabsdet + xp.sum(logs, axis=(-2, -1))
    return sign, logabsdet


def _square_stages(chain: Chain) -> Chain:
    """Return the chain if its blocks are square, else the whole matrix as one block, if it is small enough."""
    if all(stage.square for stage in chain):
        return chain
    n = chain[0].n_out
    if n > _DENSE:
        raise LinAlgError(
            f"the blocks are not square (rank above one, or padding), so the matrix would have to be factored densely, "
            f"which is done up to {_DENSE} rows; got {n}"
        )
    return (blocks(to_dense(chain, 0, n)[..., None, None, :, :]),)


def _solve_stage(stage: Blocks, x: Array) -> Array:
    xp = namespace(x)
    a, d, o, _ = stage.form[-4:]
    columns = x.shape[-1]
    split = xp.reshape(x, (*x.shape[:-2], a, o, d, columns))
    solved = swapped(xp.linalg.solve(stage.W, swapped(split)))
    return xp.reshape(solved, (*solved.shape[:-4], a * o * d, columns))


def _inverse_of(stage: Blocks, position: int) -> Array:
    """Return the inverse of every block, if it can be written down."""
    scaled, rows, columns = _check_regular(stage, position)
    transpose = namespace(scaled).matrix_transpose
    with np.errstate(over="ignore"):
        inverted = scaled / transpose(rows) / transpose(columns)
    if not all_finite(inverted):
        _refuse(~namespace(inverted).isfinite(inverted), position, "too small: its inverse overflows")
    return inverted


def _check_regular(stage: Blocks, position: int) -> tuple[Array, Array, Array]:
    """Name the first block that is singular to working precision; else return their inverses as far as they are known.

    Judged after rows and columns are scaled to one, for a graded diagonal block is as regular as the unit; returned are
    the inverses of the scaled blocks, and the scales of rows (…, O, 1) and columns (…, 1, I).
    """
    W = stage.W
    xp = namespace(W)
    rows = xp.max(xp.abs(W), axis=-1, keepdims=True)
    _refuse(rows == 0, position)
    scaled = W / rows
    columns = xp.max(xp.abs(scaled), axis=-2, keepdims=True)
    _refuse(columns == 0, position)
    scaled = scaled / columns
    try:
        inverted = xp.linalg.inv(scaled)
    except Exception as error:  # each library has its own for it, and none says which block
        _refuse((xp.linalg.slogdet(scaled)[0] == 0)[..., None, None], position)
        raise LinAlgError(f"factor {position} has a block that cannot be inverted: {error}") from error
    condition = _one_norm(scaled) * _one_norm(inverted)
    eps = float(np.finfo(real_dtype(W)).eps)
    _refuse(~(condition * eps < 1), position)
    return inverted, rows, columns


def _one_norm(W: Array) -> Array:
    xp = namespace(W)
    return xp.max(xp.sum(xp.abs(W), axis=-2, keepdims=True), axis=-1, keepdims=True)


def _refuse(bad: Array, position: int, why: str = "singular to working precision") -> None:
    """Raise for the first block (…, a, d) with a True in `bad` (…, a, d, x, y)."""
    found = np.argwhere(to_numpy(bad))
    if found.size:
        *batch, a, d, _, _ = (int(i) for i in found[0])
        where = f"block ({a}, {d})" + f" of matrix {tuple(batch)}" * bool(batch)
        raise LinAlgError(f"factor {position}: {where} is {why}")
