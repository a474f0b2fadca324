/*
 * conv_patch - 3 x 3 convolution of stride 1, forward and vjp, on tensor cores: each patch of the
 * source is read and rounded once for its nine taps.
 *
 *   formulas of conv_apply.cu with R = 3, stride 1, pad 1
 *
 * Shapes     as in conv_apply.cu, source channels in multiples of 4; packed weights of this file
 * Work split rows m = places (y,x) of a patch of PH x PW pixels in Q planes (sample, stacked
 *            value), at most 128; columns n = channels of the result, in tiles of 32, 64 or 128
 *            (not f32, whose operands would not fit the registers). PH, PW and Q are those with
 *            the fewest blocks (8 x 16 x 1 at 32 x 32, 8 x 8 x 2, 4 x 4 x 7). Grid: x = column
 *            tile, then patch, then planes: a patch of the mask is read by the stacked values of
 *            one sample at about the same time. 4 warps of 64 x 64 (64 x 32, 32 x 32).
 *            The source's channels come in chunks of 64 bytes a pixel: the patch with its border of
 *            one pixel lies in shared memory as operands, and a tap is an offset into it. While the
 *            nine taps of a chunk are multiplied, the next chunk's patch is read, a ninth at a
 *            time, rounded and written beside it. Weights are packed as the image of shared memory,
 *            in the order of their use, and come by cp.async, two taps ahead. Rows of 80 bytes in
 *            the patch, exchanged 16-byte places in the weights: eight rows of an ldmatrix lie in
 *            32 different banks.
 * Precision  f32   as in gemm_tile.h, but both parts of an operand are made once, when the patch is
 *                  written (weights: when they are packed), not at each of its uses
 *            tf32, bf16   rounded once in the same way; bf16 takes half the bytes
 * Order      k = chunk of channels (16; bf16: 32), then tap, then channel, ascending
 * Cost       18 C O flop a pixel and t. From L2 a block reads 4 (PH + 2)(PW + 2) C bytes and its
 *            weights, 9 C BN of 8, 4 or 2 bytes (f32, tf32, bf16), for 18 PH PW C BN flop: at
 *            8 x 16 27, 55 and 98 flop/byte (BN = 64, 128, 128), against 32 in conv_apply.cu. From
 *            shared memory a warp of 64 x 64 reads 4 KiB for 32 bytes of k, 2048 (bf16) or 1024
 *            (tf32) multiply-adds a clock where mma.sync does 1270 or 635. DRAM: as conv_apply.cu.
 * Predicted  H100 SXM, ConvNet w = 64, a vjp of T = 10 and 10 000 samples (45 TFLOP in its three
 *            wide layers); mma.sync at 62 % of the wgmma rate:
 *                    limit of mma.sync   L2 at 5.5 TB/s   here           conv_apply.cu
 *              f32   102 TFLOP/s         148              90: 0.50 s     75: 0.60 s
 *              tf32  306                 300              230: 0.20 s    160: 0.28 s
 *              bf16  613                 540              450: 0.10 s    170: 0.27 s
 *            (f32 in conv_apply.cu: 120 instructions that split beside 48 mma in every warp.)
 *            DRAM at 3 TB/s: 0.06 s.
 * Registers  (ptxas for sm_90a; f32 / tf32 / bf16; no spills) 128 x 32: 117 / 90 / 94, 128 x 64:
 *            186 / 134 / 138, 128 x 128: - / 202 / 206. Shared memory at 8 x 16 and the widest
 *            tile: 81 / 52 / 52 KiB; 2 blocks a multiprocessor (f32: one on an A100)
 * Limits     as in conv_apply.cu
 * Proof      tests/ops, tests/cusim/test_conv_kernels.cpp
 * History    v1 this file.
 */
#include "conv_patch_source.h"

namespace
{

constexpr int MOST_ROWS = 288; /* pixels of a patch with its border, of all its planes */
constexpr int AHEAD = 2, RING = AHEAD + 1; /* taps whose weights are under way; places for them */

constexpr int PATCH_THREADS = 128;
static_assert(MOST_ROWS * PARTS <= TAPS * PATCH_THREADS, "a part a thread and tap fills a patch");

/* acc[n] += a b[n]; the `mma` on one accumulator lie apart. */
template <lips_precision P, int NI>
__device__ __forceinline__ void multiply_row(float (&acc)[NI][4], const uint32_t (*a)[4],
                                             const uint32_t (*b)[NI][2])
{
    if constexpr (P == LIPS_PRECISION_BF16) {
#pragma unroll
        for (int n = 0; n < NI; n++)
            mma_m16n8k16_bf16(acc[n], a[0], b[0][n][0], b[0][n][1]);
    } else if constexpr (P == LIPS_PRECISION_TF32) {
#pragma unroll
        for (int n = 0; n < NI; n++)
            mma_m16n8k8_tf32(acc[n], a[0], b[0][n][0], b[0][n][1]);
    } else {
        float sum[NI][4] = {}; /* of eight k on their own (gemm_tile.h) */
#pragma unroll
        for (int part = 0; part < 3; part++) /* small big, big small, big big */
#pragma unroll
            for (int n = 0; n < NI; n++)
                mma_m16n8k8_tf32(sum[n], a[part == 0], b[part == 1][n][0], b[part == 1][n][1]);
#pragma unroll
        for (int i = 0; i < NI * 4; i++)
            acc[i / 4][i % 4] += sum[i / 4][i % 4];
    }
}

/* acc += one tap of a chunk: a is the patch at the tap, rows[] the lane's rows of it in words, b
 * the tap's weights from the warp's first column on. f32 takes 32 bytes of k at a time, since more
 * would not fit the registers. */
template <class T, lips_precision P>
__device__ __forceinline__ void multiply_tap(float (&acc)[T::MI][T::NI][4], const uint32_t *a,
                                             int a_plane, const int (&rows)[T::MI],
                                             const uint32_t *b)
{
    constexpr int PLANES = Operand<P>::PLANES;
    const int lane = (int)threadIdx.x % WARP, column = lane / 16 * 8 + lane % 8;
#pragma unroll(P == LIPS_PRECISION_F32 ? 1 : 2)
    for (int half = 0; half < 2; half++) { /* 32 bytes of k each */
        const int place = (half * 2 + lane / 8 % 2) ^ (column >> 1 & 3);
        uint32_t bn[PLANES][T::NI][2];
#pragma unroll
        for (int k = 0; k < PLANES; k++)
#pragma unroll
            for (int n = 0; n < T::NI; n += 2) {
                uint32_t v[4];
                mma_ldmatrix_x4(v, b + (k * T::BN + n * 8 + column) * B_PITCH + place * 4);
                bn[k][n][0] = v[0];
                bn[k][n][1] = v[1];
                bn[k][n + 1][0] = v[2];
                bn[k][n + 1][1] = v[3];
            }
#pragma unroll
        for (int m = 0; m < T::MI; m++) {
            uint32_t am[PLANES][4];
#pragma unroll
            for (int k = 0; k < PLANES; k++)
                mma_ldmatrix_x4(am[k], a + k * a_plane + rows[m] + half * 8);
            multiply_row<P, T::NI>(acc[m], am, bn);
        }
    }
}

/* Dynamic shared memory, in words: two patches of `planes` images each, then RING taps' weights. */
template <class T, lips_precision P>
__global__ void __launch_bounds__(T::THREADS, T::BLOCKS) conv_patch(const PatchParams p)
{
    static_assert(T::THREADS == PATCH_THREADS, "couriers count on it");
    typedef Operand<P> Op;
    constexpr int TAP_WORDS = T::BN * B_PITCH * Op::PLANES;
    CU_DYN_SHARED(uint32_t, shared);
    CU_SHARED(int, table, [MOST_ROWS]);
    const int block = (int)blockIdx.x / p.n_tiles, n_tile = (int)blockIdx.x % p.n_tiles;
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int plane = p.rows * A_PITCH, stages = p.chunks * TAPS;
    const uint32_t *packed = p.packed + (int64_t)n_tile * stages * TAP_WORDS;
    uint32_t *weights = shared + 2 * Op::PLANES * plane;
    const uint32_t *mine = weights + warp / T::WARPS_M * T::WN * B_PITCH;
    Courier<P, T::THREADS> courier;
    float acc[T::MI][T::NI][4];
    int rows[T::MI];
    for (int s = 0; s < AHEAD; s++) {
        ask_weights<T, P>(weights + s * TAP_WORDS, packed + s * TAP_WORDS);
        mma_copy_commit();
    }
    for (int i = (int)threadIdx.x; i < p.rows; i += T::THREADS)
        table[i] = source_row(p, block, i);
#pragma unroll
    for (int m = 0; m < T::MI; m++) {
        const int row = patch_row(p, warp % T::WARPS_M * T::WM + m * 16 + lane % 16);
        rows[m] = max(row, 0) * A_PITCH + lane / 16 * 4;
    }
#pragma unroll
    for (int i = 0; i < T::MI * T::NI * 4; i++)
        acc[i / 4 / T::NI][i / 4 % T::NI][i % 4] = 0;
    __syncthreads(); /* the table is written before it is read */
#pragma unroll 3
    for (int pass = 0; pass < TAPS; pass++) {
        courier.fetch(p, table, 0, pass);
        courier.store(p, shared, pass);
    }
    packed += AHEAD * TAP_WORDS;
    int tap = 0, chunk = 0, ring = 0; /* ring: the place of this tap's weights */
#pragma unroll 1
    for (int s = 0; s < stages; s++) {
        uint32_t *patch = shared + (chunk & 1) * Op::PLANES * plane;
        uint32_t *next = shared + (~chunk & 1) * Op::PLANES * plane;
        const bool more = chunk + 1 < p.chunks;
        mma_copy_wait<AHEAD - 1>();
        __syncthreads(); /* tap s's weights and its patch are there; all are done with tap s - 1 */
        if (s + AHEAD < stages)
            ask_weights<T, P>(weights + (ring ? ring - 1 : RING - 1) * TAP_WORDS, packed);
        mma_copy_commit();
        packed += TAP_WORDS;
        if (more)
            courier.fetch(p, table, chunk + 1, tap);
        multiply_tap<T, P>(acc, patch + (tap / 3 * (p.pw + 2) + tap % 3) * A_PITCH, plane, rows,
                           mine + ring * TAP_WORDS);
        ring = ring + 1 < RING ? ring + 1 : 0;
        if (more)
            courier.store(p, next, tap);
        if (++tap == TAPS) {
            tap = 0;
            chunk++;
        }
    }
    mma_copy_wait<0>();
    patch_store<T>(p, table, n_tile * T::BN, acc);
}

template <class T, lips_precision P>
lips_status start_tile(const PatchParams &p, int64_t blocks, cudaStream_t stream)
{
    const size_t words =
        (size_t)Operand<P>::PLANES * (size_t)(2 * p.rows * A_PITCH + RING * T::BN * B_PITCH);
    const size_t shared = words * sizeof(uint32_t);
    LIPS_TRY_CUDA(cudaFuncSetAttribute((const void *)conv_patch<T, P>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    CU_LAUNCH((conv_patch<T, P>), dim3((unsigned)(blocks * p.n_tiles)), dim3(T::THREADS), shared,
              stream, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

template <lips_precision P> lips_status start(PatchParams p, cudaStream_t stream)
{
    int64_t blocks = 0;
    choose_patch(&p, MOST_PLACES, MOST_ROWS, &blocks);
    p.chunks = (int)ceil_div(p.c, Operand<P>::CHANNELS);
    const int bn = columns_of_tile(p.n, P);
    p.n_tiles = (int)ceil_div(p.n, bn);
    if (blocks * p.n_tiles > CONV_INT_MAX)
        return lips_fail(LIPS_ERR_USAGE, "conv_patch: %" PRId64 " tiles, at most 2^31 - 1",
                         blocks * p.n_tiles);
    if (bn == PatchNarrow::BN)
        return start_tile<PatchNarrow, P>(p, blocks, stream);
    if constexpr (P != LIPS_PRECISION_F32)
        if (bn == PatchWide::BN)
            return start_tile<PatchWide, P>(p, blocks, stream);
    return start_tile<PatchMiddle, P>(p, blocks, stream);
}

} // namespace

extern "C" double lips_cuda_conv_patch_share(const lips_cuda_conv *s, bool vjp, lips_precision p)
{
    return patch_share(s, vjp, MOST_PLACES, MOST_ROWS, columns_of_tile(vjp ? s->c : s->o, p),
                       channels_of_chunk(p));
}

extern "C" lips_status lips_cuda_conv_patch(const lips_cuda_conv_apply_args *a, cudaStream_t stream)
{
    LIPS_TRY(patch_check("conv_patch", a));
    const PatchParams p = patch_params(a);
    switch (a->precision) {
    case LIPS_PRECISION_F32: return start<LIPS_PRECISION_F32>(p, stream);
    case LIPS_PRECISION_TF32: return start<LIPS_PRECISION_TF32>(p, stream);
    case LIPS_PRECISION_BF16: return start<LIPS_PRECISION_BF16>(p, stream);
    }
    return lips_fail(LIPS_ERR_USAGE, "conv_patch: unknown precision %d", (int)a->precision);
}
