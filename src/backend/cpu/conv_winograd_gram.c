/*
 * conv_winograd_gram - Gram matrix of the parameter Jacobian of 3x3 convolutions of stride 1 per
 * sample (lanes are samples), the gradients through F(4x4,3x3) (conv_winograd_grad.c).
 *
 *   dW_t = G' [ sum over tiles of (A y_t A') . (B' x B) ] G,   theta[t][t'] += <dW_t, dW_t'>
 *
 * Shapes     r = 3, stride 1, any padding, t and image; theta (B,T,T) f64, symmetric to the bit
 * Work split 16 samples; B'xB of as many channels as the third-level cache holds; then some outputs
 *            at a time A y A' of all t, and for chunks of channels their inner products over the
 *            tiles (isa/conv_dot.c), which stay in the second-level cache while they become the 9
 *            taps and these their products with each other
 * Precision  f32; chains of the tiles of an image, then of at most about CHAIN products; their sums
 *            in f64
 * Order      fixed by the shapes
 * Cost       T tiles 36 O C multiply-adds against T H W 9 O C of the direct way; per (t,o,c) 100
 *            cycles for the taps and 7 T multiply-adds; per (t,o) and tile the transform
 * Proof      tests/ops/test_conv_cpu.c      Speed  bench/conv.c
 * History    Groups of 8, 16 or 32 tiles, whose transforms stay in the second-level cache while
 *            their inner products are added to: 5.5, 4.7, 4.3 ms for 16 -> 32 channels of 32x32,
 *            T = 10, against 3.9 ms for whole images, so dropped.
 */
#include "backend/cpu/conv_winograd.h"

enum {
    CHAIN = 64,              /* f32 products added before going to f64 */
    SUMS_BYTES = 512 * 1024, /* aim for the inner products: half a second-level cache */
    CHANNELS = 16,           /* most of them at a time, and */
    CHANNELS_MIN = 4,        /* fewest, however many t there are: a register tile's width */
    INPUT_BYTES = 12 << 20,  /* most of the input's transform at a time: a third-level cache */
    OUTPUT_BYTES = 16 << 20, /* most of one output's transform for this to be worth while */
};

typedef struct wgram {
    lips_conv_grid in, out;               /* of the input; of the cotangents, t values per pixel */
    int64_t tiles;                        /* of one image */
    int64_t wide;                         /* blocks between channels of x */
    int64_t passes, input;                /* over the input's channels, so many each */
    int64_t outs, chans;                  /* outputs and channels whose products are held */
    int64_t x_freq, y_freq, u_freq;       /* floats between frequencies */
    int64_t y_out;                        /* floats between outputs of y */
    float *x;                             /* (36, input, wide) blocks */
    float *y;                             /* (36, outs, tiles, T) */
    float *u;                             /* (36, outs, T, chans), then the taps (9, ..) */
    float *tt;                            /* (T, T) */
    int64_t *at_x;                        /* (chans) offsets of channels in x */
    int64_t *at_t;                        /* (T) offsets of cotangents in u */
    double *acc;                          /* (T, T, 16) */
    lips_conv_wino_tile *x_tile, *y_tile; /* (tiles), (tiles, T) */
} wgram;

static wgram plan(const lips_conv_args *a, lips_conv_arena *mem)
{
    const int64_t blk = LIPS_CONV_BLOCK, t = a->y.t;
    const int64_t freq = LIPS_CONV_FREQ * blk * (int64_t)sizeof(float);
    lips_tensor x = a->x, y = a->y;
    x.t = t;
    y.t = 1;
    wgram w = {.in = lips_conv_grid_of(&a->x, &y, a->geom.pad),
               .out = lips_conv_grid_of(&x, &a->y, a->geom.pad)};
    w.tiles = w.in.ty * w.in.tx;
    w.wide = lips_conv_grid_wide(w.tiles);
    w.passes = lips_conv_ceil(a->x.c, lips_conv_max(1, INPUT_BYTES / (freq * w.wide)));
    w.input = lips_conv_ceil(a->x.c, w.passes);
    const int64_t most = lips_conv_max(1, SUMS_BYTES / (freq * t));
    const int64_t chans = lips_conv_min(CHANNELS, lips_conv_max(CHANNELS_MIN, most));
    w.chans = lips_conv_ceil(w.input, lips_conv_ceil(w.input, chans));
    w.outs = lips_conv_min(lips_conv_min(a->y.c, LIPS_CONV_ROWS), lips_conv_max(1, most / w.chans));
    w.x_freq = (w.input * w.wide + 1) * blk;
    w.y_out = lips_conv_grid_wide(w.tiles * t) * blk;
    w.y_freq = w.outs * w.y_out + blk;
    w.u_freq = (w.outs * t * w.chans + 1) * blk;
    w.x = lips_conv_take(mem, LIPS_CONV_FREQ * w.x_freq, sizeof(float));
    w.y = lips_conv_take(mem, LIPS_CONV_FREQ * w.y_freq, sizeof(float));
    w.u = lips_conv_take(mem, LIPS_CONV_FREQ * w.u_freq, sizeof(float));
    w.tt = lips_conv_take(mem, t * t * blk, sizeof(float));
    w.at_x = lips_conv_take(mem, w.chans, sizeof(int64_t));
    w.at_t = lips_conv_take(mem, t, sizeof(int64_t));
    w.acc = lips_conv_take(mem, t * t * blk, sizeof(double));
    w.x_tile = lips_conv_take(mem, w.tiles, sizeof *w.x_tile);
    w.y_tile = lips_conv_take(mem, w.tiles * t, sizeof *w.y_tile);
    return w;
}

size_t lips_conv_winograd_gram_work(const lips_conv_args *a)
{
    lips_conv_arena mem = {0};
    plan(a, &mem);
    return mem.used;
}

/* The tiles of block q of slab s: of the input, and of the cotangents t by t. */
static void find_tiles(const wgram *w, int64_t s, int64_t q)
{
    const int64_t t = w->out.out.t;
    for (int64_t i = 0; i < w->tiles; i++)
        w->x_tile[i] = lips_conv_grid_at(&w->in, (s * w->tiles + i) * w->in.v + q);
    for (int64_t i = 0; i < w->tiles * t; i++)
        w->y_tile[i] =
            lips_conv_grid_at(&w->out, (s * w->tiles + i / t) * w->out.v + i % t * w->in.v + q);
}

/* B'xB of channels c0..c0+n-1. */
static void transform_input(const lips_cpu_kernels *k, const wgram *w, int64_t c0, int64_t n)
{
    const lips_tensor *x = &w->in.in;
    const int64_t pixel = w->in.v * LIPS_CONV_BLOCK, chan = x->h * x->w * pixel;
    k->conv->wino_in(&(lips_conv_wino){.tile = w->x_tile,
                                       .tiles = w->tiles,
                                       .channels = n,
                                       .x = (const float *)x->data + c0 * chan,
                                       .x_chan = chan,
                                       .x_row = x->w * pixel,
                                       .x_pixel = pixel,
                                       .v = w->x,
                                       .v_freq = w->x_freq,
                                       .v_chan = w->wide * LIPS_CONV_BLOCK});
}

/* A y A' of outputs o0..o0+n-1, all t. */
static void transform_outputs(const lips_cpu_kernels *k, const wgram *w, int64_t o0, int64_t n)
{
    const lips_tensor *y = &w->out.out;
    const int64_t pixel = w->out.v * LIPS_CONV_BLOCK, chan = y->h * y->w * pixel;
    k->conv->wino_dy(&(lips_conv_wino){.tile = w->y_tile,
                                       .tiles = w->tiles * y->t,
                                       .channels = n,
                                       .x = (const float *)y->data + o0 * chan,
                                       .x_chan = chan,
                                       .x_row = y->w * pixel,
                                       .x_pixel = pixel,
                                       .v = w->y,
                                       .v_freq = w->y_freq,
                                       .v_chan = w->y_out});
}

/* u[f][o][t][c] = sum over tiles of y[f][o][tile][t] x[f][c][tile], nc channels from c0 on. Tiles
 * of registers need several streams of y: all t of one output, or one t of all outputs. */
static void inner_products(const lips_cpu_kernels *k, const wgram *w, int64_t outs, int64_t c0,
                           int64_t nc)
{
    const int64_t blk = LIPS_CONV_BLOCK, t = w->out.out.t, out = t * nc * blk;
    const bool by_output = t >= outs;
    lips_conv_dot d = {.m = by_output ? t : outs,
                       .j = nc,
                       .rows = 1,
                       .cols = w->tiles,
                       .am = by_output ? blk : w->y_out,
                       .ai = t * blk,
                       .bj = w->at_x,
                       .bi = blk,
                       .om = by_output ? nc * blk : out,
                       .oj = blk};
    for (int64_t f = 0; f < LIPS_CONV_FREQ; f++)
        for (int64_t i = 0; i < (by_output ? outs : t); i++) {
            d.a = w->y + f * w->y_freq + i * (by_output ? w->y_out : blk);
            d.b = w->x + f * w->x_freq + c0 * w->wide * blk;
            d.out = w->u + f * w->u_freq + i * (by_output ? out : nc * blk);
            k->conv->dot(&d);
        }
}

/* acc += the products of the taps g[tap][o][t][c] of different t with each other, over tap, o, c.
 */
static void tap_products(const lips_cpu_kernels *k, const wgram *w, int64_t outs, int64_t nc)
{
    const int64_t blk = LIPS_CONV_BLOCK, t = w->out.out.t, taps = lips_conv_max(1, CHAIN / nc);
    for (int64_t i = 0; i < t; i++)
        w->at_t[i] = i * nc * blk;
    for (int64_t o = 0; o < outs; o++)
        for (int64_t i = 0; i < 9; i += taps)
            lips_conv_gram_rows(k,
                                &(lips_conv_gram_sum){.v = w->u + i * w->u_freq + o * t * nc * blk,
                                                      .at = w->at_t,
                                                      .t = t,
                                                      .rows = lips_conv_min(taps, 9 - i),
                                                      .cols = nc,
                                                      .row_step = w->u_freq,
                                                      .tt = w->tt,
                                                      .acc = w->acc});
}

/* Input channels first..first+n-1 of the pass against all outputs. */
static void run_pass(const lips_cpu_kernels *k, const wgram *w, int64_t first, int64_t n)
{
    const int64_t o = w->out.out.c, t = w->out.out.t;
    transform_input(k, w, first, n);
    for (int64_t o0 = 0; o0 < o; o0 += w->outs) {
        const int64_t outs = lips_conv_min(w->outs, o - o0);
        transform_outputs(k, w, o0, outs);
        for (int64_t c0 = 0; c0 < n; c0 += w->chans) {
            const int64_t nc = lips_conv_min(w->chans, n - c0);
            inner_products(k, w, outs, c0, nc);
            k->conv->wino_taps(w->u, w->u_freq, w->u, w->u_freq, outs * t * nc * LIPS_CONV_BLOCK);
            tap_products(k, w, outs, nc);
        }
    }
}

void lips_conv_winograd_gram(const lips_cpu_kernels *k, const lips_conv_args *a)
{
    const int64_t blk = LIPS_CONV_BLOCK, t = a->y.t;
    lips_conv_arena mem = {.base = a->work};
    const wgram w = plan(a, &mem);
    for (int64_t c = 0; c < w.chans; c++)
        w.at_x[c] = c * w.wide * blk;
    for (int64_t b0 = 0; b0 < a->y.b; b0 += blk) {
        for (int64_t i = 0; i < t * t * blk; i++)
            w.acc[i] = 0;
        find_tiles(&w, b0 / a->x.lanes, b0 % a->x.lanes / blk);
        for (int64_t c = 0; c < a->x.c; c += w.input)
            run_pass(k, &w, c, lips_conv_min(w.input, a->x.c - c));
        lips_conv_gram_give(a->theta + b0 * t * t, w.acc, t, a->y.b - b0);
    }
}

/* Processor cycles per 16 samples, by rates measured with bench/conv.c on Zen 5 (16 -> 32 channels
 * of 32x32 to 64 -> 128; 16x16): inner products at 62 % of the limit, 220 cycles for a tile of one
 * channel, 100 for the taps of an (o, c, t). */
double lips_conv_winograd_gram_cost(const lips_conv_args *a)
{
    lips_conv_arena mem = {0};
    const wgram w = plan(a, &mem);
    const double c = (double)a->x.c, o = (double)a->y.c, t = (double)a->y.t;
    const double tiles = (double)w.tiles, y = (double)w.y_freq * LIPS_CONV_FREQ * sizeof(float);
    if (y > OUTPUT_BYTES)
        return 1e300;
    return tiles * (18 / 0.62 * t * c * o + 220 * (c + t * o * (double)w.passes)) +
           t * o * c * (100 + 9 * 0.75 / (2 * 0.6) * t);
}
