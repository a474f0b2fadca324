/*
 * tests/cusim/device.h - CUDA's device language for kernels compiled by g++ (kernels/cuda.h).
 *
 * Types and prototypes are NVIDIA's own, from the headers of the toolkit that a C++ compiler can
 * read. The rest is here: the built-in variables of the running thread, barriers, warp collectives,
 * atomics, shared memory and launches. What is missing is not offered: it does not compile.
 *
 * One block runs at a time, its threads one after the other, so plain globals hold what differs
 * between threads. Everything here belongs to the thread `cusim::now` says is running.
 */
#ifndef LIPS_TESTS_CUSIM_DEVICE_H
#define LIPS_TESTS_CUSIM_DEVICE_H

#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <algorithm>
#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <type_traits>

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
/* __shared__ stays undefined: shared memory goes through CU_SHARED. */

namespace cusim
{

/* A place in a source file, one object for each instantiation: its address names the place. */
struct Site {
    const char *file;
    int line;
};

struct Copies;
struct Products;

/* What the built-in variables of the running thread say. */
struct Now {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
    int lane;
    unsigned char *dynamic_shared;
    Copies *copies;     /* copies.h */
    Products *products; /* products.h */
};
extern Now now;

enum class Reduce { COUNT, OR, AND };

void block_barrier(const Site *site);
int block_barrier_reduce(const Site *site, Reduce op, bool predicate);

/* What the last lane does for the others is no access of the kernel's: unseen by the race detector.
 */
#ifdef __SANITIZE_THREAD__
#define CUSIM_UNSEEN __attribute__((no_sanitize_thread))
#else
#define CUSIM_UNSEEN
#endif

/* Meets the lanes of mask; the last to arrive calls fn once for all of them. in[i] and out[i] are
 * lane i's arguments, nullptr for lanes outside mask. Orders no memory, as on a device; a
 * warp_barrier does. */
typedef void (*Collective)(unsigned mask, const void *const *in, void *const *out);
void warp_collective(unsigned mask, const Site *site, const void *in, void *out, Collective fn);
void warp_barrier(unsigned mask, const Site *site);

/* The shared object of this site in the running block: NaN-filled for every block. */
void *shared_object(const Site *site, size_t bytes, size_t align);

/* Stops the program with the message, after the names of kernel, block and thread. */
[[noreturn]] __attribute__((format(printf, 1, 2))) void report(const char *format, ...);

/* Refuses arguments that hold host pointers: the argument itself, or a word of a struct. */
void check_pointer(const void *p, const char *kernel, int argument);
void check_struct(const void *value, size_t bytes, const char *kernel, int argument);

struct Launch {
    dim3 grid, block;
    size_t shared;
    const char *name;
    const void *function; /* the key of cudaFuncSetAttribute */
    std::function<void()> body;
};
void launch(cudaStream_t stream, const Launch &what);

/* CUSIM_INDEX_MAX: from how many values on indices have 64 bits, to see those kernels run. */
int64_t index_max();

template <class T> void check_argument(const T &value, const char *kernel, int argument)
{
    static_assert(std::is_trivially_copyable<T>::value, "kernel arguments are copied as bytes");
    if constexpr (std::is_pointer<T>::value)
        check_pointer((const void *)value, kernel, argument);
    else if constexpr (std::is_class<T>::value && sizeof(T) >= sizeof(void *))
        check_struct(&value, sizeof value, kernel, argument);
}

/* Arguments are converted to the parameters' types before they are checked, as the compiler of the
 * device would. */
template <class... P, class... A>
void launch_kernel(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, const char *name,
                   void (*kernel)(P...), A... args)
{
    static_assert(sizeof...(P) == sizeof...(A), "number of kernel arguments");
    auto start = [=](std::remove_cv_t<P>... p) {
        int argument = 0;
        (check_argument(p, name, argument++), ...);
        launch(stream, {grid, block, shared, name, (const void *)kernel, [=]() { kernel(p...); }});
    };
    start(args...);
}

/* All lanes' values to every lane of mask: out[i] is lane i's, for the lanes of mask. */
template <class T> void gather(unsigned mask, const T &value, T *out, const Site *site)
{
    warp_collective(mask, site, &value, out,
                    [](unsigned m, const void *const *in, void *const *to) CUSIM_UNSEEN {
                        for (int i = 0; i < 32; i++)
                            for (int j = 0; j < 32; j++)
                                if (m >> i & 1 && m >> j & 1)
                                    ((T *)to[i])[j] = *(const T *)in[j];
                    });
}

/* One shuffle: each lane's value and the lane that it reads. */
template <class T> struct Shuffle {
    T value;
    int from;
};

/* from is the source lane, or a number outside the lane's segment: its own value then. Reading a
 * lane outside the mask is undefined on a device: an error here. */
template <class T> T shuffle(unsigned mask, T value, int from, const Site *site)
{
    Shuffle<T> in = {value, from};
    T out;
    warp_collective(mask, site, &in, &out,
                    [](unsigned m, const void *const *all, void *const *to) CUSIM_UNSEEN {
                        for (int i = 0; i < 32; i++) {
                            if (!(m >> i & 1))
                                continue;
                            int source = ((const Shuffle<T> *)all[i])->from;
                            if (!(m >> source & 1))
                                report("shuffle: lane %d reads lane %d, which is not in mask %08x",
                                       i, source, m);
                            *(T *)to[i] = ((const Shuffle<T> *)all[source])->value;
                        }
                    });
    return out;
}

inline int shuffle_to(int lane, int width)
{
    return (now.lane & ~(width - 1)) + (lane & (width - 1));
}
inline int shuffle_xor(int mask, int width)
{
    int from = now.lane ^ mask;
    /* A later segment than the own one: the own value; an earlier one may be read. */
    return (from | (width - 1)) > (now.lane | (width - 1)) ? now.lane : from;
}
inline int shuffle_up(unsigned delta, int width)
{
    int from = now.lane - (int)delta;
    return from < (now.lane & ~(width - 1)) ? now.lane : from;
}
inline int shuffle_down(unsigned delta, int width)
{
    int from = now.lane + (int)delta;
    return from > (now.lane | (width - 1)) ? now.lane : from;
}

inline unsigned ballot(unsigned mask, bool predicate, const Site *site)
{
    unsigned out = 0;
    warp_collective(mask, site, &predicate, &out,
                    [](unsigned m, const void *const *in, void *const *to) CUSIM_UNSEEN {
                        unsigned all = 0;
                        for (int i = 0; i < 32; i++)
                            if (m >> i & 1 && *(const bool *)in[i])
                                all |= 1u << i;
                        for (int i = 0; i < 32; i++)
                            if (m >> i & 1)
                                *(unsigned *)to[i] = all;
                    });
    return out;
}

/* Read-modify-write, seen as an atomic by the race detector. */
template <class T, class F> T read_modify_write(T *p, F f)
{
    T old, changed;
    __atomic_load(p, &old, __ATOMIC_ACQUIRE);
    do
        changed = f(old);
    while (
        !__atomic_compare_exchange(p, &old, &changed, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    return old;
}

} // namespace cusim

/* The lambda makes the object one per instantiation of the enclosing template. */
#define CUSIM_SITE                                                                                 \
    ([]() -> const cusim::Site * {                                                                 \
        static constexpr cusim::Site site_ = {__FILE__, __LINE__};                                 \
        return &site_;                                                                             \
    }())

#define threadIdx (cusim::now.thread)
#define blockIdx (cusim::now.block)
#define blockDim (cusim::now.block_dim)
#define gridDim (cusim::now.grid_dim)
constexpr int warpSize = 32;

#define CU_INDEX_MAX (cusim::index_max())
#define CU_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                  \
    cusim::launch_kernel((grid), (block), (shared_bytes), (stream), #kernel, kernel, __VA_ARGS__)
#define CU_SHARED(type, name, dims)                                                                \
    typedef type name##_shared_type_ dims;                                                         \
    name##_shared_type_ &name = *(name##_shared_type_ *)cusim::shared_object(                      \
        CUSIM_SITE, sizeof(name##_shared_type_), alignof(name##_shared_type_))
#define CU_DYN_SHARED(type, name) type *name = reinterpret_cast<type *>(cusim::now.dynamic_shared)

#define __syncthreads() cusim::block_barrier(CUSIM_SITE)
#define __syncthreads_count(p)                                                                     \
    cusim::block_barrier_reduce(CUSIM_SITE, cusim::Reduce::COUNT, (p) != 0)
#define __syncthreads_or(p) cusim::block_barrier_reduce(CUSIM_SITE, cusim::Reduce::OR, (p) != 0)
#define __syncthreads_and(p) cusim::block_barrier_reduce(CUSIM_SITE, cusim::Reduce::AND, (p) != 0)

#define CUSIM_MASK(...) (0xffffffffu __VA_OPT__(&(unsigned)(__VA_ARGS__)))
#define __syncwarp(...) cusim::warp_barrier(CUSIM_MASK(__VA_ARGS__), CUSIM_SITE)
/* The optional last argument is the width of a segment, a power of two. */
#define CUSIM_WIDTH(...) (32 __VA_OPT__(*0 + (__VA_ARGS__)))
#define __shfl_sync(mask, v, lane, ...)                                                            \
    cusim::shuffle((mask), (v), cusim::shuffle_to((lane), CUSIM_WIDTH(__VA_ARGS__)), CUSIM_SITE)
#define __shfl_xor_sync(mask, v, bits, ...)                                                        \
    cusim::shuffle((mask), (v), cusim::shuffle_xor((bits), CUSIM_WIDTH(__VA_ARGS__)), CUSIM_SITE)
#define __shfl_up_sync(mask, v, delta, ...)                                                        \
    cusim::shuffle((mask), (v), cusim::shuffle_up((delta), CUSIM_WIDTH(__VA_ARGS__)), CUSIM_SITE)
#define __shfl_down_sync(mask, v, delta, ...)                                                      \
    cusim::shuffle((mask), (v), cusim::shuffle_down((delta), CUSIM_WIDTH(__VA_ARGS__)), CUSIM_SITE)
#define __ballot_sync(mask, p) cusim::ballot((mask), (p) != 0, CUSIM_SITE)
#define __any_sync(mask, p) (cusim::ballot((mask), (p) != 0, CUSIM_SITE) != 0)
#define __all_sync(mask, p) (cusim::ballot((mask), (p) == 0, CUSIM_SITE) == 0)

template <class T, class U> T atomicAdd(T *p, U v)
{
    return cusim::read_modify_write(p, [=](T old) { return (T)(old + (T)v); });
}
template <class T, class U> T atomicMax(T *p, U v)
{
    return cusim::read_modify_write(p, [=](T old) { return old > (T)v ? old : (T)v; });
}
template <class T, class U> T atomicMin(T *p, U v)
{
    return cusim::read_modify_write(p, [=](T old) { return old < (T)v ? old : (T)v; });
}
template <class T, class U> T atomicExch(T *p, U v)
{
    return cusim::read_modify_write(p, [=](T) { return (T)v; });
}
template <class T> T atomicCAS(T *p, T expected, T v)
{
    return cusim::read_modify_write(p, [=](T old) { return old == expected ? v : old; });
}

inline void __threadfence()
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
inline void __threadfence_block()
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
[[noreturn]] inline void __trap()
{
    cusim::report("__trap()");
}

#include "products.h"

#include "copies.h"
#include "device_math.h"

#endif
