/*
 * nn: initial parameters. Value i of parameter tensor s is a function of (seed, s, i) alone,
 * rounded to f32, so every backend starts from the same numbers.
 *
 *   pytorch  weight and bias U(-b, b), b = 1/sqrt(fan_in)          (Linear's and Conv2d's defaults)
 *   he       weight N(0, 2/fan_out), bias 0
 *   glorot   weight U(-b, b), b = sqrt(6/(fan_in + fan_out)), bias 0
 *   fixup    as he, but (Zhang, Dauphin, Ma: Fixup Initialization, ICLR 2019, section 3.2)
 *            1. the network's last layer and the last layer of each residual branch are 0;
 *            2. the other weights of a branch are scaled by L^(-1/(2m-2)), with L residual branches
 *               of m layers each; for resnet18 L = 8 and m = 2, so by 8^(-1/2). Shortcut
 *               convolutions are in no branch.
 *            Its rule 3, a scalar bias before each layer and a scalar multiplier per branch, would
 *            need parameters that these models do not have; the convolutions' biases are in the
 *            place of the former.
 *
 * For all of them: batch norm and layer norm start as the identity (weight 1, bias 0, running mean
 * 0 and variance 1); a class token is 0 and learned positions are N(0, 0.02^2), as in torchvision.
 * The rest of a vision transformer follows the rules above, in_proj with fan_in w: torchvision's
 * own choices for its layers (Xavier in in_proj and the MLP, a head of zeros) are not reproduced.
 */
#include "base/random.h"
#include "nn/graph.h"

#include <math.h>

typedef struct fan {
    double in, out;
} fan;

static fan fan_of(const lips_net *net, int layer)
{
    const lips_segment *w = &net->segments[net->layers[layer - 1].weight];
    double area = w->ndim == 4 ? (double)(w->shape[2] * w->shape[3]) : 1;
    return (fan){.in = (double)w->shape[1] * area, .out = (double)w->shape[0] * area};
}

/* L^(-1/(2m-2)) of the paper, or 1 without residual branches. */
static double branch_scale(const lips_net *net)
{
    double branches = 0, layers = 0;
    for (int i = 0; i < net->n_nodes; i++) {
        layers += net->nodes[i].branch != LIPS_BRANCH_NONE;
        branches += net->nodes[i].branch == LIPS_BRANCH_LAST;
    }
    return layers > branches ? pow(branches, -1 / (2 * layers / branches - 2)) : 1;
}

static double fixup(const lips_net *net, int layer, double he)
{
    lips_branch branch = LIPS_BRANCH_NONE;
    for (int i = 0; i < net->n_nodes; i++)
        if (net->nodes[i].layer == layer)
            branch = net->nodes[i].branch;
    if (layer == net->n_layers || branch == LIPS_BRANCH_LAST)
        return 0;
    return branch == LIPS_BRANCH_INNER ? he * branch_scale(net) : he;
}

static const double POSITION_DEVIATION = 0.02;

/* Half-width of the uniform (positive) or minus the deviation of the normal distribution; 0: zeros.
 */
static double spread(const lips_net *net, lips_init init, const lips_segment *s)
{
    if (s->role == LIPS_ROLE_POSITION)
        return -POSITION_DEVIATION;
    if (!s->layer)
        return 0;
    fan f = fan_of(net, s->layer);
    if (init == LIPS_INIT_PYTORCH)
        return 1 / sqrt(f.in);
    if (s->role == LIPS_ROLE_BIAS)
        return 0;
    if (init == LIPS_INIT_GLOROT)
        return sqrt(6 / (f.in + f.out));
    double he = -sqrt(2 / f.out);
    return init == LIPS_INIT_FIXUP ? fixup(net, s->layer, he) : he;
}

static void fill(double *out, const lips_segment *s, double value)
{
    for (int64_t i = 0; i < s->count; i++)
        out[s->offset + i] = value;
}

static void draw(double *out, const lips_segment *s, double width, const lips_rng *rng)
{
    for (int64_t i = 0; i < s->count; i++) {
        double v = width > 0 ? width * (2 * lips_rng_uniform(rng, (uint64_t)i) - 1)
                             : -width * lips_rng_normal(rng, (uint64_t)i);
        out[s->offset + i] = (double)(float)v;
    }
}

lips_status lips_net_init(const lips_net *net, lips_init init, uint64_t seed, double *params,
                          double *buffers)
{
    if (init < LIPS_INIT_PYTORCH || init > LIPS_INIT_FIXUP)
        return lips_fail(LIPS_ERR_USAGE, "init: unknown initialisation %d", (int)init);
    for (int i = 0; i < net->n_segments; i++) {
        const lips_segment *s = &net->segments[i];
        lips_rng rng = {.seed = seed, .stream = LIPS_STREAM_INIT, .epoch = (uint32_t)i};
        double width = spread(net, init, s);
        if (width != 0)
            draw(params, s, width, &rng);
        else
            fill(params, s, s->role == LIPS_ROLE_NORM_WEIGHT ? 1 : 0);
    }
    for (int i = 0; i < net->n_buffer_segments; i++) {
        const lips_segment *s = &net->buffer_segments[i];
        fill(buffers, s, s->role == LIPS_ROLE_RUNNING_VAR ? 1 : 0);
    }
    return LIPS_OK;
}
