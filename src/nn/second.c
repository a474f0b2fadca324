/*
 * nn: second-order passes. Every layer kind is affine in its parameters, so the derivative of one
 * of its functions along a parameter direction v is that function with v in the parameters' place;
 * a kind that is not piecewise linear in its input as well adds its own term (vjp_tangent).
 */
#include "nn/second.h"

#include "nn/exec.h"
#include "nn/plan.h"

#include <stdlib.h>

struct lips_second {
    lips_exec *ex;
    char *block;
    size_t *cotangent, *tangent,
        *dot;            /* (n_values) offsets: cotangents, tangents, tangents of cotangents */
    size_t addend, work; /* one more term of a sum; zeros for grad_tangent */
    size_t bytes;
    bool primal, tangents; /* has the pass run */
};

/* Offsets of 3 n_values tensors for cap samples and the addend; offsets NULL: bytes only. */
static size_t place(const lips_net *net, lips_backend *be, int64_t cap, size_t *offsets,
                    size_t *addend)
{
    size_t at = 0, largest = 0;
    int n = net->n_values;
    for (int i = 0; i < 3 * n; i++) {
        const lips_value *v = &net->values[i % n];
        const lips_tensor t = {.cap = cap,
                               .b = cap,
                               .c = v->c,
                               .h = v->h,
                               .w = v->w,
                               .t = 1,
                               .lanes = be->ops->plan_lanes(be, cap, net->spatial)};
        size_t bytes = lips_plan_round(be->ops->tensor_bytes(be, &t));
        if (offsets)
            offsets[i] = at;
        at += bytes;
        largest = bytes > largest ? bytes : largest;
    }
    *addend = at;
    return at + largest;
}

static size_t zeros_bytes(const lips_net *net, const lips_backend *be)
{
    int64_t most = 0;
    for (int v = 0; v < net->n_values; v++)
        most = net->values[v].c > most ? net->values[v].c : most;
    return lips_plan_round((size_t)most * be->ops->real_bytes);
}

size_t lips_second_plan_bytes(const lips_net *net, lips_backend *be, int64_t cap)
{
    size_t addend;
    return place(net, be, cap, NULL, &addend) + zeros_bytes(net, be);
}

lips_status lips_second_create(lips_second **out, lips_exec *ex)
{
    lips_status st = LIPS_OK;
    size_t n = (size_t)ex->net->n_values;
    *out = NULL;
    if (ex->at.t < 1)
        return lips_fail(LIPS_ERR_USAGE,
                         "second order: the exec was planned without a backward pass");
    lips_second *s = calloc(1, sizeof *s);
    size_t *offsets = calloc(3 * n, sizeof *offsets);
    if (!s || !offsets) {
        free(s);
        free(offsets);
        return lips_fail(LIPS_ERR_MEMORY, "second order: out of memory");
    }
    s->ex = ex;
    s->cotangent = offsets;
    s->tangent = offsets + n;
    s->dot = offsets + 2 * n;
    s->work = place(ex->net, ex->be, lips_exec_value(ex, 0).cap, offsets, &s->addend);
    s->bytes = s->work + zeros_bytes(ex->net, ex->be);
    void *block = NULL;
    LIPS_TRY_GOTO(st, ex->be->ops->alloc(ex->be, &block, s->bytes), fail);
    s->block = block;
    *out = s;
    return LIPS_OK;
fail:
    lips_second_free(s);
    return st;
}

void lips_second_free(lips_second *s)
{
    if (!s)
        return;
    if (s->block)
        s->ex->be->ops->release(s->ex->be, s->block);
    free(s->cotangent);
    free(s);
}

static lips_tensor at(const lips_second *s, const size_t *offsets, int v)
{
    lips_tensor t = lips_exec_value(s->ex, v);
    t.data = s->block + offsets[v];
    return t;
}

/* Tensor for a term that is added to one of the shape of value v. */
static lips_tensor term_of(const lips_second *s, int v)
{
    lips_tensor t = lips_exec_value(s->ex, v);
    t.data = s->block + s->addend;
    return t;
}

/* Node n's call with v's segments in the parameters' place, or NULL where it has none; no ReLU. Its
 * forward is the output's change along v. */
static lips_call along(const lips_second *s, int n, const void *v, lips_node *bare)
{
    lips_call c = lips_exec_call(s->ex, n, NULL);
    *bare = *c.node;
    bare->relu = false;
    c.node = bare;
    for (int i = 0; i < LIPS_NODE_PARAMS; i++)
        if (c.param[i])
            c.param[i] = lips_real_at(s->ex->be, v, s->ex->net->segments[bare->params[i]].offset);
    if (bare->kind->adds_params)
        c.x[0].data = NULL; /* the input's own part does not move with them */
    return c;
}

static bool has_params(const lips_node *node)
{
    return node->params[0] >= 0;
}

static lips_status need_evaluation(const lips_second *s)
{
    if (!s->ex->ran || s->ex->training)
        return lips_fail(LIPS_ERR_USAGE, "second order: needs a forward in evaluation mode");
    return LIPS_OK;
}

lips_status lips_second_seed(lips_second *s, lips_tensor *seed)
{
    LIPS_TRY(need_evaluation(s));
    s->primal = s->tangents = false;
    *seed = at(s, s->cotangent, s->ex->net->output);
    return LIPS_OK;
}

/* Is this the first contribution to input `which` of node n in a backward pass? (As in pass.c.) */
static bool first_reader(const lips_second *s, int n, int which)
{
    const lips_node *node = &s->ex->net->nodes[n];
    int v = node->in[which];
    return s->ex->net->values[v].last == n && !(which && node->in[0] == v);
}

/* offsets[in] (+)= vjp of c applied to dy, masked as the input value wants. */
static lips_status pull(lips_second *s, const lips_call *c, int which, const lips_tensor *dy,
                        const size_t *offsets, bool overwrite)
{
    int v = c->node->in[which];
    lips_tensor mask = lips_exec_value(s->ex, v), to = at(s, offsets, v);
    lips_tensor term = overwrite ? to : term_of(s, v);
    LIPS_TRY(c->node->kind->vjp(c, which, dy, &term, s->ex->net->values[v].relu ? &mask : NULL));
    return overwrite ? LIPS_OK : s->ex->be->ops->add(s->ex->be, &to, &to, &term);
}

lips_status lips_second_primal(lips_second *s)
{
    const lips_net *net = s->ex->net;
    LIPS_TRY(need_evaluation(s));
    for (int n = net->n_nodes - 1; n >= 0; n--) {
        lips_call c = lips_exec_call(s->ex, n, NULL);
        lips_tensor dy = at(s, s->cotangent, c.node->out);
        for (int i = 0; i < c.node->n_in; i++)
            if (net->values[c.node->in[i]].needed)
                LIPS_TRY(pull(s, &c, i, &dy, s->cotangent, first_reader(s, n, i)));
    }
    s->primal = true;
    return LIPS_OK;
}

/* Tangents of node n's inputs; an input that no parameter influences has tangent 0. *any: one
 * has. */
static lips_status input_tangents(lips_second *s, const lips_node *node, lips_tensor *xdot,
                                  bool *any)
{
    const lips_net *net = s->ex->net;
    *any = false;
    for (int i = 0; i < node->n_in; i++)
        *any |= net->values[node->in[i]].needed;
    for (int i = 0; i < node->n_in && *any; i++) {
        xdot[i] = at(s, s->tangent, node->in[i]);
        if (!net->values[node->in[i]].needed)
            LIPS_TRY(s->ex->be->ops->fill(s->ex->be, &xdot[i], 0));
    }
    return LIPS_OK;
}

static lips_status tangent_node(lips_second *s, int n, const void *v)
{
    lips_backend *be = s->ex->be;
    lips_call c = lips_exec_call(s->ex, n, NULL);
    lips_tensor xdot[LIPS_NODE_IN] = {{0}}, ydot = at(s, s->tangent, c.node->out);
    bool any;
    LIPS_TRY(input_tangents(s, c.node, xdot, &any));
    if (any)
        LIPS_TRY(c.node->kind->jvp(&c, xdot, &ydot));
    if (!has_params(c.node))
        return any ? LIPS_OK : be->ops->fill(be, &ydot, 0);
    lips_node bare;
    lips_call dir = along(s, n, v, &bare);
    dir.y = any ? term_of(s, c.node->out) : ydot;
    LIPS_TRY(bare.kind->forward(&dir));
    if (any)
        LIPS_TRY(be->ops->add(be, &ydot, &ydot, &dir.y));
    return lips_mask_tangent(&c, &ydot);
}

lips_status lips_second_jvp(lips_second *s, const void *v, lips_tensor *zdot)
{
    LIPS_TRY(need_evaluation(s));
    for (int n = 0; n < s->ex->net->n_nodes; n++)
        LIPS_TRY(tangent_node(s, n, v));
    s->tangents = true;
    *zdot = at(s, s->tangent, s->ex->net->output);
    return LIPS_OK;
}

lips_status lips_second_seed_dot(lips_second *s, lips_tensor *seed)
{
    LIPS_TRY(need_evaluation(s));
    *seed = at(s, s->dot, s->ex->net->output);
    return LIPS_OK;
}

/* Change of the parameter gradient with the node's input: for a gradient that is bilinear in
 * cotangent and input, the same function of the input's tangent; the bias has no part in it. */
static lips_status grad_along_input(lips_second *s, const lips_call *c, const lips_tensor *dy)
{
    const lips_kind *kind = c->node->kind;
    lips_tensor xdot = at(s, s->tangent, c->node->in[0]);
    if (kind->grad_tangent)
        return kind->grad_tangent(c, &xdot, dy, s->block + s->work);
    lips_call moved = *c;
    moved.x[0] = xdot;
    moved.grad[1] = NULL;
    return kind->grad(&moved, dy);
}

/* What the vjp of a curved map changes by as the node's input moves; added to the input's cotangent
 * tangent. */
static lips_status pull_curved(lips_second *s, const lips_call *c, const lips_tensor *dy)
{
    int v = c->node->in[0];
    lips_tensor xdot = at(s, s->tangent, v), to = at(s, s->dot, v), term = term_of(s, v);
    lips_tensor mask = lips_exec_value(s->ex, v);
    LIPS_TRY(c->node->kind->vjp_tangent(c, &xdot, dy, &term));
    LIPS_TRY(lips_mask_cotangent(c, &term, s->ex->net->values[v].relu ? &mask : NULL));
    return s->ex->be->ops->add(s->ex->be, &to, &to, &term);
}

/* What the vjp to input `which` changes by as the parameters move along v and the input along its
 * tangent. */
static lips_status pull_change(lips_second *s, int n, int which, const lips_call *c, const void *v,
                               const lips_tensor *dy)
{
    const lips_kind *kind = c->node->kind;
    if (has_params(c->node) && !kind->adds_params) {
        lips_node bare;
        lips_call dir = along(s, n, v, &bare);
        LIPS_TRY(pull(s, &dir, which, dy, s->dot, false));
    }
    return kind->vjp_tangent ? pull_curved(s, c, dy) : LIPS_OK;
}

static lips_status second_node(lips_second *s, int n, const void *v, void *out)
{
    const lips_net *net = s->ex->net;
    lips_call c = lips_exec_call(s->ex, n, out);
    lips_tensor dy = at(s, s->cotangent, c.node->out), dydot = at(s, s->dot, c.node->out);
    bool params = has_params(c.node);
    if (params)
        LIPS_TRY(c.node->kind->grad(&c, &dydot));
    if (v && params && net->values[c.node->in[0]].needed && !c.node->kind->adds_params)
        LIPS_TRY(grad_along_input(s, &c, &dy));
    for (int i = 0; i < c.node->n_in; i++) {
        if (!net->values[c.node->in[i]].needed)
            continue;
        LIPS_TRY(pull(s, &c, i, &dydot, s->dot, first_reader(s, n, i)));
        if (v)
            LIPS_TRY(pull_change(s, n, i, &c, v, &dy));
    }
    return LIPS_OK;
}

lips_status lips_second_vjp(lips_second *s, const void *v, void *out)
{
    LIPS_TRY(need_evaluation(s));
    if (v && !(s->primal && s->tangents))
        return lips_fail(LIPS_ERR_USAGE,
                         "second order: a Hessian product needs the primal pass and a jvp");
    for (int n = s->ex->net->n_nodes - 1; n >= 0; n--)
        LIPS_TRY(second_node(s, n, v, out));
    return LIPS_OK;
}
