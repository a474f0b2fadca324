/*
 * nn: layer normalisation over the channels of each place: of the embedding of each token.
 */
#include "nn/graph.h"

#include <math.h>

enum { WEIGHT, BIAS };

/* torchvision's vision transformers have 1e-6, not LayerNorm's own default. */
static const double EPS = 1e-6;

static lips_status setup(lips_net *net, lips_node *node, const lips_node_spec *spec,
                         lips_value *out)
{
    const lips_value *x = &net->values[node->in[0]];
    int64_t channels = x->c;
    out->c = x->c;
    out->h = x->h;
    out->w = x->w;
    net->spatial |= x->h * x->w > 1;
    LIPS_TRY(lips_net_segment(net, LIPS_ROLE_NORM_WEIGHT, spec->name, "weight", 1, &channels,
                              &node->params[WEIGHT]));
    return lips_net_segment(net, LIPS_ROLE_NORM_BIAS, spec->name, "bias", 1, &channels,
                            &node->params[BIAS]);
}

/* The arguments that all passes share. */
static lips_ln_args args(const lips_call *c, const lips_tensor *y, const lips_tensor *x)
{
    return (lips_ln_args){.y = *y,
                          .x = *x,
                          .in = &c->x[0],
                          .gamma = c->param[WEIGHT],
                          .beta = c->param[BIAS],
                          .eps = EPS};
}

static lips_status forward(const lips_call *c)
{
    lips_ln_args a = args(c, &c->y, &c->x[0]);
    LIPS_TRY(c->be->ops->ln_forward(c->be, &a));
    return lips_relu_in_place(c);
}

static lips_status jvp(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot)
{
    lips_ln_args a = args(c, ydot, &xdot[0]);
    LIPS_TRY(c->be->ops->ln_jvp(c->be, &a));
    return lips_mask_tangent(c, ydot);
}

static lips_status vjp(const lips_call *c, int which, const lips_tensor *dy, const lips_tensor *dx,
                       const lips_tensor *mask)
{
    (void)which;
    lips_ln_args a = args(c, dy, dx);
    LIPS_TRY(c->be->ops->ln_vjp(c->be, &a));
    return lips_mask_cotangent(c, dx, mask);
}

static lips_status grad(const lips_call *c, const lips_tensor *dy)
{
    lips_ln_args a = args(c, dy, &c->x[0]);
    a.dgamma = c->grad[WEIGHT];
    a.dbeta = c->grad[BIAS];
    return c->be->ops->ln_grad(c->be, &a);
}

static lips_status grad_tangent(const lips_call *c, const lips_tensor *xdot, const lips_tensor *dy,
                                void *zeros)
{
    (void)zeros;
    lips_ln_args a = args(c, dy, xdot);
    a.dot = xdot;
    a.dgamma = c->grad[WEIGHT];
    return c->be->ops->ln_grad_dot(c->be, &a);
}

static lips_status vjp_tangent(const lips_call *c, const lips_tensor *xdot, const lips_tensor *dy,
                               const lips_tensor *dx)
{
    lips_ln_args a = args(c, dy, dx);
    a.dot = xdot;
    return c->be->ops->ln_vjp_dot(c->be, &a);
}

/* Scale and shift together, into theta_weight. */
static lips_status gram(const lips_call *c, const lips_tensor *dy, double *theta_weight,
                        double *theta_bias)
{
    (void)theta_bias;
    lips_ln_args a = args(c, dy, &c->x[0]);
    a.theta = theta_weight;
    return theta_weight ? c->be->ops->ln_gram(c->be, &a) : LIPS_OK;
}

/* The derivative is gamma r P with P of norm 1 (0 for one channel) and r at most 1/sqrt(eps),
 * reached where all channels are equal. */
static double norm(const lips_net *net, const lips_node *node, const double *params,
                   const double *buffers)
{
    const double *gamma = params + net->segments[node->params[WEIGHT]].offset;
    int64_t channels = net->values[node->out].c;
    double most = 0;
    (void)buffers;
    for (int64_t c = 0; c < channels; c++)
        if (!(fabs(gamma[c]) <= most)) /* a NaN comes in, and stays: nothing is above it */
            most = isnan(most) ? most : fabs(gamma[c]);
    return channels > 1 ? most / sqrt(EPS) : 0 * most;
}

static const lips_need needs[] = {
    LIPS_NEED(ln_forward), LIPS_NEED(ln_jvp),     LIPS_NEED(ln_vjp),      LIPS_NEED(ln_grad),
    LIPS_NEED(ln_gram),    LIPS_NEED(ln_vjp_dot), LIPS_NEED(ln_grad_dot), {0}};

const lips_kind lips_kind_layernorm = {
    .name = "layernorm",
    .n_in = 1,
    .needs = needs,
    .keeps_input = true,
    .setup = setup,
    .forward = forward,
    .jvp = jvp,
    .vjp = vjp,
    .grad = grad,
    .grad_tangent = grad_tangent,
    .vjp_tangent = vjp_tangent,
    .gram = gram,
    .norm = norm,
};
