#include "nn/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More parameters than this (8 TiB in float64) is a slip of the pen, not a network. */
#define PARAMS_MAX (INT64_C(1) << 40)

/* Makes room for one more element in an array of n; arrays grow at powers of two. */
static lips_status grow(void **array, int n, size_t size)
{
    if (n & (n - 1))
        return LIPS_OK;
    void *p = realloc(*array, (size_t)(n ? 2 * n : 1) * size);
    if (!p)
        return lips_fail(LIPS_ERR_MEMORY, "network: out of memory (%d elements)", 2 * n);
    *array = p;
    return LIPS_OK;
}

static lips_status add_value(lips_net *net, const lips_value *v)
{
    void *p = net->values;
    LIPS_TRY(grow(&p, net->n_values, sizeof *v));
    net->values = p;
    net->values[net->n_values++] = *v;
    return LIPS_OK;
}

lips_status lips_net_begin(lips_net **out, const lips_model_spec *spec)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return lips_fail(LIPS_ERR_MEMORY, "network: out of memory");
    (*out)->spec = *spec;
    return add_value(*out, &(lips_value){.c = spec->c, .h = spec->h, .w = spec->w, .last = -1});
}

lips_status lips_net_add(lips_net *net, const lips_node_spec *spec, int *value)
{
    lips_node node = {.kind = spec->kind,
                      .n_in = spec->kind->n_in,
                      .relu = spec->relu,
                      .geom = spec->geom,
                      .k = spec->k,
                      .branch = spec->branch,
                      .params = {-1, -1},
                      .buffers = {-1, -1, -1}};
    lips_value out = {.relu = spec->relu, .last = -1};
    for (int i = 0; i < node.n_in; i++) {
        if (spec->in[i] < 0 || spec->in[i] >= net->n_values)
            return lips_fail(LIPS_ERR_USAGE, "network: %s reads value %d of %d", spec->kind->name,
                             spec->in[i], net->n_values);
        node.in[i] = spec->in[i];
        net->values[spec->in[i]].last = net->n_nodes;
        out.needed |= net->values[spec->in[i]].needed;
    }
    LIPS_TRY(spec->kind->setup(net, &node, spec, &out));
    out.needed |= node.params[0] >= 0;
    net->normalises |= node.buffers[0] >= 0;
    net->curved |= spec->kind->vjp_tangent != NULL;
    node.out = net->n_values;
    LIPS_TRY(add_value(net, &out));
    void *p = net->nodes;
    LIPS_TRY(grow(&p, net->n_nodes, sizeof node));
    net->nodes = p;
    net->nodes[net->n_nodes++] = node;
    *value = node.out;
    return LIPS_OK;
}

lips_status lips_net_finish(lips_net *net, int output)
{
    const lips_value *v = &net->values[output];
    if (output == 0 || v->last >= 0 || v->relu || v->c != net->spec.classes || v->h * v->w != 1)
        return lips_fail(LIPS_ERR_USAGE,
                         "network: output is (%" PRId64 ",%" PRId64 ",%" PRId64
                         "), must be (%" PRId64 ",1,1), without ReLU and not read again",
                         v->c, v->h, v->w, net->spec.classes);
    for (int i = 0; i < net->n_values; i++)
        if (i != output && net->values[i].last < 0)
            return lips_fail(LIPS_ERR_USAGE, "network: value %d is never read", i);
    net->output = output;
    return LIPS_OK;
}

lips_status lips_net_segment(lips_net *net, lips_role role, const char *name, const char *suffix,
                             int ndim, const int64_t *shape, int *index)
{
    bool buffer = role >= LIPS_ROLE_RUNNING_MEAN;
    lips_segment s = {
        .role = role, .ndim = ndim, .count = 1, .offset = buffer ? net->n_buffers : net->n_params};
    if (snprintf(s.name, sizeof s.name, "%s%s%s", name, *name ? "." : "", suffix) >=
        (int)sizeof s.name)
        return lips_fail(LIPS_ERR_USAGE, "network: name %s.%s is too long", name, suffix);
    for (int i = 0; i < ndim; i++) {
        s.shape[i] = shape[i];
        if (shape[i] < 1 || shape[i] > PARAMS_MAX / s.count)
            return lips_fail(LIPS_ERR_USAGE, "network: %s has more than %" PRId64 " values", s.name,
                             PARAMS_MAX);
        s.count *= shape[i];
    }
    if (s.offset + s.count > PARAMS_MAX)
        return lips_fail(LIPS_ERR_USAGE, "network: more than %" PRId64 " parameters", PARAMS_MAX);
    void *p = buffer ? net->buffer_segments : net->segments;
    int *n = buffer ? &net->n_buffer_segments : &net->n_segments;
    LIPS_TRY(grow(&p, *n, sizeof s));
    *(buffer ? &net->buffer_segments : &net->segments) = p;
    ((lips_segment *)p)[*n] = s;
    *index = (*n)++;
    *(buffer ? &net->n_buffers : &net->n_params) += s.count;
    return LIPS_OK;
}

lips_status lips_net_layer_add(lips_net *net, lips_node *node, const char *name,
                               lips_layer_info info)
{
    snprintf(info.name, sizeof info.name, "%s", name); /* its segments' longer names did fit */
    info.weight = node->params[0];
    info.bias = node->params[1];
    void *p = net->layers;
    LIPS_TRY(grow(&p, net->n_layers, sizeof info));
    net->layers = p;
    net->layers[net->n_layers++] = info;
    node->layer = net->n_layers;
    for (int i = 0; i < LIPS_NODE_PARAMS; i++)
        if (node->params[i] >= 0)
            net->segments[node->params[i]].layer = node->layer;
    return LIPS_OK;
}

void lips_net_free(lips_net *net)
{
    if (!net)
        return;
    free(net->values);
    free(net->nodes);
    free(net->segments);
    free(net->buffer_segments);
    free(net->layers);
    free(net);
}

const lips_model_spec *lips_net_spec(const lips_net *net)
{
    return &net->spec;
}

int64_t lips_net_params(const lips_net *net)
{
    return net->n_params;
}

int64_t lips_net_buffers(const lips_net *net)
{
    return net->n_buffers;
}

int lips_net_segments(const lips_net *net, const lips_segment **out)
{
    *out = net->segments;
    return net->n_segments;
}

int lips_net_buffer_segments(const lips_net *net, const lips_segment **out)
{
    *out = net->buffer_segments;
    return net->n_buffer_segments;
}

int lips_net_layers(const lips_net *net)
{
    return net->n_layers;
}

const lips_layer_info *lips_net_layer(const lips_net *net, int l)
{
    return l >= 1 && l <= net->n_layers ? &net->layers[l - 1] : NULL;
}

const lips_need *lips_need_missing(const lips_need *needs, const lips_ops *ops)
{
    typedef void (*any_fn)(void);
    for (; needs && needs->op; needs++) {
        any_fn fn;
        memcpy(&fn, (const char *)ops + needs->slot, sizeof fn);
        if (!fn)
            return needs;
    }
    return NULL;
}

const char *lips_net_lacks(const lips_net *net, const lips_ops *ops)
{
    for (int i = 0; i < net->n_nodes; i++) {
        const lips_kind *kind = net->nodes[i].kind;
        if (lips_need_missing(kind->needs, ops))
            return kind->name;
    }
    return NULL;
}

bool lips_net_curved(const lips_net *net)
{
    return net->curved;
}

double lips_net_forward_flops(const lips_net *net)
{
    double sum = 0;
    for (int i = 0; i < net->n_nodes; i++)
        sum += net->nodes[i].flops;
    return sum;
}

lips_status lips_relu_in_place(const lips_call *c)
{
    if (!c->node->relu)
        return LIPS_OK;
    return c->be->ops->relu_forward(c->be, &(lips_relu_args){.y = c->y, .x = c->y});
}

lips_status lips_mask_tangent(const lips_call *c, const lips_tensor *ydot)
{
    if (!c->node->relu)
        return LIPS_OK;
    return c->be->ops->relu_mask(c->be, &(lips_relu_args){.y = *ydot, .x = *ydot, .mask = &c->y});
}

lips_status lips_mask_cotangent(const lips_call *c, const lips_tensor *dx, const lips_tensor *mask)
{
    if (!mask)
        return LIPS_OK;
    return c->be->ops->relu_mask(c->be, &(lips_relu_args){.y = *dx, .x = *dx, .mask = mask});
}
