#include "opcases.h"

#include "backend/cpu/conv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Half of the cases are the geometry that networks use most. */
static const lips_conv_geom geoms[] = {{3, 1, 1}, {3, 1, 1}, {3, 1, 1}, {3, 1, 1}, {3, 2, 1},
                                       {1, 1, 0}, {1, 2, 0}, {3, 1, 0}, {5, 1, 2}, {5, 2, 2},
                                       {3, 1, 2}, {2, 2, 1}, {4, 4, 0}};
enum { N_GEOMS = sizeof geoms / sizeof geoms[0] };

typedef struct sizes {
    int64_t c, h, w, o, oh, ow, t;
    lips_conv_geom g;
} sizes;

/* small: for gram, whose reference costs T times more. */
static sizes begin(opcase *c, int64_t t, bool small)
{
    static const int64_t few[] = {1, 2, 3, 5, 8, 16, 17, 33}, side[] = {4, 5, 6, 7, 8, 9};
    sizes z = {.g = geoms[opcase_pick(
                   c, (const int64_t[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, N_GEOMS)]};
    opcase_batch(c, small ? opcase_pick(c, (const int64_t[]){1, 3, 16, 17}, 4) : pick_batch(c),
                 true);
    z.c = opcase_pick(c, few, small ? 5 : 8);
    z.o = opcase_pick(c, few, small ? 5 : 8);
    z.h = opcase_pick(c, side, small ? 5 : 6);
    z.w = opcase_pick(c, side, small ? 5 : 6);
    z.t = t ? t : pick_stack(c);
    z.oh = lips_conv_out(z.h, &z.g);
    z.ow = lips_conv_out(z.w, &z.g);
    snprintf(c->shape, sizeof c->shape,
             "B=%" PRId64 " cap=%" PRId64 " C=%" PRId64 " HxW=%" PRId64 "x%" PRId64 " O=%" PRId64
             " R=%" PRId64 " stride=%" PRId64 " pad=%" PRId64 " T=%" PRId64,
             c->b, c->cap, z.c, z.h, z.w, z.o, z.g.r, z.g.stride, z.g.pad, z.t);
    return z;
}

/* On small integers every algorithm is exact but Winograd's, whose transforms of 3x3 kernels have
 * fractions that f32 rounds: so much is allowed where the backend says that it runs it. */
static const double ROUNDS = 2e-6;

static void set_rounds(opcase *c, lips_conv_op op, const lips_conv_args *a)
{
    bool cpu = !strcmp(c->be->ops->name, "cpu");
    c->rounds = cpu && lips_cpu_conv_choose(op, a) == LIPS_CONV_WINOGRAD ? ROUNDS : 0;
}

static void set_work(opcase *c, lips_conv_args *a)
{
    a->work = opcase_work(c, c->be->ops->conv_workspace(c->be, a));
}

static void forward(opcase *c)
{
    sizes z = begin(c, 0, false);
    lips_conv_args a = {.relu = z.t == 1 && pick_bool(c),
                        .geom = z.g,
                        .x = opcase_input(c, z.c, z.h, z.w, z.t),
                        .y = opcase_output(c, z.o, z.oh, z.ow, z.t),
                        .w = opcase_reals(c, z.o * z.c * z.g.r * z.g.r)};
    if (pick_bool(c))
        a.bias = opcase_reals(c, z.o);
    set_rounds(c, LIPS_CONV_FORWARD, &a);
    set_work(c, &a);
    opcase_ok(c->be->ops->conv_forward(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void vjp(opcase *c)
{
    sizes z = begin(c, 0, false);
    lips_conv_args a = {.geom = z.g,
                        .y = opcase_input(c, z.o, z.oh, z.ow, z.t),
                        .x = opcase_output(c, z.c, z.h, z.w, z.t),
                        .w = opcase_reals(c, z.o * z.c * z.g.r * z.g.r)};
    lips_tensor mask = opcase_input(c, z.c, z.h, z.w, 1);
    if (pick_bool(c))
        a.mask = &mask;
    set_rounds(c, LIPS_CONV_VJP, &a);
    set_work(c, &a);
    opcase_ok(c->be->ops->conv_vjp(c->be, &a));
    opcase_emit_tensor(c, "dx", &a.x);
}

static void grad(opcase *c)
{
    sizes z = begin(c, 1, false);
    int64_t wanted = opcase_pick(c, (const int64_t[]){1, 2, 3}, 3), n = z.o * z.c * z.g.r * z.g.r;
    lips_conv_args a = {.geom = z.g,
                        .y = opcase_input(c, z.o, z.oh, z.ow, 1),
                        .x = opcase_input(c, z.c, z.h, z.w, 1)};
    a.dw = wanted & 1 ? opcase_reals(c, n) : NULL;
    a.db = wanted & 2 ? opcase_reals(c, z.o) : NULL;
    set_rounds(c, LIPS_CONV_GRAD, &a);
    set_work(c, &a);
    opcase_ok(c->be->ops->conv_grad(c->be, &a));
    if (a.dw)
        opcase_emit_reals(c, "dw", a.dw, n);
    if (a.db)
        opcase_emit_reals(c, "db", a.db, z.o);
}

static void gram(opcase *c)
{
    sizes z = begin(c, 0, true);
    lips_conv_args a = {.geom = z.g,
                        .y = opcase_input(c, z.o, z.oh, z.ow, z.t),
                        .x = opcase_input(c, z.c, z.h, z.w, 1),
                        .theta = opcase_doubles(c, c->b * z.t * z.t, false)};
    set_work(c, &a);
    opcase_ok(c->be->ops->conv_gram(c->be, &a));
    opcase_emit_doubles(c, "theta", a.theta, c->b * z.t * z.t);
}

/* Its bytes differ between backends; what it must be is enough: every conv case fences what it asks
 * for. Here: nothing is asked of the tensors' memory, and the answer is the same each time. */
static void workspace(opcase *c)
{
    sizes z = begin(c, 0, false);
    lips_conv_args a = {
        .geom = z.g,
        .x = {.cap = c->cap, .b = c->b, .c = z.c, .h = z.h, .w = z.w, .t = z.t, .lanes = c->lanes},
        .y = {
            .cap = c->cap, .b = c->b, .c = z.o, .h = z.oh, .w = z.ow, .t = z.t, .lanes = c->lanes}};
    size_t bytes = c->be->ops->conv_workspace(c->be, &a);
    double same = bytes == c->be->ops->conv_workspace(c->be, &a) && bytes < (size_t)1 << 40;
    opcase_emit_doubles(c, "same and sane", &same, 1);
}

/* Every op, in every precision and by every library. */
static void any_arithmetic(opcase *c)
{
    void (*const ops[])(opcase *) = {forward, vjp, grad};
    c->tol = pick_arithmetic(c);
    ops[opcase_pick(c, (const int64_t[]){0, 1, 2}, 3)](c);
}

static const opcase_row rows[] = {
    OPCASE_ROW_INT(set_libraries, any_arithmetic, OP_BF16, 30),
    OPCASE_ROW(conv_workspace, workspace, OP_EXACT, 20),
    OPCASE_ROW_INT(conv_forward, forward, OP_CONV, 80),
    OPCASE_ROW_INT(conv_vjp, vjp, OP_CONV, 80),
    OPCASE_ROW_INT(conv_grad, grad, OP_CONV, 80),
    OPCASE_ROW_INT(conv_gram, gram, OP_CONV, 60),
};

const opcase_table opcases_conv = {rows, sizeof rows / sizeof rows[0]};
