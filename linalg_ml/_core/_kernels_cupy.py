"""CUDA versions of the ground floor's kernels."""

import numpy as np

from .arrays import namespace
from .kernels import cuda_module

# Also used, as text, by kernels of other wings that draw where they compute.
PHILOX = """
__device__ __forceinline__ void philox(unsigned int c[4], unsigned int k0, unsigned int k1)
{
    for (int round = 0; round < 10; ++round) {
        unsigned int high0 = __umulhi(0xD2511F53u, c[0]), low0 = 0xD2511F53u * c[0];
        unsigned int high1 = __umulhi(0xCD9E8D57u, c[2]), low1 = 0xCD9E8D57u * c[2];
        c[0] = high1 ^ c[1] ^ k0;
        c[1] = low1;
        c[2] = high0 ^ c[3] ^ k1;
        c[3] = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}
"""

SOURCE = (
    PHILOX
    + """
// A thread draws one counter: four words of one row, from the first that is a multiple of four.
extern "C" __global__ void philox_words(const unsigned long long* ids, long long rows, long long first,
                                        long long count, unsigned int stream, unsigned long long key, OUT* out
#ifdef TABLE
                                        , const OUT* table
#endif
)
{
    long long first_block = first / 4, blocks = (first + count + 3) / 4 - first_block;
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long item = (long long)blockIdx.x * blockDim.x + threadIdx.x; item < rows * blocks; item += step) {
        long long row = item / blocks, block = first_block + item % blocks;
        unsigned long long id = ids[row];
        unsigned int c[4] = {(unsigned int)id, (unsigned int)(id >> 32), (unsigned int)block, stream};
        philox(c, (unsigned int)key, (unsigned int)(key >> 32));
        for (int lane = 0; lane < 4; ++lane) {
            long long column = 4 * block + lane - first;
            if (column >= 0 && column < count) {
#ifdef TABLE
                OUT value = table[c[lane] >> 17];
                out[row * count + column] = (c[lane] & 1u) ? -value : value;
#else
                out[row * count + column] = c[lane];
#endif
            }
        }
    }
}
"""
)
VARIANTS = [
    (SOURCE, ("OUT=unsigned int",)),
    (SOURCE, ("OUT=float", "TABLE=1")),
    (SOURCE, ("OUT=double", "TABLE=1")),
]


def _run(ids, first, count, stream, key, out, defines, *table):
    blocks = (first + count + 3) // 4 - first // 4
    items = ids.shape[0] * blocks
    if out.size:
        arguments = (np.int64(ids.shape[0]), np.int64(first), np.int64(count), np.uint32(stream), np.uint64(key))
        function = cuda_module(SOURCE, *defines).get_function("philox_words")
        xp = namespace(ids)
        grid = (min(-(-items // 128), 2**16),)
        function(grid, (128,), (xp.ascontiguousarray(ids), *arguments, out, *table))
    return out


def philox_words(ids, first, count, stream, key):
    out = namespace(ids).empty((ids.shape[0], count), dtype="uint32")
    return _run(ids, first, count, stream, key, out, VARIANTS[0][1])


def philox_normals(ids, first, count, stream, key, table):
    out = namespace(ids).empty((ids.shape[0], count), dtype=table.dtype)
    return _run(ids, first, count, stream, key, out, VARIANTS[1 if table.dtype == "float32" else 2][1], table)
