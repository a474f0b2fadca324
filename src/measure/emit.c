#include "measure/emit.h"

#include "base/log.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

lips_record lips_emit_base(const lips_emit *e, int row, int layer, bool host)
{
    const lips_measure_args *a = e->survey->args;
    lips_record r = lips_record_init(lips_quantities[row].name);
    r.layer = layer;
    r.layer_name = layer ? e->names[layer] : NULL;
    r.epoch = a->network.epoch;
    r.device = e->device;
    r.precision = host
                      ? "float64"
                      : lips_precision_label(a->ops, a->arithmetic.forward, a->arithmetic.backward);
    if (!host) {
        r.split = e->split;
        r.n = e->survey->n;
        r.has_seed = a->inputs.has_seed;
        r.seed = a->inputs.seed;
    }
    return r;
}

static bool all_finite(const double *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return false;
    return true;
}

/* The first of the measured samples with such a value in its row of v (rows, width); -1: none. */
static int64_t first_not_finite(const lips_survey *p, const float *v, int64_t width)
{
    for (int64_t i = 0; v && i < p->n; i++)
        for (int64_t j = 0; j < width; j++)
            if (!isfinite(v[lips_survey_row(p, i) * width + j]))
                return i;
    return -1;
}

/* What is at the bottom of numbers that are not finite, also as a warning: they are recorded. */
static const char *find_cause(const lips_emit *e)
{
    const lips_survey *p = e->survey;
    const lips_network_view *net = &p->args->network;
    const lips_inputs *in = &p->args->inputs;
    const lips_model_spec *spec = lips_net_spec(p->net);
    const char *cause = "a value of the network is not finite";
    int64_t sample = -1;
    if (!all_finite(net->params, lips_net_params(p->net)) ||
        !all_finite(net->buffers, lips_net_buffers(p->net)))
        cause = "a weight is not finite";
    else if ((sample = first_not_finite(p, in->x, spec->c * spec->h * spec->w)) >= 0)
        cause = "an input is not finite";
    else if ((sample = first_not_finite(p, in->target, p->k)) >= 0)
        cause = "a target is not finite";
    if (sample >= 0)
        lips_warn("%s: %s, the first in sample %" PRId64, e->split, cause, sample);
    else
        lips_warn("%s: %s", e->split, cause);
    return cause;
}

static bool is_finite(const lips_record *r)
{
    const double stats[] = {r->mean, r->std_err, r->min, r->median, r->q90, r->max};
    return r->form == LIPS_FORM_NULL    ? true
           : r->form == LIPS_FORM_VALUE ? isfinite(r->value) && isfinite(r->std_err)
                                        : all_finite(stats, sizeof stats / sizeof *stats);
}

lips_status lips_emit_add(lips_emit *e, const lips_record *given)
{
    lips_measurement *m = e->out;
    lips_record with = *given, *r = &with;
    if (!r->reason && !is_finite(r))
        r->reason = e->not_finite = e->not_finite ? e->not_finite : find_cause(e);
    if (m->n_records == e->cap_records) {
        int cap = e->cap_records ? 2 * e->cap_records : 64;
        lips_record *grown = realloc(m->records, (size_t)cap * sizeof *grown);
        if (!grown)
            return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for %d records", cap);
        m->records = grown;
        e->cap_records = cap;
    }
    m->records[m->n_records++] = *r;
    return LIPS_OK;
}

lips_status lips_emit_part(lips_emit *e, int row, int layer, const char *what, double value)
{
    lips_record r = lips_emit_base(e, row, layer, false);
    r.output = what;
    r.form = LIPS_FORM_VALUE;
    r.value = value;
    return lips_emit_add(e, &r);
}

lips_status lips_emit_part_null(lips_emit *e, int row, int layer, const char *what,
                                const char *reason)
{
    lips_record r = lips_emit_base(e, row, layer, false);
    r.output = what;
    r.form = LIPS_FORM_NULL;
    r.reason = reason;
    return lips_emit_add(e, &r);
}

static lips_record of_series(const lips_emit *e, const lips_series *s, int v)
{
    lips_record r = lips_emit_base(e, s->row, s->layer, false);
    r.norm = s->norm[v];
    r.output = s->output[v];
    if (s->reason) {
        r.form = LIPS_FORM_NULL;
        r.reason = s->reason;
    }
    return r;
}

static lips_status emit_stats(lips_emit *e, int row)
{
    const lips_survey *p = e->survey;
    for (int i = 0; i < p->n_series; i++) {
        const lips_series *s = &p->series[i];
        for (int v = 0; s->row == row && v < s->n_v; v++) {
            lips_record r = of_series(e, s, v);
            if (!s->reason) {
                r.form = LIPS_FORM_STATS;
                r.exact = true;
                LIPS_TRY(lips_record_stats(&r, s->v[v], p->n));
            }
            LIPS_TRY(lips_emit_add(e, &r));
        }
    }
    return LIPS_OK;
}

lips_status lips_emit_mean(lips_emit *e, int row)
{
    const lips_series *s = lips_survey_find(e->survey, lips_quantities[row].name, 0);
    lips_record r = of_series(e, s, 0);
    if (!s->reason) {
        r.form = LIPS_FORM_VALUE;
        for (int64_t i = 0; i < e->survey->n; i++)
            r.value += s->v[0][i];
        r.value /= (double)e->survey->n;
    }
    return lips_emit_add(e, &r);
}

lips_status lips_emit_loss_max(lips_emit *e, int row)
{
    const lips_series *s = lips_survey_find(e->survey, "loss", 0);
    lips_record r = lips_emit_base(e, row, 0, false);
    r.form = s->reason ? LIPS_FORM_NULL : LIPS_FORM_VALUE;
    r.reason = s->reason;
    r.value = s->reason ? 0 : s->v[0][0];
    for (int64_t i = 1; !s->reason && i < e->survey->n; i++)
        r.value = s->v[0][i] > r.value || isnan(s->v[0][i]) ? s->v[0][i] : r.value;
    return lips_emit_add(e, &r);
}

/* Below this a sample's cross-entropy has no curvature in the logits that training could use
 * (QUANTITIES, H). */
static const double DEGENERATE = 1e-6;

lips_status lips_emit_degenerate(lips_emit *e, int row)
{
    const lips_series *s = lips_survey_find(e->survey, "logit_hessian.max", 0);
    lips_record r = lips_emit_base(e, row, 0, false);
    r.form = s->reason ? LIPS_FORM_NULL : LIPS_FORM_VALUE;
    r.reason = s->reason;
    for (int64_t i = 0; !s->reason && i < e->survey->n; i++)
        r.value += s->v[0][i] < DEGENERATE;
    r.value /= (double)e->survey->n;
    return lips_emit_add(e, &r);
}

/* "quantity.norm/output", "quantity.norm/layer_name", without the parts that a series has not. */
static void sample_name(char *buf, size_t size, const lips_record *r)
{
    const char *tail = r->output ? r->output : r->layer_name;
    snprintf(buf, size, "%s%s%s%s%s", r->quantity, r->norm ? "." : "", r->norm ? r->norm : "",
             tail ? "/" : "", tail ? tail : "");
}

static lips_status emit_samples(lips_emit *e)
{
    const lips_survey *p = e->survey;
    lips_measurement *m = e->out;
    size_t vectors = 0;
    for (int i = 0; i < p->n_series; i++)
        vectors += (size_t)p->series[i].n_v;
    m->samples = calloc(vectors + 1, sizeof *m->samples);
    if (!m->samples)
        return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for per-sample values");
    for (int i = 0; i < p->n_series; i++)
        for (int v = 0; v < p->series[i].n_v; v++) {
            const lips_series *s = &p->series[i];
            if (s->reason || !((p->wanted >> s->row) & 1))
                continue;
            lips_per_sample *dst = &m->samples[m->n_samples];
            lips_record r = of_series(e, s, v);
            sample_name(dst->name, sizeof dst->name, &r);
            dst->v = malloc((size_t)p->n * sizeof *dst->v);
            if (!dst->v)
                return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for per-sample values");
            memcpy(dst->v, s->v[v], (size_t)p->n * sizeof *dst->v);
            m->n_samples++;
        }
    return LIPS_OK;
}

/* Names outlive the network and the caller's strings: one block, table of pointers first. */
static lips_status keep_names(lips_emit *e)
{
    const lips_survey *p = e->survey;
    const char *split = p->args->inputs.split ? p->args->inputs.split : "inputs";
    size_t table = (size_t)(p->layers + 1) * sizeof(char *);
    size_t bytes = table + (size_t)p->layers * LIPS_NAME_MAX + strlen(split) + 1;
    char *storage = malloc(bytes);
    e->norms = calloc((size_t)p->layers + 1, sizeof *e->norms);
    e->out->storage = storage;
    if (!storage || !e->norms)
        return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for the layers' names");
    e->names = (const char **)(void *)storage;
    e->names[0] = NULL;
    char *at = storage + table;
    for (int l = 1; l <= p->layers; l++, at += LIPS_NAME_MAX) {
        snprintf(at, LIPS_NAME_MAX, "%s", lips_net_layer(p->net, l)->name);
        e->names[l] = at;
    }
    strcpy(at, split);
    e->split = at;
    return LIPS_OK;
}

lips_status lips_emit_all(lips_measurement *out, const lips_survey *p)
{
    lips_emit e = {.survey = p, .out = out};
    lips_status st = LIPS_OK;
    out->n = p->n;
    LIPS_TRY(lips_backend_label(&e.device, p->args->ops, p->args->device));
    LIPS_TRY_GOTO(st, keep_names(&e), out);
    for (int row = 0; row < lips_quantities_count; row++)
        if ((p->wanted >> row) & 1)
            LIPS_TRY_GOTO(st,
                          lips_quantities[row].emit ? lips_quantities[row].emit(&e, row)
                                                    : emit_stats(&e, row),
                          out);
    if (p->args->per_sample)
        LIPS_TRY_GOTO(st, emit_samples(&e), out);
out:
    free(e.norms);
    lips_emit_drop_curvature(&e);
    return st;
}
