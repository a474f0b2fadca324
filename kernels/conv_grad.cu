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
#include "conv_geometry.h"
#include "gemm_tile.h"

namespace
{

struct GradParams {
    const float *x, *dy;
    float *part, *dw;
    int h, w, c, oh, ow, o, r, stride, pad;
    int pixels, each; /* all, and of a part */
    int n_tiles;
};

/* Slabs of dy (k = pixel, m = o) and of x under the taps (k = pixel, n = (tap,c)). */
template <class T, int VEC> struct GradLoader {
    static constexpr int PER_A = T::BM / VEC, PER_B = T::BN / VEC;
    static constexpr int STEP_A = T::THREADS / PER_A, STEP_B = T::THREADS / PER_B;
    static_assert(BK % STEP_A == 0 && BK % STEP_B == 0, "whole passes");

    const GradParams &p;
    int a_to, a_pixel, b_to, b_pixel, last; /* pixels of the next copy */
    const float *a_from;                    /* dy at the thread's column; nullptr beyond o */
    const float *b_from;                    /* x at the thread's channel; nullptr beyond n */
    int tap_y, tap_x;                       /* of the thread's column, padding taken off */
    int s, oy, ox;                          /* of b_pixel */

    __device__ __forceinline__ GradLoader(const GradParams &p_, int m0, int n0, int first,
                                          int last_)
        : p(p_), last(last_)
    {
        const int ar = (int)threadIdx.x / PER_A, ac = (int)threadIdx.x % PER_A * VEC;
        const int br = (int)threadIdx.x / PER_B, bc = (int)threadIdx.x % PER_B * VEC;
        const int n = n0 + bc, tap = n / p.c;
        a_to = ar * PITCH<Order::COLS, T::BM> + ac;
        b_to = br * PITCH<Order::COLS, T::BN> + bc;
        a_pixel = first + ar;
        b_pixel = first + br;
        a_from = m0 + ac < p.o ? p.dy + m0 + ac : nullptr;
        b_from = n < p.r * p.r * p.c ? p.x + n % p.c : nullptr;
        tap_y = tap / p.r - p.pad;
        tap_x = tap % p.r - p.pad;
        ox = b_pixel % p.ow;
        oy = b_pixel / p.ow % p.oh;
        s = b_pixel / p.ow / p.oh;
    }

    __device__ __forceinline__ void operator()(float *a, float *b)
    {
#pragma unroll
        for (int i = 0; i < BK / STEP_A; i++, a_pixel += STEP_A) {
            const bool in = a_from && a_pixel < last;
            mma_copy_async<VEC * 4>(a + a_to + i * STEP_A * PITCH<Order::COLS, T::BM>,
                                    in ? a_from + (int64_t)a_pixel * p.o : p.dy, in);
        }
#pragma unroll
        for (int i = 0; i < BK / STEP_B; i++, b_pixel += STEP_B) {
            const int y = oy * p.stride + tap_y, x = ox * p.stride + tap_x;
            const bool in = b_from && b_pixel < last && (unsigned)y < (unsigned)p.h &&
                            (unsigned)x < (unsigned)p.w;
            mma_copy_async<VEC * 4>(b + b_to + i * STEP_B * PITCH<Order::COLS, T::BN>,
                                    in ? b_from + (((int64_t)s * p.h + y) * p.w + x) * p.c : p.x,
                                    in);
            for (ox += STEP_B; ox >= p.ow; ox -= p.ow)
                if (++oy == p.oh) {
                    oy = 0;
                    s++;
                }
        }
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
        if (n >= taps * p.c)
            return;
        if (to)
            to[(int64_t)o * taps * p.c + n] = v;
        else
            p.dw[((int64_t)o * p.c + n % p.c) * taps + n / p.c] += v;
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
    const int taps = p.r * p.r;
    float *to = p.part ? p.part + (int64_t)blockIdx.y * p.o * taps * p.c : nullptr;
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
    p.n_tiles = (p.r * p.r * p.c + T::BN - 1) / T::BN;
    const int64_t tiles = (int64_t)((p.o + T::BM - 1) / T::BM) * p.n_tiles;
    LIPS_TRY_CUDA(cudaFuncSetAttribute((const void *)grad_part<T, P, VEC>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    CU_LAUNCH((grad_part<T, P, VEC>), dim3((unsigned)tiles, (unsigned)parts), dim3(T::THREADS),
              shared, stream, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

bool wide(const lips_cuda_conv *s)
{
    return s->o > TileSmall::BM && s->c * s->r * s->r > TileSmall::BN;
}

template <lips_precision P>
lips_status start(const GradParams &p, int64_t parts, bool large, cudaStream_t stream)
{
    if (!vectors_fit(p.x, p.c) || !vectors_fit(p.dy, p.o))
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
    int64_t parts = 264 / tiles, slabs = pixels / (32 * BK);
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
    p.h = (int)s->h;
    p.w = (int)s->w;
    p.c = (int)s->c;
    p.oh = (int)s->oh;
    p.ow = (int)s->ow;
    p.o = (int)s->o;
    p.r = (int)s->r;
    p.stride = (int)s->stride;
    p.pad = (int)s->pad;
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
