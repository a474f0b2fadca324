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
#include "conv_patch.h"
#include "conv_store.h"

namespace
{

constexpr int MOST_ROWS = 288; /* pixels of a patch with its border, of all its planes */
constexpr int AHEAD = 2, RING = AHEAD + 1; /* taps whose weights are under way; places for them */
constexpr int A_PITCH = 20;                /* words from one row of the patch to the next */

constexpr int PATCH_THREADS = 128;
static_assert(MOST_ROWS * PARTS <= TAPS * PATCH_THREADS, "a part a thread and tap fills a patch");

/* What the kernel takes; sizes fit 32 bits. */
struct PatchParams {
    const float *src, *bias, *mask;
    const uint32_t *packed;
    float *dst;
    int planes, t, h, w, c, n; /* planes: samples times stacked values */
    int ph, pw, q;             /* a block's patch */
    int rows;                  /* with its border */
    int tiles_x, tiles, n_tiles, chunks;
    int relu, unused; /* no bytes of padding */
};

/* Row of the source and of the result, ((s h + y) w + x) t + stacked value, of place `row` of the
 * block's patch; -1 outside the image. */
__device__ __forceinline__ int source_row(const PatchParams &p, int block, int row)
{
    const int tile = block % p.tiles, width = p.pw + 2, height = p.ph + 2;
    const int plane = block / p.tiles * p.q + row / (width * height);
    const int y = tile / p.tiles_x * p.ph + row / width % height - 1;
    const int x = tile % p.tiles_x * p.pw + row % width - 1;
    if (plane >= p.planes || (unsigned)y >= (unsigned)p.h || (unsigned)x >= (unsigned)p.w)
        return -1;
    return ((plane / p.t * p.h + y) * p.w + x) * p.t + plane % p.t;
}

/* Row of the patch, from its border on, of place m of the tile; -1 beyond the last. */
__device__ __forceinline__ int patch_row(const PatchParams &p, int m)
{
    const int each = p.ph * p.pw, in = m % each;
    if (m >= each * p.q)
        return -1;
    return (m / each * (p.ph + 2) + in / p.pw) * (p.pw + 2) + in % p.pw;
}

/* This thread's 16 bytes number `pass` of a chunk of the source, on their way to the patch. */
template <lips_precision P> struct Courier {
    typedef Operand<P> Op;
    float v[Op::FLOATS];

    __device__ __forceinline__ void fetch(const PatchParams &p, const int *table, int chunk,
                                          int pass)
    {
        const int at = pass * PATCH_THREADS + (int)threadIdx.x;
        const int c = chunk * Op::CHANNELS + at % PARTS * Op::FLOATS;
        const int row = at < p.rows * PARTS ? table[at / PARTS] : -1;
#pragma unroll
        for (int i = 0; i < Op::FLOATS; i += 4) {
            float4 f = make_float4(0, 0, 0, 0);
            if (row >= 0 && c + i < p.c)
                f = *reinterpret_cast<const float4 *>(p.src + (int64_t)row * p.c + c + i);
            v[i] = f.x;
            v[i + 1] = f.y;
            v[i + 2] = f.z;
            v[i + 3] = f.w;
        }
    }

    __device__ __forceinline__ void store(const PatchParams &p, uint32_t *patch, int pass) const
    {
        const int at = pass * PATCH_THREADS + (int)threadIdx.x;
        uint32_t words[4][Op::PLANES];
        if (at >= p.rows * PARTS)
            return;
#pragma unroll
        for (int i = 0; i < 4; i++)
            Op::word(words[i], v, i);
#pragma unroll
        for (int k = 0; k < Op::PLANES; k++)
            *reinterpret_cast<uint4 *>(patch + (k * p.rows + at / PARTS) * A_PITCH +
                                       at % PARTS * 4) =
                make_uint4(words[0][k], words[1][k], words[2][k], words[3][k]);
    }
};

/* Asks for the weights of the next tap. */
template <class T, lips_precision P>
__device__ __forceinline__ void ask_weights(uint32_t *to, const uint32_t *from)
{
    constexpr int WORDS = T::BN * B_PITCH * Operand<P>::PLANES;
    static_assert(WORDS % (4 * T::THREADS) == 0, "whole passes");
#pragma unroll
    for (int i = 0; i < WORDS / (4 * T::THREADS); i++) {
        const int at = (i * T::THREADS + (int)threadIdx.x) * 4;
        mma_copy_async<16>(reinterpret_cast<float *>(to + at),
                           reinterpret_cast<const float *>(from + at), true);
    }
}

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

struct PatchStore {
    const PatchParams &p;
    const int *table;
    int n0;
    ConvEnd end;
    float *to;
    const float *mask;

    __device__ __forceinline__ void row(int m)
    {
        const int in = patch_row(p, m), at = in < 0 ? -1 : table[in + p.pw + 3];
        to = at < 0 ? nullptr : p.dst + (int64_t)at * p.n;
        mask = p.mask && at >= 0 ? p.mask + (int64_t)(at / p.t) * p.n : nullptr;
    }

    __device__ __forceinline__ void operator()(int col, float v0, float v1)
    {
        if (to)
            end.put(to, mask, n0 + col, v0, v1);
    }
};

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
    Courier<P> courier;
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
    PatchStore put = {p,       table,  n_tile * T::BN, conv_end(p.bias, p.relu, p.n, p.dst),
                      nullptr, nullptr};
    tile_store<T>(acc, put);
}

/* The patch with the fewest blocks; among equals the one that reads least. */
void choose_patch(PatchParams *p, int64_t *blocks)
{
    int64_t best = 0, best_rows = 0;
    for (int pw = p->w < MOST_PLACES ? p->w : MOST_PLACES; pw >= 1; pw--)
        for (int ph = p->h < MOST_PLACES / pw ? p->h : MOST_PLACES / pw; ph >= 1; ph--) {
            const int border = (ph + 2) * (pw + 2);
            int q = MOST_PLACES / (ph * pw);
            q = q < MOST_ROWS / border ? q : MOST_ROWS / border;
            if (q < 1)
                continue;
            const int64_t n = ceil_div(p->w, pw) * ceil_div(p->h, ph) * ceil_div(p->planes, q);
            if (best && (n > best || (n == best && border * q >= best_rows)))
                continue;
            best = n;
            best_rows = border * q;
            p->ph = ph;
            p->pw = pw;
            p->q = q;
        }
    p->rows = (int)best_rows;
    p->tiles_x = (int)ceil_div(p->w, p->pw);
    p->tiles = (int)(p->tiles_x * ceil_div(p->h, p->ph));
    *blocks = best;
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
    choose_patch(&p, &blocks);
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
    const int64_t c = vjp ? s->o : s->c, n = vjp ? s->c : s->o, bn = columns_of_tile(n, p);
    PatchParams k = {};
    int64_t blocks = 0;
    k.planes = (int)(s->b * s->t);
    k.h = (int)s->h;
    k.w = (int)s->w;
    choose_patch(&k, &blocks);
    const double done = (double)blocks * MOST_PLACES * (double)(ceil_div(n, bn) * bn) *
                        (double)(ceil_div(c, channels_of_chunk(p)) * channels_of_chunk(p));
    return (double)(s->b * s->t * s->h * s->w) * (double)(c * n) / done;
}

extern "C" lips_status lips_cuda_conv_patch(const lips_cuda_conv_apply_args *a, cudaStream_t stream)
{
    LIPS_TRY(conv_check_sizes("conv_patch", &a->shape));
    if (!lips_cuda_conv_patch_offers(&a->shape, a->vjp) || (uintptr_t)a->src % 16 ||
        (uintptr_t)a->weight % 16)
        return lips_fail(LIPS_ERR_USAGE,
                         "conv_patch: kernel %" PRId64 "x%" PRId64 ", stride %" PRId64
                         ", pad %" PRId64 ": must be 3x3, 1, 1, with source channels in multiples "
                         "of 4 and 16-byte aligned",
                         a->shape.r, a->shape.r, a->shape.stride, a->shape.pad);
    const ConvParams c = conv_params(a);
    PatchParams p = {};
    p.src = c.src;
    p.bias = c.bias;
    p.mask = c.mask;
    p.packed = reinterpret_cast<const uint32_t *>(c.weight);
    p.dst = c.dst;
    p.planes = c.b * c.t;
    p.t = c.t;
    p.h = c.hs;
    p.w = c.ws;
    p.c = c.c;
    p.n = c.n;
    p.relu = c.relu;
    switch (a->precision) {
    case LIPS_PRECISION_F32: return start<LIPS_PRECISION_F32>(p, stream);
    case LIPS_PRECISION_TF32: return start<LIPS_PRECISION_TF32>(p, stream);
    case LIPS_PRECISION_BF16: return start<LIPS_PRECISION_BF16>(p, stream);
    }
    return lips_fail(LIPS_ERR_USAGE, "conv_patch: unknown precision %d", (int)a->precision);
}
