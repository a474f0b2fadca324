/*
 * linear_vjp - cotangent of a linear layer's input on tensor cores; the end of a library's product.
 *
 *   dx[m,c] = (mask[m / T, c] > 0) sum_o dy[m,o] w[o,c]
 *
 * Shapes     dy (B,T,O), w (O,C), dx (B,T,C), mask (B,C), all f32, the last index innermost
 * Work split rows m = (sample, t), columns c, k = o; grid x = row tile and column tile, columns
 *            fastest. Tiles 128 x 128 where there are enough of them, else 128 x 32 (gemm_tile.h),
 *            128 x 64 by single floats where sizes or addresses are no multiples of 16 bytes. w is
 *            read as it lies, k by rows.
 *            affine_end, mask_end: one thread an element, columns in neighbouring threads.
 * Precision  products as in gemm_tile.h; sums, mask, bias in f32
 * Order      o ascending
 * Cost       2 O C flop a row; dy, w and dx once from DRAM: at 128 rows bound by w's 4 O C bytes.
 *            affine_end, mask_end: 8 bytes an element, memory bound.
 * Limits     fewer than 2^31 rows and elements of a row
 * Proof      tests/ops, tests/cusim/test_conv_kernels.cpp      Speed  predicted in gemm_tile.h
 * History    v1 this file.
 */
#include "linear.h"

#include "check.h"
#include "gemm_tile.h"

#include <inttypes.h>

namespace
{

struct VjpParams {
    const float *dy, *w, *mask;
    float *dx;
    int rows, t, c, o;
    int64_t n_tiles;
};

template <class T, int VEC> struct VjpLoader {
    static constexpr int PER_A = BK / VEC, STEP_A = T::THREADS / PER_A, NA = T::BM / STEP_A;
    static constexpr int PER_B = T::BN / VEC, STEP_B = T::THREADS / PER_B, NB = BK / STEP_B;
    static_assert(T::BM % STEP_A == 0 && BK % STEP_B == 0, "whole passes");

    const VjpParams &p;
    int a_to, b_to, row, a_k, b_k;
    const float *b_from; /* w at the thread's column; nullptr beyond c */

    __device__ __forceinline__ VjpLoader(const VjpParams &p_, int m0, int n0) : p(p_)
    {
        const int br = (int)threadIdx.x / PER_B, bc = (int)threadIdx.x % PER_B * VEC;
        row = m0 + (int)threadIdx.x / PER_A;
        a_k = (int)threadIdx.x % PER_A * VEC;
        b_k = br;
        a_to = (int)threadIdx.x / PER_A * PITCH<Order::ROWS, 0> + a_k;
        b_to = br * PITCH<Order::COLS, T::BN> + bc;
        b_from = n0 + bc < p.c ? p.w + n0 + bc : nullptr;
    }

    __device__ __forceinline__ void operator()(float *a, float *b)
    {
#pragma unroll
        for (int i = 0; i < NA; i++) {
            const int m = row + i * STEP_A;
            const bool in = m < p.rows && a_k < p.o;
            mma_copy_async<VEC * 4>(a + a_to + i * STEP_A * PITCH<Order::ROWS, 0>,
                                    in ? p.dy + (int64_t)m * p.o + a_k : p.dy, in);
        }
#pragma unroll
        for (int i = 0; i < NB; i++) {
            const int k = b_k + i * STEP_B;
            const bool in = b_from && k < p.o;
            mma_copy_async<VEC * 4>(b + b_to + i * STEP_B * PITCH<Order::COLS, T::BN>,
                                    in ? b_from + (int64_t)k * p.c : p.w, in);
        }
        a_k += BK;
        b_k += BK;
    }
};

struct VjpStore {
    const VjpParams &p;
    int m0, n0, m;

    __device__ __forceinline__ void row(int at)
    {
        m = m0 + at;
    }

    __device__ __forceinline__ void put(int n, float v)
    {
        if (n >= p.c)
            return;
        if (p.mask && !(p.mask[(int64_t)(m / p.t) * p.c + n] > 0))
            v = 0;
        p.dx[(int64_t)m * p.c + n] = v;
    }

    __device__ __forceinline__ void operator()(int col, float v0, float v1)
    {
        if (m >= p.rows)
            return;
        put(n0 + col, v0);
        put(n0 + col + 1, v1);
    }
};

template <class T, lips_precision P, int VEC>
__global__ void __launch_bounds__(T::THREADS, T::BLOCKS) vjp_tile(const VjpParams p)
{
    const int m0 = (int)(blockIdx.x / p.n_tiles) * T::BM;
    const int n0 = (int)(blockIdx.x % p.n_tiles) * T::BN;
    float acc[T::MI][T::NI][4];
    VjpLoader<T, VEC> load(p, m0, n0);
    tile_multiply<T, P, Order::ROWS, Order::COLS>(acc, load, (p.o + BK - 1) / BK);
    VjpStore put = {p, m0, n0, 0};
    tile_store<T>(acc, put);
}

template <class T, lips_precision P, int VEC>
lips_status start_tile(VjpParams p, cudaStream_t stream)
{
    constexpr size_t shared = TILE_SHARED<T, Order::ROWS, Order::COLS>;
    p.n_tiles = (p.c + T::BN - 1) / T::BN;
    const int64_t blocks = ((int64_t)p.rows + T::BM - 1) / T::BM * p.n_tiles;
    if (blocks > 2147483647)
        return lips_fail(LIPS_ERR_USAGE, "linear_vjp: %" PRId64 " tiles, at most 2^31 - 1", blocks);
    LIPS_TRY_CUDA(cudaFuncSetAttribute((const void *)vjp_tile<T, P, VEC>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    CU_LAUNCH((vjp_tile<T, P, VEC>), dim3((unsigned)blocks), dim3(T::THREADS), shared, stream, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

template <lips_precision P> lips_status start(const VjpParams &p, cudaStream_t stream)
{
    if (!vectors_fit(p.dy, p.o) || !vectors_fit(p.w, p.c))
        return start_tile<TileScalar, P, 1>(p, stream);
    /* Narrow tiles, too, where wide ones would leave multiprocessors without one. */
    const int64_t tiles = ((int64_t)p.rows + TileWide::BM - 1) / TileWide::BM *
                          ((p.c + TileWide::BN - 1) / TileWide::BN);
    if (p.c <= TileNarrow::BN || tiles < MULTIPROCESSORS)
        return start_tile<TileNarrow, P, 4>(p, stream);
    return start_tile<TileWide, P, 4>(p, stream);
}

constexpr int END_THREADS = 256;

__global__ void affine_end(float *__restrict__ y, const float *__restrict__ bias, bool relu,
                           int64_t count, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    float v = y[i];
    if (bias)
        v += bias[i % n];
    y[i] = relu && v < 0 ? 0 : v;
}

__global__ void mask_end(float *__restrict__ dx, const float *__restrict__ mask, int64_t count,
                         int64_t t, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count && !(mask[i / (t * n) * n + i % n] > 0))
        dx[i] = 0;
}

lips_status end_blocks(const char *op, int64_t count, unsigned *out)
{
    const int64_t blocks = (count + END_THREADS - 1) / END_THREADS;
    if (blocks > 2147483647)
        return lips_fail(LIPS_ERR_USAGE, "%s: %" PRId64 " elements are too many", op, count);
    *out = (unsigned)blocks;
    return LIPS_OK;
}

} // namespace

extern "C" lips_status lips_cuda_linear_vjp(const lips_cuda_linear_vjp_args *a, cudaStream_t stream)
{
    const int64_t rows = a->b * a->t, most = 2147483647 - 1024;
    if (rows > most || a->c > most || a->o > most)
        return lips_fail(LIPS_ERR_USAGE,
                         "linear_vjp: %" PRId64 " rows of %" PRId64 " to %" PRId64
                         " features, must each be under 2^31",
                         rows, a->o, a->c);
    const VjpParams p = {a->dy,     a->w,      a->mask,   a->dx, (int)rows,
                         (int)a->t, (int)a->c, (int)a->o, 0};
    switch (a->precision) {
    case LIPS_PRECISION_F32: return start<LIPS_PRECISION_F32>(p, stream);
    case LIPS_PRECISION_TF32: return start<LIPS_PRECISION_TF32>(p, stream);
    case LIPS_PRECISION_BF16: return start<LIPS_PRECISION_BF16>(p, stream);
    }
    return lips_fail(LIPS_ERR_USAGE, "linear_vjp: unknown precision %d", (int)a->precision);
}

extern "C" lips_status lips_cuda_affine_end(float *y, const float *bias, bool relu, int64_t rows,
                                            int64_t n, cudaStream_t stream)
{
    unsigned blocks = 0;
    LIPS_TRY(end_blocks("affine_end", rows * n, &blocks));
    CU_LAUNCH(affine_end, dim3(blocks), dim3(END_THREADS), 0, stream, y, bias, relu, rows * n, n);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_mask_end(float *dx, const float *mask, int64_t rows, int64_t t,
                                          int64_t n, cudaStream_t stream)
{
    unsigned blocks = 0;
    LIPS_TRY(end_blocks("mask_end", rows * t * n, &blocks));
    CU_LAUNCH(mask_end, dim3(blocks), dim3(END_THREADS), 0, stream, dx, mask, rows * t * n, t, n);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
