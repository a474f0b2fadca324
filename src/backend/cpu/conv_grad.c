/*
 * conv_grad - parameter gradient of a convolution.
 *
 *   dw[o][c][k] += sum_{s,p} y[s][o][p] x[s][c][stride p + k - pad]
 *   db[o] += sum_{s,p} y[s][o][p]
 *
 * Shapes     any; t = 1. Samples beyond b are left out lane by lane.
 * Work split slab by slab; blocks of about POSITIONS output pixels; input channels in chunks,
 *            copied with their zero border, so that each (c,ky,kx) is one stream; tiles of
 *            6 outputs by STREAMS streams (isa/conv_dot.c), whose lanes are summed after each block
 * Precision  f32; a chain is one block's positions, then 16 lanes in pairs, then blocks in turn
 * Order      fixed by the shapes
 * Cost       2 O C R^2 flops per output pixel and lane
 * Proof      tests/ops/test_conv_cpu.c      Speed  bench/conv.c
 */
#include "backend/cpu/conv.h"
#include "backend/cpu/conv_patch.h"

enum {
    POSITIONS = 64, /* 6 outputs of these and some rows of the input fit the first-level cache */
    STREAMS = 24,
};

typedef struct grad {
    lips_conv_patch patch;
    float *ones; /* one block: the stream whose inner product is a sum */
    float *tile; /* (6, STREAMS) blocks */
} grad;

static void carve(grad *g, const lips_conv_args *a, lips_conv_arena *mem)
{
    lips_conv_patch_init(&g->patch, &a->x, &a->y, &a->geom, POSITIONS, mem);
    g->ones = lips_conv_take(mem, LIPS_CONV_BLOCK, sizeof(float));
    g->tile =
        lips_conv_take(mem, (int64_t)LIPS_CONV_ROWS * STREAMS * LIPS_CONV_BLOCK, sizeof(float));
}

size_t lips_conv_grad_work(const lips_conv_args *a)
{
    grad g;
    lips_conv_arena mem = {0};
    carve(&g, a, &mem);
    return mem.used;
}

/* Outputs o0..o0+m-1 against all streams of the patch's chunk, over its rows. */
static void tile(const lips_cpu_kernels *k, const lips_conv_args *a, const grad *g,
                 lips_conv_dot *d, int64_t o0, int64_t lanes)
{
    const int64_t rr = a->geom.r * a->geom.r, n = g->patch.nc * rr, all = a->x.c * rr;
    d->br = g->patch.row_step;
    d->bi = g->patch.pos_step;
    d->om = (int64_t)STREAMS * LIPS_CONV_BLOCK;
    d->oj = LIPS_CONV_BLOCK;
    d->b = g->patch.data;
    for (int64_t j0 = 0; j0 < n; j0 += STREAMS) {
        d->bj = g->patch.at + j0;
        d->j = lips_conv_min(STREAMS, n - j0);
        k->conv->dot(d);
        for (int64_t m = 0; m < d->m; m++)
            k->conv->lane_sum((float *)a->dw + (o0 + m) * all + g->patch.c0 * rr + j0,
                              d->out + m * d->om, d->j, lanes);
    }
}

static void tile_bias(const lips_cpu_kernels *k, const lips_conv_args *a, const grad *g,
                      lips_conv_dot *d, int64_t o0, int64_t lanes)
{
    const int64_t zero = 0;
    d->b = g->ones;
    d->br = d->bi = 0;
    d->bj = &zero;
    d->j = 1;
    d->om = d->oj = LIPS_CONV_BLOCK;
    k->conv->dot(d);
    k->conv->lane_sum((float *)a->db + o0, d->out, d->m, lanes);
}

/* All outputs over output rows u0..u1-1, for the patch's chunk of channels. */
static void block(const lips_cpu_kernels *k, const lips_conv_args *a, const grad *g, const float *y,
                  int64_t u0, int64_t u1, int64_t lanes)
{
    const int64_t v = lips_conv_v(&a->y), tiles = lips_conv_ceil(a->y.c, LIPS_CONV_ROWS);
    const int64_t pixel = v * LIPS_CONV_BLOCK, chan = a->y.h * a->y.w * pixel;
    int64_t o0 = 0;
    for (int64_t t = 0; t < tiles; t++) {
        lips_conv_dot d = {.a = y + o0 * chan + u0 * a->y.w * pixel,
                           .out = g->tile,
                           .m = lips_conv_part(a->y.c, tiles, t),
                           .rows = u1 - u0,
                           .cols = a->y.w,
                           .am = chan,
                           .ar = a->y.w * pixel,
                           .ai = pixel};
        if (a->db && g->patch.c0 == 0)
            tile_bias(k, a, g, &d, o0, lanes);
        if (a->dw)
            tile(k, a, g, &d, o0, lanes);
        o0 += d.m;
    }
}

void lips_conv_grad(const lips_cpu_kernels *k, const lips_conv_args *a)
{
    const int64_t slabs = lips_conv_slabs(&a->x), v = lips_conv_v(&a->x), blk = LIPS_CONV_BLOCK;
    grad g;
    lips_conv_arena mem = {.base = a->work};
    carve(&g, a, &mem);
    for (int64_t i = 0; i < blk; i++)
        g.ones[i] = 1.0f;
    for (int64_t s = 0; s < slabs; s++)
        for (int64_t q = 0; q < v; q++) {
            const int64_t lanes = a->x.b - s * a->x.lanes - q * blk;
            const float *x =
                (const float *)a->x.data + (s * lips_tensor_features(&a->x) * v + q) * blk;
            const float *y =
                (const float *)a->y.data + (s * lips_tensor_features(&a->y) * v + q) * blk;
            for (int64_t u0 = 0; lanes > 0 && u0 < a->y.h; u0 += g.patch.rows) {
                const int64_t u1 = lips_conv_min(a->y.h, u0 + g.patch.rows);
                for (int64_t c0 = 0; c0 < (a->dw ? a->x.c : 1); c0 += g.patch.chunk) {
                    if (a->dw)
                        lips_conv_patch_load(&g.patch, k, x, c0, u0, u1);
                    block(k, a, &g, y, u0, u1, lanes);
                }
            }
        }
}

/* Processor cycles per slab at 80 % of the limit (bench/conv.c). */
double lips_conv_grad_cost(const lips_conv_args *a)
{
    return (double)(a->y.c * a->x.c * a->geom.r * a->geom.r * a->y.h * a->y.w *
                    lips_conv_v(&a->y)) /
           (2 * 0.8);
}
