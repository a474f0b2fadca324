/*
 * nn: batch normalisation per channel. In training mode it normalises by the batch's statistics and
 * every derivative goes through them; in evaluation mode it is a scale and a shift per channel.
 */
#include "nn/graph.h"

#include <math.h>

enum { WEIGHT, BIAS };
enum { MEAN, VAR, TRACKED };

/* PyTorch's defaults. */
static const double EPS = 1e-5, MOMENTUM = 0.1;

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
    LIPS_TRY(lips_net_segment(net, LIPS_ROLE_NORM_BIAS, spec->name, "bias", 1, &channels,
                              &node->params[BIAS]));
    LIPS_TRY(lips_net_segment(net, LIPS_ROLE_RUNNING_MEAN, spec->name, "running_mean", 1, &channels,
                              &node->buffers[MEAN]));
    LIPS_TRY(lips_net_segment(net, LIPS_ROLE_RUNNING_VAR, spec->name, "running_var", 1, &channels,
                              &node->buffers[VAR]));
    return lips_net_segment(net, LIPS_ROLE_BATCHES_TRACKED, spec->name, "num_batches_tracked", 0,
                            NULL, &node->buffers[TRACKED]);
}

/* Mean and variance of the batch. */
static size_t state_bytes(const lips_net *net, const lips_node *node)
{
    return 2 * (size_t)net->values[node->out].c * sizeof(double);
}

/* The arguments that all passes share. */
static lips_bn_args args(const lips_call *c, const lips_tensor *y, const lips_tensor *x)
{
    double *state = c->state;
    return (lips_bn_args){
        .y = *y,
        .x = *x,
        .in = &c->x[0],
        .gamma = c->param[WEIGHT],
        .beta = c->param[BIAS],
        .mean = c->buffer[MEAN],
        .var = c->buffer[VAR],
        .tracked = c->buffer[TRACKED],
        .batch_mean = state,
        .batch_var = state ? state + c->y.c : NULL,
        .training = c->training,
        .eps = EPS,
        .momentum = MOMENTUM,
    };
}

static lips_status forward(const lips_call *c)
{
    lips_bn_args a = args(c, &c->y, &c->x[0]);
    LIPS_TRY(c->be->ops->bn_forward(c->be, &a));
    return lips_relu_in_place(c);
}

static lips_status jvp(const lips_call *c, const lips_tensor *xdot, const lips_tensor *ydot)
{
    lips_bn_args a = args(c, ydot, &xdot[0]);
    LIPS_TRY(c->be->ops->bn_jvp(c->be, &a));
    return lips_mask_tangent(c, ydot);
}

static lips_status vjp(const lips_call *c, int which, const lips_tensor *dy, const lips_tensor *dx,
                       const lips_tensor *mask)
{
    (void)which;
    lips_bn_args a = args(c, dy, dx);
    LIPS_TRY(c->be->ops->bn_vjp(c->be, &a));
    return lips_mask_cotangent(c, dx, mask);
}

static lips_status grad(const lips_call *c, const lips_tensor *dy)
{
    lips_bn_args a = args(c, dy, &c->x[0]);
    a.dgamma = c->grad[WEIGHT];
    a.dbeta = c->grad[BIAS];
    return c->be->ops->bn_grad(c->be, &a);
}

/* xhat moves by xdot / sqrt(var + eps): the scale's gradient with mean 0. The shift's does not
 * depend on the input. */
static lips_status grad_tangent(const lips_call *c, const lips_tensor *xdot, const lips_tensor *dy,
                                void *zeros)
{
    lips_bn_args a = args(c, dy, xdot);
    a.mean = zeros;
    a.dgamma = c->grad[WEIGHT];
    return c->be->ops->bn_grad(c->be, &a);
}

/* Scale and shift together, into theta_weight. */
static lips_status gram(const lips_call *c, const lips_tensor *dy, double *theta_weight,
                        double *theta_bias)
{
    (void)theta_bias;
    lips_bn_args a = args(c, dy, &c->x[0]);
    a.theta = theta_weight;
    return theta_weight ? c->be->ops->bn_gram(c->be, &a) : LIPS_OK;
}

static double norm(const lips_net *net, const lips_node *node, const double *params,
                   const double *buffers)
{
    const double *gamma = params + net->segments[node->params[WEIGHT]].offset;
    const double *var = buffers + net->buffer_segments[node->buffers[VAR]].offset;
    double most = 0;
    for (int64_t c = 0; c < net->values[node->out].c; c++) {
        double scale = fabs(gamma[c]) / sqrt(var[c] + EPS);
        if (!(scale <= most)) /* a NaN comes in, and stays: nothing is above it */
            most = isnan(most) ? most : scale;
    }
    return most;
}

static const lips_need needs[] = {LIPS_NEED(bn_forward), LIPS_NEED(bn_jvp),  LIPS_NEED(bn_vjp),
                                  LIPS_NEED(bn_grad),    LIPS_NEED(bn_gram), {0}};

const lips_kind lips_kind_batchnorm = {
    .name = "batchnorm",
    .n_in = 1,
    .needs = needs,
    .keeps_input = true,
    .setup = setup,
    .state_bytes = state_bytes,
    .forward = forward,
    .jvp = jvp,
    .vjp = vjp,
    .grad = grad,
    .grad_tangent = grad_tangent,
    .gram = gram,
    .norm = norm,
};
