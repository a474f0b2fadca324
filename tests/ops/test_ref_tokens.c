/*
 * Layer norm, GELU, attention, class token and picking on ref: derivatives against central
 * differences of the forward and the adjoint identity; second derivatives against differences of
 * the first.
 */
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "../lib/differences.h"
#include "../lib/subject.h"

#include <stdlib.h>

static const double EPS = 1e-6;

static lips_status mask_in_place(const subject *s, const lips_tensor *mask)
{
    if (!mask)
        return LIPS_OK;
    return s->c.be->ops->relu_mask(s->c.be,
                                   &(lips_relu_args){.y = s->dx, .x = s->dx, .mask = mask});
}

/* ---- layer norm ---- */

static lips_ln_args ln_args(const subject *s, const lips_tensor *y, const lips_tensor *x)
{
    return (lips_ln_args){.y = *y,
                          .x = *x,
                          .in = &s->x,
                          .gamma = s->param[0],
                          .beta = s->param[1],
                          .eps = EPS,
                          .dgamma = s->grad[0],
                          .dbeta = s->grad[1],
                          .theta = s->theta};
}

static void ln_forward(subject *s)
{
    lips_ln_args a = ln_args(s, &s->y, &s->x);
    opcase_ok(s->c.be->ops->ln_forward(s->c.be, &a));
}

static void ln_jvp(subject *s)
{
    lips_ln_args a = ln_args(s, &s->ydot, &s->xdot);
    opcase_ok(s->c.be->ops->ln_jvp(s->c.be, &a));
}

static void ln_vjp(subject *s, const lips_tensor *mask)
{
    lips_ln_args a = ln_args(s, &s->dy, &s->dx);
    opcase_ok(s->c.be->ops->ln_vjp(s->c.be, &a));
    opcase_ok(mask_in_place(s, mask));
}

static void ln_grad(subject *s)
{
    lips_ln_args a = ln_args(s, &s->one, &s->x);
    opcase_ok(s->c.be->ops->ln_grad(s->c.be, &a));
}

static void ln_gram(subject *s)
{
    lips_ln_args a = ln_args(s, &s->dy, &s->x);
    opcase_ok(s->c.be->ops->ln_gram(s->c.be, &a));
}

static const subject ln_subject = {
    .forward = ln_forward, .jvp = ln_jvp, .vjp = ln_vjp, .param_grad = ln_grad, .gram = ln_gram};

/* ---- GELU ---- */

static void gelu_forward(subject *s)
{
    opcase_ok(s->c.be->ops->gelu_forward(s->c.be, &(lips_gelu_args){.y = s->y, .x = s->x}));
}

static void gelu_jvp(subject *s)
{
    opcase_ok(s->c.be->ops->gelu_slope(s->c.be,
                                       &(lips_gelu_args){.y = s->ydot, .x = s->xdot, .in = &s->x}));
}

static void gelu_vjp(subject *s, const lips_tensor *mask)
{
    opcase_ok(
        s->c.be->ops->gelu_slope(s->c.be, &(lips_gelu_args){.y = s->dx, .x = s->dy, .in = &s->x}));
    opcase_ok(mask_in_place(s, mask));
}

/* ---- attention; k: heads ---- */

static lips_attn_args attn_args(const subject *s, const lips_tensor *y, const lips_tensor *x)
{
    return (lips_attn_args){.y = *y, .x = *x, .in = &s->x, .heads = s->k, .work = s->work};
}

static void attn_forward(subject *s)
{
    lips_attn_args a = attn_args(s, &s->y, &s->x);
    opcase_ok(s->c.be->ops->attn_forward(s->c.be, &a));
}

static void attn_jvp(subject *s)
{
    lips_attn_args a = attn_args(s, &s->ydot, &s->xdot);
    opcase_ok(s->c.be->ops->attn_jvp(s->c.be, &a));
}

static void attn_vjp(subject *s, const lips_tensor *mask)
{
    lips_attn_args a = attn_args(s, &s->dy, &s->dx);
    opcase_ok(s->c.be->ops->attn_vjp(s->c.be, &a));
    opcase_ok(mask_in_place(s, mask));
}

/* ---- class token and positions ---- */

static void tokens_forward(subject *s)
{
    opcase_ok(s->c.be->ops->tokens_forward(
        s->c.be,
        &(lips_tokens_args){.y = s->y, .x = &s->x, .token = s->param[0], .pos = s->param[1]}));
}

static void tokens_jvp(subject *s)
{
    opcase_ok(
        s->c.be->ops->tokens_forward(s->c.be, &(lips_tokens_args){.y = s->ydot, .x = &s->xdot}));
}

static void tokens_vjp(subject *s, const lips_tensor *mask)
{
    opcase_ok(s->c.be->ops->tokens_vjp(s->c.be,
                                       &(lips_tokens_args){.y = s->dy, .x = &s->dx, .mask = mask}));
}

static void tokens_grad(subject *s)
{
    opcase_ok(s->c.be->ops->tokens_grad(
        s->c.be, &(lips_tokens_args){.y = s->one, .dtoken = s->grad[0], .dpos = s->grad[1]}));
}

static void tokens_gram(subject *s)
{
    opcase_ok(
        s->c.be->ops->tokens_gram(s->c.be, &(lips_tokens_args){.y = s->dy, .theta = s->theta}));
}

/* ---- picking; k: which place ---- */

static void pick_forward(subject *s)
{
    opcase_ok(
        s->c.be->ops->pick_forward(s->c.be, &(lips_pick_args){.y = s->y, .x = s->x, .at = s->k}));
}

static void pick_jvp(subject *s)
{
    opcase_ok(s->c.be->ops->pick_forward(
        s->c.be, &(lips_pick_args){.y = s->ydot, .x = s->xdot, .at = s->k}));
}

static void pick_vjp(subject *s, const lips_tensor *mask)
{
    opcase_ok(s->c.be->ops->pick_vjp(
        s->c.be, &(lips_pick_args){.y = s->dy, .x = s->dx, .at = s->k, .mask = mask}));
}

/* ---- first derivatives ---- */

static void test_layer_norm(void **state)
{
    (void)state;
    static const int64_t channels[] = {1, 2, 3, 5, 8};
    for (int i = 0; i < 5; i++) {
        subject s = ln_subject;
        subject_begin(&s, i, 1 + i % 2);
        s.n_param[0] = s.n_param[1] = channels[i];
        subject_tensors(&s, channels[i], 1 + i % 2, 3, channels[i], 1 + i % 2, 3);
        if (channels[i] > 2) /* else 0 but for eps: differences keep no digit */
            subject_check_inputs(&s, "layer norm inputs");
        if (channels[i] > 1)
            subject_check_params(&s, "layer norm parameters");
        subject_end(&s);
    }
}

static void test_gelu(void **state)
{
    (void)state;
    subject s = {.forward = gelu_forward, .jvp = gelu_jvp, .vjp = gelu_vjp};
    subject_begin(&s, 0, 2);
    subject_tensors(&s, 3, 2, 5, 3, 2, 5);
    subject_check_inputs(&s, "gelu");
    subject_end(&s);
}

static void test_attention(void **state)
{
    (void)state;
    static const int64_t heads[] = {1, 2, 1, 3}, d[] = {1, 2, 4, 3}, tokens[] = {4, 3, 1, 5};
    for (int i = 0; i < 4; i++) {
        subject s = {.forward = attn_forward, .jvp = attn_jvp, .vjp = attn_vjp, .k = heads[i]};
        int64_t c = heads[i] * d[i];
        subject_begin(&s, i, 1 + i % 2);
        subject_tensors(&s, 3 * c, 1, tokens[i], c, 1, tokens[i]);
        lips_attn_args a = attn_args(&s, &s.dy, &s.dx);
        s.work = opcase_work(&s.c, s.c.be->ops->attn_workspace(s.c.be, &a));
        subject_check_inputs(&s, "attention");
        subject_end(&s);
    }
}

static void test_tokens(void **state)
{
    (void)state;
    subject s = {.forward = tokens_forward,
                 .jvp = tokens_jvp,
                 .vjp = tokens_vjp,
                 .param_grad = tokens_grad,
                 .gram = tokens_gram,
                 .n_param = {3, 21}};
    subject_begin(&s, 0, 2);
    subject_tensors(&s, 3, 2, 3, 3, 1, 7);
    subject_check_inputs(&s, "tokens inputs");
    subject_check_params(&s, "tokens parameters");
    subject_end(&s);
}

static void test_pick(void **state)
{
    (void)state;
    for (int64_t at = 0; at < 6; at += 5) {
        subject s = {.forward = pick_forward, .jvp = pick_jvp, .vjp = pick_vjp, .k = at};
        subject_begin(&s, 0, 2);
        subject_tensors(&s, 3, 2, 3, 3, 1, 1);
        subject_check_inputs(&s, "pick");
        subject_end(&s);
    }
}

/* ---- second derivatives ---- */

/* dx (t = 1) of the cotangent s->one at x; and its derivative along a tangent of x. */
typedef struct curved {
    subject s;
    lips_tensor dot, dx;
    lips_status (*vjp)(struct curved *, const lips_tensor *dot);
} curved;

static lips_status curved_ln(curved *u, const lips_tensor *dot)
{
    const lips_ops *ops = u->s.c.be->ops;
    lips_ln_args a = ln_args(&u->s, &u->s.one, &u->dx);
    a.dot = dot;
    return dot ? ops->ln_vjp_dot(u->s.c.be, &a) : ops->ln_vjp(u->s.c.be, &a);
}

static lips_status curved_gelu(curved *u, const lips_tensor *dot)
{
    const lips_ops *ops = u->s.c.be->ops;
    lips_gelu_args a = {.y = u->dx, .x = u->s.one, .in = &u->s.x, .dot = dot};
    return dot ? ops->gelu_vjp_dot(u->s.c.be, &a) : ops->gelu_slope(u->s.c.be, &a);
}

static lips_status curved_attn(curved *u, const lips_tensor *dot)
{
    const lips_ops *ops = u->s.c.be->ops;
    lips_attn_args a = attn_args(&u->s, &u->s.one, &u->dx);
    a.dot = dot;
    return dot ? ops->attn_vjp_dot(u->s.c.be, &a) : ops->attn_vjp(u->s.c.be, &a);
}

/* The layer norm's scale gradient in the place of the vjp: dx receives it in channel order. */
static lips_status curved_ln_grad(curved *u, const lips_tensor *dot)
{
    const lips_ops *ops = u->s.c.be->ops;
    int64_t n = u->s.n_param[0];
    lips_ln_args a = ln_args(&u->s, &u->s.one, &u->s.x);
    a.dot = dot;
    a.dbeta = NULL;
    LIPS_TRY(ops->zero(u->s.c.be, u->s.grad[0], (size_t)n * ops->real_bytes));
    LIPS_TRY(dot ? ops->ln_grad_dot(u->s.c.be, &a) : ops->ln_grad(u->s.c.be, &a));
    LIPS_TRY(ops->fill(u->s.c.be, &u->dx, 0));
    return ops->copy(u->s.c.be, u->dx.data, u->s.grad[0], (size_t)n * ops->real_bytes);
}

static void check_curved(curved *u, const char *what)
{
    const lips_ops *ops = u->s.c.be->ops;
    int64_t n = u->s.x.b * lips_tensor_features(&u->s.x);
    double *x = opcase_values(&u->s.c, &u->s.x), *dot = opcase_values(&u->s.c, &u->dot);
    double *moved = opcase_values(&u->s.c, &u->s.x), h = 1e-6;
    opcase_ok(u->vjp(u, &u->dot));
    double *got = opcase_values(&u->s.c, &u->dx), *side[2];
    for (int i = 0; i < 2; i++) {
        for (int64_t j = 0; j < n; j++)
            moved[j] = x[j] + (i ? -h : h) * dot[j];
        opcase_ok(ops->upload_f64(u->s.c.be, &u->s.x, moved));
        opcase_ok(u->vjp(u, NULL));
        side[i] = opcase_values(&u->s.c, &u->dx);
    }
    for (int64_t j = 0; j < n; j++)
        side[0][j] = (side[0][j] - side[1][j]) / (2 * h);
    assert_true(cmp_check(what, got, side[0], n, 1e-6));
    free(x), free(dot), free(moved), free(got), free(side[0]), free(side[1]);
}

static void run_curved(curved *u, const char *what, int64_t c, int64_t o)
{
    subject_begin(&u->s, 3, 2);
    subject_tensors(&u->s, c, 1, 5, o, 1, 5);
    u->dot = opcase_input(&u->s.c, c, 1, 5, 1);
    u->dx = opcase_output(&u->s.c, c, 1, 5, 1);
    if (u->s.k) {
        lips_attn_args a = attn_args(&u->s, &u->s.one, &u->dx);
        u->s.work = opcase_work(&u->s.c, u->s.c.be->ops->attn_workspace(u->s.c.be, &a));
    }
    check_curved(u, what);
    subject_end(&u->s);
}

static void test_second_derivatives(void **state)
{
    (void)state;
    run_curved(&(curved){.s = {.n_param = {6, 6}}, .vjp = curved_ln}, "layer norm, vjp", 6, 6);
    run_curved(&(curved){.s = {.n_param = {6, 6}}, .vjp = curved_ln_grad}, "layer norm, grad", 6,
               6);
    run_curved(&(curved){.vjp = curved_gelu}, "gelu, vjp", 3, 3);
    run_curved(&(curved){.s = {.k = 1}, .vjp = curved_attn}, "attention, vjp, 1 head", 9, 3);
    run_curved(&(curved){.s = {.k = 2}, .vjp = curved_attn}, "attention, vjp, 2 heads", 12, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layer_norm), cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_attention),  cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_pick),       cmocka_unit_test(test_second_derivatives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
