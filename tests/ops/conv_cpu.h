/*
 * conv_cpu.h - convolutions for tests of the cpu backend's: data, tensors between guards, the plain
 * f64 loop, and a run whose bits must come out the same twice.
 */
#ifndef TESTS_OPS_CONV_CPU_H
#define TESTS_OPS_CONV_CPU_H

#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "backend/cpu/conv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOL 2e-6

enum { GUARD = 64 }; /* floats of a known value around every output */

typedef struct shape {
    int64_t c, o, h, w, r, stride, pad, t, b, lanes;
} shape;

typedef struct data {
    shape s;
    int64_t oh, ow, cap;
    double *x, *y, *w, *bias, *mask; /* (b,t,c,h,w) x; (b,t,o,oh,ow) y; (b,c,h,w) mask */
    bool whole;                      /* integers */
} data;

static const float poison = -12345.0f;

static float draw(bool whole, uint64_t key, uint64_t i)
{
    uint64_t z = (key * 0x9E3779B97F4A7C15u) ^ (i * 0xBF58476D1CE4E5B9u);
    z ^= z >> 31;
    z *= 0x94D049BB133111EBu;
    z ^= z >> 29;
    z *= 0xBF58476D1CE4E5B9u;
    z ^= z >> 32;
    if (whole)
        return (float)((int)(z % 5) - 2);
    return (float)((double)(z >> 11) * 0x1p-52 - 1.0);
}

static double *random_vector(bool whole, uint64_t key, int64_t n)
{
    double *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (double)draw(whole, key, (uint64_t)i);
    return v;
}

static data make(shape s, bool whole, bool stacked_x)
{
    data d = {.s = s, .whole = whole};
    d.oh = (s.h + 2 * s.pad - s.r) / s.stride + 1;
    d.ow = (s.w + 2 * s.pad - s.r) / s.stride + 1;
    d.cap = (s.b + s.lanes - 1) / s.lanes * s.lanes;
    d.x = random_vector(whole, 1, s.b * (stacked_x ? s.t : 1) * s.c * s.h * s.w);
    d.y = random_vector(whole, 2, s.b * s.t * s.o * d.oh * d.ow);
    d.w = random_vector(whole, 3, s.o * s.c * s.r * s.r);
    d.bias = random_vector(whole, 4, s.o);
    d.mask = random_vector(whole, 5, s.b * s.c * s.h * s.w);
    return d;
}

static void drop(data *d)
{
    free(d->x);
    free(d->y);
    free(d->w);
    free(d->bias);
    free(d->mask);
}

/* Memory of n floats between guards, all poison, 64-byte aligned. */
static float *guarded(int64_t n)
{
    const size_t bytes = ((size_t)n + 2 * GUARD) * sizeof(float);
    float *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(p);
    for (int64_t i = 0; i < n + 2 * GUARD; i++)
        p[i] = poison;
    return p + GUARD;
}

static void release(float *p, int64_t n)
{
    for (int i = 0; i < GUARD; i++) {
        assert_true(p[-1 - i] == poison);
        assert_true(p[n + i] == poison);
    }
    free(p - GUARD);
}

static int64_t reals(const lips_tensor *t)
{
    return t->cap * t->c * t->h * t->w * t->t;
}

static lips_tensor tensor(const data *d, int64_t c, int64_t h, int64_t w, int64_t t)
{
    lips_tensor v = {
        .cap = d->cap, .b = d->s.b, .c = c, .h = h, .w = w, .t = t, .lanes = d->s.lanes};
    v.data = guarded(reals(&v));
    return v;
}

static int64_t place(const lips_tensor *v, int64_t b, int64_t t, int64_t i)
{
    return ((b / v->lanes * lips_tensor_features(v) + i) * v->t + t) * v->lanes + b % v->lanes;
}

/* src (b,t,features); places beyond b keep the poison, which is finite. */
static void put(const lips_tensor *v, const double *src)
{
    const int64_t n = lips_tensor_features(v);
    for (int64_t b = 0; b < v->b; b++)
        for (int64_t t = 0; t < v->t; t++)
            for (int64_t i = 0; i < n; i++)
                ((float *)v->data)[place(v, b, t, i)] = (float)src[(b * v->t + t) * n + i];
}

static double *take(const lips_tensor *v)
{
    const int64_t n = lips_tensor_features(v);
    double *out = malloc((size_t)(v->b * v->t * n) * sizeof *out);
    assert_non_null(out);
    for (int64_t b = 0; b < v->b; b++)
        for (int64_t t = 0; t < v->t; t++)
            for (int64_t i = 0; i < n; i++)
                out[(b * v->t + t) * n + i] = (double)((float *)v->data)[place(v, b, t, i)];
    return out;
}

/* Calls f for every product of the convolution: x index, y index, w index within one sample. */
typedef void visit_fn(void *u, int64_t xi, int64_t yi, int64_t wi);

static void walk(const data *d, visit_fn *f, void *u)
{
    const shape *s = &d->s;
    for (int64_t o = 0; o < s->o; o++)
        for (int64_t p = 0; p < d->oh; p++)
            for (int64_t q = 0; q < d->ow; q++)
                for (int64_t c = 0; c < s->c; c++)
                    for (int64_t k = 0; k < s->r * s->r; k++) {
                        const int64_t iy = p * s->stride + k / s->r - s->pad;
                        const int64_t ix = q * s->stride + k % s->r - s->pad;
                        if (iy >= 0 && iy < s->h && ix >= 0 && ix < s->w)
                            f(u, (c * s->h + iy) * s->w + ix, (o * d->oh + p) * d->ow + q,
                              (o * s->c + c) * s->r * s->r + k);
                    }
}

typedef struct sums {
    const double *x, *y, *w;
    double *out;
} sums;

static void add_forward(void *u, int64_t xi, int64_t yi, int64_t wi)
{
    sums *s = u;
    s->out[yi] += s->w[wi] * s->x[xi];
}

static void add_vjp(void *u, int64_t xi, int64_t yi, int64_t wi)
{
    sums *s = u;
    s->out[xi] += s->w[wi] * s->y[yi];
}

static void add_grad(void *u, int64_t xi, int64_t yi, int64_t wi)
{
    sums *s = u;
    s->out[wi] += s->x[xi] * s->y[yi];
}

typedef struct run {
    lips_cpu be;
    lips_conv_algo algo;
    lips_conv_args a;
    char what[256];
    double tol;
} run;

static run start(const data *d, const lips_cpu_kernels *k, lips_conv_op op, lips_conv_algo algo)
{
    static const char *const ops[] = {"forward", "vjp", "grad", "gram"};
    const shape *s = &d->s;
    const bool stacked = op == LIPS_CONV_FORWARD || op == LIPS_CONV_VJP;
    run r = {.be.k = k, .algo = algo};
    snprintf(r.what, sizeof r.what,
             "conv_%s %s algo %d c=%d o=%d %dx%d r=%d stride=%d pad=%d t=%d b=%d lanes=%d", ops[op],
             k->name, (int)algo, (int)s->c, (int)s->o, (int)s->h, (int)s->w, (int)s->r,
             (int)s->stride, (int)s->pad, (int)s->t, (int)s->b, (int)s->lanes);
    r.a.geom = (lips_conv_geom){.r = s->r, .stride = s->stride, .pad = s->pad};
    r.a.x = tensor(d, s->c, s->h, s->w, stacked ? s->t : 1);
    r.a.y = tensor(d, s->o, d->oh, d->ow, op == LIPS_CONV_GRAD ? 1 : s->t);
    if (algo == LIPS_CONV_AUTO)
        algo = lips_cpu_conv_choose(op, &r.a);
    r.tol = d->whole && algo != LIPS_CONV_WINOGRAD ? 0 : TOL;
    return r;
}

/* Runs twice, from poisoned outputs each time, and demands the same bits. */
static void finish(run *r, lips_conv_op op, void *out, size_t bytes)
{
    size_t work = lips_cpu_conv_work(op, &r->a, r->algo);
    if (r->algo == LIPS_CONV_AUTO)
        assert_true(work <= lips_cpu_conv_workspace(&r->be.base, &r->a));
    char *first = malloc(bytes), *before = malloc(bytes);
    assert_non_null(first);
    assert_non_null(before);
    memcpy(before, out, bytes);
    r->a.work = guarded((int64_t)(work / sizeof(float)));
    for (int rep = 0; rep < 2; rep++) {
        memcpy(out, before, bytes);
        assert_int_equal(lips_cpu_conv_run(&r->be.base, op, &r->a, r->algo), LIPS_OK);
        if (rep == 0)
            memcpy(first, out, bytes);
    }
    if (memcmp(first, out, bytes) != 0)
        fail_msg("%s: two runs differ", r->what);
    release(r->a.work, (int64_t)(work / sizeof(float)));
    free(first);
    free(before);
}

static void close_run(run *r)
{
    release(r->a.x.data, reals(&r->a.x));
    release(r->a.y.data, reals(&r->a.y));
}

static float *floats(const double *v, int64_t n)
{
    float *p = malloc((size_t)n * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)v[i];
    return p;
}

static void judge(const run *r, const double *got, const double *want, int64_t n)
{
    if (!cmp_check(r->what, got, want, n, r->tol))
        fail_msg("%s", r->what);
}

#endif
