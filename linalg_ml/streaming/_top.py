"""Leading eigenvectors of data at hand: one pass, and one more for a certificate."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from array_api_compat import is_dask_array

from .._core.arrays import Array, cast, is_sparse, like, namespace
from .._core.progress import progress
from .._core.random import RNG
from .._core.rows import Rows, as_rows
from ._blocks import to_host
from ._finish import signed
from ._result import TopEigenvectorResult
from ._stream import TopEigenvectorStream
from ._subspace import orthonormal_basis

_AT_ONCE = 2**25  # bytes of rows in memory


def top_eigenvector(
    rows: Any,
    *,
    n_components: int = 1,
    method: str = "auto",
    order: str = "random",
    center: bool = False,
    sample_weight: Any = None,
    n_oversamples: int = 7,
    block_size: int = 128,
    max_heavy: int = 64,
    max_memory: int | None = None,
    certify: bool = False,
    rng: RNG = None,
    verbose: bool = False,
) -> TopEigenvectorResult:
    """Find the leading eigenvectors of AᵀA in one pass over the rows of A, in memory for a few hundred of them.

    Parameters
    ----------
    rows : array, memmap, CSR matrix, dask array, or iterable of rows and blocks; shape (n, d)
        Real, finite. A generator may be of unknown length and is read once; the partitions of a dask array are read
        where they lie, and merged.
    n_components : int, default 1
        Number k of directions.
    method : {"auto", "subspace", "random-order", "oja", "frequent-directions", "exact"}, default "auto"
        "auto": "exact", the d × d Gram matrix, where that takes no more memory than the alternative (d ≤ 230 with the
        defaults) or fits `max_memory`; else "subspace", tail-corrected subspace iteration with heavy rows kept aside,
        by far the most accurate on rows in random order. "random-order": the algorithm of the theorem [1]_.
        "oja": a grid of learning rates, any order [2]_, one direction. "frequent-directions": a deterministic sketch
        with a certificate, any order.
    order : {"random", "arbitrary"}, default "random"
        "arbitrary": Frequent Directions, 32 rows or as many as `max_memory` allows, run beside "subspace" and answer
        where they certainly hold more energy, or err less than it claims.
    center : bool, default False
        Take rows about their mean, exactly.
    sample_weight : array, shape (n,), optional
        Weights ≥ 0 of the rows; not for iterables.
    n_oversamples : int, default 7
        Directions tracked beyond k; fewer are faster, and less accurate on decaying spectra.
    block_size : int, default 128
        Rows B of a block; part of the definition.
    max_heavy : int, default 64
        Rows H of largest norm that are kept aside.
    max_memory : int, optional
        Bytes of state allowed.
    certify : bool, default False
        Read the rows once more, improve the answer and bound its error; not for generators.
    rng : None, int or numpy.random.Generator, optional
        Random directions where data give none.
    verbose : bool, default False
        Show a progress bar.

    Returns
    -------
    result : TopEigenvectorResult
        With `vector`, `value`, `error`, …

    Raises
    ------
    ValueError
        If there are no rows, one is not finite (named), widths differ, or an argument is out of range.
    TypeError
        If these are no real numbers.

    Warns
    -----
    RuntimeWarning
        If the rows look sorted, there may be more heavy rows than room, or the direction is ill-determined.

    See Also
    --------
    TopEigenvectorStream : for rows that arrive.
    StreamingPCA : the scikit-learn estimator.

    Notes
    -----
    `error` bounds 1 - <v, v₁>² for the exact v₁ of the rows given. For "subspace" it is an estimate made in the same
    pass, for rows in random order; a test on the norms warns where they are not (a change of direction at equal norms
    goes unnoticed). Constant-factor gaps σ₁²/σ₂² need random order: in arbitrary order o(d²) numbers cannot do it [2]_.
    Heavy rows must be kept, for any algorithm [1]_.

    Cost: 4(k + 7)d + 2d operations a row. State: (3(k + 7) + H + B + 14) d numbers of float64, independent of n.

    References
    ----------
    .. [1] P. Kacham, D. P. Woodruff, "Approximating the top eigenvector in random order streams", NeurIPS 2024.
    .. [2] E. Price, Z. Xun, "Spectral guarantees for adversarial streaming PCA", FOCS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.streaming import top_eigenvector
    >>> rows = np.random.default_rng(0).standard_normal((20000, 300)) * np.append(2.0, np.ones(299))
    >>> result = top_eigenvector(rows, rng=0)
    >>> exact = np.linalg.eigh(rows.T @ rows)[1][:, -1]
    >>> result.method, bool(1 - (result.vector @ exact) ** 2 <= result.error < 1e-2)
    ('subspace', True)
    """
    stream = TopEigenvectorStream(
        n_components=n_components, method=method, order=order, center=center, n_oversamples=n_oversamples,
        block_size=block_size, max_heavy=max_heavy, max_memory=max_memory, rng=rng,
    )  # fmt: skip
    source = as_rows(rows, "rows", complex_ok=False)
    if len(source.shape) != 2:
        raise ValueError(f"rows must be 2-d, or an iterable of rows or blocks, got an array of shape {source.shape}")
    again = source.shape[0] is not None
    if certify and not again:
        raise ValueError("certify=True reads the rows twice, which an iterable does not allow; give an array")
    weights = _weights(sample_weight, source)
    if is_dask_array(rows):
        stream = source.map_reduce(lambda block, at: _of_block(stream, block, at, weights), _merged)
    else:
        for at, block in progress(source.blocks(_portion(rows, stream)), "rows", verbose=verbose):
            stream.update(block, None if weights is None else weights[at : at + block.shape[0]])
    if not stream.n_rows:
        raise ValueError("rows is empty: at least one row is needed")
    result = stream.result()
    return certified(result, stream, source, weights) if certify else result


def _portion(rows: Any, stream: TopEigenvectorStream) -> int:
    """Return the multiple of which rows are handed over: many at once where that copies nothing."""
    block = stream._settings.block_size
    if not hasattr(rows, "shape"):
        return 1  # as they come: the stream lets them wait itself
    plain = type(rows) is np.ndarray and rows.dtype in (np.float32, np.float64) and rows.ndim == 2
    return block * max(1, _AT_ONCE // (block * rows[:1].nbytes)) if plain and rows.size else block


def _weights(sample_weight: Any, source: Rows) -> np.ndarray | None:
    from ._rows import check_weights

    if sample_weight is None:
        return None
    n_rows = source.shape[0]
    if n_rows is None:
        raise ValueError("sample_weight needs rows of known number; give an array, or use TopEigenvectorStream.update")
    return check_weights(sample_weight, n_rows)


def _of_block(empty: TopEigenvectorStream, block: Array, at: int, weights: np.ndarray | None) -> TopEigenvectorStream:
    """Return the stream of one partition."""
    return empty.copy().update(block, None if weights is None else weights[at : at + block.shape[0]])


def _merged(a: TopEigenvectorStream, b: TopEigenvectorStream) -> TopEigenvectorStream:
    return a.copy().merge(b)


# --- a certificate ----------------------------------------------------------------------------------------


def certified(
    result: TopEigenvectorResult, stream: TopEigenvectorStream, source: Rows, weights: np.ndarray | None
) -> TopEigenvectorResult:
    """Multiply AᵀA once by all that is tracked, and take the best vector of that space, with its residual bound."""
    power = stream._exponent or 0
    if 0 < result.frobenius_sq < math.inf:
        power = math.frexp(result.frobenius_sq**0.5)[1]
    scale = math.ldexp(1.0, min(max(power, -1000), 1000))  # exact, and near the norm of the rows
    tracked = orthonormal_basis(_tracked(stream, result))
    mean = None if result.mean is None else cast(result.mean, "float64")
    products = _product(source, tracked, mean, scale, weights)
    xp = namespace(tracked)
    H = to_host(xp.matmul(products, xp.matrix_transpose(tracked)))
    theta, U = np.linalg.eigh((H + H.T) / 2)
    theta, turn = theta[::-1], np.ascontiguousarray(U[:, ::-1].T)
    vectors = xp.matmul(like(turn, tracked), tracked)
    images = xp.matmul(like(turn, tracked), products)
    residual = to_host(xp.linalg.vector_norm(images - like(theta, vectors)[:, None] * vectors, axis=1))
    gap = float(theta[0] - theta[1] - residual[1]) if theta.size > 1 else float(theta[0])
    error = min(1.0, (float(residual[0]) / gap) ** 2 + 1e-15) if gap > 0 else 1.0
    k = result.components.shape[0]
    name = str(result.components.dtype).rpartition(".")[2]
    components = cast(signed(vectors[:k, :]), name)
    with np.errstate(over="ignore"):
        values = np.maximum(theta[:k], 0.0) * scale * scale
    relative = float(residual[0] / theta[0]) if theta[0] > 0 else 0.0
    return replace(
        result, vector=components[0, :], components=components, value=float(values[0]), values=values, error=error,
        confidence=None, value_relative_error=relative, value_bounds=None,
        gap_estimate=float(theta[0] / theta[1]) if theta.size > 1 and theta[1] > 0 else result.gap_estimate,
    )  # fmt: skip


def _tracked(stream: TopEigenvectorStream, result: TopEigenvectorResult) -> Array:
    """Return the answer and all other directions the stream knows."""
    final = stream.copy()
    final._release()
    answer = final._engine.answer(final._intake, stream._settings.n_components)
    own = cast(result.components, "float64")
    if answer.tracked is None:
        return own
    xp = namespace(own)
    return xp.concat([own, answer.tracked[: stream._plan.size, :]], axis=0)  # type: ignore[union-attr]


def _product(source: Rows, V: Array, mean: Array | None, scale: float, weights: np.ndarray | None) -> Array:
    """Return V AᵀA / scale², about the mean, with weights; one pass."""

    def of(block: Array, at: int) -> Array:
        if is_sparse(block):
            Y = (block @ V.T) / scale - (0 if mean is None else V @ mean / scale)
        else:
            xp = namespace(block)
            X = cast(block, "float64") if mean is None else cast(block, "float64") - mean
            X = X / scale
            Y = xp.matmul(X, xp.matrix_transpose(V))
        Z = Y if weights is None else Y * like(weights[at : at + block.shape[0]], Y)[:, None]
        if not is_sparse(block):
            return xp.matmul(xp.matrix_transpose(Z), X)
        image = (block.T @ Z).T / scale
        return image if mean is None else image - np.outer(Z.sum(axis=0), mean) / scale

    return source.map_reduce(of, lambda a, b: a + b)
