"""What an algorithm knows at the end of a stream, before it is put into the caller's scale and library."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._core.arrays import Array, like, namespace, to_numpy


@dataclass
class Answer:
    """Directions relative to the shift, in the scale of the working rows."""

    components: Array  # (k, d), orthonormal rows
    values: np.ndarray  # (k,)
    error: float
    confidence: float | None
    value_relative_error: float
    gap: float  # ratio of the two leading energies
    method: str
    value_bounds: tuple[float, float] | None = None
    tail: float = 0.0
    energy: float = 0.0  # squared Frobenius norm of all rows, centred if they are
    mean: Any = None  # (d,), of all rows beyond the shift
    heavy_indices: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    saturated: bool = False
    tracked: Any = None  # (r, d): more directions, for a certificate


def ratio(first: float, second: float) -> float:
    """Return first / second, infinite where nothing is second."""
    return first / second if second > 0 else (float("inf") if first > 0 else 1.0)


def completed(V: Array, k: int) -> Array:
    """Return at least k orthonormal rows, of which the first are those of V (h, d); k ≤ d."""
    xp = namespace(V)
    while V.shape[0] < k:
        column = int(np.argmin(to_numpy(xp.sum(V * V, axis=0)))) if V.shape[0] else 0
        row = like(np.eye(1, V.shape[1], column), V)
        for _ in range(2):
            row = row - xp.matmul(xp.matmul(row, xp.matrix_transpose(V)), V)
        V = xp.concat([V, row / xp.linalg.vector_norm(row)], axis=0)
    return V


def gram_answer(gram: np.ndarray, k: int, method: str) -> Answer:
    """Return the answer of an exact Gram matrix."""
    w, U = np.linalg.eigh(gram)
    w, U = np.maximum(w[::-1], 0.0), np.ascontiguousarray(U[:, ::-1].T)
    second = float(w[1]) if w.size > 1 else 0.0
    gap = float(w[0]) - second
    error = min(1.0, 1e-15 * w.size * float(w[0]) / gap) if gap > 0 else 1.0
    return Answer(U[:k, :], w[:k], error, 1.0, 1e-15 * w.size, ratio(float(w[0]), second), method, tracked=U)


def rows_answer(rows: Array, k: int) -> Answer:
    """Return the exact answer of a few rows (h, d) in float64, their number below or above d."""
    xp = namespace(rows)
    _, s, Vh = xp.linalg.svd(rows, full_matrices=False)
    Vh = completed(Vh, k)
    w = np.zeros(max(k, s.shape[0]))
    w[: s.shape[0]] = to_numpy(s) ** 2
    second = float(w[1]) if w.size > 1 else 0.0
    gap = float(w[0]) - second
    error = min(1.0, 1e-15 * rows.shape[1] * float(w[0]) / gap) if gap > 0 else 1.0
    return Answer(Vh[:k, :], w[:k], error, 1.0, 1e-15 * rows.shape[1], ratio(float(w[0]), second), "exact", tracked=Vh)
