/*
 * kernels/flat.h - for kernels that walk over memory: values in packs of V floats, sizes of grids.
 *
 * A pack of 4 is one 16-byte access. Kernels take the width V as a template argument and the
 * wrapper chooses it by alignment and divisibility (aligned()); index arithmetic is 32-bit where
 * the wrapper has checked that everything fits (fits_32()), since 64-bit division costs tens of
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
    return n < CU_INDEX_MAX;
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

/* y[i] = F::value(x[i]), a thread per pack. */
template <int V, class F> __global__ void map_values(float *y, const float *x, int64_t n)
{
    for (int64_t i = first_item<int64_t>() * V; i < n; i += item_step<int64_t>() * V) {
        if (i + V <= n) {
            pack<V> p = load<V>(x + i);
            for (int j = 0; j < V; j++)
                p.v[j] = F::value(p.v[j]);
            store<V>(y + i, p);
        } else {
            for (int64_t k = i; k < n; k++)
                y[k] = F::value(x[k]);
        }
    }
}

template <class F> void launch_map(float *y, const float *x, int64_t n, cudaStream_t stream)
{
    if (aligned(y) && aligned(x))
        CU_LAUNCH((map_values<4, F>), dim3(blocks_for((n + 3) / 4)), dim3(THREADS), 0, stream, y, x,
                  n);
    else
        CU_LAUNCH((map_values<1, F>), dim3(blocks_for(n)), dim3(THREADS), 0, stream, y, x, n);
}

/* For values (outer, t, inner) whose t stacked ones share a place (outer, inner): calls
 * launch(I, outer, inner) with a value of the type I of its indices. */
template <class L>
lips_status launch_places(const char *what, int64_t outer, int64_t t, int64_t inner, L launch)
{
    if (outer < 1 || t < 1 || inner < 1)
        return lips_fail(LIPS_ERR_USAGE, "%s: %lld x %lld x %lld values", what, (long long)outer,
                         (long long)t, (long long)inner);
    if (t == 1) { /* no place is shared: one long row */
        inner *= outer;
        outer = 1;
    }
    if (fits_32(outer * t * inner))
        launch(uint32_t{}, outer, inner);
    else
        launch(int64_t{}, outer, inner);
    return LIPS_OK;
}

} // namespace lips_flat

#endif
