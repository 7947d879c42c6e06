"""Tests of the tool that compiles CUDA sources without a GPU and runs them on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_cpu import CpuModule, compile_cuda, find_compiler, find_nvrtc
from numpy.testing import assert_array_equal

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler, or not Linux")
needs_nvrtc = pytest.mark.skipif(find_nvrtc() is None, reason="NVRTC (nvidia-cuda-nvrtc) is not installed")

ADD = r"""
extern "C" __global__ void add(const REAL* __restrict__ x, const REAL* y, REAL* out, long long n) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < n) out[i] = x[i] + y[i];
}
"""

SUM = r"""
extern "C" __global__ void __launch_bounds__(256)
block_sum(const REAL* x, double* out, long long n) {
    __shared__ double part[32];
    const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
    double total = 0;
    for (long long i = threadIdx.x + blockIdx.x * (long long)blockDim.x; i < n; i += blockDim.x * gridDim.x)
        total += x[i];
    #pragma unroll
    for (int step = 16; step > 0; step /= 2) total += __shfl_down_sync(0xffffffffu, total, step);
    if (lane == 0) part[warp] = total;
    __syncthreads();
    if (warp == 0) {
        total = lane < blockDim.x / warpSize ? part[lane] : 0.0;
        for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
        if (lane == 0) atomicAdd(out, total);
    }
}
"""


@pytest.fixture(params=[False, True], ids=["forward", "reverse"])
def order(request, monkeypatch):
    monkeypatch.setattr(CpuModule, "reverse", request.param)


def kernel(source, name, *options):
    return CpuModule(code=source, options=("--std=c++17", *options)).get_function(name)


def run(body, out, grid=(1,), block=(32,), **kwargs):
    """Run a kernel ``k`` of one argument, the array ``out``."""
    pointer = {"i": "int", "u": "unsigned int", "f": "double"}[out.dtype.kind]
    source = f'extern "C" __global__ void k({pointer}* out) {{ const int t = threadIdx.x; {body} }}'
    kernel(source, "k")(grid, block, (out,), **kwargs)
    return out


@needs_compiler
@pytest.mark.usefixtures("order")
class TestKernels:
    @pytest.mark.parametrize(("real", "dtype"), [("float", np.float32), ("double", np.float64)])
    @pytest.mark.parametrize("n", [1, 100, 1000])
    def test_add(self, real, dtype, n):
        x, y = np.random.default_rng(0).standard_normal((2, n)).astype(dtype)
        x.flags.writeable = False
        out = np.zeros(n, dtype)
        kernel(ADD, "add", f"-DREAL={real}")(((n + 63) // 64,), (64,), (x, y, out, np.int64(n)))
        assert_array_equal(out, x + y)

    @pytest.mark.parametrize("n", [1, 31, 1000, 12345])
    @pytest.mark.parametrize("block", [32, 64, 256, 1024])
    def test_sum(self, n, block):
        x = np.random.default_rng(1).standard_normal(n).astype(np.float32)
        out = np.zeros(1)
        kernel(SUM, "block_sum", "-DREAL=float")((3,), (block,), (x, out, np.int64(n)))
        np.testing.assert_allclose(out[0], x.sum(dtype=np.float64), rtol=0, atol=1e-10 * np.abs(x).sum())

    def test_warps_out_of_step(self):
        # Warp w makes w + 1 shuffles before the common barrier and w + 1 after it.
        body = """
            __shared__ unsigned int seen[8];
            unsigned int w = t / 32, value = t;
            for (int i = 0; i <= w; ++i) value = __shfl_sync(~0u, value, t % 32 + 1);
            if (t % 32 == 5) seen[w] = value;
            __syncthreads();
            value = seen[7 - w];
            for (int i = 0; i <= w; ++i) value += __shfl_up_sync(~0u, value, 1);
            out[t] = value;
        """
        out = run(body, np.zeros(256, np.uint32), block=(256,))
        warp, lane = np.arange(256).reshape(8, 32) // 32, np.arange(32)
        value = warp[::-1] * 32 + (5 + warp[::-1] + 1) % 32
        for i in range(8):
            value = np.where(warp >= i, value + np.where(lane > 0, np.roll(value, 1, axis=1), value), value)
        assert_array_equal(out.reshape(8, 32), value)

    def test_masks_and_widths(self):
        body = """
            if (t < 16) { out[t] = __shfl_xor_sync(0x0000ffffu, t, 3); __syncwarp(0x0000ffffu); }
            else out[t] = __shfl_down_sync(0xffff0000u, t, 2, 8);
            out[32 + t] = __ballot_sync(~0u, t % 3 == 0);
            out[64 + t] = __any_sync(~0u, t == 7) + 2 * __all_sync(~0u, t != 7) + 4 * __all_sync(~0u, t >= 0);
            out[96 + t] = __shfl_sync(~0u, t, 9, 8);
        """
        out = run(body, np.zeros(128, np.int32)).view(np.uint32).reshape(4, 32)
        lanes = np.arange(32)
        down = np.where(lanes % 8 < 6, lanes + 2, lanes)
        assert_array_equal(out[0], np.where(lanes < 16, lanes ^ 3, down))
        assert_array_equal(out[1], sum(1 << i for i in range(0, 32, 3)))
        assert_array_equal(out[2], 5)
        assert_array_equal(out[3], lanes // 8 * 8 + 1)

    def test_dynamic_shared(self):
        source = """
        extern "C" __global__ void k(unsigned int* out) {
            extern __shared__ __align__(16) unsigned char smem[];
            __shared__ int fixed[32];
            unsigned int* words = reinterpret_cast<unsigned int*>(smem);
            const int i = blockIdx.x * blockDim.x + threadIdx.x;
            out[i] = words[threadIdx.x];
            out[64 + i] = fixed[threadIdx.x];
            words[threadIdx.x] = fixed[threadIdx.x] = i;
        }"""
        out = np.zeros(128, np.uint32)
        kernel(source, "k")((2,), (32,), (out,), shared_mem=128)
        assert_array_equal(out, 0xFFFFFFFF)  # in the second block too
        with pytest.raises(RuntimeError, match="smem was written beyond shared_mem = 64 bytes"):
            kernel(source, "k")((1,), (32,), (out,), shared_mem=64)

    def test_transpose(self):
        source = """
        template <class T> __device__ __forceinline__ void turn(const T* x, T* out, int rows, int columns) {
            __shared__ T tile[32][33];
            int i = blockIdx.y * 32, j = blockIdx.x * 32;
            for (int k = threadIdx.y; k < 32; k += blockDim.y)
                if (i + k < rows && j + threadIdx.x < columns)
                    tile[k][threadIdx.x] = x[(i + k) * columns + j + threadIdx.x];
            __syncthreads();
            for (int k = threadIdx.y; k < 32; k += blockDim.y)
                if (j + k < columns && i + threadIdx.x < rows)
                    out[(j + k) * rows + i + threadIdx.x] = tile[threadIdx.x][k];
        }
        extern "C" __global__ void transpose(const float2* x, float2* out, int rows, int columns) {
            turn(x, out, rows, columns);
        }"""
        x = np.random.default_rng(2).standard_normal((70, 82)).astype(np.float32).view(np.complex64)
        out = np.empty(x.shape[::-1], x.dtype)
        kernel(source, "transpose")((2, 3), (32, 8), (x, out, np.int32(70), np.int32(41)))
        assert_array_equal(out, x.T)

    def test_grid_of_three_dimensions(self):
        body = """
            int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
            int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + t;
            out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
        """
        out = run(body, np.zeros(24 * 30, np.int32), grid=(2, 3, 4), block=(5, 3, 2))
        assert_array_equal(out, (1000 * np.arange(24)[:, None] + np.arange(30)).ravel())

    def test_atomics(self):
        body = """
            atomicAdd(out + t % 4, 1u);
            atomicMax(out + 4, (unsigned int)t);
            atomicMin(out + 5, (unsigned int)t + 3);
            atomicOr(out + 6, 1u << t % 32);
            atomicCAS(out + 7, 0u, 9u);
            unsigned int ticket = atomicAdd(out + 8, 1u);
            __syncthreads();
            if (ticket == 63) out[9] = out[8];
        """
        start = np.array([0, 0, 0, 0, 0, 99, 0, 0, 0, 0], np.uint32)
        assert_array_equal(run(body, start, block=(64,)), [16, 16, 16, 16, 63, 3, 0xFFFFFFFF, 9, 64, 64])

    def test_integer_intrinsics(self):
        source = """
        extern "C" __global__ void k(const unsigned int* x, const unsigned int* y, unsigned int* out) {
            unsigned int i = threadIdx.x, a = x[i], b = y[i], *o = out + 6 * i;
            o[0] = __umulhi(a, b);
            o[1] = __umul64hi(a * 0x100000001ull, b * 0x100000001ull) >> 32;
            o[2] = __popc(a); o[3] = __clz(a); o[4] = __ffs(b); o[5] = __brev(a);
        }"""
        x, y = np.random.default_rng(3).integers(2**32, size=(2, 32), dtype=np.uint32)
        x[0] = y[0] = 0
        out = np.zeros((32, 6), np.uint32)
        kernel(source, "k")((1,), (32,), (x, y, out))
        for row, a, b in zip(out, x.tolist(), y.tolist(), strict=True):
            wide = (a * (2**32 + 1)) * (b * (2**32 + 1)) >> 96
            first = (b & -b).bit_length()
            mirror = int(f"{a:032b}"[::-1], 2)
            assert_array_equal(row, [a * b >> 32, wide, a.bit_count(), 32 - a.bit_length(), first, mirror])


DEADLOCKS = {
    "if (t < 40) __syncthreads();": "40 threads .0, .* waiting at __syncthreads.*24 threads .40, .* returned",
    "if (t < 40) __syncthreads();\nelse\n__syncthreads();": "waiting at __syncthreads.*line 2.*line 4",
    "if (t < 40) return; __syncthreads();": "40 threads .0, .* returned.*24 threads .40",
    "if (t != 7) out[t] = __shfl_sync(~0u, t, 0);": "31 threads .* waiting at __shfl_sync.0xffffffff",
    "if (t % 2) __syncwarp(); else __any_sync(~0u, 1);": "waiting at __any_sync.*waiting at __syncwarp",
    "__syncwarp(0xffu << t % 2);": "lane .* is not in its own mask",
    "out[t] = __shfl_sync(~0u, t, 0, 5);": "width must be a power of two",
}


@needs_compiler
class TestErrors:
    @pytest.mark.parametrize("step", [1, 63])  # the neighbour above, the neighbour below
    def test_missing_barrier_shows_in_one_order(self, step, monkeypatch):
        source = """
        extern "C" __global__ void shift(int* out, int step, bool barrier) {
            __shared__ int x[64];
            x[threadIdx.x] = threadIdx.x;
            if (barrier) __syncthreads();
            out[threadIdx.x] = x[(threadIdx.x + step) % 64];
        }"""
        out = np.zeros(64, np.int32)
        correct = {}
        for barrier in (False, True):
            for reverse in (False, True):
                monkeypatch.setattr(CpuModule, "reverse", reverse)
                kernel(source, "shift")((1,), (64,), (out, np.int32(step), np.bool_(barrier)))
                correct[barrier, reverse] = np.array_equal(out, (np.arange(64) + step) % 64)
        assert correct[True, False]
        assert correct[True, True]
        assert not (correct[False, False] and correct[False, True])

    @pytest.mark.usefixtures("order")
    @pytest.mark.parametrize("number", range(len(DEADLOCKS)))
    def test_deadlock(self, number):
        head = 'extern "C" __global__ void k{}(int* out) {{ const int t = threadIdx.x;'
        source = "\n".join(f"{head.format(i)} {body} }}" for i, body in enumerate(DEADLOCKS))
        message = list(DEADLOCKS.values())[number]
        out = np.zeros(64, np.int32)
        with pytest.raises(RuntimeError, match=rf"(?s)kernel 'k{number}': block \(0, 0, 0\): .*{message}"):
            kernel(source, f"k{number}")((1,), (64,), (out,))

    def test_full_mask_in_part_of_a_warp(self):
        with pytest.raises(RuntimeError, match=r"8 threads .32, .* waiting at __syncwarp"):
            run("__syncwarp(); out[t] = 1;", np.zeros(40, np.int32), block=(40,))
        # Nothing is left of the failure.
        assert_array_equal(run("__syncwarp(); out[t] = 1;", np.zeros(32, np.int32)), 1)

    @pytest.mark.parametrize(
        ("position", "value", "message"),
        [
            (0, np.zeros(4, np.float32), "argument 0 .x. must be an array of float64, got float32"),
            (0, np.zeros(4, ">f8"), "must be an array of float64, got >f8"),
            (1, np.float64(1), "argument 1 .y. must be an array of float64, got float64"),
            (2, np.frombuffer(bytes(32)), "read-only"),
            (2, None, "got NoneType"),
            (3, 4, "argument 3 .n. must be a NumPy scalar of int64, got int"),
            (3, np.int32(4), "must be a NumPy scalar of int64, got int32"),
            (3, np.uint64(4), "must be a NumPy scalar of int64, got uint64"),
            (3, np.zeros(4), "got ndarray"),
        ],
    )
    def test_argument_types(self, position, value, message):
        args = [np.zeros(4), np.zeros(4), np.zeros(4), np.int64(4)]
        args[position] = value
        with pytest.raises(TypeError, match=f"kernel 'add'.*{message}"):
            kernel(ADD, "add", "-DREAL=double")((1,), (32,), args)

    def test_argument_count(self):
        with pytest.raises(TypeError, match="kernel 'add' takes 4 arguments, got 3"):
            kernel(ADD, "add", "-DREAL=double")((1,), (32,), (np.zeros(4), np.zeros(4), np.zeros(4)))

    @pytest.mark.parametrize(
        ("grid", "block", "shared_mem", "error"),
        [
            ((0,), (32,), 0, ValueError),
            ((1,), (0,), 0, ValueError),
            ((2**31,), (32,), 0, ValueError),
            ((1, 65536), (32,), 0, ValueError),
            ((1,), (32, 33), 0, ValueError),
            ((1,), (1, 1, 65), 0, ValueError),
            ((1,), (32,), 48 * 1024 - 127, ValueError),
            ((1.0,), (32,), 0, TypeError),
            (1, (32,), 0, TypeError),
            ((1,), (32, 1, 1, 1), 0, TypeError),
        ],
    )
    def test_limits(self, grid, block, shared_mem, error):
        body = "__shared__ volatile int fixed[32]; fixed[0] = 0;"
        with pytest.raises(error):
            run(body, np.zeros(1, np.int32), grid=grid, block=block, shared_mem=shared_mem)
        run(body, np.zeros(1, np.int32), shared_mem=48 * 1024 - 128)

    def test_sources(self):
        with pytest.raises(RuntimeError, match=r"kernel.cu:1.*oops"):
            kernel('extern "C" __global__ void k() { oops; }', "k")
        with pytest.raises(RuntimeError, match="nowhere"):
            kernel('__device__ void nowhere(); extern "C" __global__ void k() { nowhere(); }', "k")
        with pytest.raises(ValueError, match=r"no extern .* kernel 'l'; there are: k"):
            kernel('// extern "C" __global__ void l()\nextern "C" __global__ void k() {}', "l")


@needs_compiler
def test_options_and_cache():
    source = 'extern "C" __global__ void k(int* out) { out[0] = N; }'
    out = np.zeros(1, np.int32)
    for n in (3, 4):
        kernel(source, "k", f"-DN={n}")((1,), (1,), (out,))
        assert out[0] == n
    first, second = (CpuModule(code=source, options=("-DN=4",)) for _ in range(2))
    assert first._library is second._library


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90"])
def test_nvrtc(arch):
    lib = find_nvrtc()
    compile_cuda(lib, ADD + SUM, arch, ("-DREAL=float", "--std=c++17"))
    with pytest.raises(RuntimeError, match="REAL"):
        compile_cuda(lib, ADD, arch)
    with pytest.raises(RuntimeError, match="warning"):
        compile_cuda(lib, 'extern "C" __global__ void k(int* x) { int unused; x[0] = 1; }', arch)
    big = "__shared__ int s[12289]; s[x[0]] = 1; __syncthreads(); x[1] = s[x[2]];"
    with pytest.raises(RuntimeError, match="too much shared"):  # only ptxas knows
        compile_cuda(lib, f'extern "C" __global__ void k(int* x) {{ {big} }}', arch)
