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

static const char *precision_of(const lips_ops *ops)
{
    return ops->real_bytes == sizeof(double) ? "float64" : "float32";
}

static lips_record fit_record(const char *quantity, const char *split, const lips_trainer *tr,
                              const lips_ops *ops, int64_t n, double value)
{
    lips_record r = lips_record_init(quantity);
    r.split = split;
    r.epoch = lips_trainer_epoch(tr);
    r.n = n;
    r.form = LIPS_FORM_VALUE;
    r.value = value;
    r.precision = precision_of(ops);
    r.device = ops->name;
    return r;
}

static lips_status add_eval(lips_record_buffer *out, const lips_eval *e, const char *split,
                            const lips_trainer *tr, const lips_dataset *data, const lips_ops *ops)
{
    lips_record r = fit_record("loss", split, tr, ops, e->n, e->loss);
    LIPS_TRY(add_record(out, &r));
    if (data->regression)
        return LIPS_OK;
    r = fit_record("error", split, tr, ops, e->n, e->error);
    return add_record(out, &r);
}

lips_status lips_records_fit(lips_record_buffer *out, lips_fit *fit, lips_trainer *tr,
                             const lips_dataset *data, const lips_ops *ops)
{
    lips_eval clean, other;
    double memorized;
    int64_t corrupted = 0;
    LIPS_TRY(lips_trainer_evaluate(tr, &data->train, &fit->train, &clean, &memorized));
    LIPS_TRY(add_eval(out, &fit->train, "train", tr, data, ops));
    LIPS_TRY(add_eval(out, &clean, "train_clean", tr, data, ops));
    if (data->test.n > 0) {
        LIPS_TRY(lips_trainer_evaluate(tr, &data->test, &other, NULL, NULL));
        LIPS_TRY(add_eval(out, &other, "test", tr, data, ops));
    }
    if (data->val.n > 0) {
        LIPS_TRY(lips_trainer_evaluate(tr, &data->val, &other, NULL, NULL));
        LIPS_TRY(add_eval(out, &other, "val", tr, data, ops));
    }
    for (int64_t i = 0; !data->regression && i < data->train.n; i++)
        corrupted += data->train.label[i] != data->train.label_clean[i];
    if (corrupted == 0)
        return LIPS_OK;
    lips_record r = fit_record("memorized", "train", tr, ops, corrupted, memorized);
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

typedef struct measure_memory {
    double *params, *init, *buffers, *init_buffers;
    int64_t *index, n;
} measure_memory;

static lips_status measure_memory_fill(measure_memory *m, const lips_config *cfg, lips_trainer *tr,
                                       const lips_net *net, int64_t n_train)
{
    size_t p = (size_t)lips_net_params(net) * sizeof(double);
    size_t b = (size_t)lips_net_buffers(net) * sizeof(double);
    m->params = malloc(p);
    m->init = malloc(p);
    m->buffers = malloc(b + 1);
    m->init_buffers = malloc(b + 1);
    if (!m->params || !m->init || !m->buffers || !m->init_buffers)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory: %zu bytes of weights to measure", 2 * p);
    LIPS_TRY(lips_trainer_get_params(tr, m->params, m->buffers));
    LIPS_TRY(lips_net_init(net, cfg->init, cfg->seed, m->init, m->init_buffers));
    return lips_measure_subset(&m->index, &m->n, n_train, cfg->measure_n, cfg->measure_seed);
}

lips_status lips_records_measure(lips_record_buffer *out, const lips_config *cfg, lips_trainer *tr,
                                 const lips_net *net, const lips_dataset *data, const lips_ops *ops)
{
    const lips_split *s = &data->train;
    measure_memory m = {0};
    lips_measurement result = {0};
    lips_measure_args a = {.ops = ops, .threads = 1};
    lips_status st;
    LIPS_TRY_GOTO(st, lips_metrics_parse(&a.metrics, cfg->metrics), out);
    LIPS_TRY_GOTO(st, measure_memory_fill(&m, cfg, tr, net, s->n), out);
    a.network = (lips_network_view){.net = net,
                                    .params = m.params,
                                    .buffers = m.buffers,
                                    .init = m.init,
                                    .epoch = lips_trainer_epoch(tr),
                                    .loss = cfg->loss};
    a.inputs = (lips_inputs){.n = m.n,
                             .x = s->x,
                             .index = m.index,
                             .label = s->label,
                             .target = s->target,
                             .split = "train",
                             .has_seed = m.index != NULL,
                             .seed = cfg->measure_seed};
    LIPS_TRY_GOTO(st, lips_measure_run(&result, &a), out);
    for (int i = 0; i < result.n_records; i++)
        if (!belongs_to_fit(&result.records[i]))
            LIPS_TRY_GOTO(st, add_record(out, &result.records[i]), out);
out:
    lips_measurement_free(&result);
    free(m.index);
    free(m.init_buffers);
    free(m.buffers);
    free(m.init);
    free(m.params);
    return st;
}
