/*
 * nn: the passes over a network - forward, stacked tangents, stacked cotangents, parameter
 * gradient.
 */
#include "nn/exec.h"

#include <inttypes.h>

static lips_status need_params(const lips_exec *ex)
{
    if (!ex->params || (ex->net->n_buffers && !ex->buffers))
        return lips_fail(LIPS_ERR_USAGE, "exec: parameters or buffers are not set");
    return LIPS_OK;
}

lips_status lips_exec_forward(lips_exec *ex, bool training, lips_tensor *logits)
{
    LIPS_TRY(need_params(ex));
    if (ex->input.b < 1 || ex->input.b > ex->spec.cap)
        return lips_fail(LIPS_ERR_USAGE, "exec: batch of %" PRId64 ", must be in 1..%" PRId64,
                         ex->input.b, ex->spec.cap);
    if (training && !ex->spec.training)
        return lips_fail(LIPS_ERR_USAGE, "exec: forward in training mode was not planned for");
    ex->ran = false;
    ex->training = training;
    ex->b = ex->input.b;
    for (int n = 0; n < ex->net->n_nodes; n++) {
        lips_call c = lips_exec_call(ex, n, NULL);
        LIPS_TRY(c.node->kind->forward(&c));
    }
    ex->ran = true;
    *logits = lips_exec_value(ex, ex->net->output);
    return LIPS_OK;
}

/* A stacked pass of t values after a forward. */
static lips_status need_forward(const lips_exec *ex, int64_t t)
{
    if (!ex->ran)
        return lips_fail(LIPS_ERR_USAGE, "exec: no forward has run");
    if (t < 1 || t > ex->at.t)
        return lips_fail(LIPS_ERR_USAGE, "exec: %" PRId64 " stacked values, must be in 1..%" PRId64,
                         t, ex->at.t);
    return LIPS_OK;
}

lips_status lips_exec_tangent(lips_exec *ex, int64_t t, lips_tensor *xdot)
{
    LIPS_TRY(need_forward(ex, t));
    *xdot = lips_exec_tangent_at(ex, 0, t);
    return LIPS_OK;
}

lips_status lips_exec_jvp(lips_exec *ex, int64_t t, lips_tensor *ydot)
{
    LIPS_TRY(need_forward(ex, t));
    for (int n = 0; n < ex->net->n_nodes; n++) {
        lips_call c = lips_exec_call(ex, n, NULL);
        lips_tensor in[LIPS_NODE_IN] = {{0}};
        for (int i = 0; i < c.node->n_in; i++)
            in[i] = lips_exec_tangent_at(ex, c.node->in[i], t);
        lips_tensor out = lips_exec_tangent_at(ex, c.node->out, t);
        LIPS_TRY(c.node->kind->jvp(&c, in, &out));
    }
    *ydot = lips_exec_tangent_at(ex, ex->net->output, t);
    return LIPS_OK;
}

lips_status lips_exec_seed(lips_exec *ex, int64_t t, lips_tensor *seed)
{
    LIPS_TRY(need_forward(ex, t));
    *seed = lips_exec_cotangent(ex, ex->net->output, t);
    return LIPS_OK;
}

/* One backward pass: a vjp with its visits, or a gradient. */
typedef struct backward {
    const lips_vjp_args *a;
    void *grads;     /* NULL: not wanted */
    bool everything; /* also cotangents that no parameter's gradient needs */
} backward;

/* theta_l^T delta_l before any mask for the visitor, then the mask that the convention wants. */
static lips_status vjp_and_visit(const lips_call *c, const backward *pass,
                                 const lips_layer_event *event, const lips_tensor *dx,
                                 const lips_tensor *mask)
{
    lips_layer_event full = *event;
    full.dx = dx;
    LIPS_TRY(c->node->kind->vjp(c, 0, &event->delta, dx, NULL));
    LIPS_TRY(pass->a->visit(pass->a->user, &full));
    if (!mask)
        return LIPS_OK;
    return c->be->ops->relu_mask(c->be, &(lips_relu_args){.y = *dx, .x = *dx, .mask = mask});
}

/* The cotangent of one input of node n: written, or added where another reader wrote before. */
static lips_status input_cotangent(lips_exec *ex, int n, int which, const backward *pass,
                                   const lips_call *c, const lips_layer_event *event)
{
    int v = c->node->in[which];
    const lips_value *val = &ex->net->values[v];
    lips_tensor dx = lips_exec_cotangent(ex, v, event->delta.t), to = dx;
    lips_tensor mask = lips_exec_value(ex, v), *masked = val->relu ? &mask : NULL;
    bool first = val->last == n && !(which && c->node->in[0] == v);
    if (!first)
        to.data = ex->block + ex->at.addend;
    if (event->layer && pass->a->visit && pass->a->want_dx)
        LIPS_TRY(vjp_and_visit(c, pass, event, &to, masked));
    else
        LIPS_TRY(c->node->kind->vjp(c, which, &event->delta, &to, masked));
    return first ? LIPS_OK : ex->be->ops->add(ex->be, &dx, &dx, &to);
}

static lips_status backward_node(lips_exec *ex, int n, const backward *pass)
{
    lips_call c = lips_exec_call(ex, n, pass->grads);
    const lips_node *node = c.node;
    lips_layer_event event = {.layer = node->layer,
                              .info = lips_net_layer(ex->net, node->layer),
                              .delta = lips_exec_cotangent(ex, node->out, pass->a->t),
                              .x = c.x[0]};
    if (event.info && !event.info->conv)
        event.x = lips_tensor_flat(event.x);
    if (pass->grads && node->kind->grad)
        LIPS_TRY(node->kind->grad(&c, &event.delta));
    if (pass->a->theta_norm && !node->layer && node->kind->gram)
        LIPS_TRY(node->kind->gram(&c, &event.delta, pass->a->theta_norm, NULL));
    if (event.layer && pass->a->visit && !pass->a->want_dx)
        LIPS_TRY(pass->a->visit(pass->a->user, &event));
    for (int i = 0; i < node->n_in; i++)
        if (pass->everything || ex->net->values[node->in[i]].needed)
            LIPS_TRY(input_cotangent(ex, n, i, pass, &c, &event));
    return LIPS_OK;
}

static lips_status run_backward(lips_exec *ex, const backward *pass)
{
    LIPS_TRY(need_forward(ex, pass->a->t));
    for (int n = ex->net->n_nodes - 1; n >= 0; n--)
        LIPS_TRY(backward_node(ex, n, pass));
    return LIPS_OK;
}

lips_status lips_exec_vjp(lips_exec *ex, const lips_vjp_args *a)
{
    if (ex->ran && ex->net->normalises && a->training != ex->training)
        return lips_fail(LIPS_ERR_USAGE, "exec: vjp in %s mode after a forward in %s mode",
                         a->training ? "training" : "evaluation",
                         ex->training ? "training" : "evaluation");
    backward pass = {.a = a, .everything = a->want_input || (a->visit && a->want_dx)};
    LIPS_TRY(run_backward(ex, &pass));
    if (a->want_input && a->dx)
        *a->dx = lips_exec_cotangent(ex, 0, a->t);
    return LIPS_OK;
}

lips_status lips_exec_grad_add(lips_exec *ex, void *grads)
{
    if (!grads)
        return lips_fail(LIPS_ERR_USAGE, "exec: gradient vector is NULL");
    return run_backward(ex, &(backward){.a = &(lips_vjp_args){.t = 1}, .grads = grads});
}

lips_status lips_exec_grad(lips_exec *ex, void *grads)
{
    if (grads)
        LIPS_TRY(
            ex->be->ops->zero(ex->be, grads, (size_t)ex->net->n_params * ex->be->ops->real_bytes));
    return lips_exec_grad_add(ex, grads);
}

lips_status lips_layer_gram(lips_exec *ex, const lips_layer_event *event, double *theta_weight,
                            double *theta_bias)
{
    for (int n = 0; n < ex->net->n_nodes; n++) {
        if (ex->net->nodes[n].layer != event->layer || !event->layer)
            continue;
        lips_call c = lips_exec_call(ex, n, NULL);
        return c.node->kind->gram(&c, &event->delta, theta_weight, theta_bias);
    }
    return lips_fail(LIPS_ERR_USAGE, "exec: the network has no layer %d", event->layer);
}
