"""Compression by Monarch matrices: a weight becomes its projection, stored as two factors."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, cast

import numpy as np

from .._linalg.estimates import exact_norm
from ..monarch import project
from ..monarch._safetensors import HALVES, LEFT, MONARCH, RIGHT, factor_shapes, numbers, rounded
from .compress import Compressed

_PIECE = 2**16  # numbers worked on at a time, if slices are no larger


class Monarch:
    """What `compress` asks of a method, see `Method` there."""

    key = MONARCH

    def __init__(self, nblocks: int, rank: int | None):
        for value, option in ((nblocks, "--nblocks"), (rank, "--rank")):
            if value is not None and value < 1:
                raise ValueError(f"{option} must be at least 1, got {value}")
        self._blocks, self._fixed_rank = nblocks, rank

    def obstacle(self, shape: tuple[int, ...]) -> str | None:
        if any(size % self._blocks for size in shape):
            return f"{self._blocks} blocks do not divide the shape"
        after = sum(map(math.prod, self.parts(shape).values())) if all(shape) else 0
        return None if after < math.prod(shape) else "would not get smaller"

    def parts(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        left, right = factor_shapes(shape, (self._blocks, self._blocks), self._rank(shape))
        return {LEFT: left, RIGHT: right}

    def entry(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"shape": shape, "nblocks": (self._blocks, self._blocks), "rank": self._rank(shape)}

    def _rank(self, shape: tuple[int, ...]) -> int:
        """Return the rank asked for, or the one that halves the parameters of a square matrix."""
        return self._fixed_rank or max(1, min(shape) // self._blocks // self._blocks)

    def compress(self, stored: np.ndarray, dtype: str) -> Compressed:
        """Project a matrix piece by piece: its slices are independent, and few at a time need little memory."""
        left, right = (np.empty(shape, stored.dtype) for shape in self.parts(stored.shape).values())
        _, p, _, rank = left.shape
        q = right.shape[-1]
        slices = stored.reshape(p, self._blocks, self._blocks, q)
        errors, norms = [], []
        for j, k in self._pieces(p * q, whole=rank == 1 and dtype not in HALVES):
            some = numbers(slices[:, j, k], dtype)
            A = some.reshape(p * some.shape[1], -1)
            M = project(A, nblocks=some.shape[1:3], rank=rank, rng=0)
            left[j, :, k], right[k, :, j] = rounded(M.left, dtype), rounded(M.right, dtype)
            rounds = dtype in HALVES
            errors.append(_residual(A, left[j, :, k], right[k, :, j], dtype) if rounds else cast("float", M.error))
            norms.append(_norm(A))
        return Compressed({LEFT: left, RIGHT: right}, math.hypot(*errors), math.hypot(*norms))

    def _pieces(self, size: int, whole: bool) -> Iterator[tuple[slice, slice]]:
        """Yield ranges of j and k: everything where that takes no memory to speak of, else some slices of one k."""
        if whole:
            yield slice(None), slice(None)
            return
        step = max(1, _PIECE // size)
        for k, j in product(range(self._blocks), range(0, self._blocks, step)):
            yield slice(j, j + step), slice(k, k + 1)


def _residual(A: np.ndarray, left: np.ndarray, right: np.ndarray, dtype: str) -> float:
    """Return ‖A - M‖_F of the factors, of one column block, as stored: in double precision, some rows at a time."""
    J, p = left.shape[:2]
    q = A.shape[1]
    U, V = (numbers(factor, dtype).astype(float) for factor in (left[:, :, 0], right[0].swapaxes(0, 1)))
    step = max(1, _PIECE // (J * q))
    norms = []
    for start in range(0, p, step):
        stop = min(start + step, p)
        approximation = (U[:, start:stop] @ V).swapaxes(0, 1).reshape(-1, q)  # in the order of A: j is fastest
        norms.append(exact_norm(A[start * J : stop * J] - approximation))
    return math.hypot(*norms)


def _norm(A: np.ndarray) -> float:
    """Return ‖A‖_F, without a copy of A in double precision."""
    step = max(1, _PIECE // A.shape[1])
    return math.hypot(*(exact_norm(A[start : start + step].astype(float)) for start in range(0, len(A), step)))
