#include "measure/series.h"

#include "measure/block.h"
#include "measure/maps.h"

#include <math.h>
#include <string.h>

/* By kind of reduction. */
enum { MAPS = LIPS_REDUCE_LOSS + 1 };
static const char *const map_names[MAPS] = {"logits", "softmax", "log_softmax", "target_logit",
                                            "loss"};

/* Square root of what is at least 0 in exact arithmetic; NaN stays. */
static double root(double x)
{
    return x < 0 ? 0 : sqrt(x);
}

static unsigned needs_of(const lips_series *s)
{
    return lips_quantities[s->row].needs;
}

/* ---- A ---- */

static void eval_loss(const lips_series *s, lips_block *b, double *out[2])
{
    (void)s;
    memcpy(out[0], b->loss, (size_t)b->b * sizeof(double));
}

/* The lowest index wins, as in the trainer's evaluation. */
static void eval_error(const lips_series *s, lips_block *b, double *out[2])
{
    (void)s;
    for (int64_t i = 0; i < b->b; i++) {
        const double *z = b->logits + i * b->k;
        int64_t best = 0;
        for (int64_t j = 1; j < b->k; j++)
            best = z[j] > z[best] ? j : best;
        out[0][i] = best != lips_survey_class(b->survey, b->first + i);
    }
}

lips_status lips_series_loss(lips_survey *p, int row)
{
    return lips_survey_add(
        p, &(lips_series){
               .row = row, .n_v = 1, .eval = eval_loss, .if_broken = NAN, .reason = p->no_loss});
}

lips_status lips_series_error(lips_survey *p, int row)
{
    /* No logits, no prediction: wrong. */
    return lips_survey_add(
        p, &(lips_series){
               .row = row, .n_v = 1, .eval = eval_error, .if_broken = 1, .reason = p->no_class});
}

/* ---- B ---- */

static void eval_jacobian(const lips_series *s, lips_block *b, double *out[2])
{
    if (s->mode <= LIPS_REDUCE_LOG_SOFTMAX) {
        lips_reduce_norms(b, LIPS_ITEM_INPUT, 0, s->mode, out[0], out[1]);
        return;
    }
    lips_reduce_numbers(b, LIPS_ITEM_INPUT, 0, s->mode, out[0]);
    for (int64_t i = 0; i < b->b; i++)
        out[0][i] = out[1][i] = root(out[0][i]);
}

lips_status lips_series_jacobian(lips_survey *p, int row)
{
    for (int map = 0; map < MAPS; map++)
        LIPS_TRY(lips_survey_add(p, &(lips_series){.row = row,
                                                   .n_v = 2,
                                                   .norm = {"op", "fro"},
                                                   .output = {map_names[map], map_names[map]},
                                                   .eval = eval_jacobian,
                                                   .mode = map,
                                                   .if_broken = NAN,
                                                   .reason = map == LIPS_REDUCE_TARGET ? p->no_class
                                                             : map == LIPS_REDUCE_LOSS ? p->no_loss
                                                                                       : NULL}));
    return LIPS_OK;
}

/* ---- C ---- */

/* The one item in a row's needs, of either pass. */
static int item_of(const lips_series *s)
{
    unsigned needs = needs_of(s);
    unsigned items = (needs | needs >> LIPS_NEED_LOSS_SHIFT) & LIPS_NEED_ITEMS_MASK;
    int item = 0;
    while (!((items >> item) & 1))
        item++;
    return item;
}

static void eval_layer_gram(const lips_series *s, lips_block *b, double *out[2])
{
    lips_reduce_norms(b, item_of(s), s->layer, LIPS_REDUCE_LOGITS, out[0], out[1]);
}

lips_status lips_series_layer_gram(lips_survey *p, int row)
{
    bool bias = lips_quantities[row].needs & LIPS_NEED_BIAS;
    for (int l = 1; l <= p->layers; l++)
        LIPS_TRY(
            lips_survey_add(p, &(lips_series){.row = row,
                                              .layer = l,
                                              .n_v = 2,
                                              .norm = {"op", "fro"},
                                              .eval = eval_layer_gram,
                                              .if_broken = NAN,
                                              .reason = bias && lips_net_layer(p->net, l)->bias < 0
                                                            ? "the layer has no bias"
                                                            : NULL}));
    return LIPS_OK;
}

static void eval_layer_loss(const lips_series *s, lips_block *b, double *out[2])
{
    lips_block_loss_sq(b, item_of(s), s->layer, out[0]);
    for (int64_t i = 0; i < b->b; i++)
        out[0][i] = root(out[0][i]);
}

lips_status lips_series_layer_loss(lips_survey *p, int row)
{
    for (int l = 1; l <= p->layers; l++)
        LIPS_TRY(lips_survey_add(p, &(lips_series){.row = row,
                                                   .layer = l,
                                                   .n_v = 1,
                                                   .norm = {"fro"},
                                                   .eval = eval_layer_loss,
                                                   .if_broken = NAN,
                                                   .reason = p->no_loss}));
    return LIPS_OK;
}

static void eval_act_norm(const lips_series *s, lips_block *b, double *out[2])
{
    for (int64_t i = 0; i < b->b; i++)
        out[0][i] = root(b->act[(s->layer - 1) * b->cap + i]);
}

lips_status lips_series_act_norm(lips_survey *p, int row)
{
    for (int l = 1; l <= p->layers; l++)
        LIPS_TRY(lips_survey_add(
            p, &(lips_series){
                   .row = row, .layer = l, .n_v = 1, .eval = eval_act_norm, .if_broken = NAN}));
    return LIPS_OK;
}

/* ---- D ---- */

lips_status lips_series_bound(lips_survey *p, int row)
{
    (void)row;
    LIPS_TRY(lips_survey_require(p, "layer.input_jacobian"));
    LIPS_TRY(lips_survey_require(p, "layer.param_jacobian"));
    return lips_survey_require(p, "layer.act_norm");
}

/* ---- E ---- */

lips_status lips_series_chain(lips_survey *p, int row)
{
    (void)row;
    return lips_survey_require(p, "jacobian");
}

/* ---- H ---- */

/* ||dL/dx||, ||dL/dtheta|| (all parameters) or ||dL/dtheta_1|| (the first layer's weight), and
 * their squares. */
static void eval_gradient(const lips_series *s, lips_block *b, double *out[2])
{
    unsigned items = needs_of(s) >> LIPS_NEED_LOSS_SHIFT & LIPS_NEED_ITEMS_MASK;
    int last = s->mode ? s->mode : b->survey->layers;
    double *part = b->part;
    memset(out[1], 0, (size_t)b->b * sizeof(double));
    for (int item = 0; item < LIPS_ITEMS; item++) {
        bool whole = item == LIPS_ITEM_INPUT || item == LIPS_ITEM_NORM;
        for (int l = 1; (items >> item & 1) && l <= (whole ? 1 : last); l++) {
            lips_block_loss_sq(b, item, whole ? 0 : l, part);
            for (int64_t i = 0; i < b->b; i++)
                out[1][i] += part[i];
        }
    }
    for (int64_t i = 0; i < b->b; i++)
        out[0][i] = root(out[1][i]);
}

lips_status lips_series_gradient(lips_survey *p, int row)
{
    bool first_only = strcmp(lips_quantities[row].name, "landscape.param_grad_layer1") == 0;
    return lips_survey_add(p, &(lips_series){.row = row,
                                             .n_v = 2,
                                             .output = {"norm", "norm_sq"},
                                             .eval = eval_gradient,
                                             .mode = first_only ? 1 : 0,
                                             .if_broken = NAN,
                                             .reason = p->no_loss});
}

lips_status lips_series_loss_max(lips_survey *p, int row)
{
    (void)row;
    return lips_survey_require(p, "loss");
}

enum { SPECTRUM_MAX, SPECTRUM_MIN_NONZERO, SPECTRUM_TRACE };

static void eval_logit_hessian(const lips_series *s, lips_block *b, double *out[2])
{
    for (int64_t i = 0; i < b->b; i++) {
        lips_logit_hessian h =
            lips_logit_hessian_of(b->p + i * b->k, b->rest + i * b->k, b->k, b->work);
        out[0][i] = s->mode == SPECTRUM_MAX     ? h.max
                    : s->mode == SPECTRUM_TRACE ? h.trace
                                                : h.min_nonzero;
    }
}

lips_status lips_series_logit_hessian(lips_survey *p, int row)
{
    const char *last = strrchr(lips_quantities[row].name, '.') + 1;
    int mode = strcmp(last, "max") == 0     ? SPECTRUM_MAX
               : strcmp(last, "trace") == 0 ? SPECTRUM_TRACE
                                            : SPECTRUM_MIN_NONZERO;
    const char *reason = NULL;
    if (p->args->network.loss == LIPS_LOSS_MSE)
        reason = "the loss is not cross-entropy";
    else if (mode == SPECTRUM_MIN_NONZERO && p->k == 1)
        reason = "one output has no second eigenvalue";
    return lips_survey_add(p, &(lips_series){.row = row,
                                             .n_v = 1,
                                             .eval = eval_logit_hessian,
                                             .mode = mode,
                                             .if_broken = NAN,
                                             .reason = reason});
}

lips_status lips_series_degenerate(lips_survey *p, int row)
{
    (void)row;
    return lips_survey_require(p, "logit_hessian.max");
}

unsigned lips_series_reduces(const lips_survey *p, const lips_series *s, int item)
{
    const unsigned loss = needs_of(s) >> LIPS_NEED_LOSS_SHIFT & LIPS_NEED_ITEMS_MASK;
    if (s->eval == eval_jacobian)
        return item == LIPS_ITEM_INPUT ? 1u << s->mode : 0;
    if (s->eval == eval_layer_gram)
        return item == item_of(s) ? 1u << LIPS_REDUCE_LOGITS : 0;
    if (p->full & loss & 1u << item)
        return 1u << LIPS_REDUCE_LOSS;
    return lips_series_trace_reduces(s, item);
}
