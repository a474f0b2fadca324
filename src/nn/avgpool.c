/*
 * nn: average pooling, k x k windows or global (k = 0). Linear, without parameters.
 */
#include "nn/graph.h"

#include <inttypes.h>
#include <math.h>

static lips_status setup(lips_net *net, lips_node *node, const lips_node_spec *spec,
                         lips_value *out)
{
    const lips_value *x = &net->values[node->in[0]];
    int64_t kh = spec->k ? spec->k : x->h, kw = spec->k ? spec->k : x->w;
    if (x->h % kh || x->w % kw)
        return lips_fail(LIPS_ERR_USAGE,
                         "network: image %" PRId64 "x%" PRId64 " cannot be pooled by %" PRId64,
                         x->h, x->w, spec->k);
    out->c = x->c;
    out->h = x->h / kh;
    out->w = x->w / kw;
    (void)node;
    net->spatial = true;
    return LIPS_OK;
}

static lips_status forward(const lips_call *c)
{
    LIPS_TRY(c->be->ops->avgpool_forward(
        c->be, &(lips_pool_args){.y = c->y, .x = c->x[0], .k = c->node->k}));
    return lips_relu_in_place(c);
}

static lips_status jvp(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot)
{
    LIPS_TRY(c->be->ops->avgpool_forward(
        c->be, &(lips_pool_args){.y = *ydot, .x = xdot[0], .k = c->node->k}));
    return lips_mask_tangent(c, ydot);
}

static lips_status vjp(const lips_call *c, int which, const lips_tensor *dy, const lips_tensor *dx,
                       const lips_tensor *mask)
{
    (void)which;
    return c->be->ops->avgpool_vjp(
        c->be, &(lips_pool_args){.y = *dy, .x = *dx, .k = c->node->k, .mask = mask});
}

/* The mean of m values maps a vector of norm 1 to at most 1/sqrt(m), reached where all are equal;
 * the windows are apart. */
static double norm(const lips_net *net, const lips_node *node, const double *params,
                   const double *buffers)
{
    const lips_value *x = &net->values[node->in[0]];
    (void)params;
    (void)buffers;
    return node->k ? 1.0 / (double)node->k : 1.0 / sqrt((double)(x->h * x->w));
}

static const lips_need needs[] = {LIPS_NEED(avgpool_forward), LIPS_NEED(avgpool_vjp), {0}};

const lips_kind lips_kind_avgpool = {
    .name = "avgpool",
    .n_in = 1,
    .needs = needs,
    .setup = setup,
    .forward = forward,
    .jvp = jvp,
    .vjp = vjp,
    .norm = norm,
};
