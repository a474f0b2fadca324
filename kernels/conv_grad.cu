/*
 * conv_grad - gradient of a convolution's (or linear layer's) weights on tensor cores.
 *
 *   dw[o,c,i,j] += sum over pixels p of  dy[p,o] x[p stride + (i,j) - pad, c]
 *
 * Shapes     x (B,H,W,C), dy (B,OH,OW,O) f32; part (parts,O,R,R,C) f32; dw (O,C,R,R) f32, added to.
 *            A linear layer is r = 1, h = oh = 1, w = ow = its rows, b = 1.
 * Work split m = o, n = (tap, c), k = output pixel. Grid: x = tiles of (m,n), y = part: a run of
 *            pixels. Tiles 64 x 64, or 128 x 128 where both sides are longer than 64. A thread's
 *            column of x keeps its tap; its pixels advance by counting, never by dividing.
 *            Second pass: one thread a weight adds the parts. With one part the first pass adds to
 *            dw itself.
 * Precision  products as in gemm_tile.h, f32 sums within a part, parts in f64
 * Order      pixels ascending within a part, then parts ascending: fixed by the shape alone (the
 *            number of parts does not depend on the device). No atomics.
 * Cost       2 R R C O flop a pixel; reads dy once for each 64 or 128 columns, x R R times from L2.
 *            A part has 512 pixels at least and costs 8 bytes a weight: under a tenth of the first
 *            pass. 64 -> 128 at 32 x 32, 128 samples: 19 GFLOP, 0.1 GB, 260 blocks.
 * Registers  (ptxas for sm_90a; f32 / tf32 / bf16; no spills) 64 x 64: 118 / 80 / 94, 128 x 128:
 *            177 / 120 / 140. `make ptxas` has every architecture.
 * Limits     fewer than 2^31 pixels and elements of an image
 * Proof      tests/ops, tests/cusim/test_conv_kernels.cpp      Speed  predicted in gemm_tile.h
 * History    v1 this file.
 */
#include "conv_columns.h"
#include "conv_geometry.h"

namespace
{

constexpr int PART_PIXELS = 32 * BK; /* at least in each part */

struct GradParams {
    const float *x, *dy;
    float *part, *dw;
    TapColumns taps;
    int o;
    int pixels, each; /* all, and of a part */
    int n_tiles;
};

/* Slabs of dy (k = pixel, m = o) and of x under the taps (k = pixel, n = (tap,c)). */
template <class T, int VEC> struct GradLoader {
    RowCopies<T::THREADS, T::BM, VEC> dy;
    TapCopies<T::THREADS, T::BN, VEC> x;

    __device__ __forceinline__ GradLoader(const GradParams &p, int m0, int n0, int first, int last)
        : dy(column(p, m0 + SlabShare<T::THREADS, T::BM, VEC>::column()), p.dy, p.o, first, last),
          x(p.taps, p.x, n0 + SlabShare<T::THREADS, T::BN, VEC>::column(), first, last)
    {
    }

    __device__ static __forceinline__ const float *column(const GradParams &p, int m)
    {
        return m < p.o ? p.dy + m : nullptr;
    }

    __device__ __forceinline__ void operator()(float *a, float *b)
    {
        dy(a);
        x(b);
    }
};

/* To the part, or added to dw. */
struct GradStore {
    const GradParams &p;
    int m0, n0, o, taps;
    float *to;

    __device__ __forceinline__ void row(int m)
    {
        o = m0 + m;
    }

    __device__ __forceinline__ void put(int n, float v)
    {
        const int c = p.taps.c;
        if (n >= taps * c)
            return;
        if (to)
            to[(int64_t)o * taps * c + n] = v;
        else
            p.dw[((int64_t)o * c + n % c) * taps + n / c] += v;
    }

    __device__ __forceinline__ void operator()(int col, float v0, float v1)
    {
        if (o >= p.o)
            return;
        put(n0 + col, v0);
        put(n0 + col + 1, v1);
    }
};

template <class T, lips_precision P, int VEC>
__global__ void __launch_bounds__(T::THREADS, T::BLOCKS) grad_part(const GradParams p)
{
    const int m0 = (int)blockIdx.x / p.n_tiles * T::BM, n0 = (int)blockIdx.x % p.n_tiles * T::BN;
    const int first = (int)min((int64_t)blockIdx.y * p.each, (int64_t)p.pixels);
    const int last = (int)min((int64_t)first + p.each, (int64_t)p.pixels);
    float acc[T::MI][T::NI][4];
    GradLoader<T, VEC> load(p, m0, n0, first, last);
    tile_multiply<T, P, Order::COLS, Order::COLS>(acc, load, (last - first + BK - 1) / BK);
    const int taps = p.taps.r * p.taps.r;
    float *to = p.part ? p.part + (int64_t)blockIdx.y * p.o * taps * p.taps.c : nullptr;
    GradStore put = {p, m0, n0, 0, taps, to};
    tile_store<T>(acc, put);
}

constexpr int SUM_THREADS = 256;

/* One thread a weight, in the order of the parts' memory. */
__global__ void grad_sum(float *__restrict__ dw, const float *__restrict__ part, int n, int c,
                         int taps, int parts)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n)
        return;
    double sum = 0;
    for (int k = 0; k < parts; k++)
        sum += (double)part[(int64_t)k * n + i];
    const int at = i % c, tap = i / c % taps, o = i / c / taps;
    dw[((int64_t)o * c + at) * taps + tap] += (float)sum;
}

template <class T, lips_precision P, int VEC>
lips_status start_tile(GradParams p, int64_t parts, cudaStream_t stream)
{
    constexpr size_t shared = TILE_SHARED<T, Order::COLS, Order::COLS>;
    p.n_tiles = (p.taps.r * p.taps.r * p.taps.c + T::BN - 1) / T::BN;
    const int64_t tiles = (int64_t)((p.o + T::BM - 1) / T::BM) * p.n_tiles;
    LIPS_TRY_CUDA(cudaFuncSetAttribute((const void *)grad_part<T, P, VEC>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    CU_LAUNCH((grad_part<T, P, VEC>), dim3((unsigned)tiles, (unsigned)parts), dim3(T::THREADS),
              shared, stream, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

/* Wide tiles where both sides are long; for a linear layer of few rows, whose sums cannot be cut
 * into many parts, only where there are enough of them. */
bool wide(const lips_cuda_conv *s)
{
    const int64_t n = s->c * s->r * s->r, parts = s->b * s->oh * s->ow / PART_PIXELS + 1;
    const int64_t tiles =
        (s->o + TileWide::BM - 1) / TileWide::BM * ((n + TileWide::BN - 1) / TileWide::BN);
    return s->o > TileSmall::BM && n > TileSmall::BN &&
           (s->r > 1 || tiles * parts >= MULTIPROCESSORS);
}

template <lips_precision P>
lips_status start(const GradParams &p, int64_t parts, bool large, cudaStream_t stream)
{
    if (!vectors_fit(p.x, p.taps.c) || !vectors_fit(p.dy, p.o))
        return start_tile<TileSmall, P, 1>(p, parts, stream);
    if (large)
        return start_tile<TileWide, P, 4>(p, parts, stream);
    return start_tile<TileSmall, P, 4>(p, parts, stream);
}

} // namespace

extern "C" lips_status lips_cuda_conv_grad_sum(float *dw, const float *part,
                                               const lips_cuda_conv *shape, int64_t parts,
                                               cudaStream_t stream)
{
    const int64_t n = shape->o * shape->c * shape->r * shape->r;
    CU_LAUNCH(grad_sum, dim3((unsigned)((n + SUM_THREADS - 1) / SUM_THREADS)), dim3(SUM_THREADS), 0,
              stream, dw, part, (int)n, (int)shape->c, (int)(shape->r * shape->r), (int)parts);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

/* Enough blocks for two on each of 132 multiprocessors, and 32 slabs at least in each. */
extern "C" int64_t lips_cuda_conv_grad_parts(const lips_cuda_conv *shape, int64_t most)
{
    const int64_t side = wide(shape) ? TileWide::BM : TileSmall::BM;
    const int64_t tiles =
        (shape->o + side - 1) / side * ((shape->c * shape->r * shape->r + side - 1) / side);
    const int64_t pixels = shape->b * shape->oh * shape->ow;
    int64_t parts = 2 * MULTIPROCESSORS / tiles, slabs = pixels / PART_PIXELS;
    parts = parts < slabs ? parts : slabs;
    parts = parts < most ? parts : most;
    return parts < 1 ? 1 : parts;
}

extern "C" lips_status lips_cuda_conv_grad(const lips_cuda_conv_grad_args *a, cudaStream_t stream)
{
    const lips_cuda_conv *s = &a->shape;
    LIPS_TRY(conv_check_sizes("conv_grad", s));
    GradParams p = {};
    p.x = a->x;
    p.dy = a->dy;
    p.part = a->parts > 1 ? a->part : nullptr;
    p.dw = a->dw;
    p.taps = {(int)s->h,  (int)s->w, (int)s->c,      (int)s->oh,
              (int)s->ow, (int)s->r, (int)s->stride, (int)s->pad};
    p.o = (int)s->o;
    p.pixels = (int)(s->b * s->oh * s->ow);
    /* Whole slabs, so that only the last part ends within one. */
    p.each = (int)(((p.pixels + a->parts - 1) / a->parts + BK - 1) / BK * BK);
    const bool large = wide(s);
    switch (a->precision) {
    case LIPS_PRECISION_F32: LIPS_TRY(start<LIPS_PRECISION_F32>(p, a->parts, large, stream)); break;
    case LIPS_PRECISION_TF32:
        LIPS_TRY(start<LIPS_PRECISION_TF32>(p, a->parts, large, stream));
        break;
    case LIPS_PRECISION_BF16:
        LIPS_TRY(start<LIPS_PRECISION_BF16>(p, a->parts, large, stream));
        break;
    default: return lips_fail(LIPS_ERR_USAGE, "conv_grad: unknown precision %d", (int)a->precision);
    }
    return a->parts > 1 ? lips_cuda_conv_grad_sum(a->dw, a->part, s, a->parts, stream) : LIPS_OK;
}
