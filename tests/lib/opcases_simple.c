#include "opcases.h"

#include "cmocka_all.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

/* Gram matrices of K random vectors; p a softmax of logits, every other time far apart: near a unit
 * vector, as at interpolation. */
static void norms(opcase *c)
{
    static const int64_t order[] = {1, 2, 3, 10, 16, 17, 31, 32, 33, 100}, counts[] = {1, 3, 4, 5};
    opcase_batch(c, 1, false);
    const int64_t picked = opcase_pick(c, order, 10), n = opcase_pick(c, counts, 4);
    const int64_t map = opcase_pick(c, (const int64_t[]){0, 1, 2, 3, 4}, 5);
    const bool most = c->index == 0; /* however few cases run: more than a warp, and every step */
    const int64_t k = most ? 33 : picked;
    lips_norms_args a = {.map = most ? LIPS_MAP_SOFTMAX : (lips_output_map)map,
                         .n = n,
                         .k = k,
                         .op = opcase_doubles(c, n, true),
                         .fro = opcase_doubles(c, n, true)};
    double *g = opcase_doubles(c, n * k * k, false), *j = calloc((size_t)(k * k), sizeof *j);
    double *p = calloc((size_t)(n * k), sizeof *p);
    const double spread = pick_bool(c) ? 1 : 20;
    assert_non_null(j);
    assert_non_null(p);
    snprintf(c->shape, sizeof c->shape, "N=%" PRId64 " K=%" PRId64 " map=%d spread=%g", n, k, a.map,
             spread);
    for (int64_t s = 0; s < n; s++) {
        double sum = 0;
        for (int64_t i = 0; i < k * k; i++)
            j[i] = opcase_value(c);
        for (int64_t i = 0; i < k * k; i++) {
            g[s * k * k + i] = 0;
            for (int64_t l = 0; l < k; l++)
                g[s * k * k + i] += j[i / k * k + l] * j[i % k * k + l];
        }
        for (int64_t i = 0; i < k; i++)
            sum += p[s * k + i] = exp(spread * opcase_value(c));
        for (int64_t i = 0; i < k; i++)
            p[s * k + i] /= sum;
    }
    a.g = g;
    a.p = a.map == LIPS_MAP_PLAIN ? NULL : p;
    opcase_ok(c->be->ops->norms(c->be, &a));
    free(j), free(p); /* the host's, read when the op returns */
    opcase_emit_doubles(c, "op", a.op, n);
    opcase_emit_doubles(c, "fro", a.fro, n);
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
    OPCASE_ROW(norms, norms, OP_F64, 60),
};

const opcase_table opcases_simple = {rows, sizeof rows / sizeof rows[0]};
