/*
 * nn: sum of two values of one shape, where a residual block's branch and shortcut meet.
 */
#include "nn/graph.h"

#include <inttypes.h>

static lips_status setup(lips_net *net, lips_node *node, const lips_node_spec *spec,
                         lips_value *out)
{
    const lips_value *a = &net->values[node->in[0]], *b = &net->values[node->in[1]];
    (void)spec;
    if (a->c != b->c || a->h != b->h || a->w != b->w)
        return lips_fail(LIPS_ERR_USAGE,
                         "network: sum of (%" PRId64 ",%" PRId64 ",%" PRId64 ") and (%" PRId64
                         ",%" PRId64 ",%" PRId64 ")",
                         a->c, a->h, a->w, b->c, b->h, b->w);
    out->c = a->c;
    out->h = a->h;
    out->w = a->w;
    net->spatial |= a->h * a->w > 1;
    return LIPS_OK;
}

static lips_status forward(const lips_call *c)
{
    LIPS_TRY(c->be->ops->add(c->be, &c->y, &c->x[0], &c->x[1]));
    return lips_relu_in_place(c);
}

static lips_status jvp(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot)
{
    LIPS_TRY(c->be->ops->add(c->be, ydot, &xdot[0], &xdot[1]));
    return lips_mask_tangent(c, ydot);
}

/* Each input's cotangent is the output's. */
static lips_status vjp(const lips_call *c, int which, const lips_tensor *dy, const lips_tensor *dx,
                       const lips_tensor *mask)
{
    (void)which;
    if (mask)
        return c->be->ops->relu_mask(c->be, &(lips_relu_args){.y = *dx, .x = *dy, .mask = mask});
    return c->be->ops->copy(c->be, dx->data, dy->data, c->be->ops->tensor_bytes(c->be, dy));
}

static double norm(const lips_net *net, const lips_node *node, const double *params,
                   const double *buffers)
{
    (void)net;
    (void)node;
    (void)params;
    (void)buffers;
    return 1;
}

static const lips_need needs[] = {LIPS_NEED(add), {0}};

const lips_kind lips_kind_add = {
    .name = "add",
    .n_in = 2,
    .needs = needs,
    .setup = setup,
    .forward = forward,
    .jvp = jvp,
    .vjp = vjp,
    .norm = norm,
};
