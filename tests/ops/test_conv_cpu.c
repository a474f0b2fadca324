/*
 * The cpu convolutions, each algorithm with each instruction set that this machine runs, against a
 * plain f64 loop on odd shapes.
 *
 * Tolerance: a chain of n f32 products errs by at most n 2^-24 sum|ab|, and like a random walk for
 * data of random sign: rel_l2 <= TOL = 2e-6 holds a factor 5 above what the longest chain here
 * gives. Integer data in -2..2 (outputs below 2^24) must come out exactly, but for Winograd's
 * algorithm, whose fractions are rounded; its error is about twice that of the chain.
 */
#include "backend/cpu/conv.h"
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"

#include <math.h>
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

static void case_forward(data *d, const lips_cpu_kernels *k, lips_conv_algo algo, bool relu)
{
    const shape *s = &d->s;
    run r = start(d, k, LIPS_CONV_FORWARD, algo);
    const int64_t nx = s->c * s->h * s->w, ny = s->o * d->oh * d->ow;
    float *w = floats(d->w, s->o * s->c * s->r * s->r), *bias = floats(d->bias, s->o);
    double *want = calloc((size_t)(s->b * s->t * ny), sizeof *want);
    assert_non_null(want);
    r.a.relu = relu && s->t == 1;
    r.a.w = w;
    r.a.bias = relu ? bias : NULL;
    for (int64_t i = 0; i < s->b * s->t; i++) {
        walk(d, add_forward, &(sums){.x = d->x + i * nx, .w = d->w, .out = want + i * ny});
        for (int64_t j = 0; j < ny; j++) {
            double *v = want + i * ny + j;
            *v += relu ? d->bias[j / (d->oh * d->ow)] : 0;
            *v = r.a.relu && *v < 0 ? 0 : *v;
        }
    }
    put(&r.a.x, d->x);
    finish(&r, LIPS_CONV_FORWARD, r.a.y.data, (size_t)reals(&r.a.y) * sizeof(float));
    double *got = take(&r.a.y);
    judge(&r, got, want, s->b * s->t * ny);
    close_run(&r);
    free(got);
    free(want);
    free(w);
    free(bias);
}

static void case_vjp(data *d, const lips_cpu_kernels *k, lips_conv_algo algo, bool masked)
{
    const shape *s = &d->s;
    run r = start(d, k, LIPS_CONV_VJP, algo);
    const int64_t nx = s->c * s->h * s->w, ny = s->o * d->oh * d->ow;
    float *w = floats(d->w, s->o * s->c * s->r * s->r);
    double *want = calloc((size_t)(s->b * s->t * nx), sizeof *want);
    assert_non_null(want);
    lips_tensor mask = tensor(d, s->c, s->h, s->w, 1);
    put(&mask, d->mask);
    r.a.w = w;
    r.a.mask = masked ? &mask : NULL;
    for (int64_t i = 0; i < s->b * s->t; i++) {
        walk(d, add_vjp, &(sums){.y = d->y + i * ny, .w = d->w, .out = want + i * nx});
        for (int64_t j = 0; masked && j < nx; j++)
            want[i * nx + j] *= d->mask[i / s->t * nx + j] > 0;
    }
    put(&r.a.y, d->y);
    finish(&r, LIPS_CONV_VJP, r.a.x.data, (size_t)reals(&r.a.x) * sizeof(float));
    double *got = take(&r.a.x);
    judge(&r, got, want, s->b * s->t * nx);
    close_run(&r);
    release(mask.data, reals(&mask));
    free(got);
    free(want);
    free(w);
}

static void case_grad(data *d, const lips_cpu_kernels *k, lips_conv_algo algo)
{
    const shape *s = &d->s;
    run r = start(d, k, LIPS_CONV_GRAD, algo);
    const int64_t nx = s->c * s->h * s->w, np = d->oh * d->ow, ny = s->o * np;
    const int64_t nw = s->o * s->c * s->r * s->r, n = nw + s->o;
    float *out = guarded(n);
    double *want = malloc((size_t)n * sizeof *want), *got = malloc((size_t)n * sizeof *got);
    assert_non_null(want);
    assert_non_null(got);
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(want[i] = (double)(i % 3)); /* added to */
    for (int64_t b = 0; b < s->b; b++) {
        const double *y = d->y + b * s->t * ny; /* the first of t */
        walk(d, add_grad, &(sums){.x = d->x + b * nx, .y = y, .out = want});
        for (int64_t j = 0; j < ny; j++)
            want[nw + j / np] += y[j];
    }
    put(&r.a.x, d->x);
    for (int64_t b = 0; b < s->b; b++)
        for (int64_t j = 0; j < ny; j++)
            ((float *)r.a.y.data)[place(&r.a.y, b, 0, j)] = (float)d->y[b * s->t * ny + j];
    r.a.dw = out;
    r.a.db = out + nw;
    finish(&r, LIPS_CONV_GRAD, out, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        got[i] = (double)out[i];
    judge(&r, got, want, n);
    close_run(&r);
    release(out, n);
    free(got);
    free(want);
}

static void case_gram(data *d, const lips_cpu_kernels *k, lips_conv_algo algo)
{
    const shape *s = &d->s;
    run r = start(d, k, LIPS_CONV_GRAM, algo);
    const int64_t nx = s->c * s->h * s->w, ny = s->o * d->oh * d->ow;
    const int64_t nw = s->o * s->c * s->r * s->r, n = s->b * s->t * s->t;
    double *g = malloc((size_t)(s->t * nw) * sizeof *g);
    double *want = malloc((size_t)n * sizeof *want), *got = malloc((size_t)n * sizeof *got);
    assert_non_null(g);
    assert_non_null(want);
    assert_non_null(got);
    for (int64_t i = 0; i < n; i++)
        got[i] = want[i] = 0.25;
    for (int64_t b = 0; b < s->b; b++) {
        memset(g, 0, (size_t)(s->t * nw) * sizeof *g);
        for (int64_t t = 0; t < s->t; t++)
            walk(d, add_grad,
                 &(sums){.x = d->x + b * nx, .y = d->y + (b * s->t + t) * ny, .out = g + t * nw});
        for (int64_t i = 0; i < s->t * s->t; i++)
            for (int64_t j = 0; j < nw; j++)
                want[b * s->t * s->t + i] += g[i / s->t * nw + j] * g[i % s->t * nw + j];
    }
    put(&r.a.x, d->x);
    put(&r.a.y, d->y);
    r.a.theta = got;
    finish(&r, LIPS_CONV_GRAM, got, (size_t)n * sizeof *got);
    judge(&r, got, want, n);
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = i / s->t % s->t, col = i % s->t;
        assert_true(got[i] == got[i + (col - row) * s->t + row - col]);
    }
    close_run(&r);
    free(g);
    free(got);
    free(want);
}

/* Channels around the tiles of 8, images around the blocks of rows, every kernel, stride, padding.
 */
static const shape shapes[] = {
    /*c  o   h   w  r  s  p  t   b  lanes */
    {1, 1, 1, 1, 1, 1, 0, 1, 17, 16},
    {1, 2, 5, 4, 3, 1, 1, 1, 16, 16},
    {3, 1, 32, 32, 3, 1, 1, 1, 3, 16},
    {2, 3, 7, 9, 3, 1, 1, 3, 17, 16},
    {3, 5, 8, 8, 3, 1, 1, 10, 15, 16},
    {5, 7, 6, 33, 3, 1, 1, 1, 2, 16},
    {7, 8, 9, 6, 3, 1, 0, 3, 1, 16},
    {8, 16, 8, 8, 3, 1, 1, 10, 2, 16},
    {16, 17, 7, 5, 3, 1, 1, 3, 16, 16},
    {17, 16, 33, 4, 3, 1, 1, 1, 1, 16},
    {33, 17, 6, 6, 3, 1, 1, 2, 3, 16},
    {70, 9, 10, 8, 3, 1, 1, 1, 2, 16},
    {85, 2, 32, 32, 3, 1, 1, 2, 1, 16}, /* Winograd's Gram: the input in two passes */
    {5, 7, 6, 6, 3, 1, 1, 33, 2, 16},   /* and few channels at a time, as t is large */
    {4, 9, 8, 7, 3, 2, 1, 3, 5, 16},
    {16, 5, 9, 8, 3, 2, 1, 3, 17, 16},
    {3, 8, 12, 12, 3, 2, 0, 1, 40, 16},
    {5, 3, 9, 9, 5, 1, 2, 2, 4, 16},
    {17, 4, 8, 11, 5, 2, 2, 1, 3, 16},
    {2, 2, 5, 5, 5, 1, 0, 3, 2, 16},
    {8, 16, 5, 6, 1, 1, 0, 4, 3, 16},
    {16, 8, 8, 8, 1, 2, 0, 3, 3, 16}, /* vjp: phases without taps */
    {3, 4, 6, 5, 1, 1, 2, 2, 3, 16},  /* padding beyond the kernel */
    {9, 12, 7, 6, 1, 2, 0, 3, 19, 16},
    {12, 9, 8, 7, 1, 3, 0, 2, 16, 16},
    {10, 11, 4, 5, 1, 1, 0, 3, 40, 32},
    {20, 12, 9, 9, 1, 1, 0, 6, 3, 16}, /* matrix products in several blocks */
    {40, 24, 17, 17, 1, 2, 0, 6, 3, 16},
    {2, 3, 4, 4, 3, 1, 2, 2, 3, 16},
    {3, 3, 7, 7, 3, 3, 1, 2, 2, 16},
    {1, 1, 2, 2, 3, 1, 1, 3, 9, 16}, /* every tap is clipped somewhere */
    {2, 3, 1, 7, 3, 1, 1, 10, 2, 16},
    {3, 4, 6, 5, 3, 1, 1, 3, 40, 32},
    {17, 3, 5, 6, 3, 1, 1, 2, 33, 48},
    {2, 3, 5, 5, 3, 2, 1, 1, 130, 128},
};

static void all_sets(void (*f)(data *d, const lips_cpu_kernels *k), bool stacked_x)
{
    for (int whole = 0; whole < 2; whole++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            data d = make(shapes[i], whole, stacked_x);
            const lips_cpu_kernels *k;
            for (int set = 0; (k = lips_cpu_kernels_at(set)); set++)
                f(&d, k);
            drop(&d);
        }
}

static void forward(data *d, const lips_cpu_kernels *k)
{
    case_forward(d, k, LIPS_CONV_DIRECT, true);
    case_forward(d, k, LIPS_CONV_AUTO, false);
    if (d->s.r == 3 && d->s.stride == 1)
        case_forward(d, k, LIPS_CONV_WINOGRAD, true);
    if (d->s.r == 1 && d->s.pad == 0)
        case_forward(d, k, LIPS_CONV_MATRIX, true);
}

static void vjp(data *d, const lips_cpu_kernels *k)
{
    case_vjp(d, k, LIPS_CONV_DIRECT, true);
    case_vjp(d, k, LIPS_CONV_AUTO, false);
    if (d->s.r == 3 && d->s.stride == 1)
        case_vjp(d, k, LIPS_CONV_WINOGRAD, true);
    if (d->s.r == 1 && d->s.pad == 0)
        case_vjp(d, k, LIPS_CONV_MATRIX, true);
}

static void grad(data *d, const lips_cpu_kernels *k)
{
    case_grad(d, k, LIPS_CONV_DIRECT);
    if (d->s.r == 3 && d->s.stride == 1)
        case_grad(d, k, LIPS_CONV_WINOGRAD);
    case_grad(d, k, LIPS_CONV_AUTO);
}

static void gram(data *d, const lips_cpu_kernels *k)
{
    case_gram(d, k, LIPS_CONV_DIRECT);
    case_gram(d, k, LIPS_CONV_PIXEL_GRAM);
    if (d->s.r == 3 && d->s.stride == 1)
        case_gram(d, k, LIPS_CONV_WINOGRAD);
    case_gram(d, k, LIPS_CONV_AUTO);
}

static void test_forward(void **state)
{
    (void)state;
    all_sets(forward, true);
}

static void test_vjp(void **state)
{
    (void)state;
    all_sets(vjp, true);
}

static void test_grad(void **state)
{
    (void)state;
    all_sets(grad, false);
}

static void test_gram(void **state)
{
    (void)state;
    all_sets(gram, false);
}

/* The op's outputs by the automatic choice, in samples' order. */
static double *outputs(const data *d, const lips_cpu_kernels *k, lips_conv_op op, int64_t *n)
{
    const shape *s = &d->s;
    const int64_t nw = s->o * s->c * s->r * s->r, ntheta = s->b * s->t * s->t;
    run r = start(d, k, op, LIPS_CONV_AUTO);
    float *w = floats(d->w, nw), *dw = calloc((size_t)nw, sizeof *dw);
    double *theta = calloc((size_t)ntheta, sizeof *theta), *out = NULL;
    assert_non_null(dw);
    assert_non_null(theta);
    put(&r.a.x, d->x);
    put(&r.a.y, d->y);
    r.a.w = w;
    r.a.dw = dw;
    r.a.theta = theta;
    r.a.work = guarded((int64_t)(lips_cpu_conv_work(op, &r.a, r.algo) / sizeof(float)));
    assert_int_equal(lips_cpu_conv_run(&r.be.base, op, &r.a, r.algo), LIPS_OK);
    if (op == LIPS_CONV_FORWARD || op == LIPS_CONV_VJP) {
        const lips_tensor *v = op == LIPS_CONV_FORWARD ? &r.a.y : &r.a.x;
        out = take(v);
        *n = v->b * v->t * lips_tensor_features(v);
    } else if (op == LIPS_CONV_GRAD) {
        out = calloc((size_t)nw, sizeof *out);
        for (int64_t i = 0; i < nw; i++)
            out[i] = (double)dw[i];
        *n = nw;
    } else {
        out = theta;
        theta = NULL;
        *n = ntheta;
    }
    free((char *)r.a.work - GUARD * sizeof(float));
    close_run(&r);
    free(w);
    free(dw);
    free(theta);
    return out;
}

/* One chain of fused multiply-adds per output, whatever the tile: avx512 and avx2 agree bit for
 * bit. */
static void test_same_bits(void **state)
{
    (void)state;
    const lips_cpu_kernels *a = NULL, *b = NULL, *k;
    for (int set = 0; (k = lips_cpu_kernels_at(set)); set++) {
        a = strcmp(k->name, "avx512") == 0 ? k : a;
        b = strcmp(k->name, "avx2") == 0 ? k : b;
    }
    if (!a || !b)
        skip();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int op = LIPS_CONV_FORWARD; op <= LIPS_CONV_GRAM; op++) {
            data d = make(shapes[i], false, true);
            double *got[2];
            int64_t n = 0;
            for (int set = 0; set < 2; set++)
                got[set] = outputs(&d, set ? b : a, (lips_conv_op)op, &n);
            if (memcmp(got[0], got[1], (size_t)n * sizeof **got) != 0)
                fail_msg("op %d, shape %zu: avx512 and avx2 differ", op, i);
            free(got[0]);
            free(got[1]);
            drop(&d);
        }
}

static lips_conv_args sizes(int64_t c, int64_t o, int64_t hw, int64_t t)
{
    return (lips_conv_args){
        .geom = {.r = 3, .stride = 1, .pad = 1},
        .x = {.cap = 16, .b = 16, .c = c, .h = hw, .w = hw, .t = 1, .lanes = 16},
        .y = {.cap = 16, .b = 16, .c = o, .h = hw, .w = hw, .t = t, .lanes = 16}};
}

static void test_choice(void **state)
{
    (void)state;
    lips_conv_args wide = sizes(256, 512, 8, 10), narrow = sizes(2, 4, 16, 10);
    lips_conv_args big = sizes(64, 128, 32, 10);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAM, &wide), LIPS_CONV_PIXEL_GRAM);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAM, &narrow), LIPS_CONV_DIRECT);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAM, &big), LIPS_CONV_WINOGRAD);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_FORWARD, &wide), LIPS_CONV_WINOGRAD);
    wide.x.t = 10;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_VJP, &wide), LIPS_CONV_WINOGRAD);
    wide.x.t = wide.y.t = narrow.y.t = 1;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAD, &wide), LIPS_CONV_WINOGRAD);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_FORWARD, &narrow), LIPS_CONV_DIRECT);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAD, &narrow), LIPS_CONV_DIRECT);
    wide.geom.stride = 2;
    wide.y.h = wide.y.w = 4;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_VJP, &wide), LIPS_CONV_DIRECT);
    wide.geom.r = narrow.geom.r = 1;
    wide.geom.pad = narrow.geom.pad = 0;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_FORWARD, &wide), LIPS_CONV_MATRIX);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_FORWARD, &narrow), LIPS_CONV_DIRECT);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_VJP, &wide), LIPS_CONV_MATRIX);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_VJP, &narrow), LIPS_CONV_DIRECT);
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_GRAD, &wide), LIPS_CONV_DIRECT);
    narrow.geom.stride = 2;
    narrow.y.h = narrow.y.w = 8;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_VJP, &narrow), LIPS_CONV_MATRIX);
    wide.geom.pad = 1;
    assert_int_equal(lips_cpu_conv_choose(LIPS_CONV_FORWARD, &wide), LIPS_CONV_DIRECT);
}

static void test_flops(void **state)
{
    (void)state;
    lips_conv_args a = sizes(3, 5, 7, 10);
    const double one = 2.0 * 3 * 5 * 9 * 49 * 16;
    assert_true(lips_conv_flops(LIPS_CONV_FORWARD, &a) == 10 * one);
    assert_true(lips_conv_flops(LIPS_CONV_VJP, &a) == 10 * one);
    a.y.t = 1;
    assert_true(lips_conv_flops(LIPS_CONV_GRAD, &a) == one);
    assert_true(lips_conv_flops(LIPS_CONV_GRAM, &a) == one * (49 + 0.75) / 49);
}

static void test_refusals(void **state)
{
    (void)state;
    data d = make((shape){2, 3, 4, 4, 3, 1, 1, 1, 2, 16}, false, true);
    float *w = floats(d.w, 54), *db = floats(d.bias, 3);
    run r = start(&d, lips_cpu_kernels_at(0), LIPS_CONV_FORWARD, LIPS_CONV_AUTO);
    const int64_t n = (int64_t)(lips_cpu_conv_workspace(&r.be.base, &r.a) / sizeof(float));
    float *work = guarded(n);
    r.a.w = w;
    assert_int_equal(lips_cpu_conv_forward(&r.be.base, &r.a), LIPS_ERR_USAGE); /* no work */
    r.a.work = work + 1;
    assert_int_equal(lips_cpu_conv_forward(&r.be.base, &r.a), LIPS_ERR_USAGE);
    r.a.work = work;
    assert_int_equal(lips_cpu_conv_forward(&r.be.base, &r.a), LIPS_OK);
    r.a.x.lanes = r.a.y.lanes = 8;
    assert_int_equal(lips_cpu_conv_vjp(&r.be.base, &r.a), LIPS_ERR_USAGE);
    r.a.x.lanes = r.a.y.lanes = 16;
    r.a.y.h = 5;
    assert_int_equal(lips_cpu_conv_forward(&r.be.base, &r.a), LIPS_ERR_USAGE);
    r.a.y.h = 4;
    r.a.db = db;
    assert_int_equal(lips_cpu_conv_run(&r.be.base, LIPS_CONV_GRAD, &r.a, LIPS_CONV_PIXEL_GRAM),
                     LIPS_ERR_UNSUPPORTED);
    assert_int_equal(lips_cpu_conv_run(&r.be.base, LIPS_CONV_GRAD, &r.a, LIPS_CONV_MATRIX),
                     LIPS_ERR_UNSUPPORTED);
    close_run(&r);
    release(work, n);
    free(w);
    free(db);
    drop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),   cmocka_unit_test(test_vjp),
        cmocka_unit_test(test_grad),      cmocka_unit_test(test_gram),
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_choice),
        cmocka_unit_test(test_flops),     cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
