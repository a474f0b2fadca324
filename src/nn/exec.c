#include "nn/exec.h"

#include "backend/check.h"
#include "nn/plan.h"

#include <inttypes.h>
#include <stdlib.h>

static lips_tensor shape_of(const lips_net *net, int v, int64_t cap, int64_t lanes, int64_t t)
{
    const lips_value *val = &net->values[v];
    return (lips_tensor){
        .cap = cap, .b = cap, .c = val->c, .h = val->h, .w = val->w, .t = t, .lanes = lanes};
}

static size_t bytes_of(lips_backend *be, lips_tensor t)
{
    return be->ops->tensor_bytes(be, &t);
}

/* The node that computes value v; -1 for the input. Values are numbered in the order of their
 * nodes. */
static int producer(int v)
{
    return v - 1;
}

/* Lifetimes, in steps = nodes. With a backward pass to follow all values stay: each is the input of
 * a layer's gradient or the mask of a ReLU. Without, a value dies with its last reader. */
static size_t place_values(const lips_net *net, lips_backend *be, const lips_exec_spec *spec,
                           lips_layout *at, lips_span *spans)
{
    int n = net->n_values + net->n_nodes;
    for (int v = 0; v < net->n_values; v++) {
        bool stays = at->t || v == 0 || v == net->output;
        spans[v] = (lips_span){.bytes = bytes_of(be, shape_of(net, v, spec->cap, at->lanes, 1)),
                               .from = v == 0 ? -1 : producer(v),
                               .to = stays ? net->n_nodes : net->values[v].last};
    }
    for (int i = 0; i < net->n_nodes; i++) {
        const lips_node *node = &net->nodes[i];
        size_t bytes =
            spec->training && node->kind->state_bytes ? node->kind->state_bytes(net, node) : 0;
        spans[net->n_values + i] = (lips_span){.bytes = bytes, .from = i, .to = net->n_nodes};
    }
    size_t total = lips_plan_place(spans, n);
    for (int i = 0; i < n; i++)
        (i < net->n_values ? at->value : at->state - net->n_values)[i] = spans[i].offset;
    return total;
}

/* Steps count down: at step i node i's vjp runs. A cotangent lives from its value's last reader to
 * its value's node; the input's stays for the caller, the output's was filled by the caller before.
 */
static size_t place_cotangents(const lips_net *net, lips_backend *be, const lips_exec_spec *spec,
                               lips_layout *at, lips_span *spans)
{
    size_t addend = 0;
    for (int v = 0; v < net->n_values; v++) {
        size_t bytes = bytes_of(be, shape_of(net, v, spec->cap, at->lanes, at->t));
        spans[v] = (lips_span){.bytes = bytes,
                               .from = producer(v),
                               .to = v == net->output ? net->n_nodes : net->values[v].last};
    }
    for (int i = 0; i < net->n_nodes; i++)
        for (int k = 0; k < net->nodes[i].n_in; k++) {
            int v = net->nodes[i].in[k];
            if ((net->values[v].last != i || (k && v == net->nodes[i].in[0])) &&
                spans[v].bytes > addend)
                addend = spans[v].bytes;
        }
    spans[net->n_values] = (lips_span){.bytes = addend, .from = -1, .to = net->n_nodes};
    size_t total = lips_plan_place(spans, net->n_values + 1);
    for (int v = 0; v < net->n_values; v++)
        at->cotangent[v] = spans[v].offset;
    at->addend = spans[net->n_values].offset;
    return total;
}

static size_t place_tangents(const lips_net *net, lips_backend *be, const lips_exec_spec *spec,
                             lips_layout *at, lips_span *spans)
{
    for (int v = 0; v < net->n_values; v++)
        spans[v] = (lips_span){.bytes = bytes_of(be, shape_of(net, v, spec->cap, at->lanes, at->t)),
                               .from = producer(v),
                               .to = v == net->output ? net->n_nodes : net->values[v].last};
    size_t total = lips_plan_place(spans, net->n_values);
    for (int v = 0; v < net->n_values; v++)
        at->tangent[v] = spans[v].offset;
    return total;
}

static size_t largest_workspace(const lips_net *net, lips_backend *be, const lips_exec_spec *spec,
                                const lips_layout *at)
{
    size_t most = 0;
    for (int i = 0; i < net->n_nodes; i++) {
        const lips_node *node = &net->nodes[i];
        lips_call c = {
            .be = be, .node = node, .y = shape_of(net, node->out, spec->cap, at->lanes, 1)};
        for (int k = 0; k < node->n_in; k++)
            c.x[k] = shape_of(net, node->in[k], spec->cap, at->lanes, 1);
        size_t bytes = node->kind->workspace ? node->kind->workspace(&c, at->t) : 0;
        most = bytes > most ? bytes : most;
    }
    return lips_plan_round(most);
}

static void shift(size_t *offsets, int n, size_t by)
{
    for (int i = 0; i < n; i++)
        offsets[i] += by;
}

/* What the passes themselves call, and kinds for their ReLU. */
static const lips_need common_needs[] = {
    LIPS_NEED(relu_forward), LIPS_NEED(relu_mask), LIPS_NEED(add), LIPS_NEED(fill), {0}};

static lips_status check_offered(const lips_ops *ops, const lips_need *needs, const char *kind)
{
    const lips_need *missing = lips_need_missing(needs, ops);
    if (!missing)
        return LIPS_OK;
    return lips_fail(LIPS_ERR_UNSUPPORTED, "backend %s has no %s, which this network needs (%s)",
                     ops->name, missing->op, kind);
}

static lips_status check_spec(const lips_net *net, lips_backend *be, const lips_exec_spec *spec)
{
    if (spec->cap < 1 || spec->t < 0)
        return lips_fail(LIPS_ERR_USAGE,
                         "exec: cap %" PRId64 ", t %" PRId64 ", must be at least 1 and 0",
                         spec->cap, spec->t);
    LIPS_TRY(check_offered(be->ops, common_needs, "any"));
    for (int n = 0; n < net->n_nodes; n++)
        LIPS_TRY(check_offered(be->ops, net->nodes[n].kind->needs, net->nodes[n].kind->name));
    int64_t lanes = be->ops->plan_lanes(be, spec->cap, net->spatial);
    for (int v = 0; v < net->n_values; v++) {
        lips_tensor t = shape_of(net, v, spec->cap, lanes, spec->t + 1);
        LIPS_TRY(lips_check_extents("exec", "a value of the network", &t));
    }
    return LIPS_OK;
}

static void layout_free(lips_layout *at)
{
    free(at->value);
}

/* Allocates the offset tables and fills them. */
static lips_status layout_make(lips_layout *at, const lips_net *net, lips_backend *be,
                               const lips_exec_spec *spec)
{
    LIPS_TRY(check_spec(net, be, spec));
    size_t nv = (size_t)net->n_values, nn = (size_t)net->n_nodes;
    lips_span *spans = calloc(nv + nn + 1, sizeof *spans);
    size_t *tables = calloc(3 * nv + nn, sizeof *tables);
    if (!spans || !tables) {
        free(spans);
        free(tables);
        return lips_fail(LIPS_ERR_MEMORY, "exec: out of memory (plan of %zu values)", nv);
    }
    *at = (lips_layout){.value = tables,
                        .cotangent = tables + nv,
                        .tangent = tables + 2 * nv,
                        .state = tables + 3 * nv,
                        .lanes = be->ops->plan_lanes(be, spec->cap, net->spatial),
                        .t = spec->t ? spec->t : spec->training};
    size_t values = place_values(net, be, spec, at, spans);
    size_t work = largest_workspace(net, be, spec, at), stacked = 0;
    if (at->t) {
        size_t back = place_cotangents(net, be, spec, at, spans);
        size_t ahead = place_tangents(net, be, spec, at, spans);
        stacked = back > ahead ? back : ahead;
    }
    at->work = values;
    shift(at->cotangent, net->n_values, values + work);
    shift(at->tangent, net->n_values, values + work);
    at->addend += values + work;
    at->bytes = values + work + stacked;
    free(spans);
    return LIPS_OK;
}

lips_status lips_exec_plan_bytes(const lips_net *net, lips_backend *be, const lips_exec_spec *spec,
                                 size_t *bytes)
{
    lips_layout at;
    LIPS_TRY(layout_make(&at, net, be, spec));
    *bytes = at.bytes;
    layout_free(&at);
    return LIPS_OK;
}

size_t lips_exec_own_bytes(const lips_net *net, lips_backend *be, const lips_exec_spec *spec)
{
    size_t most = 0;
    const int64_t lanes = be->ops->plan_lanes(be, spec->cap, net->spatial);
    for (int n = 0; n < net->n_nodes && be->ops->own_bytes && spec->t > 0; n++) {
        const lips_node *node = &net->nodes[n];
        const lips_value *in = &net->values[node->in[0]], *out = &net->values[node->out];
        const bool conv = node->layer && lips_net_layer(net, node->layer)->conv;
        const lips_own_args a = {.x = {.cap = spec->cap,
                                       .b = spec->cap,
                                       .c = in->c,
                                       .h = in->h,
                                       .w = in->w,
                                       .t = 1,
                                       .lanes = lanes},
                                 .y = {.cap = spec->cap,
                                       .b = spec->cap,
                                       .c = out->c,
                                       .h = out->h,
                                       .w = out->w,
                                       .t = spec->t,
                                       .lanes = lanes},
                                 .geom = conv ? &node->geom : NULL,
                                 .layer = node->layer > 0,
                                 .norms = node->params[0] >= 0 && !node->layer};
        const size_t bytes = be->ops->own_bytes(be, &a);
        most = bytes > most ? bytes : most;
    }
    return most;
}

int64_t lips_net_chunk(const lips_net *net, const lips_backend *be, int64_t batch)
{
    int64_t chunk = be->ops->image_chunk;
    return chunk && chunk < batch && net->spatial && !net->normalises ? chunk : batch;
}

/* Reals per sample: every value, and the t cotangents of what the widest node reads and writes. */
static double pass_reals(const lips_net *net, int64_t t)
{
    double values = 0, widest = 0;
    for (int v = 0; v < net->n_values; v++)
        values += (double)lips_value_features(&net->values[v]);
    for (int n = 0; n < net->n_nodes; n++) {
        const lips_node *node = &net->nodes[n];
        double around = (double)lips_value_features(&net->values[node->out]);
        for (int i = 0; i < node->n_in; i++)
            around += (double)lips_value_features(&net->values[node->in[i]]);
        widest = around > widest ? around : widest;
    }
    return values + (double)t * widest;
}

int64_t lips_net_fits(const lips_net *net, int64_t t, size_t real_bytes, size_t bytes, int64_t most)
{
    enum { STEP = 16 }; /* whole tiles of the products */
    double fits = (double)bytes / (double)real_bytes / pass_reals(net, t);
    int64_t n = fits < (double)most ? (int64_t)fits : most;
    return n >= STEP ? n / STEP * STEP : n > 1 ? n : 1;
}

lips_status lips_exec_create(lips_exec **out, const lips_net *net, lips_backend *be,
                             const lips_exec_spec *spec)
{
    lips_status st;
    *out = NULL;
    lips_exec *ex = calloc(1, sizeof *ex);
    if (!ex)
        return lips_fail(LIPS_ERR_MEMORY, "exec: out of memory");
    ex->net = net;
    ex->be = be;
    ex->spec = *spec;
    LIPS_TRY_GOTO(st, layout_make(&ex->at, net, be, spec), fail);
    void *block = NULL;
    LIPS_TRY_GOTO(st, be->ops->alloc(be, &block, ex->at.bytes), fail);
    ex->block = block;
    ex->input = shape_of(net, 0, spec->cap, ex->at.lanes, 1);
    ex->input.data = ex->block + ex->at.value[0];
    *out = ex;
    return LIPS_OK;
fail:
    lips_exec_free(ex);
    return st;
}

void lips_exec_free(lips_exec *ex)
{
    if (!ex)
        return;
    if (ex->block)
        ex->be->ops->release(ex->be, ex->block);
    layout_free(&ex->at);
    free(ex);
}

void lips_exec_set_params(lips_exec *ex, const void *params, void *buffers)
{
    ex->params = params;
    ex->buffers = buffers;
}

lips_tensor *lips_exec_input(lips_exec *ex)
{
    return &ex->input;
}

static lips_tensor tensor_at(const lips_exec *ex, int v, int64_t t, size_t offset)
{
    lips_tensor x = shape_of(ex->net, v, ex->spec.cap, ex->at.lanes, t);
    x.b = ex->b;
    x.data = ex->block + offset;
    return x;
}

lips_tensor lips_exec_value(const lips_exec *ex, int v)
{
    return tensor_at(ex, v, 1, ex->at.value[v]);
}

lips_tensor lips_exec_cotangent(const lips_exec *ex, int v, int64_t t)
{
    return tensor_at(ex, v, t, ex->at.cotangent[v]);
}

lips_tensor lips_exec_tangent_at(const lips_exec *ex, int v, int64_t t)
{
    return tensor_at(ex, v, t, ex->at.tangent[v]);
}

lips_call lips_exec_call(const lips_exec *ex, int n, void *grads)
{
    const lips_net *net = ex->net;
    const lips_node *node = &net->nodes[n];
    lips_call c = {.be = ex->be,
                   .node = node,
                   .y = lips_exec_value(ex, node->out),
                   .training = ex->training,
                   .work = ex->block + ex->at.work};
    for (int i = 0; i < node->n_in; i++)
        c.x[i] = lips_exec_value(ex, node->in[i]);
    for (int i = 0; i < LIPS_NODE_PARAMS; i++)
        if (node->params[i] >= 0) {
            int64_t off = net->segments[node->params[i]].offset;
            c.param[i] = lips_real_at(ex->be, ex->params, off);
            c.grad[i] = grads ? lips_real_at(ex->be, grads, off) : NULL;
        }
    for (int i = 0; i < LIPS_NODE_BUFFERS; i++)
        if (node->buffers[i] >= 0)
            c.buffer[i] =
                lips_real_at(ex->be, ex->buffers, net->buffer_segments[node->buffers[i]].offset);
    if (ex->spec.training && node->kind->state_bytes)
        c.state = ex->block + ex->at.state[n];
    return c;
}
