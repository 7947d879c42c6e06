"""Powers of two that keep squares within range, and norms of what was brought there."""

import math

import numpy as np

from .arrays import Array, cast, is_complex, like, namespace, real_dtype, to_numpy

_MODERATE = 24  # binary exponent up to which squares are safe in single precision


def top_exponent(X: Array) -> int:
    """Return e with 2**(e-1) ≤ max |X| < 2**e, real and imaginary parts taken apart; 0 for zeros."""
    xp = namespace(X)
    parts = [xp.real(X), xp.imag(X)] if is_complex(X) else [X]
    return max(math.frexp(float(to_numpy(xp.max(xp.abs(part)))))[1] for part in parts)


def times_power(X: Array, exponent: int) -> Array:
    """Return X · 2**exponent, in two steps: the power by itself may overflow."""
    half = exponent // 2
    return X * 2.0**half * 2.0 ** (exponent - half)


def half_exponents(S: Array) -> np.ndarray:
    """Return e for every slice, so that its largest modulus is near 4**e; 0 where that is moderate, or zero."""
    xp = namespace(S)
    peak = to_numpy(xp.max(xp.abs(S), axis=(-2, -1))).astype(np.float64)
    exponents = np.frexp(peak)[1]
    return np.where((peak > 0) & (abs(exponents) > _MODERATE), exponents // 2, 0)


def times_powers(S: Array, half: np.ndarray, times: int = 2) -> Array:
    """Return slices S · 2**(times · half), in steps that neither overflow nor vanish by themselves."""
    if not half.any():
        return S
    factor = like(np.ldexp(1.0, half), S, real_dtype(S))[..., None, None]
    for _ in range(times):
        S = S * factor
    return S


def norms(S: Array) -> np.ndarray:
    """Return ‖S‖_F of every slice, summed in float64; of numbers near one."""
    xp = namespace(S)
    parts = [xp.real(S), xp.imag(S)] if is_complex(S) else [S]
    return np.sqrt(sum(to_numpy(xp.sum(cast(part, "float64") ** 2, axis=(-2, -1))) for part in parts))
