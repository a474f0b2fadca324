/* Series of the trace tr((d2L/dz2) Theta) = tr of the Gauss-Newton matrix, from the K-cotangent
 * pass' Grams. */
#include "measure/block.h"
#include "measure/series.h"

#include <math.h>
#include <string.h>

/* out += the item's part. */
static void add_item(lips_block *b, int item, int layer, double *out)
{
    lips_reduce_numbers(b, item, layer, LIPS_REDUCE_TRACE, b->part);
    for (int64_t i = 0; i < b->b; i++)
        out[i] += b->part[i];
}

/* A layer's weight and bias; or all layers, whose series come before, and the batch norms. */
static void eval_trace(const lips_series *s, lips_block *b, double *out[2])
{
    memset(out[0], 0, (size_t)b->b * sizeof(double));
    if (s->layer) {
        add_item(b, LIPS_ITEM_WEIGHT, s->layer, out[0]);
        add_item(b, LIPS_ITEM_BIAS, s->layer, out[0]);
        return;
    }
    for (int l = 1; l <= b->survey->layers; l++) {
        const double *part = lips_survey_find(b->survey, "ggn.trace", l)->v[0] + b->first;
        for (int64_t i = 0; i < b->b; i++)
            out[0][i] += part[i];
    }
    add_item(b, LIPS_ITEM_NORM, 0, out[0]);
}

unsigned lips_series_trace_reduces(const lips_series *s, int item)
{
    const bool layers = item == LIPS_ITEM_WEIGHT || item == LIPS_ITEM_BIAS;
    if (s->eval != eval_trace)
        return 0;
    return (s->layer ? layers : item == LIPS_ITEM_NORM) ? 1u << LIPS_REDUCE_TRACE : 0;
}

/* It needs no labels: the second derivative of either loss is a function of the logits. */
lips_status lips_series_trace(lips_survey *p, int row)
{
    for (int l = 1; l <= p->layers + 1; l++)
        LIPS_TRY(lips_survey_add(p, &(lips_series){.row = row,
                                                   .layer = l <= p->layers ? l : 0,
                                                   .n_v = 1,
                                                   .eval = eval_trace,
                                                   .if_broken = NAN}));
    return LIPS_OK;
}

/* All kinds of layers are piecewise linear: the Hessian's trace is the Gauss-Newton matrix's. */
lips_status lips_series_hessian_trace(lips_survey *p, int row)
{
    (void)row;
    return p->no_loss ? LIPS_OK : lips_survey_require(p, "ggn.trace");
}

lips_status lips_series_bound_landscape(lips_survey *p, int row)
{
    (void)row;
    if (p->no_loss)
        return LIPS_OK;
    LIPS_TRY(lips_survey_require(p, "landscape.input_grad"));
    LIPS_TRY(lips_survey_require(p, "landscape.param_grad"));
    LIPS_TRY(lips_survey_require(p, "landscape.param_grad_layer1"));
    LIPS_TRY(lips_survey_require(p, "layer.act_norm"));
    LIPS_TRY(lips_survey_require(p, "loss"));
    return lips_survey_require(p, "ggn.trace");
}
