/*
 * kernels/tile_product.h - one block's tile of a matrix product, sum_k A[k][m] B[k][n], on tensor
 * cores: what the per-sample products of conv_gram.cu are made of.
 *
 * 256 threads, 8 warps of 32 x 32, so tiles are 32 x 256, 64 x 128 or 128 x 64; sixteen k at a time
 * through shared memory, the next sixteen on their way to registers meanwhile. Operands come from a
 * loader: fetch(values, k0) reads this thread's share of sixteen k (zeros outside), store(tile,
 * values) puts it into a tile of rows k and `stride` floats.
 *
 * Precision: f32 operands as two tf32 parts, three products (error about 2^-21 of |a||b|), or one
 * rounded product. The tensor core cuts its sum towards zero, so no chain of its additions is
 * longer than FRESH k; between chains f32 additions round to nearest.
 */
#ifndef LIPS_KERNELS_TILE_PRODUCT_H
#define LIPS_KERNELS_TILE_PRODUCT_H

#include "kernels/mma.h"

namespace tile_product
{

constexpr int THREADS = 256, WARP = 32;
constexpr int BK = 16;    /* k of one stage */
constexpr int FRESH = 32; /* longest chain in the tensor core */
constexpr int PAD = 8; /* rows k and k + 1 start 8 banks apart: fragments load without conflict */

/* Sums of one warp: element (16 i + g + 8 (e / 2), 8 j + 2 q + e % 2) of its 32 x 32. */
struct sums {
    float v[2][4][4];
};

template <int BM> struct tile {
    static constexpr int BN = 32 * (THREADS / WARP) / (BM / 32);
    static constexpr int LDA = BM + PAD, LDB = BN + PAD;
    static constexpr int FLOATS = BK * (LDA + LDB);

    __device__ static int row() /* of this warp's 32 x 32 */
    {
        return (int)threadIdx.x / WARP % (BM / 32) * 32;
    }
    __device__ static int col()
    {
        return (int)threadIdx.x / WARP / (BM / 32) * 32;
    }
};

/* Neighbouring threads hold neighbouring columns: for operands whose rows lie together. */
template <int WIDTH> struct by_column {
    static constexpr int N = BK * WIDTH / THREADS, STEP = THREADS / WIDTH;
    __device__ static int column()
    {
        return (int)threadIdx.x % WIDTH;
    }
    __device__ static int k(int i)
    {
        return (int)threadIdx.x / WIDTH + i * STEP;
    }
};

__device__ __forceinline__ void split(float v, uint32_t &big, uint32_t &small)
{
    big = mma_to_tf32(v);
    small = mma_to_tf32(v - __uint_as_float(big));
}

/* part += the products of one stage. */
template <int BM>
__device__ __forceinline__ void multiply(sums &part, const float *as, const float *bs, bool single)
{
    typedef tile<BM> T;
    const int lane = (int)threadIdx.x % WARP, g = lane / 4, q = lane % 4;
#pragma unroll
    for (int k = 0; k < BK; k += 8) {
        uint32_t a[2][4], rest_a[2][4];
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                split(as[(k + q + e / 2 * 4) * T::LDA + T::row() + i * 16 + g + e % 2 * 8], a[i][e],
                      rest_a[i][e]);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint32_t b[2], rest_b[2];
#pragma unroll
            for (int e = 0; e < 2; e++)
                split(bs[(k + q + e * 4) * T::LDB + T::col() + j * 8 + g], b[e], rest_b[e]);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (!single) {
                    mma_m16n8k8_tf32(part.v[i][j], rest_a[i], b[0], b[1]);
                    mma_m16n8k8_tf32(part.v[i][j], a[i], rest_b[0], rest_b[1]);
                }
                mma_m16n8k8_tf32(part.v[i][j], a[i], b[0], b[1]);
            }
        }
    }
}

/* out = the tile's sums over k < n_k, for warps with rows below m and columns below n. shared:
 * FLOATS floats, which all threads have left behind; they may be written again on return. */
template <int BM, class A, class B>
__device__ __forceinline__ void product(sums &out, float *shared, const A &a, const B &b, int n_k,
                                        int m, int n, bool single)
{
    typedef tile<BM> T;
    float *as = shared, *bs = shared + BK * T::LDA, next_a[A::N], next_b[B::N];
    const bool works = T::row() < m && T::col() < n;
    sums part = {};
    out = sums{};
    a.fetch(next_a, 0);
    b.fetch(next_b, 0);
    for (int k = 0; k < n_k; k += BK) {
        a.store(as, next_a);
        b.store(bs, next_b);
        __syncthreads(); /* the stage is written before it is read */
        if (k + BK < n_k) {
            a.fetch(next_a, k + BK);
            b.fetch(next_b, k + BK);
        }
        if (works) {
            multiply<BM>(part, as, bs, single);
            if ((k + BK) % FRESH == 0 || k + BK >= n_k) {
#pragma unroll
                for (int i = 0; i < 2; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            out.v[i][j][e] += part.v[i][j][e];
                part = sums{};
            }
        }
        __syncthreads(); /* the stage is read before the next is written */
    }
}

/* Calls f(row, column, value) for each of this warp's sums. */
template <int BM, class F> __device__ __forceinline__ void each(const sums &s, const F &f)
{
    const int lane = (int)threadIdx.x % WARP, g = lane / 4, q = lane % 4;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                f(tile<BM>::row() + i * 16 + g + e / 2 * 8, tile<BM>::col() + j * 8 + 2 * q + e % 2,
                  s.v[i][j][e]);
}

} // namespace tile_product

#endif
