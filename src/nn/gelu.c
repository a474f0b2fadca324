/*
 * nn: GELU, elementwise. Without parameters.
 */
#include "nn/graph.h"

static lips_status setup(lips_net *net, lips_node *node, const lips_node_spec *spec,
                         lips_value *out)
{
    const lips_value *x = &net->values[node->in[0]];
    (void)spec;
    out->c = x->c;
    out->h = x->h;
    out->w = x->w;
    net->spatial |= x->h * x->w > 1;
    return LIPS_OK;
}

static lips_status forward(const lips_call *c)
{
    LIPS_TRY(c->be->ops->gelu_forward(c->be, &(lips_gelu_args){.y = c->y, .x = c->x[0]}));
    return lips_relu_in_place(c);
}

static lips_status jvp(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot)
{
    LIPS_TRY(
        c->be->ops->gelu_slope(c->be, &(lips_gelu_args){.y = *ydot, .x = xdot[0], .in = &c->x[0]}));
    return lips_mask_tangent(c, ydot);
}

static lips_status vjp(const lips_call *c, int which, const lips_tensor *dy, const lips_tensor *dx,
                       const lips_tensor *mask)
{
    (void)which;
    LIPS_TRY(c->be->ops->gelu_slope(c->be, &(lips_gelu_args){.y = *dx, .x = *dy, .in = &c->x[0]}));
    return lips_mask_cotangent(c, dx, mask);
}

static lips_status vjp_tangent(const lips_call *c, const lips_tensor *xdot, const lips_tensor *dy,
                               const lips_tensor *dx)
{
    return c->be->ops->gelu_vjp_dot(
        c->be, &(lips_gelu_args){.y = *dx, .x = *dy, .in = &c->x[0], .dot = xdot});
}

/* The largest slope, at x = sqrt(2) where gelu'' = (2 - x^2) phi(x) changes sign: Phi(sqrt 2) +
 * sqrt(2) phi(sqrt 2) = 1.1289043..., rounded up. */
static double norm(const lips_net *net, const lips_node *node, const double *params,
                   const double *buffers)
{
    (void)net;
    (void)node;
    (void)params;
    (void)buffers;
    return 1.12890435;
}

static const lips_need needs[] = {
    LIPS_NEED(gelu_forward), LIPS_NEED(gelu_slope), LIPS_NEED(gelu_vjp_dot), {0}};

const lips_kind lips_kind_gelu = {
    .name = "gelu",
    .n_in = 1,
    .needs = needs,
    .keeps_input = true,
    .setup = setup,
    .forward = forward,
    .jvp = jvp,
    .vjp = vjp,
    .vjp_tangent = vjp_tangent,
    .norm = norm,
};
