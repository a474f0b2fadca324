/*
 * conv_gram_wide - conv_gram.cu's product and sums in tiles of 128 x 128, for channels in fours.
 *
 *   formulas of conv_gram.cu
 *
 * Shapes     as in conv_gram.cu; O a multiple of 4, and so are C (direct) or P (pixel); T <= 32
 * Work split as in conv_gram.cu with the tile of gemm_tile.h: 8 warps of 64 x 32, slabs of 16
 *            positions by cp.async, three of them ahead. Rows come as (stacked value, output), so
 *            that four outputs are one copy, and leave as (output, stacked value).
 * Precision  float32-grade or tf32 (gemm_tile.h); pairwise products in f64
 * Order      fixed by the shape; no atomics
 * Cost       as in conv_gram.cu. L2: 32 flop/byte, from 21
 * Predicted  H100 SXM, 3xTF32: for eight positions a warp issues 24 loads, 120 instructions that
 *            split and 64 additions beside 48 mma (309 clocks of the tensor core): 75 of 102
 *            TFLOP/s. tile_product.h: 16, 80 and about 180 for addresses beside 24 mma: 45. tf32:
 *            150 against 60. ConvNet w = 64, T = 1, 10 000 samples: 2.0 TFLOP (75 M multiply-adds
 *            direct in layer 2, 21 M and 3 M by pixels in the next): f32 27 ms, tf32 14 ms; the
 *            weight gradients of a plain step are 4.6 TFLOP.
 * Registers  (ptxas for sm_90a, no spills) float32-grade 189 to 220; tf32 124 to 126 at T = 1 and
 *            5..16, two blocks a multiprocessor, else 144 to 162
 * Limits     as in conv_gram.cu
 * Proof      tests/ops/test_gram_cuda.c, tests/ops/test_backends.c
 * History    v1 this file.
 */
#include "kernels/conv_gram_wide.h"

#include "kernels/check.h"
#include "kernels/conv_columns.h"

#include <type_traits>

using namespace conv_gram_sums;
using gram_tiles::give;
using gram_tiles::target;

namespace
{

typedef TileWide Wide;
static_assert(Wide::THREADS == THREADS && Wide::BM == ROWS, "the sums count on it");
constexpr int VEC = 4; /* floats of a copy */

/* Slabs of dy (k = position, m = (stacked value, output)), and of the patches or of A. */
template <bool PIXEL> struct GramLoader {
    typedef SlabShare<THREADS, Wide::BM, VEC> Share;
    typedef RowCopies<THREADS, Wide::BM, VEC> Rows;
    typedef std::conditional_t<PIXEL, Rows, TapCopies<THREADS, Wide::BN, VEC>> Columns;
    static_assert(Wide::BM == Wide::BN, "one share of both");
    Rows dy;
    Columns source;

    __device__ __forceinline__ GramLoader(const float *mine, const float *from, const shape &d,
                                          const TapColumns &taps, const stack &k, int o0, int n0)
        : dy(row(mine, d, k, o0), mine, (int64_t)d.t * d.o, 0, d.p),
          source(columns(from, d, taps, n0 + Share::column()))
    {
    }

    __device__ static __forceinline__ const float *row(const float *mine, const shape &d,
                                                       const stack &k, int o0)
    {
        const int t = Share::column() / d.outputs, o = o0 + Share::column() % d.outputs;
        return t < k.n && o < d.o ? mine + (int64_t)k.value(t) * d.o + o : nullptr;
    }

    __device__ static __forceinline__ Columns columns(const float *from, const shape &d,
                                                      const TapColumns &taps, int n)
    {
        if constexpr (PIXEL)
            return Columns(n < d.p ? from + n : nullptr, from, d.p, 0, d.p);
        else
            return Columns(taps, from, n, 0, d.p);
    }

    __device__ __forceinline__ void operator()(float *a, float *b)
    {
        dy(a);
        source(b);
    }
};

/* Sums into the tile in shared memory, rows (output, stacked value). */
struct TileRows {
    float *tile;
    int pitch, outputs, n;
    float *to;

    __device__ __forceinline__ void row(int m)
    {
        to = m < outputs * n ? tile + (m % outputs * n + m / outputs) * pitch : nullptr;
    }
    __device__ __forceinline__ void operator()(int col, float v0, float v1)
    {
        if (to)
            *reinterpret_cast<float2 *>(to + col) = make_float2(v0, v1);
    }
};

constexpr size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Dynamic shared memory: stages of a product; then its tile; then sums. */
constexpr size_t SHARED = larger(TILE_SHARED<Wide, Order::COLS, Order::COLS>,
                                 larger(sizeof(float) * ROWS * pairs<Wide::BN, false>::LD,
                                        sizeof(double) * triangle(4) * WARP * 2));

/* Two blocks a multiprocessor where the sums leave room in the registers. */
template <lips_precision P, class S>
constexpr int BLOCKS = P == LIPS_PRECISION_TF32 &&
                               (std::is_same_v<S, few_sums<1>> || std::is_same_v<S, tile_sums<2>>)
                           ? 2
                           : 1;

/* source: x, or A of the samples. */
template <lips_precision P, bool PIXEL, class S>
__global__ void __launch_bounds__(THREADS, (BLOCKS<P, S>))
    conv_gram_wide(target to, const float *__restrict__ dy, const float *__restrict__ source,
                   int64_t sample, shape d, TapColumns taps, stack k)
{
    typedef pairs<Wide::BN, PIXEL> Factors;
    CU_DYN_SHARED(double, shared);
    float *floats = reinterpret_cast<float *>(shared);
    const int64_t s = blockIdx.y;
    const int slice = (int)blockIdx.x, tiles = d.o_tiles * d.n_tiles;
    const float *mine = dy + s * d.p * d.t * d.o, *from = source + s * sample;
    S theta;
    for (int at = slice * d.slice; at < min(tiles, (slice + 1) * d.slice); at++) {
        const int o0 = at / d.n_tiles * d.outputs, n0 = at % d.n_tiles * Wide::BN;
        const int outputs = min(d.outputs, d.o - o0), columns = min(Wide::BN, d.columns - n0);
        float acc[Wide::MI][Wide::NI][4];
        GramLoader<PIXEL> load(mine, from, d, taps, k, o0, n0);
        tile_multiply<Wide, P, Order::COLS, Order::COLS>(acc, load, (d.p + BK - 1) / BK);
        __syncthreads(); /* all are done with the stages before the tile overwrites them */
        TileRows put = {floats, Factors::LD, d.outputs, k.n, nullptr};
        tile_store<Wide>(acc, put);
        __syncthreads(); /* the tile is written before its columns are multiplied */
        theta.add(Factors{floats, mine, d, k, o0, n0, outputs, columns});
        __syncthreads(); /* and multiplied before the next product's stages overwrite it */
    }
    theta.finish(shared, [&](int i, int j, double v) {
        if (i < k.n && j <= i)
            give(to, s, slice, k.value(i), k.value(j), v, 1);
    });
}

struct call {
    target to;
    const float *dy, *source;
    const shape *d;
    stack k;
    bool pixel;
    unsigned slices, samples;
    cudaStream_t stream;
};

template <lips_precision P, bool PIXEL, class S> lips_status launch(const call &c)
{
    const shape &d = *c.d;
    const TapColumns taps = {d.h, d.w, d.c, d.p / d.ow, d.ow, d.r, d.stride, d.pad};
    const int64_t sample = PIXEL ? (int64_t)d.p * d.p : (int64_t)d.h * d.w * d.c;
    LIPS_TRY_CUDA(cudaFuncSetAttribute((const void *)conv_gram_wide<P, PIXEL, S>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)SHARED));
    CU_LAUNCH((conv_gram_wide<P, PIXEL, S>), dim3(c.slices, c.samples), dim3(THREADS), SHARED,
              c.stream, c.to, c.dy, c.source, sample, d, taps, c.k);
    LIPS_TRY_LAUNCH(c.stream);
    return LIPS_OK;
}

template <class S> lips_status start(const call &c)
{
    if (c.pixel)
        return c.d->single ? launch<LIPS_PRECISION_TF32, true, S>(c)
                           : launch<LIPS_PRECISION_F32, true, S>(c);
    return c.d->single ? launch<LIPS_PRECISION_TF32, false, S>(c)
                       : launch<LIPS_PRECISION_F32, false, S>(c);
}

} // namespace

/* As equal tiles as can be, of whole fours of outputs, where they are full enough. */
bool lips_cuda_conv_gram_wide_plan(shape *d, bool pixel)
{
    if (d->t > 4 * TILE || d->o % VEC || (pixel ? d->p % VEC || d->h * d->w % 2 : d->c % VEC))
        return false;
    const int fit = ROWS / d->t / VEC * VEC, tiles = (d->o + fit - 1) / fit;
    const int outputs = ((d->o + tiles - 1) / tiles + VEC - 1) / VEC * VEC;
    const int columns = (d->columns + Wide::BN - 1) / Wide::BN;
    const double share =
        (double)d->o * d->t * d->columns / ((double)tiles * ROWS * ((double)columns * Wide::BN));
    if (share < WIDE_SHARE)
        return false;
    d->outputs = outputs;
    d->o_tiles = (d->o + outputs - 1) / outputs;
    d->n_tiles = columns;
    return true;
}

lips_status lips_cuda_conv_gram_wide(const target &to, const float *dy, const float *source,
                                     const shape &d, bool pixel, int slices, int64_t samples,
                                     cudaStream_t stream)
{
    const call c = {to,
                    dy,
                    source,
                    &d,
                    stack{d.t, 0, d.t, 0, false},
                    pixel,
                    (unsigned)slices,
                    (unsigned)samples,
                    stream};
    if ((uintptr_t)dy % 16 || (uintptr_t)source % 16)
        return lips_fail(LIPS_ERR_USAGE, "conv_gram: x and dy must be 16-byte aligned");
    if (d.t == 1)
        return start<few_sums<1>>(c);
    if (d.t <= FEW)
        return start<few_sums<FEW>>(c);
    if (d.t <= 2 * TILE)
        return start<tile_sums<2>>(c);
    return start<tile_sums<4>>(c);
}
