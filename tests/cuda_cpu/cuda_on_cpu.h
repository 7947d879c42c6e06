// CUDA C on the CPU, for tests: every CUDA thread of a block is a fibre, all fibres run on one OS thread.
//
// A fibre runs until it waits (at the barrier of its block or at an operation of its warp) or returns. A warp
// operation opens when every lane of its mask waits at it, the barrier when every thread of the block does; if
// neither can open, the launch fails and says who waits where. Between two waits a fibre runs alone, so a
// missing barrier shows as a wrong answer in one of the two thread orders; a missing atomic does not show.
// A kernel that spins on memory hangs.
#pragma once
#include <link.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __shared__ thread_local  // static storage that also allows `extern`; nothing else here is thread_local

struct uint3 { unsigned int x, y, z; };
#define CUDA_ON_CPU_VECTOR(T, V)                                                                \
    struct __align__(2 * sizeof(T)) V##2 { T x, y; };                                           \
    struct __align__(16) V##4 { T x, y, z, w; };                                                \
    static inline V##2 make_##V##2(T x, T y) { return {x, y}; }                                 \
    static inline V##4 make_##V##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUDA_ON_CPU_VECTOR(float, float)
CUDA_ON_CPU_VECTOR(double, double)
CUDA_ON_CPU_VECTOR(int, int)
CUDA_ON_CPU_VECTOR(unsigned int, uint)

alignas(16) thread_local unsigned char smem[48 * 1024];  // what `extern __shared__ ... smem[]` refers to

#if defined(__x86_64__) && !defined(CUDA_ON_CPU_UCONTEXT)  // swapcontext makes a system call: 20 times slower
typedef void* cuda_on_cpu_context;                         // a stack pointer; the rest lies on the stack
extern "C" void cuda_on_cpu_swap(cuda_on_cpu_context* from, cuda_on_cpu_context* to);
asm(R"(
    .text
    .type cuda_on_cpu_swap, @function
cuda_on_cpu_swap:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
    .size cuda_on_cpu_swap, .-cuda_on_cpu_swap
)");
static inline void cuda_on_cpu_start(cuda_on_cpu_context* fibre, char* stack, size_t size, void (*body)()) {
    void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + size) & ~uintptr_t(15));
    *--top = nullptr;  // body's own return address: never used, keeps the stack aligned as after a call
    *--top = reinterpret_cast<void*>(body);
    *fibre = top - 6;  // six registers of any value
}
#else
#include <ucontext.h>
typedef ucontext_t cuda_on_cpu_context;
static inline void cuda_on_cpu_swap(cuda_on_cpu_context* from, cuda_on_cpu_context* to) { swapcontext(from, to); }
static inline void cuda_on_cpu_start(cuda_on_cpu_context* fibre, char* stack, size_t size, void (*body)()) {
    getcontext(fibre);
    fibre->uc_stack.ss_sp = stack;
    fibre->uc_stack.ss_size = size;
    makecontext(fibre, body, 0);
}
#endif

namespace cuda_on_cpu {

enum State { READY, BLOCK, WARP, DONE };
struct Fibre {
    cuda_on_cpu_context context;
    uint3 index;
    State state;
    const char* operation;  // of the warp operation: its name, ...
    unsigned int mask;
    int source, line;  // ... the lane to read from (-1: the ballot), the line in the kernel's source
    uint64_t value, result;
};
static Fibre fibres[1024], *current;
static cuda_on_cpu_context scheduler;
static unsigned int threads;
static uint3 grid, block, block_index;
static bool reversed;
static void (*kernel_call)(void**);
static void** kernel_args;
static char error[1 << 17];  // room for a line about each thread; no std::string, it doubles the build time
static size_t error_length;
// Not a power of two, so that the tops of the stacks do not all fall into the same few cache sets.
constexpr size_t STACK = 65 * 1024 + 64;

inline void wait(State state) {
    current->state = state;
    cuda_on_cpu_swap(&current->context, &scheduler);
}
inline void run_thread() {
    kernel_call(kernel_args);
    wait(DONE);
}
template <class... A> void report(const char* format, A... values) {
    error_length += snprintf(error + error_length, sizeof error - error_length, format, values...);
}
template <class... A> void fail(const char* format, A... values) {
    if (error_length) return;  // the first failure is the one to tell
    report("block (%u, %u, %u): ", block_index.x, block_index.y, block_index.z);
    report(format, values...);
}
inline uint64_t warp_operation(const char* name, unsigned int mask, uint64_t value, int source, int line) {
    const int lane = (current - fibres) % 32;
    current->operation = name;
    current->mask = mask;
    current->value = value;
    current->source = source;
    current->line = line;
    if (!(mask >> lane & 1)) {
        fail("%s, line %d: lane %d is not in its own mask 0x%08x", name, line, lane, mask);
        wait(DONE);
    }
    wait(WARP);
    return current->result;
}
inline bool open_warp_operation(unsigned int first, unsigned int lead) {  // lead: lowest lane of the mask
    const Fibre& leader = fibres[first + lead];
    const unsigned int mask = leader.mask;
    uint64_t ballot = 0;
    if (leader.state != WARP || (mask & -mask) != 1u << lead) return false;
    for (unsigned int lane = lead; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        const Fibre& f = fibres[first + lane];
        if (first + lane >= threads || f.state != WARP || f.mask != mask || strcmp(f.operation, leader.operation))
            return false;
        ballot |= uint64_t(f.value != 0) << lane;
    }
    for (unsigned int lane = lead; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        Fibre& f = fibres[first + lane];  // a lane outside the mask has nothing to read: all bits set
        f.result = f.source < 0 ? ballot : mask >> f.source & 1 ? fibres[first + f.source].value : ~uint64_t(0);
        f.state = READY;
    }
    return true;
}
inline void run_warp(unsigned int first) {  // until no lane can go on by itself
    const unsigned int lanes = threads - first < 32 ? threads - first : 32;
    for (bool opened = true; opened && !error_length;) {
        for (unsigned int i = 0; i < lanes; ++i) {
            current = &fibres[first + (reversed ? lanes - 1 - i : i)];
            if (current->state == READY) cuda_on_cpu_swap(&scheduler, &current->context);
        }
        opened = false;
        for (unsigned int lane = 0; lane < lanes; ++lane) opened |= open_warp_operation(first, lane);
    }
}
inline void report_deadlock() {  // a headline, then a line for each thread
    fail("no barrier can open");
    for (unsigned int i = 0; i < threads; ++i) {
        const Fibre& f = fibres[i];
        if (f.state == DONE) report("\nreturned");
        else if (f.state == BLOCK) report("\nwaiting at __syncthreads(), line %d", f.line);
        else report("\nwaiting at %s(0x%08x), line %d", f.operation, f.mask, f.line);
    }
}
inline void run_block(char* stacks) {
    for (unsigned int i = 0; i < threads; ++i) {
        fibres[i].index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
        fibres[i].state = READY;
        cuda_on_cpu_start(&fibres[i].context, stacks + i * STACK, STACK, run_thread);
    }
    for (;;) {
        const unsigned int warps = (threads + 31) / 32;
        for (unsigned int w = 0; w < warps; ++w) run_warp(32 * (reversed ? warps - 1 - w : w));
        if (error_length) return;
        const State state = fibres[0].state;
        const int line = fibres[0].line;  // two __syncthreads() in two branches are not one barrier
        bool same = state != WARP;
        for (unsigned int i = 1; i < threads && same; ++i)
            same = fibres[i].state == state && (state == DONE || fibres[i].line == line);
        if (!same) return report_deadlock();
        if (state == DONE) return;
        for (unsigned int i = 0; i < threads; ++i) fibres[i].state = READY;
    }
}
inline int find_shared(dl_phdr_info* info, size_t, void* found) {  // the thread_local segment of this library
    bool ours = false;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& part = info->dlpi_phdr[i];
        const uintptr_t start = info->dlpi_addr + part.p_vaddr, here = reinterpret_cast<uintptr_t>(&run_block);
        ours |= part.p_type == PT_LOAD && here >= start && here < start + part.p_memsz;
    }
    for (int i = 0; i < info->dlpi_phnum && ours; ++i)
        if (info->dlpi_phdr[i].p_type == PT_TLS)
            *static_cast<std::pair<void*, size_t>*>(found) = {info->dlpi_tls_data, info->dlpi_phdr[i].p_memsz};
    return ours;
}
inline const char* launch(void (*call)(void**), void** args, const unsigned int* dims, size_t dynamic,
                          bool reverse) {
    kernel_call = call, kernel_args = args, reversed = reverse;
    grid = {dims[0], dims[1], dims[2]}, block = {dims[3], dims[4], dims[5]};
    threads = block.x * block.y * block.z;
    error_length = error[0] = 0;
    smem[0] = 0;  // the segment exists once it has been touched
    std::pair<void*, size_t> shared;
    dl_iterate_phdr(find_shared, &shared);
    void* stacks = mmap(nullptr, threads * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stacks == MAP_FAILED) return "no memory for the stacks";
    const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    for (uint64_t n = 0; n < blocks && !error_length; ++n) {
        const uint64_t b = reverse ? blocks - 1 - n : n;
        block_index = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
        memset(shared.first, 0xFF, shared.second);  // NaN, -1: what was never written must not look like zero
        run_block(static_cast<char*>(stacks));
        const unsigned char* rest = smem + dynamic;
        if (dynamic < sizeof smem && (*rest != 0xFF || memcmp(rest, rest + 1, sizeof smem - dynamic - 1)))
            fail("smem was written beyond shared_mem = %zu bytes", dynamic);
    }
    munmap(stacks, threads * STACK);
    return error;
}

template <class A> void describe(char*& to) {  // like "const f8*;", types as NumPy spells them, "V": any other
    using T = std::remove_cv_t<std::remove_pointer_t<A>>;
    const char kind = std::is_same_v<T, float2> || std::is_same_v<T, double2> ? 'c'
                      : std::is_same_v<T, bool>                              ? 'b'
                      : std::is_floating_point_v<T>                          ? 'f'
                      : !std::is_integral_v<T>                               ? 'V'
                      : std::is_signed_v<T>                                  ? 'i' : 'u';
    const int size = sizeof(std::conditional_t<std::is_void_v<T>, char, T>);
    to += sprintf(to, "%s%c%d%s;", std::is_const_v<std::remove_pointer_t<A>> ? "const " : "", kind, size,
                  std::is_pointer_v<A> ? "*" : "");
}
template <class... A> const char* signature(void (*)(A...)) {
    static char text[16 * sizeof...(A) + 1];
    char* to = text;
    (describe<A>(to), ...);
    return text;
}
template <class... A, size_t... I>
void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) { kernel(*static_cast<A*>(args[I])...); }
template <class... A> void call(void (*kernel)(A...), void** args) {
    call(kernel, args, std::index_sequence_for<A...>{});
}

template <class T> uint64_t bits(T value) {
    static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4 && sizeof(T) <= 8, "no shuffle of this type in CUDA");
    uint64_t word = 0;
    memcpy(&word, &value, sizeof value);
    return word;
}
template <class T, class U> T cast(U value) {
    T answer;
    memcpy(&answer, &value, sizeof answer);
    return answer;
}
template <class T> T shuffle(const char* name, unsigned int mask, T value, int source, int line) {
    return cast<T>(warp_operation(name, mask, bits(value), source, line));
}
inline int lane() { return (current - fibres) % 32; }
template <class T, class F> T exchange(T* address, F change) {  // one OS thread: nothing to lock
    const T old = *address;
    *address = change(old);
    return old;
}

}  // namespace cuda_on_cpu

#define threadIdx (cuda_on_cpu::current->index)
#define blockIdx (cuda_on_cpu::block_index)
#define blockDim (cuda_on_cpu::block)
#define gridDim (cuda_on_cpu::grid)
constexpr int warpSize = 32;

inline void __syncthreads(int line = __builtin_LINE()) {
    cuda_on_cpu::current->line = line;
    cuda_on_cpu::wait(cuda_on_cpu::BLOCK);
}
inline void __syncwarp(unsigned int mask = ~0u, int line = __builtin_LINE()) {
    cuda_on_cpu::warp_operation("__syncwarp", mask, 0, -1, line);
}
inline unsigned int __ballot_sync(unsigned int mask, int test, int line = __builtin_LINE()) {
    return cuda_on_cpu::warp_operation("__ballot_sync", mask, test != 0, -1, line);
}
inline int __any_sync(unsigned int mask, int test, int line = __builtin_LINE()) {
    return cuda_on_cpu::warp_operation("__any_sync", mask, test != 0, -1, line) != 0;
}
inline int __all_sync(unsigned int mask, int test, int line = __builtin_LINE()) {
    return cuda_on_cpu::warp_operation("__all_sync", mask, test != 0, -1, line) == mask;
}
// `me` is the calling lane, `low` and `high` the first and last lane of its group of `width` lanes.
#define CUDA_ON_CPU_SHUFFLE(NAME, ARGUMENT, SOURCE)                                                          \
    template <class T>                                                                                       \
    T NAME(unsigned int mask, T value, ARGUMENT by, int width = 32, int line = __builtin_LINE()) {           \
        const int me = cuda_on_cpu::lane(), low = me & -width, high = low + width - 1;                       \
        (void)high;                                                                                          \
        if (width < 1 || width > 32 || (width & (width - 1)))                                                \
            cuda_on_cpu::fail(#NAME ", line %d: width must be a power of two up to 32", line);               \
        return cuda_on_cpu::shuffle(#NAME, mask, value, SOURCE, line);                                       \
    }
CUDA_ON_CPU_SHUFFLE(__shfl_sync, int, low + (by & (width - 1)))
CUDA_ON_CPU_SHUFFLE(__shfl_xor_sync, int, unsigned(me ^ by) > unsigned(high) ? me : me ^ by)
CUDA_ON_CPU_SHUFFLE(__shfl_up_sync, unsigned int, unsigned(me - low) < by ? me : me - int(by))
CUDA_ON_CPU_SHUFFLE(__shfl_down_sync, unsigned int, unsigned(high - me) < by ? me : me + int(by))
inline void __threadfence() {}
inline void __threadfence_block() {}

#define CUDA_ON_CPU_ATOMIC(NAME, T, NEW) \
    inline T NAME(T* address, T value) { return cuda_on_cpu::exchange(address, [=](T old) -> T { return NEW; }); }
#define CUDA_ON_CPU_INTEGER_ATOMICS(T)                       \
    CUDA_ON_CPU_ATOMIC(atomicMax, T, old > value ? old : value) \
    CUDA_ON_CPU_ATOMIC(atomicMin, T, old < value ? old : value) \
    CUDA_ON_CPU_ATOMIC(atomicOr, T, old | value)             \
    CUDA_ON_CPU_ATOMIC(atomicAnd, T, old & value)            \
    CUDA_ON_CPU_ATOMIC(atomicXor, T, old ^ value)            \
    CUDA_ON_CPU_ATOMIC(atomicExch, T, value)                 \
    inline T atomicCAS(T* address, T compare, T value) {     \
        return cuda_on_cpu::exchange(address, [=](T old) { return old == compare ? value : old; }); \
    }
CUDA_ON_CPU_INTEGER_ATOMICS(int)
CUDA_ON_CPU_INTEGER_ATOMICS(unsigned int)
CUDA_ON_CPU_INTEGER_ATOMICS(unsigned long long)
CUDA_ON_CPU_ATOMIC(atomicAdd, int, int(unsigned(old) + unsigned(value)))
CUDA_ON_CPU_ATOMIC(atomicAdd, unsigned int, old + value)
CUDA_ON_CPU_ATOMIC(atomicAdd, unsigned long long, old + value)
CUDA_ON_CPU_ATOMIC(atomicAdd, float, old + value)
CUDA_ON_CPU_ATOMIC(atomicAdd, double, old + value)

inline int __popc(unsigned int x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned int __brev(unsigned int x) {
    unsigned int y = 0;
    for (int i = 0; i < 32; ++i) y |= (x >> i & 1) << (31 - i);
    return y;
}
inline unsigned int __umulhi(unsigned int x, unsigned int y) { return uint64_t(x) * y >> 32; }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned __int128)(x) * y >> 64;
}
inline int __float_as_int(float x) { return cuda_on_cpu::cast<int>(x); }
inline unsigned int __float_as_uint(float x) { return cuda_on_cpu::cast<unsigned int>(x); }
inline float __int_as_float(int x) { return cuda_on_cpu::cast<float>(x); }
inline float __uint_as_float(unsigned int x) { return cuda_on_cpu::cast<float>(x); }
inline long long __double_as_longlong(double x) { return cuda_on_cpu::cast<long long>(x); }
inline double __longlong_as_double(long long x) { return cuda_on_cpu::cast<double>(x); }

#define CUDA_ON_CPU_ROUNDED(T, F, FMA, SQRT)                    \
    inline T __##F##add_rn(T x, T y) { return x + y; }             \
    inline T __##F##sub_rn(T x, T y) { return x - y; }             \
    inline T __##F##mul_rn(T x, T y) { return x * y; }             \
    inline T __##F##div_rn(T x, T y) { return x / y; }             \
    inline T __##F##sqrt_rn(T x) { return SQRT(x); }               \
    inline T __##FMA##_rn(T x, T y, T z) { return FMA(x, y, z); }  \
    inline T rsqrt(T x) { return 1 / SQRT(x); }
CUDA_ON_CPU_ROUNDED(float, f, fmaf, sqrtf)
CUDA_ON_CPU_ROUNDED(double, d, fma, sqrt)
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
template <class T> T __ldg(const T* address) { return *address; }
template <class A, class B> std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) return fmin(T(a), T(b));  // of a NaN and a number: the number
    else return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B> std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) return fmax(T(a), T(b));
    else return T(a) < T(b) ? T(b) : T(a);
}

// After the kernels' source, once for each kernel.
#define CUDA_ON_CPU_EXPORT(KERNEL)                                                                   \
    extern "C" __attribute__((visibility("default"))) const char* KERNEL##_signature() {             \
        return cuda_on_cpu::signature(::KERNEL);                                                     \
    }                                                                                                \
    extern "C" __attribute__((visibility("default"))) const char* KERNEL##_launch(                   \
        void** args, const unsigned int* dims, size_t dynamic, int reverse) {                        \
        return cuda_on_cpu::launch([](void** a) { cuda_on_cpu::call(::KERNEL, a); }, args, dims, dynamic, reverse); \
    }
