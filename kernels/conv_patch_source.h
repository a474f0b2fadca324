/*
 * kernels/conv_patch_source.h - a block's patch of the source in the 3 x 3 convolutions that read
 * it once for its nine taps: which pixels it has, how they come to shared memory as operands, and
 * where the results go (device code of conv_patch.cu and conv_wgmma.cu).
 */
#ifndef LIPS_KERNELS_CONV_PATCH_SOURCE_H
#define LIPS_KERNELS_CONV_PATCH_SOURCE_H

#include "conv_patch.h"
#include "conv_store.h"

namespace
{

constexpr int A_PITCH = 20; /* words from one row of the patch to the next */

/* What the kernel takes; sizes fit 32 bits. */
struct PatchParams {
    const float *src, *bias, *mask;
    const uint32_t *packed;
    float *dst;
    int planes, t, h, w, c, n; /* planes: samples times stacked values */
    int ph, pw, q;             /* a block's patch */
    int rows;                  /* with its border */
    int tiles_x, tiles, n_tiles, chunks;
    int relu, unused; /* no bytes of padding */
};

/* Row of the source and of the result, ((s h + y) w + x) t + stacked value, of place `row` of the
 * block's patch; -1 outside the image. */
__device__ __forceinline__ int source_row(const PatchParams &p, int block, int row)
{
    const int tile = block % p.tiles, width = p.pw + 2, height = p.ph + 2;
    const int plane = block / p.tiles * p.q + row / (width * height);
    const int y = tile / p.tiles_x * p.ph + row / width % height - 1;
    const int x = tile % p.tiles_x * p.pw + row % width - 1;
    if (plane >= p.planes || (unsigned)y >= (unsigned)p.h || (unsigned)x >= (unsigned)p.w)
        return -1;
    return ((plane / p.t * p.h + y) * p.w + x) * p.t + plane % p.t;
}

/* Row of the patch, from its border on, of place m of the tile; -1 beyond the last. */
__device__ __forceinline__ int patch_row(const PatchParams &p, int m)
{
    const int each = p.ph * p.pw, in = m % each;
    if (m >= each * p.q)
        return -1;
    return (m / each * (p.ph + 2) + in / p.pw) * (p.pw + 2) + in % p.pw;
}

/* This thread's 16 bytes number `pass` of a chunk of the source, on their way to the patch. */
template <lips_precision P, int THREADS> struct Courier {
    typedef Operand<P> Op;
    float v[Op::FLOATS];

    __device__ __forceinline__ void fetch(const PatchParams &p, const int *table, int chunk,
                                          int pass)
    {
        const int at = pass * THREADS + (int)threadIdx.x;
        const int c = chunk * Op::CHANNELS + at % PARTS * Op::FLOATS;
        const int row = at < p.rows * PARTS ? table[at / PARTS] : -1;
#pragma unroll
        for (int i = 0; i < Op::FLOATS; i += 4) {
            float4 f = make_float4(0, 0, 0, 0);
            if (row >= 0 && c + i < p.c)
                f = *reinterpret_cast<const float4 *>(p.src + (int64_t)row * p.c + c + i);
            v[i] = f.x;
            v[i + 1] = f.y;
            v[i + 2] = f.z;
            v[i + 3] = f.w;
        }
    }

    __device__ __forceinline__ void store(const PatchParams &p, uint32_t *patch, int pass) const
    {
        const int at = pass * THREADS + (int)threadIdx.x;
        uint32_t words[4][Op::PLANES];
        if (at >= p.rows * PARTS)
            return;
#pragma unroll
        for (int i = 0; i < 4; i++)
            Op::word(words[i], v, i);
#pragma unroll
        for (int k = 0; k < Op::PLANES; k++)
            *reinterpret_cast<uint4 *>(patch + (k * p.rows + at / PARTS) * A_PITCH +
                                       at % PARTS * 4) =
                make_uint4(words[0][k], words[1][k], words[2][k], words[3][k]);
    }
};

/* Asks for the weights of the next tap. */
template <class T, lips_precision P>
__device__ __forceinline__ void ask_weights(uint32_t *to, const uint32_t *from)
{
    constexpr int WORDS = T::BN * B_PITCH * Operand<P>::PLANES;
    static_assert(WORDS % (4 * T::THREADS) == 0, "whole passes");
#pragma unroll
    for (int i = 0; i < WORDS / (4 * T::THREADS); i++) {
        const int at = (i * T::THREADS + (int)threadIdx.x) * 4;
        mma_copy_async<16>(reinterpret_cast<float *>(to + at),
                           reinterpret_cast<const float *>(from + at), true);
    }
}

/* Ends and stores the block's tile: acc's fragments lie as in tile_store (gemm_tile.h). */
template <class T>
__device__ __forceinline__ void patch_store(const PatchParams &p, const int *table, int n0,
                                            const float (&acc)[T::MI][T::NI][4])
{
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const ConvEnd end = conv_end(p.bias, p.relu, p.n, p.dst);
#pragma unroll
    for (int i = 0; i < T::MI * 2; i++) {
        const int in = patch_row(p, warp % T::WARPS_M * T::WM + lane / 4 + i * 8);
        const int at = in < 0 ? -1 : table[in + p.pw + 3];
        if (at < 0)
            continue;
        end.put_row<T::NI>(p.dst + (int64_t)at * p.n,
                           p.mask ? p.mask + (int64_t)(at / p.t) * p.n : nullptr,
                           n0 + warp / T::WARPS_M * T::WN + lane % 4 * 2, acc[i / 2], i & 1);
    }
}

/* The patch with the fewest blocks, of at most `places` and, with its border, `rows`; among equals
 * the one that reads least. */
inline void choose_patch(PatchParams *p, int places, int rows, int64_t *blocks)
{
    int64_t best = 0, best_rows = 0;
    for (int pw = p->w < places ? p->w : places; pw >= 1; pw--)
        for (int ph = p->h < places / pw ? p->h : places / pw; ph >= 1; ph--) {
            const int border = (ph + 2) * (pw + 2);
            int q = places / (ph * pw);
            q = q < rows / border ? q : rows / border;
            if (q < 1)
                continue;
            const int64_t n = ceil_div(p->w, pw) * ceil_div(p->h, ph) * ceil_div(p->planes, q);
            if (best && (n > best || (n == best && border * q >= best_rows)))
                continue;
            best = n;
            best_rows = border * q;
            p->ph = ph;
            p->pw = pw;
            p->q = q;
        }
    p->rows = (int)best_rows;
    p->tiles_x = (int)ceil_div(p->w, p->pw);
    p->tiles = (int)(p->tiles_x * ceil_div(p->h, p->ph));
    *blocks = best;
}

/* All but the patch and the tiles. */
inline PatchParams patch_params(const lips_cuda_conv_apply_args *a)
{
    const ConvParams c = conv_params(a);
    PatchParams p = {};
    p.src = c.src;
    p.bias = c.bias;
    p.mask = c.mask;
    p.packed = reinterpret_cast<const uint32_t *>(c.weight);
    p.dst = c.dst;
    p.planes = c.b * c.t;
    p.t = c.t;
    p.h = c.hs;
    p.w = c.ws;
    p.c = c.c;
    p.n = c.n;
    p.relu = c.relu;
    return p;
}

/* The part of the multiply-adds that is asked for, of tiles of `places` x bn. */
inline double patch_share(const lips_cuda_conv *s, bool vjp, int places, int rows, int64_t bn,
                          int64_t channels)
{
    const int64_t c = vjp ? s->o : s->c, n = vjp ? s->c : s->o;
    PatchParams k = {};
    int64_t blocks = 0;
    k.planes = (int)(s->b * s->t);
    k.h = (int)s->h;
    k.w = (int)s->w;
    choose_patch(&k, places, rows, &blocks);
    const double done = (double)blocks * places * (double)(ceil_div(n, bn) * bn) *
                        (double)(ceil_div(c, channels) * channels);
    return (double)(s->b * s->t * s->h * s->w) * (double)(c * n) / done;
}

/* LIPS_ERR_USAGE for what kernels of patches do not do. */
inline lips_status patch_check(const char *op, const lips_cuda_conv_apply_args *a)
{
    LIPS_TRY(conv_check_sizes(op, &a->shape));
    if (!lips_cuda_conv_patch_offers(&a->shape, a->vjp) || (uintptr_t)a->src % 16 ||
        (uintptr_t)a->weight % 16)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: kernel %" PRId64 "x%" PRId64 ", stride %" PRId64 ", pad %" PRId64
                         ": must be 3x3, 1, 1, with source channels in multiples of 4 and 16-byte "
                         "aligned",
                         op, a->shape.r, a->shape.r, a->shape.stride, a->shape.pad);
    return LIPS_OK;
}

} // namespace

#endif
