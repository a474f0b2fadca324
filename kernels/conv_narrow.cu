/*
 * conv_narrow - convolution forward, vjp and weight gradient for few channels, by FFMA.
 *
 *   formulas of conv_apply.cu and conv_grad.cu
 *
 * A tensor-core tile has at least 32 columns and 16 k: with 4 channels most of it would be zeros.
 * Here a thread owns rows (pixel, t) and all of up to 8 result channels: what it computes is what
 * is asked for.
 *
 * Shapes     as in conv_apply.cu; weights in PyTorch's order, read once a block into shared memory
 * Work split apply: grid x = 512 rows (256 threads, 2 rows each, neighbouring rows in neighbouring
 *            threads), y = 8 result channels, z = phase of the vjp's stride. Source channels in
 *            chunks whose taps fit 16 KiB of weights.
 *            grad: grid x = part (a run of segments of 32 output pixels of one row), y = 8 output
 *            channels x as many (tap, c) as there are threads; a thread owns one (tap, c) and every
 *            LANES-th pixel, 8 sums in registers; lanes are added in order through shared memory.
 * Precision  f32 fused multiply-adds whatever precision is asked for: never less than asked
 * Order      apply: k = chunk of channels, tap, channel. grad: pixels of a lane ascending, then
 *            lanes, then parts (f64). No atomics.
 * Cost       apply at 3x3: 36 C bytes from L1 and 4 (C + O) from DRAM a row, 18 C O flop. 4 -> 8 at
 *            32 x 32: 576 flop for 48 bytes; by DRAM alone that would be bound by bytes, but the
 *            source passes L1 nine times: predicted 70 % of the copy rate. grad: 14 instructions
 *            for 8 fma; 4 -> 8, 128 samples at 32 x 32: 0.15 Gfma, predicted 10 us.
 * Registers  (ptxas for sm_90a, no spills) apply 107, with 16-byte loads 122; grad 48
 * Limits     as in conv_apply.cu; any shape, but wide ones are slow
 * Proof      tests/ops, tests/cusim/test_conv_kernels.cpp
 * History    v1 this file.
 */
#include "conv_geometry.h"

namespace
{

constexpr int THREADS = 256;
constexpr int ROWS = 2;             /* rows of a thread: each weight read serves two */
constexpr int OUTS = 8;             /* result channels of a thread */
constexpr int WEIGHT_FLOATS = 4096; /* of shared memory a block */

/* Channels of a chunk: their weights of all taps must fit. */
constexpr int chunk_channels(int taps)
{
    return WEIGHT_FLOATS / OUTS / taps > 0 ? WEIGHT_FLOATS / OUTS / taps : 1;
}

/* Weight of result channel n, source channel c, kernel place. */
__device__ __forceinline__ float weight_at(const ConvParams &p, int n, int c, int place)
{
    const int o = p.vjp ? c : n, in = p.vjp ? n : c, channels = p.vjp ? p.n : p.c;
    return p.weight[((int64_t)o * channels + in) * p.r * p.r + place];
}

/* weights[(tap * channels + c) * OUTS + n], zero beyond the last result channel. */
__device__ __forceinline__ void stage_weights(float *weights, const ConvParams &p, const Axis &ay,
                                              const Axis &ax, int n0, int c0, int channels)
{
    const int count = ay.taps * ax.taps * channels * OUTS;
    for (int i = (int)threadIdx.x; i < count; i += THREADS) {
        const int n = n0 + i % OUTS, c = c0 + i / OUTS % channels, tap = i / OUTS / channels;
        const int place = (ay.kernel0 + tap / ax.taps * ay.kernel_step) * p.r + ax.kernel0 +
                          tap % ax.taps * ax.kernel_step;
        weights[i] = n < p.n ? weight_at(p, n, c, place) : 0.0f;
    }
}

__device__ __forceinline__ void add_products(float (&sum)[OUTS], const float *weights, float v)
{
    const float4 w0 = *reinterpret_cast<const float4 *>(weights);
    const float4 w1 = *reinterpret_cast<const float4 *>(weights + 4);
    sum[0] = fmaf(w0.x, v, sum[0]);
    sum[1] = fmaf(w0.y, v, sum[1]);
    sum[2] = fmaf(w0.z, v, sum[2]);
    sum[3] = fmaf(w0.w, v, sum[3]);
    sum[4] = fmaf(w1.x, v, sum[4]);
    sum[5] = fmaf(w1.y, v, sum[5]);
    sum[6] = fmaf(w1.z, v, sum[6]);
    sum[7] = fmaf(w1.w, v, sum[7]);
}

/* sum += the taps' products of one row with `channels` channels of the source. */
template <bool VECTORS>
__device__ __forceinline__ void add_taps(float (&sum)[OUTS], const float *weights,
                                         const ConvParams &p, const Axis &ay, const Axis &ax,
                                         const ConvRow &at, int c0, int channels)
{
    for (int a = 0; a < ay.taps; a++) {
        const int y = at.y * ay.step + ay.first + a * ay.turn;
        if (y < 0 || y >= p.hs)
            continue;
        for (int b = 0; b < ax.taps; b++) {
            const int x = at.x * ax.step + ax.first + b * ax.turn;
            if (x < 0 || x >= p.ws)
                continue;
            const float *v =
                p.src + ((((int64_t)at.s * p.hs + y) * p.ws + x) * p.t + at.t) * p.c + c0;
            const float *w = weights + (a * ax.taps + b) * channels * OUTS;
            if (VECTORS)
                for (int c = 0; c < channels; c += 4) {
                    const float4 v4 = *reinterpret_cast<const float4 *>(v + c);
                    add_products(sum, w + c * OUTS, v4.x);
                    add_products(sum, w + (c + 1) * OUTS, v4.y);
                    add_products(sum, w + (c + 2) * OUTS, v4.z);
                    add_products(sum, w + (c + 3) * OUTS, v4.w);
                }
            else
                for (int c = 0; c < channels; c++)
                    add_products(sum, w + c * OUTS, v[c]);
        }
    }
}

__device__ __forceinline__ void store_row(const float (&sum)[OUTS], const ConvParams &p,
                                          const Axis &ay, const Axis &ax, const ConvRow &at, int n0)
{
    const int64_t pixel = conv_pixel(p, ay, ax, at);
    float *to = p.dst + (pixel * p.t + at.t) * p.n;
#pragma unroll
    for (int i = 0; i < OUTS; i++) {
        const int n = n0 + i;
        if (n >= p.n)
            return;
        float v = sum[i];
        if (p.bias)
            v += p.bias[n];
        if (p.relu)
            v = v < 0 ? 0 : v;
        if (p.mask && !(p.mask[pixel * p.n + n] > 0))
            v = 0;
        to[n] = v;
    }
}

template <bool VECTORS>
__global__ void __launch_bounds__(THREADS, 2) narrow_apply(const ConvParams p, int chunk)
{
    CU_DYN_SHARED(float, weights); /* chunk x taps x OUTS */
    const int phase = (int)blockIdx.z, n0 = (int)blockIdx.y * OUTS;
    const Axis ay = conv_axis(p, p.vjp ? phase / p.stride : 0, p.hd);
    const Axis ax = conv_axis(p, p.vjp ? phase % p.stride : 0, p.wd);
    const int rows = conv_rows(p, ay, ax);
    const int64_t m0 = (int64_t)blockIdx.x * (THREADS * ROWS) + threadIdx.x;
    float sum[ROWS][OUTS];
#pragma unroll
    for (int i = 0; i < ROWS * OUTS; i++)
        sum[i / OUTS][i % OUTS] = 0;
    for (int c0 = 0; c0 < p.c; c0 += chunk) {
        const int channels = min(chunk, p.c - c0);
        if (c0 > 0)
            __syncthreads(); /* all are done with the chunk before */
        stage_weights(weights, p, ay, ax, n0, c0, channels);
        __syncthreads(); /* the weights are there */
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            if (m0 + i * THREADS < rows)
                add_taps<VECTORS>(sum[i], weights, p, ay, ax,
                                  conv_row(p, ay, ax, (int)(m0 + i * THREADS)), c0, channels);
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        if (m0 + i * THREADS < rows)
            store_row(sum[i], p, ay, ax, conv_row(p, ay, ax, (int)(m0 + i * THREADS)), n0);
}

constexpr int SEGMENT = 32; /* output pixels of one row that are staged at a time */

/* part[blockIdx.x] (o, taps, c): sums over the part's segments. `combos` = (tap, c) pairs of a
 * block, lanes = THREADS / combos. */
__global__ void __launch_bounds__(THREADS)
    narrow_grad(float *__restrict__ part, const ConvParams p, const float *__restrict__ dy,
                int64_t segments_each, int combos)
{
    CU_SHARED(float, dys, [SEGMENT][OUTS]);
    CU_SHARED(float, sums, [THREADS][OUTS + 1]);
    const int in_row = (p.wd + SEGMENT - 1) / SEGMENT, total = p.r * p.r * p.c;
    const int64_t segments = (int64_t)p.b * p.hd * in_row;
    const int groups = (total + combos - 1) / combos, o0 = (int)blockIdx.y / groups * OUTS;
    const int lanes = THREADS / combos, lane = (int)threadIdx.x / combos;
    const int k = (int)blockIdx.y % groups * combos + (int)threadIdx.x % combos;
    const bool works = lane < lanes && k < total;
    const int c = k % p.c, i = k / p.c / p.r, j = k / p.c % p.r;
    float sum[OUTS] = {0, 0, 0, 0, 0, 0, 0, 0};
    const int64_t first = blockIdx.x * segments_each;
    const int64_t last = min(first + segments_each, segments);
    for (int64_t at = first; at < last; at++) {
        const int x0 = (int)(at % in_row) * SEGMENT, n = min(SEGMENT, p.wd - x0);
        const int y = (int)(at / in_row % p.hd), s = (int)(at / in_row / p.hd);
        const float *from = dy + (((int64_t)s * p.hd + y) * p.wd + x0) * p.n;
        __syncthreads(); /* all are done with the segment before */
        for (int e = (int)threadIdx.x; e < n * OUTS; e += THREADS)
            dys[e / OUTS][e % OUTS] =
                o0 + e % OUTS < p.n ? from[(int64_t)(e / OUTS) * p.n + o0 + e % OUTS] : 0.0f;
        __syncthreads(); /* the segment is there */
        const int row = y * p.stride + i - p.pad;
        if (!works || row < 0 || row >= p.hs)
            continue;
        const float *src = p.src + ((int64_t)s * p.hs + row) * p.ws * p.c + c;
        for (int q = lane; q < n; q += lanes) {
            const int x = (x0 + q) * p.stride + j - p.pad;
            if (x >= 0 && x < p.ws)
                add_products(sum, dys[q], src[(int64_t)x * p.c]);
        }
    }
    for (int o = 0; o < OUTS; o++)
        sums[threadIdx.x][o] = sum[o];
    __syncthreads(); /* all sums are there */
    if (lane > 0 || k >= total)
        return;
    for (int o = 0; o < OUTS && o0 + o < p.n; o++) {
        float all = 0;
        for (int l = 0; l < lanes; l++)
            all += sums[l * combos + (int)threadIdx.x][o];
        part[((int64_t)blockIdx.x * p.n + o0 + o) * total + k] = all;
    }
}

int64_t grad_segments(const lips_cuda_conv *s)
{
    return s->b * s->oh * ((s->ow + SEGMENT - 1) / SEGMENT);
}

} // namespace

extern "C" lips_status lips_cuda_conv_narrow(const lips_cuda_conv_apply_args *a,
                                             cudaStream_t stream)
{
    LIPS_TRY(conv_check_sizes("conv_narrow", &a->shape));
    const ConvParams p = conv_params(a);
    /* A phase has at most ceil(r / stride) taps along a dimension. */
    const int along = p.vjp ? (p.r + p.stride - 1) / p.stride : p.r;
    const int fit = chunk_channels(along * along), all = p.c < fit ? p.c : fit;
    const bool vectors = p.c % 4 == 0 && (uintptr_t)p.src % 16 == 0;
    const int chunk = vectors && all >= 4 ? all / 4 * 4 : all;
    const size_t shared = sizeof(float) * (size_t)along * (size_t)along * (size_t)chunk * OUTS;
    if (shared > 48 * 1024)
        return lips_fail(LIPS_ERR_USAGE, "conv_narrow: kernel %dx%d is too large", p.r, p.r);
    const dim3 grid((unsigned)((conv_most_rows(p) + THREADS * ROWS - 1) / (THREADS * ROWS)),
                    (unsigned)((p.n + OUTS - 1) / OUTS), (unsigned)conv_phases(p));
    if (vectors && chunk % 4 == 0)
        CU_LAUNCH(narrow_apply<true>, grid, dim3(THREADS), shared, stream, p, chunk);
    else
        CU_LAUNCH(narrow_apply<false>, grid, dim3(THREADS), shared, stream, p, chunk);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

/* Four blocks of 256 threads for each of 132 multiprocessors, and two segments at least. */
extern "C" int64_t lips_cuda_conv_grad_narrow_parts(const lips_cuda_conv *shape, int64_t most)
{
    int64_t parts = (grad_segments(shape) + 1) / 2;
    parts = parts < 528 ? parts : 528;
    parts = parts < most ? parts : most;
    return parts < 1 ? 1 : parts;
}

extern "C" lips_status lips_cuda_conv_grad_narrow(const lips_cuda_conv_grad_args *a,
                                                  cudaStream_t stream)
{
    LIPS_TRY(conv_check_sizes("conv_grad_narrow", &a->shape));
    lips_cuda_conv_apply_args forward = {};
    forward.shape = a->shape;
    forward.src = a->x;
    const ConvParams p = conv_params(&forward);
    const int64_t total = (int64_t)p.r * p.r * p.c;
    const int combos = (int)(total < THREADS ? total : THREADS);
    const int64_t groups = (total + combos - 1) / combos * ((p.n + OUTS - 1) / OUTS);
    const int64_t each = (grad_segments(&a->shape) + a->parts - 1) / a->parts;
    if (groups > 65535)
        return lips_fail(LIPS_ERR_USAGE, "conv_grad_narrow: %d x %" PRId64 " weights are too many",
                         p.n, total);
    CU_LAUNCH(narrow_grad, dim3((unsigned)a->parts, (unsigned)groups), dim3(THREADS), 0, stream,
              a->part, p, a->dy, each, combos);
    LIPS_TRY_LAUNCH(stream);
    return lips_cuda_conv_grad_sum(a->dw, a->part, &a->shape, a->parts, stream);
}
