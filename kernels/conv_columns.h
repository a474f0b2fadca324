/*
 * kernels/conv_columns.h - copies into slabs of Order::COLS (gemm_tile.h) whose k are the output
 * pixels of a convolution: rows of a matrix, and the source under its taps (device code).
 *
 * A thread keeps its column, WIDTH / VEC of them side by side, and its k advance by counting, never
 * by dividing.
 */
#ifndef LIPS_KERNELS_CONV_COLUMNS_H
#define LIPS_KERNELS_CONV_COLUMNS_H

#include "gemm_tile.h"

namespace
{

/* Which columns and rows of a slab are this thread's. */
template <int THREADS, int WIDTH, int VEC> struct SlabShare {
    static constexpr int PER = WIDTH / VEC, STEP = THREADS / PER, N = BK / STEP;
    static constexpr int NEXT = STEP * PITCH<Order::COLS, WIDTH>; /* to the thread's next row */
    static_assert(WIDTH % VEC == 0 && THREADS % PER == 0 && BK % STEP == 0, "whole passes");

    __device__ static __forceinline__ int column()
    {
        return (int)threadIdx.x % PER * VEC;
    }
    __device__ static __forceinline__ int row()
    {
        return (int)threadIdx.x / PER;
    }
    __device__ static __forceinline__ int at()
    {
        return row() * PITCH<Order::COLS, WIDTH> + column();
    }
};

/* Rows k of a matrix, `pitch` floats apart. */
template <int THREADS, int WIDTH, int VEC> struct RowCopies {
    typedef SlabShare<THREADS, WIDTH, VEC> Share;
    const float *from; /* the thread's column in row 0; nullptr: zeros */
    const float *any;  /* an address to name where nothing is read */
    int64_t pitch;
    int k, last;

    __device__ __forceinline__ RowCopies(const float *column, const float *any_, int64_t pitch_,
                                         int first, int last_)
        : from(column), any(any_), pitch(pitch_), k(first + Share::row()), last(last_)
    {
    }

    __device__ __forceinline__ void operator()(float *slab)
    {
#pragma unroll
        for (int i = 0; i < Share::N; i++, k += Share::STEP) {
            const bool in = from && k < last;
            mma_copy_async<VEC * 4>(slab + Share::at() + i * Share::NEXT,
                                    in ? from + k * pitch : any, in);
        }
    }
};

/* A convolution as columns (tap, channel) by rows (sample, output pixel). */
struct TapColumns {
    int h, w, c, oh, ow, r, stride, pad;
};

template <int THREADS, int WIDTH, int VEC> struct TapCopies {
    typedef SlabShare<THREADS, WIDTH, VEC> Share;
    const TapColumns &p;
    const float *x;             /* an address to name where nothing is read */
    const float *from;          /* x at the thread's channel; nullptr beyond the last column */
    int tap_y, tap_x;           /* of the thread's column, padding taken off */
    int pixel, last, s, oy, ox; /* of the next copy */

    /* Column n is the thread's; pixels first .. last - 1. */
    __device__ __forceinline__ TapCopies(const TapColumns &p_, const float *x_, int n, int first,
                                         int last_)
        : p(p_), x(x_), last(last_)
    {
        const int tap = n / p.c;
        from = tap < p.r * p.r ? x + n % p.c : nullptr;
        tap_y = tap / p.r - p.pad;
        tap_x = tap % p.r - p.pad;
        pixel = first + Share::row();
        ox = pixel % p.ow;
        oy = pixel / p.ow % p.oh;
        s = pixel / p.ow / p.oh;
    }

    __device__ __forceinline__ void operator()(float *slab)
    {
#pragma unroll
        for (int i = 0; i < Share::N; i++, pixel += Share::STEP) {
            const int y = oy * p.stride + tap_y, z = ox * p.stride + tap_x;
            const bool in =
                from && pixel < last && (unsigned)y < (unsigned)p.h && (unsigned)z < (unsigned)p.w;
            mma_copy_async<VEC * 4>(slab + Share::at() + i * Share::NEXT,
                                    in ? from + (((int64_t)s * p.h + y) * p.w + z) * p.c : x, in);
            for (ox += Share::STEP; ox >= p.ow; ox -= p.ow)
                if (++oy == p.oh) {
                    oy = 0;
                    s++;
                }
        }
    }
};

} // namespace

#endif
