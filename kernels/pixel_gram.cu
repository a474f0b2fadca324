/*
 * pixel_gram - the pixel way of conv_gram: Gram matrices of a sample's pixels and of its patches.
 *
 *   XX[q][q'] = <x_q, x_q'>
 *   A[p][p'] = sum over the taps k that both positions have inside the image of XX[p + k][p' + k]
 *
 * Shapes     x (B,H,W,C) f32; xx (B,HW,HW) and a (B,P,P) f32, overwritten; P = OH OW
 * Work split XX: a block a tile of 128 x 64 below the diagonal, or meeting it, which is written on
 *            both sides. A: a thread an entry.
 * Precision  XX float32-grade (tile_product.h), or tf32 if `single`; A f32 additions
 * Order      channels ascending, taps ascending
 * Cost       HW^2 C / 2 multiply-adds and R^2 P^2 additions a sample, 4 (HW^2 + P^2) bytes written,
 *            a sample's XX read from L2: 256 channels at 8 x 8, 1 M and 37 k: with 128 samples at
 *            once predicted 10 us, a fiftieth of the products with dy
 * Limits     B and P <= 65535 (gridDim)
 * Proof      tests/ops/test_gram_cuda.c
 * History    v1 in conv_gram.cu.
 */
#include "kernels/pixel_gram.h"

#include "kernels/check.h"
#include "kernels/tile_product.h"

using tile_product::BK;
using tile_product::sums;
using tile_product::THREADS;
using tile_product::tile;

namespace
{

constexpr int ROWS = 128; /* of a tile */

/* x of one sample with channels as k: they lie together, so neighbouring threads hold them. */
template <int WIDTH, int LD> struct channels {
    static constexpr int N = BK * WIDTH / THREADS;
    const float *x;
    int q0, hw, c;

    __device__ void fetch(float (&v)[N], int k0) const
    {
        const int k = k0 + (int)threadIdx.x % BK;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const int q = q0 + (int)threadIdx.x / BK + i * (THREADS / BK);
            v[i] = k < c && q < hw ? x[(int64_t)q * c + k] : 0.0f;
        }
    }
    __device__ void store(float *to, const float (&v)[N]) const
    {
#pragma unroll
        for (int i = 0; i < N; i++)
            to[(int)threadIdx.x % BK * LD + (int)threadIdx.x / BK + i * (THREADS / BK)] = v[i];
    }
};

/* xx[s][q][q'] = <x_q, x_q'>. The block's tile is below the diagonal, or meets it. */
__global__ void __launch_bounds__(THREADS)
    pixel_gram(float *__restrict__ xx, const float *__restrict__ x, int hw, int c, bool single)
{
    typedef tile<ROWS> T;
    CU_SHARED(float, shared, [T::FLOATS]);
    const int64_t s = blockIdx.y;
    const int tiles = (hw + T::BN - 1) / T::BN;
    const int m0 = (int)blockIdx.x / tiles * ROWS, n0 = (int)blockIdx.x % tiles * T::BN;
    if (m0 + ROWS <= n0)
        return;
    const float *from = x + s * hw * c;
    float *to = xx + s * hw * hw;
    sums sum;
    tile_product::product<ROWS>(sum, shared, channels<ROWS, T::LDA>{from, m0, hw, c},
                                channels<T::BN, T::LDB>{from, n0, hw, c}, c, hw - m0, hw - n0,
                                single);
    tile_product::each<ROWS>(sum, [&](int row, int col, float v) {
        const int i = m0 + row, j = n0 + col;
        if (i < hw && j <= i) {
            to[(int64_t)i * hw + j] = v;
            to[(int64_t)j * hw + i] = v;
        }
    });
}

/* a[s][p][p'] = sum over the taps that both positions have inside the image. */
__global__ void __launch_bounds__(THREADS)
    patch_gram(float *__restrict__ a, const float *__restrict__ xx, lips_cuda_pixels d)
{
    const int64_t s = blockIdx.z, hw = (int64_t)d.h * d.w;
    const int p = (int)blockIdx.y, other = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (other >= d.p)
        return;
    const int y = p / d.ow * d.stride - d.pad, x = p % d.ow * d.stride - d.pad;
    const int v = other / d.ow * d.stride - d.pad, u = other % d.ow * d.stride - d.pad;
    const float *from = xx + s * hw * hw;
    float sum = 0;
    for (int ky = max(0, -min(y, v)); ky < min(d.r, d.h - max(y, v)); ky++)
        for (int kx = max(0, -min(x, u)); kx < min(d.r, d.w - max(x, u)); kx++)
            sum += from[((y + ky) * d.w + x + kx) * hw + (v + ky) * d.w + u + kx];
    a[(s * d.p + p) * d.p + other] = sum;
}

} // namespace

extern "C" lips_status lips_cuda_pixel_gram(float *xx, float *patch, const float *x,
                                            const lips_cuda_pixels *d, int samples,
                                            cudaStream_t stream)
{
    const int hw = d->h * d->w, rows = (hw + ROWS - 1) / ROWS;
    const int cols = (hw + tile<ROWS>::BN - 1) / tile<ROWS>::BN;
    CU_LAUNCH(pixel_gram, dim3((unsigned)(rows * cols), (unsigned)samples), dim3(THREADS), 0,
              stream, xx, x, hw, d->c, d->single);
    LIPS_TRY_LAUNCH(stream);
    CU_LAUNCH(patch_gram,
              dim3((unsigned)((d->p + THREADS - 1) / THREADS), (unsigned)d->p, (unsigned)samples),
              dim3(THREADS), 0, stream, patch, xx, *d);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
