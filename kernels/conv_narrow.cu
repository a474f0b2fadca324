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
 * Work split apply: grid x = 1024 rows (128 threads, 8 rows each, neighbouring rows in neighbouring
 *            threads; 256 rows where that would leave multiprocessors idle), y = 2, 4 or 8 result
 *            channels, z = phase of the vjp's stride. A weight that is read serves all rows of the
 *            thread. Source channels in chunks whose taps fit 16 KiB of weights.
 *            grad: grid x = part (a run of segments of 32 output pixels of one row), y = 8 output
 *            channels x as many (tap, c) as there are threads; a thread owns one (tap, c) and every
 *            LANES-th pixel, 8 sums in registers; lanes are added in order through shared memory.
 * Precision  f32 fused multiply-adds whatever precision is asked for: never less than asked
 * Order      apply: k = chunk of channels, tap, channel. grad: pixels of a lane ascending, then
 *            lanes, then parts (f64). No atomics.
 * Cost       apply at 3x3: 36 C bytes from L1 and 4 (C + O) from DRAM a row, 18 C O flop.
 * Predicted  H100: for 4 source channels a warp with 8 rows and 8 results issues 256 fma (64 clocks
 *            of a multiprocessor), 8 loads of the source and 8 of weights (32 clocks each, at the
 *            128 bytes a clock of L1 and shared memory): 60 % of the f32 peak, 40 TFLOP/s. A vjp
 *            16 -> 8 at 32 x 32 (w = 8), T = 10, 10 000 samples: 0.24 TFLOP, 6 ms; its 9.8 GB take
 *            3.3. With 2 rows that read weights each on their own (v1): 18 ms. 4 -> 8, 128 samples,
 *            forward: 576 flop for 48 bytes a row, bound by bytes: 70 % of the copy rate.
 *            grad: 14 instructions for 8 fma; 4 -> 8, 128 samples at 32 x 32: 0.15 Gfma, 10 us.
 * Registers  (ptxas for sm_90a, no spills) apply up to 158, with 8 x 8 results and 16-byte loads
 *            212; grad 48
 * Limits     as in conv_apply.cu; any shape, but wide ones are slow
 * Proof      tests/ops, tests/cusim/test_conv_kernels.cpp
 * History    v1 this file. v2 rows of a thread share the weights they read, up to 8 of them.
 */
#include "conv_geometry.h"

namespace
{

constexpr int THREADS = 256;
constexpr int OUTS = 8;             /* result channels of a thread of the gradient */
constexpr int WEIGHT_FLOATS = 4096; /* of shared memory a block */
constexpr int APPLY_THREADS = 128;
constexpr int MOST_OUTS = 8, MANY_ROWS = 8, FEW_ROWS = 2; /* of a thread of apply */
constexpr int64_t FILLED = 264; /* blocks: two for each multiprocessor of an H100 */

/* Channels of a chunk: their weights of all taps must fit. */
constexpr int chunk_channels(int taps)
{
    return WEIGHT_FLOATS / MOST_OUTS / taps > 0 ? WEIGHT_FLOATS / MOST_OUTS / taps : 1;
}

/* Weight of result channel n, source channel c, kernel place. */
__device__ __forceinline__ float weight_at(const ConvParams &p, int n, int c, int place)
{
    const int o = p.vjp ? c : n, in = p.vjp ? n : c, channels = p.vjp ? p.n : p.c;
    return p.weight[((int64_t)o * channels + in) * p.r * p.r + place];
}

/* weights[(tap * channels + c) * N + n], zero beyond the last result channel. */
template <int N>
__device__ __forceinline__ void stage_weights(float *weights, const ConvParams &p, const Axis &ay,
                                              const Axis &ax, int n0, int c0, int channels)
{
    const int count = ay.taps * ax.taps * channels * N;
    for (int i = (int)threadIdx.x; i < count; i += APPLY_THREADS) {
        const int n = n0 + i % N, c = c0 + i / N % channels, tap = i / N / channels;
        const int place = (ay.kernel0 + tap / ax.taps * ay.kernel_step) * p.r + ax.kernel0 +
                          tap % ax.taps * ax.kernel_step;
        weights[i] = n < p.n ? weight_at(p, n, c, place) : 0.0f;
    }
}

/* N floats from an address aligned to them. */
template <int N> struct alignas(4 * (N < 4 ? N : 4)) Pack {
    float v[N];
};

template <int N>
__device__ __forceinline__ void add_products(float (&sum)[N], const float *weights, float v)
{
    const Pack<N> w = *reinterpret_cast<const Pack<N> *>(weights);
#pragma unroll
    for (int n = 0; n < N; n++)
        sum[n] = fmaf(w.v[n], v, sum[n]);
}

/* A thread's rows: their source rows under the first tap, and y and x there in one register. */
template <int R> struct Rows {
    int row[R], yx[R];

    __device__ __forceinline__ Rows(const ConvParams &p, const Axis &ay, const Axis &ax, int64_t m0,
                                    int rows)
    {
#pragma unroll
        for (int i = 0; i < R; i++) {
            const int64_t m = m0 + i * APPLY_THREADS;
            const ConvRow at = conv_row(p, ay, ax, m < rows ? (int)m : 0);
            const int y = at.y * ay.step + ay.first, x = at.x * ax.step + ax.first;
            row[i] = ((at.s * p.hs + y) * p.ws + x) * p.t + at.t;
            /* A row beyond the last lies outside every image. */
            yx[i] = (m < rows ? y : -CONV_SIDE_MAX) * 65536 + x;
        }
    }

    /* Under a tap (dy,dx) from the first, at channel c; nullptr outside the image. */
    __device__ __forceinline__ const float *source(const ConvParams &p, int i, int dy, int dx,
                                                   int c) const
    {
        const int x = (int)(short)yx[i], y = (yx[i] - x) >> 16;
        if ((unsigned)(y + dy) >= (unsigned)p.hs || (unsigned)(x + dx) >= (unsigned)p.ws)
            return nullptr;
        return p.src + (int64_t)(row[i] + (dy * p.ws + dx) * p.t) * p.c + c;
    }
};

/* sum[i] += one tap's products of row i with `channels` channels of the source, V at a time. */
template <int N, int R, int V>
__device__ __forceinline__ void add_tap(float (&sum)[R][N], const float *const (&from)[R],
                                        const float *weights, int channels)
{
    for (int c = 0; c < channels; c += V) {
        Pack<V> v[R];
#pragma unroll
        for (int i = 0; i < R; i++) {
            v[i] = Pack<V>{};
            if (from[i])
                v[i] = *reinterpret_cast<const Pack<V> *>(from[i] + c);
        }
#pragma unroll
        for (int k = 0; k < V; k++) {
            const Pack<N> w = *reinterpret_cast<const Pack<N> *>(weights + (c + k) * N);
#pragma unroll
            for (int i = 0; i < R; i++)
#pragma unroll
                for (int n = 0; n < N; n++)
                    sum[i][n] = fmaf(w.v[n], v[i].v[k], sum[i][n]);
        }
    }
}

template <int N>
__device__ __forceinline__ void store_row(const float (&sum)[N], const ConvParams &p,
                                          const Axis &ay, const Axis &ax, const ConvRow &at, int n0)
{
    const int64_t pixel = conv_pixel(p, ay, ax, at);
    float *to = p.dst + (pixel * p.t + at.t) * p.n;
#pragma unroll
    for (int i = 0; i < N; i++) {
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

/* N result channels and R rows a thread, V source channels a load. */
template <int N, int R, int V>
__global__ void __launch_bounds__(APPLY_THREADS, N *R *V < 256 ? 3 : 2)
    narrow_apply(const ConvParams p, int chunk)
{
    CU_DYN_SHARED(float, weights); /* chunk x taps x N */
    const int phase = (int)blockIdx.z, n0 = (int)blockIdx.y * N;
    const Axis ay = conv_axis(p, p.vjp ? phase / p.stride : 0, p.hd);
    const Axis ax = conv_axis(p, p.vjp ? phase % p.stride : 0, p.wd);
    const int rows = conv_rows(p, ay, ax);
    const int64_t m0 = (int64_t)blockIdx.x * (APPLY_THREADS * R) + threadIdx.x;
    if (m0 - threadIdx.x >= rows) /* of a smaller phase, or of one without places */
        return;
    const Rows<R> at(p, ay, ax, m0, rows);
    float sum[R][N];
#pragma unroll
    for (int i = 0; i < R * N; i++)
        sum[i / N][i % N] = 0;
    for (int c0 = 0; c0 < p.c; c0 += chunk) {
        const int channels = min(chunk, p.c - c0);
        if (c0 > 0)
            __syncthreads(); /* all are done with the chunk before */
        stage_weights<N>(weights, p, ay, ax, n0, c0, channels);
        __syncthreads(); /* the weights are there */
        for (int tap = 0; tap < ay.taps * ax.taps; tap++) {
            const float *from[R];
#pragma unroll
            for (int i = 0; i < R; i++)
                from[i] = at.source(p, i, tap / ax.taps * ay.turn, tap % ax.taps * ax.turn, c0);
            add_tap<N, R, V>(sum, from, weights + tap * channels * N, channels);
        }
    }
#pragma unroll
    for (int i = 0; i < R; i++)
        if (m0 + i * APPLY_THREADS < rows)
            store_row<N>(sum[i], p, ay, ax, conv_row(p, ay, ax, (int)(m0 + i * APPLY_THREADS)), n0);
}

/* Many rows a thread where that still fills the device: a weight that is read serves all. */
template <int N>
lips_status start_apply(const ConvParams &p, int chunk, bool vectors, int along,
                        cudaStream_t stream)
{
    const size_t shared = sizeof(float) * (size_t)along * (size_t)along * (size_t)chunk * N;
    const int64_t most = conv_most_rows(p), columns = (p.n + N - 1) / N;
    const int64_t blocks = (most + APPLY_THREADS * MANY_ROWS - 1) / (APPLY_THREADS * MANY_ROWS);
    const bool many = blocks * columns * conv_phases(p) >= FILLED;
    const int each = APPLY_THREADS * (many ? MANY_ROWS : FEW_ROWS);
    const dim3 grid((unsigned)((most + each - 1) / each), (unsigned)columns,
                    (unsigned)conv_phases(p));
    if (shared > 48 * 1024)
        return lips_fail(LIPS_ERR_USAGE, "conv_narrow: kernel %dx%d is too large", p.r, p.r);
    if (many && vectors)
        CU_LAUNCH((narrow_apply<N, MANY_ROWS, 4>), grid, dim3(APPLY_THREADS), shared, stream, p,
                  chunk);
    else if (many)
        CU_LAUNCH((narrow_apply<N, MANY_ROWS, 1>), grid, dim3(APPLY_THREADS), shared, stream, p,
                  chunk);
    else if (vectors)
        CU_LAUNCH((narrow_apply<N, FEW_ROWS, 4>), grid, dim3(APPLY_THREADS), shared, stream, p,
                  chunk);
    else
        CU_LAUNCH((narrow_apply<N, FEW_ROWS, 1>), grid, dim3(APPLY_THREADS), shared, stream, p,
                  chunk);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
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
    LIPS_TRY(conv_check_sides("conv_narrow", &a->shape));
    const ConvParams p = conv_params(a);
    /* A phase has at most ceil(r / stride) taps along a dimension. */
    const int along = p.vjp ? (p.r + p.stride - 1) / p.stride : p.r;
    const int fit = chunk_channels(along * along), all = p.c < fit ? p.c : fit;
    const bool vectors = p.c % 4 == 0 && (uintptr_t)p.src % 16 == 0;
    const int chunk = vectors && all >= 4 ? all / 4 * 4 : all;
    const bool fours = vectors && chunk % 4 == 0;
    if (p.n <= 2)
        return start_apply<2>(p, chunk, fours, along, stream);
    if (p.n <= 4)
        return start_apply<4>(p, chunk, fours, along, stream);
    return start_apply<MOST_OUTS>(p, chunk, fours, along, stream);
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
