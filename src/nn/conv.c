/*
 * nn: convolution with zero padding.
 */
#include "nn/graph.h"

#include <inttypes.h>
#include <stdio.h>

/* Weight and bias; as a linear layer's keys the weight is (O,C). */
static lips_status declare(lips_net *net, lips_node *node, const lips_node_spec *spec, int64_t c)
{
    bool in_proj = spec->keys == LIPS_KEYS_IN_PROJ;
    int64_t shape[] = {spec->units, c, spec->geom.r, spec->geom.r};
    LIPS_TRY(lips_net_segment(net, LIPS_ROLE_WEIGHT, spec->name,
                              in_proj ? "in_proj_weight" : "weight",
                              spec->keys == LIPS_KEYS_CONV ? 4 : 2, shape, &node->params[0]));
    if (!spec->bias)
        return LIPS_OK;
    return lips_net_segment(net, LIPS_ROLE_BIAS, spec->name, in_proj ? "in_proj_bias" : "bias", 1,
                            &spec->units, &node->params[1]);
}

static lips_status setup(lips_net *net, lips_node *node, const lips_node_spec *spec,
                         lips_value *out)
{
    const lips_value x = net->values[node->in[0]];
    const lips_conv_geom *g = &spec->geom;
    if (x.h + 2 * g->pad < g->r || x.w + 2 * g->pad < g->r)
        return lips_fail(LIPS_ERR_USAGE,
                         "network: %s: image %" PRId64 "x%" PRId64 " is smaller than the %" PRId64
                         "x%" PRId64 " kernel",
                         spec->name, x.h, x.w, g->r, g->r);
    out->c = spec->units;
    out->h = lips_conv_out(x.h, g);
    out->w = lips_conv_out(x.w, g);
    LIPS_TRY(declare(net, node, spec, x.c));
    node->flops = 2 * (double)(out->c * out->h * out->w) * (double)(x.c * g->r * g->r);
    net->spatial = true;
    char layer[LIPS_NAME_MAX];
    snprintf(layer, sizeof layer, "%s%s", spec->name,
             spec->keys == LIPS_KEYS_IN_PROJ ? ".in_proj" : "");
    return lips_net_layer_add(net, node, layer,
                              (lips_layer_info){.conv = true,
                                                .geom = *g,
                                                .c = x.c,
                                                .h = x.h,
                                                .w = x.w,
                                                .o = out->c,
                                                .oh = out->h,
                                                .ow = out->w});
}

static lips_tensor stacked(lips_tensor x, int64_t t)
{
    x.t = t;
    return x;
}

/* Over all passes, for every stack size up to t: an algorithm may be chosen by it. */
static size_t workspace(const lips_call *c, int64_t t)
{
    size_t most = 0;
    for (int64_t i = 1; i <= (t > 1 ? t : 1); i++) {
        lips_conv_args pass[] = {
            {.y = stacked(c->y, i), .x = stacked(c->x[0], i), .geom = c->node->geom}, /* jvp, vjp */
            {.y = stacked(c->y, i), .x = c->x[0], .geom = c->node->geom},             /* gram */
        };
        for (int k = 0; k < 2; k++) {
            size_t bytes = c->be->ops->conv_workspace(c->be, &pass[k]);
            most = bytes > most ? bytes : most;
        }
    }
    return most;
}

static lips_status forward(const lips_call *c)
{
    return c->be->ops->conv_forward(c->be, &(lips_conv_args){.y = c->y,
                                                             .x = c->x[0],
                                                             .geom = c->node->geom,
                                                             .w = c->param[0],
                                                             .bias = c->param[1],
                                                             .relu = c->node->relu,
                                                             .work = c->work});
}

static lips_status jvp(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot)
{
    LIPS_TRY(c->be->ops->conv_forward(
        c->be,
        &(lips_conv_args){
            .y = *ydot, .x = xdot[0], .geom = c->node->geom, .w = c->param[0], .work = c->work}));
    return lips_mask_tangent(c, ydot);
}

static lips_status vjp(const lips_call *c, int which, const lips_tensor *dy, const lips_tensor *dx,
                       const lips_tensor *mask)
{
    (void)which;
    return c->be->ops->conv_vjp(c->be, &(lips_conv_args){.y = *dy,
                                                         .x = *dx,
                                                         .geom = c->node->geom,
                                                         .w = c->param[0],
                                                         .mask = mask,
                                                         .work = c->work});
}

static lips_status grad(const lips_call *c, const lips_tensor *dy)
{
    return c->be->ops->conv_grad(c->be, &(lips_conv_args){.y = *dy,
                                                          .x = c->x[0],
                                                          .geom = c->node->geom,
                                                          .dw = c->grad[0],
                                                          .db = c->grad[1],
                                                          .work = c->work});
}

static lips_status gram(const lips_call *c, const lips_tensor *dy, double *theta_weight,
                        double *theta_bias)
{
    if (theta_weight)
        LIPS_TRY(c->be->ops->conv_gram(c->be, &(lips_conv_args){.y = *dy,
                                                                .x = c->x[0],
                                                                .geom = c->node->geom,
                                                                .theta = theta_weight,
                                                                .work = c->work}));
    if (theta_bias && c->param[1])
        LIPS_TRY(c->be->ops->bias_gram(c->be, &(lips_bias_args){.y = *dy, .theta = theta_bias}));
    return LIPS_OK;
}

static const lips_need needs[] = {LIPS_NEED(conv_workspace),
                                  LIPS_NEED(conv_forward),
                                  LIPS_NEED(conv_vjp),
                                  LIPS_NEED(conv_grad),
                                  LIPS_NEED(conv_gram),
                                  LIPS_NEED(bias_gram),
                                  {0}};

const lips_kind lips_kind_conv = {
    .name = "conv",
    .n_in = 1,
    .needs = needs,
    .keeps_input = true,
    .setup = setup,
    .workspace = workspace,
    .forward = forward,
    .jvp = jvp,
    .vjp = vjp,
    .grad = grad,
    .gram = gram,
};
