/*
 * conv_gram - per-sample Gram matrices of a convolution's parameter Jacobian (conv_gram.h).
 *
 *   theta[s][t][u] += sum_{o,c,k} dW_t dW_u,   dW_t[o][c][k] = sum_p dy[s][p][t][o] x[s][p + k][c]
 *                   = sum_{p,p'} A[p][p'] sum_o dy[s][p][t][o] dy[s][p'][u][o]
 *   A[p][p'] = sum over the taps k inside the image of XX[p + k][p' + k],  XX[q][q'] = <x_q, x_q'>
 *
 * Shapes     any; dy (B,P,T,O), x (B,H,W,C) f32; theta (B,T,T) f64. P = OH OW.
 * Work split a block takes some tiles of one sample's gradients, all of T together; nothing of them
 *            is ever stored.
 *            direct  tiles of (outputs x stacked values, at most 128) x (taps x channels): the
 *                    product over positions on tensor cores, into shared memory as dW; there the
 *                    columns of all T are multiplied pairwise, theta's sums stay in registers
 *            pixel   XX and A per sample (pixel_gram.cu) in scratch (HW^2 + P^2 floats; at most
 *                    WORK_MAX for a group of samples); then as direct with A in the patches' place,
 *                    and dy as the other factor of the pairwise products
 *            Pairwise: T <= 4 one thread per column; T <= 32 a warp all 8 x 8 tiles of theta's
 *            triangle for some columns; T <= 128 each warp some tiles for all columns. Beyond,
 *            blocks of 64 stacked values pair by pair.
 *            Few samples: their tiles are spread over at least BLOCKS blocks, added in order.
 * Precision  dW and A float32-grade (tile_product.h), or tf32 if `single`; pairwise products in f64
 * Order      fixed by the shape; no atomics
 * Cost       multiply-adds per sample, on tensor cores (three times in float32-grade):
 *              direct  T P O C R^2, and T (T + 1) / 2 O C R^2 in f64
 *              pixel   HW^2 C / 2 + T P^2 O, and T (T + 1) / 2 P O in f64; R^2 P^2 additions
 *            the choice is the smaller sum. Bytes: dy once per tile of channels (L2), x once per
 *            tile of outputs (L2).
 *            Shapes that fill tiles of 128 x 128 take conv_gram_wide.cu's, predicted there. Here
 *            addresses, element by element, issue as much as products: some 45 TFLOP/s on an H100.
 * Limits     B <= 65535 (gridDim.y); x and dy of a sample below 2^31 values; pixel: 4 MiB of
 *            scratch a sample
 * Proof      tests/ops/test_gram_cuda.c, tests/ops/test_backends.c
 * History    v1 this file. v2 wide tiles in conv_gram_wide.cu; pixel_gram.cu apart.
 */
#include "kernels/conv_gram.h"

#include "kernels/check.h"
#include "kernels/conv_gram_operands.h"
#include "kernels/conv_gram_wide.h"
#include "kernels/pixel_gram.h"

#include <inttypes.h>

using namespace conv_gram_sums;
using conv_gram_operands::cotangents;
using conv_gram_operands::patches;
using conv_gram_operands::pixels;
using gram_tiles::add_pair;
using gram_tiles::give;
using gram_tiles::target;
using tile_product::sums;
using tile_product::tile;

namespace
{

constexpr int NARROW = 32;  /* rows of the other tile, for few outputs */
constexpr int HALF = 64;    /* stacked values of one side where T > ROWS */
constexpr int BLOCKS = 264; /* two for each multiprocessor of an H100 */
constexpr size_t WORK_MAX = (size_t)128 << 20, SAMPLE_MAX = (size_t)4 << 20;

__host__ __device__ constexpr int larger(int a, int b)
{
    return a > b ? a : b;
}

/* source: x, or A of the samples. */
template <int BM, bool PIXEL, class S>
__global__ void __launch_bounds__(THREADS, 1)
    conv_gram(target to, const float *__restrict__ dy, const float *__restrict__ source,
              int64_t sample, shape d, stack k)
{
    typedef tile<BM> T;
    typedef pairs<T::BN, PIXEL> P;
    constexpr int FLOATS = larger(T::FLOATS, larger(BM * P::LD, triangle(4) * WARP * 2 * 2));
    CU_SHARED(double, shared,
              [(FLOATS + 1) / 2]); /* stages of a product; then its tile; then sums */
    float *floats = reinterpret_cast<float *>(shared);
    const int64_t s = blockIdx.y;
    const int slice = (int)blockIdx.x, tiles = d.o_tiles * d.n_tiles;
    const float *mine = dy + s * d.p * d.t * d.o, *from = source + s * sample;
    S theta;
    for (int at = slice * d.slice; at < min(tiles, (slice + 1) * d.slice); at++) {
        const int o0 = at / d.n_tiles * d.outputs, n0 = at % d.n_tiles * T::BN;
        const int outputs = min(d.outputs, d.o - o0), columns = min(T::BN, d.columns - n0);
        const int m = d.outputs * k.n;
        const cotangents<BM> a(mine, d, k, o0);
        sums sum;
        if constexpr (PIXEL)
            tile_product::product<BM>(sum, floats, a, pixels<BM>(from, d, n0), d.p, m, columns,
                                      d.single);
        else
            tile_product::product<BM>(sum, floats, a, patches<BM>(from, d, n0), d.p, m, columns,
                                      d.single);
        tile_product::each<BM>(sum,
                               [&](int row, int col, float v) { floats[row * P::LD + col] = v; });
        __syncthreads(); /* the tile is written before its columns are multiplied */
        theta.add(P{floats, mine, d, k, o0, n0, outputs, columns});
        __syncthreads(); /* and multiplied before the next product's stages overwrite it */
    }
    theta.finish(shared, [&](int i, int j, double v) {
        if (i < k.n && j <= i && (!k.cross || (i >= k.na && j < k.na)))
            give(to, s, slice, k.value(i), k.value(j), v, 1);
    });
}

/* theta += the slices' parts, in their order. */
__global__ void __launch_bounds__(THREADS) conv_gram_slices(target to, stack k)
{
    const int64_t s = blockIdx.x, size = (int64_t)to.t * to.t;
    for (int at = (int)threadIdx.x; at < triangle(k.n); at += THREADS) {
        const int row = triangle_row(at), col = at - triangle(row);
        const int i = k.value(row), j = k.value(col);
        if (k.cross && (row < k.na || col >= k.na))
            continue;
        double sum = 0;
        for (int slice = 0; slice < to.slices; slice++)
            sum += to.part[(s * to.slices + slice) * size + (int64_t)i * to.t + j];
        add_pair(to.theta + s * size, to.t, i, j, sum);
    }
}

double direct_cost(const lips_cuda_conv_gram_args *a)
{
    const double t = (double)a->t, p = (double)(a->oh * a->ow);
    return t * (p + 0.5 * (t + 1)) * (double)(a->o * a->c * a->r * a->r);
}

double pixel_cost(const lips_cuda_conv_gram_args *a)
{
    const double t = (double)a->t, p = (double)(a->oh * a->ow), hw = (double)(a->h * a->w);
    return 0.5 * hw * hw * (double)a->c + p * p * (double)(a->r * a->r) +
           t * p * (p + 0.5 * (t + 1)) * (double)a->o;
}

/* Scratch of the pixel way for one sample. */
size_t pixel_floats(const lips_cuda_conv_gram_args *a)
{
    const int64_t hw = a->h * a->w, p = a->oh * a->ow;
    return (size_t)(hw * hw + p * p);
}

bool pixel_fits(const lips_cuda_conv_gram_args *a)
{
    const double hw = (double)(a->h * a->w), p = (double)(a->oh * a->ow);
    return (hw * hw + p * p) * sizeof(float) <= (double)SAMPLE_MAX && p <= 65535;
}

/* What the shape decides. */
struct plan {
    shape d;
    bool pixel, narrow, wide; /* wide: by conv_gram_wide.cu */
    int slices;
    int64_t group; /* samples at a time */
    size_t part;   /* doubles of a group's parts */
};

plan make_plan(const lips_cuda_conv_gram_args *a)
{
    plan p = {};
    const int64_t most_t = a->t < ROWS ? a->t : ROWS;
    p.pixel = lips_cuda_conv_gram_choose(a) == LIPS_CUDA_GRAM_PIXEL;
    p.narrow = a->t <= FEW && a->t * a->o <= NARROW;
    const int64_t rows = p.narrow ? NARROW : ROWS,
                  width = p.narrow ? tile<NARROW>::BN : tile<ROWS>::BN;
    p.group = a->b;
    if (p.pixel) {
        const int64_t fit = (int64_t)(WORK_MAX / (pixel_floats(a) * sizeof(float)));
        p.group = fit < a->b ? fit : a->b;
    }
    shape *d = &p.d;
    d->c = (int)a->c, d->h = (int)a->h, d->w = (int)a->w, d->o = (int)a->o, d->ow = (int)a->ow;
    d->p = (int)(a->oh * a->ow), d->t = (int)a->t;
    d->r = (int)a->r, d->stride = (int)a->stride, d->pad = (int)a->pad;
    d->single = a->single;
    d->columns = p.pixel ? d->p : d->c * d->r * d->r;
    p.wide = lips_cuda_conv_gram_wide_plan(d, p.pixel);
    if (!p.wide) {
        /* Tiles as equal as can be: 64 outputs of which 12 fit are 6 tiles of 11. */
        const int64_t fit = rows / most_t;
        d->o_tiles = (int)((a->o + fit - 1) / fit);
        d->outputs = (int)((a->o + d->o_tiles - 1) / d->o_tiles);
        d->n_tiles = (int)((d->columns + width - 1) / width);
    }
    const int64_t tiles = (int64_t)d->o_tiles * d->n_tiles,
                  wanted = (BLOCKS + p.group - 1) / p.group;
    const int64_t slices = wanted < tiles ? wanted : tiles;
    d->slice = (int)((tiles + slices - 1) / slices);
    p.slices = (int)((tiles + d->slice - 1) / d->slice);
    /* Whole pairs: what follows the parts is read 16 bytes at a time. */
    p.part = p.slices > 1 ? (size_t)((p.group * p.slices * a->t * a->t + 1) / 2 * 2) : 0;
    return p;
}

template <int BM, class S>
void launch(const plan &p, const target &to, const float *dy, const float *source, const stack &k,
            int64_t samples, cudaStream_t stream)
{
    const dim3 grid((unsigned)p.slices, (unsigned)samples);
    if (p.pixel)
        CU_LAUNCH((conv_gram<BM, true, S>), grid, dim3(THREADS), 0, stream, to, dy, source,
                  (int64_t)p.d.p * p.d.p, p.d, k);
    else
        CU_LAUNCH((conv_gram<BM, false, S>), grid, dim3(THREADS), 0, stream, to, dy, source,
                  (int64_t)p.d.h * p.d.w * p.d.c, p.d, k);
}

/* One launch for the stacked values k of some samples, and the sum of its slices. */
lips_status run(const plan &p, const target &to, const float *dy, const float *source,
                const stack &k, int64_t samples, cudaStream_t stream)
{
    if (p.wide)
        LIPS_TRY(lips_cuda_conv_gram_wide(to, dy, source, p.d, p.pixel, p.slices, samples, stream));
    else if (k.n == 1 && p.narrow)
        launch<NARROW, few_sums<1>>(p, to, dy, source, k, samples, stream);
    else if (k.n == 1)
        launch<ROWS, few_sums<1>>(p, to, dy, source, k, samples, stream);
    else if (k.n <= FEW && p.narrow)
        launch<NARROW, few_sums<FEW>>(p, to, dy, source, k, samples, stream);
    else if (k.n <= FEW)
        launch<ROWS, few_sums<FEW>>(p, to, dy, source, k, samples, stream);
    else if (k.n <= 2 * TILE)
        launch<ROWS, tile_sums<2>>(p, to, dy, source, k, samples, stream);
    else if (k.n <= 4 * TILE)
        launch<ROWS, tile_sums<4>>(p, to, dy, source, k, samples, stream);
    else
        launch<ROWS, list_sums>(p, to, dy, source, k, samples, stream);
    LIPS_TRY_LAUNCH(stream);
    if (p.slices > 1) {
        CU_LAUNCH(conv_gram_slices, dim3((unsigned)samples), dim3(THREADS), 0, stream, to, k);
        LIPS_TRY_LAUNCH(stream);
    }
    return LIPS_OK;
}

/* All stacked values of some samples: at once, or pairs of blocks of HALF. */
lips_status run_stack(const plan &p, const target &to, const float *dy, const float *source,
                      int64_t samples, cudaStream_t stream)
{
    if (p.d.t <= ROWS)
        return run(p, to, dy, source, stack{p.d.t, 0, p.d.t, 0, false}, samples, stream);
    for (int i = 0; i < p.d.t; i += HALF)
        for (int j = 0; j <= i; j += HALF) {
            const int ni = p.d.t - i < HALF ? p.d.t - i : HALF;
            const stack k =
                i == j ? stack{ni, i, ni, 0, false} : stack{HALF + ni, j, HALF, i, true};
            LIPS_TRY(run(p, to, dy, source, k, samples, stream));
        }
    return LIPS_OK;
}

lips_status check(const lips_cuda_conv_gram_args *a)
{
    if (a->b < 1 || a->b > 65535)
        return lips_fail(LIPS_ERR_USAGE, "conv_gram: %" PRId64 " samples, must be in 1..65535",
                         a->b);
    const double in = (double)a->h * (double)a->w * (double)a->c;
    const double out = (double)a->oh * (double)a->ow * (double)a->o * (double)a->t;
    const double taps = (double)a->c * (double)a->r * (double)a->r;
    if (!(in < 2147483648.0 && out < 2147483648.0 && taps * (double)a->o < 2147483648.0))
        return lips_fail(LIPS_ERR_USAGE,
                         "conv_gram: %.0f inputs, %.0f cotangents and %.0f weights of one sample, "
                         "must be below 2^31 each",
                         in, out, taps * (double)a->o);
    if (a->algo == LIPS_CUDA_GRAM_PIXEL && !pixel_fits(a))
        return lips_fail(LIPS_ERR_USAGE,
                         "conv_gram: the pixel Gram of %" PRId64 " x %" PRId64
                         " pixels asked for, it needs more than %zu bytes a sample",
                         a->h, a->w, SAMPLE_MAX);
    return LIPS_OK;
}

} // namespace

lips_cuda_gram_algo lips_cuda_conv_gram_choose(const lips_cuda_conv_gram_args *a)
{
    if (a->algo != LIPS_CUDA_GRAM_AUTO)
        return a->algo;
    return pixel_fits(a) && pixel_cost(a) < direct_cost(a) ? LIPS_CUDA_GRAM_PIXEL
                                                           : LIPS_CUDA_GRAM_DIRECT;
}

size_t lips_cuda_conv_gram_work(const lips_cuda_conv_gram_args *a)
{
    const plan p = make_plan(a);
    return p.part * sizeof(double) +
           (p.pixel ? (size_t)p.group * pixel_floats(a) * sizeof(float) : 0);
}

lips_status lips_cuda_conv_gram(const lips_cuda_conv_gram_args *a, cudaStream_t stream)
{
    LIPS_TRY(check(a));
    const plan p = make_plan(a);
    double *part = (double *)a->work;
    float *xx = (float *)(part + p.part);
    float *patch = xx + p.group * a->h * a->w * a->h * a->w;
    const lips_cuda_pixels pixels_in = {p.d.h, p.d.w,      p.d.c,   p.d.ow,    p.d.p,
                                        p.d.r, p.d.stride, p.d.pad, p.d.single};
    for (int64_t first = 0; first < a->b; first += p.group) {
        const int64_t samples = a->b - first < p.group ? a->b - first : p.group;
        const float *x = a->x + first * a->h * a->w * a->c;
        const float *dy = a->dy + first * p.d.p * a->t * a->o;
        const target to = {a->theta + first * a->t * a->t, part, (int)a->t, p.slices};
        if (p.pixel)
            LIPS_TRY(lips_cuda_pixel_gram(xx, patch, x, &pixels_in, (int)samples, stream));
        LIPS_TRY(run_stack(p, to, dy, p.pixel ? patch : x, samples, stream));
    }
    return LIPS_OK;
}
