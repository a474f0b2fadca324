/*
 * conv_apply - convolution forward and its vjp on tensor cores (implicit GEMM, NHWC).
 *
 *   forward  y[p,o]  = relu(bias[o] + sum_{i,j,c} w[o,c,i,j] x[p stride + (i,j) - pad, c])
 *   vjp      dx[p,c] = (mask[p,c] > 0) sum_{i,j,o} w[o,c,i,j] dy[(p + pad - (i,j)) / stride, o]
 *
 * Shapes     x (B,H,W,T,C), y (B,OH,OW,T,O) f32, c innermost, the T stacked values of a pixel
 *            adjacent; packed weights (O,R,R,C), for the vjp (C,R,R,O); mask (B,H,W,C)
 * Work split rows m = (sample, y, x, t), columns n = channel of the result, k = (tap, channel of
 *            the source). Grid: x = row tile and column tile (columns fastest: tiles that read the
 *            same rows run side by side), z = phase of the vjp's stride (conv_geometry.h). Tiles
 *            128 x 32, 64 or 128 by the number of columns and of tiles (gemm_tile.h). The k of a
 *            thread's copies advances by 16 a slab: taps are counted, never divided.
 * Precision  f32, tf32 or bf16 products, f32 sums (gemm_tile.h); bias, relu and mask in f32
 * Order      each output is one chain over k = tap, then channel, ascending, in every tile
 * Cost       2 R R C O flop an output pixel and t. Reads the source once from DRAM (R R times from
 *            L2, less what L1 keeps) and writes the result once; a pixel's mask comes from DRAM
 *            once for its T rows. ConvNet w = 64, 64 -> 128 at 32 x 32, T = 10: 1.5 GFLOP and
 *            7.9 MB a sample, 192 flop/byte: bound by arithmetic and by L2 (gemm_tile.h).
 * Registers  (ptxas for sm_90a, 16-byte copies; f32 / tf32 / bf16; no spills) 128 x 32: 131 / 96 /
 *            106, 128 x 64: 123 / 89 / 100, 128 x 128: 193 / 128 / 133. By single floats at most
 *            164. `make ptxas` has every architecture.
 * Limits     fewer than 2^31 rows, elements of an image and weights; sides up to 16384
 * Proof      tests/ops, tests/cusim/test_conv_kernels.cpp      Speed  predicted in gemm_tile.h
 * History    v1 this file.
 */
#include "conv_geometry.h"
#include "conv_store.h"
#include "gemm_tile.h"

namespace
{

/* Copies slabs of source rows and of weight rows; T is the tile, VEC floats a copy (1 or 4). */
template <class T, int VEC> struct ConvLoader {
    static constexpr int PER_ROW = BK / VEC, STEP = T::THREADS / PER_ROW;
    static constexpr int NA = T::BM / STEP, NB = T::BN / STEP;
    static_assert(T::BM % STEP == 0 && T::BN % STEP == 0, "whole passes");

    const ConvParams &p;
    int row[NA]; /* source row of the first tap: ((s hs + y) ws + x) t + stacked value */
    int yx[NA];  /* its y in the upper half, its x in the lower */
    const float *weight;
    int n; /* of the first weight row */
    int to, c, tap_y, tap_x, taps_y, taps_x, place0;

    __device__ __forceinline__ ConvLoader(const ConvParams &p_, const Axis &ay, const Axis &ax,
                                          int m0, int n0)
        : p(p_)
    {
        const int first = (int)threadIdx.x / PER_ROW, rows = conv_rows(p, ay, ax);
        c = (int)threadIdx.x % PER_ROW * VEC;
        to = first * PITCH<Order::ROWS, 0> + c;
        tap_y = tap_x = 0;
        taps_y = ay.taps;
        taps_x = ax.taps;
        place0 = ay.kernel0 * p.r + ax.kernel0;
#pragma unroll
        for (int i = 0; i < NA; i++) {
            const int m = m0 + first + i * STEP;
            const ConvRow at = conv_row(p, ay, ax, m < rows ? m : 0);
            const int y = at.y * ay.step + ay.first, x = at.x * ax.step + ax.first;
            row[i] = ((at.s * p.hs + y) * p.ws + x) * p.t + at.t;
            /* A row beyond the last lies outside every image. */
            yx[i] = (m < rows ? y : -CONV_SIDE_MAX) * 65536 + x;
        }
        n = n0 + first;
        weight = p.weight + (int64_t)n * p.r * p.r * p.c;
        settle();
    }

    /* Brings c back under the number of channels. */
    __device__ __forceinline__ void settle()
    {
        while (c >= p.c && tap_y < taps_y) {
            c -= p.c;
            if (++tap_x == taps_x) {
                tap_x = 0;
                tap_y++;
            }
        }
    }

    __device__ __forceinline__ void operator()(float *a, float *b)
    {
        const bool any = tap_y < taps_y;
        const int dy = p.vjp ? -tap_y : tap_y, dx = p.vjp ? -tap_x : tap_x;
        const int shift = (dy * p.ws + dx) * p.t;
        const int place = place0 + (tap_y * p.r + tap_x) * (p.vjp ? p.stride : 1);
#pragma unroll
        for (int i = 0; i < NA; i++) {
            const int x = (int)(short)yx[i], y = (yx[i] - x) >> 16;
            const bool in =
                any && (unsigned)(y + dy) < (unsigned)p.hs && (unsigned)(x + dx) < (unsigned)p.ws;
            mma_copy_async<VEC * 4>(a + to + i * STEP * PITCH<Order::ROWS, 0>,
                                    in ? p.src + (int64_t)(row[i] + shift) * p.c + c : p.src, in);
        }
#pragma unroll
        for (int i = 0; i < NB; i++) {
            const bool in = any && n + i * STEP < p.n;
            const float *from = weight + ((int64_t)i * STEP * p.r * p.r + place) * p.c + c;
            mma_copy_async<VEC * 4>(b + to + i * STEP * PITCH<Order::ROWS, 0>, in ? from : p.weight,
                                    in);
        }
        c += BK;
        settle();
    }
};

/* The rows of a tile, each found by its place. */
struct ConvStore {
    const ConvParams &p;
    const Axis &ay, &ax;
    int m0, n0, rows;
    ConvEnd end;
    float *to;
    const float *mask;

    __device__ __forceinline__ void row(int m)
    {
        to = nullptr;
        if (m0 + m >= rows)
            return;
        const ConvRow at = conv_row(p, ay, ax, m0 + m);
        const int64_t pixel = conv_pixel(p, ay, ax, at);
        to = p.dst + (pixel * p.t + at.t) * p.n;
        mask = p.mask ? p.mask + pixel * p.n : nullptr;
    }

    __device__ __forceinline__ void operator()(int col, float v0, float v1)
    {
        if (to)
            end.put(to, mask, n0 + col, v0, v1);
    }
};

template <class T, lips_precision P, int VEC>
__global__ void __launch_bounds__(T::THREADS, T::BLOCKS) conv_apply(const ConvParams p)
{
    const int phase = (int)blockIdx.z;
    const Axis ay = conv_axis(p, p.vjp ? phase / p.stride : 0, p.hd);
    const Axis ax = conv_axis(p, p.vjp ? phase % p.stride : 0, p.wd);
    const int m0 = (int)blockIdx.x / p.n_tiles * T::BM, n0 = (int)blockIdx.x % p.n_tiles * T::BN;
    if (m0 >= conv_rows(p, ay, ax))
        return;
    float acc[T::MI][T::NI][4];
    ConvLoader<T, VEC> load(p, ay, ax, m0, n0);
    tile_multiply<T, P, Order::ROWS, Order::ROWS>(acc, load,
                                                  (ay.taps * ax.taps * p.c + BK - 1) / BK);
    ConvStore put = {
        p,       ay,     ax, m0, n0, conv_rows(p, ay, ax), conv_end(p.bias, p.relu, p.n, p.dst),
        nullptr, nullptr};
    tile_store<T>(acc, put);
}

template <class T, lips_precision P, int VEC>
lips_status start_tile(ConvParams p, cudaStream_t stream)
{
    constexpr size_t shared = TILE_SHARED<T, Order::ROWS, Order::ROWS>;
    p.n_tiles = (p.n + T::BN - 1) / T::BN;
    const int64_t blocks = (conv_most_rows(p) + T::BM - 1) / T::BM * p.n_tiles;
    if (blocks > CONV_INT_MAX)
        return lips_fail(LIPS_ERR_USAGE, "conv_apply: %" PRId64 " tiles, at most 2^31 - 1", blocks);
    LIPS_TRY_CUDA(cudaFuncSetAttribute((const void *)conv_apply<T, P, VEC>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    CU_LAUNCH((conv_apply<T, P, VEC>), dim3((unsigned)blocks, 1, (unsigned)conv_phases(p)),
              dim3(T::THREADS), shared, stream, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

/* Smaller tiles where wider ones would leave multiprocessors without one; the bits are the same. */
template <class T> bool fills(const ConvParams &p)
{
    const int64_t tiles = (conv_most_rows(p) + T::BM - 1) / T::BM * ((p.n + T::BN - 1) / T::BN);
    return tiles * conv_phases(p) >= MULTIPROCESSORS;
}

template <lips_precision P> lips_status start(const ConvParams &p, cudaStream_t stream)
{
    const bool vectors = vectors_fit(p.src, p.c) && vectors_fit(p.weight, p.c);
    if (!vectors && p.n <= TileNarrow::BN)
        return start_tile<TileNarrow, P, 1>(p, stream);
    if (!vectors)
        return start_tile<TileScalar, P, 1>(p, stream);
    if (p.n <= TileNarrow::BN || !fills<TileMiddle>(p))
        return start_tile<TileNarrow, P, 4>(p, stream);
    if (p.n <= TileMiddle::BN || !fills<TileWide>(p))
        return start_tile<TileMiddle, P, 4>(p, stream);
    return start_tile<TileWide, P, 4>(p, stream);
}

constexpr int PACK_THREADS = 256;

/* One thread an element of the result. */
__global__ void pack_weights(float *__restrict__ packed, const float *__restrict__ w, int o, int c,
                             int taps, bool vjp)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= o * c * taps)
        return;
    const int inner = vjp ? o : c, k = i % inner, tap = i / inner % taps, n = i / inner / taps;
    packed[i] = w[((int64_t)(vjp ? k : n) * c + (vjp ? n : k)) * taps + tap];
}

} // namespace

extern "C" lips_status lips_cuda_conv_pack(float *packed, const float *w,
                                           const lips_cuda_conv *shape, bool vjp,
                                           cudaStream_t stream)
{
    LIPS_TRY(conv_check_sizes("conv_pack", shape));
    const int64_t n = shape->o * shape->c * shape->r * shape->r;
    CU_LAUNCH(pack_weights, dim3((unsigned)((n + PACK_THREADS - 1) / PACK_THREADS)),
              dim3(PACK_THREADS), 0, stream, packed, w, (int)shape->o, (int)shape->c,
              (int)(shape->r * shape->r), vjp);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_conv_apply(const lips_cuda_conv_apply_args *a, cudaStream_t stream)
{
    LIPS_TRY(conv_check_sizes("conv_apply", &a->shape));
    LIPS_TRY(conv_check_sides("conv_apply", &a->shape));
    const ConvParams p = conv_params(a);
    switch (a->precision) {
    case LIPS_PRECISION_F32: return start<LIPS_PRECISION_F32>(p, stream);
    case LIPS_PRECISION_TF32: return start<LIPS_PRECISION_TF32>(p, stream);
    case LIPS_PRECISION_BF16: return start<LIPS_PRECISION_BF16>(p, stream);
    }
    return lips_fail(LIPS_ERR_USAGE, "conv_apply: unknown precision %d", (int)a->precision);
}
