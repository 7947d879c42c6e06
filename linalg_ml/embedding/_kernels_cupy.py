"""CUDA versions of the embedding kernels: the same sums in the same order, so the same bits."""

import numpy as np

from .._core.arrays import namespace
from .._core.kernels import cuda_module

_THREADS = 256

ENTRIES = """
// A thread an entry; `gaussian` looks it up. Rows of the result are `step` elements apart.
extern "C" __global__ void entries(const unsigned int* words, const double* scale, long long rows, long long columns,
                                   unsigned int threshold, double size, int gaussian, const double* table, REAL* out,
                                   long long step)
{
    long long items = rows * columns, stride = (long long)gridDim.x * blockDim.x;
    for (long long item = (long long)blockIdx.x * blockDim.x + threadIdx.x; item < items; item += stride) {
        long long row = item / columns, column = item % columns;
        unsigned int word = words[item];
        double value = gaussian ? table[word >> 17] : size;
        value = (word & 1u ? -value : value) * scale[row];
        out[row * step + column] = (REAL)(gaussian || (word >> 1) < threshold ? value : 0.0);
    }
}
"""

PROPAGATE = """
// What of the arrays is there, is told by the bits of `given`: weights, factors, lead, out, total, squares, and 64 for
// a start from zero.
//
// A block takes a row, a thread a column of a tile of 256, and adds the neighbours in order. Finished rows wait in
// `scratch`, a row a block, until the sum of their squares is known: eight lanes to a group of 64 columns.
extern "C" __global__ void propagate(const REAL* source, long long step, long long width, const long long* indptr,
                                     long long m, const INDEX* indices, const REAL* weights, const REAL* inverse,
                                     long long run, double alpha, const REAL* factors, const REAL* lead, int given,
                                     REAL* out, long long out_step, REAL* total, long long total_step,
                                     double* squares, REAL* scratch)
{
    __shared__ double square[256];
    __shared__ double part[32];
    __shared__ double sum;
    int t = threadIdx.x;
    for (long long u = blockIdx.x; u < m; u += gridDim.x) {
        long long first = indptr[u], last = indptr[u + 1];
        REAL* row = scratch + blockIdx.x * width;
        if (t == 0) sum = 0.0;
        for (long long tile = 0; tile < width; tile += 256) {
            long long c = tile + t;
            REAL acc = 0;
            if (c < width) {
                double whole = 0.0;
                for (long long at = first; at < last; at += run) {
                    long long end = at + run < last ? at + run : last;
                    acc = 0;
                    for (long long e = at; e < end; ++e) {
                        REAL value = source[(long long)indices[e] * step + c];
                        acc += given & 1 ? weights[e] * value : value;
                    }
                    whole += (double)acc;
                }
                acc = (REAL)whole * inverse[u];
                row[c] = acc;
                if (given & 8) out[u * out_step + c] = acc;
            }
            square[t] = (double)acc * (double)acc;
            __syncthreads();
            if (t < 32) {
                double lane = 0.0;
                for (int k = 0; k < 8; ++k) lane += square[t / 8 * 64 + 8 * k + t % 8];
                part[t] = lane;
            }
            __syncthreads();
            if (t == 0)
                for (int group = 0; group < 4; ++group) {
                    double added = part[8 * group];
                    for (int k = 1; k < 8; ++k) added += part[8 * group + k];
                    sum += added;
                }
            __syncthreads();
        }
        if ((given & 32) && t == 0) squares[u] += sum;
        if (given & 16) {
            REAL factor = given & 2 ? factors[u] : sum > 0.0 ? (REAL)(alpha / sqrt(sum)) : (REAL)0;
            for (long long c = t; c < width; c += 256) {
                REAL base = given & 64 ? (REAL)0 : total[u * total_step + c];
                if (given & 4) base += lead[u] * source[u * step + c];
                total[u * total_step + c] = base + factor * row[c];
            }
        }
        __syncthreads();
    }
}
"""

_REALS = {"float32": "float", "float64": "double"}
_INDICES = {"int32": "int", "int64": "long long"}
VARIANTS = [
    *((ENTRIES, (f"REAL={real}",)) for real in _REALS.values()),
    *((PROPAGATE, (f"REAL={real}", f"INDEX={index}")) for real in _REALS.values() for index in _INDICES.values()),
]


def _or_empty(xp, array, dtype):
    """Return something to point to where there is no array."""
    return xp.empty(1, dtype=dtype) if array is None else xp.ascontiguousarray(array)


def _step(rows):
    """Return how many elements lie from one row to the next."""
    return np.int64(0 if rows is None else rows.strides[0] // rows.itemsize)


def entries(words, scale, threshold, size, table, out):
    xp = namespace(words)
    rows, columns = words.shape
    if out.size:
        function = cuda_module(ENTRIES, f"REAL={_REALS[out.dtype.name]}").get_function("entries")
        arguments = (
            xp.ascontiguousarray(words), xp.ascontiguousarray(scale), np.int64(rows), np.int64(columns),
            np.uint32(threshold), np.float64(size), np.int32(table is not None), _or_empty(xp, table, "float64"), out,
            _step(out),
        )  # fmt: skip
        function((min(-(-out.size // _THREADS), 2**16),), (_THREADS,), arguments)
    return out


def propagate(source, indptr, indices, weights, inverse, run, alpha, factors, lead, fresh, out, out_total, out_squares):
    xp = namespace(source)
    m, width, dtype = indptr.shape[0] - 1, source.shape[1], source.dtype
    if m == 0 or width == 0:
        return out, out_total, out_squares
    defines = f"REAL={_REALS[dtype.name]}", f"INDEX={_INDICES[indices.dtype.name]}"
    function = cuda_module(PROPAGATE, *defines).get_function("propagate")
    blocks = min(m, 2**12)
    source = source if source.strides[1] == source.itemsize and source.strides[0] > 0 else xp.ascontiguousarray(source)
    optional = weights, factors, lead, out, out_total, out_squares
    given = sum(2**bit for bit, array in enumerate(optional) if array is not None) + 64 * bool(fresh)
    arguments = (
        source, _step(source), np.int64(width), xp.ascontiguousarray(indptr), np.int64(m),
        xp.ascontiguousarray(indices), _or_empty(xp, weights, dtype), xp.ascontiguousarray(inverse), np.int64(run),
        np.float64(0.0 if alpha is None else alpha), _or_empty(xp, factors, dtype), _or_empty(xp, lead, dtype),
        np.int32(given), out if out is not None else xp.empty(1, dtype=dtype), _step(out),
        out_total if out_total is not None else xp.empty(1, dtype=dtype), _step(out_total),
        out_squares if out_squares is not None else xp.empty(1, dtype="float64"),
        xp.empty((blocks, width), dtype=dtype),
    )  # fmt: skip
    function((blocks,), (_THREADS,), arguments)
    return out, out_total, out_squares
