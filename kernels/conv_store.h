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
};

inline __device__ ConvEnd conv_end(const float *bias, int relu, int n, const float *dst)
{
    return {bias, n, relu, n % 2 == 0 && (uintptr_t)dst % 8 == 0};
}

} // namespace

#endif
