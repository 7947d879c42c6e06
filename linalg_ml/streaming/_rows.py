"""Rows as they arrive: their checks."""

import math
from typing import Any

import numpy as np

from .._core.arrays import Array, check_array, check_finite, is_sparse, namespace, to_numpy

_MOST = 2.0**100  # of a weight: products of four roots of it and four rows are numbers


def check_rows(block: Any, name: str, width: int | None, first: int, *, finite: bool) -> Array | None:
    """Return rows (b, d) of a stream, real, or None where there are none; `first` is the place of the first.

    They come as they are, in whatever dtype: what is large is converted in parts.
    """
    shape = getattr(block, "shape", None)
    if shape is not None and len(shape) == 2 and shape[0] == 0 and shape[1] > 0:
        _check_width(shape, name, width)
        return None
    rows = check_array(block, name, ndim=(1, 2), complex_ok=False, sparse_ok=True, finite=False, convert=False)
    if getattr(rows, "requires_grad", False):  # of PyTorch: nothing is differentiated here
        rows = rows.detach()
    if rows.ndim == 1:
        rows = namespace(rows).reshape(rows, (1, rows.shape[0]))
    _check_width(rows.shape, name, width)
    if finite:
        check_stream_finite(rows, name, first)
    return rows


def _check_width(shape: tuple[int, ...], name: str, width: int | None) -> None:
    if width is not None and shape[1] != width:
        raise ValueError(f"{name} must have {width} columns, as the stream has, got shape {tuple(shape)}")


def check_stream_finite(rows: Array, name: str, first: int) -> None:
    """Raise a ValueError that names the first bad row by its place in the stream, counted from 0."""
    check_finite(rows, f"{name}, counted over the whole stream,", first)


def check_weights(weights: Any, n_rows: int) -> np.ndarray | None:
    """Return sample weights (b,) on the host, float64, or None."""
    if weights is None:
        return None
    weights = to_numpy(check_array(weights, "sample_weight", ndim=(0, 1), complex_ok=False)).astype(np.float64)
    if weights.ndim == 0:
        weights = np.full(n_rows, float(weights))
    if weights.size != n_rows:
        raise ValueError(f"sample_weight must have one number a row, {n_rows}, got shape {weights.shape}")
    if weights.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weights.min():g}")
    positive = weights[weights > 0]
    if positive.size and (positive.min() < 1 / _MOST or positive.max() > _MOST):
        raise ValueError(
            f"sample_weight must lie between {1 / _MOST:.0e} and {_MOST:.0e}, or be zero, got {positive.min():g} to "
            f"{positive.max():g}; only ratios of weights matter to directions"
        )
    return weights


def leading_exponent(rows: Array, least: int) -> int | None:
    """Return the binary exponent of the first row that is not zero, 0 if it is moderate, None if all are zero."""
    data = rows.data if is_sparse(rows) else rows
    if not is_sparse(rows):
        xp = namespace(rows)
        peaks = to_numpy(xp.max(xp.abs(rows[:1, :]), axis=1))
        if not peaks[0]:
            peaks = to_numpy(xp.max(xp.abs(rows), axis=1))
    elif data.size:
        starts = rows.indptr[:-1][np.diff(rows.indptr) > 0]
        peaks = np.maximum.reduceat(np.abs(data), starts)
    else:
        return None
    peaks = peaks[peaks > 0]
    if not peaks.size:
        return None
    exponent = math.frexp(float(peaks[0]))[1]
    return exponent if abs(exponent) > least else 0


def library_of(rows: Any, sparse: bool) -> str:
    """Return what kind of rows these are, for messages and comparisons."""
    name = namespace(rows.data if is_sparse(rows) else rows).__name__.rpartition(".")[2]
    return ("sparse, of " if sparse else "of ") + name
