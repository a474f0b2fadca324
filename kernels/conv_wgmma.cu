/*
 * conv_wgmma - 3 x 3 convolution of stride 1, forward and vjp, on Hopper's own matrix instructions:
 * conv_patch.cu with products of warpgroups (kernels/wgmma.h).
 *
 *   formulas of conv_apply.cu with R = 3, stride 1, pad 1
 *
 * Shapes     as in conv_patch.cu; more than 32 columns
 * Work split as in conv_patch.cu, with up to 256 rows (16 x 16 x 1 at 32 x 32 and 16 x 16,
 *            8 x 8 x 4, 4 x 4 x 14) and 64 or 128 columns (f32: 64): two warpgroups, each warp with
 *            32 rows and all columns. A comes by ldmatrix from the patch and stays in registers,
 *            which the taps' shifts demand: no descriptor reaches a patch of any width. B is read
 *            by the products themselves from shared memory, where the weights lie as core matrices,
 *            without swizzle, as they were packed: 32 bytes of k of all columns are contiguous.
 *            Products of one half of a tap (32 bytes of k) run while the next half's A is loaded
 *            into other registers, across the barrier between taps; all are waited for at the end
 *            of a chunk (of three taps, where registers are short), since the compiler follows
 *            them through straight code alone. So four taps' weights have a place: two under way,
 *            one in use, one that may still be. A part of the next patch is fetched at one tap and
 *            stored at the next.
 * Precision  as in conv_patch.cu. f32: one row tile's three products run while the sums of eight k
 *            of the other are added; all are waited for behind the barrier of each tap.
 * Order      as in conv_patch.cu
 * Cost       18 C O flop a pixel and t. From L2 a block of 16 x 16 reads 1296 C bytes of source and
 *            9 C BN of 8, 4 or 2 bytes of weights for 4608 C BN flop: 50, 100 and 164 flop/byte
 *            (tf32 and bf16 with BN = 64: 82 and 120). Of shared memory's 128 bytes a clock the
 *            products of 64 rows take half for B whatever BN, ldmatrix a quarter (BN = 64: half;
 *            f32: a third), weights that arrive an eighth (f32: a twelfth), the patch 4 % (5 to
 *            7 %): 91 % (BN = 64: 120 %; f32: 96 %).
 * Predicted  H100 SXM, the same vjp of T = 10 as in conv_patch.cu (45 TFLOP, a third of it with 64
 *            columns), TFLOP/s:
 *                    peak   L2 at 5.5 TB/s   shared memory   here            conv_patch.cu
 *              f32   165    275              165             115: 0.39 s     90: 0.50 s
 *              tf32  495    550 (64: 450)    495 (415)       350: 0.13 s     230: 0.20 s
 *              bf16  989    900 (64: 660)    989 (830)       580: 0.08 s     450: 0.10 s
 *            Loops at 80 to 85 % of their limit; f32 at 75, for the wait at each tap (100 clocks of
 *            768). Where one block fills a multiprocessor, its first patch and its results (5000
 *            clocks) are not hidden: 6 to 12 % at C = 512 to 256 in bf16, half that in tf32, 5 % in
 *            f32. DRAM at 3 TB/s: 0.06 s.
 * Registers  (ptxas for sm_90a; no spills, no product serialized) 256 x 128: 249, one block a
 *            multiprocessor; 256 x 64: 128, two; f32: 202, one. Shared memory, at 16 x 16: 83, 67
 *            and 133 KiB; at most (4 x 4 x 14) 111, 95 and 189.
 * Limits     compute capability 9.0, built for sm_90a; elsewhere the kernel is empty and never
 *            chosen. No bulk copies and no mbarrier: nothing here can wait for ever.
 * Proof      tests/cusim/test_conv_kernels.cpp, tests/cusim/test_wgmma.cpp, tests/ops; on a device
 *            it is compared with conv_apply.cu before it is chosen (src/backend/cuda/prove.h)
 * History    v1 this file.
 */
#include "conv_patch_source.h"
#include "wgmma.h"

namespace
{

constexpr int AHEAD = 2; /* taps whose weights are under way */
constexpr int RING = 4;  /* places for them: the products of a tap may outlive its turn by one */
constexpr int GROUP_THREADS = 256, GROUP_PLACES = 256; /* of a block: two warpgroups */
constexpr int GROUP_ROWS = 512; /* pixels of a patch with its border, of all its planes */
constexpr int PASSES = GROUP_ROWS * PARTS / GROUP_THREADS; /* of couriers over a patch */
static_assert(PASSES < TAPS, "what is fetched at one tap is stored at the next");

typedef Tile<GROUP_PLACES, 128, 32, 128, 1> GroupWide;
typedef Tile<GROUP_PLACES, 64, 32, 64, 2> GroupMiddle;
typedef Tile<GROUP_PLACES, 64, 32, 64, 1> GroupSplit; /* f32 */

template <int MI, int NI> __device__ __forceinline__ void clear(float (&acc)[MI][NI][4])
{
#pragma unroll
    for (int i = 0; i < MI * NI * 4; i++)
        acc[i / 4 / NI][i / 4 % NI][i % 4] = 0;
#pragma unroll
    for (int m = 0; m < MI; m++)
        wgmma_hold<NI>(acc[m]);
}

/* The products of a thread's warp: sums, and what is under way. */
template <class T, lips_precision P> struct Group {
    static constexpr int TOGETHER = T::BLOCKS == 1 ? TAPS : 3; /* taps between waits for all */
    float acc[T::MI][T::NI][4];
    uint32_t held[2][T::MI][4]; /* A of each half of a tap */

    __device__ __forceinline__ void begin()
    {
        clear(acc);
    }

    /* Asks for acc += 32 bytes of k of a tap: a is the patch there, rows[] the lane's rows of it in
     * words, weights the descriptor. half: 0 and 1 in turn. */
    __device__ __forceinline__ void multiply(int half, const uint32_t *a, int,
                                             const int (&rows)[T::MI], uint64_t weights)
    {
        wgmma_wait<1>(); /* held[half] is free: all but the last call's products are done */
#pragma unroll
        for (int m = 0; m < T::MI; m++)
            mma_ldmatrix_x4(held[half][m], a + rows[m]);
        wgmma_fence();
#pragma unroll
        for (int m = 0; m < T::MI; m++)
            if constexpr (P == LIPS_PRECISION_BF16)
                wgmma_bf16<T::NI>(acc[m], held[half][m], weights);
            else
                wgmma_tf32<T::NI>(acc[m], held[half][m], weights);
        wgmma_commit();
    }

    __device__ __forceinline__ void drain()
    {
        wgmma_wait<0>();
    }
};

/* f32: both parts of operands, and sums of eight k on their own (gemm_tile.h). One row tile's three
 * products run while the other's sums are added. */
template <class T> struct Group<T, LIPS_PRECISION_F32> {
    static constexpr int TOGETHER = 1;
    static_assert(T::MI == 2, "two row tiles take turns");
    float acc[2][T::NI][4];
    float sum[2][T::NI][4];
    uint32_t held[2][2][4]; /* A of each row tile: big and small parts */

    __device__ __forceinline__ void begin()
    {
        clear(acc);
        clear(sum);
    }

    __device__ __forceinline__ void add(int m)
    {
        wgmma_hold<T::NI>(sum[m]);
#pragma unroll
        for (int i = 0; i < T::NI * 4; i++)
            acc[m][i / 4][i % 4] += sum[m][i / 4][i % 4];
        wgmma_hold<T::NI>(acc[m]); /* now, not later: sums of several steps would not fit */
    }

    /* plane: words from the big to the small parts of the patch. Between taps all are waited for:
     * over more of them, the compiler's sums would not fit the registers. */
    __device__ __forceinline__ void multiply(int half, const uint32_t *a, int plane,
                                             const int (&rows)[2], uint64_t weights)
    {
        const uint64_t small = weights + T::BN * B_PITCH / 4;
#pragma unroll
        for (int m = 0; m < 2; m++) {
            const bool begins = half == 0 && m == 0;
            if (begins)
                wgmma_wait<0>();
            mma_ldmatrix_x4(held[m][0], a + rows[m]);
            mma_ldmatrix_x4(held[m][1], a + plane + rows[m]);
            wgmma_fence();
            wgmma_tf32<T::NI, true>(sum[m], held[m][1], weights);
            wgmma_tf32<T::NI>(sum[m], held[m][0], small);
            wgmma_tf32<T::NI>(sum[m], held[m][0], weights);
            wgmma_commit();
            if (!begins)
                wgmma_wait<1>();
            add(1 - m);
        }
    }

    __device__ __forceinline__ void drain()
    {
        wgmma_wait<0>();
        add(1);
    }
};

/* Dynamic shared memory, in words: two patches of `planes` images each, then RING taps' weights. */
template <class T, lips_precision P>
__global__ void __launch_bounds__(T::THREADS, T::BLOCKS) conv_wgmma(const PatchParams p)
{
    static_assert(T::THREADS == GROUP_THREADS, "couriers count on it");
    constexpr int PLANES = Operand<P>::PLANES, TAP_WORDS = T::BN * B_PITCH * PLANES;
    if constexpr (!WGMMA_HERE)
        return;
    CU_DYN_SHARED(uint32_t, shared);
    CU_SHARED(int, table, [GROUP_ROWS]);
    const int block = (int)blockIdx.x / p.n_tiles, n_tile = (int)blockIdx.x % p.n_tiles;
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int plane = p.rows * A_PITCH, stages = p.chunks * TAPS;
    const uint32_t *packed = p.packed + (int64_t)n_tile * stages * TAP_WORDS;
    uint32_t *weights = shared + 2 * PLANES * plane;
    const uint64_t first = wgmma_descriptor(weights, 128, 256);
    Courier<P, T::THREADS> courier;
    Group<T, P> group;
    int rows[T::MI];
    for (int s = 0; s < AHEAD; s++) {
        ask_weights<T, P>(weights + s * TAP_WORDS, packed + s * TAP_WORDS);
        mma_copy_commit();
    }
    for (int i = (int)threadIdx.x; i < p.rows; i += T::THREADS)
        table[i] = source_row(p, block, i);
#pragma unroll
    for (int m = 0; m < T::MI; m++) {
        const int row = patch_row(p, warp * T::WM + m * 16 + lane % 16);
        rows[m] = max(row, 0) * A_PITCH + lane / 16 * 4;
    }
    group.begin();
    __syncthreads(); /* the table is written before it is read */
#pragma unroll 4
    for (int pass = 0; pass < PASSES; pass++) {
        courier.fetch(p, table, 0, pass);
        courier.store(p, shared, pass);
    }
    packed += AHEAD * TAP_WORDS;
    int s = 0;
#pragma unroll 1
    for (int chunk = 0; chunk < p.chunks; chunk++) {
        uint32_t *patch = shared + (chunk & 1) * PLANES * plane;
        uint32_t *next = shared + (~chunk & 1) * PLANES * plane;
        const bool more = chunk + 1 < p.chunks;
#pragma unroll(Group <T, P>::TOGETHER)
        for (int tap = 0; tap < TAPS; tap++, s++) {
            const uint32_t *at = patch + (tap / 3 * (p.pw + 2) + tap % 3) * A_PITCH;
            const uint64_t mine = first + (uint64_t)(s % RING) * (TAP_WORDS / 4);
            mma_copy_wait<AHEAD - 1>();
            wgmma_publish();
            __syncthreads(); /* tap s's weights are there, and at tap 0 its patch */
            if (s + AHEAD < stages)
                ask_weights<T, P>(weights + (s + AHEAD) % RING * TAP_WORDS, packed);
            mma_copy_commit();
            packed += TAP_WORDS;
            group.multiply(0, at, plane, rows, mine);
            if (more && tap > 0)
                courier.store(p, next, tap - 1);
            if (more && tap < PASSES)
                courier.fetch(p, table, chunk + 1, tap);
            group.multiply(1, at + 8, plane, rows, mine + T::BN * B_PITCH / 8);
            if (Group<T, P>::TOGETHER > 1 && (tap + 1) % Group<T, P>::TOGETHER == 0)
                group.drain();
        }
    }
    mma_copy_wait<0>();
    group.drain();
#pragma unroll
    for (int m = 0; m < T::MI; m++)
        wgmma_hold<T::NI>(group.acc[m]);
    patch_store<T>(p, table, n_tile * T::BN, group.acc);
}

template <class T, lips_precision P>
lips_status start_tile(const PatchParams &p, int64_t blocks, cudaStream_t stream)
{
    const size_t shared = (size_t)Operand<P>::PLANES *
                          (size_t)(2 * p.rows * A_PITCH + RING * T::BN * B_PITCH) *
                          sizeof(uint32_t);
    LIPS_TRY_CUDA(cudaFuncSetAttribute((const void *)conv_wgmma<T, P>,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    CU_LAUNCH((conv_wgmma<T, P>), dim3((unsigned)(blocks * p.n_tiles)), dim3(T::THREADS), shared,
              stream, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

template <lips_precision P> lips_status start(PatchParams p, cudaStream_t stream)
{
    int64_t blocks = 0;
    choose_patch(&p, GROUP_PLACES, GROUP_ROWS, &blocks);
    p.chunks = (int)ceil_div(p.c, Operand<P>::CHANNELS);
    const int bn = columns_of_group(p.n, P);
    p.n_tiles = (int)ceil_div(p.n, bn);
    if (blocks * p.n_tiles > CONV_INT_MAX)
        return lips_fail(LIPS_ERR_USAGE, "conv_wgmma: %" PRId64 " tiles, at most 2^31 - 1",
                         blocks * p.n_tiles);
    if constexpr (P == LIPS_PRECISION_F32)
        return start_tile<GroupSplit, P>(p, blocks, stream);
    else
        return bn == GroupMiddle::BN ? start_tile<GroupMiddle, P>(p, blocks, stream)
                                     : start_tile<GroupWide, P>(p, blocks, stream);
}

} // namespace

extern "C" double lips_cuda_conv_wgmma_share(const lips_cuda_conv *s, bool vjp, lips_precision p)
{
    return patch_share(s, vjp, GROUP_PLACES, GROUP_ROWS, columns_of_group(vjp ? s->c : s->o, p),
                       channels_of_chunk(p));
}

extern "C" lips_status lips_cuda_conv_wgmma(const lips_cuda_conv_apply_args *a, cudaStream_t stream)
{
    LIPS_TRY(patch_check("conv_wgmma", a));
    if (!lips_cuda_conv_wgmma_offers(&a->shape, a->vjp))
        return lips_fail(LIPS_ERR_USAGE,
                         "conv_wgmma: %" PRId64
                         " columns: must be more than 32, in a build for sm_90a",
                         a->vjp ? a->shape.c : a->shape.o);
    const PatchParams p = patch_params(a);
    switch (a->precision) {
    case LIPS_PRECISION_F32: return start<LIPS_PRECISION_F32>(p, stream);
    case LIPS_PRECISION_TF32: return start<LIPS_PRECISION_TF32>(p, stream);
    case LIPS_PRECISION_BF16: return start<LIPS_PRECISION_BF16>(p, stream);
    }
    return lips_fail(LIPS_ERR_USAGE, "conv_wgmma: unknown precision %d", (int)a->precision);
}
