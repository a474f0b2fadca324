/*
 * kernels/conv_gram_sums.h - what the kernels of conv_gram share (device code): which stacked
 * values and which tile of a sample's gradients, and theta's sums of pairwise products over a tile.
 *
 * A tile lies in shared memory as rows (output, stacked value) and WIDTH columns. T <= 4 one thread
 * per column; T <= 32 a warp all 8 x 8 tiles of theta's triangle for some columns; T <= 128 each
 * warp some tiles for all columns. Products and sums in f64.
 */
#ifndef LIPS_KERNELS_CONV_GRAM_SUMS_H
#define LIPS_KERNELS_CONV_GRAM_SUMS_H

#include "kernels/gram_tiles.h"

namespace conv_gram_sums
{

using gram_tiles::block_sum;
using gram_tiles::TILE;
using gram_tiles::triangle;
using gram_tiles::triangle_row;
using gram_tiles::WARP;

constexpr int THREADS = 256, WARPS = THREADS / WARP;
constexpr int FEW = 4;    /* T up to here without f64 tensor cores: 8 rows would stand idle */
constexpr int ROWS = 128; /* rows of a tile: most stacked values at once */
constexpr int LIST = (triangle(ROWS / TILE) + WARPS - 1) / WARPS; /* theta's tiles of one warp */

/* Which of the T stacked values a launch is about: na from ta on, then those from tb on. cross:
 * only products of the second with the first are wanted. */
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
    int columns;          /* of the product: R R C, or P */
    int outputs, o_tiles; /* outputs of a tile, tiles */
    int n_tiles, slice;   /* tiles of columns; tiles in all per block */
    int single;
};

/* One tile's factors for the pairwise products. Column `at`, row t: left(at,t) right(at,t). Direct:
 * both are dW. Pixel: sum_p A dy, and dy itself. */
template <int WIDTH, bool PIXEL> struct pairs {
    static constexpr int LD = WIDTH + 4; /* rows t and t + 1 start 4 banks apart */
    const float *d;                      /* (outputs, n, LD) shared */
    const float *dy;                     /* of the sample */
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
        return o >= 0 && t < k.n ? (double)dy[((int64_t)(n0 + n) * s.t + k.value(t)) * s.o + o0 + o]
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

} // namespace conv_gram_sums

#endif
