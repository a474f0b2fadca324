/*
 * conv_apply - forward and vjp of a convolution by direct contraction (isa/conv_tile.c).
 *
 *   forward  y[o][p] = bias[o] + sum_{c,k} w[o][c][k] x[c][stride p + k - pad],  then relu
 *   vjp      x[c][p] = sum_{o,k} w[o][c][k] y[o][(p + pad - k) / stride],        then mask
 *
 * Both are the same correlation: the vjp of stride s falls into s x s phases (p modulo s), each a
 * correlation of stride 1 with every s-th tap, turned round, channels exchanged. Zero padding is
 * never stored: near a border, taps outside the input are left out, which saves their work.
 *
 * Shapes     any; t stacked values and lanes beyond 16 are one index of v blocks per pixel (conv.h)
 * Work split slab by slab. Few input channels: rows of the tensor are read in place, all v at once.
 *            Many: for each of the v, blocks of rows and channels are copied to scratch, so that
 *            power-of-two strides between channels do not fight for cache sets and the block stays
 *            in the second-level cache while all output channels use it
 * Order      per output c, ky, kx ascending; blocks of channels resume from the stored sum
 * Cost       2 O C R^2 flops per output pixel and lane, less what borders save
 * Proof      tests/ops/test_conv_cpu.c      Speed  bench/conv.c
 */
#include "backend/cpu/conv.h"

#include <string.h>

enum {
    PACK_CHANNELS = 16,      /* from so many input channels on, copy blocks */
    PACK_BYTES = 384 * 1024, /* aim of a block: a good part of a 1 MiB second-level cache */
    PACK_ROWS = 4,           /* rather fewer channels than fewer rows: rows overlap by R - 1 */
    VERTICAL_V = 4,          /* below so many blocks per pixel, border columns run downwards */
};

/* One dimension of a phase. Output u = 0..n-1 is at coordinate first + u*step; its tap k reads
 * input u*in_step + k - pad if that is in 0..in_n-1, with the weight at k0 + k*kstep. */
typedef struct axis {
    int64_t n, first, step;
    int64_t in_n, in_step, pad;
    int64_t taps, k0, kstep;
} axis;

typedef struct apply {
    const lips_cpu_kernels *k;
    lips_tensor in, out;
    const float *w;
    int64_t r, w_out, w_in; /* floats between output and input channels of w */
    const float *bias;
    const lips_tensor *mask;
    bool relu;
    int64_t v, m; /* blocks per pixel of in and out, of the mask */
    axis y, x;
    float *panel; /* weights of a phase, (tile of outputs, c, ky, kx, M) */
    float *scratch;
    int64_t *mask_pixel, *mask_row, *mask_col; /* offsets of positions: (ow*v), (oh), (ow) */
} apply;

/* The input of one call of emit: the tensor itself, or a copied block of it. */
typedef struct view {
    const float *in;          /* channel 0, row 0, pixel 0 of the input, first of the v used */
    int64_t chan, row, pixel; /* floats */
    int64_t c0, nc;           /* input channels */
    int64_t q0, v;            /* which of the blocks of a pixel */
    float *out;               /* slab of the output */
    const float *mask;        /* slab of the mask or NULL */
} view;

static axis forward_axis(const lips_conv_geom *g, int64_t in_n, int64_t out_n)
{
    return (axis){.n = out_n,
                  .step = 1,
                  .in_n = in_n,
                  .in_step = g->stride,
                  .pad = g->pad,
                  .taps = g->r,
                  .kstep = 1};
}

/* Phase f of the vjp: outputs f, f+s, ...; their taps are k0, k0+s, ..., last first. */
static axis vjp_axis(const lips_conv_geom *g, int64_t in_n, int64_t out_n, int64_t f)
{
    const int64_t s = g->stride, k0 = (f + g->pad) % s;
    const int64_t taps = k0 < g->r ? (g->r - k0 + s - 1) / s : 0;
    return (axis){.n = f < out_n ? (out_n - f + s - 1) / s : 0,
                  .first = f,
                  .step = s,
                  .in_n = in_n,
                  .in_step = 1,
                  .pad = taps - 1 - (f + g->pad - k0) / s,
                  .taps = taps,
                  .k0 = k0 + s * (taps - 1),
                  .kstep = -s};
}

/* Taps lo..hi-1 of output u are inside the input. */
static void clip(const axis *a, int64_t u, int64_t *lo, int64_t *hi)
{
    const int64_t at = u * a->in_step - a->pad;
    *lo = lips_conv_min(lips_conv_max(0, -at), a->taps);
    *hi = lips_conv_max(*lo, lips_conv_min(a->taps, a->in_n - at));
}

/* Outputs lo..hi-1 have all their taps inside. */
static void interior(const axis *a, int64_t *lo, int64_t *hi)
{
    const int64_t last = a->in_n + a->pad - a->taps;
    *lo = a->pad <= 0 ? 0 : lips_conv_min(a->n, lips_conv_ceil(a->pad, a->in_step));
    *hi = last < 0 ? *lo : lips_conv_min(a->n, last / a->in_step + 1);
    *hi = lips_conv_max(*lo, *hi);
}

static void pack_panel(const apply *p)
{
    const int64_t tiles = lips_conv_ceil(p->out.c, LIPS_CONV_TILE);
    float *dst = p->panel;
    int64_t m0 = 0;
    for (int64_t t = 0; t < tiles; t++) {
        const int64_t m = lips_conv_part(p->out.c, tiles, t);
        for (int64_t c = 0; c < p->in.c; c++)
            for (int64_t ky = 0; ky < p->y.taps; ky++)
                for (int64_t kx = 0; kx < p->x.taps; kx++) {
                    const float *w = p->w + m0 * p->w_out + c * p->w_in +
                                     (p->y.k0 + ky * p->y.kstep) * p->r + p->x.k0 + kx * p->x.kstep;
                    for (int64_t i = 0; i < m; i++)
                        *dst++ = w[i * p->w_out];
                }
        m0 += m;
    }
}

/* count output pixels from (uy,ux) on, to the right or down, whose taps are clipped alike. */
static void emit(const apply *p, const view *e, lips_conv_seg *s, int64_t m0, int64_t uy,
                 int64_t ux, int64_t count, bool down)
{
    const int64_t blk = LIPS_CONV_BLOCK, ow = p->out.w;
    int64_t ky0, ky1, kx0, kx1;
    clip(&p->y, uy, &ky0, &ky1);
    clip(&p->x, ux, &kx0, &kx1);
    const int64_t taps_x = p->x.taps, m = s->m;
    const int64_t pixel = (p->y.first + uy * p->y.step) * ow + p->x.first + ux * p->x.step;
    const int64_t step = down ? p->y.step * ow : p->x.step; /* output pixels */
    const int64_t out_chan = p->out.h * ow;
    const float *x = e->in + (uy * p->y.in_step + ky0 - p->y.pad) * e->row +
                     (ux * p->x.in_step + kx0 - p->x.pad) * e->pixel;
    float *y = e->out + ((m0 * out_chan + pixel) * p->v + e->q0) * blk;
    const float *mask = e->mask ? e->mask + (m0 * out_chan + pixel) * p->m * blk : NULL;

    s->ny = ky1 - ky0;
    s->nx = kx1 - kx0;
    s->w = p->panel + (m0 * p->in.c + e->c0 * m) * p->y.taps * taps_x + (ky0 * taps_x + kx0) * m;
    s->wy = taps_x * m;
    s->wc = p->y.taps * taps_x * m;
    s->nc = e->nc;
    s->xc = e->chan;
    s->xy = e->row;
    s->xx = e->pixel;
    s->yo = out_chan * p->v * blk;
    s->mo = out_chan * p->m * blk;
    if (count == 1 || (!down && p->x.step == 1 && p->x.in_step == 1 && e->v == p->v)) {
        /* All blocks of adjacent pixels are adjacent positions. */
        s->x = x;
        s->y = y;
        s->mask = mask;
        s->mask_at = p->mask_pixel;
        s->n = count * e->v;
        s->xpos = s->ypos = blk;
        p->k->conv->tile(s);
        return;
    }
    for (int64_t q = 0; q < e->v; q++) {
        s->x = x + q * blk;
        s->y = y + q * blk;
        s->mask = mask ? mask + (e->q0 + q) % p->m * blk : NULL;
        s->mask_at = down ? p->mask_row : p->mask_col;
        s->n = count;
        s->xpos = down ? p->y.in_step * e->row : p->x.in_step * e->pixel;
        s->ypos = step * p->v * blk;
        p->k->conv->tile(s);
    }
}

/* Output rows u0..u1-1 of all output channels from a view. */
static void rows(const apply *p, const view *e, int64_t u0, int64_t u1, bool first, bool last)
{
    int64_t xlo, xhi, ylo, yhi;
    interior(&p->x, &xlo, &xhi);
    interior(&p->y, &ylo, &yhi);
    ylo = lips_conv_min(lips_conv_max(ylo, u0), u1);
    yhi = lips_conv_max(ylo, lips_conv_min(yhi, u1));
    const bool down = e->v < VERTICAL_V && yhi - ylo > 1;
    const int64_t tiles = lips_conv_ceil(p->out.c, LIPS_CONV_TILE);
    int64_t m0 = 0;
    for (int64_t t = 0; t < tiles; t++) {
        lips_conv_seg s = {
            .m = lips_conv_part(p->out.c, tiles, t), .resume = !first, .relu = p->relu && last};
        s.bias = p->bias ? p->bias + m0 : NULL;
        view f = *e;
        if (!last)
            f.mask = NULL;
        for (int64_t uy = u0; uy < u1; uy++) {
            const bool by_row = !down || uy < ylo || uy >= yhi;
            for (int64_t ux = 0; ux < p->x.n; ux++) {
                if (ux == xlo && xlo < xhi) {
                    emit(p, &f, &s, m0, uy, ux, xhi - xlo, false);
                    ux = xhi - 1;
                } else if (by_row) {
                    emit(p, &f, &s, m0, uy, ux, 1, false);
                } else if (uy == ylo) {
                    emit(p, &f, &s, m0, uy, ux, yhi - ylo, true);
                }
            }
        }
        m0 += s.m;
    }
}

/* Channels per block and output rows per block of the copying path. */
static void block_size(int64_t c, const axis *y, int64_t iw, int64_t *nc, int64_t *nrows)
{
    const int64_t row = iw * LIPS_CONV_BLOCK * (int64_t)sizeof(float);
    const int64_t want = lips_conv_max(1, lips_conv_min(PACK_ROWS, y->n));
    const int64_t tall = (want - 1) * y->in_step + lips_conv_max(1, y->taps);
    int64_t parts = lips_conv_ceil(c, 64);
    while (lips_conv_ceil(c, parts) > PACK_CHANNELS &&
           lips_conv_ceil(c, parts) * tall * row > PACK_BYTES)
        parts++;
    *nc = lips_conv_ceil(c, parts);
    const int64_t fit = PACK_BYTES / (*nc * row) - lips_conv_max(1, y->taps);
    *nrows = lips_conv_max(1, lips_conv_min(y->n, fit < 0 ? 1 : fit / y->in_step + 1));
}

/* Floats of a block; one more 64-byte line between channels, so that strides are odd. */
static int64_t block_floats(int64_t nc, int64_t nrows, const axis *y, int64_t iw)
{
    const int64_t tall = (nrows - 1) * y->in_step + lips_conv_max(1, y->taps);
    return nc * (tall * iw + 1) * LIPS_CONV_BLOCK;
}

static bool copies(const lips_tensor *in, const axis *y)
{
    return in->c >= PACK_CHANNELS && y->taps > 0;
}

/* Copies the input rows that outputs u0..u1-1 use; returns where row 0 of the input would be. */
static const float *copy_block(const apply *p, const float *in, int64_t q, int64_t c0, int64_t nc,
                               int64_t u0, int64_t u1, int64_t *chan)
{
    const int64_t ih = p->in.h, iw = p->in.w, blk = LIPS_CONV_BLOCK;
    const int64_t lo = lips_conv_min(ih, lips_conv_max(0, u0 * p->y.in_step - p->y.pad));
    const int64_t end = (u1 - 1) * p->y.in_step - p->y.pad + p->y.taps;
    const int64_t hi = lips_conv_max(lo, lips_conv_min(ih, end));
    *chan = ((hi - lo) * iw + 1) * blk;
    for (int64_t c = 0; c < nc; c++)
        p->k->conv->pack(p->scratch + c * *chan, in + (((c0 + c) * ih + lo) * iw * p->v + q) * blk,
                         (hi - lo) * iw, p->v * blk);
    return p->scratch - lo * iw * blk;
}

static void slab_by_blocks(const apply *p, const float *in, view *e)
{
    int64_t nc, nrows;
    block_size(p->in.c, &p->y, p->in.w, &nc, &nrows);
    e->v = 1;
    e->pixel = LIPS_CONV_BLOCK;
    e->row = p->in.w * LIPS_CONV_BLOCK;
    for (e->q0 = 0; e->q0 < p->v; e->q0++)
        for (int64_t u0 = 0; u0 < p->y.n; u0 += nrows) {
            const int64_t u1 = lips_conv_min(p->y.n, u0 + nrows);
            for (e->c0 = 0; e->c0 < p->in.c; e->c0 += nc) {
                e->nc = lips_conv_min(nc, p->in.c - e->c0);
                e->in = copy_block(p, in, e->q0, e->c0, e->nc, u0, u1, &e->chan);
                rows(p, e, u0, u1, e->c0 == 0, e->c0 + e->nc == p->in.c);
            }
        }
}

static void slab_in_place(const apply *p, const float *in, view *e)
{
    e->in = in;
    e->v = p->v;
    e->pixel = p->v * LIPS_CONV_BLOCK;
    e->row = p->in.w * e->pixel;
    e->chan = p->in.h * e->row;
    e->nc = p->in.c;
    for (int64_t u0 = 0; u0 < p->y.n; u0 += PACK_ROWS)
        rows(p, e, u0, lips_conv_min(p->y.n, u0 + PACK_ROWS), true, true);
}

static void phase(apply *p)
{
    const int64_t blk = LIPS_CONV_BLOCK;
    if (p->y.n == 0 || p->x.n == 0)
        return;
    pack_panel(p);
    for (int64_t q = 0; q < p->out.w * p->v; q++)
        p->mask_pixel[q] = (q / p->v * p->m + q % p->v % p->m) * blk;
    for (int64_t i = 0; i < p->x.n; i++)
        p->mask_col[i] = i * p->x.step * p->m * blk;
    for (int64_t i = 0; i < p->y.n; i++)
        p->mask_row[i] = i * p->y.step * p->out.w * p->m * blk;
    const int64_t slabs = lips_conv_slabs(&p->out);
    for (int64_t s = 0; s < slabs; s++) {
        const float *in = (const float *)p->in.data + s * lips_tensor_features(&p->in) * p->v * blk;
        view e = {.out = (float *)p->out.data + s * lips_tensor_features(&p->out) * p->v * blk};
        if (p->mask)
            e.mask = (const float *)p->mask->data + s * lips_tensor_features(&p->out) * p->m * blk;
        if (copies(&p->in, &p->y))
            slab_by_blocks(p, in, &e);
        else
            slab_in_place(p, in, &e);
    }
}

static void carve(apply *p, lips_conv_arena *mem, int64_t r)
{
    p->panel = lips_conv_take(mem, p->in.c * p->out.c * r * r, sizeof(float));
    p->mask_pixel = lips_conv_take(mem, p->out.w * p->v, sizeof(int64_t));
    p->mask_row = lips_conv_take(mem, p->out.h, sizeof(int64_t));
    p->mask_col = lips_conv_take(mem, p->out.w, sizeof(int64_t));
}

static apply describe(lips_conv_op op, const lips_conv_args *a)
{
    const int64_t rr = a->geom.r * a->geom.r;
    const bool fwd = op == LIPS_CONV_FORWARD;
    apply p = {.w = a->w, .r = a->geom.r, .v = lips_conv_v(&a->x)};
    p.in = fwd ? a->x : a->y;
    p.out = fwd ? a->y : a->x;
    p.w_out = fwd ? a->x.c * rr : rr;
    p.w_in = fwd ? rr : a->x.c * rr;
    p.m = p.out.lanes / LIPS_CONV_BLOCK;
    return p;
}

/* Axes of phase (fy,fx); forward has the one phase (0,0). */
static void set_phase(apply *p, lips_conv_op op, const lips_conv_geom *g, int64_t fy, int64_t fx)
{
    if (op == LIPS_CONV_FORWARD) {
        p->y = forward_axis(g, p->in.h, p->out.h);
        p->x = forward_axis(g, p->in.w, p->out.w);
    } else {
        p->y = vjp_axis(g, p->in.h, p->out.h, fy);
        p->x = vjp_axis(g, p->in.w, p->out.w, fx);
    }
}

/* Taps of all outputs along an axis that are inside the input. */
static double taps_inside(const axis *a)
{
    double sum = 0;
    for (int64_t u = 0; u < a->n; u++) {
        int64_t lo, hi;
        clip(a, u, &lo, &hi);
        sum += (double)(hi - lo);
    }
    return sum;
}

/* Processor cycles per slab at 90 % of the limit: two multiply-adds of a block per cycle. */
double lips_conv_apply_cost(lips_conv_op op, const lips_conv_args *a)
{
    apply p = describe(op, a);
    set_phase(&p, op, &a->geom, 0, 0);
    return taps_inside(&p.y) * taps_inside(&p.x) * (double)(p.in.c * p.out.c * p.v) / (2 * 0.9);
}

size_t lips_conv_apply_work(lips_conv_op op, const lips_conv_args *a)
{
    apply p = describe(op, a);
    lips_conv_arena mem = {0};
    carve(&p, &mem, a->geom.r);
    const int64_t phases = op == LIPS_CONV_FORWARD ? 1 : a->geom.stride;
    int64_t most = 0;
    for (int64_t fy = 0; fy < phases; fy++) {
        set_phase(&p, op, &a->geom, fy, 0);
        if (p.y.n == 0 || !copies(&p.in, &p.y))
            continue;
        int64_t nc, nrows;
        block_size(p.in.c, &p.y, p.in.w, &nc, &nrows);
        most = lips_conv_max(most, block_floats(nc, nrows, &p.y, p.in.w));
    }
    lips_conv_take(&mem, most, sizeof(float));
    return mem.used;
}

void lips_conv_apply(const lips_cpu_kernels *k, lips_conv_op op, const lips_conv_args *a)
{
    apply p = describe(op, a);
    lips_conv_arena mem = {.base = a->work};
    carve(&p, &mem, a->geom.r);
    p.scratch = lips_conv_take(&mem, 0, sizeof(float));
    p.k = k;
    p.bias = op == LIPS_CONV_FORWARD ? a->bias : NULL;
    p.relu = op == LIPS_CONV_FORWARD && a->relu;
    p.mask = op == LIPS_CONV_VJP ? a->mask : NULL;
    const int64_t phases = op == LIPS_CONV_FORWARD ? 1 : a->geom.stride;
    for (int64_t fy = 0; fy < phases; fy++)
        for (int64_t fx = 0; fx < phases; fx++) {
            set_phase(&p, op, &a->geom, fy, fx);
            phase(&p);
        }
}
