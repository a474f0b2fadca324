/* Layer norm, GELU, attention, class token and picking. */
#include "opcases.h"

#include <inttypes.h>
#include <stdio.h>

typedef struct sizes {
    int64_t c, h, w, t;
} sizes;

/* Channels: not two, where what a layer norm does to a tangent is 0 but for eps and all digits
 * cancel (test_ref_derivatives has them); t 0: any stack; spatial: a tensor of several places
 * belongs to the plan, whatever H and W are. */
static sizes begin_in(opcase *c, int64_t t, bool spatial)
{
    static const int64_t width[] = {1, 3, 4, 5, 8, 13, 16, 17, 33, 64}, side[] = {1, 2, 3, 5, 7};
    sizes z = {opcase_pick(c, width, 10), opcase_pick(c, side, 5), opcase_pick(c, side, 5),
               t ? t : pick_stack(c)};
    opcase_batch(c, pick_batch(c), spatial || z.h * z.w > 1 || pick_bool(c));
    snprintf(c->shape, sizeof c->shape,
             "B=%" PRId64 " cap=%" PRId64 " C=%" PRId64 " HxW=%" PRId64 "x%" PRId64 " T=%" PRId64,
             c->b, c->cap, z.c, z.h, z.w, z.t);
    return z;
}

static sizes begin(opcase *c, int64_t t)
{
    return begin_in(c, t, false);
}

/* ---- layer norm ---- */

static lips_ln_args ln_begin(opcase *c, int64_t t, sizes *z, lips_tensor *in, lips_tensor *dot)
{
    *z = begin(c, t);
    *in = opcase_input(c, z->c, z->h, z->w, 1);
    *dot = opcase_input(c, z->c, z->h, z->w, 1);
    return (lips_ln_args){.in = in,
                          .dot = dot,
                          .gamma = opcase_reals(c, z->c),
                          .beta = opcase_reals(c, z->c),
                          .eps = 1e-6};
}

static void ln_forward(opcase *c)
{
    sizes z;
    lips_tensor in, dot;
    lips_ln_args a = ln_begin(c, 1, &z, &in, &dot);
    a.x = in;
    a.y = pick_bool(c) ? in : opcase_output(c, z.c, z.h, z.w, 1);
    opcase_ok(c->be->ops->ln_forward(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void ln_jvp(opcase *c)
{
    sizes z;
    lips_tensor in, dot;
    lips_ln_args a = ln_begin(c, 0, &z, &in, &dot);
    a.x = opcase_input(c, z.c, z.h, z.w, z.t);
    a.y = opcase_output(c, z.c, z.h, z.w, z.t);
    opcase_ok(c->be->ops->ln_jvp(c->be, &a));
    opcase_emit_tensor(c, "ydot", &a.y);
}

static void ln_vjp(opcase *c)
{
    sizes z;
    lips_tensor in, dot;
    lips_ln_args a = ln_begin(c, 0, &z, &in, &dot);
    a.y = opcase_input(c, z.c, z.h, z.w, z.t);
    a.x = opcase_output(c, z.c, z.h, z.w, z.t);
    opcase_ok(c->be->ops->ln_vjp(c->be, &a));
    opcase_emit_tensor(c, "dx", &a.x);
}

static void ln_grad(opcase *c)
{
    sizes z;
    lips_tensor in, dot;
    lips_ln_args a = ln_begin(c, 1, &z, &in, &dot);
    int64_t wanted = opcase_pick(c, (const int64_t[]){1, 2, 3}, 3);
    a.x = in;
    a.y = opcase_input(c, z.c, z.h, z.w, 1);
    a.dgamma = wanted & 1 ? opcase_reals(c, z.c) : NULL;
    a.dbeta = wanted & 2 ? opcase_reals(c, z.c) : NULL;
    opcase_ok(c->be->ops->ln_grad(c->be, &a));
    if (a.dgamma)
        opcase_emit_reals(c, "dgamma", a.dgamma, z.c);
    if (a.dbeta)
        opcase_emit_reals(c, "dbeta", a.dbeta, z.c);
}

static void ln_gram(opcase *c)
{
    sizes z;
    lips_tensor in, dot;
    lips_ln_args a = ln_begin(c, 0, &z, &in, &dot);
    a.x = in;
    a.y = opcase_input(c, z.c, z.h, z.w, z.t);
    a.theta = opcase_doubles(c, c->b * z.t * z.t, false);
    opcase_ok(c->be->ops->ln_gram(c->be, &a));
    opcase_emit_doubles(c, "theta", a.theta, c->b * z.t * z.t);
}

static void ln_vjp_dot(opcase *c)
{
    sizes z;
    lips_tensor in, dot;
    lips_ln_args a = ln_begin(c, 1, &z, &in, &dot);
    a.y = opcase_input(c, z.c, z.h, z.w, 1);
    a.x = opcase_output(c, z.c, z.h, z.w, 1);
    opcase_ok(c->be->ops->ln_vjp_dot(c->be, &a));
    opcase_emit_tensor(c, "dx", &a.x);
}

static void ln_grad_dot(opcase *c)
{
    sizes z;
    lips_tensor in, dot;
    lips_ln_args a = ln_begin(c, 1, &z, &in, &dot);
    a.y = opcase_input(c, z.c, z.h, z.w, 1);
    a.dgamma = opcase_reals(c, z.c);
    opcase_ok(c->be->ops->ln_grad_dot(c->be, &a));
    opcase_emit_reals(c, "dgamma", a.dgamma, z.c);
}

/* ---- GELU ---- */

static void gelu_forward(opcase *c)
{
    sizes z = begin(c, 0);
    lips_gelu_args a = {.x = opcase_input(c, z.c, z.h, z.w, z.t)};
    a.y = pick_bool(c) ? a.x : opcase_output(c, z.c, z.h, z.w, z.t);
    opcase_ok(c->be->ops->gelu_forward(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void gelu_slope(opcase *c)
{
    sizes z = begin(c, 0);
    lips_tensor in = opcase_input(c, z.c, z.h, z.w, 1);
    lips_gelu_args a = {.x = opcase_input(c, z.c, z.h, z.w, z.t), .in = &in};
    a.y = pick_bool(c) ? a.x : opcase_output(c, z.c, z.h, z.w, z.t);
    opcase_ok(c->be->ops->gelu_slope(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void gelu_vjp_dot(opcase *c)
{
    sizes z = begin(c, 1);
    lips_tensor in = opcase_input(c, z.c, z.h, z.w, 1), dot = opcase_input(c, z.c, z.h, z.w, 1);
    lips_gelu_args a = {.x = opcase_input(c, z.c, z.h, z.w, 1), .in = &in, .dot = &dot};
    a.y = pick_bool(c) ? a.x : opcase_output(c, z.c, z.h, z.w, 1);
    opcase_ok(c->be->ops->gelu_vjp_dot(c->be, &a));
    opcase_emit_tensor(c, "dx", &a.y);
}

/* ---- attention ---- */

static lips_attn_args attn_begin(opcase *c, int64_t t, sizes *z)
{
    static const int64_t d[] = {1, 2, 3, 5, 8, 32}, heads[] = {1, 1, 2, 3},
                         tokens[] = {1, 2, 5, 17};
    lips_attn_args a = {0};
    a.heads = opcase_pick(c, heads, 4);
    *z = (sizes){opcase_pick(c, d, 6) * a.heads, opcase_pick(c, (const int64_t[]){1, 1, 2}, 3),
                 opcase_pick(c, tokens, 4), t ? t : pick_stack(c)};
    opcase_batch(c, opcase_pick(c, (const int64_t[]){1, 15, 16, 17}, 4),
                 z->h * z->w > 1 || pick_bool(c));
    snprintf(c->shape, sizeof c->shape,
             "B=%" PRId64 " cap=%" PRId64 " C=%" PRId64 " HxW=%" PRId64 "x%" PRId64 " T=%" PRId64
             " heads=%" PRId64,
             c->b, c->cap, z->c, z->h, z->w, z->t, a.heads);
    return a;
}

static void set_work(opcase *c, lips_attn_args *a)
{
    a->work = opcase_work(c, c->be->ops->attn_workspace(c->be, a));
}

static void attn_forward(opcase *c)
{
    sizes z;
    lips_attn_args a = attn_begin(c, 1, &z);
    a.x = opcase_input(c, 3 * z.c, z.h, z.w, 1);
    a.y = opcase_output(c, z.c, z.h, z.w, 1);
    set_work(c, &a);
    opcase_ok(c->be->ops->attn_forward(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void attn_jvp(opcase *c)
{
    sizes z;
    lips_attn_args a = attn_begin(c, 0, &z);
    lips_tensor in = opcase_input(c, 3 * z.c, z.h, z.w, 1);
    a.in = &in;
    a.x = opcase_input(c, 3 * z.c, z.h, z.w, z.t);
    a.y = opcase_output(c, z.c, z.h, z.w, z.t);
    set_work(c, &a);
    opcase_ok(c->be->ops->attn_jvp(c->be, &a));
    opcase_emit_tensor(c, "ydot", &a.y);
}

static void attn_vjp(opcase *c)
{
    sizes z;
    lips_attn_args a = attn_begin(c, 0, &z);
    lips_tensor in = opcase_input(c, 3 * z.c, z.h, z.w, 1);
    a.in = &in;
    a.x = opcase_output(c, 3 * z.c, z.h, z.w, z.t);
    a.y = opcase_input(c, z.c, z.h, z.w, z.t);
    set_work(c, &a);
    opcase_ok(c->be->ops->attn_vjp(c->be, &a));
    opcase_emit_tensor(c, "dx", &a.x);
}

static void attn_vjp_dot(opcase *c)
{
    sizes z;
    lips_attn_args a = attn_begin(c, 1, &z);
    lips_tensor in = opcase_input(c, 3 * z.c, z.h, z.w, 1);
    lips_tensor dot = opcase_input(c, 3 * z.c, z.h, z.w, 1);
    a.in = &in;
    a.dot = &dot;
    a.x = opcase_output(c, 3 * z.c, z.h, z.w, 1);
    a.y = opcase_input(c, z.c, z.h, z.w, 1);
    set_work(c, &a);
    opcase_ok(c->be->ops->attn_vjp_dot(c->be, &a));
    opcase_emit_tensor(c, "dx", &a.x);
}

/* As for convolutions: each case fences what it asks for. */
static void attn_workspace(opcase *c)
{
    sizes z;
    lips_attn_args a = attn_begin(c, 0, &z);
    a.x = (lips_tensor){
        .cap = c->cap, .b = c->b, .c = 3 * z.c, .h = z.h, .w = z.w, .t = z.t, .lanes = c->lanes};
    a.y = a.x;
    a.y.c = z.c;
    size_t bytes = c->be->ops->attn_workspace(c->be, &a);
    double same = bytes == c->be->ops->attn_workspace(c->be, &a) && bytes < (size_t)1 << 40;
    opcase_emit_doubles(c, "same and sane", &same, 1);
}

/* ---- class token and positions ---- */

static void tokens_forward(opcase *c)
{
    sizes z = begin_in(c, 0, true);
    lips_tensor x = opcase_input(c, z.c, z.h, z.w, z.t);
    lips_tokens_args a = {.y = opcase_output(c, z.c, 1, z.h * z.w + 1, z.t)};
    void *token = opcase_reals(c, z.c), *pos = opcase_reals(c, (z.h * z.w + 1) * z.c);
    int64_t given = opcase_pick(c, (const int64_t[]){1, 6, 7}, 3); /* jvp, along parameters, both */
    a.x = given & 1 ? &x : NULL;
    a.token = given & 2 ? token : NULL;
    a.pos = given & 4 ? pos : NULL;
    opcase_ok(c->be->ops->tokens_forward(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void tokens_vjp(opcase *c)
{
    sizes z = begin_in(c, 0, true);
    lips_tensor dx = opcase_output(c, z.c, z.h, z.w, z.t), mask = opcase_input(c, z.c, z.h, z.w, 1);
    lips_tokens_args a = {.y = opcase_input(c, z.c, 1, z.h * z.w + 1, z.t), .x = &dx};
    if (pick_bool(c))
        a.mask = &mask;
    opcase_ok(c->be->ops->tokens_vjp(c->be, &a));
    opcase_emit_tensor(c, "dx", &dx);
}

static void tokens_grad(opcase *c)
{
    sizes z = begin_in(c, 1, true);
    int64_t wanted = opcase_pick(c, (const int64_t[]){1, 2, 3}, 3), n = z.h * z.w + 1;
    lips_tokens_args a = {.y = opcase_input(c, z.c, 1, n, 1)};
    a.dtoken = wanted & 1 ? opcase_reals(c, z.c) : NULL;
    a.dpos = wanted & 2 ? opcase_reals(c, n * z.c) : NULL;
    opcase_ok(c->be->ops->tokens_grad(c->be, &a));
    if (a.dtoken)
        opcase_emit_reals(c, "dtoken", a.dtoken, z.c);
    if (a.dpos)
        opcase_emit_reals(c, "dpos", a.dpos, n * z.c);
}

static void tokens_gram(opcase *c)
{
    sizes z = begin_in(c, 0, true);
    lips_tokens_args a = {.y = opcase_input(c, z.c, 1, z.h * z.w + 1, z.t),
                          .theta = opcase_doubles(c, c->b * z.t * z.t, false)};
    opcase_ok(c->be->ops->tokens_gram(c->be, &a));
    opcase_emit_doubles(c, "theta", a.theta, c->b * z.t * z.t);
}

/* ---- picking ---- */

static void pick_forward(opcase *c)
{
    sizes z = begin(c, 0);
    lips_pick_args a = {.x = opcase_input(c, z.c, z.h, z.w, z.t),
                        .y = opcase_output(c, z.c, 1, 1, z.t)};
    a.at = pick_bool(c) ? 0 : z.h * z.w - 1;
    opcase_ok(c->be->ops->pick_forward(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static void pick_vjp(opcase *c)
{
    sizes z = begin(c, 0);
    lips_tensor mask = opcase_input(c, z.c, z.h, z.w, 1);
    lips_pick_args a = {.x = opcase_output(c, z.c, z.h, z.w, z.t),
                        .y = opcase_input(c, z.c, 1, 1, z.t)};
    a.at = pick_bool(c) ? 0 : z.h * z.w - 1;
    if (pick_bool(c))
        a.mask = &mask;
    opcase_ok(c->be->ops->pick_vjp(c->be, &a));
    opcase_emit_tensor(c, "dx", &a.x);
}

static const opcase_row rows[] = {
    OPCASE_ROW(ln_forward, ln_forward, OP_SUM, 40),
    OPCASE_ROW(ln_jvp, ln_jvp, OP_SUM, 40),
    OPCASE_ROW(ln_vjp, ln_vjp, OP_SUM, 40),
    OPCASE_ROW(ln_grad, ln_grad, OP_SUM, 40),
    OPCASE_ROW(ln_gram, ln_gram, OP_SUM, 40),
    OPCASE_ROW(ln_vjp_dot, ln_vjp_dot, OP_SUM, 40),
    OPCASE_ROW(ln_grad_dot, ln_grad_dot, OP_SUM, 40),
    OPCASE_ROW(gelu_forward, gelu_forward, OP_ELEMENT, 30),
    OPCASE_ROW(gelu_slope, gelu_slope, OP_ELEMENT, 30),
    OPCASE_ROW(gelu_vjp_dot, gelu_vjp_dot, OP_ELEMENT, 30),
    OPCASE_ROW(attn_workspace, attn_workspace, OP_EXACT, 20),
    OPCASE_ROW(attn_forward, attn_forward, OP_SUM, 40),
    OPCASE_ROW(attn_jvp, attn_jvp, OP_SUM, 40),
    OPCASE_ROW(attn_vjp, attn_vjp, OP_SUM, 40),
    OPCASE_ROW(attn_vjp_dot, attn_vjp_dot, OP_SUM, 40),
    OPCASE_ROW_INT(tokens_forward, tokens_forward, OP_ELEMENT, 30),
    OPCASE_ROW_INT(tokens_vjp, tokens_vjp, OP_EXACT, 30),
    OPCASE_ROW_INT(tokens_grad, tokens_grad, OP_SUM, 30),
    OPCASE_ROW_INT(tokens_gram, tokens_gram, OP_F64, 30),
    OPCASE_ROW_INT(pick_forward, pick_forward, OP_EXACT, 20),
    OPCASE_ROW_INT(pick_vjp, pick_vjp, OP_EXACT, 20),
};

const opcase_table opcases_tokens = {rows, sizeof rows / sizeof rows[0]};
