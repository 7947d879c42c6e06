"""CPU versions of the ground floor's kernels."""

import numpy as np
from numba import int8, uint32, uint64

from .jit import jit
from .threads import launch

_CHUNK = 256  # counters drawn at a time: 1 KB a word, so the buffer stays in the first-level cache


@jit
def _fill(ids, block, row_step, block_step, count, stream, key, out):
    """Fill out[4, count] with the words of counters (ids[t·row_step], block + t·block_step); no branches inside,
    so that the compiler turns the loop into vector code."""
    for t in range(count):
        row = ids[t * row_step]
        counter = uint64(block) + uint64(t * block_step)
        c0, c1 = row & uint64(0xFFFFFFFF), row >> uint64(32)
        c2, c3 = counter & uint64(0xFFFFFFFF), uint64(stream)
        k0, k1 = key & uint64(0xFFFFFFFF), key >> uint64(32)
        for _ in range(10):
            p0, p1 = c0 * uint64(0xD2511F53), c2 * uint64(0xCD9E8D57)
            c0 = (p1 >> uint64(32)) ^ c1 ^ k0
            c2 = (p0 >> uint64(32)) ^ c3 ^ k1
            c1, c3 = p1 & uint64(0xFFFFFFFF), p0 & uint64(0xFFFFFFFF)
            k0 = (k0 + uint64(0x9E3779B9)) & uint64(0xFFFFFFFF)
            k1 = (k1 + uint64(0xBB67AE85)) & uint64(0xFFFFFFFF)
        out[0, t], out[1, t], out[2, t], out[3, t] = uint32(c0), uint32(c1), uint32(c2), uint32(c3)


@jit
def _words(ids, first, count, stream, key, out, start, stop):
    buffer = np.empty((4, _CHUNK), np.uint32)
    first_block, last_block = first // 4, (first + count - 1) // 4
    if last_block - first_block < 8:  # few words a row: count along the rows
        for row in range(start, stop, _CHUNK):
            size = min(_CHUNK, stop - row)
            for block in range(first_block, last_block + 1):
                _fill(ids[row:], block, 1, 0, size, stream, key, buffer)
                for lane in range(max(0, first - 4 * block), min(4, first + count - 4 * block)):
                    column = 4 * block + lane - first
                    for t in range(size):
                        out[row + t, column] = buffer[lane, t]
    else:
        for row in range(start, stop):
            for block in range(first_block, last_block + 1, _CHUNK):
                size = min(_CHUNK, last_block + 1 - block)
                _fill(ids[row:], block, 0, 1, size, stream, key, buffer)
                column = 4 * block - first
                if column >= 0 and column + 4 * size <= count:
                    for t in range(size):
                        for lane in range(4):
                            out[row, column + 4 * t + lane] = buffer[lane, t]
                else:
                    for t in range(size):
                        for lane in range(4):
                            if 0 <= column + 4 * t + lane < count:
                                out[row, column + 4 * t + lane] = buffer[lane, t]


@jit
def _normals(ids, first, count, stream, key, table, out, start, stop):
    rows = max(1, 4096 // count)
    words = np.empty((rows, count), np.uint32)
    for row in range(start, stop, rows):
        size = min(rows, stop - row)
        _words(ids[row:], first, count, stream, key, words, 0, size)
        for i in range(size):
            for c in range(count):
                word = words[i, c]
                out[row + i, c] = table[word >> uint32(17)] * (1 - 2 * int8(word & uint32(1)))  # no branch to miss


def philox_words(ids, first, count, stream, key):
    out = np.empty((ids.shape[0], count), np.uint32)
    ids = np.ascontiguousarray(ids)
    if out.size:
        launch(_words, ids.shape[0], ids, first, count, stream, np.uint64(key), out, cost=1.5 * out.size)
    return out


def philox_normals(ids, first, count, stream, key, table):
    out = np.empty((ids.shape[0], count), table.dtype)
    ids = np.ascontiguousarray(ids)
    if out.size:
        launch(_normals, ids.shape[0], ids, first, count, stream, np.uint64(key), table, out, cost=3.0 * out.size)
    return out
