/*
 * batched_product - many matrix products of one shape on tensor cores (batched_product.h).
 *
 *   c = alpha (a[0] b[0] + a[1] b[1])
 *
 * Shapes     any; f32. a k-innermost or m-innermost, b k-innermost or n-innermost
 * Work split grid x = matrix (sample, head, stacked value), y = column tile, z = row tile; the tile
 *            with least padding of 64 x 64, 128 x 32 and, for 64 tokens and a class token, 80 x 80
 *            (gemm_tile.h). Slabs of the second term follow those of the first. Copies of 16 bytes
 *            where all strides and the innermost sizes are multiples of 4, else of 4 bytes: an odd
 *            number of tokens, with a class token, say.
 * Precision  float32-grade: 3xTF32 (gemm_tile.h)
 * Order      k ascending, the first term, then the second
 * Cost       2 m n k flop a term; a block reads 16 flop/byte from L2 at 64 x 64, and operands once
 *            from DRAM
 * Predicted  H100 SXM: L2 at 5.5 TB/s allows 88 TFLOP/s; 80 instructions that split beside 24 mma
 *            of a warp of 32 x 32 about 60, copies of 4 bytes about 45. FFMA reached a third of 67
 *            in attention.cu's v1. N = 65 fills 66 % of 80 x 80, 26 % of four tiles of 64 x 64.
 * Registers  (ptxas for sm_90a, no spills) 116 to 133; 80 x 80: 128 to 144
 * Limits     m and n below 65536 tiles; matrices below 2^31
 * Proof      tests/ops (attn_*, test_attention_cuda, linear_*), tests/cusim/test_conv_kernels.cpp
 * History    v1 this file; before, FFMA in tiles of 32 x 32 in attention.cu.
 */
#include "kernels/batched_product.h"

#include "kernels/check.h"
#include "kernels/gemm_tile.h"

using batched_product::operand;
using batched_product::product;

namespace
{

typedef Tile<80, 80, 80, 16, 2> TileClass; /* 5 warps */

/* Of the matrix of this block. */
__device__ __forceinline__ float *matrix_of(const operand &o, const product &p)
{
    const int64_t number = blockIdx.x, t = number % p.stack, head = number / p.stack % p.heads;
    return o.at + number / p.stack / p.heads * o.sample + head * o.head + t * o.stack;
}

/* Copies one operand's slabs: lines first .. of `lines`, k of `depth`; then the second term's. */
template <Order O, int THREADS, int N, int VEC> struct Slabs {
    static constexpr bool ROWS = O == Order::ROWS;
    static constexpr int PER = (ROWS ? BK : N) / VEC, STEP = THREADS / PER;
    static constexpr int COPIES = (ROWS ? N : BK) / STEP;
    static_assert(THREADS % PER == 0 && (ROWS ? N : BK) % STEP == 0, "whole passes");
    const float *from[2];
    int64_t step[2]; /* from one line (ROWS) or one k (COLS) to the next */
    int first, lines, depth, k, term;

    __device__ __forceinline__ void operator()(float *slab)
    {
        const int inner = (int)threadIdx.x % PER * VEC, outer = (int)threadIdx.x / PER;
        const float *at = term ? from[1] : from[0];
        const int64_t pitch = term ? step[1] : step[0];
#pragma unroll
        for (int i = 0; i < COPIES; i++) {
            const int line = first + (ROWS ? outer + i * STEP : inner);
            const int place = k + (ROWS ? inner : outer + i * STEP);
            const bool in = line < lines && place < depth;
            mma_copy_async<VEC * 4>(
                slab + (outer + i * STEP) * PITCH<O, N> + inner,
                in ? at + (ROWS ? line * pitch + place : place * pitch + line) : at, in);
        }
        k += BK;
        if (k >= depth) {
            k = 0;
            term = 1;
        }
    }
};

template <class T, Order OA, Order OB, int VEC> struct ProductLoader {
    Slabs<OA, T::THREADS, T::BM, VEC> left;
    Slabs<OB, T::THREADS, T::BN, VEC> right;

    __device__ __forceinline__ void operator()(float *a, float *b)
    {
        left(a);
        right(b);
    }
};

struct ProductStore {
    float *c;
    int64_t pitch;
    float alpha;
    int m0, n0, m, n;
    float *to;

    __device__ __forceinline__ void row(int at)
    {
        to = m0 + at < m ? c + (m0 + at) * pitch : nullptr;
    }
    __device__ __forceinline__ void operator()(int col, float v0, float v1)
    {
        if (!to)
            return;
        if (n0 + col < n)
            to[n0 + col] = alpha * v0;
        if (n0 + col + 1 < n)
            to[n0 + col + 1] = alpha * v1;
    }
};

template <class T, Order OA, Order OB, int VEC>
__global__ void __launch_bounds__(T::THREADS, T::BLOCKS) multiply(const product p)
{
    constexpr bool AR = OA == Order::ROWS, BR = OB == Order::ROWS;
    const int m0 = (int)blockIdx.z * T::BM, n0 = (int)blockIdx.y * T::BN;
    const int k0 = (int)(blockIdx.x % p.stack) * p.k, k = p.k_all ? min(p.k, p.k_all - k0) : p.k;
    const int slabs = (k + BK - 1) / BK * p.terms;
    float acc[T::MI][T::NI][4];
    ProductLoader<T, OA, OB, VEC> load = {
        {{matrix_of(p.a[0], p), matrix_of(p.a[1], p)},
         {AR ? p.a[0].row : p.a[0].col, AR ? p.a[1].row : p.a[1].col},
         m0,
         p.m,
         k,
         0,
         0},
        {{matrix_of(p.b[0], p), matrix_of(p.b[1], p)},
         {BR ? p.b[0].col : p.b[0].row, BR ? p.b[1].col : p.b[1].row},
         n0,
         p.n,
         k,
         0,
         0}};
    tile_multiply<T, LIPS_PRECISION_F32, OA, OB>(acc, load, slabs);
    ProductStore put = {matrix_of(p.c, p), p.c.row, p.alpha, m0, n0, p.m, p.n, nullptr};
    tile_store<T>(acc, put);
}

template <class T, Order OA, Order OB, int VEC>
lips_status launch(const product &p, int64_t matrices, cudaStream_t stream)
{
    constexpr size_t shared = TILE_SHARED<T, OA, OB>;
    const dim3 grid((unsigned)matrices, (unsigned)((p.n + T::BN - 1) / T::BN),
                    (unsigned)((p.m + T::BM - 1) / T::BM));
    LIPS_TRY_CUDA(cudaFuncSetAttribute((const void *)multiply<T, OA, OB, VEC>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    CU_LAUNCH((multiply<T, OA, OB, VEC>), grid, dim3(T::THREADS), shared, stream, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

/* Sixteen bytes lie together in every row (column) of every matrix. */
bool fours(const operand &o, int innermost)
{
    const int64_t pitch = o.row == 1 ? o.col : o.row;
    return innermost % 4 == 0 && pitch % 4 == 0 && o.sample % 4 == 0 && o.head % 4 == 0 &&
           o.stack % 4 == 0 && (uintptr_t)o.at % 16 == 0;
}

template <class T> int64_t padded(const product &p)
{
    return (int64_t)(p.m + T::BM - 1) / T::BM * T::BM * ((p.n + T::BN - 1) / T::BN * T::BN);
}

template <Order OA, Order OB, int VEC>
lips_status start_tile(const product &p, int64_t matrices, cudaStream_t stream)
{
    const int64_t small = padded<TileSmall>(p), narrow = padded<TileNarrow>(p);
    if (padded<TileClass>(p) < (small < narrow ? small : narrow))
        return launch<TileClass, OA, OB, VEC>(p, matrices, stream);
    return narrow < small ? launch<TileNarrow, OA, OB, VEC>(p, matrices, stream)
                          : launch<TileSmall, OA, OB, VEC>(p, matrices, stream);
}

template <Order OA, Order OB>
lips_status start(const product &p, int64_t matrices, cudaStream_t stream)
{
    bool vectors = true;
    for (int i = 0; i < p.terms; i++)
        vectors = vectors && fours(p.a[i], OA == Order::ROWS ? p.k : p.m) &&
                  fours(p.b[i], OB == Order::ROWS ? p.k : p.n);
    return vectors ? start_tile<OA, OB, 4>(p, matrices, stream)
                   : start_tile<OA, OB, 1>(p, matrices, stream);
}

} // namespace

lips_status lips_cuda_batched_product(const product &p, int64_t matrices, cudaStream_t stream)
{
    if (p.a[0].col != 1)
        return start<Order::COLS, Order::COLS>(p, matrices, stream);
    if (p.b[0].col != 1)
        return start<Order::ROWS, Order::ROWS>(p, matrices, stream);
    return start<Order::ROWS, Order::COLS>(p, matrices, stream);
}
