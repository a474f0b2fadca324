/*
 * kernels/flat.h - for kernels that walk over memory: values in packs of V floats, sizes of grids.
 *
 * A pack of 4 is one 16-byte access. Kernels take the width V as a template argument and the
 * wrapper chooses it by alignment and divisibility (aligned()); index arithmetic is 32-bit where the
 * wrapper has checked that everything fits (fits_32()), since 64-bit division costs tens of
 * instructions on a GPU.
 */
#ifndef LIPS_KERNELS_FLAT_H
#define LIPS_KERNELS_FLAT_H

#include "kernels/cuda.h"

namespace lips_flat
{

constexpr int THREADS = 256; /* 8 blocks fill the 2048 threads of a multiprocessor */
constexpr int64_t BLOCKS_MAX = INT64_C(1) << 20; /* loops take the rest */
constexpr uintptr_t PACK_ALIGN = 16;

template <int V> struct alignas(4 * V) pack {
    float v[V];
};

template <int V> __device__ inline pack<V> load(const float *p)
{
    return *reinterpret_cast<const pack<V> *>(p);
}

template <int V> __device__ inline void store(float *p, const pack<V> &x)
{
    *reinterpret_cast<pack<V> *>(p) = x;
}

inline unsigned blocks_for(int64_t threads)
{
    int64_t n = (threads + THREADS - 1) / THREADS;
    return (unsigned)(n < 1 ? 1 : n < BLOCKS_MAX ? n : BLOCKS_MAX);
}

inline bool aligned(const void *p)
{
    return reinterpret_cast<uintptr_t>(p) % PACK_ALIGN == 0;
}

/* Leaves room for the last step of a grid-stride loop. */
inline bool fits_32(int64_t n)
{
    return n < (INT64_C(1) << 31);
}

/* First item of this thread, and the distance to its next. */
template <class I> __device__ inline I first_item()
{
    return (I)blockIdx.x * blockDim.x + threadIdx.x;
}

template <class I> __device__ inline I item_step()
{
    return (I)gridDim.x * blockDim.x;
}

} // namespace lips_flat

#endif
