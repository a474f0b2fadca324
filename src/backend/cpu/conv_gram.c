/*
 * conv_gram - Gram matrix of a convolution's parameter Jacobian per sample (lanes are samples).
 *
 *   theta[b][t][t'] += sum_{p,p'} <y_{t,p}, y_{t',p'}> <patch_p, patch_p'>   (ALGORITHMS.md)
 *
 * Shapes     any; theta (B,T,T) f64, symmetric to the bit
 * direct     the gradients dW_t of tiles of 6 outputs by some channels, all t, lanes apart; then
 *            sum_i dW_t[i] dW_t'[i]. Never more than one tile is stored. T P O C R^2 multiply-adds.
 * pixel      XX[q'][q] = <x_q', x_q>;  A[p'][p] = <patch_p', patch_p> = sum over taps of
 *            XX[p'+k][p+k];  Z[t][p'] = sum_p A[p'][p] y[o][p][t];  theta += Z[t][p'] y[o][p'][t'].
 *            A is symmetric: only rows of pixels p up to that of p' are formed, those before
 *            it doubled, and theta is symmetrised at the end. About (HW)^2 C / 2 + T P^2 O / 2
 *            multiply-adds.
 * Precision  products in f32 chains of at most about CHAIN, their sums in f64; dW_t in f32
 * Order      fixed by the shapes
 * Proof      tests/ops/test_conv_cpu.c      Speed  bench/conv.c
 */
#include "backend/cpu/conv.h"
#include "backend/cpu/conv_patch.h"

enum {
    POSITIONS = 64,          /* as in conv_grad.c */
    CHAIN = 64,              /* f32 products added before going to f64 */
    TILE_BYTES = 256 * 1024, /* gradients of one tile, all t */
    CHANNELS = 32,           /* of pixels at a time: 8 pixels are 16 KiB */
    PIXEL_BYTES = 16 << 20,  /* most scratch for the pixel Gram: half a third-level cache */
};

void lips_conv_gram_give(double *theta, const double *acc, int64_t t, int64_t lanes)
{
    for (int64_t l = 0; l < lips_conv_min(lanes, LIPS_CONV_BLOCK); l++)
        for (int64_t i = 0; i < t; i++)
            for (int64_t j = 0; j < t; j++)
                theta[(l * t + i) * t + j] += 0.5 * (acc[(i * t + j) * LIPS_CONV_BLOCK + l] +
                                                     acc[(j * t + i) * LIPS_CONV_BLOCK + l]);
}

void lips_conv_gram_rows(const lips_cpu_kernels *k, const lips_conv_gram_sum *s)
{
    const int64_t blk = LIPS_CONV_BLOCK, parts = lips_conv_ceil(s->t, LIPS_CONV_ROWS);
    int64_t t0 = 0;
    for (int64_t p = 0; p < parts; p++) {
        const int64_t m = lips_conv_part(s->t, parts, p), n = s->t - t0;
        const lips_conv_dot d = {.a = s->v + s->at[t0],
                                 .b = s->v,
                                 .m = m,
                                 .j = n,
                                 .rows = s->rows,
                                 .cols = s->cols,
                                 .am = s->t > 1 ? s->at[1] - s->at[0] : 0,
                                 .ar = s->row_step,
                                 .ai = blk,
                                 .bj = s->at + t0,
                                 .br = s->row_step,
                                 .bi = blk,
                                 .out = s->tt,
                                 .om = n * blk,
                                 .oj = blk};
        k->conv->dot(&d);
        for (int64_t i = 0; i < m; i++) {
            double *row = s->acc + ((t0 + i) * s->t + t0) * blk;
            const float *v = s->tt + i * d.om;
            k->conv->widen(row, v, n * blk);
            /* What lies right of the tile stands for its mirror image too (lips_conv_gram_give). */
            k->conv->widen(row + m * blk, v + m * blk, (n - m) * blk);
        }
        t0 += m;
    }
}

typedef struct direct {
    lips_conv_patch patch;
    int64_t n;       /* gradients per output and cotangent in a tile: chunk * R * R */
    int64_t dy_step; /* floats from output channel to output channel in dy */
    float *dy;       /* (6, rows*ow) of one cotangent, copied: its stride is that of no cache */
    float *g;        /* (T, 6, n) blocks */
    float *tt;       /* (T, T) blocks */
    int64_t *at;     /* (T) offsets of the cotangents in g */
    double *acc;     /* (T, T, 16) */
} direct;

static void direct_carve(direct *d, const lips_conv_args *a, lips_conv_arena *mem)
{
    const int64_t t = a->y.t, rr = a->geom.r * a->geom.r, blk = LIPS_CONV_BLOCK;
    const int64_t tile = lips_conv_min(LIPS_CONV_ROWS, a->y.c);
    lips_conv_arena none = {0};
    lips_conv_patch_init(&d->patch, &a->x, &a->y, &a->geom, POSITIONS, &none);
    const int64_t most = TILE_BYTES / (t * tile * rr * blk * (int64_t)sizeof(float));
    lips_tensor x = a->x;
    x.c = lips_conv_min(d->patch.chunk, lips_conv_max(1, most));
    lips_conv_patch_init(&d->patch, &x, &a->y, &a->geom, POSITIONS, mem);
    d->patch.x.c = a->x.c;
    d->n = d->patch.chunk * rr;
    d->dy_step = (d->patch.rows * a->y.w + 1) * blk;
    d->dy = lips_conv_take(mem, tile * d->dy_step, sizeof(float));
    d->g = lips_conv_take(mem, t * tile * d->n * blk, sizeof(float));
    d->tt = lips_conv_take(mem, t * t * blk, sizeof(float));
    d->at = lips_conv_take(mem, t, sizeof(int64_t));
    d->acc = lips_conv_take(mem, t * t * blk, sizeof(double));
}

size_t lips_conv_gram_direct_work(const lips_conv_args *a)
{
    direct d;
    lips_conv_arena mem = {0};
    direct_carve(&d, a, &mem);
    return mem.used;
}

/* g[t][m][j] (+)= the gradients of outputs o0.. for the patch's channels over rows u0..u1-1. */
static void direct_rows(const lips_cpu_kernels *k, const lips_conv_args *a, const direct *w,
                        const float *y, int64_t o0, int64_t m, int64_t u0, int64_t u1)
{
    const int64_t blk = LIPS_CONV_BLOCK, pixel = lips_conv_v(&a->y) * blk, ow = a->y.w;
    const int64_t n = w->patch.nc * a->geom.r * a->geom.r, lane_step = a->y.lanes;
    lips_conv_dot d = {.a = w->dy,
                       .b = w->patch.data,
                       .m = m,
                       .j = n,
                       .rows = u1 - u0,
                       .cols = ow,
                       .am = w->dy_step,
                       .ar = ow * blk,
                       .ai = blk,
                       .bj = w->patch.at,
                       .br = w->patch.row_step,
                       .bi = w->patch.pos_step,
                       .om = n * blk,
                       .oj = blk,
                       .resume = u0 > 0};
    for (int64_t t = 0; t < a->y.t; t++) {
        for (int64_t i = 0; i < m; i++)
            k->conv->pack(w->dy + i * w->dy_step,
                          y + ((o0 + i) * a->y.h + u0) * ow * pixel + t * lane_step, (u1 - u0) * ow,
                          pixel);
        d.out = w->g + t * m * n * blk;
        k->conv->dot(&d);
    }
}

/* acc[t][t'] += sum_i g[t][i] g[t'][i], i < n. */
static void direct_products(const lips_cpu_kernels *k, const direct *w, int64_t t, int64_t n)
{
    for (int64_t i = 0; i < t; i++)
        w->at[i] = i * n * LIPS_CONV_BLOCK;
    for (int64_t i0 = 0; i0 < n; i0 += CHAIN)
        lips_conv_gram_rows(k, &(lips_conv_gram_sum){.v = w->g + i0 * LIPS_CONV_BLOCK,
                                                     .at = w->at,
                                                     .t = t,
                                                     .rows = 1,
                                                     .cols = lips_conv_min(CHAIN, n - i0),
                                                     .tt = w->tt,
                                                     .acc = w->acc});
}

void lips_conv_gram_direct(const lips_cpu_kernels *k, const lips_conv_args *a)
{
    const int64_t blk = LIPS_CONV_BLOCK, t = a->y.t, vx = lips_conv_v(&a->x),
                  vy = lips_conv_v(&a->y);
    const int64_t tiles = lips_conv_ceil(a->y.c, LIPS_CONV_ROWS), slabs = lips_conv_slabs(&a->y);
    direct w;
    lips_conv_arena mem = {.base = a->work};
    direct_carve(&w, a, &mem);
    for (int64_t s = 0; s < slabs; s++)
        for (int64_t q = 0; q < vx; q++) {
            const int64_t b0 = s * a->x.lanes + q * blk;
            const float *x =
                (const float *)a->x.data + (s * lips_tensor_features(&a->x) * vx + q) * blk;
            const float *y =
                (const float *)a->y.data + (s * lips_tensor_features(&a->y) * vy + q) * blk;
            if (b0 >= a->y.b)
                break;
            for (int64_t i = 0; i < t * t * blk; i++)
                w.acc[i] = 0;
            for (int64_t c0 = 0; c0 < a->x.c; c0 += w.patch.chunk) {
                int64_t o0 = 0;
                for (int64_t p = 0; p < tiles; p++) {
                    const int64_t m = lips_conv_part(a->y.c, tiles, p);
                    for (int64_t u0 = 0; u0 < a->y.h; u0 += w.patch.rows) {
                        const int64_t u1 = lips_conv_min(a->y.h, u0 + w.patch.rows);
                        lips_conv_patch_load(&w.patch, k, x, c0, u0, u1);
                        direct_rows(k, a, &w, y, o0, m, u0, u1);
                    }
                    direct_products(k, &w, t, m * w.patch.nc * a->geom.r * a->geom.r);
                    o0 += m;
                }
            }
            lips_conv_gram_give(a->theta + b0 * t * t, w.acc, t, a->y.b - b0);
        }
}

double lips_conv_gram_direct_cost(const lips_conv_args *a)
{
    const double t = (double)a->y.t, ow = (double)(a->y.h * a->y.w);
    return t * (ow + 0.75 * t) * (double)(a->y.c * a->x.c * a->geom.r * a->geom.r);
}

typedef struct pixel {
    float *xt;       /* (HW, C) blocks: channels innermost */
    int64_t xt_step; /* floats from pixel to pixel */
    float *xx;       /* (HW, HW) blocks, columns up to the row's own image row */
    float *patch;    /* (OW, P) blocks: A for one row of pixels p' */
    float *z;        /* (T, OW) blocks */
    float *tt;       /* (T, T) blocks */
    float *weight;   /* (R, R) equal numbers */
    int64_t *at_x;   /* (HW) offsets of pixels in xt */
    int64_t *at_t;   /* (T) offsets of cotangents in y */
    double *acc;     /* (T, T, 16) */
} pixel;

static void pixel_carve(pixel *w, const lips_conv_args *a, lips_conv_arena *mem)
{
    const int64_t blk = LIPS_CONV_BLOCK, hw = a->x.h * a->x.w, t = a->y.t;
    w->xt_step = (a->x.c + 1) * blk;
    w->xt = lips_conv_take(mem, hw * w->xt_step, sizeof(float));
    w->xx = lips_conv_take(mem, hw * hw * blk, sizeof(float));
    w->patch = lips_conv_take(mem, a->y.w * (a->y.h * a->y.w + 1) * blk, sizeof(float));
    w->z = lips_conv_take(mem, t * a->y.w * blk, sizeof(float));
    w->tt = lips_conv_take(mem, t * t * blk, sizeof(float));
    w->weight = lips_conv_take(mem, a->geom.r * a->geom.r, sizeof(float));
    w->at_x = lips_conv_take(mem, hw, sizeof(int64_t));
    w->at_t = lips_conv_take(mem, t, sizeof(int64_t));
    w->acc = lips_conv_take(mem, t * t * blk, sizeof(double));
}

size_t lips_conv_gram_pixel_work(const lips_conv_args *a)
{
    pixel w;
    lips_conv_arena mem = {0};
    pixel_carve(&w, a, &mem);
    return mem.used;
}

/* xx[q'][q] = <x_q', x_q> for all q' and the q of image rows up to its own. */
static void pixel_gram(const lips_cpu_kernels *k, const lips_conv_args *a, const pixel *w,
                       const float *x)
{
    const int64_t blk = LIPS_CONV_BLOCK, hw = a->x.h * a->x.w, iw = a->x.w, c = a->x.c;
    const int64_t step = lips_conv_v(&a->x) * blk;
    for (int64_t q = 0; q < hw; q++) {
        k->conv->pack(w->xt + q * w->xt_step, x + q * step, c, hw * step);
        w->at_x[q] = q * w->xt_step;
    }
    for (int64_t y = 0; y < a->x.h; y++)
        for (int64_t c0 = 0; c0 < c; c0 += CHANNELS) {
            lips_conv_dot d = {.a = w->xt + y * iw * w->xt_step + c0 * blk,
                               .b = w->xt + c0 * blk,
                               .out = w->xx + y * iw * hw * blk,
                               .m = iw,
                               .j = (y + 1) * iw,
                               .rows = 1,
                               .cols = lips_conv_min(CHANNELS, c - c0),
                               .am = w->xt_step,
                               .ai = blk,
                               .bj = w->at_x,
                               .bi = blk,
                               .om = hw * blk,
                               .oj = blk,
                               .resume = c0 > 0};
            k->conv->dot(&d);
        }
}

/* Taps lo..hi-1 of both output coordinates u and u' read inside an input of n. */
static void clip2(const lips_conv_geom *g, int64_t n, int64_t u, int64_t u2, int64_t *lo,
                  int64_t *hi)
{
    const int64_t near = lips_conv_min(u, u2) * g->stride, far = lips_conv_max(u, u2) * g->stride;
    *lo = lips_conv_max(0, g->pad - near);
    *hi = lips_conv_max(*lo, lips_conv_min(g->r, n + g->pad - far));
}

/* One row of pixels p = (u,0..OW-1) of A[p'], p' = (v,vx): sums of xx over the taps both have. */
static void patch_row(const lips_cpu_kernels *k, const lips_conv_args *a, const pixel *w, int64_t v,
                      int64_t vx, int64_t u)
{
    const lips_conv_geom *g = &a->geom;
    const int64_t blk = LIPS_CONV_BLOCK, hw = a->x.h * a->x.w, iw = a->x.w, ow = a->y.w;
    int64_t ky0, ky1;
    clip2(g, a->x.h, u, v, &ky0, &ky1);
    for (int64_t i = 0; i < g->r * g->r; i++)
        w->weight[i] = u < v ? 2.0f : 1.0f;
    int64_t ux = 0;
    while (ux < ow) {
        int64_t kx0, kx1, lo, hi, end = ux + 1;
        clip2(g, iw, ux, vx, &kx0, &kx1);
        for (; end < ow; end++) {
            clip2(g, iw, end, vx, &lo, &hi);
            if (lo != kx0 || hi != kx1)
                break;
        }
        const int64_t row = (v * g->stride - g->pad + ky0) * iw + vx * g->stride - g->pad + kx0;
        const int64_t col = (u * g->stride - g->pad + ky0) * iw + ux * g->stride - g->pad + kx0;
        const lips_conv_seg s = {.x = w->xx + (row * hw + col) * blk,
                                 .w = w->weight,
                                 .m = 1,
                                 .n = end - ux,
                                 .nc = 1,
                                 .y = w->patch + (vx * (a->y.h * ow + 1) + u * ow + ux) * blk,
                                 .ny = ky1 - ky0,
                                 .nx = kx1 - kx0,
                                 .xy = iw * (hw + 1) * blk,
                                 .xx = (hw + 1) * blk,
                                 .xpos = g->stride * blk,
                                 .ypos = blk,
                                 .wy = kx1 - kx0};
        k->conv->tile(&s);
        ux = end;
    }
}

/* acc += sum over pixels p' of row v of Z[t][p'] y[o][p'][t'], over all outputs o. */
static void pixel_contract(const lips_cpu_kernels *k, const lips_conv_args *a, const pixel *w,
                           const float *y, int64_t v)
{
    const int64_t blk = LIPS_CONV_BLOCK, ow = a->y.w, t = a->y.t, p_all = a->y.h * ow;
    const int64_t step = lips_conv_v(&a->y) * blk, n = (v + 1) * ow;
    int64_t chain = 0;
    for (int64_t o = 0; o < a->y.c; o++) {
        const float *yo = y + o * p_all * step;
        for (int64_t p0 = 0; p0 < n; p0 += POSITIONS) {
            lips_conv_dot d = {.a = w->patch + p0 * blk,
                               .b = yo + p0 * step,
                               .out = w->z,
                               .m = ow,
                               .j = t,
                               .rows = 1,
                               .cols = lips_conv_min(POSITIONS, n - p0),
                               .am = (p_all + 1) * blk,
                               .ai = blk,
                               .bj = w->at_t,
                               .bi = step,
                               .om = blk,
                               .oj = ow * blk,
                               .resume = p0 > 0};
            k->conv->dot(&d);
        }
        lips_conv_dot d = {.a = w->z,
                           .b = yo + v * ow * step,
                           .out = w->tt,
                           .m = t,
                           .j = t,
                           .rows = 1,
                           .cols = ow,
                           .am = ow * blk,
                           .ai = blk,
                           .bj = w->at_t,
                           .bi = step,
                           .om = t * blk,
                           .oj = blk,
                           .resume = chain > 0};
        k->conv->dot(&d);
        chain += ow;
        if (chain >= CHAIN || o + 1 == a->y.c) {
            k->conv->widen(w->acc, w->tt, t * t * blk);
            chain = 0;
        }
    }
}

void lips_conv_gram_pixel(const lips_cpu_kernels *k, const lips_conv_args *a)
{
    const int64_t blk = LIPS_CONV_BLOCK, t = a->y.t, vx = lips_conv_v(&a->x),
                  vy = lips_conv_v(&a->y);
    const int64_t slabs = lips_conv_slabs(&a->y);
    pixel w;
    lips_conv_arena mem = {.base = a->work};
    pixel_carve(&w, a, &mem);
    for (int64_t i = 0; i < t; i++)
        w.at_t[i] = i * a->y.lanes;
    for (int64_t s = 0; s < slabs; s++)
        for (int64_t q = 0; q < vx; q++) {
            const int64_t b0 = s * a->x.lanes + q * blk;
            const float *x =
                (const float *)a->x.data + (s * lips_tensor_features(&a->x) * vx + q) * blk;
            const float *y =
                (const float *)a->y.data + (s * lips_tensor_features(&a->y) * vy + q) * blk;
            if (b0 >= a->y.b)
                break;
            for (int64_t i = 0; i < t * t * blk; i++)
                w.acc[i] = 0;
            pixel_gram(k, a, &w, x);
            for (int64_t v = 0; v < a->y.h; v++) {
                for (int64_t px = 0; px < a->y.w; px++)
                    for (int64_t u = 0; u <= v; u++)
                        patch_row(k, a, &w, v, px, u);
                pixel_contract(k, a, &w, y, v);
            }
            lips_conv_gram_give(a->theta + b0 * t * t, w.acc, t, a->y.b - b0);
        }
}

double lips_conv_gram_pixel_cost(const lips_conv_args *a)
{
    const double p = (double)(a->y.h * a->y.w), hw = (double)(a->x.h * a->x.w), t = (double)a->y.t;
    const double rr = (double)(a->geom.r * a->geom.r);
    if (lips_conv_gram_pixel_work(a) > PIXEL_BYTES)
        return 1e300;
    /* The patches' sums are bound by loads: two per multiply-add's time. */
    return 0.5 * hw * hw * (double)a->x.c + p * p * rr +
           (0.5 * p * p * t + p * t * t) * (double)a->y.c;
}
