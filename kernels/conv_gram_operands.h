/*
 * kernels/conv_gram_operands.h - operands of conv_gram's tiles for tile_product.h (device code):
 * any shape, element by element.
 */
#ifndef LIPS_KERNELS_CONV_GRAM_OPERANDS_H
#define LIPS_KERNELS_CONV_GRAM_OPERANDS_H

#include "kernels/conv_gram_sums.h"
#include "kernels/tile_product.h"

namespace conv_gram_operands
{

using conv_gram_sums::shape;
using conv_gram_sums::stack;
using tile_product::by_column;
using tile_product::tile;

/* dy of one sample as rows m = (output, stacked value) of the tile, output by output. */
template <int BM> struct cotangents : by_column<BM> {
    const float *from; /* nullptr: zeros */
    int64_t step;
    int m, p;

    __device__ cotangents(const float *dy, const shape &d, const stack &k, int o0)
    {
        const int j = by_column<BM>::column(), t = j / d.outputs, o = j % d.outputs;
        const bool inside = j < k.n * d.outputs;
        m = inside ? o * k.n + t : j;
        step = (int64_t)d.t * d.o;
        from = inside && o0 + o < d.o ? dy + (int64_t)k.value(t) * d.o + o0 + o : nullptr;
        p = d.p;
    }
    __device__ void fetch(float (&v)[by_column<BM>::N], int k0) const
    {
#pragma unroll
        for (int i = 0; i < by_column<BM>::N; i++) {
            const int k = k0 + by_column<BM>::k(i);
            v[i] = from && k < p ? from[k * step] : 0.0f;
        }
    }
    __device__ void store(float *to, const float (&v)[by_column<BM>::N]) const
    {
#pragma unroll
        for (int i = 0; i < by_column<BM>::N; i++)
            to[by_column<BM>::k(i) * tile<BM>::LDA + m] = v[i];
    }
};

/* Stores of the right-hand operand, common to the two below. */
template <int BM> struct right : by_column<tile<BM>::BN> {
    typedef by_column<tile<BM>::BN> map;
    __device__ void store(float *to, const float (&v)[map::N]) const
    {
#pragma unroll
        for (int i = 0; i < map::N; i++)
            to[map::k(i) * tile<BM>::LDB + map::column()] = v[i];
    }
};

/* The patches of one sample: column n is tap n / C of channel n % C, row p a position. */
template <int BM> struct patches : right<BM> {
    typedef typename right<BM>::map map;
    const float *x;
    shape d;
    int ky, kx, c;
    bool inside;

    __device__ patches(const float *base, const shape &shape, int n0) : x(base), d(shape)
    {
        const int n = n0 + map::column(), tap = n / d.c;
        c = n % d.c;
        ky = tap / d.r;
        kx = tap % d.r;
        inside = n < d.columns;
    }
    __device__ void fetch(float (&v)[map::N], int k0) const
    {
#pragma unroll
        for (int i = 0; i < map::N; i++) {
            const int p = k0 + map::k(i), y = p / d.ow * d.stride + ky - d.pad,
                      u = p % d.ow * d.stride + kx - d.pad;
            const bool in = inside && p < d.p && y >= 0 && y < d.h && u >= 0 && u < d.w;
            v[i] = in ? x[(y * d.w + u) * d.c + c] : 0.0f;
        }
    }
};

/* A of one sample. */
template <int BM> struct pixels : right<BM> {
    typedef typename right<BM>::map map;
    const float *a;
    int n, p;

    __device__ pixels(const float *base, const shape &d, int n0)
        : a(base), n(n0 + map::column()), p(d.p)
    {
    }
    __device__ void fetch(float (&v)[map::N], int k0) const
    {
#pragma unroll
        for (int i = 0; i < map::N; i++) {
            const int k = k0 + map::k(i);
            v[i] = n < p && k < p ? a[(int64_t)k * p + n] : 0.0f;
        }
    }
};

} // namespace conv_gram_operands

#endif
