/*
 * Every operation of the cpu backend against ref, on each instruction set that this processor has:
 * odd shapes, batches that do not fill their lanes (the unused lanes hold rubbish that must not
 * enter a result), guard words behind every tensor.
 *
 * Tolerance: an entry that sums n products of f32 values rounded to 2^-24 may be off by about
 * sqrt(n) 2^-24 of its terms' norm; 2e-6 of the result's norm covers n up to 1000 with a factor to
 * spare.
 */
#include "backend/backend.h"
#include "base/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD = 64 };
static const double guard_value = 12345.5, tolerance = 2e-6;

typedef struct pair {
    lips_backend *be[2]; /* ref, cpu */
    uint64_t draws;
} pair;

/* The same tensor or vector on both backends. */
typedef struct twin {
    lips_tensor t[2];
    size_t bytes[2];
} twin;

static double draw(pair *p)
{
    lips_rng rng = {.seed = 7, .stream = LIPS_STREAM_TEST};
    return lips_rng_normal(&rng, p->draws++);
}

static void ok(lips_status st)
{
    if (st != LIPS_OK)
        fail_msg("%s\n%s", lips_error(), lips_error_trace());
}

static twin twin_make(pair *p, int64_t cap, int64_t b, int64_t c, int64_t h, int64_t w, int64_t t,
                      int64_t lanes)
{
    twin out;
    for (int i = 0; i < 2; i++) {
        lips_backend *be = p->be[i];
        out.t[i] = (lips_tensor){
            .cap = cap, .b = b, .c = c, .h = h, .w = w, .t = t, .lanes = i ? lanes : 1};
        out.bytes[i] = be->ops->tensor_bytes(be, &out.t[i]);
        ok(be->ops->alloc(be, &out.t[i].data, out.bytes[i] + GUARD * be->ops->real_bytes));
        double guard[GUARD];
        for (int k = 0; k < GUARD; k++)
            guard[k] = guard_value;
        ok(be->ops->write(be, out.t[i].data, (int64_t)(out.bytes[i] / be->ops->real_bytes), guard,
                          GUARD));
    }
    /* Rubbish in every place of cpu, the unused lanes included. */
    for (size_t k = 0; k < out.bytes[1] / sizeof(float); k++)
        ((float *)out.t[1].data)[k] = 1e3f;
    return out;
}

static int64_t count(const lips_tensor *t)
{
    return t->b * t->t * t->c * t->h * t->w;
}

/* Random values, the same in both; padding lanes of cpu keep their rubbish. */
static void twin_fill(pair *p, twin *x)
{
    int64_t n = count(&x->t[1]);
    double *v = malloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (double)(float)draw(p);
    ok(p->be[0]->ops->upload_f64(p->be[0], &x->t[0], v));
    lips_tensor *t = &x->t[1];
    int64_t features = lips_tensor_features(t);
    for (int64_t i = 0; i < t->b; i++)
        for (int64_t k = 0; k < t->t; k++)
            for (int64_t f = 0; f < features; f++)
                ((float *)t
                     ->data)[((i / t->lanes * features + f) * t->t + k) * t->lanes + i % t->lanes] =
                    (float)v[(i * t->t + k) * features + f];
    free(v);
}

static void close_enough(const char *what, const double *want, const double *got, int64_t n)
{
    double norm = 0, diff = 0;
    for (int64_t i = 0; i < n; i++) {
        norm += want[i] * want[i];
        diff += (want[i] - got[i]) * (want[i] - got[i]);
    }
    if (!(sqrt(diff) <= tolerance * sqrt(norm) + 1e-30))
        fail_msg("%s: |difference| %g, |expected| %g, %lld values, first %g against %g", what,
                 sqrt(diff), sqrt(norm), (long long)n, got[0], want[0]);
}

static void guards_intact(pair *p, const char *what, const twin *x)
{
    for (int i = 0; i < 2; i++) {
        double guard[GUARD];
        size_t real = p->be[i]->ops->real_bytes;
        ok(p->be[i]->ops->read(p->be[i], guard, x->t[i].data, (int64_t)(x->bytes[i] / real),
                               GUARD));
        for (int k = 0; k < GUARD; k++)
            if (guard[k] != guard_value)
                fail_msg("%s: guard %d overwritten", what, k);
    }
}

static void twin_same(pair *p, const char *what, const twin *x)
{
    int64_t n = count(&x->t[0]);
    double *v[2];
    for (int i = 0; i < 2; i++) {
        v[i] = malloc((size_t)n * sizeof(double));
        ok(p->be[i]->ops->download(p->be[i], v[i], &x->t[i]));
    }
    close_enough(what, v[0], v[1], n);
    guards_intact(p, what, x);
    free(v[0]);
    free(v[1]);
}

static void twin_free(pair *p, twin *x)
{
    for (int i = 0; i < 2; i++)
        p->be[i]->ops->release(p->be[i], x->t[i].data);
}

static twin vector_make(pair *p, int64_t n)
{
    twin x = twin_make(p, 1, 1, n, 1, 1, 1, 16); /* only its first n reals are used */
    double *v = malloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (double)(float)draw(p);
    for (int i = 0; i < 2; i++)
        ok(p->be[i]->ops->write(p->be[i], x.t[i].data, 0, v, n));
    free(v);
    return x;
}

static void vector_same(pair *p, const char *what, const twin *x, int64_t n)
{
    double *v[2];
    for (int i = 0; i < 2; i++) {
        v[i] = malloc((size_t)n * sizeof(double));
        ok(p->be[i]->ops->read(p->be[i], v[i], x->t[i].data, 0, n));
    }
    close_enough(what, v[0], v[1], n);
    guards_intact(p, what, x);
    free(v[0]);
    free(v[1]);
}

typedef struct shape {
    int64_t cap, b, lanes, t, c, h, w, o;
} shape;

static const shape shapes[] = {
    {1, 1, 16, 1, 1, 4, 4, 1},      {16, 16, 16, 3, 5, 2, 2, 7},   {17, 17, 16, 1, 3, 6, 4, 10},
    {40, 33, 16, 10, 7, 4, 2, 3},   {33, 33, 48, 2, 17, 2, 6, 5},  {128, 100, 128, 1, 31, 2, 2, 13},
    {200, 130, 128, 4, 4, 4, 8, 2}, {48, 31, 16, 11, 2, 8, 8, 33},
};

static twin make(pair *p, const shape *s, int64_t c, int64_t h, int64_t w, int64_t t)
{
    twin x = twin_make(p, s->cap, s->b, c, h, w, t, s->lanes);
    twin_fill(p, &x);
    return x;
}

#define RUN(op, args) ok(p->be[i]->ops->op(p->be[i], args))

static void linear(pair *p, const shape *s)
{
    twin x = make(p, s, s->c, 1, 1, s->t), y = make(p, s, s->o, 1, 1, s->t);
    twin x1 = make(p, s, s->c, 1, 1, 1), y1 = make(p, s, s->o, 1, 1, 1);
    twin w = vector_make(p, s->o * s->c), bias = vector_make(p, s->o);
    double *theta[2];
    for (int i = 0; i < 2; i++) {
        lips_linear_args a = {
            .y = y1.t[i], .x = x1.t[i], .w = w.t[i].data, .bias = bias.t[i].data, .relu = true};
        RUN(linear_forward, &a);
        a = (lips_linear_args){.y = y.t[i], .x = x.t[i], .w = w.t[i].data};
        RUN(linear_forward, &a);
    }
    twin_same(p, "linear_forward relu", &y1);
    twin_same(p, "linear_forward", &y);
    for (int i = 0; i < 2; i++) {
        theta[i] = calloc((size_t)(s->b * s->t * s->t), sizeof(double));
        lips_linear_args a = {.y = y.t[i], .x = x.t[i], .w = w.t[i].data, .mask = &x1.t[i]};
        RUN(linear_vjp, &a);
        a = (lips_linear_args){.y = y1.t[i], .x = x1.t[i], .dw = w.t[i].data, .db = bias.t[i].data};
        RUN(linear_grad, &a);
        a = (lips_linear_args){.y = y.t[i], .x = x1.t[i], .theta = theta[i]};
        RUN(linear_gram, &a);
    }
    twin_same(p, "linear_vjp", &x);
    vector_same(p, "linear_grad dw", &w, s->o * s->c);
    vector_same(p, "linear_grad db", &bias, s->o);
    close_enough("linear_gram", theta[0], theta[1], s->b * s->t * s->t);
    for (int i = 0; i < 2; i++)
        free(theta[i]);
    twin *all[] = {&x, &y, &x1, &y1, &w, &bias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        twin_free(p, all[i]);
}

static void elementwise(pair *p, const shape *s)
{
    twin x = make(p, s, s->c, s->h, s->w, s->t), y = make(p, s, s->c, s->h, s->w, s->t);
    twin x1 = make(p, s, s->c, s->h, s->w, 1), bias = vector_make(p, s->c);
    twin half = make(p, s, s->c, s->h / 2, s->w / 2, s->t), one = make(p, s, s->c, 1, 1, s->t);
    double *theta[2];
    for (int i = 0; i < 2; i++) {
        theta[i] = calloc((size_t)(s->b * s->t * s->t), sizeof(double));
        ok(p->be[i]->ops->add(p->be[i], &y.t[i], &x.t[i], &y.t[i]));
        RUN(bias_forward, &((lips_bias_args){.y = y.t[i], .bias = bias.t[i].data}));
        RUN(bias_grad, &((lips_bias_args){.y = x1.t[i], .db = bias.t[i].data}));
        RUN(bias_gram, &((lips_bias_args){.y = y.t[i], .theta = theta[i]}));
        RUN(relu_mask, &((lips_relu_args){.y = y.t[i], .x = y.t[i], .mask = &x1.t[i]}));
        RUN(avgpool_forward, &((lips_pool_args){.y = half.t[i], .x = y.t[i], .k = 2}));
        RUN(avgpool_forward, &((lips_pool_args){.y = one.t[i], .x = y.t[i], .k = 0}));
    }
    close_enough("bias_gram", theta[0], theta[1], s->b * s->t * s->t);
    vector_same(p, "bias_grad", &bias, s->c);
    twin_same(p, "add, bias, relu_mask", &y);
    twin_same(p, "avgpool_forward", &half);
    twin_same(p, "avgpool_forward global", &one);
    for (int i = 0; i < 2; i++) {
        RUN(relu_forward, &((lips_relu_args){.y = x.t[i], .x = x.t[i]}));
        RUN(avgpool_vjp,
            &((lips_pool_args){.y = half.t[i], .x = y.t[i], .k = 2, .mask = &x1.t[i]}));
    }
    twin_same(p, "relu_forward", &x);
    twin_same(p, "avgpool_vjp", &y);
    for (int i = 0; i < 2; i++) {
        RUN(avgpool_vjp, &((lips_pool_args){.y = one.t[i], .x = y.t[i], .k = 0}));
        memset(theta[i], 0, (size_t)(s->b * s->t * s->t) * sizeof(double));
        RUN(gram, &((lips_gram_args){.x = x.t[i], .g = theta[i]}));
    }
    twin_same(p, "avgpool_vjp global", &y);
    close_enough("gram", theta[0], theta[1], s->b * s->t * s->t);
    for (int i = 0; i < 2; i++)
        free(theta[i]);
    twin *all[] = {&x, &y, &x1, &bias, &half, &one};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        twin_free(p, all[i]);
}

static void batch_norm(pair *p, const shape *s, bool training)
{
    twin in = make(p, s, s->c, s->h, s->w, 1), out = make(p, s, s->c, s->h, s->w, 1);
    twin u = make(p, s, s->c, s->h, s->w, s->t), v = make(p, s, s->c, s->h, s->w, s->t);
    twin vec[6]; /* gamma, beta, mean, var, dgamma, dbeta */
    double *theta[2], *stat[2];
    for (int k = 0; k < 6; k++)
        vec[k] = vector_make(p, s->c);
    for (int i = 0; i < 2; i++) {
        stat[i] = calloc((size_t)(2 * s->c), sizeof(double));
        theta[i] = calloc((size_t)(s->b * s->t * s->t), sizeof(double));
        double *var = malloc((size_t)s->c * sizeof *var);
        for (int64_t c = 0; c < s->c; c++)
            var[c] = 0.5 + (double)c;
        ok(p->be[i]->ops->write(p->be[i], vec[3].t[i].data, 0, var, s->c));
        free(var);
        lips_bn_args a = {.y = out.t[i],
                          .x = in.t[i],
                          .gamma = vec[0].t[i].data,
                          .beta = vec[1].t[i].data,
                          .mean = vec[2].t[i].data,
                          .var = vec[3].t[i].data,
                          .batch_mean = stat[i],
                          .batch_var = stat[i] + s->c,
                          .training = training,
                          .eps = 1e-5,
                          .momentum = 0.1};
        RUN(bn_forward, &a);
        a.in = &in.t[i];
        a.y = v.t[i], a.x = u.t[i];
        RUN(bn_jvp, &a);
        a.y = v.t[i], a.x = u.t[i];
        RUN(bn_vjp, &a);
        a.y = out.t[i], a.x = in.t[i], a.dgamma = vec[4].t[i].data, a.dbeta = vec[5].t[i].data;
        RUN(bn_grad, &a);
        a.y = v.t[i], a.theta = theta[i];
        if (!training)
            RUN(bn_gram, &a);
    }
    close_enough("batch statistics", stat[0], stat[1], 2 * s->c);
    twin_same(p, "bn_forward", &out);
    twin_same(p, "bn_jvp", &v);
    twin_same(p, "bn_vjp", &u);
    for (int k = 2; k < 6; k++)
        vector_same(p, "running statistics, dgamma, dbeta", &vec[k], s->c);
    close_enough("bn_gram", theta[0], theta[1], s->b * s->t * s->t);
    for (int i = 0; i < 2; i++) {
        free(theta[i]);
        free(stat[i]);
    }
    twin *all[] = {&in, &out, &u, &v, vec, vec + 1, vec + 2, vec + 3, vec + 4, vec + 5};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        twin_free(p, all[i]);
}

static void losses(pair *p, const shape *s)
{
    twin z = make(p, s, s->o, 1, 1, 1), dz = make(p, s, s->o, 1, 1, 1);
    int64_t *labels = malloc((size_t)s->b * sizeof *labels), *pred[2];
    double *loss[2];
    for (int64_t i = 0; i < s->b; i++)
        labels[i] = (i * 7 + 3) % s->o;
    for (int i = 0; i < 2; i++) {
        pred[i] = malloc((size_t)s->b * sizeof(int64_t));
        loss[i] = malloc((size_t)s->b * sizeof(double));
    }
    for (int kind = 0; kind < 2; kind++) {
        for (int i = 0; i < 2; i++)
            RUN(loss, &((lips_loss_args){.kind = (lips_loss_kind)kind,
                                         .z = z.t[i],
                                         .labels = labels,
                                         .loss = loss[i],
                                         .pred = pred[i],
                                         .dz = &dz.t[i],
                                         .scale = 0.01}));
        close_enough("loss", loss[0], loss[1], s->b);
        assert_memory_equal(pred[0], pred[1], (size_t)s->b * sizeof(int64_t));
        twin_same(p, "dz", &dz);
        const lips_tensor *t = &dz.t[1];
        int64_t slab = (t->b - 1) / t->lanes, used = t->b - slab * t->lanes;
        for (int64_t k = 0; k < t->c; k++)
            for (int64_t l = used; l < t->lanes; l++)
                assert_true(((float *)t->data)[(slab * t->c + k) * t->lanes + l] == 0);
    }
    for (int i = 0; i < 2; i++) {
        free(pred[i]);
        free(loss[i]);
    }
    free(labels);
    twin_free(p, &z);
    twin_free(p, &dz);
}

static void optimisers(pair *p, int64_t n)
{
    twin q = vector_make(p, n), g = vector_make(p, n), m = vector_make(p, n), v = vector_make(p, n);
    double sumsq[2];
    for (int i = 0; i < 2; i++) {
        lips_backend *be = p->be[i];
        double *square = malloc((size_t)n * sizeof *square);
        ok(be->ops->read(be, square, v.t[i].data, 0, n));
        for (int64_t k = 0; k < n; k++)
            square[k] = (double)(float)(square[k] * square[k]);
        ok(be->ops->write(be, v.t[i].data, 0, square, n));
        free(square);
        RUN(sgd, &((lips_sgd_args){.p = q.t[i].data,
                                   .g = g.t[i].data,
                                   .m = m.t[i].data,
                                   .n = n,
                                   .lr = 0.1,
                                   .momentum = 0.9,
                                   .weight_decay = 0.01}));
        RUN(sgd, &((lips_sgd_args){.p = q.t[i].data, .g = g.t[i].data, .n = n, .lr = 0.1}));
        for (int64_t step = 3; step < 6; step++)
            RUN(adam, &((lips_adam_args){.p = q.t[i].data,
                                         .g = g.t[i].data,
                                         .m = m.t[i].data,
                                         .v = v.t[i].data,
                                         .n = n,
                                         .step = step,
                                         .lr = 0.1,
                                         .beta1 = 0.9,
                                         .beta2 = 0.99,
                                         .eps = 1e-3,
                                         .weight_decay = 0.1}));
        ok(be->ops->diff_sumsq(be, &sumsq[i], q.t[i].data, g.t[i].data, n));
    }
    vector_same(p, "sgd, adam: p", &q, n);
    vector_same(p, "sgd, adam: m", &m, n);
    vector_same(p, "adam: v", &v, n);
    close_enough("diff_sumsq", &sumsq[0], &sumsq[1], 1);
    twin *all[] = {&q, &g, &m, &v};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        twin_free(p, all[i]);
}

static void transfers(pair *p, const shape *s)
{
    twin x = make(p, s, s->c, s->h, s->w, 1), e = make(p, s, s->o, 1, 1, s->o);
    int64_t features = s->c * s->h * s->w, n = 3 * s->b;
    float *rows = malloc((size_t)(n * features) * sizeof *rows);
    int64_t *idx = malloc((size_t)s->b * sizeof *idx);
    for (int64_t i = 0; i < n * features; i++)
        rows[i] = (float)draw(p);
    for (int64_t i = 0; i < s->b; i++)
        idx[i] = (i * 5 + 2) % n;
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 2; i++)
            ok(p->be[i]->ops->upload(p->be[i], &x.t[i], rows, k ? idx : NULL));
        twin_same(p, "upload", &x);
    }
    const lips_tensor *t = &x.t[1];
    for (int64_t i = t->b; i < (t->cap + t->lanes - 1) / t->lanes * t->lanes; i++)
        for (int64_t f = 0; f < features; f++)
            assert_true(
                ((float *)t->data)[(i / t->lanes * features + f) * t->lanes + i % t->lanes] == 0);
    for (int i = 0; i < 2; i++)
        ok(p->be[i]->ops->eye(p->be[i], &e.t[i], 0.25));
    twin_same(p, "eye", &e);
    for (int i = 0; i < 2; i++)
        ok(p->be[i]->ops->fill(p->be[i], &e.t[i], -1.5));
    twin_same(p, "fill", &e);
    free(rows);
    free(idx);
    twin_free(p, &x);
    twin_free(p, &e);
}

static void run_all(const char *isa)
{
    pair p = {0};
    if (setenv("LIPSWEEP_ISA", isa, 1) != 0)
        fail();
    const lips_ops *ref = lips_backend_find("ref"), *cpu = lips_backend_find("cpu");
    ok(ref->open(&p.be[0], 0));
    if (cpu->open(&p.be[1], 0) != LIPS_OK) { /* this processor does not have it */
        ref->close(p.be[0]);
        skip();
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        linear(&p, &shapes[i]);
        elementwise(&p, &shapes[i]);
        batch_norm(&p, &shapes[i], false);
        batch_norm(&p, &shapes[i], true);
        losses(&p, &shapes[i]);
        transfers(&p, &shapes[i]);
    }
    const int64_t sizes[] = {1, 3, 4, 5, 15, 16, 17, 100, 1031};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        optimisers(&p, sizes[i]);
    cpu->close(p.be[1]);
    ref->close(p.be[0]);
}

static void test_avx512(void **state)
{
    (void)state;
    run_all("avx512");
}

static void test_avx2(void **state)
{
    (void)state;
    run_all("avx2");
}

static void test_base(void **state)
{
    (void)state;
    run_all("base");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_avx512),
        cmocka_unit_test(test_avx2),
        cmocka_unit_test(test_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
