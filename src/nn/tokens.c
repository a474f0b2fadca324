/*
 * nn: an image of patches (C,H,W) to tokens (C,1,1+HW), a class token first and a position added to
 * each; and the one token that is read out.
 */
#include "nn/graph.h"

#include <inttypes.h>

enum { TOKEN, POSITION };

static double isometry(const lips_net *net, const lips_node *node, const double *params,
                       const double *buffers)
{
    (void)net;
    (void)node;
    (void)params;
    (void)buffers;
    return 1;
}

/* ---- class token and positions, under torchvision's names ---- */

static lips_status tokens_setup(lips_net *net, lips_node *node, const lips_node_spec *spec,
                                lips_value *out)
{
    const lips_value *x = &net->values[node->in[0]];
    (void)spec;
    out->c = x->c;
    out->h = 1;
    out->w = x->h * x->w + 1;
    net->spatial = true;
    LIPS_TRY(lips_net_segment(net, LIPS_ROLE_TOKEN, "", "class_token", 3,
                              (const int64_t[]){1, 1, out->c}, &node->params[TOKEN]));
    return lips_net_segment(net, LIPS_ROLE_POSITION, "encoder", "pos_embedding", 3,
                            (const int64_t[]){1, out->w, out->c}, &node->params[POSITION]);
}

static lips_status tokens_forward(const lips_call *c)
{
    LIPS_TRY(
        c->be->ops->tokens_forward(c->be, &(lips_tokens_args){.y = c->y,
                                                              .x = c->x[0].data ? &c->x[0] : NULL,
                                                              .token = c->param[TOKEN],
                                                              .pos = c->param[POSITION]}));
    return lips_relu_in_place(c);
}

static lips_status tokens_jvp(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot)
{
    LIPS_TRY(c->be->ops->tokens_forward(c->be, &(lips_tokens_args){.y = *ydot, .x = &xdot[0]}));
    return lips_mask_tangent(c, ydot);
}

static lips_status tokens_vjp(const lips_call *c, int which, const lips_tensor *dy,
                              const lips_tensor *dx, const lips_tensor *mask)
{
    (void)which;
    return c->be->ops->tokens_vjp(c->be, &(lips_tokens_args){.y = *dy, .x = dx, .mask = mask});
}

static lips_status tokens_grad(const lips_call *c, const lips_tensor *dy)
{
    return c->be->ops->tokens_grad(
        c->be, &(lips_tokens_args){.y = *dy, .dtoken = c->grad[TOKEN], .dpos = c->grad[POSITION]});
}

/* Both parameters together, into theta_weight. */
static lips_status tokens_gram(const lips_call *c, const lips_tensor *dy, double *theta_weight,
                               double *theta_bias)
{
    (void)theta_bias;
    return theta_weight ? c->be->ops->tokens_gram(
                              c->be, &(lips_tokens_args){.y = *dy, .theta = theta_weight})
                        : LIPS_OK;
}

static const lips_need needs[] = {LIPS_NEED(tokens_forward),
                                  LIPS_NEED(tokens_vjp),
                                  LIPS_NEED(tokens_grad),
                                  LIPS_NEED(tokens_gram),
                                  {0}};

const lips_kind lips_kind_tokens = {
    .name = "tokens",
    .n_in = 1,
    .needs = needs,
    .adds_params = true,
    .setup = tokens_setup,
    .forward = tokens_forward,
    .jvp = tokens_jvp,
    .vjp = tokens_vjp,
    .grad = tokens_grad,
    .gram = tokens_gram,
    .norm = isometry,
};

/* ---- one place, node->k ---- */

static lips_status pick_setup(lips_net *net, lips_node *node, const lips_node_spec *spec,
                              lips_value *out)
{
    const lips_value *x = &net->values[node->in[0]];
    if (spec->k < 0 || spec->k >= x->h * x->w)
        return lips_fail(LIPS_ERR_USAGE, "network: place %" PRId64 " of %" PRId64, spec->k,
                         x->h * x->w);
    out->c = x->c;
    out->h = 1;
    out->w = 1;
    return LIPS_OK;
}

static lips_status pick_forward(const lips_call *c)
{
    LIPS_TRY(c->be->ops->pick_forward(
        c->be, &(lips_pick_args){.y = c->y, .x = c->x[0], .at = c->node->k}));
    return lips_relu_in_place(c);
}

static lips_status pick_jvp(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot)
{
    LIPS_TRY(c->be->ops->pick_forward(
        c->be, &(lips_pick_args){.y = *ydot, .x = xdot[0], .at = c->node->k}));
    return lips_mask_tangent(c, ydot);
}

static lips_status pick_vjp(const lips_call *c, int which, const lips_tensor *dy,
                            const lips_tensor *dx, const lips_tensor *mask)
{
    (void)which;
    return c->be->ops->pick_vjp(
        c->be, &(lips_pick_args){.y = *dy, .x = *dx, .at = c->node->k, .mask = mask});
}

static const lips_need pick_needs[] = {LIPS_NEED(pick_forward), LIPS_NEED(pick_vjp), {0}};

const lips_kind lips_kind_pick = {
    .name = "pick",
    .n_in = 1,
    .needs = pick_needs,
    .setup = pick_setup,
    .forward = pick_forward,
    .jvp = pick_jvp,
    .vjp = pick_vjp,
    .norm = isometry,
};
