/*
 * Work split  stride 1: O_BLOCK output channels x two vectors of neighbouring pixels in registers
 *             (measure/correlate.h), over all input channels and taps of the zero-padded image. The
 *             transpose is the same correlation with the kernel turned round, channels exchanged
 *             and padding R - 1 - pad. Other strides, and padding beyond the kernel: plain loops.
 * Order       fixed by the shape, whatever the instruction set
 * Cost        2 O C R^2 OH OW flops, in whole blocks
 */
#include "measure/conv_map.h"

#include <stdlib.h>
#include <string.h>

enum { V_MAX = 8, O_BLOCK = 4 };

/* One correlation y[o] = sum_c w[o][c] * x[c], stride 1. */
typedef struct correlation {
    int64_t c, h, w;   /* input */
    int64_t o, oh, ow; /* output */
    int64_t r, pad;
    int64_t row; /* doubles from one padded row to the next: a block may read past the last pixel */
    double *weights; /* (O / O_BLOCK, C, R, R, O_BLOCK), zeros where there is no channel */
    double *padded;  /* (C, H + 2 pad, row) and V_MAX more; its border stays 0 */
} correlation;

struct lips_conv_map {
    lips_layer_info info;
    bool fast;
    correlation there, back; /* fast only */
    double *w;               /* (O,C,R,R), otherwise */
};

static int64_t weight_count(const correlation *k)
{
    return (k->o + O_BLOCK - 1) / O_BLOCK * k->c * k->r * k->r * O_BLOCK;
}

static int64_t padded_count(const correlation *k)
{
    return k->c * (k->h + 2 * k->pad) * k->row + V_MAX;
}

static lips_status correlation_take(correlation *k)
{
    k->weights = calloc((size_t)weight_count(k), sizeof(double));
    k->padded = calloc((size_t)padded_count(k), sizeof(double));
    if (!k->weights || !k->padded)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a convolution as an operator");
    return LIPS_OK;
}

static double *weight_at(const correlation *k, int64_t o, int64_t c, int64_t tap)
{
    return k->weights + (((o / O_BLOCK) * k->c + c) * k->r * k->r + tap) * O_BLOCK + o % O_BLOCK;
}

/* The map and its transpose as correlations, where they are such; without memory. */
static void describe(lips_conv_map *m, const lips_layer_info *g)
{
    int64_t r = g->geom.r;
    m->info = *g;
    m->fast = g->geom.stride == 1 && g->geom.pad < r;
    m->there = (correlation){.c = g->c,
                             .h = g->h,
                             .w = g->w,
                             .o = g->o,
                             .oh = g->oh,
                             .ow = g->ow,
                             .r = r,
                             .pad = g->geom.pad,
                             .row = (g->ow + V_MAX - 1) / V_MAX * V_MAX + r - 1};
    m->back = (correlation){.c = g->o,
                            .h = g->oh,
                            .w = g->ow,
                            .o = g->c,
                            .oh = g->h,
                            .ow = g->w,
                            .r = r,
                            .pad = r - 1 - g->geom.pad,
                            .row = (g->w + V_MAX - 1) / V_MAX * V_MAX + r - 1};
}

size_t lips_conv_map_bytes(const lips_layer_info *g)
{
    lips_conv_map m;
    describe(&m, g);
    int64_t count = m.fast ? weight_count(&m.there) + padded_count(&m.there) +
                                 weight_count(&m.back) + padded_count(&m.back)
                           : g->o * g->c * g->geom.r * g->geom.r;
    return sizeof m + (size_t)count * sizeof(double);
}

lips_status lips_conv_map_create(lips_conv_map **out, const lips_layer_info *g, const double *w)
{
    int64_t r = g->geom.r, taps = r * r;
    lips_status st = LIPS_OK;
    *out = NULL;
    lips_conv_map *m = calloc(1, sizeof *m);
    if (!m)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a convolution as an operator");
    describe(m, g);
    if (m->fast) {
        LIPS_TRY_GOTO(st, correlation_take(&m->there), out);
        LIPS_TRY_GOTO(st, correlation_take(&m->back), out);
        for (int64_t i = 0; i < g->o * g->c * taps; i++) {
            int64_t o = i / (g->c * taps), c = i / taps % g->c, tap = i % taps;
            *weight_at(&m->there, o, c, tap) = w[i];
            *weight_at(&m->back, c, o, taps - 1 - tap) = w[i];
        }
    } else {
        m->w = malloc((size_t)(g->o * g->c * taps) * sizeof *w);
        if (!m->w)
            LIPS_TRY_GOTO(st, lips_fail(LIPS_ERR_MEMORY, "out of memory for a convolution"), out);
        memcpy(m->w, w, (size_t)(g->o * g->c * taps) * sizeof *w);
    }
    *out = m;
    m = NULL;
out:
    lips_conv_map_free(m);
    return st;
}

void lips_conv_map_free(lips_conv_map *m)
{
    if (!m)
        return;
    free(m->there.weights), free(m->there.padded);
    free(m->back.weights), free(m->back.padded);
    free(m->w);
    free(m);
}

/* Where v neighbouring output pixels of a row start, and the padded input under their first tap. */
typedef struct place {
    const double *x;
    int64_t out, width; /* of the v, those that exist */
} place;

static place place_at(const correlation *k, int64_t v, int64_t i)
{
    int64_t blocks = (k->ow + v - 1) / v, oy = i / blocks, x0 = i % blocks * v;
    return (place){.x = k->padded + oy * k->row + x0,
                   .out = oy * k->ow + x0,
                   .width = k->ow - x0 < v ? k->ow - x0 : v};
}

_Static_assert(O_BLOCK == 4, "correlate.h names its sums");
#if defined(__x86_64__)
#define FN(name) name##_avx512
#define V 8
#define TARGET __attribute__((target("avx512f")))
#include "measure/correlate.h"
#undef FN
#undef V
#undef TARGET
#define FN(name) name##_avx2
#define V 4
#define TARGET __attribute__((target("avx2")))
#include "measure/correlate.h"
#undef FN
#undef V
#undef TARGET
#endif
#define FN(name) name##_base
#define V 2
#define TARGET
#include "measure/correlate.h"

static void correlate(const correlation *k, double *y, const double *x)
{
    int64_t ph = k->h + 2 * k->pad;
    for (int64_t row = 0; row < k->c * k->h; row++)
        memcpy(k->padded + (row / k->h * ph + row % k->h + k->pad) * k->row + k->pad,
               x + row * k->w, (size_t)k->w * sizeof *x);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        correlate_avx512(k, y);
        return;
    }
    if (__builtin_cpu_supports("avx2")) {
        correlate_avx2(k, y);
        return;
    }
#endif
    correlate_base(k, y);
}

/* Any stride and padding: every pair of an output pixel and a tap that lies inside the image. */
static void plain(const lips_conv_map *m, double *y, double *x, bool transposed)
{
    const lips_layer_info *g = &m->info;
    int64_t r = g->geom.r, s = g->geom.stride, pad = g->geom.pad;
    memset(transposed ? x : y, 0,
           (size_t)(transposed ? g->c * g->h * g->w : g->o * g->oh * g->ow) * sizeof *x);
    for (int64_t o = 0; o < g->o; o++)
        for (int64_t c = 0; c < g->c; c++)
            for (int64_t tap = 0; tap < r * r; tap++)
                for (int64_t oy = 0; oy < g->oh; oy++) {
                    int64_t iy = oy * s + tap / r - pad;
                    double w = m->w[(o * g->c + c) * r * r + tap];
                    double *to = y + (o * g->oh + oy) * g->ow, *from = x + (c * g->h + iy) * g->w;
                    if (iy < 0 || iy >= g->h)
                        continue;
                    for (int64_t ox = 0; ox < g->ow; ox++) {
                        int64_t ix = ox * s + tap % r - pad;
                        if (ix < 0 || ix >= g->w)
                            continue;
                        if (transposed)
                            from[ix] += w * to[ox];
                        else
                            to[ox] += w * from[ix];
                    }
                }
}

void lips_conv_map_apply(lips_conv_map *m, double *y, const double *x)
{
    if (m->fast)
        correlate(&m->there, y, x);
    else
        plain(m, y, (double *)(size_t)x, false);
}

void lips_conv_map_apply_t(lips_conv_map *m, double *x, const double *y)
{
    if (m->fast)
        correlate(&m->back, x, y);
    else
        plain(m, (double *)(size_t)y, x, true);
}
