/* Records of bound.landscape: both inequalities of the loss landscape. */
#include "measure/emit.h"

#include <math.h>

static double mean_of(const lips_survey *p, const char *name, int v)
{
    const double *x = lips_survey_find(p, name, 0)->v[v];
    double sum = 0;
    for (int64_t i = 0; i < p->n; i++)
        sum += x[i];
    return sum / (double)p->n;
}

/* Smallest (sign 1) or largest (sign -1) value; NaN if one is. */
static double extreme(const lips_survey *p, const char *name, int layer, double sign)
{
    const double *x = lips_survey_find(p, name, layer)->v[0];
    double best = x[0];
    for (int64_t i = 1; i < p->n; i++)
        best = sign * x[i] < sign * best || isnan(x[i]) ? x[i] : best;
    return best;
}

static lips_status emit_ratio(lips_emit *e, int row, const char *what, double left, double right)
{
    return right == 0 ? lips_emit_part_null(e, row, 0, what, "the right side is zero")
                      : lips_emit_part(e, row, 0, what, left / right);
}

/* (h_1 / |theta_1|) E|dL/dx| <= E|dL/dtheta_1| */
static lips_status emit_input_bound(lips_emit *e, int row)
{
    const lips_survey *p = e->survey;
    double h = extreme(p, "layer.act_norm", 1, 1), grad = mean_of(p, "landscape.input_grad", 0);
    double right = mean_of(p, "landscape.param_grad_layer1", 0);
    LIPS_TRY(lips_emit_operator_norm(e, 1));
    double theta = e->norms[1].op.value, left = h / theta * grad;
    const char *zero = "the first layer's weight is zero";
    LIPS_TRY(lips_emit_part(e, row, 0, "input.h_1", h));
    LIPS_TRY(lips_emit_part(e, row, 0, "input.theta_1", theta));
    LIPS_TRY(lips_emit_part(e, row, 0, "input.grad", grad));
    LIPS_TRY(theta == 0 ? lips_emit_part_null(e, row, 0, "input.left", zero)
                        : lips_emit_part(e, row, 0, "input.left", left));
    LIPS_TRY(lips_emit_part(e, row, 0, "input.right", right));
    return theta == 0 ? lips_emit_part_null(e, row, 0, "input.ratio", zero)
                      : emit_ratio(e, row, "input.ratio", left, right);
}

/* E|dL/dtheta|^2 <= 2 L_max tr H */
static lips_status emit_param_bound(lips_emit *e, int row)
{
    const lips_survey *p = e->survey;
    double left = mean_of(p, "landscape.param_grad", 1);
    double loss = extreme(p, "loss", 0, -1), trace = mean_of(p, "ggn.trace", 0);
    if (lips_net_curved(p->net)) {
        LIPS_TRY(lips_emit_need_remainder(e));
        trace += e->remainder[0];
    }
    LIPS_TRY(lips_emit_part(e, row, 0, "param.loss_max", loss));
    LIPS_TRY(lips_emit_part(e, row, 0, "param.trace", trace));
    LIPS_TRY(lips_emit_part(e, row, 0, "param.left", left));
    LIPS_TRY(lips_emit_part(e, row, 0, "param.right", 2 * loss * trace));
    return emit_ratio(e, row, "param.ratio", left, 2 * loss * trace);
}

lips_status lips_emit_bound_landscape(lips_emit *e, int row)
{
    if (e->survey->no_loss)
        return lips_emit_part_null(e, row, 0, NULL, e->survey->no_loss);
    LIPS_TRY(emit_input_bound(e, row));
    return emit_param_bound(e, row);
}
