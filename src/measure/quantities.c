#include "measure/quantities.h"

#include "base/nearest.h"
#include "measure/emit.h"
#include "measure/series.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum {
    PARAM_ITEMS = LIPS_NEED_LOSS_WEIGHT | LIPS_NEED_LOSS_BIAS | LIPS_NEED_LOSS_NORM,
    THETA_ITEMS = LIPS_NEED_WEIGHT | LIPS_NEED_BIAS | LIPS_NEED_NORM
};

/* Order of the records. */
const lips_quantity lips_quantities[] = {
    {"loss", 'A', LIPS_NEED_FORWARD, lips_series_loss, lips_emit_mean},
    {"error", 'A', LIPS_NEED_FORWARD, lips_series_error, lips_emit_mean},
    {"jacobian", 'B', LIPS_NEED_INPUT, lips_series_jacobian, NULL},
    {"layer.input_jacobian", 'C', LIPS_NEED_IN, lips_series_layer_gram, NULL},
    {"layer.param_jacobian", 'C', LIPS_NEED_WEIGHT, lips_series_layer_gram, NULL},
    {"layer.bias_jacobian", 'C', LIPS_NEED_BIAS, lips_series_layer_gram, NULL},
    {"layer.loss_grad_input", 'C', LIPS_NEED_LOSS_IN, lips_series_layer_loss, NULL},
    {"layer.loss_grad_param", 'C', LIPS_NEED_LOSS_WEIGHT, lips_series_layer_loss, NULL},
    {"layer.act_norm", 'C', LIPS_NEED_ACT, lips_series_act_norm, NULL},
    {"layer.weight_op", 'C', 0, NULL, lips_emit_weight_norm},
    {"layer.weight_op_reshaped", 'C', 0, NULL, lips_emit_weight_norm},
    {"layer.weight_fro", 'C', 0, NULL, lips_emit_weight_norm},
    {"bound.layer", 'D', 0, lips_series_bound, lips_emit_bound},
    {"lipschitz.product", 'E', 0, NULL, lips_emit_product},
    {"lipschitz.certified", 'E', 0, NULL, lips_emit_certified},
    {"lipschitz.chain", 'E', 0, lips_series_chain, lips_emit_chain},
    {"distance.layer", 'F', 0, NULL, lips_emit_distance_layer},
    {"distance.total", 'F', 0, NULL, lips_emit_distance_total},
    {"landscape.input_grad", 'H', LIPS_NEED_LOSS_INPUT, lips_series_gradient, NULL},
    {"landscape.param_grad", 'H', PARAM_ITEMS, lips_series_gradient, NULL},
    {"landscape.param_grad_layer1", 'H', LIPS_NEED_LOSS_WEIGHT, lips_series_gradient, NULL},
    {"landscape.loss_max", 'H', LIPS_NEED_FORWARD, lips_series_loss_max, lips_emit_loss_max},
    {"logit_hessian.max", 'H', LIPS_NEED_FORWARD, lips_series_logit_hessian, NULL},
    {"logit_hessian.min_nonzero", 'H', LIPS_NEED_FORWARD, lips_series_logit_hessian, NULL},
    {"logit_hessian.trace", 'H', LIPS_NEED_FORWARD, lips_series_logit_hessian, NULL},
    {"logit_hessian.degenerate", 'H', LIPS_NEED_FORWARD, lips_series_degenerate,
     lips_emit_degenerate},
    {"hessian.trace", 'H', 0, lips_series_hessian_trace, lips_emit_trace},
    {"ggn.trace", 'H', THETA_ITEMS, lips_series_trace, lips_emit_trace},
    {"hessian.lambda_max", 'H', 0, NULL, lips_emit_lambda_max},
    {"hessian.top", 'H', 0, NULL, lips_emit_top},
    {"ggn.lambda_max", 'H', 0, NULL, lips_emit_lambda_max},
    {"hessian.alignment", 'H', 0, NULL, lips_emit_alignment},
    {"bound.landscape", 'H', 0, lips_series_bound_landscape, lips_emit_bound_landscape},
};
const int lips_quantities_count = sizeof lips_quantities / sizeof *lips_quantities;
_Static_assert(sizeof lips_quantities / sizeof *lips_quantities <= 64,
               "lips_metrics.bits holds 64 rows");

int lips_quantity_find(const char *name)
{
    for (int row = 0; row < lips_quantities_count; row++)
        if (strcmp(lips_quantities[row].name, name) == 0)
            return row;
    return -1;
}

/* Is word the name, or its family: "distance" of "distance.total"? */
static bool is_name_of(const char *word, const char *name)
{
    size_t len = strlen(word);
    return len > 0 && strncmp(word, name, len) == 0 && (name[len] == '\0' || name[len] == '.');
}

/* Rows that one word stands for; 0 if it is not known. */
static uint64_t rows_of(const char *word)
{
    uint64_t bits = 0;
    bool section = strlen(word) == 1, all = strcmp(word, "all") == 0;
    for (int row = 0; row < lips_quantities_count; row++)
        if (all || is_name_of(word, lips_quantities[row].name) ||
            (section && toupper((unsigned char)word[0]) == lips_quantities[row].section))
            bits |= UINT64_C(1) << row;
    return bits;
}

static lips_status unknown(const char *word)
{
    const char *names[64], *nearest;
    for (int row = 0; row < lips_quantities_count; row++)
        names[row] = lips_quantities[row].name;
    nearest = lips_nearest(word, names, lips_quantities_count);
    if (strlen(word) == 1)
        return lips_fail(LIPS_ERR_USAGE, "no section '%s'; there are A, B, C, D, E, F, H", word);
    return lips_fail(LIPS_ERR_USAGE, "no quantity '%s'%s%s%s", word,
                     nearest ? "; did you mean '" : "", nearest ? nearest : "",
                     nearest ? "'?" : "");
}

lips_status lips_metrics_parse(lips_metrics *out, const char *text)
{
    char word[64];
    out->bits = 0;
    for (const char *at = text, *next; at; at = next) {
        size_t len = strcspn(at, ",");
        next = at[len] ? at + len + 1 : NULL;
        while (len > 0 && isspace((unsigned char)*at))
            at++, len--;
        while (len > 0 && isspace((unsigned char)at[len - 1]))
            len--;
        if (len == 0)
            return lips_fail(LIPS_ERR_USAGE, "empty name in '%s'", text);
        snprintf(word, sizeof word, "%.*s", (int)(len < sizeof word ? len : sizeof word - 1), at);
        uint64_t bits = rows_of(word);
        if (bits == 0)
            return unknown(word);
        out->bits |= bits;
    }
    return LIPS_OK;
}
