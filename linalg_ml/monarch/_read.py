"""What users give to make a matrix of: factors, shapes and stages, and what may be wrong with them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from .._core.arrays import Array, check_array, check_finite, check_int, check_same, compute_dtype, to_numpy
from ._layout import check_size
from ._stages import Blocks, Chain, Gather, blocks, check_gather


def check_factors(left: Any, right: Any) -> tuple[Array, Array]:
    """Return the factors if they fit each other; their numbers are looked at last."""
    left, right = (check_array(X, name, finite=False) for X, name in ((left, "left"), (right, "right")))
    check_same(left=left, right=right)
    if left.dtype != right.dtype:
        raise TypeError(f"left and right must have one dtype, got {left.dtype} and {right.dtype}")
    fits = left.ndim >= 4 and right.ndim == left.ndim and left.shape[:-4] == right.shape[:-4]
    if fits:
        J, p, K, rank = left.shape[-4:]
        fits = tuple(right.shape[-4:-1]) == (K, rank, J)
    if not fits:
        raise ValueError(
            "left (..., J, p, K, rank) and right (..., K, rank, J, q) must fit each other, got shapes "
            f"{tuple(left.shape)} and {tuple(right.shape)}"
        )
    check_size(J * p, K * right.shape[-1])
    check_finite(left, "left")
    check_finite(right, "right")
    return left, right


def check_shape(shape: Any) -> tuple[int, int]:
    if not isinstance(shape, Sequence) or len(shape) != 2:
        raise ValueError(f"shape must be a pair (rows, columns), got {shape!r}")
    m, n = (check_int(size, "shape") for size in shape)
    return m, n


def chain_of(stages: list[Any], shape: tuple[int, int] | None) -> Chain:
    """Make a checked chain of the arrays that `MonarchMatrix.stages` gives."""
    made = [_stage(values, t) for t, values in enumerate(stages)]
    kept = {f"stage {t}": stage.values for t, stage in enumerate(made) if isinstance(stage, Blocks)}
    if not kept:
        raise ValueError("stages must hold at least one block stage, a floating array of shape (..., a, d, O, I)")
    check_same(**kept)
    names = {compute_dtype(values.dtype) for values in kept.values()}
    if len(names) > 1:
        raise TypeError(f"stages must have one dtype, got {', '.join(sorted(names))}")
    batches = [stage.form[:-4] for stage in made if isinstance(stage, Blocks)]
    try:
        np.broadcast_shapes(*batches)
    except ValueError:
        raise ValueError(f"the batch axes of stages must broadcast, got {', '.join(map(str, batches))}") from None
    chain = _linked(made, shape)
    for name, values in kept.items():
        check_finite(values, name)
    return chain


def _linked(made: list[Blocks | np.ndarray], shape: tuple[int, int] | None) -> Chain:
    """Check that each stage takes what the one before it gives, which tells a gather the length of its input."""
    chain: list[Blocks | Gather] = []
    n = None if shape is None else shape[1]
    for t, stage in reversed(list(enumerate(made))):
        if not isinstance(stage, Blocks):
            stage = check_gather(stage, int(stage.max(initial=-1)) + 1 if n is None else n, t)
        elif n is not None and stage.n_in != n:
            raise ValueError(f"stage {t} takes {stage.n_in} numbers, but gets {n}")
        chain.append(stage)
        n = stage.n_out
    if shape is not None and n != shape[0]:
        raise ValueError(f"shape must have {n} rows, which the stages give, got {shape[0]}")
    check_size(chain[0].n_in, chain[-1].n_out)
    return tuple(reversed(chain))


def _stage(values: Any, position: int) -> Blocks | np.ndarray:
    """Return a block stage, or the index of a gather."""
    name = f"stage {position}"
    raw = values if is_array_api_obj(values) else np.asarray(values)
    if raw.ndim == 1 and raw.shape[0] and compute_dtype(raw.dtype, name) == "float64":
        host = to_numpy(raw)
        if host.dtype.kind in "iu":
            return host.astype(np.int64)
    stage = check_array(raw, name, finite=False)
    if stage.ndim < 4:
        raise ValueError(
            f"{name} must be a block stage (..., a, d, O, I) or a gather, 1-d of integers, got shape "
            f"{tuple(raw.shape)} and dtype {raw.dtype}"
        )
    return blocks(stage)
