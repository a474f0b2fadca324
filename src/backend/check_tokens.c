/* Argument checks of the operations on tokens: layer norm, GELU, attention, class token, picking.
 */
#include "backend/check_parts.h"

/* A further tensor of the shape of `like`, with t = 1. */
static lips_status need_primal(const char *op, const char *name, const lips_tensor *t,
                               const lips_tensor *like)
{
    LIPS_TRY(need_set(op, name, t));
    LIPS_TRY(lips_check_tensor(op, name, t));
    LIPS_TRY(need_equal(op, name, t->t, 1));
    return need_same_image(op, name, t, like);
}

static bool along(lips_pass pass)
{
    return pass == LIPS_VJP_DOT || pass == LIPS_GRAD_DOT;
}

/* y, x and, where the pass reads them, in and dot. */
static lips_status check_ln_tensors(const char *op, lips_pass pass, const lips_ln_args *a)
{
    LIPS_TRY(lips_check_tensor(op, "y", &a->y));
    if (pass != LIPS_GRAD_DOT) {
        LIPS_TRY(lips_check_tensor(op, "x", &a->x));
        LIPS_TRY(need_same_image(op, "y", &a->y, &a->x));
        LIPS_TRY(need_stack(op, pass, a->y.t, a->x.t));
    }
    if (pass == LIPS_FORWARD || along(pass))
        LIPS_TRY(need_equal(op, "y.t", a->y.t, 1));
    if (pass == LIPS_JVP || pass == LIPS_VJP || along(pass))
        LIPS_TRY(need_primal(op, "in", a->in, &a->y));
    return along(pass) ? need_primal(op, "dot", a->dot, &a->y) : LIPS_OK;
}

lips_status lips_check_ln(lips_pass pass, const lips_ln_args *a)
{
    op_name op = name_of("ln", pass);
    LIPS_TRY(check_ln_tensors(op.text, pass, a));
    if (!(a->eps > 0 && isfinite(a->eps)))
        return lips_fail(LIPS_ERR_USAGE, "%s: eps is %g, must be positive", op.text, a->eps);
    if (pass != LIPS_GRAD && pass != LIPS_GRAM && pass != LIPS_GRAD_DOT)
        LIPS_TRY(need_set(op.text, "gamma", a->gamma));
    if (pass == LIPS_FORWARD)
        return need_set(op.text, "beta", a->beta);
    if (pass == LIPS_GRAD && !a->dgamma && !a->dbeta)
        return lips_fail(LIPS_ERR_USAGE, "%s: neither dgamma nor dbeta is wanted", op.text);
    if (pass == LIPS_GRAD_DOT)
        return need_set(op.text, "dgamma", a->dgamma);
    return pass == LIPS_GRAM ? need_set(op.text, "theta", a->theta) : LIPS_OK;
}

lips_status lips_check_gelu(lips_pass pass, const lips_gelu_args *a)
{
    const char *op = pass == LIPS_FORWARD ? "gelu_forward"
                     : pass == LIPS_VJP   ? "gelu_slope"
                                          : "gelu_vjp_dot";
    LIPS_TRY(lips_check_tensor(op, "y", &a->y));
    LIPS_TRY(lips_check_tensor(op, "x", &a->x));
    LIPS_TRY(need_same_image(op, "y", &a->y, &a->x));
    LIPS_TRY(need_equal(op, "y.t", a->y.t, a->x.t));
    if (pass == LIPS_FORWARD)
        return LIPS_OK;
    LIPS_TRY(need_primal(op, "in", a->in, &a->x));
    if (pass == LIPS_VJP)
        return LIPS_OK;
    LIPS_TRY(need_equal(op, "y.t", a->y.t, 1));
    return need_primal(op, "dot", a->dot, &a->x);
}

/* Shapes without data. */
static lips_status check_attn_sizes(const char *op, const lips_attn_args *a)
{
    LIPS_TRY(lips_check_extents(op, "y", &a->y));
    LIPS_TRY(lips_check_extents(op, "x", &a->x));
    LIPS_TRY(need_equal(op, "x.c", a->x.c, 3 * a->y.c));
    LIPS_TRY(need_equal(op, "x.h", a->x.h, a->y.h));
    LIPS_TRY(need_equal(op, "x.w", a->x.w, a->y.w));
    LIPS_TRY(need_range(op, "heads", a->heads, 1, a->y.c));
    if (a->y.c % a->heads)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: %" PRId64 " channels are not divisible by %" PRId64 " heads", op,
                         a->y.c, a->heads);
    return LIPS_OK;
}

lips_status lips_check_attn_plan(const lips_attn_args *a)
{
    return check_attn_sizes("attn_workspace", a);
}

lips_status lips_check_attn(lips_pass pass, const lips_attn_args *a)
{
    op_name op = name_of("attn", pass);
    LIPS_TRY(lips_check_tensor(op.text, "y", &a->y));
    LIPS_TRY(lips_check_tensor(op.text, "x", &a->x));
    LIPS_TRY(check_attn_sizes(op.text, a));
    LIPS_TRY(need_same_batch(op.text, &a->y, &a->x));
    LIPS_TRY(need_stack(op.text, pass, a->y.t, a->x.t));
    LIPS_TRY(need_set(op.text, "work", a->work));
    if (pass == LIPS_FORWARD)
        return need_equal(op.text, "y.t", a->y.t, 1);
    LIPS_TRY(need_primal(op.text, "in", a->in, &a->x));
    if (!along(pass))
        return LIPS_OK;
    LIPS_TRY(need_equal(op.text, "y.t", a->y.t, 1));
    return need_primal(op.text, "dot", a->dot, &a->x);
}

static lips_status check_tokens_x(const char *op, lips_pass pass, const lips_tokens_args *a)
{
    LIPS_TRY(lips_check_tensor(op, "x", a->x));
    LIPS_TRY(need_same_batch(op, &a->y, a->x));
    LIPS_TRY(need_stack(op, pass, a->y.t, a->x->t));
    LIPS_TRY(need_equal(op, "y.c", a->y.c, a->x->c));
    return need_equal(op, "y.w", a->y.w, a->x->h * a->x->w + 1);
}

lips_status lips_check_tokens(lips_pass pass, const lips_tokens_args *a)
{
    op_name op = name_of("tokens", pass);
    LIPS_TRY(lips_check_tensor(op.text, "y", &a->y));
    LIPS_TRY(need_equal(op.text, "y.h", a->y.h, 1));
    LIPS_TRY(need_range(op.text, "y.w", a->y.w, 2, LIPS_REALS_MAX));
    if (pass == LIPS_VJP)
        LIPS_TRY(need_set(op.text, "x", a->x));
    if ((pass == LIPS_FORWARD && a->x) || pass == LIPS_VJP)
        LIPS_TRY(check_tokens_x(op.text, pass, a));
    if (pass == LIPS_VJP && a->mask)
        return need_mask(op.text, a->mask, a->x);
    if (pass == LIPS_GRAD) {
        LIPS_TRY(need_equal(op.text, "y.t", a->y.t, 1));
        if (!a->dtoken && !a->dpos)
            return lips_fail(LIPS_ERR_USAGE, "%s: neither dtoken nor dpos is wanted", op.text);
    }
    return pass == LIPS_GRAM ? need_set(op.text, "theta", a->theta) : LIPS_OK;
}

lips_status lips_check_pick(lips_pass pass, const lips_pick_args *a)
{
    op_name op = name_of("pick", pass);
    LIPS_TRY(lips_check_tensor(op.text, "y", &a->y));
    LIPS_TRY(lips_check_tensor(op.text, "x", &a->x));
    LIPS_TRY(need_same_batch(op.text, &a->y, &a->x));
    LIPS_TRY(need_stack(op.text, pass, a->y.t, a->x.t));
    LIPS_TRY(need_equal(op.text, "y.c", a->y.c, a->x.c));
    LIPS_TRY(need_equal(op.text, "y.h * y.w", a->y.h * a->y.w, 1));
    LIPS_TRY(need_range(op.text, "at", a->at, 0, a->x.h * a->x.w - 1));
    return pass == LIPS_VJP && a->mask ? need_mask(op.text, a->mask, &a->x) : LIPS_OK;
}
