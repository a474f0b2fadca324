#include "measure/survey.h"

#include "measure/resident.h"
#include "measure/triangle.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* Samples per block, from the network alone: one vector register of samples for convolutions, a
     * matrix product wide enough for full speed for linear layers. */
    BLOCK_CONV = 16,
    BLOCK_LINEAR = 128,
    /* At most as many on a device: its launches of a block cost less than its narrowest network
     * then. */
    BLOCK_DEVICE = 512,
    /* What products with a Hessian keep beside a pass' values: cotangents, tangents, and theirs. */
    SUM_VALUES = 5
};

/* Cotangents of one value of one block are kept below this, so that many classes mean smaller
 * blocks. */
static const double BLOCK_BYTES = 256e6;

/* Suits a processor's caches. */
static int64_t block_of(const lips_net *net)
{
    const int64_t k = lips_net_spec(net)->classes;
    bool conv = false;
    double widest = 1;
    for (int l = 1; l <= lips_net_layers(net); l++) {
        const lips_layer_info *info = lips_net_layer(net, l);
        double features = (double)(info->c * info->h * info->w);
        conv = conv || info->conv;
        widest = features > widest ? features : widest;
    }
    if (conv)
        return BLOCK_CONV;
    int64_t block = BLOCK_LINEAR;
    while (block > BLOCK_CONV && (double)(block * k) * widest * 4 > BLOCK_BYTES)
        block /= 2;
    return block;
}

/* As many as fit, and no more memory than n samples take. */
static int64_t device_block(const lips_net *net, int64_t t, size_t real_bytes, size_t bytes,
                            int64_t most, int64_t n)
{
    const int64_t whole = (n + BLOCK_CONV - 1) / BLOCK_CONV * BLOCK_CONV;
    const int64_t fits = lips_net_fits(net, t, real_bytes, bytes, most);
    return whole < fits ? whole : fits;
}

/* Samples whose Gram matrices, of all layers and items, fill half of a pass' memory: with many
 * classes and layers they outweigh the cotangents. */
static int64_t gram_most(const lips_net *net, size_t bytes)
{
    const int64_t k = lips_net_spec(net)->classes;
    const int64_t one = (3 * lips_net_layers(net) + 2) * k * k * (int64_t)sizeof(double);
    const int64_t most = (int64_t)(bytes / 2) / one;
    return most < 1 ? 1 : most < BLOCK_DEVICE ? most : BLOCK_DEVICE;
}

int64_t lips_survey_block(const lips_net *net, const lips_ops *ops, int64_t n)
{
    const int64_t k = lips_net_spec(net)->classes;
    return ops->pass_bytes ? device_block(net, k, ops->real_bytes, ops->pass_bytes,
                                          gram_most(net, ops->pass_bytes), n)
                           : block_of(net);
}

/* Half of it, since several blocks are kept. */
int64_t lips_survey_sum_block(const lips_net *net, const lips_ops *ops, int64_t n)
{
    return ops->pass_bytes ? device_block(net, 1, SUM_VALUES * ops->real_bytes, ops->pass_bytes / 2,
                                          BLOCK_DEVICE, n)
                           : block_of(net);
}

int64_t lips_survey_row(const lips_survey *p, int64_t i)
{
    return p->args->inputs.index ? p->args->inputs.index[i] : i;
}

lips_status lips_survey_open(const lips_survey *p, lips_precision forward, lips_precision backward,
                             lips_backend **out)
{
    const lips_measure_args *a = p->args;
    lips_arithmetic arithmetic = a->arithmetic;
    arithmetic.forward = forward;
    arithmetic.backward = backward;
    LIPS_TRY(lips_handles_take(p->handles, out));
    return lips_backend_arithmetic(*out, &arithmetic);
}

void lips_survey_close(const lips_survey *p, lips_backend *be)
{
    lips_handles_give(p->handles, be);
}

lips_status lips_survey_input(const lips_survey *p, lips_backend *be, const lips_tensor *input,
                              int64_t first)
{
    const lips_inputs *in = &p->args->inputs;
    const int64_t *index = in->index ? in->index + first : NULL;
    if (p->rows.memory)
        return be->ops->gather(be,
                               &(lips_gather_args){.rows = &p->rows, .y = *input, .first = first});
    if (in->rows)
        return be->ops->gather(
            be, &(lips_gather_args){
                    .rows = in->rows, .y = *input, .index = index, .first = index ? 0 : first});
    return be->ops->upload(be, input, index ? in->x : in->x + first * lips_tensor_features(input),
                           index);
}

/* The curvature's products and gradients read them after the blocks have. */
size_t lips_survey_load_bytes(const lips_survey *p)
{
    static const char *const again[] = {"hessian.lambda_max", "hessian.top",   "hessian.alignment",
                                        "ggn.lambda_max",     "hessian.trace", "bound.landscape"};
    bool twice = false;
    for (size_t i = 0; i < sizeof again / sizeof *again; i++) {
        const bool curved = i < 4 || lips_net_curved(p->net);
        twice |= curved && ((p->wanted >> lips_quantity_find(again[i])) & 1);
    }
    return twice && !p->args->inputs.rows ? lips_inputs_load_bytes(p->net, p->args->ops, p->n) : 0;
}

lips_status lips_survey_load(lips_survey *p)
{
    if (lips_survey_load_bytes(p) == 0)
        return LIPS_OK;
    LIPS_TRY(lips_handles_take(p->handles, &p->rows_be));
    return lips_inputs_load(&p->rows, p->net, p->rows_be, &p->args->inputs);
}

int64_t lips_survey_class(const lips_survey *p, int64_t i)
{
    return p->args->inputs.label[lips_survey_row(p, i)];
}

static lips_status check_inputs(lips_survey *p)
{
    const lips_inputs *in = &p->args->inputs;
    if (in->n < 1 || !in->x)
        return lips_fail(LIPS_ERR_USAGE, "measure: no samples to measure on (n = %" PRId64 ")",
                         in->n);
    if (p->args->threads < 1)
        return lips_fail(LIPS_ERR_USAGE, "measure: threads = %d, must be at least 1",
                         p->args->threads);
    if (p->args->batch < 0)
        return lips_fail(LIPS_ERR_USAGE, "measure: batch = %" PRId64 ", must not be negative",
                         p->args->batch);
    if (!in->label)
        p->no_class = in->target ? "needs class labels, the inputs have real targets"
                                 : "needs labels, the inputs have none";
    if (p->args->network.loss == LIPS_LOSS_CROSS_ENTROPY)
        p->no_loss = p->no_class;
    else if (!in->label && !in->target)
        p->no_loss = "needs labels or targets, the inputs have none";
    return LIPS_OK;
}

lips_status lips_survey_check_labels(const lips_survey *p)
{
    const lips_inputs *in = &p->args->inputs;
    for (int64_t i = 0; in->label && i < in->n; i++)
        if (lips_survey_class(p, i) < 0 || lips_survey_class(p, i) >= p->k)
            return lips_fail(LIPS_ERR_DATA,
                             "label %" PRId64 " of sample %" PRId64 " is outside 0..%" PRId64,
                             lips_survey_class(p, i), lips_survey_row(p, i), p->k - 1);
    return LIPS_OK;
}

/* Which items each of the two passes computes: loss gradients come from the K x K Grams where those
 * exist. */
static void resolve_passes(lips_survey *p)
{
    p->full = p->needs & LIPS_NEED_ITEMS_MASK;
    unsigned loss = (p->needs >> LIPS_NEED_LOSS_SHIFT) & LIPS_NEED_ITEMS_MASK;
    unsigned layers = LIPS_NEED_WEIGHT | LIPS_NEED_BIAS;
    /* With the layers' Grams there, the batch norms' small ones save a second pass. */
    if ((loss & LIPS_NEED_NORM) && (p->full & layers) == layers)
        p->full |= LIPS_NEED_NORM;
    p->one = loss & ~p->full;
    /* With LIPS_ITEM_IN every layer's vjp runs anyway. */
    unsigned items = p->full | p->one;
    p->triangle =
        (items & LIPS_NEED_INPUT) && !(items & LIPS_NEED_IN) && lips_triangle_pays(p->net);
}

static lips_status plan_row(lips_survey *p, int row)
{
    if ((p->planned >> row) & 1)
        return LIPS_OK;
    p->planned |= UINT64_C(1) << row;
    if (lips_quantities[row].plan)
        LIPS_TRY(lips_quantities[row].plan(p, row));
    return LIPS_OK;
}

lips_status lips_survey_require(lips_survey *p, const char *name)
{
    return plan_row(p, lips_quantity_find(name));
}

lips_status lips_survey_add(lips_survey *p, const lips_series *s)
{
    if (p->n_series == p->cap_series) {
        int cap = p->cap_series ? 2 * p->cap_series : 32;
        lips_series *grown = realloc(p->series, (size_t)cap * sizeof *grown);
        if (!grown)
            return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for %d series", cap);
        p->series = grown;
        p->cap_series = cap;
    }
    lips_series *dst = &p->series[p->n_series++];
    *dst = *s;
    dst->v[0] = dst->v[1] = NULL;
    if (!s->reason)
        p->needs |= lips_quantities[s->row].needs;
    return LIPS_OK;
}

const lips_series *lips_survey_find(const lips_survey *p, const char *name, int layer)
{
    int row = lips_quantity_find(name);
    for (int i = 0; i < p->n_series; i++)
        if (p->series[i].row == row && p->series[i].layer == layer)
            return &p->series[i];
    return NULL;
}

/* Where both ends of the chain mean <= max <= certified are measured, it is checked. */
static uint64_t with_chain(uint64_t bits)
{
    uint64_t ends = UINT64_C(1) << lips_quantity_find("jacobian") |
                    UINT64_C(1) << lips_quantity_find("lipschitz.certified");
    return (bits & ends) == ends ? bits | UINT64_C(1) << lips_quantity_find("lipschitz.chain")
                                 : bits;
}

lips_status lips_survey_create(lips_survey **out, const lips_measure_args *a)
{
    *out = NULL;
    lips_survey *p = calloc(1, sizeof *p);
    if (!p)
        return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory");
    lips_status st = LIPS_OK;
    p->args = a;
    p->net = a->network.net;
    p->n = a->inputs.n;
    p->k = lips_net_spec(p->net)->classes;
    p->layers = lips_net_layers(p->net);
    p->block = a->batch ? a->batch : lips_survey_block(p->net, a->ops, p->n);
    p->wanted = with_chain(a->metrics.bits);
    if (!a->handles)
        LIPS_TRY_GOTO(st, lips_handles_create(&p->own, a->ops, a->device, a->choices), out);
    p->handles = a->handles ? a->handles : p->own;
    LIPS_TRY_GOTO(st, check_inputs(p), out);
    for (int row = 0; row < lips_quantities_count; row++)
        if ((p->wanted >> row) & 1)
            LIPS_TRY_GOTO(st, plan_row(p, row), out);
    resolve_passes(p);
    *out = p;
    p = NULL;
out:
    lips_survey_free(p);
    return st;
}

lips_status lips_survey_alloc(lips_survey *p)
{
    for (int i = 0; i < p->n_series; i++)
        for (int j = 0; !p->series[i].reason && j < p->series[i].n_v; j++) {
            p->series[i].v[j] = malloc((size_t)p->n * sizeof(double));
            if (!p->series[i].v[j])
                return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for %zu bytes of results",
                                 lips_survey_bytes(p));
        }
    if (p->triangle) {
        const lips_layer_info *first = lips_net_layer(p->net, 1);
        const lips_segment *segments;
        lips_net_segments(p->net, &segments);
        LIPS_TRY(lips_triangle_create(&p->first_factor,
                                      p->args->network.params + segments[first->weight].offset,
                                      first->o, first->c * first->h * first->w));
    }
    return LIPS_OK;
}

size_t lips_survey_bytes(const lips_survey *p)
{
    size_t bytes = 0;
    for (int i = 0; i < p->n_series; i++)
        if (!p->series[i].reason)
            bytes += (size_t)p->series[i].n_v * (size_t)p->n * sizeof(double);
    return bytes;
}

void lips_survey_free(lips_survey *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_series; i++)
        for (int j = 0; j < 2; j++)
            free(p->series[i].v[j]);
    if (p->rows_be) {
        p->rows_be->ops->release(p->rows_be, p->rows.memory);
        lips_survey_close(p, p->rows_be);
    }
    lips_handles_free(p->own);
    free(p->first_factor);
    free(p->series);
    free(p);
}
