#include "opcases.h"

#include <inttypes.h>
#include <stdio.h>

typedef struct sizes {
    int64_t c, h, w, t;
} sizes;

static sizes begin(opcase *c, int64_t t)
{
    static const int64_t side[] = {1, 2, 3, 5, 8};
    sizes z = {.h = opcase_pick(c, side, 5), .w = opcase_pick(c, side, 5)};
    opcase_batch(c, pick_batch(c), true);
    z.c = pick_width(c);
    z.t = t ? t : pick_stack(c);
    snprintf(c->shape, sizeof c->shape,
             "B=%" PRId64 " cap=%" PRId64 " C=%" PRId64 " HxW=%" PRId64 "x%" PRId64 " T=%" PRId64,
             c->b, c->cap, z.c, z.h, z.w, z.t);
    return z;
}

static void bias_forward(opcase *c)
{
    sizes z = begin(c, 0);
    lips_bias_args a = {.y = opcase_input(c, z.c, z.h, z.w, z.t), .bias = opcase_reals(c, z.c)};
    opcase_ok(c->be->ops->bias_forward(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void bias_grad(opcase *c)
{
    sizes z = begin(c, 1);
    lips_bias_args a = {.y = opcase_input(c, z.c, z.h, z.w, 1), .db = opcase_reals(c, z.c)};
    opcase_ok(c->be->ops->bias_grad(c->be, &a));
    opcase_emit_reals(c, "db", a.db, z.c);
}

static void bias_gram(opcase *c)
{
    sizes z = begin(c, 0);
    lips_bias_args a = {.y = opcase_input(c, z.c, z.h, z.w, z.t),
                        .theta = opcase_doubles(c, c->b * z.t * z.t, false)};
    opcase_ok(c->be->ops->bias_gram(c->be, &a));
    opcase_emit_doubles(c, "theta", a.theta, c->b * z.t * z.t);
}

static void relu_forward(opcase *c)
{
    sizes z = begin(c, 0);
    lips_relu_args a = {.x = opcase_input(c, z.c, z.h, z.w, z.t)};
    a.y = pick_bool(c) ? a.x : opcase_output(c, z.c, z.h, z.w, z.t);
    opcase_ok(c->be->ops->relu_forward(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void relu_mask(opcase *c)
{
    sizes z = begin(c, 0);
    lips_tensor mask = opcase_input(c, z.c, z.h, z.w, 1);
    lips_relu_args a = {.x = opcase_input(c, z.c, z.h, z.w, z.t), .mask = &mask};
    a.y = pick_bool(c) ? a.x : opcase_output(c, z.c, z.h, z.w, z.t);
    opcase_ok(c->be->ops->relu_mask(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void add(opcase *c)
{
    sizes z = begin(c, 0);
    lips_tensor a = opcase_input(c, z.c, z.h, z.w, z.t), b = opcase_input(c, z.c, z.h, z.w, z.t);
    int64_t where = opcase_pick(c, (const int64_t[]){0, 1, 2}, 3);
    lips_tensor y = where == 1 ? a : where == 2 ? b : opcase_output(c, z.c, z.h, z.w, z.t);
    opcase_ok(c->be->ops->add(c->be, &y, &a, &b));
    opcase_emit_tensor(c, "y", &y);
}

static void gram(opcase *c)
{
    sizes z = begin(c, 0);
    lips_gram_args a = {.x = opcase_input(c, z.c, z.h, z.w, z.t),
                        .g = opcase_doubles(c, c->b * z.t * z.t, false)};
    opcase_ok(c->be->ops->gram(c->be, &a));
    opcase_emit_doubles(c, "g", a.g, c->b * z.t * z.t);
}

/* Pooled size and window; the full image is window times that. */
static lips_pool_args pool_args(opcase *c, sizes *z, bool backward)
{
    static const int64_t window[] = {2, 0, 1, 3};
    *z = begin(c, 0);
    lips_pool_args a = {.k = opcase_pick(c, window, 4)};
    int64_t k = a.k ? a.k : 1, ph = a.k ? z->h : 1, pw = a.k ? z->w : 1;
    z->h *= k;
    z->w *= k;
    a.x = (backward ? opcase_output : opcase_input)(c, z->c, z->h, z->w, z->t);
    a.y = (backward ? opcase_input : opcase_output)(c, z->c, ph, pw, z->t);
    return a;
}

static void avgpool_forward(opcase *c)
{
    sizes z;
    lips_pool_args a = pool_args(c, &z, false);
    opcase_ok(c->be->ops->avgpool_forward(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void avgpool_vjp(opcase *c)
{
    sizes z;
    lips_pool_args a = pool_args(c, &z, true);
    lips_tensor mask = opcase_input(c, z.c, z.h, z.w, 1);
    if (pick_bool(c))
        a.mask = &mask;
    opcase_ok(c->be->ops->avgpool_vjp(c->be, &a));
    opcase_emit_tensor(c, "dx", &a.x);
}

static const opcase_row rows[] = {
    OPCASE_ROW_INT(bias_forward, bias_forward, OP_ELEMENT, 30),
    OPCASE_ROW_INT(bias_grad, bias_grad, OP_SUM, 30),
    OPCASE_ROW_INT(bias_gram, bias_gram, OP_F64, 30),
    OPCASE_ROW_INT(relu_forward, relu_forward, OP_EXACT, 30),
    OPCASE_ROW_INT(relu_mask, relu_mask, OP_EXACT, 30),
    OPCASE_ROW(avgpool_forward, avgpool_forward, OP_ELEMENT, 40),
    OPCASE_ROW(avgpool_vjp, avgpool_vjp, OP_ELEMENT, 40),
    OPCASE_ROW_INT(add, add, OP_ELEMENT, 30),
    OPCASE_ROW_INT(gram, gram, OP_F64, 40),
};

const opcase_table opcases_simple = {rows, sizeof rows / sizeof rows[0]};
