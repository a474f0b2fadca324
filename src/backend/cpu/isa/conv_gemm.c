/*
 * conv_gemm - the matrix products between Winograd's transforms.
 *
 *   y[f][m][i] = sum_c w[f][panel of m][c][m] * x[f][c][i],   f < 36
 *
 * Shapes     x (36, C, n), y (36, O, n) blocks of 16 lanes, w panels of at most 8 outputs (conv.h)
 * Work split per f, DEPTH channels, panel of outputs: register tiles of M outputs by N blocks
 * Precision  f32, fused multiply-add
 * Order      c ascending in one chain per output, whatever the tile
 * Cost       2 * 36 O C n flops per lane; M + N loads for M N multiply-adds. Weights are used n
 *            times from cache, then come from far: they are fetched PREFETCH floats ahead
 * Proof      tests/ops/test_conv_cpu.c      Speed  bench/conv.c
 */
#include "backend/cpu/isa/tiles.h"

lips_conv_gemm_fn LIPS_ISA_FN(lips_conv_gemm);

enum {
    DEPTH =
        128, /* channels of one pass: 128 x 3 blocks are half of a first-level cache of 48 KiB */
    PREFETCH = 256
};

VF_INLINE void tile(const int M, const int N, const lips_conv_gemm *g, int64_t depth, bool resume,
                    const float *w, const float *x, float *y)
{
    vf acc[LIPS_CONV_TILE][TILE_MAX_N];
    const int64_t xc = g->x_chan, yo = g->y_chan;

#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 16
        for (int n = 0; n < N; n++)
            acc[m][n] = resume ? vf_load(y + m * yo + n * LIPS_CONV_BLOCK) : vf_zero();
    for (int64_t c = 0; c < depth; c++, x += xc, w += M) {
        vf b[TILE_MAX_N];
        __builtin_prefetch(w + PREFETCH);
#pragma GCC unroll 16
        for (int n = 0; n < N; n++)
            b[n] = vf_load(x + n * LIPS_CONV_BLOCK);
#pragma GCC unroll 16
        for (int m = 0; m < M; m++) {
            const vf a = vf_set1(w[m]);
#pragma GCC unroll 16
            for (int n = 0; n < N; n++)
                acc[m][n] = vf_fma(a, b[n], acc[m][n]);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 16
        for (int n = 0; n < N; n++)
            vf_store(y + m * yo + n * LIPS_CONV_BLOCK, acc[m][n]);
}

typedef void tile_fn(const lips_conv_gemm *, int64_t, bool, const float *, const float *, float *);

#define TILE(M, N)                                                                                 \
    static void tile_##M##_##N(const lips_conv_gemm *g, int64_t depth, bool resume,                \
                               const float *w, const float *x, float *y)                           \
    {                                                                                              \
        tile(M, N, g, depth, resume, w, x, y);                                                     \
    }
#define ROW(M, N) [M][N] = tile_##M##_##N,

TILES(TILE)

static tile_fn *const tiles[LIPS_CONV_TILE + 1][TILE_MAX_N + 1] = {TILES(ROW)};

/* One panel of m outputs against all blocks, channels c0..c0+depth-1. */
static void panel(const lips_conv_gemm *g, int64_t m, int64_t c0, const float *w, const float *x,
                  float *y)
{
    const int64_t parts = lips_conv_ceil(g->n, tile_widest[m]);
    const int64_t size = g->n / parts, larger = g->n % parts;
    const int64_t depth = lips_conv_min(DEPTH, g->channels - c0);
    for (int64_t h = 0; h < LIPS_CONV_BLOCK; h += VF_LANES) {
        int64_t at = h;
        for (int64_t p = 0; p < parts; p++) {
            const int64_t n = size + (p < larger);
            tiles[m][n](g, depth, c0 > 0, w + c0 * m, x + c0 * g->x_chan + at, y + at);
            at += n * LIPS_CONV_BLOCK;
        }
    }
}

void LIPS_ISA_FN(lips_conv_gemm)(const lips_conv_gemm *g)
{
    for (int64_t f = 0; f < g->count; f++)
        for (int64_t c0 = 0; c0 < g->channels; c0 += DEPTH) {
            float *y = g->y + f * g->y_freq;
            for (int64_t p = 0; p < g->panels; p++) {
                panel(g, g->panel[p].m, c0, g->w + f * g->w_freq + g->panel[p].at,
                      g->x + f * g->x_freq, y);
                y += g->panel[p].m * g->y_chan;
            }
        }
}
