/*
 * conv_winograd_grad - parameter gradient of 3x3 convolutions of stride 1 through F(4x4,3x3).
 *
 * The forward pass is bilinear in weights and input, y = A'[(G g G') . (B' d B)]A, so with the same
 * three matrices
 *
 *   dw = G' [ sum over tiles and lanes of (A y A') . (B' x B) ] G
 *
 * Shapes     r = 3, stride 1, t = 1. Samples beyond b are left out lane by lane.
 * Work split groups of tiles over slabs; for each of 36 frequencies inner products of tiles of 6
 *            outputs by STREAMS inputs (isa/conv_dot.c), whose lanes are summed after each group
 * Precision  f32; a chain is a group's tiles, then 16 lanes in pairs, then groups in turn
 * Order      fixed by the shapes
 * Cost       36 O C multiply-adds, 144 C and 80 O for the transforms, per tile of 4x4 and lane
 * Proof      tests/ops/test_conv_cpu.c      Speed  bench/conv.c
 */
#include "backend/cpu/conv_winograd.h"

#include <string.h>

enum {
    GROUP = 16,   /* tiles: fewer would sum lanes too often, more would leave the second-level cache
                   * (16 -> 32 channels of 32x32: 7 tiles 0.90 ms, 16 tiles 0.81 ms; 64 -> 128: 16
                   * tiles 9.3 ms, 24 tiles 12.0 ms) */
    STREAMS = 48, /* inputs at a time: whole sums of 16 */
};

typedef struct wgrad {
    lips_conv_grid grid;
    int64_t group, wide;
    int64_t x_freq, y_freq, sum_freq; /* floats between frequencies */
    int64_t wide_c;                   /* inputs, in whole blocks: row of sums of one output */
    float *x, *y;                     /* (36, C | O, wide) transforms */
    float *sums;                      /* (36, O, wide_c) */
    float *products;                  /* (6, STREAMS) blocks */
    float *taps;                      /* (9, wide_c) of one output */
    float *lanes;                     /* the last block's lanes in use are 1; then a block of 0 */
    int64_t *at;                      /* (STREAMS) */
    lips_conv_wino_tile *tile;
} wgrad;

static wgrad plan(const lips_conv_args *a, lips_conv_arena *mem)
{
    const int64_t blk = LIPS_CONV_BLOCK;
    wgrad w = {.grid = lips_conv_grid_of(&a->x, &a->y, a->geom.pad)};
    w.group = lips_conv_min(GROUP, lips_conv_grid_tiles(&w.grid));
    w.wide = lips_conv_grid_wide(w.group);
    w.wide_c = lips_conv_ceil(a->x.c, blk) * blk;
    w.x_freq = (a->x.c * w.wide + 1) * blk;
    w.y_freq = (a->y.c * w.wide + 1) * blk;
    w.sum_freq = a->y.c * w.wide_c;
    w.x = lips_conv_take(mem, LIPS_CONV_FREQ * w.x_freq, sizeof(float));
    w.y = lips_conv_take(mem, LIPS_CONV_FREQ * w.y_freq, sizeof(float));
    w.sums = lips_conv_take(mem, LIPS_CONV_FREQ * w.sum_freq, sizeof(float));
    w.products = lips_conv_take(mem, (int64_t)LIPS_CONV_ROWS * STREAMS * blk, sizeof(float));
    w.taps = lips_conv_take(mem, 9 * w.wide_c, sizeof(float));
    w.lanes = lips_conv_take(mem, 2 * blk, sizeof(float));
    w.at = lips_conv_take(mem, STREAMS, sizeof(int64_t));
    w.tile = lips_conv_take(mem, w.group, sizeof *w.tile);
    return w;
}

size_t lips_conv_winograd_grad_work(const lips_conv_args *a)
{
    lips_conv_arena mem = {0};
    plan(a, &mem);
    const size_t bias = lips_conv_grad_work(a);
    return mem.used > bias ? mem.used : bias;
}

/* Tile number i, with the lanes that count. */
static lips_conv_wino_tile tile_at(const wgrad *w, int64_t i)
{
    const lips_tensor *x = &w->grid.in;
    const int64_t q = i % w->grid.v, s = i / (w->grid.v * w->grid.ty * w->grid.tx);
    const int64_t lanes = x->b - s * x->lanes - q * LIPS_CONV_BLOCK;
    lips_conv_wino_tile t = lips_conv_grid_at(&w->grid, i);
    if (lanes < LIPS_CONV_BLOCK) {
        t.whole = false;
        t.lanes = w->lanes + (lanes > 0 ? 0 : LIPS_CONV_BLOCK);
    }
    return t;
}

/* sums[f][o][c] += the inner products of a group's transforms. */
static void products(const lips_cpu_kernels *k, const wgrad *w, int64_t tiles)
{
    const int64_t blk = LIPS_CONV_BLOCK, o = w->grid.out.c, c = w->grid.in.c;
    const int64_t parts = lips_conv_ceil(o, LIPS_CONV_ROWS);
    for (int64_t f = 0; f < LIPS_CONV_FREQ; f++) {
        int64_t o0 = 0;
        for (int64_t p = 0; p < parts; p++) {
            const int64_t m = lips_conv_part(o, parts, p);
            for (int64_t c0 = 0; c0 < c; c0 += STREAMS) {
                const int64_t n = lips_conv_min(STREAMS, c - c0);
                const lips_conv_dot d = {.a = w->y + f * w->y_freq + o0 * w->wide * blk,
                                         .b = w->x + f * w->x_freq + c0 * w->wide * blk,
                                         .out = w->products,
                                         .m = m,
                                         .j = n,
                                         .rows = 1,
                                         .cols = tiles,
                                         .am = w->wide * blk,
                                         .ai = blk,
                                         .bj = w->at,
                                         .bi = blk,
                                         .om = STREAMS * blk,
                                         .oj = blk};
                k->conv->dot(&d);
                float *sum = w->sums + f * w->sum_freq + o0 * w->wide_c + c0;
                for (int64_t i = 0; i < m; i++)
                    k->conv->lane_sum(sum + i * w->wide_c, w->products + i * d.om, n, blk);
            }
            o0 += m;
        }
    }
}

static void group(const lips_cpu_kernels *k, const wgrad *w, int64_t first, int64_t tiles)
{
    const lips_tensor *in = &w->grid.in, *out = &w->grid.out;
    const int64_t blk = LIPS_CONV_BLOCK, pixel = w->grid.v * blk;
    for (int64_t i = 0; i < tiles; i++)
        w->tile[i] = tile_at(w, first + i);
    lips_conv_wino x = {.tile = w->tile,
                        .tiles = tiles,
                        .channels = in->c,
                        .x = in->data,
                        .x_chan = in->h * in->w * pixel,
                        .x_row = in->w * pixel,
                        .x_pixel = pixel,
                        .v = w->x,
                        .v_freq = w->x_freq,
                        .v_chan = w->wide * blk};
    k->conv->wino_in(&x);
    lips_conv_wino y = {.tile = w->tile,
                        .tiles = tiles,
                        .channels = out->c,
                        .x = out->data,
                        .x_chan = out->h * out->w * pixel,
                        .x_row = out->w * pixel,
                        .x_pixel = pixel,
                        .v = w->y,
                        .v_freq = w->y_freq,
                        .v_chan = w->wide * blk};
    k->conv->wino_dy(&y);
    products(k, w, tiles);
}

void lips_conv_winograd_grad(const lips_cpu_kernels *k, const lips_conv_args *a)
{
    const int64_t blk = LIPS_CONV_BLOCK;
    if (a->db) {
        lips_conv_args bias = *a;
        bias.dw = NULL;
        lips_conv_grad(k, &bias);
    }
    if (!a->dw)
        return;
    lips_conv_arena mem = {.base = a->work};
    wgrad w = plan(a, &mem);
    for (int64_t i = 0; i < 2 * blk; i++)
        w.lanes[i] = i < a->x.b % blk ? 1.0f : 0.0f;
    for (int64_t j = 0; j < STREAMS; j++)
        w.at[j] = j * w.wide * blk;
    memset(w.sums, 0, (size_t)(LIPS_CONV_FREQ * w.sum_freq) * sizeof *w.sums);
    const int64_t all = lips_conv_grid_tiles(&w.grid);
    for (int64_t i = 0; i < all; i += w.group)
        group(k, &w, i, lips_conv_min(w.group, all - i));
    for (int64_t o = 0; o < a->y.c; o++) {
        float *dw = (float *)a->dw + o * a->x.c * 9;
        k->conv->wino_taps(w.taps, w.wide_c, w.sums + o * w.wide_c, w.sum_freq, w.wide_c);
        for (int64_t c = 0; c < a->x.c; c++)
            for (int64_t i = 0; i < 9; i++)
                dw[c * 9 + i] += w.taps[i * w.wide_c + c];
    }
}

/* Processor cycles per slab, as lips_conv_winograd_cost; a lane sum is 1.6 cycles. */
double lips_conv_winograd_grad_cost(const lips_conv_args *a)
{
    lips_conv_arena mem = {0};
    const wgrad w = plan(a, &mem);
    const double c = (double)a->x.c, o = (double)a->y.c;
    const double tiles = (double)(w.grid.ty * w.grid.tx * w.grid.v);
    return tiles * ((18 / 0.8 + 36 * 1.6 / GROUP) * c * o + 220 * c + 190 * o);
}
