"""One seed, the same draw on every backend, block, thread and dtype.

Philox4x32-10 (Salmon, Moraes, Dror & Shaw, SC 2011) counts instead of remembering: the word of element `c` of
row `id` in stream `s` is output ``c mod 4`` of counter ``(id mod 2³², id div 2³², c div 4, s)`` under a 64-bit
key. So a block of rows needs nothing of the others. Words become numbers by integer arithmetic and one table;
`log` and `cos` differ in the last bit between libraries and devices.
"""

import operator
import zlib
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np
from array_api_compat import is_cupy_array, is_numpy_array

from ._kernels import philox_normals, philox_words
from .arrays import Array, device, like, namespace, real_dtype

RNG = None | int | np.random.Generator
_MASK = 2**64 - 1


class Stream(IntEnum):
    """Streams in use. A new use takes a new number: two uses that share a stream are dependent."""

    ROWS = 0  # projection of nodes or rows
    FEATURES = 1  # projection of features
    PROBES = 2  # error probes
    SIGNS = 3  # row signs: SRHT, SRTT, first factor of TensorSRHT
    SIGNS_2 = 4  # row signs of TensorSRHT's second factor
    GROUPS = 5  # in-group permutation keys of SRHT
    SPARSE = 6  # rows and signs of sparse sketches
    GAUSSIAN = 7  # Gaussian sketches
    STARTS = 8  # starts and random directions of iterations
    SELECTIONS = 9  # permutations and samples that define an object


# --- keys ---------------------------------------------------------------------------------------------


def key_of(rng: Any, name: str = "rng") -> int:
    """Return the 64-bit key that `rng` (SPEC 7) or a `random_state` stands for.

    An integer is its own key (mod 2⁶⁴), so the same integer means the same draws everywhere and for ever; a
    `Generator` gives one 64-bit integer and advances; None is fresh entropy.
    """
    accepted = "None, an integer ≥ 0 or a numpy.random.Generator"
    if rng is None:
        rng = np.random.default_rng()
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(0, 2**64, dtype=np.uint64))
    if isinstance(rng, np.random.RandomState) and name == "random_state":
        return int(rng.randint(0, 2**64, dtype=np.uint64))
    if isinstance(rng, bool | np.bool_):
        raise TypeError(f"{name} must be {accepted}, got {rng!r}")
    try:
        number = operator.index(rng)
    except TypeError:
        raise TypeError(f"{name} must be {accepted}, got {rng!r}") from None
    if number < 0:
        raise ValueError(f"{name} must be {accepted}, got {number}")
    return number & _MASK


def child(key: int, t: int) -> int:
    """Return the key of the independent child `t` of `key`, for an algorithm that needs several objects."""
    low, high = philox_words(np.array([t], np.uint64), 0, 2, 2**32 - 1, key)[0]
    return int(low) | int(high) << 32


def generator(key: int, t: int) -> np.random.Generator:
    """Return NumPy's generator under the child `t`: for what is small, on the host, and defines no object."""
    return np.random.Generator(np.random.Philox(key=child(key, t)))


# --- words, and what they become ----------------------------------------------------------------------


def words(key: int, stream: int, ids: range | Array, count: int = 1, *, first: int = 0, to: Array = None) -> Array:
    """Return uint32 words `first` … `first + count - 1` of rows `ids`, shape (len(ids), count).

    CuPy draws on the device of `to`; for every other library the host draws, see `place`.
    """
    return philox_words(_ids(ids, to), first, count, int(stream), key)


def _ids(ids: range | Array, to: Array) -> Array:
    if not isinstance(ids, range):
        return ids
    if to is not None and is_cupy_array(to):
        return namespace(to).arange(ids.start, ids.stop, ids.step, dtype="uint64", device=device(to))
    return np.arange(ids.start, ids.stop, ids.step, dtype=np.uint64)


def place(drawn: Array, to: Array, dtype: str | None = None) -> Array:
    """Return what was drawn in the namespace, on the device and (if named) in the dtype that `to` needs."""
    if is_numpy_array(drawn):
        return like(drawn if dtype is None else drawn.astype(dtype, copy=False), to)
    return drawn if dtype is None else drawn.astype(dtype)


def signs(words: Array) -> Array:
    """Return -1 or +1 (int8) from bit 0 of each word."""
    xp = namespace(words)
    return 1 - 2 * xp.astype(words & 1, xp.int8)


def integers(words: Array, k: int) -> Array:
    """Return integers in [0, k), k ≤ 2³², as uint64; their bias is at most k/2³²."""
    xp = namespace(words)
    return (xp.astype(words, xp.uint64) * k) >> 32


def wide_integers(words: np.ndarray, k: int) -> np.ndarray:
    """Return integers in [0, k), 2³² < k ≤ 2⁶³, from pairs of words (last axis, low word first)."""
    low, high = words[..., 0::2].astype(np.uint64), words[..., 1::2].astype(np.uint64)
    k_low, k_high = np.uint64(k & 0xFFFFFFFF), np.uint64(k >> 32)
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    middle = ((low * k_low) >> half) + high * k_low  # below 2⁶⁴: each term leaves room for the other
    other = (middle & mask) + low * k_high
    return high * k_high + (middle >> half) + (other >> half)


def uniforms(words: Array) -> Array:
    """Return float64 numbers in (0, 1)."""
    xp = namespace(words)
    return (xp.astype(words, xp.float64) + 0.5) * 2.0**-32


def sparse_threshold(density: float) -> int:
    """Return T, where an entry is non-zero iff word >> 1 is below T; exact, so every library agrees."""
    numerator, denominator = float(density).as_integer_ratio()
    return (numerator * 2**32 + denominator) // (2 * denominator)


def sparse_entries(words: Array, density: float) -> Array:
    """Return entries ±√(2³¹/T) with probability T/2³¹ ≈ `density`, else +0.0; float64, mean 0, variance 1."""
    xp = namespace(words)
    threshold = sparse_threshold(density)
    size = (2**31 / threshold) ** 0.5
    values = size * xp.astype(signs(words), xp.float64)
    return xp.where((words >> 1) < threshold, values, xp.zeros_like(values))


@cache
def normal_table() -> np.ndarray:
    """Return the 2¹⁵ half-normal quantiles from which normal numbers are looked up (float32, read-only).

    Divided by their root mean square, so that the variance is 1; kurtosis 2.9992, largest 4.325.
    """
    from scipy.special import ndtri

    quantiles = ndtri(0.5 + (np.arange(2**15) + 0.5) / 2**16)
    table = (quantiles / np.sqrt(np.mean(quantiles**2))).astype("<f4")
    if zlib.crc32(table.tobytes()) != 0xE08A77AA:
        raise RuntimeError("scipy.special.ndtri gives other float32 quantiles here: normal draws would not agree")
    table.flags.writeable = False
    return table


def normals(
    key: int, stream: int, ids: range | Array, count: int, *, first: int = 0, divisor: float = 1.0, to: Array
) -> Array:
    """Return normal numbers / `divisor` for rows `ids`, shape (len(ids), count), in the real dtype of `to`.

    The quotient is formed in float64 and rounded once: the float32 matrix is the rounded float64 matrix.
    """
    table = (normal_table().astype(np.float64) / divisor).astype(real_dtype(to))
    if is_cupy_array(to):
        table = like(table, to)
    return place(philox_normals(_ids(ids, to), first, count, int(stream), key, table), to)


# --- selections that define an object -----------------------------------------------------------------


def permutation(key: int, use: int, k: int) -> np.ndarray:
    """Return a permutation of 0 … k-1; `use` numbers the permutations and samples of one object."""
    return np.argsort(words(key, Stream.SELECTIONS, range(use, use + 1), k)[0], kind="stable")


def sample(key: int, use: int, m: int, k: int) -> np.ndarray:
    """Return m distinct numbers of 0 … k-1, sorted, each set equally likely; O(m) time and memory."""
    if 2 * m > k:
        return np.sort(permutation(key, use, k)[:m])
    chosen = np.empty(0, np.uint64)
    first, order = 0, chosen
    while order.size < m:
        chosen = np.append(chosen, draw_integers(key, use, 2 * m, k, first=first))
        first += 2 * m
        order = np.sort(np.unique(chosen, return_index=True)[1])  # where each number came first
    return np.sort(chosen[order[:m]]).astype(np.int64)


def draw_integers(key: int, use: int, count: int, k: int, *, first: int = 0) -> np.ndarray:
    """Return `count` integers in [0, k) of the selections' stream, uint64; any k up to 2⁶³."""
    row = range(use, use + 1)
    if k <= 2**32:
        return integers(words(key, Stream.SELECTIONS, row, count, first=first)[0], k)
    return wide_integers(words(key, Stream.SELECTIONS, row, 2 * count, first=2 * first)[0], k)
