#include "sweep/cell_records.h"

#include "measure/subset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static lips_status add_record(lips_record_buffer *out, const lips_record *r)
{
    int need = lips_record_json(r, NULL, 0);
    if (need < 0)
        return lips_fail(LIPS_ERR_RUNTIME, "record %s cannot be written", r->quantity);
    size_t want = out->len + (size_t)need + 2;
    if (want > out->cap) {
        char *text = realloc(out->text, 2 * want);
        if (!text)
            return lips_fail(LIPS_ERR_MEMORY, "out of memory: %zu bytes of records", 2 * want);
        out->text = text;
        out->cap = 2 * want;
    }
    lips_record_json(r, out->text + out->len, (size_t)need + 1);
    out->len += (size_t)need;
    out->text[out->len++] = '\n';
    return LIPS_OK;
}

static lips_record fit_record(const char *quantity, const char *split, const lips_trainer *tr,
                              const lips_place *at, int64_t n, double value)
{
    lips_record r = lips_record_init(quantity);
    r.split = split;
    r.epoch = lips_trainer_epoch(tr);
    r.n = n;
    r.form = LIPS_FORM_VALUE;
    r.value = value;
    r.precision = at->precision;
    r.device = at->label;
    return r;
}

static lips_status add_eval(lips_record_buffer *out, const lips_eval *e, const char *split,
                            const lips_trainer *tr, const lips_dataset *data, const lips_place *at)
{
    lips_record r = fit_record("loss", split, tr, at, e->n, e->loss);
    LIPS_TRY(add_record(out, &r));
    if (data->regression)
        return LIPS_OK;
    r = fit_record("error", split, tr, at, e->n, e->error);
    return add_record(out, &r);
}

lips_status lips_records_fit(lips_record_buffer *out, lips_fit *fit, lips_trainer *tr,
                             const lips_dataset *data, const lips_place *at)
{
    lips_eval clean, other;
    double memorized;
    int64_t corrupted = 0;
    LIPS_TRY(lips_trainer_evaluate(tr, &data->train, &fit->train, &clean, &memorized));
    LIPS_TRY(add_eval(out, &fit->train, "train", tr, data, at));
    LIPS_TRY(add_eval(out, &clean, "train_clean", tr, data, at));
    if (data->test.n > 0) {
        LIPS_TRY(lips_trainer_evaluate(tr, &data->test, &other, NULL, NULL));
        LIPS_TRY(add_eval(out, &other, "test", tr, data, at));
    }
    if (data->val.n > 0) {
        LIPS_TRY(lips_trainer_evaluate(tr, &data->val, &other, NULL, NULL));
        LIPS_TRY(add_eval(out, &other, "val", tr, data, at));
    }
    for (int64_t i = 0; !data->regression && i < data->train.n; i++)
        corrupted += data->train.label[i] != data->train.label_clean[i];
    if (corrupted == 0)
        return LIPS_OK;
    lips_record r = fit_record("memorized", "train", tr, at, corrupted, memorized);
    return add_record(out, &r);
}

lips_status lips_records_interpolation(lips_record_buffer *out, int64_t epoch, int64_t first,
                                       bool regression)
{
    lips_record r = lips_record_init("interpolation_epoch");
    r.split = "train";
    r.epoch = epoch;
    r.form = first < 0 ? LIPS_FORM_NULL : LIPS_FORM_VALUE;
    r.value = (double)first;
    if (first < 0)
        r.reason = regression ? "regression has no 0/1 error"
                              : "the train error never reached interpolation_tol";
    return add_record(out, &r);
}

/* Section A comes from the whole split (lips_records_fit): not again from a sample of it. */
static bool belongs_to_fit(const lips_record *r)
{
    return strcmp(r->quantity, "loss") == 0 || strcmp(r->quantity, "error") == 0 ||
           strcmp(r->quantity, "memorized") == 0;
}

/* The trained network as the measuring pass sees it, and what its view points to. */
typedef struct subject {
    const lips_config *cfg;
    const lips_dataset *data;
    lips_record_buffer *out;
    const lips_trainer *trainer;
    lips_probe_rows *probes;
    lips_measure_args args; /* network and backend; metrics and inputs for each use */
    double *params, *init, *buffers, *init_buffers;
} subject;

static lips_status subject_fill(subject *s, lips_trainer *tr, const lips_net *net)
{
    size_t p = (size_t)lips_net_params(net) * sizeof(double);
    size_t b = (size_t)lips_net_buffers(net) * sizeof(double);
    s->params = malloc(p);
    s->init = malloc(p);
    s->buffers = malloc(b + 1);
    s->init_buffers = malloc(b + 1);
    if (!s->params || !s->init || !s->buffers || !s->init_buffers)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory: %zu bytes of weights to measure", 2 * p);
    LIPS_TRY(lips_trainer_get_params(tr, s->params, s->buffers));
    LIPS_TRY(lips_net_init(net, s->cfg->init, s->cfg->seed, s->init, s->init_buffers));
    s->args.network = (lips_network_view){.net = net,
                                          .params = s->params,
                                          .buffers = s->buffers,
                                          .init = s->init,
                                          .epoch = lips_trainer_epoch(tr),
                                          .loss = s->cfg->loss};
    return LIPS_OK;
}

static lips_status add_measurement(lips_record_buffer *out, const lips_measurement *m)
{
    for (int i = 0; i < m->n_records; i++)
        if (!belongs_to_fit(&m->records[i]))
            LIPS_TRY(add_record(out, &m->records[i]));
    return LIPS_OK;
}

static lips_status measure_train(subject *s, const lips_metrics *metrics, int64_t n)
{
    const lips_split *split = &s->data->train;
    lips_measurement result = {0};
    lips_measure_args a = s->args;
    int64_t *index, count;
    if (metrics->bits == 0)
        return LIPS_OK;
    LIPS_TRY(lips_measure_subset(&index, &count, split->n, n, s->cfg->measure_seed));
    a.metrics = *metrics;
    a.inputs = (lips_inputs){.n = count,
                             .x = split->x,
                             .index = index,
                             .rows = lips_trainer_rows(s->trainer, split),
                             .label = split->label,
                             .target = split->target,
                             .split = "train",
                             .has_seed = index != NULL,
                             .seed = s->cfg->measure_seed};
    lips_status st;
    LIPS_TRY_GOTO(st, lips_measure_run(&result, &a), out);
    LIPS_TRY_GOTO(st, add_measurement(s->out, &result), out);
out:
    lips_measurement_free(&result);
    free(index);
    return st;
}

static lips_status measure_probes(subject *s, const lips_metrics *metrics)
{
    const lips_dataset *d = s->data;
    lips_measure_args a = s->args;
    unsigned probes;
    LIPS_TRY(lips_probes_parse(&probes, s->cfg->probes));
    a.metrics = *metrics;
    for (int k = 0; k < LIPS_PROBES; k++) {
        lips_probing p = {.kind = (lips_probe)k,
                          .n = s->cfg->probe_n,
                          .seed = s->cfg->probe_seed,
                          .rows = s->probes};
        lips_measurement result;
        if (!lips_probes_has(probes, p.kind))
            continue;
        p.source =
            (lips_probe_source){.x = d->train.x, .n = d->train.n, .c = d->c, .h = d->h, .w = d->w};
        lips_status st = lips_measure_probe(&result, &a, &p);
        if (st == LIPS_OK)
            st = add_measurement(s->out, &result);
        lips_measurement_free(&result);
        LIPS_TRY(st);
    }
    return LIPS_OK;
}

lips_status lips_records_measure(lips_record_buffer *out, const lips_config *cfg, lips_trainer *tr,
                                 const lips_net *net, const lips_dataset *data,
                                 const lips_place *at, unsigned due)
{
    subject s = {.cfg = cfg,
                 .data = data,
                 .out = out,
                 .trainer = tr,
                 .probes = at->probes,
                 .args = {.ops = at->ops,
                          .device = at->device,
                          .arithmetic = {.backward = cfg->measure_precision,
                                         .conv = cfg->cuda_conv,
                                         .linear = cfg->cuda_linear},
                          .choices = at->choices,
                          .handles = at->handles,
                          .threads = 1,
                          .curvature_n = cfg->curvature_n}};
    lips_metrics metrics, trace;
    lips_status st;
    LIPS_TRY_GOTO(st, lips_metrics_parse(&metrics, cfg->metrics), out);
    LIPS_TRY_GOTO(st, lips_metrics_parse(&trace, cfg->trace_metrics), out);
    LIPS_TRY_GOTO(st, subject_fill(&s, tr, net), out);
    if (due & LIPS_DUE_MEASURE) {
        LIPS_TRY_GOTO(st, measure_train(&s, &metrics, cfg->measure_n), out);
        LIPS_TRY_GOTO(st, measure_probes(&s, &metrics), out);
        trace.bits &= ~metrics.bits;
    }
    if (due & LIPS_DUE_TRACE)
        LIPS_TRY_GOTO(st, measure_train(&s, &trace, cfg->trace_n), out);
out:
    free(s.init_buffers);
    free(s.buffers);
    free(s.init);
    free(s.params);
    return st;
}
