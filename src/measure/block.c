#include "measure/block.h"

#include "measure/eigen.h"
#include "measure/head.h"
#include "measure/series.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int lips_block_parts(const lips_survey *p, int item)
{
    return item == LIPS_ITEM_INPUT || item == LIPS_ITEM_NORM ? 1 : p->layers;
}

static bool wants(unsigned items, int item)
{
    return (items >> item) & 1;
}

/* Host doubles of a block; with b NULL they are only counted. */
static lips_status take(double **dst, int64_t count, size_t *bytes)
{
    *bytes += (size_t)count * sizeof(double);
    if (!dst)
        return LIPS_OK;
    *dst = calloc((size_t)count, sizeof(double));
    if (!*dst)
        return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for %zu bytes of Gram matrices",
                         (size_t)count * sizeof(double));
    return LIPS_OK;
}

static lips_status take_host(lips_block *b, const lips_survey *p, size_t *bytes)
{
    int64_t cap = p->block, k = p->k;
    LIPS_TRY(take(b ? &b->logits : NULL, cap * k, bytes));
    LIPS_TRY(take(b ? &b->rest : NULL, cap * k, bytes));
    LIPS_TRY(take(b ? &b->loss : NULL, cap, bytes));
    LIPS_TRY(take(b ? &b->work : NULL, k, bytes));
    LIPS_TRY(take(b ? &b->part : NULL, cap, bytes));
    if (p->full && !lips_reduce_on_backend(p)) {
        LIPS_TRY(take(b ? &b->maps : NULL, cap * k * k, bytes));
        LIPS_TRY(take(b ? &b->eigen : NULL, (int64_t)lips_eigen_scratch(k), bytes));
    }
    if (!p->no_loss) {
        LIPS_TRY(take(b ? &b->seed : NULL, cap * k, bytes));
        LIPS_TRY(take(b ? &b->unit : NULL, cap, bytes));
    }
    return LIPS_OK;
}

void lips_block_take_shared(lips_block *b, double **dst, int64_t count, size_t *bytes)
{
    enum { STEP = 64 }; /* bytes: what is next to each other shares no cache line */
    if (b)
        *dst = b->shared + *bytes / sizeof(double);
    *bytes += ((size_t)count * sizeof(double) + STEP - 1) / STEP * STEP;
}

/* All of it is one piece, which goes over the bus at once; with b NULL it is only counted. */
static void share(lips_block *b, const lips_survey *p, size_t *bytes)
{
    int64_t cap = p->block, k = p->k;
    bool reduces = lips_reduce_on_backend(p);
    for (int item = 0; item < LIPS_ITEMS; item++) {
        int64_t all = lips_block_parts(p, item) * cap;
        if (wants(p->full, item) && !reduces)
            lips_block_take_shared(b, b ? &b->full[item] : NULL, all * k * k, bytes);
        if (wants(p->one, item))
            lips_block_take_shared(b, b ? &b->one[item] : NULL, all, bytes);
    }
    if (p->needs & LIPS_NEED_ACT)
        lips_block_take_shared(b, b ? &b->act : NULL, p->layers * cap, bytes);
    lips_block_take_shared(b, b ? &b->p : NULL, cap * k, bytes);
    if (!p->no_loss)
        lips_block_take_shared(b, b ? &b->u : NULL, cap * k, bytes);
    if (reduces && !p->no_class)
        lips_block_take_shared(b, b ? &b->pick : NULL, cap * k, bytes);
    if (reduces)
        lips_reduce_take(b, p, bytes);
}

/* Matrices that stay with the backend; with b NULL they are only counted. */
static lips_status take_own(lips_block *b, const lips_survey *p, size_t *bytes)
{
    for (int item = 0; item < LIPS_ITEMS && lips_reduce_on_backend(p); item++) {
        size_t one = (size_t)(lips_block_parts(p, item) * p->block * p->k * p->k) * sizeof(double);
        void *at = NULL;
        if (!wants(p->full, item))
            continue;
        *bytes += one;
        if (!b)
            continue;
        LIPS_TRY(b->be->ops->alloc(b->be, &at, one));
        b->full[item] = at;
    }
    return LIPS_OK;
}

static lips_status take_grams(lips_block *b, const lips_survey *p, size_t *bytes)
{
    size_t shared = 0, at = 0;
    void *memory = NULL;
    share(NULL, p, &shared);
    *bytes += shared;
    LIPS_TRY(take_own(b, p, bytes));
    if (!b)
        return LIPS_OK;
    LIPS_TRY(b->be->ops->alloc_shared(b->be, &memory, shared));
    b->shared = memory;
    share(b, p, &at);
    return LIPS_OK;
}

static lips_exec_spec exec_spec(const lips_survey *p)
{
    /* Activation norms come from the visitor, so they need a backward pass of any kind. */
    bool any = p->full || p->one || (p->needs & LIPS_NEED_ACT);
    return (lips_exec_spec){.cap = p->block, .t = p->full ? p->k : any ? 1 : 0};
}

/* The cotangents behind the first layer's factor, shaped as those at its output. */
static lips_tensor through_factor(const lips_survey *p, lips_backend *be, int64_t t)
{
    int64_t o = lips_net_layer(p->net, 1)->o;
    int64_t lanes = be->ops->plan_lanes(be, p->block, false);
    return (lips_tensor){
        .cap = p->block, .b = p->block, .c = o, .h = 1, .w = 1, .t = t, .lanes = lanes};
}

static size_t factor_bytes(const lips_survey *p, lips_backend *be, int64_t t)
{
    int64_t o = lips_net_layer(p->net, 1)->o;
    lips_tensor x = through_factor(p, be, t);
    return (size_t)(o * o) * be->ops->real_bytes + be->ops->tensor_bytes(be, &x);
}

lips_status lips_block_plan_bytes(const lips_survey *p, size_t *bytes, size_t *own)
{
    const lips_ops *ops = p->args->ops;
    lips_exec_spec spec = exec_spec(p);
    lips_backend *be = NULL;
    size_t exec = 0;
    *bytes = 0;
    LIPS_TRY(take_host(NULL, p, bytes));
    LIPS_TRY(take_grams(NULL, p, bytes));
    LIPS_TRY(lips_handles_take(p->handles, &be));
    lips_status st = lips_exec_plan_bytes(p->net, be, &spec, &exec);
    *own = lips_exec_own_bytes(p->net, be, &spec);
    *bytes += *own + (p->triangle ? factor_bytes(p, be, spec.t) : 0);
    lips_survey_close(p, be);
    *bytes += exec + (size_t)(lips_net_params(p->net) + lips_net_buffers(p->net)) * ops->real_bytes;
    return st;
}

/* A device vector holding host's n reals; NULL for n = 0. */
static lips_status put(lips_backend *be, void **dst, const double *host, int64_t n)
{
    if (n == 0)
        return LIPS_OK;
    LIPS_TRY(be->ops->alloc(be, dst, (size_t)n * be->ops->real_bytes));
    LIPS_TRY(be->ops->write(be, *dst, 0, host, n));
    return LIPS_OK;
}

static lips_status take_factor(lips_block *b, int64_t t)
{
    int64_t o = lips_net_layer(b->survey->net, 1)->o;
    lips_tensor x = through_factor(b->survey, b->be, t);
    LIPS_TRY(put(b->be, &b->factor, b->survey->first_factor, o * o));
    return b->be->ops->alloc(b->be, &b->through, b->be->ops->tensor_bytes(b->be, &x));
}

lips_status lips_block_create(lips_block **out, const lips_survey *p)
{
    const lips_network_view *net = &p->args->network;
    lips_exec_spec spec = exec_spec(p);
    lips_status st = LIPS_OK;
    size_t bytes = 0;
    *out = NULL;
    lips_block *b = calloc(1, sizeof *b);
    if (!b)
        return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for a block");
    b->survey = p;
    b->cap = p->block;
    b->k = p->k;
    LIPS_TRY_GOTO(st, take_host(b, p, &bytes), out);
    LIPS_TRY_GOTO(
        st, lips_survey_open(p, p->args->arithmetic.forward, p->args->arithmetic.backward, &b->be),
        out);
    LIPS_TRY_GOTO(st, take_grams(b, p, &bytes), out);
    LIPS_TRY_GOTO(st, put(b->be, &b->params, net->params, lips_net_params(net->net)), out);
    LIPS_TRY_GOTO(st, put(b->be, &b->buffers, net->buffers, lips_net_buffers(net->net)), out);
    LIPS_TRY_GOTO(st, lips_exec_create(&b->exec, net->net, b->be, &spec), out);
    lips_exec_set_params(b->exec, b->params, b->buffers);
    if (p->triangle)
        LIPS_TRY_GOTO(st, take_factor(b, spec.t), out);
    *out = b;
    b = NULL;
out:
    lips_block_free(b);
    return st;
}

void lips_block_free(lips_block *b)
{
    if (!b)
        return;
    lips_exec_free(b->exec);
    if (b->be) {
        void *device[] = {b->params, b->buffers, b->factor, b->through};
        for (size_t i = 0; i < sizeof device / sizeof *device; i++)
            if (device[i])
                b->be->ops->release(b->be, device[i]);
        for (int item = 0; item < LIPS_ITEMS && lips_reduce_on_backend(b->survey); item++)
            b->be->ops->release(b->be, b->full[item]);
        b->be->ops->release(b->be, b->shared);
        lips_survey_close(b->survey, b->be);
    }
    free(b->logits), free(b->rest), free(b->loss);
    free(b->maps), free(b->work), free(b->part), free(b->eigen), free(b->seed), free(b->unit);
    free(b);
}

void lips_block_loss_sq(lips_block *b, int item, int layer, double *out)
{
    int64_t part = layer > 0 ? layer - 1 : 0;
    if (b->one[item])
        memcpy(out, b->one[item] + part * b->cap, (size_t)b->b * sizeof *out);
    else
        lips_reduce_numbers(b, item, layer, LIPS_REDUCE_LOSS, out);
}

/* Logits to p, loss and dL/dz, in f64. */
static void head(lips_block *b)
{
    for (int64_t i = 0; i < b->b; i++) {
        int64_t at = i * b->k;
        b->loss[i] = lips_head(b->survey, b->first + i, b->logits + at, b->p + at, b->rest + at,
                               b->u ? b->u + at : NULL);
        for (int64_t j = 0; b->pick && j < b->k; j++)
            b->pick[at + j] = j == lips_survey_class(b->survey, b->first + i);
    }
}

static double *gram_of(lips_block *b, int item, int layer)
{
    int64_t part = layer > 0 ? layer - 1 : 0;
    if (b->in_loss_pass)
        return b->one[item] ? b->one[item] + part * b->cap : NULL;
    return b->full[item] ? b->full[item] + part * b->cap * b->k * b->k : NULL;
}

/* G at the input from the cotangents at the first layer's output (triangle.h). */
static lips_status input_gram(lips_block *b, const lips_tensor *delta)
{
    const lips_ops *ops = b->be->ops;
    double *g = gram_of(b, LIPS_ITEM_INPUT, 0);
    lips_tensor through = *delta;
    through.data = b->through;
    if (!g)
        return LIPS_OK;
    LIPS_TRY(
        ops->linear_vjp(b->be, &(lips_linear_args){.y = *delta, .x = through, .w = b->factor}));
    return ops->gram(b->be, &(lips_gram_args){.x = through, .g = g});
}

static lips_status visit(void *user, const lips_layer_event *event)
{
    lips_block *b = user;
    const lips_ops *ops = b->be->ops;
    double *in = gram_of(b, LIPS_ITEM_IN, event->layer);
    double *weight = gram_of(b, LIPS_ITEM_WEIGHT, event->layer);
    double *bias = gram_of(b, LIPS_ITEM_BIAS, event->layer);
    if (event->layer == 1 && b->survey->triangle)
        LIPS_TRY(input_gram(b, &event->delta));
    if (in)
        LIPS_TRY(ops->gram(b->be, &(lips_gram_args){.x = *event->dx, .g = in}));
    if (weight || bias)
        LIPS_TRY(lips_layer_gram(b->exec, event, weight, event->info->bias >= 0 ? bias : NULL));
    if (b->act) {
        double *act = b->act + (event->layer - 1) * b->cap;
        LIPS_TRY(ops->gram(b->be, &(lips_gram_args){.x = event->x, .g = act}));
    }
    return LIPS_OK;
}

/* One stacked backward pass from the seed that stands in the exec; fills full or one. */
static lips_status backward(lips_block *b, unsigned items, int64_t t, bool loss_pass)
{
    const lips_ops *ops = b->be->ops;
    unsigned layers = LIPS_NEED_IN | LIPS_NEED_WEIGHT | LIPS_NEED_BIAS;
    bool triangle = b->survey->triangle && wants(items, LIPS_ITEM_INPUT);
    lips_tensor dx;
    b->in_loss_pass = loss_pass;
    for (int item = 0; item < LIPS_ITEMS; item++)
        if (wants(items, item))
            LIPS_TRY(ops->zero(b->be, gram_of(b, item, 0),
                               (size_t)(lips_block_parts(b->survey, item) * b->cap * t * t) *
                                   sizeof(double)));
    if (b->act) /* a second pass would add the same again */
        LIPS_TRY(ops->zero(b->be, b->act, (size_t)(b->survey->layers * b->cap) * sizeof *b->act));
    lips_vjp_args a = {
        .t = t,
        .want_input = wants(items, LIPS_ITEM_INPUT) && !triangle,
        .dx = &dx,
        .visit = (items & layers) || triangle || b->act ? visit : NULL,
        .want_dx = wants(items, LIPS_ITEM_IN),
        .user = b,
        .theta_norm = wants(items, LIPS_ITEM_NORM) ? gram_of(b, LIPS_ITEM_NORM, 0) : NULL,
    };
    LIPS_TRY(lips_exec_vjp(b->exec, &a));
    if (a.want_input)
        LIPS_TRY(ops->gram(b->be, &(lips_gram_args){.x = dx, .g = gram_of(b, LIPS_ITEM_INPUT, 0)}));
    return loss_pass ? LIPS_OK : lips_reduce_run(b);
}

/* The loss's cotangent, scaled to a largest entry of 1: at interpolation dL/dz is far below what a
 * float's products can hold. */
static lips_status loss_pass(lips_block *b)
{
    lips_tensor seed;
    for (int64_t i = 0; i < b->b; i++) {
        const double *u = b->u + i * b->k;
        double top = 0;
        for (int64_t j = 0; j < b->k; j++)
            top = fabs(u[j]) > top || isnan(u[j]) ? fabs(u[j]) : top;
        b->unit[i] = top;
        for (int64_t j = 0; j < b->k; j++)
            b->seed[i * b->k + j] = top == 0 ? 0 : u[j] / top;
    }
    LIPS_TRY(lips_exec_seed(b->exec, 1, &seed));
    LIPS_TRY(b->be->ops->upload_f64(b->be, &seed, b->seed));
    return backward(b, b->survey->one, 1, true);
}

/* What the loss pass gave, without its scale. */
static void unscale(lips_block *b)
{
    for (int item = 0; item < LIPS_ITEMS; item++)
        for (int part = 0; b->one[item] && part < lips_block_parts(b->survey, item); part++)
            for (int64_t i = 0; i < b->b; i++)
                b->one[item][part * b->cap + i] *= b->unit[i] * b->unit[i];
}

static lips_status passes(lips_block *b)
{
    const lips_survey *p = b->survey;
    const lips_ops *ops = b->be->ops;
    lips_tensor logits, seed;
    lips_tensor *input = lips_exec_input(b->exec);
    input->b = b->b;
    LIPS_TRY(lips_survey_input(p, b->be, input, b->first));
    LIPS_TRY(lips_exec_forward(b->exec, false, &logits));
    LIPS_TRY(ops->download(b->be, b->logits, &logits));
    head(b);
    if (p->full || (!p->one && (p->needs & LIPS_NEED_ACT))) {
        int64_t t = p->full ? b->k : 1;
        LIPS_TRY(lips_exec_seed(b->exec, t, &seed));
        LIPS_TRY(p->full ? ops->eye(b->be, &seed, 1.0) : ops->fill(b->be, &seed, 0.0));
        LIPS_TRY(backward(b, p->full, t, false));
    }
    if (p->one)
        LIPS_TRY(loss_pass(b));
    LIPS_TRY(ops->sync(b->be));
    unscale(b);
    return LIPS_OK;
}

/* Four floats at a time (what every x86-64 has), by their exponent bits: the narrowest network
 * passes a sample in 30 us, and a branch for each of its pixels would show. */
static bool all_finite(const float *x, int64_t n)
{
    typedef int32_t bits __attribute__((vector_size(16)));
    bits bad = {0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        bits v;
        memcpy(&v, x + i, sizeof v);
        bad |= (v & 0x7f800000) == 0x7f800000;
    }
    int any = 0;
    for (int j = 0; j < 4; j++)
        any |= bad[j];
    for (; i < n; i++)
        any |= !isfinite(x[i]);
    return !any;
}

/* Has sample i a non-finite input or logit? ReLU and its mask may swallow a NaN on the way, and
 * what comes out then looks like a number. */
static bool broken(const lips_block *b, int64_t i)
{
    const lips_survey *p = b->survey;
    int64_t features = lips_tensor_features(lips_exec_input(b->exec));
    const float *x = p->args->inputs.x + lips_survey_row(p, b->first + i) * features;
    bool bytes = p->args->inputs.rows && p->args->inputs.rows->packed; /* finite, every one */
    if (!bytes && !all_finite(x, features))
        return true;
    for (int64_t j = 0; j < b->k; j++)
        if (!isfinite(b->logits[i * b->k + j]))
            return true;
    return false;
}

lips_status lips_block_run(lips_block *b, int64_t first)
{
    const lips_survey *p = b->survey;
    b->first = first;
    b->b = p->n - first < b->cap ? p->n - first : b->cap;
    LIPS_TRY(passes(b));
    for (int i = 0; i < p->n_series; i++) {
        const lips_series *s = &p->series[i];
        double *out[2] = {s->v[0] + first, s->n_v > 1 ? s->v[1] + first : NULL};
        if (!s->reason)
            s->eval(s, b, out);
    }
    for (int64_t i = 0; i < b->b; i++)
        if (broken(b, i))
            for (int j = 0; j < p->n_series; j++)
                for (int v = 0; p->series[j].v[0] && v < p->series[j].n_v; v++)
                    p->series[j].v[v][first + i] = p->series[j].if_broken;
    return LIPS_OK;
}
