/*
 * nn: dot-product attention among tokens: q, k and v, one after another in the channels, to the
 * values weighed by softmax(q'k / sqrt(d)), in node->k heads. Without parameters: the layers around
 * it (in_proj, out_proj) have them.
 */
#include "nn/graph.h"

#include <inttypes.h>

static lips_status setup(lips_net *net, lips_node *node, const lips_node_spec *spec,
                         lips_value *out)
{
    const lips_value *x = &net->values[node->in[0]];
    if (spec->k < 1 || x->c % (3 * spec->k))
        return lips_fail(LIPS_ERR_USAGE,
                         "network: attention: %" PRId64 " channels are not q, k and v of %" PRId64
                         " heads",
                         x->c, spec->k);
    out->c = x->c / 3;
    out->h = x->h;
    out->w = x->w;
    double tokens = (double)(x->h * x->w);
    node->flops = 4 * tokens * tokens * (double)out->c; /* q'k and P v */
    net->spatial = true;
    return LIPS_OK;
}

static lips_attn_args args(const lips_call *c, const lips_tensor *y, const lips_tensor *x)
{
    return (lips_attn_args){.y = *y, .x = *x, .in = &c->x[0], .heads = c->node->k, .work = c->work};
}

static size_t workspace(const lips_call *c, int64_t t)
{
    lips_attn_args a = args(c, &c->y, &c->x[0]);
    a.x.t = a.y.t = t > 1 ? t : 1;
    return c->be->ops->attn_workspace(c->be, &a);
}

static lips_status forward(const lips_call *c)
{
    lips_attn_args a = args(c, &c->y, &c->x[0]);
    LIPS_TRY(c->be->ops->attn_forward(c->be, &a));
    return lips_relu_in_place(c);
}

static lips_status jvp(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot)
{
    lips_attn_args a = args(c, ydot, &xdot[0]);
    LIPS_TRY(c->be->ops->attn_jvp(c->be, &a));
    return lips_mask_tangent(c, ydot);
}

static lips_status vjp(const lips_call *c, int which, const lips_tensor *dy, const lips_tensor *dx,
                       const lips_tensor *mask)
{
    (void)which;
    lips_attn_args a = args(c, dy, dx);
    LIPS_TRY(c->be->ops->attn_vjp(c->be, &a));
    return lips_mask_cotangent(c, dx, mask);
}

static lips_status vjp_tangent(const lips_call *c, const lips_tensor *xdot, const lips_tensor *dy,
                               const lips_tensor *dx)
{
    lips_attn_args a = args(c, dy, dx);
    a.dot = xdot;
    return c->be->ops->attn_vjp_dot(c->be, &a);
}

static const lips_need needs[] = {LIPS_NEED(attn_forward),   LIPS_NEED(attn_jvp),
                                  LIPS_NEED(attn_vjp),       LIPS_NEED(attn_vjp_dot),
                                  LIPS_NEED(attn_workspace), {0}};

const lips_kind lips_kind_attention = {
    .name = "attention",
    .n_in = 1,
    .needs = needs,
    .keeps_input = true,
    .setup = setup,
    .workspace = workspace,
    .forward = forward,
    .jvp = jvp,
    .vjp = vjp,
    .vjp_tangent = vjp_tangent,
    .no_norm = "dot-product attention has no Lipschitz constant",
};
