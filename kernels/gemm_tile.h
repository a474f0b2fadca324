/*
 * kernels/gemm_tile.h - a block's tile of a matrix product on tensor cores, for the kernels of
 * convolutions and linear layers (device code, included by their .cu files).
 *
 *   acc(m,n) += sum_k A(m,k) B(n,k)        m < BM, n < BN, k in slabs of BK = 16
 *
 * Shapes     A and B pass through shared memory as f32 in one of two orders: ROWS, k innermost, as
 *            activations and packed weights come, and COLS, m or n innermost, for sums over rows.
 * Work split warps of WM x WN; slabs arrive by cp.async, STAGES - 1 of them ahead, one barrier
 *            each. Rows of BK + 4 floats and of BM + 8 (BN + 8) floats: eight rows of a ldmatrix,
 *            or the 8 x 4 corner of a fragment, lie in 32 different banks.
 * Precision  P says what a product is; sums are f32.
 *            f32   a = big + small, both tf32: small b, big b' and big b (3 mma). What is lost is
 *                  small small and the rounding of small, under 2^-22 |a b|. Eight k are summed on
 *                  their own and added with a rounded f32 addition, since the tensor cores cut
 *                  their sums towards zero: over thousands of k that is a drift.
 *            tf32  operands rounded to 11 bits (1 mma of k = 8)
 *            bf16  operands rounded to 8 bits (1 mma of k = 16). Storage stays f32: k is summed
 *                  over, so a lane pairs the floats k and k + 4 that ldmatrix brings it.
 * Order      k ascending, whatever the grid: the same bits on every run
 * Cost       per slab and block (BM + BN) BK floats of L2 traffic for 2 BM BN BK flop:
 *            32 flop/byte at 128 x 128, 21 at 128 x 64
 * Speed      Predicted, not measured: mma.sync reaches about 62 % of Hopper's wgmma rate, on an
 *            H100 306 TFLOP/s in tf32 and a third of that for f32; beside the splitting (120
 *            instructions for 48 mma of a warp of 64 x 32) about 75. tf32 and bf16 are limited by
 *            shared memory (f32 operands) and L2 to about 170. conv_patch.cu and conv_wgmma.cu
 *            go beyond.
 * Limits     no wgmma, no bulk copies: one path for sm_80 to sm_100
 */
#ifndef LIPS_KERNELS_GEMM_TILE_H
#define LIPS_KERNELS_GEMM_TILE_H

#include "backend/precision.h"
#include "mma.h"

namespace
{

constexpr int WARP = 32;
constexpr int MULTIPROCESSORS = 132; /* of an H100: so many tiles should there be at least */
constexpr int BK = 16;    /* one 16-byte copy by each of 4 threads fills a row of a slab */
constexpr int STAGES = 4; /* 3 slabs under way hide about 600 cycles of L2 latency at 200 a slab */

enum class Order { ROWS, COLS };

/* THREADS is also what every loader may count on; BLOCKS a multiprocessor are asked of the compiler
 * (registers). */
template <int BM_, int BN_, int WM_, int WN_, int BLOCKS_> struct Tile {
    static constexpr int BM = BM_, BN = BN_, WM = WM_, WN = WN_, BLOCKS = BLOCKS_;
    static constexpr int WARPS_M = BM / WM, THREADS = WARP * WARPS_M * (BN / WN);
    static constexpr int MI = WM / 16, NI = WN / 8;
    static_assert(BM % WM == 0 && BN % WN == 0 && WM % 16 == 0 && WN % 8 == 0, "whole fragments");
};

typedef Tile<128, 32, 32, 32, 3> TileNarrow; /* 4 warps */
typedef Tile<128, 64, 32, 32, 2> TileMiddle; /* 8 warps */
typedef Tile<128, 64, 32, 32, 1> TileScalar; /* by single floats: more copies to track */
typedef Tile<128, 128, 64, 32, 1> TileWide;  /* 8 warps */
typedef Tile<64, 64, 32, 32, 3> TileSmall;   /* 4 warps, for sums over rows */

/* Floats of one operand's slab of N rows (columns) and from one of its rows to the next. */
template <Order O, int N> constexpr int PITCH = O == Order::ROWS ? BK + 4 : N + 8;
template <Order O, int N> constexpr int SLAB = PITCH<O, N> *(O == Order::ROWS ? N : BK);

/* Shared memory of a block: STAGES times (A's slab, then B's). */
template <class T, Order OA, Order OB>
constexpr size_t TILE_SHARED = sizeof(float) * STAGES *(SLAB<OA, T::BM> + SLAB<OB, T::BN>);

/* One lane's floats of 16 x 8 of A from k = 8 kk: a tf32 fragment. */
template <Order O, int N>
__device__ __forceinline__ void load_a(float (&v)[4], const float *slab, int row, int kk)
{
    const int lane = (int)threadIdx.x % WARP;
    if (O == Order::ROWS)
        mma_ldmatrix_x4(v, slab + (row + lane % 16) * PITCH<O, N> + kk * 8 + lane / 16 * 4);
    else
        for (int i = 0; i < 4; i++)
            v[i] = slab[(kk * 8 + lane % 4 + (i >> 1) * 4) * PITCH<O, N> + row + lane / 4 +
                        (i & 1) * 8];
}

/* One lane's floats of two neighbouring 8 x 8 of B from k = 8 kk: v[n][i] is k = 4 i + t. */
template <Order O, int N>
__device__ __forceinline__ void load_b(float (&v)[2][2], const float *slab, int row, int kk)
{
    const int lane = (int)threadIdx.x % WARP;
    if (O == Order::ROWS) {
        float all[4];
        mma_ldmatrix_x4(all, slab + (row + lane / 16 * 8 + lane % 8) * PITCH<O, N> + kk * 8 +
                                 lane / 8 % 2 * 4);
        for (int i = 0; i < 4; i++)
            v[i >> 1][i & 1] = all[i];
    } else
        for (int i = 0; i < 4; i++)
            v[i >> 1][i & 1] = slab[(kk * 8 + (i & 1) * 4 + lane % 4) * PITCH<O, N> + row +
                                    (i >> 1) * 8 + lane / 4];
}

/* A product of one fragment and one column fragment; STEPS of them cover a slab. take() is
 * given the lane's floats of both, each of the last two indices as load_a and load_b leave them. */
template <lips_precision P> struct Product;

template <> struct Product<LIPS_PRECISION_F32> {
    static constexpr int STEPS = 2;
    struct A {
        uint32_t big[4], small[4];
    };
    struct B {
        uint32_t big[2], small[2];
    };
    static __device__ __forceinline__ void split(uint32_t &big, uint32_t &small, float v)
    {
        big = mma_to_tf32(v);
        small = mma_to_tf32(v - mma_from_tf32(big));
    }
    static __device__ __forceinline__ void take(A &a, const float (&v)[1][4])
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
            split(a.big[i], a.small[i], v[0][i]);
    }
    static __device__ __forceinline__ void take(B &b, const float (&v)[1][2])
    {
#pragma unroll
        for (int i = 0; i < 2; i++)
            split(b.big[i], b.small[i], v[0][i]);
    }
    static __device__ __forceinline__ void multiply(float (&acc)[4], const A &a, const B &b)
    {
        float sum[4] = {0, 0, 0, 0};
        mma_m16n8k8_tf32(sum, a.small, b.big[0], b.big[1]);
        mma_m16n8k8_tf32(sum, a.big, b.small[0], b.small[1]);
        mma_m16n8k8_tf32(sum, a.big, b.big[0], b.big[1]);
#pragma unroll
        for (int i = 0; i < 4; i++)
            acc[i] += sum[i];
    }
};

template <> struct Product<LIPS_PRECISION_TF32> {
    static constexpr int STEPS = 2;
    struct A {
        uint32_t v[4];
    };
    struct B {
        uint32_t v[2];
    };
    static __device__ __forceinline__ void take(A &a, const float (&v)[1][4])
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
            a.v[i] = mma_to_tf32(v[0][i]);
    }
    static __device__ __forceinline__ void take(B &b, const float (&v)[1][2])
    {
        b.v[0] = mma_to_tf32(v[0][0]);
        b.v[1] = mma_to_tf32(v[0][1]);
    }
    static __device__ __forceinline__ void multiply(float (&acc)[4], const A &a, const B &b)
    {
        mma_m16n8k8_tf32(acc, a.v, b.v[0], b.v[1]);
    }
};

template <> struct Product<LIPS_PRECISION_BF16> {
    static constexpr int STEPS = 1;
    struct A {
        uint32_t v[4];
    };
    struct B {
        uint32_t v[2];
    };
    /* The instruction's k = 2t, 2t + 1, 2t + 8, 2t + 9 hold the slab's t, t + 4, t + 8, t + 12. */
    static __device__ __forceinline__ void take(A &a, const float (&v)[2][4])
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
            a.v[i] = mma_pack_bf16(v[i >> 1][i & 1], v[i >> 1][(i & 1) + 2]);
    }
    static __device__ __forceinline__ void take(B &b, const float (&v)[2][2])
    {
        b.v[0] = mma_pack_bf16(v[0][0], v[0][1]);
        b.v[1] = mma_pack_bf16(v[1][0], v[1][1]);
    }
    static __device__ __forceinline__ void multiply(float (&acc)[4], const A &a, const B &b)
    {
        mma_m16n8k16_bf16(acc, a.v, b.v[0], b.v[1]);
    }
};

/* acc += A B over the slab at a and b, for the warp's corner (row, col) of the tile. The steps are
 * not unrolled: their fragments together would not fit the registers. */
template <class T, lips_precision P, Order OA, Order OB>
__device__ __forceinline__ void slab_multiply(float (&acc)[T::MI][T::NI][4], const float *a,
                                              const float *b, int row, int col)
{
    typedef Product<P> Op;
    constexpr int KK = 2 / Op::STEPS;
    static_assert(T::NI % 2 == 0, "column fragments come in pairs");
#pragma unroll 1
    for (int s = 0; s < Op::STEPS; s++) {
        typename Op::B bn[T::NI];
#pragma unroll
        for (int n = 0; n < T::NI; n += 2) {
            float pair[2][2], v[2][KK][2];
#pragma unroll
            for (int kk = 0; kk < KK; kk++) {
                load_b<OB, T::BN>(pair, b, col + n * 8, s * KK + kk);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    v[i >> 1][kk][i & 1] = pair[i >> 1][i & 1];
            }
            Op::take(bn[n], v[0]);
            Op::take(bn[n + 1], v[1]);
        }
#pragma unroll
        for (int m = 0; m < T::MI; m++) {
            float v[KK][4];
            typename Op::A am;
#pragma unroll
            for (int kk = 0; kk < KK; kk++)
                load_a<OA, T::BM>(v[kk], a, row + m * 16, s * KK + kk);
            Op::take(am, v);
#pragma unroll
            for (int n = 0; n < T::NI; n++)
                Op::multiply(acc[m][n], am, bn[n]);
        }
    }
}

/*
 * The main loop. load(a, b) asks for the next slab's copies into a and b, k ascending; it is called
 * `slabs` times by all threads. Ends with no copy under way, but without a barrier.
 */
template <class T, lips_precision P, Order OA, Order OB, class Loader>
__device__ __forceinline__ void tile_multiply(float (&acc)[T::MI][T::NI][4], Loader &load,
                                              int slabs)
{
    constexpr int STAGE = SLAB<OA, T::BM> + SLAB<OB, T::BN>;
    CU_DYN_SHARED(float, shared);
    const int warp = (int)threadIdx.x / WARP;
    const int row = warp % T::WARPS_M * T::WM, col = warp / T::WARPS_M * T::WN;
#pragma unroll
    for (int i = 0; i < T::MI * T::NI * 4; i++)
        acc[i / 4 / T::NI][i / 4 % T::NI][i % 4] = 0;
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < slabs)
            load(shared + s * STAGE, shared + s * STAGE + SLAB<OA, T::BM>);
        mma_copy_commit();
    }
    for (int s = 0; s < slabs; s++) {
        mma_copy_wait<STAGES - 2>();
        __syncthreads(); /* slab s is there for all; all are done with the stage filled next */
        if (s + STAGES - 1 < slabs) {
            float *next = shared + (s + STAGES - 1) % STAGES * STAGE;
            load(next, next + SLAB<OA, T::BM>);
        }
        mma_copy_commit();
        const float *a = shared + s % STAGES * STAGE;
        slab_multiply<T, P, OA, OB>(acc, a, a + SLAB<OA, T::BM>, row, col);
    }
    mma_copy_wait<0>();
}

/* Calls put(m, n, v0, v1) for the pairs of neighbouring columns that the thread holds. */
template <class T, class Put>
__device__ __forceinline__ void tile_store(const float (&acc)[T::MI][T::NI][4], Put &put)
{
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int row = warp % T::WARPS_M * T::WM + lane / 4;
    const int col = warp / T::WARPS_M * T::WN + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < T::MI * 2; i++) {
        put.row(row + i * 8);
#pragma unroll
        for (int n = 0; n < T::NI; n++)
            put(col + n * 8, acc[i / 2][n][(i & 1) * 2], acc[i / 2][n][(i & 1) * 2 + 1]);
    }
}

/* 16-byte copies need their multiple of 4 floats on an aligned address. */
inline bool vectors_fit(const void *base, int64_t pitch)
{
    return pitch % 4 == 0 && (uintptr_t)base % 16 == 0;
}

} // namespace

#endif
