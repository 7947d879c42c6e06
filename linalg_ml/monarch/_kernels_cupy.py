"""CUDA version of the rank-one kernel: a block of threads a slice, in shared memory where the slice fits."""

import numpy as np

from .._core.arrays import namespace, to_numpy
from .._core.kernels import cuda_module
from .._core.random import Stream, normals

_SHARED = 47 * 1024  # bytes of a block, beside the few that are static
_BLOCKS = 1024  # at a time: each has a basis, and a slice where it does not fit, in global memory

RANK_ONE = """
__device__ __noinline__ double block_sum(double value, double* part)
{
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
    for (unsigned int warp = 0; warp < blockDim.x / 32; ++warp) value += part[warp];
    __syncthreads();
    return value;
}

__device__ __noinline__ double block_max(double value, double* part)
{
    for (int step = 16; step > 0; step /= 2) value = fmax(value, __shfl_xor_sync(0xffffffffu, value, step));
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
    for (unsigned int warp = 0; warp < blockDim.x / 32; ++warp) value = fmax(value, part[warp]);
    __syncthreads();
    return value;
}

// A tridiagonal matrix of k rows, divided by a bound of its eigenvalues. One thread works on it.
struct Tridiagonal {
    double *z, *al, *be, *a, *b, *b2, *down, *up;
    int k;

    __device__ __noinline__ double normalise()
    {
        double bound = 0;
        for (int i = 0; i < k; ++i)
            bound = fmax(bound, fabs(al[i]) + (i > 0 ? be[i - 1] : 0.0) + (i < k - 1 ? be[i] : 0.0));
        b2[0] = b2[k] = 0;
        for (int i = 0; i < k; ++i) a[i] = al[i] / bound;
        for (int i = 0; i < k - 1; ++i) {
            b[i] = be[i] / bound;
            b2[i + 1] = b[i] * b[i];
        }
        return bound;
    }

    // Laguerre's iteration from the right, for the largest eigenvalue, or for the second if that is known (else 0).
    // The characteristic polynomial and its derivatives come from the recurrence without divisions.
    __device__ __noinline__ double largest(double known) const
    {
        const double eps = 2.220446049250313e-16, little = ldexp(1.0, -300), much = ldexp(1.0, 300);
        double x = 1 + 4 * eps, before = 0;
        for (int round = 0; round < 100; ++round) {
            double p[3] = {1, 0, 0}, o[3] = {0, 0, 0};
            int above = 0;
            for (int i = 0; i < k; ++i) {
                double d = x - a[i], c = b2[i];
                double n[3] = {d * p[0] - c * o[0], d * p[1] + (p[0] - c * o[1]), d * p[2] + (2 * p[1] - c * o[2])};
                double factor = fabs(n[0]) < little ? much : 1.0;
                above += (n[0] < 0) != (p[0] < 0);
                for (int e = 0; e < 3; ++e) {
                    o[e] = p[e] * factor;
                    p[e] = n[e] * factor;
                }
            }
            if (above > (known > 0)) break;  // by rounding: x is there
            double g = p[1] / p[0], h = g * g - p[2] / p[0], n = k;
            if (known > 0) {
                double other = 1 / (x - known);
                g -= other;
                h -= other * other;
                n -= 1;
            }
            double step = n / (g + sqrt(fmax((n - 1) * (n * h - g * g), 0.0)));
            if (!(step > 0)) break;
            x -= step;
            if (step <= 4 * eps || (before > 0 && step * (step / before) * (step / before) <= 4 * eps)) break;
            before = step;
        }
        return x;
    }

    // Pivots from one end, from `first` in direction `turn`.
    __device__ __noinline__ void pivots(double x, double* out, int first, int turn) const
    {
        double p = 1, o = 0;
        for (int i = first; i >= 0 && i < k; i += turn) {
            double n = (x - a[i]) * p - b2[turn > 0 ? i : i + 1] * o;
            double factor = fabs(n) < ldexp(1.0, -300) ? ldexp(1.0, 300) : 1.0;
            out[i] = n / p;
            o = p * factor;
            p = n * factor;
        }
    }

    // The unit eigenvector of eigenvalue x, by the twisted factorisation.
    __device__ __noinline__ void eigenvector(double x)
    {
        pivots(x, down, 0, 1);
        pivots(x, up, k - 1, -1);
        int twist = 0;
        double least = -1;
        for (int i = 0; i < k; ++i) {
            double gamma = fabs(down[i] + up[i] - (x - a[i]));
            if (least < 0 || gamma < least) {
                twist = i;
                least = gamma;
            }
        }
        double total = z[twist] = 1;
        for (int i = twist - 1; i >= 0; --i) {
            z[i] = z[i + 1] * (b[i] / down[i]);
            total += z[i] * z[i];
        }
        for (int i = twist + 1; i < k; ++i) {
            z[i] = z[i - 1] * (b[i - 1] / up[i]);
            total += z[i] * z[i];
        }
        for (int i = 0; i < k; ++i) z[i] /= sqrt(total);
    }
};

// a = S x, for `rows` rows that lie `step` apart; a thread a row.
__device__ __noinline__ void multiply(const REAL* S, int step, int rows, int columns, const REAL* x, REAL* a)
{
    for (int r = threadIdx.x; r < rows; r += blockDim.x) {
        REAL sum = 0;
        for (int c = 0; c < columns; ++c) sum += S[(long long)r * step + c] * x[c];
        a[r] = sum;
    }
    __syncthreads();
}

// w = keep w + sign Sᵀa, a thread a column; returns |w|².
__device__ __noinline__ double multiply_back(const REAL* S, int step, int rows, int columns, const REAL* a, REAL keep,
                                             REAL sign, REAL* w, double* part)
{
    double square = 0;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) {
        REAL sum = 0;
        for (int r = 0; r < rows; ++r) sum += S[(long long)r * step + c] * a[r];
        REAL value = sign * sum;
        if (keep != 0) value += keep * w[c];
        w[c] = value;
        square += (double)value * value;
    }
    return block_sum(square, part);
}

// Slice (b, k, j), with number (b K + k) J + j, one after the other. Strides of A are counted in elements.
extern "C" __global__ void rank_one(const REAL* A, long long stride_b, long long stride_m, long long stride_n,
                                    long long m, long long n, int J, int K, int p, int q, const REAL* starts,
                                    REAL* bases, unsigned char* memory, long long bytes, REAL* left, REAL* right,
                                    double* facts, unsigned char* suspect, long long count)
{
    extern __shared__ __align__(16) unsigned char smem[];
    __shared__ double part[8], said[3];
    const bool wide = p < q;  // the basis is of the shorter side: the slice is transposed, and its factors swapped
    const int rows = wide ? q : p, columns = wide ? p : q, step = columns | 1;
    const double tol = 10 * (sizeof(REAL) == 4 ? 1.1920928955078125e-07 : 2.220446049250313e-16);
    const double inf = ldexp(1.0, 1023) * 4;
    double* tri = (double*)(bytes > 0 ? memory + blockIdx.x * bytes : smem);  // smem where it fits
    REAL* S = (REAL*)(tri + 8 * (columns + 1));
    REAL *w = S + (long long)rows * step, *h = w + columns, *a = h + columns;
    REAL* V = bases + (long long)blockIdx.x * columns * columns;
    const int next = columns + 1;
    Tridiagonal T = {tri, tri + next, tri + 2 * next, tri + 3 * next, tri + 4 * next, tri + 5 * next, tri + 6 * next,
                     tri + 7 * next, 0};

    for (long long slice = blockIdx.x; slice < count; slice += gridDim.x) {
        const long long j = slice % J, k = slice / J % K, b = slice / J / K;
        double peak = 0, wrong = 0;
        for (int e = threadIdx.x; e < p * q; e += blockDim.x) {
            int l = e / q, i = e % q;
            long long row = (long long)l * J + j, column = k * q + i;
            REAL value = row < m && column < n ? A[b * stride_b + row * stride_m + column * stride_n] : (REAL)0;
            if (!(value - value == 0)) wrong = 1;
            peak = fmax(peak, fabs((double)value));
            S[(long long)(wide ? i : l) * step + (wide ? l : i)] = value;
        }
        peak = block_max(peak, part);
        wrong = block_max(wrong, part);
        int exponent = 0;
        if (!wrong && peak > 0) frexp(peak, &exponent);
        const int half = exponent >= 0 ? exponent / 2 : -((1 - exponent) / 2);
        const REAL factor = (REAL)ldexp(1.0, -half);
        if (half != 0)
            for (int e = threadIdx.x; e < p * q; e += blockDim.x) {
                REAL* entry = S + (long long)(e / columns) * step + e % columns;
                *entry = *entry * factor;  // two steps: the square may be beyond the largest or the least number
                *entry = *entry * factor;
            }
        double theta = 0, second = 0, trace = 0, sigma = 0, gap = 0, residual = 0, norm = wrong ? inf - inf : 0.0;
        bool closed = false;
        T.k = 0;
        if (!wrong && peak > 0) {
            double square = 0;
            for (int c = threadIdx.x; c < columns; c += blockDim.x) {
                double value = starts[slice * columns + c];
                square += value * value;
            }
            double scale = 1 / sqrt(block_sum(square, part));
            for (int c = threadIdx.x; c < columns; c += blockDim.x) V[c] = (REAL)(starts[slice * columns + c] * scale);
            __syncthreads();
            double largest = 0;
            int check = 2;
            for (int t = 0; t < columns; ++t) {
                multiply(S, step, rows, columns, V + (long long)t * columns, a);
                double before = sqrt(multiply_back(S, step, rows, columns, a, 0, 1, w, part)), length = 0;
                for (int sweep = 0; sweep < 3; ++sweep) {  // one is not enough where the space closes
                    multiply(V, columns, t + 1, columns, w, h);
                    REAL own = h[t];
                    length = sqrt(multiply_back(V, columns, t + 1, columns, h, 1, -1, w, part));
                    if (sweep == 0) {
                        largest = fmax(largest, (double)own);
                        trace += own;
                        if (threadIdx.x == 0) T.al[t] = own;
                    }
                    if (length > 0.1 * before || length <= tol * largest) break;
                    before = length;
                }
                closed = length <= tol * largest;
                bool last = closed || t == columns - 1;
                if (last || t + 1 == check) {
                    T.k = t + 1;
                    if (threadIdx.x == 0) {
                        double bound = T.normalise(), top = T.largest(0);
                        T.eigenvector(top);
                        said[0] = length * fabs(T.z[t]) / (tol * top * bound);
                        said[1] = top * bound;
                        said[2] = t > 0 && (last || said[0] <= 1) ? fmax(T.largest(top), 0.0) * bound : 0.0;
                    }
                    __syncthreads();
                    double ratio = said[0];
                    theta = said[1];
                    second = said[2];
                    closed = closed && t < columns - 1;
                    if (last || ratio <= 1) break;
                    int wait = ratio < 30 ? 2 : ratio < 1e3 ? 3 : ratio < 1e5 ? 4 : ratio < 1e9 ? 6 : 9;
                    check = min(t + wait + 1, columns);
                }
                if (threadIdx.x == 0) T.be[t] = length;
                for (int c = threadIdx.x; c < columns; c += blockDim.x)
                    V[(long long)(t + 1) * columns + c] = (REAL)(w[c] / length);
                __syncthreads();
            }
            for (int t = threadIdx.x; t < T.k; t += blockDim.x) h[t] = (REAL)T.z[t];
            __syncthreads();
            scale = 1 / sqrt(multiply_back(V, columns, T.k, columns, h, 0, 1, w, part));
            for (int c = threadIdx.x; c < columns; c += blockDim.x) w[c] = (REAL)(w[c] * scale);
            __syncthreads();
            multiply(S, step, rows, columns, w, a);
            square = 0;
            for (int r = threadIdx.x; r < rows; r += blockDim.x) square += (double)a[r] * a[r];
            sigma = sqrt(block_sum(square, part));
            if (threadIdx.x == 0) {  // the entry of largest modulus becomes positive
                const REAL* v = wide ? a : w;
                REAL top = v[0];
                for (int i = 1; i < q; ++i)
                    if (fabs(v[i]) > fabs(top)) top = v[i];
                said[0] = top < 0 ? -1 : 1;
            }
            __syncthreads();
            double root = sqrt(sigma), sign = said[0];
            for (int r = threadIdx.x; r < rows; r += blockDim.x) a[r] = (REAL)(a[r] * (sign / root));
            for (int c = threadIdx.x; c < columns; c += blockDim.x) w[c] = (REAL)(w[c] * (sign * root));
            __syncthreads();
            double lost = 0, all = 0;
            for (int e = threadIdx.x; e < p * q; e += blockDim.x) {
                int r = e / columns, c = e % columns;
                double value = S[(long long)r * step + c], rest = value - (double)a[r] * w[c];
                lost += rest * rest;
                all += value * value;
            }
            residual = sqrt(block_sum(lost, part));
            all = block_sum(all, part);
            norm = sqrt(all);
            // What was never seen, because the space closed, may repeat the largest eigenvalue.
            gap = closed && all - trace > 0.999 * theta ? 0.0 : fmin(1.0, fmax(0.0, 1 - second / theta));
        }
        const double power = ldexp(1.0, half);
        for (int l = threadIdx.x; l < p; l += blockDim.x)
            left[((b * J + j) * p + l) * K + k] = theta > 0 ? (REAL)((wide ? w : a)[l] * power) : (REAL)0;
        for (int i = threadIdx.x; i < q; i += blockDim.x)
            right[((b * K + k) * J + j) * q + i] = theta > 0 ? (REAL)((wide ? a : w)[i] * power) : (REAL)0;
        if (threadIdx.x == 0) {
            facts[slice] = sigma * power * power;
            facts[count + slice] = gap;
            facts[2 * count + slice] = residual * power * power;
            facts[3 * count + slice] = norm * power * power;
            suspect[slice] = fabs(sigma * sigma - theta) > 1e3 * tol * theta;
        }
        __syncthreads();
    }
}
"""

VARIANTS = [(RANK_ONE, ("REAL=float",)), (RANK_ONE, ("REAL=double",))]


def rank_one(A, nblocks, key):
    xp = namespace(A)
    batch, m, n = A.shape
    J, K = nblocks
    p, q = -(-m // J), -(-n // K)
    rows, columns, count = max(p, q), min(p, q), batch * K * J
    starts = normals(key, Stream.STARTS, range(count), columns, to=A)
    left = xp.empty((batch, J, p, K), dtype=A.dtype)
    right = xp.empty((batch, K, J, q), dtype=A.dtype)
    facts = xp.empty((4, batch, K, J), dtype="float64")
    suspect = xp.empty((batch, K, J), dtype="uint8")
    blocks = min(count, _BLOCKS)
    size = 64 * (columns + 1) + A.itemsize * (rows * (columns | 1) + 2 * columns + rows)
    size += -size % 16
    fits = size <= _SHARED
    memory = xp.empty(1 if fits else (blocks, size), dtype="uint8")
    arguments = (
        *(A, *(np.int64(stride // A.itemsize) for stride in A.strides), np.int64(m), np.int64(n)),
        *(np.int32(number) for number in (J, K, p, q)),
        *(starts, xp.empty((blocks, columns, columns), dtype=A.dtype)),
        *(memory, np.int64(0 if fits else size), left, right, facts, suspect, np.int64(count)),
    )
    threads = min(256, -(-rows // 32) * 32)
    function = cuda_module(RANK_ONE, f"REAL={'float' if A.dtype == 'float32' else 'double'}").get_function("rank_one")
    function((blocks,), (threads,), arguments, shared_mem=size if fits else 0)
    return left, right, *to_numpy(facts), to_numpy(suspect).astype(np.bool_)
