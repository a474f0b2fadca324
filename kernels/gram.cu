/*
 * gram - Gram matrices of the T stacked values of each sample, one pass over the tensor (gram.h).
 *
 *   theta[s][t][u] += scale_s sum_{p,c} x[s][p][t][c] x[s][p][u][c]
 *
 * Shapes     x (B,P,T,C) f32 or f64; theta (B,T,T) f64. A sample's N = P C columns are counted
 *            n = p C + c; value (t,n) lies at n + (n / C) (T - 1) C + t C.
 * Work split a block takes one slice of one sample's columns.
 *            T <= 4    each thread some columns, T (T + 1) / 2 sums in registers
 *            T <= 32   each warp 16 columns at a time for all ceil(T / 8) row tiles: the registers
 *                      that hold a value are A's row and B's column of the f64 tensor-core product
 *                      at once, so each value is loaded and converted once
 *            above     each warp one pair of groups of up to 32 rows, as equal as can be; the
 *                      warps of a block go through the same columns together, so that what one
 *                      loads the others find in L1. Of a group with itself the triangle alone.
 *            Few samples: a sample's columns are cut into slices for at least BLOCKS blocks, whose
 *            sums a second launch adds.
 * Precision  products of floats are exact in f64, sums in f64
 * Order      fixed by (P, T, C, B): no atomics
 * Cost       reads 4 B P T C bytes once (above 32: each group of rows once for each of its pairs,
 *            from L1). Multiply-adds in f64 per column: T (T + 1) / 2 for T <= 4, else
 *            64 tri(ceil(T / 8)) with tri(r) = r (r + 1) / 2.
 *            Prediction, H100 SXM at a copy rate of 3.0 TB/s, 67 TFLOP/s of f64 tensor product,
 *            34 otherwise, 1/4 of that rate for conversions (16 a clock and SM, 3.6e12 a second):
 *              T     bytes a column  columns/s at copy rate  f64 needed       conversions needed
 *              1     4               7.5e11                  1.5 TFLOP/s  4%  21%
 *              4     16              1.9e11                  3.8          11% 21%
 *              10    40              7.5e10                  28.8         43% 21%
 *              32    128             2.3e10                  30           45% 21%
 *              100   400             7.5e9                   88           131% 55%
 *            so memory decides up to T = 32 (92 % of the copy rate), and f64 above: T = 100 needs
 *            91 tiles, 11648 operations, for 400 bytes: 76 % of the copy rate at the data sheet's
 *            rate of products, 61 % at the eight tenths of it that products reach. No order of the
 *            work can do much better: T (T + 1) operations without a tile's waste allow 88 % at the
 *            data sheet's rate, 70 % at eight tenths; tf32 or bf16 in parts whose products are
 *            exact would take more operations. A100 (19.5 and 1.6 TB/s): 79 % at T = 10. Where f64
 *            runs at 1/64 of f32 (consumer devices, about 1.3 TFLOP/s at 1 TB/s): T = 1 and 2 at
 *            memory's rate, T = 10 at 13 % of it.
 * Limits     B <= 65535; a sample's P T C below 2^31
 * Proof      tests/ops/test_gram_cuda.c, tests/ops/test_backends.c
 * History    v1 this file. Above T = 32 groups of 32 rows in full squares, the last one padded: 154
 *            TFLOP/s needed at T = 100. v2 equal groups and triangles. v3 a value of two groups is
 *            converted once for all its products: nvcc had converted it for each, 128 times for 64
 *            products, which took twice as long as these. f64 may come in parts.
 */
#include "kernels/gram.h"

#include "kernels/divide.h"
#include "kernels/gram_tiles.h"

#include <inttypes.h>

using namespace gram_tiles;
using namespace lips_divide;

namespace
{

constexpr int THREADS = 256, WARPS = THREADS / WARP;
constexpr int CHUNK = 16;    /* columns of a warp's step: 4 lanes of 4, four tensor products */
constexpr int FEW = 4;       /* T up to here without tensor cores: 8 rows would stand idle */
constexpr int GROUP = 4;     /* row tiles of a group: T up to 32 is one group */
constexpr int BLOCKS = 264;  /* two for each multiprocessor of an H100 */
constexpr int SLICE_MIN = 4; /* chunks per warp that a slice is worth */
constexpr int SLICES_MAX = 64;

struct columns {
    int64_t sample, part; /* values of one sample, and of one of its parts */
    int parts;            /* 1 but of f64 */
    uint32_t n;           /* columns */
    divisor c;
    int t;
    uint32_t skip;     /* (T - 1) C: added for every pixel before a column's */
    int chunks, slice; /* chunks in all and per slice */
};

struct factor {
    const float *v; /* (B,n) or NULL */
    int64_t n;
};

/* V values of row t from column n on; zeros beyond the last column or row. */
template <typename E, int V>
__device__ __forceinline__ void load(E (&out)[V], const E *x, const columns &k, uint32_t n, int t)
{
    if (n < k.n && t < k.t) {
        const E *from = x + n + divide(n, k.c) * k.skip + (uint32_t)t * k.c.d;
        if constexpr (V == 4) {
            const float4 v = *reinterpret_cast<const float4 *>(from);
            out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
        } else {
            out[0] = *from;
            if constexpr (sizeof(E) == sizeof(double))
                for (int i = 1; i < k.parts; i++)
                    out[0] += from[i * k.part];
        }
    } else
        for (int i = 0; i < V; i++)
            out[i] = 0;
}

/* The four columns of this lane in a chunk: 4 q + 0..3 of row t, in one load or in four. */
template <typename E, int V>
__device__ __forceinline__ void load_lane(E (&out)[4], const E *x, const columns &k, uint32_t n,
                                          int t)
{
    if constexpr (V == 4)
        load<E, 4>(out, x, k, n, t);
    else
        for (int i = 0; i < 4; i++) {
            E one[1];
            load<E, 1>(one, x, k, n + (uint32_t)i, t);
            out[i] = one[0];
        }
}

/* |row s of v|^2, to all threads; 1 without v. */
__device__ double scale_of(const factor &f, int64_t s, double *room)
{
    double sum = 0;
    if (!f.v)
        return 1;
    for (int64_t i = threadIdx.x; i < f.n; i += THREADS) {
        const double v = (double)f.v[s * f.n + i];
        sum = fma(v, v, sum);
    }
    return block_sum(sum, room);
}

template <typename E, int TT, int V>
__global__ void __launch_bounds__(THREADS)
    gram_few(target to, const E *__restrict__ x, columns k, factor f)
{
    CU_SHARED(double, room, [WARPS]);
    const int64_t s = blockIdx.y;
    const int slice = (int)blockIdx.x;
    const E *base = x + s * k.sample;
    const uint32_t first = (uint32_t)slice * (uint32_t)k.slice * CHUNK;
    const uint32_t beyond = min(k.n, first + (uint32_t)k.slice * CHUNK);
    double sum[triangle(TT)] = {};
#pragma unroll 2
    for (uint32_t n = first + threadIdx.x * V; n < beyond; n += THREADS * V) {
        E v[TT][V];
#pragma unroll
        for (int i = 0; i < TT; i++)
            load<E, V>(v[i], base, k, n, i);
#pragma unroll
        for (int e = 0; e < V; e++)
#pragma unroll
            for (int i = 0; i < TT; i++)
#pragma unroll
                for (int j = 0; j <= i; j++)
                    sum[triangle(i) + j] =
                        fma((double)v[i][e], (double)v[j][e], sum[triangle(i) + j]);
    }
    const double scale = scale_of(f, s, room);
#pragma unroll
    for (int i = 0; i < TT; i++)
#pragma unroll
        for (int j = 0; j <= i; j++) {
            const double all = block_sum(sum[triangle(i) + j], room);
            if (threadIdx.x == 0 && i < k.t)
                give(to, s, slice, i, j, all, scale);
        }
}

template <typename E, int R, int V>
__global__ void __launch_bounds__(THREADS, R < 3 ? 4 : 2)
    gram_tile(target to, const E *__restrict__ x, columns k, factor f)
{
    constexpr int TILES = triangle(R);
    CU_SHARED(double, room, [WARPS]);
    CU_SHARED(double, sum, [TILES * WARP * 2]);
    const int64_t s = blockIdx.y;
    const int slice = (int)blockIdx.x, warp = (int)threadIdx.x / WARP,
              lane = (int)threadIdx.x % WARP;
    const E *base = x + s * k.sample;
    const int beyond = min(k.chunks, (slice + 1) * k.slice);
    double acc[TILES][2] = {};
    for (int chunk = slice * k.slice + warp; chunk < beyond; chunk += WARPS) {
        E v[R][4];
#pragma unroll
        for (int r = 0; r < R; r++)
            load_lane<E, V>(v[r], base, k, (uint32_t)(chunk * CHUNK + lane % 4 * 4),
                            r * TILE + lane / 4);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            double a[R];
#pragma unroll
            for (int r = 0; r < R; r++)
                a[r] = (double)v[r][e];
#pragma unroll
            for (int i = 0; i < R; i++)
#pragma unroll
                for (int j = 0; j <= i; j++)
                    mma_m8n8k4_f64(acc[triangle(i) + j], a[i], a[j]);
        }
    }
    const double scale = scale_of(f, s, room);
    for (int w = 0; w < WARPS; w++) {
        if (w == warp)
#pragma unroll
            for (int i = 0; i < TILES; i++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const int at = (i * WARP + lane) * 2 + e;
                    sum[at] = (w ? sum[at] : 0.0) + acc[i][e];
                }
        __syncthreads(); /* warp w's part is in before the next one's, or before they are read */
    }
    for (int at = (int)threadIdx.x; at < TILES * WARP * 2; at += THREADS) {
        const int tile = at / (WARP * 2), i = triangle_row(tile), j = tile - triangle(i);
        const int row = i * TILE + at % (WARP * 2) / TILE, col = j * TILE + at % TILE;
        if (row < k.t && col <= row)
            give(to, s, slice, row, col, sum[at], scale);
    }
}

/* Row tiles first .. first + n - 1 of a group: the tiles of all rows are dealt out evenly, so that
 * no warp's pair of groups is much more work than another's. */
struct group {
    int first, n;

    __device__ group(int index, int tiles)
    {
        const int groups = (tiles + GROUP - 1) / GROUP;
        first = index * tiles / groups;
        n = (index + 1) * tiles / groups - first;
    }
};

/* acc[i][j] += the products of tiles i of group a and j of group b over some chunks; of a group
 * with itself (SAME) the triangle alone. */
template <bool SAME, typename E, int V>
__device__ __forceinline__ void multiply_groups(double (&acc)[GROUP][GROUP][2], const E *x,
                                                const columns &k, const group &a, const group &b,
                                                int first, int beyond)
{
    const int lane = (int)threadIdx.x % WARP;
    for (int chunk = first; chunk < beyond; chunk++) {
        const uint32_t n = (uint32_t)(chunk * CHUNK + lane % 4 * 4);
        E v[GROUP][4] = {}, w[GROUP][4] = {};
#pragma unroll
        for (int r = 0; r < GROUP; r++) {
            if (r < a.n)
                load_lane<E, V>(v[r], x, k, n, (a.first + r) * TILE + lane / 4);
            if (!SAME && r < b.n)
                load_lane<E, V>(w[r], x, k, n, (b.first + r) * TILE + lane / 4);
        }
#pragma unroll
        for (int e = 0; e < 4; e++) {
            /* Once each, before any product is skipped: else each product converts both anew. */
            double left[GROUP], right[GROUP];
#pragma unroll
            for (int r = 0; r < GROUP; r++) {
                left[r] = (double)v[r][e];
                right[r] = SAME ? left[r] : (double)w[r][e];
            }
#pragma unroll
            for (int i = 0; i < GROUP; i++)
#pragma unroll
                for (int j = 0; j < (SAME ? i + 1 : GROUP); j++)
                    if (i < a.n && (SAME || j < b.n))
                        mma_m8n8k4_f64(acc[i][j], left[i], right[j]);
        }
    }
}

template <typename E, int V>
__global__ void __launch_bounds__(THREADS)
    gram_groups(target to, const E *__restrict__ x, columns k, factor f, int pairs)
{
    CU_SHARED(double, room, [WARPS]);
    const int64_t s = blockIdx.y;
    const int slice = (int)blockIdx.x, warp = (int)threadIdx.x / WARP,
              lane = (int)threadIdx.x % WARP;
    const int pair = (int)(blockIdx.z * (blockDim.x / WARP)) + warp;
    const int gi = triangle_row(pair), gj = pair - triangle(gi), tiles = (k.t + TILE - 1) / TILE;
    const group a(gi, tiles), b(gj, tiles);
    const E *base = x + s * k.sample;
    const int beyond = pair < pairs ? min(k.chunks, (slice + 1) * k.slice) : 0;
    double acc[GROUP][GROUP][2] = {};
    if (gi == gj)
        multiply_groups<true, E, V>(acc, base, k, a, b, slice * k.slice, beyond);
    else
        multiply_groups<false, E, V>(acc, base, k, a, b, slice * k.slice, beyond);
    double scale = 1;
    if (f.v) {
        double part = 0;
        for (int64_t i = threadIdx.x; i < f.n; i += blockDim.x) {
            const double w = (double)f.v[s * f.n + i];
            part = fma(w, w, part);
        }
        scale = block_sum(part, room);
    }
    if (pair >= pairs)
        return;
#pragma unroll
    for (int i = 0; i < GROUP; i++)
#pragma unroll
        for (int j = 0; j < GROUP; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int row = (a.first + i) * TILE + lane / 4;
                const int col = (b.first + j) * TILE + lane % 4 * 2 + e;
                if (i < a.n && j < b.n && row < k.t && col <= row)
                    give(to, s, slice, row, col, acc[i][j][e], scale);
            }
}

/* theta += the slices' parts, in their order. */
__global__ void __launch_bounds__(THREADS) gram_slices(target to, factor f)
{
    CU_SHARED(double, room, [WARPS]);
    const int64_t s = blockIdx.x, size = (int64_t)to.t * to.t;
    const double scale = scale_of(f, s, room);
    for (int at = (int)threadIdx.x; at < triangle(to.t); at += THREADS) {
        const int i = triangle_row(at), j = at - triangle(i);
        double sum = 0;
        for (int slice = 0; slice < to.slices; slice++)
            sum += to.part[(s * to.slices + slice) * size + (int64_t)i * to.t + j];
        add_pair(to.theta + s * size, to.t, i, j, sum * scale);
    }
}

/* What the shape decides. */
struct plan {
    columns k;
    int pairs, warps, depth; /* of groups; warps of a block; blocks in z */
    int slices;
};

plan make_plan(const lips_cuda_gram_args *a)
{
    plan p = {};
    const int groups = (int)((a->t + GROUP * TILE - 1) / (GROUP * TILE));
    p.k.part = a->p * a->t * a->c;
    p.k.parts = a->parts > 1 ? (int)a->parts : 1;
    p.k.sample = p.k.part * p.k.parts;
    p.k.n = (uint32_t)(a->p * a->c);
    p.k.c = make_divisor((uint32_t)a->c);
    p.k.t = (int)a->t;
    p.k.skip = (uint32_t)((a->t - 1) * a->c);
    p.k.chunks = (int)((p.k.n + CHUNK - 1) / CHUNK);
    p.pairs = triangle(groups);
    p.depth = groups > 1 ? (p.pairs + WARPS - 1) / WARPS : 1;
    p.warps = groups > 1 ? (p.pairs + p.depth - 1) / p.depth : WARPS;
    const int64_t blocks = a->b * p.depth, least = SLICE_MIN * (groups > 1 ? 1 : WARPS);
    const int64_t wanted = (BLOCKS + blocks - 1) / blocks, most = p.k.chunks / least;
    int64_t slices = wanted < most ? wanted : most;
    slices = slices < 1 ? 1 : slices > SLICES_MAX ? SLICES_MAX : slices;
    p.k.slice = (int)((p.k.chunks + slices - 1) / slices);
    p.slices = (p.k.chunks + p.k.slice - 1) / p.k.slice;
    return p;
}

template <typename E, int V>
void launch(const lips_cuda_gram_args *a, const plan &p, const target &to, cudaStream_t stream)
{
    const E *x = (const E *)a->x;
    const factor f = {p.slices == 1 ? a->v : nullptr, a->n};
    const dim3 grid((unsigned)p.slices, (unsigned)a->b, (unsigned)p.depth);
    const dim3 block((unsigned)(p.warps * WARP));
    if (a->t == 1)
        CU_LAUNCH((gram_few<E, 1, V>), grid, block, 0, stream, to, x, p.k, f);
    else if (a->t == 2)
        CU_LAUNCH((gram_few<E, 2, V>), grid, block, 0, stream, to, x, p.k, f);
    else if (a->t <= FEW)
        CU_LAUNCH((gram_few<E, FEW, V>), grid, block, 0, stream, to, x, p.k, f);
    else if (a->t <= TILE)
        CU_LAUNCH((gram_tile<E, 1, V>), grid, block, 0, stream, to, x, p.k, f);
    else if (a->t <= 2 * TILE)
        CU_LAUNCH((gram_tile<E, 2, V>), grid, block, 0, stream, to, x, p.k, f);
    else if (a->t <= 3 * TILE)
        CU_LAUNCH((gram_tile<E, 3, V>), grid, block, 0, stream, to, x, p.k, f);
    else if (a->t <= GROUP * TILE)
        CU_LAUNCH((gram_tile<E, GROUP, V>), grid, block, 0, stream, to, x, p.k, f);
    else
        CU_LAUNCH((gram_groups<E, V>), grid, block, 0, stream, to, x, p.k, f, p.pairs);
}

lips_status check(const lips_cuda_gram_args *a)
{
    if (a->b < 1 || a->b > 65535)
        return lips_fail(LIPS_ERR_USAGE, "gram: %" PRId64 " samples, must be in 1..65535", a->b);
    if (a->p < 1 || a->t < 1 || a->c < 1 || a->p > INT32_MAX / a->t ||
        a->p * a->t > INT32_MAX / a->c)
        return lips_fail(LIPS_ERR_USAGE,
                         "gram: a sample of %" PRId64 " x %" PRId64 " x %" PRId64
                         " values, must be in 1..2^31-1",
                         a->p, a->t, a->c);
    return LIPS_OK;
}

} // namespace

size_t lips_cuda_gram_work(const lips_cuda_gram_args *a)
{
    const plan p = make_plan(a);
    return p.slices == 1 ? 0 : (size_t)(a->b * p.slices * a->t * a->t) * sizeof(double);
}

lips_status lips_cuda_gram(const lips_cuda_gram_args *a, cudaStream_t stream)
{
    LIPS_TRY(check(a));
    const plan p = make_plan(a);
    const target to = {a->theta, (double *)a->work, (int)a->t, p.slices};
    if (a->wide)
        launch<double, 1>(a, p, to, stream);
    else if (a->c % 4 == 0 && (uintptr_t)a->x % 16 == 0)
        launch<float, 4>(a, p, to, stream);
    else
        launch<float, 1>(a, p, to, stream);
    LIPS_TRY_LAUNCH(stream);
    if (p.slices == 1)
        return LIPS_OK;
    const factor f = {a->v, a->n};
    CU_LAUNCH(gram_slices, dim3((unsigned)a->b), dim3(THREADS), 0, stream, to, f);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
