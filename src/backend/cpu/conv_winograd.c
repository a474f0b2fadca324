/*
 * conv_winograd - forward and vjp of 3x3 convolutions of stride 1 by F(4x4, 3x3).
 *
 * Transforms (isa/conv_winograd.c) are arithmetic between whole blocks of lanes, and between them
 * run 36 matrix products of (O,C) by (C, tiles x 16 lanes) (isa/conv_gemm.c): 36 O C multiply-adds
 * per tile of 4x4 outputs and lane, against 144 O C of the direct way.
 *
 * Shapes     r = 3, stride 1, any padding and image (tiles at far edges are cut); v as in conv.h
 * Work split groups of P tiles, over slabs, rows, columns and stacked values; V of a group and M of
 *            a part of the outputs are sized for the second-level cache
 * Order      per output, channels ascending in one chain per frequency; the same for every P
 * Cost       36 O C multiply-adds, 144 C and 120 O for the transforms, per tile and lane
 * Proof      tests/ops/test_conv_cpu.c      Speed  bench/conv.c
 */
#include "backend/cpu/conv_winograd.h"

enum {
    GROUP = 12,               /* most tiles: the widest register tile */
    GROUP_BYTES = 640 * 1024, /* aim for V and M together */
    NARROW = 6,               /* fewest tiles: weights from the third-level cache serve so many */
    OUTS = 64,                /* outputs of a part then */
};

typedef struct wino {
    const lips_cpu_kernels *k;
    lips_conv_grid grid;
    const lips_tensor *mask;
    const float *w, *bias;
    bool relu;
    int64_t w_out, w_in;            /* floats between output and input channels of w */
    bool turned;                    /* vjp: taps are turned round */
    int64_t group;                  /* tiles at a time */
    int64_t panels, parts;          /* of outputs; parts of the panels, one at a time */
    int64_t wide;                   /* group, made odd: blocks between channels in V and M */
    int64_t v_freq, m_freq, u_freq; /* floats between frequencies */
    lips_conv_panel *panel;         /* (panels) in u */
    float *u;                       /* (36, panel, C, M) */
    float *taps;                    /* (9, C * 8) of one tile of outputs */
    float *vbuf, *mbuf;
    lips_conv_wino_tile *tile;
} wino;

lips_conv_grid lips_conv_grid_of(const lips_tensor *in, const lips_tensor *out, int64_t pad)
{
    return (lips_conv_grid){.in = *in,
                            .out = *out,
                            .pad = pad,
                            .v = lips_conv_v(in),
                            .m = in->lanes / LIPS_CONV_BLOCK,
                            .ty = lips_conv_ceil(out->h, LIPS_CONV_OUT),
                            .tx = lips_conv_ceil(out->w, LIPS_CONV_OUT)};
}

int64_t lips_conv_grid_tiles(const lips_conv_grid *g)
{
    return lips_conv_slabs(&g->in) * g->ty * g->tx * g->v;
}

lips_conv_wino_tile lips_conv_grid_at(const lips_conv_grid *g, int64_t i)
{
    const int64_t blk = LIPS_CONV_BLOCK, q = i % g->v, x = i / g->v % g->tx;
    const int64_t y = i / g->v / g->tx % g->ty, s = i / g->v / g->tx / g->ty;
    const int64_t iy = y * LIPS_CONV_OUT - g->pad, ix = x * LIPS_CONV_OUT - g->pad;
    const int64_t out = y * LIPS_CONV_OUT * g->out.w + x * LIPS_CONV_OUT;
    lips_conv_wino_tile t = {
        .in = ((s * lips_tensor_features(&g->in) + iy * g->in.w + ix) * g->v + q) * blk,
        .out = ((s * lips_tensor_features(&g->out) + out) * g->v + q) * blk,
        .mask = ((s * lips_tensor_features(&g->out) + out) * g->m + q % g->m) * blk,
        .y0 = lips_conv_max(0, -iy),
        .y1 = lips_conv_min(6, g->in.h - iy),
        .x0 = lips_conv_max(0, -ix),
        .x1 = lips_conv_min(6, g->in.w - ix),
        .ny = lips_conv_min(LIPS_CONV_OUT, g->out.h - y * LIPS_CONV_OUT),
        .nx = lips_conv_min(LIPS_CONV_OUT, g->out.w - x * LIPS_CONV_OUT)};
    t.whole = t.y0 == 0 && t.y1 == 6 && t.x0 == 0 && t.x1 == 6;
    return t;
}

static int64_t whole_blocks(int64_t n)
{
    return lips_conv_ceil(n, LIPS_CONV_BLOCK) * LIPS_CONV_BLOCK;
}

/* Tiles of a group, parts of the outputs. Few channels: as many tiles as fit the cache with all
 * outputs. Many: V and M go through the third-level cache anyway. (256 -> 128 channels, 8x8, T =
 * 10: 3, 6, 9 or 12 tiles and 1, 2 or 4 parts all take 8.5..9 ms of 32 ms; 512 -> 256: 38..48 ms.)
 */
static void plan(wino *p)
{
    const int64_t freq = LIPS_CONV_FREQ * LIPS_CONV_BLOCK * (int64_t)sizeof(float);
    const int64_t all = lips_conv_grid_tiles(&p->grid);
    p->panels = lips_conv_ceil(p->grid.out.c, LIPS_CONV_TILE);
    p->group = lips_conv_min(GROUP, GROUP_BYTES / (freq * (p->grid.in.c + p->grid.out.c)));
    p->parts = 1;
    if (p->group < NARROW) {
        p->group = NARROW;
        p->parts = lips_conv_ceil(p->grid.out.c, OUTS);
    }
    p->group = lips_conv_min(p->group, all);
    p->wide = lips_conv_grid_wide(p->group);
}

static void carve(wino *p, lips_conv_arena *mem)
{
    const int64_t blk = LIPS_CONV_BLOCK;
    const int64_t outs = lips_conv_part(p->panels, p->parts, 0) * LIPS_CONV_TILE;
    p->v_freq = (p->grid.in.c * p->wide + 1) * blk;
    p->m_freq = (outs * p->wide + 1) * blk;
    p->u_freq = 0;
    for (int64_t i = 0; i < p->panels; i++)
        p->u_freq += whole_blocks(p->grid.in.c * lips_conv_part(p->grid.out.c, p->panels, i));
    p->panel = lips_conv_take(mem, p->panels, sizeof *p->panel);
    p->u = lips_conv_take(mem, LIPS_CONV_FREQ * p->u_freq, sizeof(float));
    p->taps = lips_conv_take(mem, 9 * whole_blocks(p->grid.in.c * LIPS_CONV_TILE), sizeof(float));
    p->vbuf = lips_conv_take(mem, LIPS_CONV_FREQ * p->v_freq, sizeof(float));
    p->mbuf = lips_conv_take(mem, LIPS_CONV_FREQ * p->m_freq, sizeof(float));
    p->tile = lips_conv_take(mem, p->group, sizeof *p->tile);
}

static wino describe(lips_conv_op op, const lips_conv_args *a)
{
    const bool fwd = op == LIPS_CONV_FORWARD;
    wino p = {.w = a->w, .turned = !fwd};
    p.grid = fwd ? lips_conv_grid_of(&a->x, &a->y, a->geom.pad)
                 : lips_conv_grid_of(&a->y, &a->x, 2 - a->geom.pad);
    p.w_out = fwd ? a->x.c * 9 : 9;
    p.w_in = fwd ? 9 : a->x.c * 9;
    plan(&p);
    return p;
}

static void transform_weights(const wino *p)
{
    int64_t m0 = 0, at = 0;
    for (int64_t t = 0; t < p->panels; t++) {
        const int64_t m = lips_conv_part(p->grid.out.c, p->panels, t),
                      n = whole_blocks(p->grid.in.c * m);
        for (int64_t k = 0; k < 9; k++) {
            float *dst = p->taps + k * n;
            const float *w = p->w + m0 * p->w_out + (p->turned ? 8 - k : k);
            for (int64_t c = 0; c < p->grid.in.c; c++)
                for (int64_t i = 0; i < m; i++)
                    *dst++ = w[c * p->w_in + i * p->w_out];
            while (dst < p->taps + (k + 1) * n)
                *dst++ = 0;
        }
        p->k->conv->wino_weights(p->u + at, p->u_freq, p->taps, n, n);
        p->panel[t] = (lips_conv_panel){.m = m, .at = at};
        at += n;
        m0 += m;
    }
}

static int64_t outputs(const lips_conv_panel *panel, int64_t panels)
{
    int64_t n = 0;
    for (int64_t i = 0; i < panels; i++)
        n += panel[i].m;
    return n;
}

static void group(const wino *p, int64_t first, int64_t tiles)
{
    const int64_t blk = LIPS_CONV_BLOCK, pixel = p->grid.v * blk, mpixel = p->grid.m * blk;
    for (int64_t i = 0; i < tiles; i++)
        p->tile[i] = lips_conv_grid_at(&p->grid, first + i);
    lips_conv_wino w = {.tile = p->tile,
                        .tiles = tiles,
                        .channels = p->grid.in.c,
                        .x = p->grid.in.data,
                        .x_chan = p->grid.in.h * p->grid.in.w * pixel,
                        .x_row = p->grid.in.w * pixel,
                        .x_pixel = pixel,
                        .v = p->vbuf,
                        .v_freq = p->v_freq,
                        .v_chan = p->wide * blk};
    p->k->conv->wino_in(&w);
    const int64_t ochan = p->grid.out.h * p->grid.out.w;
    int64_t o0 = 0;
    const lips_conv_panel *panel = p->panel;
    for (int64_t part = 0; part < p->parts; part++) {
        const int64_t panels = lips_conv_part(p->panels, p->parts, part);
        const int64_t n = outputs(panel, panels);
        const lips_conv_gemm g = {.count = LIPS_CONV_FREQ,
                                  .panel = panel,
                                  .panels = panels,
                                  .w = p->u,
                                  .x = p->vbuf,
                                  .y = p->mbuf,
                                  .w_freq = p->u_freq,
                                  .x_freq = p->v_freq,
                                  .y_freq = p->m_freq,
                                  .channels = p->grid.in.c,
                                  .n = tiles,
                                  .x_chan = p->wide * blk,
                                  .y_chan = p->wide * blk};
        p->k->conv->gemm(&g);
        lips_conv_wino r = {.tile = p->tile,
                            .tiles = tiles,
                            .channels = n,
                            .x_chan = ochan * pixel,
                            .x_row = p->grid.out.w * pixel,
                            .x_pixel = pixel,
                            .v = p->mbuf,
                            .v_freq = p->m_freq,
                            .v_chan = p->wide * blk,
                            .y = (float *)p->grid.out.data + o0 * ochan * pixel,
                            .bias = p->bias ? p->bias + o0 : NULL,
                            .relu = p->relu,
                            .mask =
                                p->mask ? (const float *)p->mask->data + o0 * ochan * mpixel : NULL,
                            .mask_chan = ochan * mpixel,
                            .mask_row = p->grid.out.w * mpixel,
                            .mask_pixel = mpixel};
        p->k->conv->wino_out(&r);
        o0 += n;
        panel += panels;
    }
}

/* Processor cycles per slab, by rates measured with bench/conv.c on Zen 5 (512 -> 256 channels down
 * to 4 -> 8): matrix products at 80 % of the limit, 220 and 190 cycles for a channel of a tile
 * forth and back, 60 for a kernel, which serves about four slabs. */
double lips_conv_winograd_cost(lips_conv_op op, const lips_conv_args *a)
{
    const wino p = describe(op, a);
    const double c = (double)p.grid.in.c, o = (double)p.grid.out.c;
    const double tiles = (double)(p.grid.ty * p.grid.tx * p.grid.v);
    return tiles * (18 / 0.8 * c * o + 220 * c + 190 * o) + 60.0 / 4 * c * o;
}

size_t lips_conv_winograd_work(lips_conv_op op, const lips_conv_args *a)
{
    wino p = describe(op, a);
    lips_conv_arena mem = {0};
    carve(&p, &mem);
    return mem.used;
}

void lips_conv_winograd(const lips_cpu_kernels *k, lips_conv_op op, const lips_conv_args *a)
{
    wino p = describe(op, a);
    lips_conv_arena mem = {.base = a->work};
    carve(&p, &mem);
    p.k = k;
    p.bias = op == LIPS_CONV_FORWARD ? a->bias : NULL;
    p.relu = op == LIPS_CONV_FORWARD && a->relu;
    p.mask = op == LIPS_CONV_VJP ? a->mask : NULL;
    transform_weights(&p);
    const int64_t all = lips_conv_grid_tiles(&p.grid);
    for (int64_t i = 0; i < all; i += p.group)
        group(&p, i, lips_conv_min(p.group, all - i));
}
