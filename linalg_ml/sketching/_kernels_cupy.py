"""CUDA versions of the sketching kernels."""

import numpy as np

from .._core.arrays import like, namespace
from .._core.kernels import cuda_module
from ._kernels import sparse_rows

_TILE = 4096  # elements of a tile in shared memory: 32 KB of float64
_TILE_BITS = 8  # of a row number in one pass: leaves 16 neighbouring columns, a 128-byte line of float64
_THREADS = 256

HADAMARD = """
// Transforms `bits` bits of a row number. Rows of these bits are `step` elements apart; a block of threads takes
// all of them times up to `columns` neighbouring elements into shared memory, and goes on to the next such tile.
extern "C" __global__ void hadamard(const REAL* src, REAL* dst, int bits, long long step, int columns,
                                    long long tiles, REAL scale)
{
    __shared__ REAL tile[4096];
    long long strips = (step + columns - 1) / columns;
    for (long long t = blockIdx.x; t < tiles; t += gridDim.x) {
        long long column = t % strips * columns;
        int width = (int)(step - column < columns ? step - column : columns);
        long long base = ((t / strips) << bits) * step + column;
        int size = width << bits;
        for (int e = threadIdx.x; e < size; e += blockDim.x)
            tile[e] = src[base + e / width * step + e % width];
        for (int bit = 0; bit < bits; ++bit) {
            __syncthreads();
            for (int e = threadIdx.x; e < size / 2; e += blockDim.x) {
                int pair = e / width, at = ((pair >> bit) << (bit + 1) | (pair & ((1 << bit) - 1))) * width + e % width;
                REAL a = tile[at], b = tile[at + (width << bit)];
                tile[at] = a + b;
                tile[at + (width << bit)] = a - b;
            }
        }
        __syncthreads();
        for (int e = threadIdx.x; e < size; e += blockDim.x)
            dst[base + e / width * step + e % width] = scale * tile[e];
        __syncthreads();
    }
}
"""

SCATTER = """
// A block of threads takes one row of the result and adds its rows of the input in order, a thread a column: no
// atomics, so that every run rounds alike.
extern "C" __global__ void scatter_rows(const REAL* block, long long columns, const long long* first,
                                        const long long* source, const signed char* signs, long long m, REAL* out)
{
    for (long long row = blockIdx.x; row < m; row += gridDim.x)
        for (long long c = threadIdx.x; c < columns; c += blockDim.x) {
            REAL sum = out[row * columns + c];
            for (long long k = first[row]; k < first[row + 1]; ++k) {
                REAL value = block[source[k] * columns + c];
                sum += signs[k] < 0 ? -value : value;
            }
            out[row * columns + c] = sum;
        }
}
"""

VARIANTS = [(source, (f"REAL={real}",)) for source in (HADAMARD, SCATTER) for real in ("float", "double")]


def _function(source, name, dtype):
    return cuda_module(source, "REAL=float" if dtype == "float32" else "REAL=double").get_function(name)


def hadamard(x, scale, overwrite):
    xp = namespace(x)
    contiguous = xp.ascontiguousarray(x)
    y = contiguous if overwrite or contiguous is not x else xp.empty_like(x)
    pre, n, post = x.shape
    if x.size == 0 or n == 1:
        return xp.multiply(x, x.dtype.type(scale), out=y)
    function = _function(HADAMARD, "hadamard", x.dtype)
    src, done, last = contiguous, 0, n.bit_length() - 1
    while done < last:
        bits, step = min(_TILE_BITS, last - done), post << done
        columns = min(step, _TILE >> bits)
        tiles = pre * (n >> (done + bits)) * -(-step // columns)
        done += bits
        factor = x.dtype.type(scale if done == last else 1)
        arguments = (src, y, np.int32(bits), np.int64(step), np.int32(columns), np.int64(tiles), factor)
        function((min(tiles, 2**16),), (_THREADS,), arguments)
        src = y
    return y


def scatter_rows(block, out, words, s):
    xp = namespace(block)
    m = out.shape[0]
    rows, signs = sparse_rows(words, m, s)
    order = np.argsort(rows.ravel(), kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(rows.ravel(), minlength=m))])
    columns = block.shape[1]
    threads = min(_THREADS, -(-columns // 32) * 32)
    arguments = (
        xp.ascontiguousarray(block),
        np.int64(columns),
        like(first, block),
        like(order // s, block),
        like(signs.ravel()[order], block),
        np.int64(m),
        out,
    )
    _function(SCATTER, "scatter_rows", block.dtype)((min(m, 2**16),), (threads,), arguments)
    return out
