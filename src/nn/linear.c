/*
 * nn: fully connected layer. Reads its input flattened to (C*H*W,1,1), PyTorch's order.
 */
#include "nn/graph.h"

static lips_status setup(lips_net *net, lips_node *node, const lips_node_spec *spec,
                         lips_value *out)
{
    const lips_value *x = &net->values[node->in[0]];
    int64_t features = x->c * x->h * x->w;
    out->c = spec->units;
    out->h = 1;
    out->w = 1;
    LIPS_TRY(lips_net_segment(net, LIPS_ROLE_WEIGHT, spec->name, "weight", 2,
                              (const int64_t[]){spec->units, features}, &node->params[0]));
    if (spec->bias)
        LIPS_TRY(lips_net_segment(net, LIPS_ROLE_BIAS, spec->name, "bias", 1, &spec->units,
                                  &node->params[1]));
    node->flops = 2 * (double)features * (double)spec->units;
    return lips_net_layer_add(
        net, node, spec->name,
        (lips_layer_info){.c = features, .h = 1, .w = 1, .o = spec->units, .oh = 1, .ow = 1});
}

static lips_status forward(const lips_call *c)
{
    return c->be->ops->linear_forward(c->be, &(lips_linear_args){.y = c->y,
                                                                 .x = lips_tensor_flat(c->x[0]),
                                                                 .w = c->param[0],
                                                                 .bias = c->param[1],
                                                                 .relu = c->node->relu});
}

static lips_status jvp(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot)
{
    LIPS_TRY(c->be->ops->linear_forward(
        c->be, &(lips_linear_args){.y = *ydot, .x = lips_tensor_flat(xdot[0]), .w = c->param[0]}));
    return lips_mask_tangent(c, ydot);
}

static lips_status vjp(const lips_call *c, int which, const lips_tensor *dy, const lips_tensor *dx,
                       const lips_tensor *mask)
{
    (void)which;
    lips_tensor flat_mask = mask ? lips_tensor_flat(*mask) : (lips_tensor){0};
    return c->be->ops->linear_vjp(c->be, &(lips_linear_args){.y = *dy,
                                                             .x = lips_tensor_flat(*dx),
                                                             .w = c->param[0],
                                                             .mask = mask ? &flat_mask : NULL});
}

static lips_status grad(const lips_call *c, const lips_tensor *dy)
{
    return c->be->ops->linear_grad(
        c->be, &(lips_linear_args){
                   .y = *dy, .x = lips_tensor_flat(c->x[0]), .dw = c->grad[0], .db = c->grad[1]});
}

static lips_status gram(const lips_call *c, const lips_tensor *dy, double *theta_weight,
                        double *theta_bias)
{
    if (theta_weight)
        LIPS_TRY(c->be->ops->linear_gram(
            c->be,
            &(lips_linear_args){.y = *dy, .x = lips_tensor_flat(c->x[0]), .theta = theta_weight}));
    if (theta_bias && c->param[1])
        LIPS_TRY(c->be->ops->bias_gram(c->be, &(lips_bias_args){.y = *dy, .theta = theta_bias}));
    return LIPS_OK;
}

static const lips_need needs[] = {LIPS_NEED(linear_forward), LIPS_NEED(linear_vjp),
                                  LIPS_NEED(linear_grad),    LIPS_NEED(linear_gram),
                                  LIPS_NEED(bias_gram),      {0}};

const lips_kind lips_kind_linear = {
    .name = "linear",
    .n_in = 1,
    .needs = needs,
    .keeps_input = true,
    .setup = setup,
    .forward = forward,
    .jvp = jvp,
    .vjp = vjp,
    .grad = grad,
    .gram = gram,
};
