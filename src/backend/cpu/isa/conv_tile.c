/*
 * conv_tile - the contraction under every direct convolution pass of the cpu backend.
 *
 *   y[m][i] = (bias[m] or 0 or y[m][i]) + sum_{c,ky,kx} w[c][ky][kx][m] * x[c][ky][kx][i]
 *   then relu (max(0, .)), then mask (0 where mask <= 0)
 *
 * Shapes     y: M <= 8 output channels by n positions, each position a block of 16 lanes. What a
 *            position is (a pixel, a pixel's stacked value, every second pixel, a pixel of a border
 *            column) is told by steps, so that stacked values, strides and the input gradients of
 *            strided convolutions are all this one kernel (conv_apply.c).
 * Work split register tiles of M channels by N positions; n is cut into nearly equal tiles
 * Precision  f32, fused multiply-add
 * Order      c, ky, kx ascending in one chain per output, whatever the tile: the same bits for
 *            every cut of channels and positions, and in avx512 and avx2
 * Cost       2 nc ny nx flops per output lane; M + N loads for M N multiply-adds
 * Limits     M <= 8, any n, any number of taps, also none
 * Proof      tests/ops/test_conv_cpu.c      Speed  bench/conv.c
 */
#include "backend/cpu/isa/tiles.h"

lips_conv_tile_fn LIPS_ISA_FN(lips_conv_tile);
lips_conv_pack_fn LIPS_ISA_FN(lips_conv_pack);

/* Offsets that are constants in the specialised kernels. */
typedef enum tile_kind {
    TILE_ANY,   /* any steps */
    TILE_ROW3,  /* adjacent positions, three taps per row */
    TILE_SLIDE3 /* and taps are adjacent positions too: N + 2 loads serve three taps */
} tile_kind;

/* One row of taps: acc += w x. */
VF_INLINE void row(const int M, const int N, const tile_kind kind,
                   vf acc[LIPS_CONV_TILE][TILE_MAX_N], const float *x, const float *w, int64_t nx,
                   int64_t xx, int64_t xpos)
{
    if (kind == TILE_SLIDE3) {
        vf b[TILE_MAX_N + 2];
#pragma GCC unroll 16
        for (int n = 0; n < N + 2; n++)
            b[n] = vf_load(x + n * LIPS_CONV_BLOCK);
#pragma GCC unroll 16
        for (int kx = 0; kx < 3; kx++)
#pragma GCC unroll 16
            for (int m = 0; m < M; m++) {
                const vf a = vf_set1(w[kx * M + m]);
#pragma GCC unroll 16
                for (int n = 0; n < N; n++)
                    acc[m][n] = vf_fma(a, b[n + kx], acc[m][n]);
            }
        return;
    }
    const int64_t taps = kind == TILE_ROW3 ? 3 : nx;
    const int64_t step = kind == TILE_ROW3 ? LIPS_CONV_BLOCK : xpos;
    for (int64_t kx = 0; kx < taps; kx++, x += xx, w += M) {
        vf b[TILE_MAX_N];
#pragma GCC unroll 16
        for (int n = 0; n < N; n++)
            b[n] = vf_load(x + n * step);
#pragma GCC unroll 16
        for (int m = 0; m < M; m++) {
            const vf a = vf_set1(w[m]);
#pragma GCC unroll 16
            for (int n = 0; n < N; n++)
                acc[m][n] = vf_fma(a, b[n], acc[m][n]);
        }
    }
}

/* One register tile: positions i .. i+N-1 of s, lanes h .. h+VF_LANES-1. */
VF_INLINE void tile(const int M, const int N, const tile_kind kind, const lips_conv_seg *s,
                    int64_t i, int64_t h)
{
    vf acc[LIPS_CONV_TILE][TILE_MAX_N];
    const int64_t nc = s->nc, ny = s->ny, nx = s->nx, xc = s->xc, xy = s->xy, xx = s->xx;
    const int64_t xpos = s->xpos, wc = s->wc, wy = s->wy, yo = s->yo, ypos = s->ypos;
    const float *x = s->x + i * xpos + h, *w = s->w;
    float *y = s->y + i * ypos + h;

#pragma GCC unroll 16
    for (int m = 0; m < M; m++) {
        const vf start = vf_set1(s->bias ? s->bias[m] : 0.0f);
#pragma GCC unroll 16
        for (int n = 0; n < N; n++)
            acc[m][n] = s->resume ? vf_load(y + m * yo + n * ypos) : start;
    }
    for (int64_t c = 0; c < nc; c++)
        for (int64_t ky = 0; ky < ny; ky++)
            row(M, N, kind, acc, x + c * xc + ky * xy, w + c * wc + ky * wy, nx, xx, xpos);
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 16
        for (int n = 0; n < N; n++) {
            vf v = acc[m][n];
            if (s->relu)
                v = vf_relu(v);
            if (s->mask)
                v = vf_where_pos(vf_load(s->mask + m * s->mo + s->mask_at[i + n] + h), v);
            vf_store(y + m * yo + n * ypos, v);
        }
}

typedef void tile_fn(const lips_conv_seg *, int64_t, int64_t);

#define TILE_KIND(M, N, KIND)                                                                      \
    static void tile_##M##_##N##_##KIND(const lips_conv_seg *s, int64_t i, int64_t h)              \
    {                                                                                              \
        tile(M, N, KIND, s, i, h);                                                                 \
    }
#define TILE(M, N)                                                                                 \
    TILE_KIND(M, N, TILE_ANY)                                                                      \
    TILE_KIND(M, N, TILE_ROW3)                                                                     \
    TILE_KIND(M, N, TILE_SLIDE3)
#define ROW(M, N)                                                                                  \
    [M][N] = {tile_##M##_##N##_TILE_ANY, tile_##M##_##N##_TILE_ROW3, tile_##M##_##N##_TILE_SLIDE3},

TILES(TILE)

static tile_fn *const tiles[LIPS_CONV_TILE + 1][TILE_MAX_N + 1][3] = {TILES(ROW)};

void LIPS_ISA_FN(lips_conv_tile)(const lips_conv_seg *s)
{
    tile_kind kind = TILE_ANY;
    if (s->nx == 3 && s->xpos == LIPS_CONV_BLOCK)
        kind = s->xx == LIPS_CONV_BLOCK ? TILE_SLIDE3 : TILE_ROW3;
    const int64_t parts = lips_conv_ceil(s->n, tile_widest[s->m]);
    const int64_t size = s->n / parts, larger = s->n % parts;
    for (int64_t h = 0; h < LIPS_CONV_BLOCK; h += VF_LANES) {
        int64_t i = 0;
        for (int64_t p = 0; p < parts; p++) {
            const int64_t n = size + (p < larger);
            tiles[s->m][n][kind](s, i, h);
            i += n;
        }
    }
}

void LIPS_ISA_FN(lips_conv_pack)(float *dst, const float *src, int64_t n, int64_t step)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t h = 0; h < LIPS_CONV_BLOCK; h += VF_LANES)
            vf_store(dst + i * LIPS_CONV_BLOCK + h, vf_load(src + i * step + h));
}
