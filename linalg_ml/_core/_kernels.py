"""The ground floor's own kernels: the random words of Philox4x32-10, and normal numbers looked up by them."""

import numpy as np

from .arrays import Array, namespace
from .kernels import kernel

_MASK = 2**32 - 1
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85


def _shapes():
    ids = np.array([0, 1, 2**32 - 1, 2**32, 2**40 + 7, 2**63, 5], np.uint64)
    for key, stream in ((0, 0), (2**64 - 1, 2**32 - 1), (2**35 + 123, 1)):
        for first, count in ((0, 1), (0, 4), (3, 1), (2, 9), (7, 64), (0, 0), (2**33 - 2, 5)):
            yield ids, first, count, stream, key
        yield ids[:1], 1, 70, stream, key
        yield ids[:0], 0, 5, stream, key
    yield np.arange(3001, dtype=np.uint64), 0, 3, 7, 12345
    yield np.arange(3001, dtype=np.uint64)[::-2], 1, 1, 7, 12345


@kernel(cases=_shapes, versions=("numba", "cupy"))
def philox_words(ids: Array, first: int, count: int, stream: int, key: int) -> Array:
    """Return words `first` … `first + count - 1` of rows `ids` (uint64) in `stream` under `key`, as uint32."""
    xp = namespace(ids)
    blocks = xp.arange(first // 4, -(-(first + count) // 4), dtype=xp.uint64)
    zeros = xp.zeros((ids.shape[0], blocks.shape[0]), dtype=xp.uint64)
    c0, c1 = zeros + (ids & _MASK)[:, None], zeros + (ids >> 32)[:, None]
    c2, c3 = zeros + blocks[None, :], zeros + xp.asarray(stream, dtype=xp.uint64)
    k0, k1 = key & _MASK, key >> 32
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    out = xp.reshape(xp.stack([c0, c1, c2, c3], axis=-1), (ids.shape[0], 4 * blocks.shape[0]))
    skip = first % 4
    return xp.astype(out[:, skip : skip + count], xp.uint32)


def _tables():
    for dtype in (np.float32, np.float64):
        table = (np.arange(2**15) / 7).astype(dtype)
        for case in _shapes():
            yield *case, table


@kernel(cases=_tables, versions=("numba", "cupy"))
def philox_normals(ids: Array, first: int, count: int, stream: int, key: int, table: Array) -> Array:
    """Return ±table[word >> 17] for the words of `philox_words`, the sign from bit 0."""
    xp = namespace(ids)
    words = philox_words.reference(ids, first, count, stream, key)
    flat = xp.reshape(words, (-1,))
    values = xp.take(table, xp.astype(flat >> 17, xp.int64), axis=0)
    return xp.reshape(xp.where((flat & 1) == 1, -values, values), words.shape)
