#include "opcases.h"

#include <inttypes.h>
#include <stdio.h>

/* Larger than a tile now and then. */
static int64_t pick_features(opcase *c)
{
    static const int64_t large[] = {63, 100, 130, 300};
    return opcase_pick(c, (const int64_t[]){0, 1, 2, 3, 4}, 5) ? pick_width(c)
                                                               : opcase_pick(c, large, 4);
}

typedef struct sizes {
    int64_t c, o, t;
} sizes;

static sizes begin(opcase *c, int64_t t)
{
    opcase_batch(c, pick_batch(c), false);
    sizes z = {pick_features(c), pick_features(c), t ? t : pick_stack(c)};
    snprintf(c->shape, sizeof c->shape,
             "B=%" PRId64 " cap=%" PRId64 " C=%" PRId64 " O=%" PRId64 " T=%" PRId64, c->b, c->cap,
             z.c, z.o, z.t);
    return z;
}

static void forward(opcase *c)
{
    sizes z = begin(c, 0);
    lips_linear_args a = {.relu = z.t == 1 && pick_bool(c),
                          .x = opcase_input(c, z.c, 1, 1, z.t),
                          .y = opcase_output(c, z.o, 1, 1, z.t),
                          .w = opcase_reals(c, z.c * z.o)};
    if (pick_bool(c))
        a.bias = opcase_reals(c, z.o);
    opcase_ok(c->be->ops->linear_forward(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void vjp(opcase *c)
{
    sizes z = begin(c, 0);
    lips_linear_args a = {.y = opcase_input(c, z.o, 1, 1, z.t),
                          .x = opcase_output(c, z.c, 1, 1, z.t),
                          .w = opcase_reals(c, z.c * z.o)};
    lips_tensor mask = opcase_input(c, z.c, 1, 1, 1);
    if (pick_bool(c))
        a.mask = &mask;
    opcase_ok(c->be->ops->linear_vjp(c->be, &a));
    opcase_emit_tensor(c, "dx", &a.x);
}

static void grad(opcase *c)
{
    sizes z = begin(c, 1);
    int64_t wanted = opcase_pick(c, (const int64_t[]){1, 2, 3}, 3);
    lips_linear_args a = {.y = opcase_input(c, z.o, 1, 1, 1), .x = opcase_input(c, z.c, 1, 1, 1)};
    a.dw = wanted & 1 ? opcase_reals(c, z.c * z.o) : NULL;
    a.db = wanted & 2 ? opcase_reals(c, z.o) : NULL;
    opcase_ok(c->be->ops->linear_grad(c->be, &a));
    if (a.dw)
        opcase_emit_reals(c, "dw", a.dw, z.c * z.o);
    if (a.db)
        opcase_emit_reals(c, "db", a.db, z.o);
}

static void gram(opcase *c)
{
    sizes z = begin(c, 0);
    lips_linear_args a = {.y = opcase_input(c, z.o, 1, 1, z.t),
                          .x = opcase_input(c, z.c, 1, 1, 1),
                          .theta = opcase_doubles(c, c->b * z.t * z.t, false)};
    opcase_ok(c->be->ops->linear_gram(c->be, &a));
    opcase_emit_doubles(c, "theta", a.theta, c->b * z.t * z.t);
}

/* Every op, in every precision and by every library. */
static void any_arithmetic(opcase *c)
{
    void (*const ops[])(opcase *) = {forward, vjp, grad};
    c->tol = pick_arithmetic(c);
    ops[opcase_pick(c, (const int64_t[]){0, 1, 2}, 3)](c);
}

static const opcase_row rows[] = {
    OPCASE_ROW_INT(set_precision, any_arithmetic, OP_BF16, 30),
    OPCASE_ROW_INT(linear_forward, forward, OP_SUM, 60),
    OPCASE_ROW_INT(linear_vjp, vjp, OP_SUM, 60),
    OPCASE_ROW_INT(linear_grad, grad, OP_SUM, 60),
    OPCASE_ROW_INT(linear_gram, gram, OP_F64, 40),
};

const opcase_table opcases_linear = {rows, sizeof rows / sizeof rows[0]};
