/*
 * kernels/conv_store.h - what ends a row of a convolution's result: bias and ReLU, or the mask of
 * the vjp, and the store of two neighbouring columns at a time (device code).
 */
#ifndef LIPS_KERNELS_CONV_STORE_H
#define LIPS_KERNELS_CONV_STORE_H

#include "cuda.h"

namespace
{

struct ConvEnd {
    const float *bias; /* (n) or nullptr */
    int n;             /* columns of the result */
    int relu;
    bool pairs; /* two neighbouring columns are 8-byte aligned everywhere */

    __device__ __forceinline__ float end(const float *mask, int col, float v) const
    {
        if (bias)
            v += bias[col];
        if (relu)
            v = v < 0 ? 0 : v; /* keeps NaN */
        if (mask && !(mask[col] > 0))
            v = 0;
        return v;
    }

    /* Columns col and col + 1 of the row at `to`, as far as there are such. */
    __device__ __forceinline__ void put(float *to, const float *mask, int col, float v0,
                                        float v1) const
    {
        if (col >= n)
            return;
        v0 = end(mask, col, v0);
        if (col + 1 < n)
            v1 = end(mask, col + 1, v1);
        if (pairs) {
            *reinterpret_cast<float2 *>(to + col) = make_float2(v0, v1);
            return;
        }
        to[col] = v0;
        if (col + 1 < n)
            to[col + 1] = v1;
    }

    /* Columns col + 8 i and the next, for all i < NI: halves 0 or 1 of fragments. All that is read
     * is asked for before any of it is used: one wait a row, not one a pair. */
    template <int NI>
    __device__ __forceinline__ void put_row(float *to, const float *mask, int col,
                                            const float (&acc)[NI][4], int half) const
    {
        float2 add[NI], gate[NI];
        if (!pairs || ((uintptr_t)bias | (uintptr_t)mask) % 8) {
#pragma unroll
            for (int i = 0; i < NI; i++)
                put(to, mask, col + 8 * i, acc[i][half * 2], acc[i][half * 2 + 1]);
            return;
        }
#pragma unroll
        for (int i = 0; i < NI; i++) {
            const int at = col + 8 * i;
            add[i] = make_float2(0, 0);
            gate[i] = make_float2(1, 1);
            if (bias && at < n)
                add[i] = *reinterpret_cast<const float2 *>(bias + at);
            if (mask && at < n)
                gate[i] = *reinterpret_cast<const float2 *>(mask + at);
        }
#pragma unroll
        for (int i = 0; i < NI; i++) {
            float2 v = make_float2(acc[i][half * 2], acc[i][half * 2 + 1]);
            if (bias)
                v = make_float2(v.x + add[i].x, v.y + add[i].y);
            if (relu) /* keeps NaN */
                v = make_float2(v.x < 0 ? 0 : v.x, v.y < 0 ? 0 : v.y);
            v = make_float2(gate[i].x > 0 ? v.x : 0, gate[i].y > 0 ? v.y : 0);
            if (col + 8 * i < n)
                *reinterpret_cast<float2 *>(to + col + 8 * i) = v;
        }
    }
};

inline __device__ ConvEnd conv_end(const float *bias, int relu, int n, const float *dst)
{
    return {bias, n, relu, n % 2 == 0 && (uintptr_t)dst % 8 == 0};
}

} // namespace

#endif
