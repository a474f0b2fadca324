/*
 * Small cases whose results were worked out by hand, on every backend, with zero tolerance: every
 * number is an integer or a multiple of 1/16. And transfers longer than a piece.
 */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "../lib/opcase.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void begin(opcase *c, const lips_ops *ops, int64_t b, bool spatial)
{
    opcase_begin(c, ops, 0xe8, 0);
    opcase_batch(c, b, spatial);
}

static lips_tensor put(opcase *c, int64_t ch, int64_t h, int64_t w, int64_t t, const double *v)
{
    lips_tensor x = opcase_output(c, ch, h, w, t);
    opcase_ok(c->be->ops->upload_f64(c->be, &x, v));
    return x;
}

static void *put_reals(opcase *c, int64_t n, const double *v)
{
    void *p = opcase_reals(c, n);
    opcase_ok(c->be->ops->write(c->be, p, 0, v, n));
    return p;
}

static void equal(const char *what, const lips_ops *ops, const double *got, const double *want,
                  int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(got[i] == want[i]))
            fail_msg("%s on %s: index %lld, expected %.17g, got %.17g", what, ops->name,
                     (long long)i, want[i], got[i]);
}

static void tensor_equal(opcase *c, const char *what, const lips_tensor *t, const double *want)
{
    double *got = opcase_values(c, t);
    equal(what, c->be->ops, got, want, t->b * lips_tensor_features(t) * t->t);
    free(got);
}

static void reals_equal(opcase *c, const char *what, const void *p, const double *want, int64_t n)
{
    double got[16];
    opcase_ok(c->be->ops->read(c->be, got, p, 0, n));
    equal(what, c->be->ops, got, want, n);
}

/* Two samples (1,2), (3,-1); w = [1 2; 0 -1; 3 1]; bias (1,0,-4). */
static void linear(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    lips_linear_args a = {.x = put(c, 2, 1, 1, 1, (const double[]){1, 2, 3, -1}),
                          .y = opcase_output(c, 3, 1, 1, 1),
                          .w = put_reals(c, 6, (const double[]){1, 2, 0, -1, 3, 1}),
                          .bias = put_reals(c, 3, (const double[]){1, 0, -4})};
    opcase_ok(ops->linear_forward(c->be, &a));
    tensor_equal(c, "linear y", &a.y, (const double[]){6, -2, 1, 2, 1, 4});
    a.relu = true;
    opcase_ok(ops->linear_forward(c->be, &a));
    tensor_equal(c, "linear relu", &a.y, (const double[]){6, 0, 1, 2, 1, 4});
    lips_tensor x = a.x;
    /* Two cotangents per sample: (B,T,O). */
    a.y = put(c, 3, 1, 1, 2, (const double[]){1, 0, 0, 0, 1, 2, -1, 1, 1, 2, 0, 0});
    a.x = opcase_output(c, 2, 1, 1, 2);
    lips_tensor mask = put(c, 2, 1, 1, 1, (const double[]){0, 5, 1, -1});
    opcase_ok(ops->linear_vjp(c->be, &a));
    tensor_equal(c, "linear dx", &a.x, (const double[]){1, 2, 6, 1, 2, -2, 2, 4});
    a.mask = &mask;
    opcase_ok(ops->linear_vjp(c->be, &a));
    tensor_equal(c, "linear masked dx", &a.x, (const double[]){0, 2, 0, 1, 2, 0, 2, 0});
    a.x = x;
    a.theta = opcase_doubles(c, 8, true);
    for (int again = 0; again < 2; again++) { /* what the host writes after a sync counts */
        for (int i = 0; i < 8; i++)
            a.theta[i] = 1;
        opcase_ok(ops->linear_gram(c->be, &a));
        opcase_ok(ops->sync(c->be));
        /* |x|^2 = 5 and 10; <dy,dy'> = [1 0; 0 5] and [3 -2; -2 4]. */
        equal("linear gram", ops, a.theta, (const double[]){6, 1, 1, 26, 31, -19, -19, 41}, 8);
    }
    a.y = put(c, 3, 1, 1, 1, (const double[]){1, 0, 2, 0, -1, 1});
    a.dw = put_reals(c, 6, (const double[]){10, 0, 0, 0, 0, 0});
    a.db = put_reals(c, 3, (const double[]){0, 0, 100});
    opcase_ok(ops->linear_grad(c->be, &a));
    reals_equal(c, "linear dw", a.dw, (const double[]){11, 2, -3, 1, 5, 3}, 6);
    reals_equal(c, "linear db", a.db, (const double[]){1, -1, 103}, 3);
}

/* 3x3 image 1..9, kernel [1 0; 0 2] as a 2x2 with pad 0 and stride 1, then 3x3 averages with pad 1.
 */
static void conv(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    const double image[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, ones[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    lips_conv_args a = {.x = put(c, 1, 3, 3, 1, image),
                        .y = opcase_output(c, 1, 2, 2, 1),
                        .geom = {2, 1, 0},
                        .w = put_reals(c, 4, (const double[]){1, 0, 0, 2}),
                        .bias = put_reals(c, 1, (const double[]){-20})};
    a.work = opcase_work(c, ops->conv_workspace(c->be, &a));
    opcase_ok(ops->conv_forward(c->be, &a));
    tensor_equal(c, "conv y", &a.y, (const double[]){-9, -6, 0, 3});
    a.relu = true;
    opcase_ok(ops->conv_forward(c->be, &a));
    tensor_equal(c, "conv relu", &a.y, (const double[]){0, 0, 0, 3});
    a.y = put(c, 1, 2, 2, 1, (const double[]){1, 10, 100, 1000});
    a.dw = put_reals(c, 4, (const double[]){0, 0, 0, 1});
    a.db = put_reals(c, 1, (const double[]){5});
    opcase_ok(ops->conv_grad(c->be, &a));
    reals_equal(c, "conv dw", a.dw, (const double[]){5421, 6532, 8754, 9866}, 4);
    reals_equal(c, "conv db", a.db, (const double[]){1116}, 1);
    a.theta = opcase_doubles(c, 1, true);
    a.theta[0] = 2;
    lips_conv_args g = a;
    g.y = put(c, 1, 2, 2, 1, (const double[]){1, 2, -1, 0});
    opcase_ok(ops->conv_gram(c->be, &g));
    opcase_ok(ops->sync(c->be));
    /* The derivatives by the four weights are 1, 3, 7, 9. */
    equal("conv gram", ops, a.theta, (const double[]){142}, 1);
    a.x = opcase_output(c, 1, 3, 3, 1);
    opcase_ok(ops->conv_vjp(c->be, &a));
    tensor_equal(c, "conv dx", &a.x, (const double[]){1, 10, 0, 100, 1002, 20, 0, 200, 2000});

    lips_conv_args p = {.x = put(c, 1, 3, 3, 1, image),
                        .y = opcase_output(c, 1, 3, 3, 1),
                        .geom = {3, 1, 1},
                        .w = put_reals(c, 9, ones)};
    p.work = opcase_work(c, ops->conv_workspace(c->be, &p));
    opcase_ok(ops->conv_forward(c->be, &p));
    tensor_equal(c, "padded conv", &p.y, (const double[]){12, 21, 16, 27, 45, 33, 24, 39, 28});
    lips_conv_args s = {.x = p.x, .y = opcase_output(c, 1, 2, 2, 1), .geom = {3, 2, 1}, .w = p.w};
    s.work = opcase_work(c, ops->conv_workspace(c->be, &s));
    opcase_ok(ops->conv_forward(c->be, &s));
    tensor_equal(c, "strided conv", &s.y, (const double[]){12, 16, 24, 28});
}

/* x = (-2, 6 | 2, 2): mean 2, biased variance 8; eps = 8 makes 1/sqrt(var + eps) = 1/4. */
static void batchnorm(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    lips_bn_args a = {.x = put(c, 1, 1, 2, 1, (const double[]){-2, 6, 2, 2}),
                      .y = opcase_output(c, 1, 1, 2, 1),
                      .gamma = put_reals(c, 1, (const double[]){8}),
                      .beta = put_reals(c, 1, (const double[]){1}),
                      .mean = put_reals(c, 1, (const double[]){6}),
                      .var = put_reals(c, 1, (const double[]){4}),
                      .tracked = put_reals(c, 1, (const double[]){41}),
                      .batch_mean = opcase_doubles(c, 1, true),
                      .batch_var = opcase_doubles(c, 1, true),
                      .training = true,
                      .eps = 8,
                      .momentum = 0.25};
    opcase_ok(ops->bn_forward(c->be, &a));
    tensor_equal(c, "bn y", &a.y, (const double[]){-7, 9, 1, 1});
    opcase_ok(ops->sync(c->be));
    equal("bn batch mean", ops, a.batch_mean, (const double[]){2}, 1);
    equal("bn batch var", ops, a.batch_var, (const double[]){8}, 1);
    reals_equal(c, "bn running mean", a.mean, (const double[]){5}, 1);
    double var = 0.75 * 4 + 0.25 * 8 * 4 / 3; /* unbiased: 32/3 */
    double got;
    opcase_ok(ops->read(c->be, &got, a.var, 0, 1));
    assert_true(fabs(got - var) <= 1e-6);
    reals_equal(c, "bn tracked", a.tracked, (const double[]){42}, 1);
    /* xhat = (-1,1,0,0). dy = (4,0,0,0): mean 1, <xhat,dy>/n = -1; gamma/4 (dy - 1 + xhat). */
    lips_tensor x = a.x;
    a.in = &x;
    a.y = put(c, 1, 1, 2, 1, (const double[]){4, 0, 0, 0});
    a.x = opcase_output(c, 1, 1, 2, 1);
    opcase_ok(ops->bn_vjp(c->be, &a));
    tensor_equal(c, "bn dx", &a.x, (const double[]){4, 0, -2, -2});
    a.x = x;
    a.dgamma = put_reals(c, 1, (const double[]){0});
    a.dbeta = put_reals(c, 1, (const double[]){0});
    opcase_ok(ops->bn_grad(c->be, &a));
    reals_equal(c, "bn dgamma", a.dgamma, (const double[]){-4}, 1);
    reals_equal(c, "bn dbeta", a.dbeta, (const double[]){4}, 1);
    /* Evaluation: mean 5; eps such that var + eps = 16. */
    a.training = false;
    opcase_ok(ops->write(c->be, a.var, 0, (const double[]){8}, 1));
    a.y = opcase_output(c, 1, 1, 2, 1);
    opcase_ok(ops->bn_forward(c->be, &a));
    tensor_equal(c, "bn evaluation", &a.y, (const double[]){-13, 3, -5, -5});
}

/* z = (1,1,1,1): loss log 4; the first of equal logits is predicted. mse against (0,1,0,0). */
static void loss(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    const int64_t labels[2] = {1, 2};
    int64_t *pred = opcase_int64s(c, 2);
    lips_tensor dz = opcase_output(c, 4, 1, 1, 1);
    lips_loss_args a = {.z = put(c, 4, 1, 1, 1, (const double[]){1, 1, 1, 1, 0, 0, 100, 0}),
                        .labels = labels,
                        .loss = opcase_doubles(c, 2, true),
                        .pred = pred,
                        .dz = &dz,
                        .scale = 8};
    opcase_ok(ops->loss(c->be, &a));
    opcase_ok(ops->sync(c->be));
    assert_true(fabs(a.loss[0] - log(4)) < 1e-15);
    /* 3 e^-100, which 1 + x would lose. */
    assert_true(fabs(a.loss[1] / (3 * exp(-100)) - 1) < 1e-14);
    assert_true(pred[0] == 0 && pred[1] == 2);
    lips_tensor first = dz;
    first.b = 1;
    tensor_equal(c, "loss dz", &first, (const double[]){2, -6, 2, 2});
    lips_tensor all = dz;
    all.b = all.cap;
    double *v = opcase_values(c, &all);
    for (int64_t i = 8; i < 4 * all.cap; i++)
        assert_true(v[i] == 0);
    free(v);
    a.kind = LIPS_LOSS_MSE;
    opcase_ok(ops->loss(c->be, &a));
    opcase_ok(ops->sync(c->be));
    equal("mse", ops, a.loss, (const double[]){1.5, 99. * 99 / 2}, 2);
    tensor_equal(c, "mse dz", &dz, (const double[]){8, 0, 8, 8, 0, 0, 792, 0});
}

/* Scores of some hundreds, above and below 0: P is 1 at the largest of a row, and 1/4 where all are
 * 0. Channels (q,k,v) of four tokens, two samples. */
static void attention(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    const double x[] = {20, -20, 0,  15, 20,  -20, -10,  10,   3, -7, 1, 7,
                        20, 20,  20, 20, -20, -60, -100, -140, 3, -7, 1, 7};
    const lips_tensor in = put(c, 3, 2, 2, 1, x);
    lips_attn_args a = {.x = in, .y = opcase_output(c, 1, 2, 2, 1), .heads = 1};
    a.work = opcase_work(c, ops->attn_workspace(c->be, &a));
    opcase_ok(ops->attn_forward(c->be, &a));
    tensor_equal(c, "attention y", &a.y, (const double[]){3, -7, 1, 3, 3, 3, 3, 3});
    a.in = &in;
    a.x = opcase_output(c, 3, 2, 2, 1);
    a.y = put(c, 1, 2, 2, 1, (const double[]){4, 8, 16, 32, 1, 2, 4, 8});
    opcase_ok(ops->attn_vjp(c->be, &a));
    /* Of the equal scores alone: 16 (v_j - 1) / 4, times k. Elsewhere what exp gives for -87 or
     * less. */
    const double want[] = {0, 0, 1040, 0, 0, 0, 0, 0, 40, 12, 4, 4,
                           0, 0, 0,    0, 0, 0, 0, 0, 15, 0,  0, 0};
    double *got = opcase_values(c, &a.x);
    for (int i = 0; i < 24; i++)
        assert_true(fabs(got[i] - want[i]) <= 1e-30);
    free(got);
}

static void optimisers(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    const double zero[2] = {0, 0};
    lips_sgd_args s = {.p = put_reals(c, 2, (const double[]){4, -8}),
                       .g = put_reals(c, 2, (const double[]){2, 0}),
                       .m = put_reals(c, 2, zero),
                       .n = 2,
                       .lr = 0.5,
                       .momentum = 0.5,
                       .weight_decay = 0.25};
    /* g + wd p = (3,-2); then m = (1.5,-1) + (2 + .625, -1.75). */
    opcase_ok(ops->sgd(c->be, &s));
    reals_equal(c, "sgd step 1", s.p, (const double[]){2.5, -7}, 2);
    opcase_ok(ops->sgd(c->be, &s));
    reals_equal(c, "sgd momentum", s.m, (const double[]){4.125, -2.75}, 2);
    reals_equal(c, "sgd step 2", s.p, (const double[]){0.4375, -5.625}, 2);
    /* The first step of Adam is lr times the sign, up to eps. */
    lips_adam_args a = {.p = put_reals(c, 2, (const double[]){1, 1}),
                        .g = put_reals(c, 2, (const double[]){4, -0.25}),
                        .m = put_reals(c, 2, zero),
                        .v = put_reals(c, 2, zero),
                        .n = 2,
                        .step = 1,
                        .lr = 0.5,
                        .beta1 = 0.5,
                        .beta2 = 0.75,
                        .eps = 0};
    opcase_ok(ops->adam(c->be, &a));
    reals_equal(c, "adam step 1", a.p, (const double[]){0.5, 1.5}, 2);
    reals_equal(c, "adam m", a.m, (const double[]){2, -0.125}, 2);
    reals_equal(c, "adam v", a.v, (const double[]){4, 1. / 64}, 2);
}

/* NaN and infinity are passed on, never hidden by a comparison. */
static void nonfinite(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    lips_relu_args r = {
        .x = put(c, 4, 1, 1, 1, (const double[]){(double)NAN, 1, -1, (double)INFINITY}),
        .y = opcase_output(c, 4, 1, 1, 1)};
    opcase_ok(ops->relu_forward(c->be, &r));
    double *v = opcase_values(c, &r.y);
    assert_true(isnan(v[0]) && v[1] == 1 && v[2] == 0 && isinf(v[3]));
    free(v);
    lips_linear_args l = {.x = r.x,
                          .y = opcase_output(c, 2, 1, 1, 1),
                          .relu = true,
                          .w = put_reals(c, 8, (const double[]){1, 0, 0, 0, 0, 1, 1, 0})};
    opcase_ok(ops->linear_forward(c->be, &l));
    v = opcase_values(c, &l.y);
    assert_true(isnan(v[0]) && isnan(v[1]));
    free(v);
    const int64_t label = 1;
    lips_loss_args a = {.z = r.x, .labels = &label, .loss = opcase_doubles(c, 1, true)};
    opcase_ok(ops->loss(c->be, &a));
    opcase_ok(ops->sync(c->be));
    assert_true(!isfinite(a.loss[0]));
}

/* One entry that is not finite spoils its own matrix alone; a zero matrix has norms 0; 9 and 4 on
 * the diagonal, 3 and sqrt 13 to rounding; far from 1 no power overflows. */
static void norms_of(opcase *c, int64_t k)
{
    const lips_ops *ops = c->be->ops;
    const double v[] = {9, 0, 0,     4, 1, NAN,   NAN,      1, 0, 0,
                        0, 0, 9e300, 0, 0, 4e300, INFINITY, 0, 0, 1};
    const double want[] = {3, NAN, 0, 3e150, NAN};
    double *g = opcase_doubles(c, 5 * k * k, true), *op = opcase_doubles(c, 5, true);
    double *fro = opcase_doubles(c, 5, true);
    for (int64_t i = 0; i < 5 * k * k; i++) {
        const int64_t row = i / k % k, col = i % k;
        g[i] = row < 2 && col < 2 ? v[i / (k * k) * 4 + row * 2 + col] : 0;
    }
    opcase_ok(ops->norms(c->be, &(lips_norms_args){.g = g, .n = 5, .k = k, .op = op, .fro = fro}));
    opcase_ok(ops->sync(c->be));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(isnan(op[i]), isnan(want[i]));
        if (!isnan(want[i])) {
            assert_true(fabs(op[i] - want[i]) <= 1e-15 * want[i]);
            assert_true(fabs(fro[i] - want[i] * sqrt(13) / 3) <= 1e-15 * fro[i]);
        }
    }
}

/* By a thread each, and by a block. */
static void norms(opcase *c)
{
    if (!c->be->ops->norms)
        return;
    norms_of(c, 2);
    norms_of(c, 40);
}

/* More than a backend moves in one piece, 2^20 reals. */
static void long_vectors(opcase *c)
{
    enum { N = (1 << 20) + 5, OFF = 3 };
    const lips_ops *ops = c->be->ops;
    double *v = malloc((OFF + N) * sizeof *v), *got = malloc(N * sizeof *got);
    assert_non_null(v);
    assert_non_null(got);
    for (int64_t i = 0; i < OFF + N; i++)
        v[i] = (double)(i % 8191);
    void *p = opcase_reals(c, OFF + N), *q = opcase_reals(c, OFF + N);
    opcase_ok(ops->write(c->be, p, 0, v, OFF + N));
    opcase_ok(ops->read(c->be, got, p, OFF, N));
    equal("write and read", ops, got, v + OFF, N);
    float *f = malloc((OFF + N) * sizeof *f);
    assert_non_null(f);
    for (int64_t i = 0; i < OFF + N; i++)
        f[i] = (float)v[i];
    opcase_ok(ops->put(c->be, q, ops->real_bytes == 8 ? (void *)v : (void *)f,
                       (OFF + N) * ops->real_bytes));
    opcase_ok(ops->read(c->be, got, q, OFF, N));
    equal("put and read", ops, got, v + OFF, N);
    free(v), free(got), free(f);
}

/* The same of samples: 96 of some 2^14 values, one by one from their places. */
static void many_samples(opcase *c)
{
    enum { B = 96, CH = 4, SIDE = 64, ROW = CH * SIDE * (SIDE - 1) };
    const lips_ops *ops = c->be->ops;
    float *x = malloc(sizeof *x * B * ROW);
    double *want = malloc(sizeof *want * B * ROW);
    int64_t index[B];
    assert_non_null(x);
    assert_non_null(want);
    for (int64_t i = 0; i < B * ROW; i++)
        x[i] = (float)(i % 8191);
    for (int64_t b = 0; b < B; b++) {
        index[b] = B - 1 - b;
        for (int64_t i = 0; i < ROW; i++)
            want[b * ROW + i] = (double)x[index[b] * ROW + i];
    }
    lips_tensor t = opcase_output(c, CH, SIDE, SIDE - 1, 1);
    opcase_ok(ops->upload(c->be, &t, x, index));
    tensor_equal(c, "upload", &t, want);
    opcase_ok(ops->fill(c->be, &t, 0));
    opcase_ok(ops->upload_f64(c->be, &t, want));
    tensor_equal(c, "upload_f64", &t, want);
    free(x), free(want);
}

/* An upload leaves zeros in the places of samples beyond b, whatever they held. */
static void beyond_the_batch(opcase *c)
{
    enum { SPARE = 5, ROW = 2 * 2 * 3 };
    const lips_ops *ops = c->be->ops;
    const double v[2 * ROW] = {1, 2, 3, 4, 5, 6, 7, 8};
    float x[2 * ROW];
    for (int i = 0; i < 2 * ROW; i++)
        x[i] = (float)v[i];
    c->cap = c->b + SPARE;
    c->lanes = ops->plan_lanes(c->be, c->cap, true);
    for (int way = 0; way < 2; way++) {
        lips_tensor t = opcase_output(c, 2, 2, 3, 1), all = t;
        opcase_ok(way ? ops->upload_f64(c->be, &t, v) : ops->upload(c->be, &t, x, NULL));
        all.b = all.cap;
        double *got = opcase_values(c, &all);
        for (int64_t i = 0; i < all.cap * ROW; i++)
            assert_true(got[i] == (i >= 2 * ROW ? 0 : v[i]));
        free(got);
    }
}

static void run(void (*body)(opcase *), int64_t b, bool spatial)
{
    for (int i = 0; tested_backend(i); i++) {
        opcase c;
        begin(&c, tested_backend(i), b, spatial);
        body(&c);
        assert_true(opcase_end(&c));
    }
}

#define CASE(body, b, spatial)                                                                     \
    static void test_##body(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        run(body, b, spatial);                                                                     \
    }
CASE(linear, 2, false)
CASE(conv, 1, true)
CASE(batchnorm, 2, true)
CASE(loss, 2, false)
CASE(attention, 2, true)
CASE(optimisers, 1, false)
CASE(nonfinite, 1, false)
CASE(norms, 1, false)
CASE(long_vectors, 1, false)
CASE(beyond_the_batch, 2, true)
CASE(many_samples, 96, true)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_conv),
        cmocka_unit_test(test_batchnorm),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_optimisers),
        cmocka_unit_test(test_nonfinite),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_long_vectors),
        cmocka_unit_test(test_many_samples),
        cmocka_unit_test(test_beyond_the_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
