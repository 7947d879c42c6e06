"""From an algorithm's answer to the caller's scale, library and dtype, with the warnings that belong to it."""

import math
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.arrays import Array, cast, like, namespace
from ._answer import Answer
from ._blocks import to_host
from ._result import TopEigenvectorResult

if TYPE_CHECKING:
    from ._stream import TopEigenvectorStream

_SORTED = 1e-6  # p-value of the order test below which a stream is no shuffled one


def finished(stream: "TopEigenvectorStream", answer: Answer, memory: int) -> TopEigenvectorResult:
    """Return the result, and warn of what may be wrong with it."""
    k = stream._settings.n_components
    if not answer.energy > _rounding(stream):
        answer = _nothing(stream, answer, k)
    pvalue = stream._order.pvalue
    confidence = answer.confidence
    if answer.method == "subspace" and pvalue < _SORTED:
        confidence = None
    _warn(answer, pvalue, stream._settings.order)
    values, bounds = np.asarray(answer.values, np.float64), answer.value_bounds
    components = cast(signed(answer.components), stream._dtype)
    error, doubt = _rounded(stream, answer)
    if bounds is not None:
        bounds = (bounds[0] * (1 - doubt[1]), bounds[1] * (1 + doubt[1]))
    values = _energy(stream, values)
    return TopEigenvectorResult(
        vector=components[0, :],
        value=float(values[0]),
        components=components,
        values=values,
        error=error,
        confidence=confidence,
        value_relative_error=doubt[0],
        value_bounds=None if bounds is None else tuple(_energy(stream, np.array(bounds)).tolist()),
        gap_estimate=float(answer.gap),
        n_rows=stream.n_rows,
        n_heavy=int(answer.heavy_indices.size),
        heavy_indices=answer.heavy_indices,
        heap_saturated=bool(answer.saturated),
        order_pvalue=pvalue,
        frobenius_sq=float(_energy(stream, answer.energy)),
        tail=float(_energy(stream, answer.tail)),
        mean=_mean(stream, answer),
        memory_used=memory,
        method=answer.method,
    )


def _rounding(stream: "TopEigenvectorStream") -> float:
    """Return the energy that equal rows may show about their mean, by rounding alone."""
    if stream._shift is None:
        return 0.0
    xp = namespace(stream._shift)
    # Rows about the shift are rounded to their dtype; of sparse ones, norms are differences of float64 numbers.
    unit = float(np.finfo(stream._dtype).eps) ** 2
    if stream._sparse:
        unit = max(unit, float(np.finfo(np.float64).eps))
    return 16 * unit * stream._total * float(xp.sum(stream._shift * stream._shift))


def _rounded(stream: "TopEigenvectorStream", answer: Answer) -> tuple[float, tuple[float, float]]:
    """Return the error, the doubt of the value, and the share of rounding in that.

    The answer is rounded to the rows' dtype, and so are rows about a shift: a step of u in each number moves energies
    by a share of u, and a direction by u over the gap.
    """
    unit = float(np.finfo(stream._dtype).eps)
    own = unit if stream._shift is not None and not stream._sparse else float(np.finfo(np.float64).eps)
    share = own + 1e-15 * answer.components.shape[1]
    apart = 1 - 1 / answer.gap if answer.gap > 1 else 0.0
    moved = (own / apart) ** 2 if apart > own else 1.0
    error = min(1.0, float(answer.error) + unit**2 + moved) if answer.error < 1 else 1.0
    return error, (float(answer.value_relative_error) + share, share)


def age(stream: "TopEigenvectorStream") -> float:
    """Return log₂ of the factor that brings energies to weight one in the newest block."""
    if stream._settings.forget == 1:
        return 0.0
    newest = (stream.n_rows - 1) // stream._intake.block_size
    return 2 * stream._faded + newest * math.log2(stream._settings.forget)


def _energy(stream: "TopEigenvectorStream", energy: Any) -> Any:
    """Return energies of working rows as those of the caller's rows, of weight one in the newest block."""
    power = 2.0 * (stream._exponent or 0) + age(stream)
    whole = math.floor(power)
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(np.asarray(energy, np.float64) * 2.0 ** (power - whole), whole)


def _mean(stream: "TopEigenvectorStream", answer: Answer) -> Any:
    if not stream._settings.center:
        return None
    mean = stream._shift if answer.mean is None else stream._shift + answer.mean
    return cast(mean * math.ldexp(1.0, stream._exponent or 0), stream._dtype)


def signed(components: Array) -> Array:
    """Turn rows so that the entry of largest modulus is positive."""
    xp = namespace(components)
    host = to_host(components)
    top = host[np.arange(host.shape[0]), np.argmax(np.abs(host), axis=1)]
    return components * like(np.where(top < 0, -1.0, 1.0), components)[:, None] if host.size else xp.abs(components)


def _nothing(stream: "TopEigenvectorStream", answer: Answer, k: int) -> Answer:
    """Answer a stream without energy by the first coordinates, and say that this means nothing."""
    unit = np.eye(k, stream.n_features)
    answer.components = like(unit, stream._empty) if not isinstance(stream._empty, np.ndarray) else unit
    answer.values, answer.error, answer.confidence = np.zeros(k), 1.0, None
    answer.value_relative_error, answer.gap, answer.energy = 0.0, 1.0, 0.0
    answer.value_bounds = None if answer.value_bounds is None else (0.0, 0.0)
    return answer


def _warn(answer: Answer, pvalue: float, order: str) -> None:
    if not answer.energy > 0:
        _say("all rows of the stream are equal to zero or to their mean: no direction stands out")
        return
    if pvalue < _SORTED and order == "random" and answer.method in ("subspace", "random-order"):
        _say(
            f"the stream does not look shuffled (p = {pvalue:.1e}): its error is only indicative; "
            "order='arbitrary' runs Frequent Directions beside it"
        )
    if answer.saturated:
        _say("all rows kept aside are heavy: there may be more of them; raise max_heavy")
    # Of the other methods the gap is a lower bound, and the error says enough.
    if answer.gap < 1.1 and answer.error > 0.5 and answer.method in ("subspace", "random-order", "exact"):
        _say(
            "the leading direction is ill-determined: "
            f"the two largest eigenvalues differ by a factor of {answer.gap:.3g}"
        )


def _say(message: str) -> None:
    """Warn at the line that called this library, from however deep inside."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("linalg_ml."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, RuntimeWarning, stacklevel=level)
