#include "opcases.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct sizes {
    int64_t c, h, w, t;
} sizes;

/* Positive values near 1: variances. */
static void *variances(opcase *c, int64_t n)
{
    void *p = opcase_reals(c, n);
    double *v = malloc((size_t)n * sizeof *v);
    if (!v)
        abort();
    opcase_ok(c->be->ops->read(c->be, v, p, 0, n));
    for (int64_t i = 0; i < n; i++)
        v[i] = (double)(float)(0.25 + v[i] * v[i]);
    opcase_ok(c->be->ops->write(c->be, p, 0, v, n));
    free(v);
    return p;
}

/* Everything but y and x: parameters, running statistics, batch statistics of `in`. */
static lips_bn_args begin(opcase *c, sizes *z, bool training, int64_t t, lips_tensor *in)
{
    static const int64_t side[] = {1, 2, 3, 5};
    opcase_batch(c, pick_batch(c), true);
    *z = (sizes){pick_width(c), opcase_pick(c, side, 4), opcase_pick(c, side, 4),
                 t ? t : pick_stack(c)};
    /* With two values per channel the derivative is 0 but for eps: all digits cancel. Eight are
     * enough for an ordinary condition; test_ref_derivatives has the small ones. */
    if (training && c->b * z->h * z->w < 8)
        z->h = z->w = 3;
    snprintf(c->shape, sizeof c->shape,
             "B=%" PRId64 " cap=%" PRId64 " C=%" PRId64 " HxW=%" PRId64 "x%" PRId64 " T=%" PRId64
             " %s",
             c->b, c->cap, z->c, z->h, z->w, z->t, training ? "training" : "evaluation");
    *in = opcase_input(c, z->c, z->h, z->w, 1);
    return (lips_bn_args){.in = in,
                          .gamma = opcase_reals(c, z->c),
                          .beta = opcase_reals(c, z->c),
                          .mean = opcase_reals(c, z->c),
                          .var = variances(c, z->c),
                          .batch_mean = opcase_doubles(c, z->c, true),
                          .batch_var = opcase_doubles(c, z->c, true),
                          .training = training,
                          .eps = 1e-5,
                          .momentum = 0.1};
}

static void statistics_of(opcase *c, lips_bn_args *a, const lips_tensor *in)
{
    if (!a->training)
        return;
    lips_bn_args f = *a;
    f.x = *in;
    f.y = opcase_output(c, in->c, in->h, in->w, 1);
    opcase_ok(c->be->ops->bn_forward(c->be, &f));
}

static void forward(opcase *c)
{
    sizes z;
    lips_tensor in;
    lips_bn_args a = begin(c, &z, pick_bool(c), 1, &in);
    a.x = in;
    a.y = opcase_output(c, z.c, z.h, z.w, 1);
    a.tracked = opcase_reals(c, 1);
    opcase_ok(c->be->ops->bn_forward(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
    opcase_emit_reals(c, "mean", a.mean, z.c);
    opcase_emit_reals(c, "var", a.var, z.c);
    opcase_emit_reals(c, "tracked", a.tracked, 1);
    if (a.training) {
        opcase_emit_doubles(c, "batch_mean", a.batch_mean, z.c);
        opcase_emit_doubles(c, "batch_var", a.batch_var, z.c);
    }
}

static void jvp(opcase *c)
{
    sizes z;
    lips_tensor in;
    lips_bn_args a = begin(c, &z, pick_bool(c), 0, &in);
    statistics_of(c, &a, &in);
    a.x = opcase_input(c, z.c, z.h, z.w, z.t);
    a.y = opcase_output(c, z.c, z.h, z.w, z.t);
    opcase_ok(c->be->ops->bn_jvp(c->be, &a));
    opcase_emit_tensor(c, "ydot", &a.y);
}

static void vjp(opcase *c)
{
    sizes z;
    lips_tensor in;
    lips_bn_args a = begin(c, &z, pick_bool(c), 0, &in);
    statistics_of(c, &a, &in);
    a.y = opcase_input(c, z.c, z.h, z.w, z.t);
    a.x = opcase_output(c, z.c, z.h, z.w, z.t);
    opcase_ok(c->be->ops->bn_vjp(c->be, &a));
    opcase_emit_tensor(c, "dx", &a.x);
}

static void grad(opcase *c)
{
    sizes z;
    lips_tensor in;
    lips_bn_args a = begin(c, &z, pick_bool(c), 1, &in);
    statistics_of(c, &a, &in);
    a.x = in;
    a.y = opcase_input(c, z.c, z.h, z.w, 1);
    a.dgamma = opcase_reals(c, z.c);
    a.dbeta = opcase_reals(c, z.c);
    opcase_ok(c->be->ops->bn_grad(c->be, &a));
    opcase_emit_reals(c, "dgamma", a.dgamma, z.c);
    opcase_emit_reals(c, "dbeta", a.dbeta, z.c);
}

static void gram(opcase *c)
{
    sizes z;
    lips_tensor in;
    lips_bn_args a = begin(c, &z, false, 0, &in);
    a.x = in;
    a.y = opcase_input(c, z.c, z.h, z.w, z.t);
    a.theta = opcase_doubles(c, c->b * z.t * z.t, false);
    opcase_ok(c->be->ops->bn_gram(c->be, &a));
    opcase_emit_doubles(c, "theta", a.theta, c->b * z.t * z.t);
}

static const opcase_row rows[] = {
    OPCASE_ROW(bn_forward, forward, OP_SUM, 40), OPCASE_ROW(bn_jvp, jvp, OP_SUM, 40),
    OPCASE_ROW(bn_vjp, vjp, OP_SUM, 40),         OPCASE_ROW(bn_grad, grad, OP_SUM, 40),
    OPCASE_ROW(bn_gram, gram, OP_SUM, 40),
};

const opcase_table opcases_bn = {rows, sizeof rows / sizeof rows[0]};
