/*
 * What test_backends does not reach of the cpu backend: every instruction set that this processor
 * has (test_backends runs the best one), and layouts of 128 lanes with several slabs, the last one
 * ragged.
 */
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "../lib/opcases.h"
#include "backend/cpu/cpu.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const lips_ops *cpu(void)
{
    return lips_backend_find("cpu");
}

static bool agrees(const char *set, const opcase_row *row, int index)
{
    opcase got, want;
    opcase_begin(&got, cpu(), 0x15a, index);
    row->run(&got);
    bool good = opcase_end(&got);
    opcase_begin(&want, lips_backend_find("ref"), 0x15a, index);
    row->run(&want);
    good &= opcase_end(&want);
    for (int i = 0; i < want.n_results; i++) {
        char what[400];
        snprintf(what, sizeof what, "%s on cpu %s: %s (%s) index %d", row->name, set,
                 want.result[i].name, want.shape, index);
        good &= got.result[i].n == want.result[i].n &&
                cmp_check(what, got.result[i].v, want.result[i].v, want.result[i].n, row->tol);
    }
    opcase_drop(&got);
    opcase_drop(&want);
    return good;
}

/* Runs f under each set of kernels. */
static void each_set(void (*f)(const char *set))
{
    char *before = getenv("LIPSWEEP_ISA") ? strdup(getenv("LIPSWEEP_ISA")) : NULL;
    int sets = 0;
    for (const lips_cpu_kernels *k; (k = lips_cpu_kernels_at(sets)); sets++) {
        assert_int_equal(setenv("LIPSWEEP_ISA", k->name, 1), 0);
        f(k->name);
    }
    assert_true(sets >= 1); /* base runs everywhere */
    assert_int_equal(before ? setenv("LIPSWEEP_ISA", before, 1) : unsetenv("LIPSWEEP_ISA"), 0);
    free(before);
}

static void every_op(const char *set)
{
    int bad = 0;
    for (int t = 0; opcase_tables[t]; t++)
        for (int r = 0; r < opcase_tables[t]->n; r++) {
            const opcase_row *row = &opcase_tables[t]->row[r];
            for (int i = 0; opcase_offered(cpu(), row->slot) && i < row->cases && i < 6 && bad < 5;
                 i++)
                bad += !agrees(set, row, i);
        }
    assert_int_equal(bad, 0);
}

static void test_sets(void **state)
{
    (void)state;
    each_set(every_op);
}

/* Slabs of 128 lanes: one full, several, the last with few samples. */
static void wide_batch(opcase *c, int64_t *features, int64_t *t)
{
    static const int64_t samples[] = {128, 129, 200, 300}, width[] = {1, 7, 33},
                         stack[] = {1, 3, 10};
    int64_t b = opcase_pick(c, samples, 4);
    opcase_batch(c, b, false);
    *features = opcase_pick(c, width, 3);
    *t = opcase_pick(c, stack, 3);
    snprintf(c->shape, sizeof c->shape, "B=%" PRId64 " C=%" PRId64 " T=%" PRId64, b, *features, *t);
}

static void wide_linear(opcase *c)
{
    int64_t n, t;
    wide_batch(c, &n, &t);
    lips_tensor x = opcase_input(c, n, 1, 1, t), y = opcase_output(c, 5, 1, 1, t);
    lips_tensor in = opcase_input(c, n, 1, 1, 1), dy = opcase_input(c, 5, 1, 1, 1);
    lips_tensor dys = opcase_input(c, 5, 1, 1, t), dx = opcase_output(c, n, 1, 1, t);
    void *w = opcase_reals(c, 5 * n), *bias = opcase_reals(c, 5), *dw = opcase_reals(c, 5 * n);
    void *db = opcase_reals(c, 5);
    double *theta = opcase_doubles(c, c->b * t * t, false);
    const lips_ops *o = c->be->ops;
    opcase_ok(o->linear_forward(c->be, &(lips_linear_args){.y = y, .x = x, .w = w, .bias = bias}));
    opcase_ok(o->linear_vjp(c->be, &(lips_linear_args){.y = dys, .x = dx, .w = w, .mask = &in}));
    opcase_ok(o->linear_grad(c->be, &(lips_linear_args){.y = dy, .x = in, .dw = dw, .db = db}));
    opcase_ok(o->linear_gram(c->be, &(lips_linear_args){.y = dys, .x = in, .theta = theta}));
    opcase_emit_tensor(c, "y", &y);
    opcase_emit_tensor(c, "dx", &dx);
    opcase_emit_reals(c, "dw", dw, 5 * n);
    opcase_emit_reals(c, "db", db, 5);
    opcase_emit_doubles(c, "theta", theta, c->b * t * t);
}

static void wide_images(opcase *c)
{
    int64_t n, t;
    wide_batch(c, &n, &t);
    lips_tensor x = opcase_input(c, n, 4, 6, t), mask = opcase_input(c, n, 4, 6, 1);
    lips_tensor half = opcase_output(c, n, 2, 3, t), dx = opcase_output(c, n, 4, 6, t);
    lips_tensor masked = opcase_output(c, n, 4, 6, t);
    double *g = opcase_doubles(c, c->b * t * t, false),
           *theta = opcase_doubles(c, c->b * t * t, false);
    void *db = opcase_reals(c, n);
    const lips_ops *o = c->be->ops;
    opcase_ok(o->avgpool_forward(c->be, &(lips_pool_args){.y = half, .x = x, .k = 2}));
    opcase_ok(o->avgpool_vjp(c->be, &(lips_pool_args){.y = half, .x = dx, .k = 2, .mask = &mask}));
    opcase_ok(o->relu_mask(c->be, &(lips_relu_args){.y = masked, .x = x, .mask = &mask}));
    opcase_ok(o->bias_grad(c->be, &(lips_bias_args){.y = mask, .db = db}));
    opcase_ok(o->gram(c->be, &(lips_gram_args){.x = x, .g = g}));
    opcase_ok(o->bias_gram(c->be, &(lips_bias_args){.y = x, .theta = theta}));
    opcase_emit_tensor(c, "pooled", &half);
    opcase_emit_tensor(c, "dx", &dx);
    opcase_emit_tensor(c, "masked", &masked);
    opcase_emit_reals(c, "db", db, n);
    opcase_emit_doubles(c, "gram", g, c->b * t * t);
    opcase_emit_doubles(c, "theta", theta, c->b * t * t);
}

static void wide_bn(opcase *c)
{
    int64_t n, t;
    wide_batch(c, &n, &t);
    lips_tensor in = opcase_input(c, n, 2, 3, 1), out = opcase_output(c, n, 2, 3, 1);
    lips_tensor u = opcase_input(c, n, 2, 3, t), v = opcase_output(c, n, 2, 3, t);
    double *stat = opcase_doubles(c, 2 * n, true);
    void *dgamma = opcase_reals(c, n);
    lips_bn_args a = {.y = out,
                      .x = in,
                      .in = &in,
                      .gamma = opcase_reals(c, n),
                      .beta = opcase_reals(c, n),
                      .mean = opcase_reals(c, n),
                      .var = opcase_reals(c, n),
                      .batch_mean = stat,
                      .batch_var = stat + n,
                      .training = true,
                      .eps = 1e-5,
                      .momentum = 0.1,
                      .dgamma = dgamma};
    const lips_ops *o = c->be->ops;
    opcase_ok(o->bn_forward(c->be, &a));
    a.y = u, a.x = v;
    opcase_ok(o->bn_vjp(c->be, &a));
    a.y = out, a.x = in; /* any cotangent will do */
    opcase_ok(o->bn_grad(c->be, &a));
    opcase_emit_tensor(c, "y", &out);
    opcase_emit_tensor(c, "dx", &v);
    opcase_emit_doubles(c, "statistics", stat, 2 * n);
    opcase_emit_reals(c, "dgamma", dgamma, n);
}

static void wide_loss(opcase *c)
{
    int64_t n, t;
    wide_batch(c, &n, &t);
    n++; /* one class has no loss */
    lips_tensor z = opcase_input(c, n, 1, 1, 1), dz = opcase_output(c, n, 1, 1, 1);
    double *loss = opcase_doubles(c, c->b, true), *best = opcase_doubles(c, c->b, true);
    int64_t *labels = calloc((size_t)c->b, sizeof *labels),
            *pred = calloc((size_t)c->b, sizeof *pred);
    assert_true(labels && pred);
    for (int64_t i = 0; i < c->b; i++)
        labels[i] = i * 5 % n;
    opcase_ok(c->be->ops->loss(
        c->be,
        &(lips_loss_args){
            .z = z, .labels = labels, .loss = loss, .pred = pred, .dz = &dz, .scale = 0.25}));
    for (int64_t i = 0; i < c->b; i++)
        best[i] = (double)pred[i];
    free(labels);
    free(pred);
    opcase_emit_tensor(c, "dz", &dz);
    opcase_emit_doubles(c, "loss", loss, c->b);
    opcase_emit_doubles(c, "pred", best, c->b);
}

static const opcase_row wide[] = {
    {"linear, 128 lanes", 0, wide_linear, OP_SUM, 12, false},
    {"images, 128 lanes", 0, wide_images, OP_SUM, 12, false},
    {"batch norm, 128 lanes", 0, wide_bn, OP_SUM, 12, false},
    {"loss, 128 lanes", 0, wide_loss, OP_SUM, 12, false},
};

static void wide_rows(const char *set)
{
    int bad = 0;
    for (size_t r = 0; r < sizeof wide / sizeof *wide; r++)
        for (int i = 0; i < wide[r].cases && bad < 5; i++)
            bad += !agrees(set, &wide[r], i);
    assert_int_equal(bad, 0);
}

static void test_wide_slabs(void **state)
{
    (void)state;
    each_set(wide_rows);
}

/* Two classes with logits d apart, the label the larger one: loss log1p(exp(-d)), gradient
 * -exp(-d) / (1 + exp(-d)), to 10 and 6 digits where f32 probabilities would have none left. */
static void confident_loss(const char *set)
{
    opcase c;
    opcase_begin(&c, cpu(), 1, 0);
    opcase_batch(&c, 33, false);
    lips_tensor z = opcase_output(&c, 2, 1, 1, 1), dz = opcase_output(&c, 2, 1, 1, 1);
    double host[66], loss[33], grad[66];
    int64_t labels[33];
    for (int i = 0; i < 33; i++) {
        labels[i] = i % 2;
        host[2 * i + labels[i]] = 2 * i - 4;
        host[2 * i + 1 - labels[i]] = -4;
    }
    opcase_ok(c.be->ops->upload_f64(c.be, &z, host));
    opcase_ok(c.be->ops->loss(
        c.be, &(lips_loss_args){.z = z, .labels = labels, .loss = loss, .dz = &dz, .scale = 1}));
    opcase_ok(c.be->ops->download(c.be, grad, &dz));
    for (int i = 0; i < 33; i++) {
        double e = exp(-2.0 * i), want = log1p(e), slope = e / (1 + e);
        if (!(fabs(loss[i] - want) <= 1e-10 * want &&
              fabs(grad[2 * i + labels[i]] + slope) <= 1e-6 * slope))
            fail_msg("%s: logits %d apart: loss %.17g, expected %.17g; gradient %g, expected %g",
                     set, 2 * i, loss[i], want, grad[2 * i + labels[i]], -slope);
    }
    assert_true(opcase_end(&c));
    opcase_drop(&c);
}

static void test_confident_loss(void **state)
{
    (void)state;
    each_set(confident_loss);
}

/* The backward pass may read a whole slab of cotangents. */
static void unused_lanes(const char *set)
{
    (void)set;
    opcase c;
    opcase_begin(&c, cpu(), 2, 0);
    opcase_batch(&c, 130, false);
    lips_tensor z = opcase_input(&c, 3, 1, 1, 1), dz = opcase_output(&c, 3, 1, 1, 1);
    float targets[3 * 130] = {0};
    for (int kind = LIPS_LOSS_CROSS_ENTROPY; kind <= LIPS_LOSS_MSE; kind++) {
        int64_t labels[130] = {0}, used = 130 % dz.lanes;
        opcase_ok(c.be->ops->loss(c.be, &(lips_loss_args){.kind = (lips_loss_kind)kind,
                                                          .z = z,
                                                          .labels = labels,
                                                          .targets = targets,
                                                          .dz = &dz,
                                                          .scale = 1}));
        const float *slab = (const float *)dz.data + 130 / dz.lanes * 3 * dz.lanes;
        for (int64_t k = 0; k < 3; k++)
            for (int64_t l = used; l < dz.lanes; l++)
                assert_true(slab[k * dz.lanes + l] == 0);
    }
    assert_true(opcase_end(&c));
    opcase_drop(&c);
}

static void test_unused_lanes(void **state)
{
    (void)state;
    each_set(unused_lanes);
}

static void test_unknown_set(void **state)
{
    (void)state;
    lips_backend *be = NULL;
    assert_int_equal(setenv("LIPSWEEP_ISA", "sse9", 1), 0);
    assert_int_equal(cpu()->open(&be, 0), LIPS_ERR_USAGE);
    assert_non_null(strstr(lips_error(), "sse9"));
    assert_null(be);
    assert_int_equal(unsetenv("LIPSWEEP_ISA"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets),           cmocka_unit_test(test_wide_slabs),
        cmocka_unit_test(test_confident_loss), cmocka_unit_test(test_unused_lanes),
        cmocka_unit_test(test_unknown_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
