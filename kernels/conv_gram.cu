/*
 * conv_gram - per-sample Gram matrices of a convolution's parameter Jacobian (conv_gram.h).
 *
 *   theta[s][t][u] += sum_{o,c,k} dW_t dW_u,   dW_t[o][c][k] = sum_p dy[s][p][t][o] x[s][p + k][c]
 *                   = sum_{p,p'} A[p][p'] sum_o dy[s][p][t][o] dy[s][p'][u][o]
 *   A[p][p'] = sum over the taps k inside the image of XX[p + k][p' + k],  XX[q][q'] = <x_q, x_q'>
 *
 * Shapes     any; dy (B,P,T,O), x (B,H,W,C) f32; theta (B,T,T) f64. P = OH OW.
 * Work split a block takes some tiles of one sample's gradients, all of T together; nothing of them
 *            is ever stored.
 *            direct  tiles of (outputs x stacked values, at most 128) x (taps x channels): the
 *                    product over positions on tensor cores, into shared memory as dW; there the
 *                    columns of all T are multiplied pairwise, theta's sums stay in registers
 *            pixel   XX and A per sample in scratch (HW^2 + P^2 floats; at most WORK_MAX for a group
 *                    of samples); then as direct with A in the patches' place, and dy as the other
 *                    factor of the pairwise products
 *            Pairwise: T <= 4 one thread per column; T <= 32 a warp all 8 x 8 tiles of theta's
 *            triangle for some columns; T <= 128 each warp some tiles for all columns. Beyond,
 *            blocks of 64 stacked values pair by pair.
 *            Few samples: their tiles are spread over at least BLOCKS blocks, added in order.
 * Precision  dW and A float32-grade (tile_product.h), or tf32 if `single`; pairwise products in f64
 * Order      fixed by the shape; no atomics
 * Cost       multiply-adds per sample, on tensor cores (three times in float32-grade):
 *              direct  T P O C R^2, and T (T + 1) / 2 O C R^2 in f64
 *              pixel   HW^2 C / 2 + T P^2 O, and T (T + 1) / 2 P O in f64; R^2 P^2 additions
 *            the choice is the smaller sum. Bytes: dy once per tile of channels (L2), x once per tile
 *            of outputs (L2).
 *            Prediction, H100 SXM, ConvNet w = 64 layer 2 (64 -> 128, 32 x 32), T = 1: direct, 75e6
 *            multiply-adds, as many as the layer's own weight gradient; the pairwise part 1/1000 of
 *            it. T = 10: 755e6 + 4e6. Registers allow one block of 8 warps per
 *            multiprocessor for T > 4: about half of the rate of 3xTF32, 80 TFLOP/s.
 * Limits     B <= 65535 (gridDim.y); x and dy of a sample below 2^31 values; pixel: 4 MiB of scratch
 *            a sample
 * Proof      tests/ops/test_gram_cuda.c, tests/ops/test_backends.c
 * History    v1 this file.
 */
#include "kernels/conv_gram.h"

#include "kernels/gram_tiles.h"
#include "kernels/tile_product.h"

#include <inttypes.h>

using gram_tiles::add_pair;
using gram_tiles::block_sum;
using gram_tiles::give;
using gram_tiles::target;
using gram_tiles::TILE;
using gram_tiles::triangle;
using gram_tiles::triangle_row;
using tile_product::BK;
using tile_product::by_column;
using tile_product::sums;
using tile_product::THREADS;
using tile_product::tile;
using tile_product::WARP;

namespace
{

constexpr int WARPS = THREADS / WARP;
constexpr int FEW = 4;      /* T up to here without f64 tensor cores: 8 rows would stand idle */
constexpr int ROWS = 128;   /* rows of the wide tile: most stacked values at once */
constexpr int NARROW = 32;  /* rows of the other, for few outputs */
constexpr int HALF = 64;    /* stacked values of one side where T > ROWS */
constexpr int LIST = (triangle(ROWS / TILE) + WARPS - 1) / WARPS; /* theta's tiles of one warp */
constexpr int BLOCKS = 264; /* two for each multiprocessor of an H100 */
constexpr size_t WORK_MAX = (size_t)128 << 20, SAMPLE_MAX = (size_t)4 << 20;

/* Which of the T stacked values a launch is about: na from ta on, then those from tb on. cross: only
 * products of the second with the first are wanted. */
struct stack {
    int n, ta, na, tb;
    bool cross;
    __device__ int value(int t) const
    {
        return t < na ? ta + t : tb + t - na;
    }
};

struct shape {
    int c, h, w, o, ow, p, t; /* t: all stacked values of dy */
    int r, stride, pad;
    int columns;           /* of the product: R R C, or P */
    int outputs, o_tiles;  /* outputs of a tile, tiles */
    int n_tiles, slice;    /* tiles of columns; tiles in all per block */
    int single;
};

/* dy of one sample as rows m = (output, stacked value) of the tile, output by output. */
template <int BM> struct cotangents : by_column<BM> {
    const float *from; /* nullptr: zeros */
    int64_t step;
    int m, p;

    __device__ cotangents(const float *dy, const shape &d, const stack &k, int o0)
    {
        const int j = by_column<BM>::column(), t = j / d.outputs, o = j % d.outputs;
        const bool inside = j < k.n * d.outputs;
        m = inside ? o * k.n + t : j;
        step = (int64_t)d.t * d.o;
        from = inside && o0 + o < d.o ? dy + (int64_t)k.value(t) * d.o + o0 + o : nullptr;
        p = d.p;
    }
    __device__ void fetch(float (&v)[by_column<BM>::N], int k0) const
    {
#pragma unroll
        for (int i = 0; i < by_column<BM>::N; i++) {
            const int k = k0 + by_column<BM>::k(i);
            v[i] = from && k < p ? from[k * step] : 0.0f;
        }
    }
    __device__ void store(float *to, const float (&v)[by_column<BM>::N]) const
    {
#pragma unroll
        for (int i = 0; i < by_column<BM>::N; i++)
            to[by_column<BM>::k(i) * tile<BM>::LDA + m] = v[i];
    }
};

/* Stores of the right-hand operand, common to the two below. */
template <int BM> struct right : by_column<tile<BM>::BN> {
    typedef by_column<tile<BM>::BN> map;
    __device__ void store(float *to, const float (&v)[map::N]) const
    {
#pragma unroll
        for (int i = 0; i < map::N; i++)
            to[map::k(i) * tile<BM>::LDB + map::column()] = v[i];
    }
};

/* The patches of one sample: column n is tap n / C of channel n % C, row p a position. */
template <int BM> struct patches : right<BM> {
    typedef typename right<BM>::map map;
    const float *x;
    shape d;
    int ky, kx, c;
    bool inside;

    __device__ patches(const float *base, const shape &shape, int n0) : x(base), d(shape)
    {
        const int n = n0 + map::column(), tap = n / d.c;
        c = n % d.c;
        ky = tap / d.r;
        kx = tap % d.r;
        inside = n < d.columns;
    }
    __device__ void fetch(float (&v)[map::N], int k0) const
    {
#pragma unroll
        for (int i = 0; i < map::N; i++) {
            const int p = k0 + map::k(i), y = p / d.ow * d.stride + ky - d.pad,
                      u = p % d.ow * d.stride + kx - d.pad;
            const bool in = inside && p < d.p && y >= 0 && y < d.h && u >= 0 && u < d.w;
            v[i] = in ? x[(y * d.w + u) * d.c + c] : 0.0f;
        }
    }
};

/* A of one sample. */
template <int BM> struct pixels : right<BM> {
    typedef typename right<BM>::map map;
    const float *a;
    int n, p;

    __device__ pixels(const float *base, const shape &d, int n0)
        : a(base), n(n0 + map::column()), p(d.p)
    {
    }
    __device__ void fetch(float (&v)[map::N], int k0) const
    {
#pragma unroll
        for (int i = 0; i < map::N; i++) {
            const int k = k0 + map::k(i);
            v[i] = n < p && k < p ? a[(int64_t)k * p + n] : 0.0f;
        }
    }
};

/* One tile's factors for the pairwise products. Column `at`, row t: left(at,t) right(at,t). Direct:
 * both are dW. Pixel: sum_p A dy, and dy itself. */
template <int BM, bool PIXEL> struct pairs {
    static constexpr int LD = tile<BM>::BN + 4; /* rows t and t + 1 start 4 banks apart */
    const float *d;  /* (outputs, n, LD) shared */
    const float *dy; /* of the sample */
    shape s;
    stack k;
    int o0, n0, outputs, columns; /* of this tile */

    __device__ int groups() const /* of four columns */
    {
        return PIXEL ? columns * ((outputs + 3) / 4) : outputs * ((columns + 3) / 4);
    }
    /* Output and column of member q of a group; the output is -1 beyond the last. */
    __device__ void place(int group, int q, int &o, int &n) const
    {
        const int per = PIXEL ? (outputs + 3) / 4 : (columns + 3) / 4;
        const int outer = group / per, inner = group % per * 4 + q;
        o = PIXEL ? inner : outer;
        n = PIXEL ? outer : inner;
        if (o >= outputs || n >= columns)
            o = -1;
    }
    __device__ double left(int o, int n, int t) const
    {
        return o >= 0 && t < k.n ? (double)d[(o * k.n + t) * LD + n] : 0.0;
    }
    __device__ double right(int o, int n, int t) const
    {
        if (!PIXEL)
            return left(o, n, t);
        return o >= 0 && t < k.n
                   ? (double)dy[((int64_t)(n0 + n) * s.t + k.value(t)) * s.o + o0 + o]
                   : 0.0;
    }
};

/* theta's sums for T <= TT, one column a thread. */
template <int TT> struct few_sums {
    double v[triangle(TT)] = {};

    template <class P> __device__ void add(const P &p)
    {
        for (int at = (int)threadIdx.x; at < p.groups() * 4; at += THREADS) {
            int o, n;
            double a[TT], b[TT];
            p.place(at / 4, at % 4, o, n);
#pragma unroll
            for (int t = 0; t < TT; t++) {
                a[t] = p.left(o, n, t);
                b[t] = p.right(o, n, t);
            }
#pragma unroll
            for (int i = 0; i < TT; i++)
#pragma unroll
                for (int j = 0; j <= i; j++)
                    v[triangle(i) + j] = fma(a[i], b[j], v[triangle(i) + j]);
        }
    }
    template <class F> __device__ void finish(double *shared, const F &f)
    {
#pragma unroll
        for (int i = 0; i < TT; i++)
#pragma unroll
            for (int j = 0; j <= i; j++) {
                const double sum = block_sum(v[triangle(i) + j], shared);
                if (threadIdx.x == 0)
                    f(i, j, sum);
            }
    }
};

/* For T <= 8 R: every warp all tiles, of some columns. */
template <int R> struct tile_sums {
    double v[triangle(R)][2] = {};

    template <class P> __device__ void add(const P &p)
    {
        const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
        for (int group = warp; group < p.groups(); group += WARPS) {
            int o, n;
            double a[R], b[R];
            p.place(group, lane % 4, o, n);
#pragma unroll
            for (int r = 0; r < R; r++) {
                a[r] = p.left(o, n, r * TILE + lane / 4);
                b[r] = p.right(o, n, r * TILE + lane / 4);
            }
#pragma unroll
            for (int i = 0; i < R; i++)
#pragma unroll
                for (int j = 0; j <= i; j++)
                    mma_m8n8k4_f64(v[triangle(i) + j], a[i], b[j]);
        }
    }
    template <class F> __device__ void finish(double *shared, const F &f)
    {
        constexpr int N = triangle(R) * WARP * 2;
        const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
        for (int w = 0; w < WARPS; w++) {
            if (w == warp)
#pragma unroll
                for (int i = 0; i < triangle(R); i++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        const int at = (i * WARP + lane) * 2 + e;
                        shared[at] = (w ? shared[at] : 0.0) + v[i][e];
                    }
            __syncthreads(); /* warp w's part is in before the next one's, or before f sees it */
        }
        for (int at = (int)threadIdx.x; at < N; at += THREADS) {
            const int tile = at / (WARP * 2), i = triangle_row(tile), j = tile - triangle(i);
            f(i * TILE + at % (WARP * 2) / TILE, j * TILE + at % TILE, shared[at]);
        }
    }
};

/* For T <= 128: every warp all columns, of some tiles. */
struct list_sums {
    double v[LIST][2] = {};

    template <class P> __device__ void add(const P &p)
    {
        const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
        const int tiles = triangle((p.k.n + TILE - 1) / TILE), first = triangle_row(warp);
        for (int group = 0; group < p.groups(); group++) {
            int o, n, i = first, j = warp - triangle(first);
            p.place(group, lane % 4, o, n);
#pragma unroll
            for (int at = 0; at < LIST; at++) {
                if (warp + at * WARPS < tiles)
                    mma_m8n8k4_f64(v[at], p.left(o, n, i * TILE + lane / 4),
                                   p.right(o, n, j * TILE + lane / 4));
                for (j += WARPS; j > i; i++)
                    j -= i + 1;
            }
        }
    }
    template <class F> __device__ void finish(double *, const F &f)
    {
        const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
#pragma unroll
        for (int at = 0; at < LIST; at++) {
            const int i = triangle_row(warp + at * WARPS), j = warp + at * WARPS - triangle(i);
#pragma unroll
            for (int e = 0; e < 2; e++)
                f(i * TILE + lane / 4, j * TILE + lane % 4 * 2 + e, v[at][e]);
        }
    }
};

__host__ __device__ constexpr int larger(int a, int b)
{
    return a > b ? a : b;
}

/* source: x, or A of the samples. */
template <int BM, bool PIXEL, class S>
__global__ void __launch_bounds__(THREADS, 1)
    conv_gram(target to, const float *__restrict__ dy, const float *__restrict__ source,
              int64_t sample, shape d, stack k)
{
    typedef tile<BM> T;
    typedef pairs<BM, PIXEL> P;
    constexpr int FLOATS = larger(T::FLOATS, larger(BM * P::LD, triangle(4) * WARP * 2 * 2));
    CU_SHARED(double, shared, [(FLOATS + 1) / 2]); /* stages of a product; then its tile; then sums */
    float *floats = reinterpret_cast<float *>(shared);
    const int64_t s = blockIdx.y;
    const int slice = (int)blockIdx.x, tiles = d.o_tiles * d.n_tiles;
    const float *mine = dy + s * d.p * d.t * d.o, *from = source + s * sample;
    S theta;
    for (int at = slice * d.slice; at < min(tiles, (slice + 1) * d.slice); at++) {
        const int o0 = at / d.n_tiles * d.outputs, n0 = at % d.n_tiles * T::BN;
        const int outputs = min(d.outputs, d.o - o0), columns = min(T::BN, d.columns - n0);
        const int m = d.outputs * k.n;
        const cotangents<BM> a(mine, d, k, o0);
        sums sum;
        if constexpr (PIXEL)
            tile_product::product<BM>(sum, floats, a, pixels<BM>(from, d, n0), d.p, m, columns,
                                      d.single);
        else
            tile_product::product<BM>(sum, floats, a, patches<BM>(from, d, n0), d.p, m, columns,
                                      d.single);
        tile_product::each<BM>(sum, [&](int row, int col, float v) { floats[row * P::LD + col] = v; });
        __syncthreads(); /* the tile is written before its columns are multiplied */
        theta.add(P{floats, mine, d, k, o0, n0, outputs, columns});
        __syncthreads(); /* and multiplied before the next product's stages overwrite it */
    }
    theta.finish(shared, [&](int i, int j, double v) {
        if (i < k.n && j <= i && (!k.cross || (i >= k.na && j < k.na)))
            give(to, s, slice, k.value(i), k.value(j), v, 1);
    });
}

/* theta += the slices' parts, in their order. */
__global__ void __launch_bounds__(THREADS) conv_gram_slices(target to, stack k)
{
    const int64_t s = blockIdx.x, size = (int64_t)to.t * to.t;
    for (int at = (int)threadIdx.x; at < triangle(k.n); at += THREADS) {
        const int row = triangle_row(at), col = at - triangle(row);
        const int i = k.value(row), j = k.value(col);
        if (k.cross && (row < k.na || col >= k.na))
            continue;
        double sum = 0;
        for (int slice = 0; slice < to.slices; slice++)
            sum += to.part[(s * to.slices + slice) * size + (int64_t)i * to.t + j];
        add_pair(to.theta + s * size, to.t, i, j, sum);
    }
}

/* x of one sample with channels as k: they lie together, so neighbouring threads hold neighbours. */
template <int WIDTH, int LD> struct channels {
    static constexpr int N = BK * WIDTH / THREADS;
    const float *x;
    int q0, hw, c;

    __device__ void fetch(float (&v)[N], int k0) const
    {
        const int k = k0 + (int)threadIdx.x % BK;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const int q = q0 + (int)threadIdx.x / BK + i * (THREADS / BK);
            v[i] = k < c && q < hw ? x[(int64_t)q * c + k] : 0.0f;
        }
    }
    __device__ void store(float *to, const float (&v)[N]) const
    {
#pragma unroll
        for (int i = 0; i < N; i++)
            to[(int)threadIdx.x % BK * LD + (int)threadIdx.x / BK + i * (THREADS / BK)] = v[i];
    }
};

/* xx[s][q][q'] = <x_q, x_q'>. The block's tile is below the diagonal, or meets it. */
__global__ void __launch_bounds__(THREADS)
    pixel_gram(float *__restrict__ xx, const float *__restrict__ x, int hw, int c, bool single)
{
    typedef tile<ROWS> T;
    CU_SHARED(float, shared, [T::FLOATS]);
    const int64_t s = blockIdx.y;
    const int tiles = (hw + T::BN - 1) / T::BN;
    const int m0 = (int)blockIdx.x / tiles * ROWS, n0 = (int)blockIdx.x % tiles * T::BN;
    if (m0 + ROWS <= n0)
        return;
    const float *from = x + s * hw * c;
    float *to = xx + s * hw * hw;
    sums sum;
    tile_product::product<ROWS>(sum, shared, channels<ROWS, T::LDA>{from, m0, hw, c},
                                channels<T::BN, T::LDB>{from, n0, hw, c}, c, hw - m0, hw - n0,
                                single);
    tile_product::each<ROWS>(sum, [&](int row, int col, float v) {
        const int i = m0 + row, j = n0 + col;
        if (i < hw && j <= i) {
            to[(int64_t)i * hw + j] = v;
            to[(int64_t)j * hw + i] = v;
        }
    });
}

/* a[s][p][p'] = sum over the taps that both positions have inside the image. */
__global__ void __launch_bounds__(THREADS)
    patch_gram(float *__restrict__ a, const float *__restrict__ xx, shape d)
{
    const int64_t s = blockIdx.z, hw = (int64_t)d.h * d.w;
    const int p = (int)blockIdx.y, other = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (other >= d.p)
        return;
    const int y = p / d.ow * d.stride - d.pad, x = p % d.ow * d.stride - d.pad;
    const int v = other / d.ow * d.stride - d.pad, u = other % d.ow * d.stride - d.pad;
    const float *from = xx + s * hw * hw;
    float sum = 0;
    for (int ky = max(0, -min(y, v)); ky < min(d.r, d.h - max(y, v)); ky++)
        for (int kx = max(0, -min(x, u)); kx < min(d.r, d.w - max(x, u)); kx++)
            sum += from[((y + ky) * d.w + x + kx) * hw + (v + ky) * d.w + u + kx];
    a[(s * d.p + p) * d.p + other] = sum;
}

double direct_cost(const lips_cuda_conv_gram_args *a)
{
    const double t = (double)a->t, p = (double)(a->oh * a->ow);
    return t * (p + 0.5 * (t + 1)) * (double)(a->o * a->c * a->r * a->r);
}

double pixel_cost(const lips_cuda_conv_gram_args *a)
{
    const double t = (double)a->t, p = (double)(a->oh * a->ow), hw = (double)(a->h * a->w);
    return 0.5 * hw * hw * (double)a->c + p * p * (double)(a->r * a->r) +
           t * p * (p + 0.5 * (t + 1)) * (double)a->o;
}

/* Scratch of the pixel way for one sample. */
size_t pixel_floats(const lips_cuda_conv_gram_args *a)
{
    const int64_t hw = a->h * a->w, p = a->oh * a->ow;
    return (size_t)(hw * hw + p * p);
}

bool pixel_fits(const lips_cuda_conv_gram_args *a)
{
    const double hw = (double)(a->h * a->w), p = (double)(a->oh * a->ow);
    return (hw * hw + p * p) * sizeof(float) <= (double)SAMPLE_MAX && p <= 65535;
}

/* What the shape decides. */
struct plan {
    shape d;
    bool pixel, narrow;
    int slices;
    int64_t group; /* samples at a time */
    size_t part;   /* doubles of a group's parts */
};

plan make_plan(const lips_cuda_conv_gram_args *a)
{
    plan p = {};
    const int64_t most_t = a->t < ROWS ? a->t : ROWS;
    p.pixel = lips_cuda_conv_gram_choose(a) == LIPS_CUDA_GRAM_PIXEL;
    p.narrow = a->t <= FEW && a->t * a->o <= NARROW;
    const int64_t rows = p.narrow ? NARROW : ROWS, width = p.narrow ? tile<NARROW>::BN : tile<ROWS>::BN;
    p.group = a->b;
    if (p.pixel) {
        const int64_t fit = (int64_t)(WORK_MAX / (pixel_floats(a) * sizeof(float)));
        p.group = fit < a->b ? fit : a->b;
    }
    shape *d = &p.d;
    d->c = (int)a->c, d->h = (int)a->h, d->w = (int)a->w, d->o = (int)a->o, d->ow = (int)a->ow;
    d->p = (int)(a->oh * a->ow), d->t = (int)a->t;
    d->r = (int)a->r, d->stride = (int)a->stride, d->pad = (int)a->pad;
    d->single = a->single;
    d->columns = p.pixel ? d->p : d->c * d->r * d->r;
    /* Tiles as equal as can be: 64 outputs of which 12 fit are 6 tiles of 11. */
    const int64_t fit = rows / most_t;
    d->o_tiles = (int)((a->o + fit - 1) / fit);
    d->outputs = (int)((a->o + d->o_tiles - 1) / d->o_tiles);
    d->n_tiles = (int)((d->columns + width - 1) / width);
    const int64_t tiles = (int64_t)d->o_tiles * d->n_tiles, wanted = (BLOCKS + p.group - 1) / p.group;
    const int64_t slices = wanted < tiles ? wanted : tiles;
    d->slice = (int)((tiles + slices - 1) / slices);
    p.slices = (int)((tiles + d->slice - 1) / d->slice);
    p.part = p.slices > 1 ? (size_t)(p.group * p.slices * a->t * a->t) : 0;
    return p;
}

template <int BM, class S>
void launch(const plan &p, const target &to, const float *dy, const float *source, const stack &k,
            int64_t samples, cudaStream_t stream)
{
    const dim3 grid((unsigned)p.slices, (unsigned)samples);
    if (p.pixel)
        CU_LAUNCH((conv_gram<BM, true, S>), grid, dim3(THREADS), 0, stream, to, dy, source,
                  (int64_t)p.d.p * p.d.p, p.d, k);
    else
        CU_LAUNCH((conv_gram<BM, false, S>), grid, dim3(THREADS), 0, stream, to, dy, source,
                  (int64_t)p.d.h * p.d.w * p.d.c, p.d, k);
}

/* One launch for the stacked values k of some samples, and the sum of its slices. */
lips_status run(const plan &p, const target &to, const float *dy, const float *source,
                const stack &k, int64_t samples, cudaStream_t stream)
{
    if (k.n == 1 && p.narrow)
        launch<NARROW, few_sums<1>>(p, to, dy, source, k, samples, stream);
    else if (k.n == 1)
        launch<ROWS, few_sums<1>>(p, to, dy, source, k, samples, stream);
    else if (k.n <= FEW && p.narrow)
        launch<NARROW, few_sums<FEW>>(p, to, dy, source, k, samples, stream);
    else if (k.n <= FEW)
        launch<ROWS, few_sums<FEW>>(p, to, dy, source, k, samples, stream);
    else if (k.n <= 2 * TILE)
        launch<ROWS, tile_sums<2>>(p, to, dy, source, k, samples, stream);
    else if (k.n <= 4 * TILE)
        launch<ROWS, tile_sums<4>>(p, to, dy, source, k, samples, stream);
    else
        launch<ROWS, list_sums>(p, to, dy, source, k, samples, stream);
    LIPS_TRY_LAUNCH(stream);
    if (p.slices > 1) {
        CU_LAUNCH(conv_gram_slices, dim3((unsigned)samples), dim3(THREADS), 0, stream, to, k);
        LIPS_TRY_LAUNCH(stream);
    }
    return LIPS_OK;
}

/* All stacked values of some samples: at once, or pairs of blocks of HALF. */
lips_status run_stack(const plan &p, const target &to, const float *dy, const float *source,
                      int64_t samples, cudaStream_t stream)
{
    if (p.d.t <= ROWS)
        return run(p, to, dy, source, stack{p.d.t, 0, p.d.t, 0, false}, samples, stream);
    for (int i = 0; i < p.d.t; i += HALF)
        for (int j = 0; j <= i; j += HALF) {
            const int ni = p.d.t - i < HALF ? p.d.t - i : HALF;
            const stack k = i == j ? stack{ni, i, ni, 0, false} : stack{HALF + ni, j, HALF, i, true};
            LIPS_TRY(run(p, to, dy, source, k, samples, stream));
        }
    return LIPS_OK;
}

/* XX and A of some samples. */
lips_status make_pixels(const lips_cuda_conv_gram_args *a, const plan &p, const float *x, float *xx,
                        float *patch, int64_t samples, cudaStream_t stream)
{
    const int hw = p.d.h * p.d.w, rows = (hw + ROWS - 1) / ROWS;
    const int cols = (hw + tile<ROWS>::BN - 1) / tile<ROWS>::BN;
    CU_LAUNCH(pixel_gram, dim3((unsigned)(rows * cols), (unsigned)samples), dim3(THREADS), 0, stream,
              xx, x, hw, p.d.c, a->single);
    LIPS_TRY_LAUNCH(stream);
    CU_LAUNCH(patch_gram,
              dim3((unsigned)((p.d.p + THREADS - 1) / THREADS), (unsigned)p.d.p, (unsigned)samples),
              dim3(THREADS), 0, stream, patch, xx, p.d);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

lips_status check(const lips_cuda_conv_gram_args *a)
{
    if (a->b < 1 || a->b > 65535)
        return lips_fail(LIPS_ERR_USAGE, "conv_gram: %" PRId64 " samples, must be in 1..65535", a->b);
    const double in = (double)a->h * (double)a->w * (double)a->c;
    const double out = (double)a->oh * (double)a->ow * (double)a->o * (double)a->t;
    const double taps = (double)a->c * (double)a->r * (double)a->r;
    if (!(in < 2147483648.0 && out < 2147483648.0 && taps * (double)a->o < 2147483648.0))
        return lips_fail(LIPS_ERR_USAGE,
                         "conv_gram: %.0f inputs, %.0f cotangents and %.0f weights of one sample, "
                         "must be below 2^31 each",
                         in, out, taps * (double)a->o);
    if (a->algo == LIPS_CUDA_GRAM_PIXEL && !pixel_fits(a))
        return lips_fail(LIPS_ERR_USAGE,
                         "conv_gram: the pixel Gram of %" PRId64 " x %" PRId64
                         " pixels asked for, it needs more than %zu bytes a sample",
                         a->h, a->w, SAMPLE_MAX);
    return LIPS_OK;
}

} // namespace

lips_cuda_gram_algo lips_cuda_conv_gram_choose(const lips_cuda_conv_gram_args *a)
{
    if (a->algo != LIPS_CUDA_GRAM_AUTO)
        return a->algo;
    return pixel_fits(a) && pixel_cost(a) < direct_cost(a) ? LIPS_CUDA_GRAM_PIXEL
                                                           : LIPS_CUDA_GRAM_DIRECT;
}

size_t lips_cuda_conv_gram_work(const lips_cuda_conv_gram_args *a)
{
    const plan p = make_plan(a);
    return p.part * sizeof(double) +
           (p.pixel ? (size_t)p.group * pixel_floats(a) * sizeof(float) : 0);
}

lips_status lips_cuda_conv_gram(const lips_cuda_conv_gram_args *a, cudaStream_t stream)
{
    LIPS_TRY(check(a));
    const plan p = make_plan(a);
    double *part = (double *)a->work;
    float *xx = (float *)(part + p.part);
    float *patch = xx + p.group * a->h * a->w * a->h * a->w;
    for (int64_t first = 0; first < a->b; first += p.group) {
        const int64_t samples = a->b - first < p.group ? a->b - first : p.group;
        const float *x = a->x + first * a->h * a->w * a->c;
        const float *dy = a->dy + first * p.d.p * a->t * a->o;
        const target to = {a->theta + first * a->t * a->t, part, (int)a->t, p.slices};
        if (p.pixel)
            LIPS_TRY(make_pixels(a, p, x, xx, patch, samples, stream));
        LIPS_TRY(run_stack(p, to, dy, p.pixel ? patch : x, samples, stream));
    }
    return LIPS_OK;
}
