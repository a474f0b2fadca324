/* Records that come from the weights: their norms, the layer inequality, distance from
 * initialisation. */
#include "measure/emit.h"

#include <math.h>
#include <string.h>

static const double *weight_of(const lips_emit *e, const double *params, int layer, int64_t *count)
{
    const lips_segment *segments;
    lips_net_segments(e->survey->net, &segments);
    const lips_segment *s = &segments[lips_net_layer(e->survey->net, layer)->weight];
    *count = s->count;
    return params + s->offset;
}

/* sqrt(sum (a - b)^2), b NULL: 0; scaled so that nothing overflows on the way. */
static double norm_of(const double *a, const double *b, int64_t n)
{
    double scale = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(b ? a[i] - b[i] : a[i]);
        if (isnan(d))
            return NAN;
        scale = fmax(scale, d);
    }
    if (scale == 0 || isinf(scale))
        return scale;
    for (int64_t i = 0; i < n; i++) {
        double d = (b ? a[i] - b[i] : a[i]) / scale;
        sum += d * d;
    }
    return scale * sqrt(sum);
}

/* ---- C: norms of the weights ---- */

lips_status lips_emit_operator_norm(lips_emit *e, int layer)
{
    lips_layer_norms *n = &e->norms[layer];
    int64_t count;
    const double *w = weight_of(e, e->survey->args->network.params, layer, &count);
    if (!n->has_op)
        LIPS_TRY(lips_layer_spectral(&n->op, lips_net_layer(e->survey->net, layer), w));
    n->has_op = true;
    return LIPS_OK;
}

size_t lips_emit_weight_bytes(const lips_survey *p)
{
    static const char *const users[] = {"layer.weight_op", "layer.weight_op_reshaped",
                                        "bound.layer", "lipschitz.product", "lipschitz.certified"};
    size_t most = 0;
    bool wanted = false;
    for (size_t i = 0; i < sizeof users / sizeof *users; i++)
        wanted = wanted || (p->wanted >> lips_quantity_find(users[i])) & 1;
    for (int l = 1; wanted && l <= p->layers; l++) {
        size_t bytes = lips_layer_spectral_bytes(lips_net_layer(p->net, l));
        most = bytes > most ? bytes : most;
    }
    return most;
}

lips_status lips_emit_weight_norm(lips_emit *e, int row)
{
    const char *name = lips_quantities[row].name;
    for (int l = 1; l <= e->survey->layers; l++) {
        const lips_layer_info *info = lips_net_layer(e->survey->net, l);
        lips_record r = lips_emit_base(e, row, l, true);
        int64_t count;
        const double *w = weight_of(e, e->survey->args->network.params, l, &count);
        lips_spectral s = {.iterations = -1};
        r.form = LIPS_FORM_VALUE;
        if (strcmp(name, "layer.weight_fro") == 0)
            s.value = norm_of(w, NULL, count);
        else if (strcmp(name, "layer.weight_op") == 0) {
            LIPS_TRY(lips_emit_operator_norm(e, l));
            s = e->norms[l].op;
        } else
            LIPS_TRY(lips_matrix_spectral(&s, w, info->o, count / info->o));
        r.value = s.value;
        if (s.iterations >= 0) {
            r.estimate = true;
            r.iterations = s.iterations;
            r.residual = s.residual;
        }
        LIPS_TRY(lips_emit_add(e, &r));
    }
    return LIPS_OK;
}

/* ---- D: E||df/dx|| <= (||theta|| / h) E||df/dtheta||, and per sample ---- */

/* A sample counts as a violation beyond this relative excess: the spectral norm's residual and the
 * rounding of two Grams. Layers of width 1 have equality. */
static double slack(const lips_emit *e, int layer)
{
    return e->norms[layer].op.residual + (e->survey->args->ops->real_bytes == 8 ? 1e-9 : 1e-5);
}

lips_status lips_emit_bound(lips_emit *e, int row)
{
    const lips_survey *p = e->survey;
    for (int l = 1; l <= p->layers; l++) {
        const double *in = lips_survey_find(p, "layer.input_jacobian", l)->v[0];
        const double *param = lips_survey_find(p, "layer.param_jacobian", l)->v[0];
        const double *act = lips_survey_find(p, "layer.act_norm", l)->v[0];
        LIPS_TRY(lips_emit_operator_norm(e, l));
        double theta = e->norms[l].op.value, left = 0, right = 0, h = INFINITY, fails = 0;
        for (int64_t i = 0; i < p->n; i++) {
            left += in[i];
            right += param[i];
            h = act[i] < h || isnan(act[i]) ? act[i] : h; /* once NaN, it stays */
            fails += in[i] * act[i] > theta * param[i] * (1 + slack(e, l));
        }
        left /= (double)p->n;
        right = theta / h * (right / (double)p->n);
        LIPS_TRY(lips_emit_part(e, row, l, "left", left));
        /* h = 0: a sample's input to the layer is dead, and the right side is 0/0 or infinite. */
        LIPS_TRY(h == 0 ? lips_emit_part_null(e, row, l, "right",
                                              "h_l = 0: a sample reaches the layer as zero")
                        : lips_emit_part(e, row, l, "right", right));
        if (h == 0)
            LIPS_TRY(lips_emit_part_null(e, row, l, "ratio",
                                         "h_l = 0: a sample reaches the layer as zero"));
        else if (right == 0)
            LIPS_TRY(lips_emit_part_null(e, row, l, "ratio", "both sides are zero"));
        else
            LIPS_TRY(lips_emit_part(e, row, l, "ratio", left / right));
        LIPS_TRY(lips_emit_part(e, row, l, "violations", fails / (double)p->n));
    }
    return LIPS_OK;
}

/* ---- F: distance from initialisation ---- */

static lips_status distance(lips_emit *e, int row, int layer, const double *now, const double *init,
                            int64_t count)
{
    lips_record r = lips_emit_base(e, row, layer, true);
    double start = init ? norm_of(init, NULL, count) : 0;
    if (start == 0) {
        r.form = LIPS_FORM_NULL;
        r.reason = init ? "the initial weights are zero" : "the initial weights are not known";
    } else {
        r.form = LIPS_FORM_VALUE;
        r.value = norm_of(now, init, count) / start;
    }
    return lips_emit_add(e, &r);
}

lips_status lips_emit_distance_layer(lips_emit *e, int row)
{
    const lips_network_view *net = &e->survey->args->network;
    for (int l = 1; l <= e->survey->layers; l++) {
        int64_t count;
        const double *now = weight_of(e, net->params, l, &count);
        LIPS_TRY(
            distance(e, row, l, now, net->init ? weight_of(e, net->init, l, &count) : NULL, count));
    }
    return LIPS_OK;
}

lips_status lips_emit_distance_total(lips_emit *e, int row)
{
    const lips_network_view *net = &e->survey->args->network;
    return distance(e, row, 0, net->params, net->init, lips_net_params(net->net));
}
