/*
 * Elementwise ops, pooling and batch normalisation on a convnet's first activations (w = 8) and on
 * an mlp's: all are bound by memory traffic, so GB/s against a copy of as many bytes is the row's
 * measure.
 */
#include "common.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef enum kind { ADD, BIAS, RELU, MASK, POOL, UNPOOL, BN_TRAIN, BN_EVAL, BN_VJP, BN_GRAD } kind;

typedef struct job {
    bench *b;
    kind kind;
    lips_tensor x, y, mask, half, act;
    float *c1, *c2, *mean, *var; /* per channel */
    double *batch_mean, *batch_var;
} job;

static void run(void *user)
{
    job *j = user;
    lips_backend *be = bench_backend(j->b);
    const lips_ops *o = be->ops;
    lips_relu_args relu = {.y = j->y, .x = j->x, .mask = &j->mask};
    lips_pool_args pool = {
        .y = j->half, .x = j->kind == POOL ? j->x : j->y, .k = 2, .mask = &j->mask};
    lips_bn_args bn = {.y = j->y,
                       .x = j->x,
                       .in = &j->act,
                       .gamma = j->c1,
                       .beta = j->c2,
                       .mean = j->mean,
                       .var = j->var,
                       .batch_mean = j->batch_mean,
                       .batch_var = j->batch_var,
                       .training = j->kind != BN_EVAL,
                       .eps = 1e-5,
                       .momentum = 0.1,
                       .dgamma = j->mean,
                       .dbeta = j->var};
    switch (j->kind) {
    case ADD: bench_ok(o->add(be, &j->y, &j->x, &j->y)); break;
    case BIAS: bench_ok(o->bias_forward(be, &(lips_bias_args){.y = j->y, .bias = j->c1})); break;
    case RELU: bench_ok(o->relu_forward(be, &relu)); break;
    case MASK: bench_ok(o->relu_mask(be, &relu)); break;
    case POOL: bench_ok(o->avgpool_forward(be, &pool)); break;
    case UNPOOL: bench_ok(o->avgpool_vjp(be, &pool)); break;
    case BN_TRAIN:
    case BN_EVAL: bench_ok(o->bn_forward(be, &bn)); break;
    case BN_VJP:
        bn.x = j->y, bn.y = j->x;
        bench_ok(o->bn_vjp(be, &bn));
        break;
    case BN_GRAD: bench_ok(o->bn_grad(be, &bn)); break;
    }
}

static double *host(job *j, const lips_tensor *t)
{
    double *v = malloc((size_t)(t->b * t->t * lips_tensor_features(t)) * sizeof *v);
    if (!v)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    bench_ok(bench_backend(j->b)->ops->download(bench_backend(j->b), v, t));
    return v;
}

/* Mean of f(sample, position) over channel c. */
static double average(const job *j, const double *u, const double *v, double center, int64_t c)
{
    int64_t n = j->x.h * j->x.w;
    double sum = 0;
    for (int64_t i = 0; i < j->x.b; i++)
        for (int64_t p = 0; p < n; p++) {
            int64_t at = (i * j->x.c + c) * n + p;
            sum += u[at] * (v ? v[at] - center : 1);
        }
    return sum / (double)(j->x.b * n);
}

typedef struct operands {
    const double *x, *y, *mask, *half, *act;
} operands;

/* What the op must give at entry (i,c,y,x) of its output's shape, from the operands before the
 * call. */
static double expected(const job *j, const operands *v, int64_t i, int64_t c, int64_t yy,
                       int64_t xx)
{
    int64_t h = j->x.h, w = j->x.w, at = ((i * j->x.c + c) * h + yy) * w + xx;
    double gamma = (double)j->c1[c], inv = 1 / sqrt(j->batch_var[c] + 1e-5),
           d = v->act[at] - j->batch_mean[c];
    switch (j->kind) {
    case ADD: return v->x[at] + v->y[at];
    case BIAS: return v->y[at] + (double)j->c1[c];
    case RELU: return v->x[at] > 0 ? v->x[at] : 0;
    case MASK: return v->mask[at] > 0 ? v->x[at] : 0;
    case POOL: {
        const double *p = v->x + ((i * j->x.c + c) * h + 2 * yy) * w + 2 * xx;
        return (p[0] + p[1] + p[w] + p[w + 1]) / 4;
    }
    case UNPOOL:
        return v->mask[at] > 0
                   ? v->half[((i * j->x.c + c) * (h / 2) + yy / 2) * (w / 2) + xx / 2] / 4
                   : 0;
    case BN_TRAIN: return gamma * inv * (v->x[at] - j->batch_mean[c]) + (double)j->c2[c];
    case BN_EVAL:
        return gamma / sqrt((double)j->var[c] + 1e-5) * (v->x[at] - (double)j->mean[c]) +
               (double)j->c2[c];
    case BN_VJP:
        return gamma * inv *
               (v->x[at] - average(j, v->x, NULL, 0, c) -
                d * inv * inv * average(j, v->x, v->act, j->batch_mean[c], c));
    case BN_GRAD: break;
    }
    return 0;
}

static double check_grad(job *j, const operands *v, int64_t *wrong)
{
    int64_t c = j->x.c;
    double n = (double)(j->x.b * j->x.h * j->x.w), *want = malloc((size_t)(2 * c) * sizeof *want);
    float *got = malloc((size_t)(2 * c) * sizeof *got);
    if (!want || !got)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    for (int64_t k = 0; k < c; k++)
        j->mean[k] = j->var[k] = 0;
    run(j);
    for (int64_t k = 0; k < c; k++) {
        double inv = 1 / sqrt(j->batch_var[k] + 1e-5);
        want[k] = n * inv * average(j, v->y, v->x, j->batch_mean[k], k);
        want[c + k] = n * average(j, v->y, NULL, 0, k);
        got[k] = j->mean[k];
        got[c + k] = j->var[k];
    }
    double err = bench_error(got, want, 2 * c, 1e-5, wrong);
    free(want);
    free(got);
    return err;
}

static double check(void *user, int64_t *wrong)
{
    job *j = user;
    operands v = {host(j, &j->x), host(j, &j->y), host(j, &j->mask), host(j, &j->half),
                  host(j, &j->act)};
    double err;
    if (j->kind == BN_GRAD) {
        err = check_grad(j, &v, wrong);
    } else {
        const lips_tensor *out = j->kind == POOL ? &j->half : &j->y;
        enum { MOST = 4000 };
        double want[MOST];
        float got[MOST];
        run(j);
        double *after = host(j, out);
        int64_t total = out->b * lips_tensor_features(out), step = total / MOST + 1, n = 0;
        step = j->kind == BN_VJP ? total / 40 : step; /* each of its entries sums a channel */
        for (int64_t e = 0; e < total; e += step, n++) {
            int64_t x = e % out->w, y = e / out->w % out->h, c = e / out->w / out->h % out->c;
            got[n] = (float)after[e];
            want[n] = expected(j, &v, e / lips_tensor_features(out), c, y, x);
        }
        err = bench_error(got, want, n, 1e-5, wrong);
        free(after);
    }
    free((void *)(size_t)v.x);
    free((void *)(size_t)v.y);
    free((void *)(size_t)v.mask);
    free((void *)(size_t)v.half);
    free((void *)(size_t)v.act);
    return err;
}

/* Tensors of x's size that the op reads and writes. */
static const struct {
    const char *op;
    double passes;
} ops[] = {{"add", 3},        {"bias_forward", 2},       {"relu_forward", 2},
           {"relu_mask", 3},  {"avgpool_forward", 1.25}, {"avgpool_vjp", 2.25},
           {"bn_forward", 4}, {"bn_forward", 2},         {"bn_vjp", 5},
           {"bn_grad", 3}};

static void rows(bench *b, int64_t samples, int64_t c, int64_t h)
{
    bool spatial = h > 1;
    job j = {.b = b,
             .c1 = bench_reals(b, c),
             .c2 = bench_reals(b, c),
             .mean = bench_reals(b, c),
             .var = bench_reals(b, c)};
    j.batch_mean = calloc((size_t)(2 * c), sizeof *j.batch_mean);
    if (!j.batch_mean)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    j.batch_var = j.batch_mean + c;
    j.x = bench_tensor(b, samples, c, h, h, 1, spatial);
    j.y = bench_tensor(b, samples, c, h, h, 1, spatial);
    j.mask = bench_tensor(b, samples, c, h, h, 1, spatial);
    j.act = bench_tensor(b, samples, c, h, h, 1, spatial);
    j.half = bench_tensor(b, samples, c, spatial ? h / 2 : 1, spatial ? h / 2 : 1, 1, spatial);
    char shape[64];
    snprintf(shape, sizeof shape, "B=%lld,C=%lld,H=W=%lld", (long long)samples, (long long)c,
             (long long)h);
    for (int k = ADD; k <= (spatial ? BN_GRAD : MASK); k++) {
        j.kind = (kind)k;
        for (int64_t i = 0; i < c; i++)
            j.mean[i] = 0.1f, j.var[i] = 0.3f;
        if (k == BN_VJP || k == BN_GRAD) { /* they read the statistics of the forward pass */
            j.kind = BN_TRAIN;
            lips_tensor x = j.x;
            j.x = k == BN_VJP ? j.act : j.x;
            run(&j);
            j.x = x;
            j.kind = (kind)k;
        }
        bench_row(b, &(bench_case){.op = ops[k].op,
                                   .variant = k == BN_TRAIN ? "training" : "cpu",
                                   .dtype = "f32",
                                   .shape = shape,
                                   .bytes = 4 * ops[k].passes * (double)(samples * c * h * h),
                                   .call = run,
                                   .user = &j,
                                   .check = check});
    }
    void *done[] = {j.c1,     j.c2,        j.mean,     j.var,      j.x.data,
                    j.y.data, j.mask.data, j.act.data, j.half.data};
    for (size_t i = 0; i < sizeof done / sizeof *done; i++)
        bench_backend(b)->ops->release(bench_backend(b), done[i]);
    free(j.batch_mean);
}

int main(int argc, char **argv)
{
    bench *b = bench_begin(argc, argv);
    rows(b, 128, 8, 32);
    rows(b, 16, 8, 32);
    rows(b, 128, 64, 1);
    rows(b, 128, 512, 1);
    return bench_end(b);
}
