#include "api/model.h"
#include "measure/measure.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct lips_results {
    lips_measurement m;
    char **json; /* (n_records) */
};

enum { LOGITS_BATCH = 64 };

lips_status lips_api_check_samples(const lips_samples *s)
{
    if (!s->x || s->n < 1)
        return lips_fail(LIPS_ERR_USAGE, "no samples: x is %s, n = %" PRId64,
                         s->x ? "given" : "NULL", s->n);
    return LIPS_OK;
}

/* Forward passes of LOGITS_BATCH samples on an open backend. */
static lips_status run_logits(const lips_model *m, lips_backend *be, lips_exec *ex, double *logits,
                              const lips_samples *in)
{
    const lips_model_spec *s = lips_net_spec(m->net);
    lips_tensor *input = lips_exec_input(ex), z;
    int64_t features = s->c * s->h * s->w;
    for (int64_t first = 0; first < in->n; first += LOGITS_BATCH) {
        input->b = in->n - first < LOGITS_BATCH ? in->n - first : LOGITS_BATCH;
        LIPS_TRY(be->ops->upload(be, input, in->x + first * features, NULL));
        LIPS_TRY(lips_exec_forward(ex, false, &z));
        LIPS_TRY(be->ops->download(be, logits + first * s->classes, &z));
        LIPS_TRY(be->ops->sync(be));
    }
    return LIPS_OK;
}

static lips_status put(lips_backend *be, void **dst, const double *src, int64_t n)
{
    if (n == 0)
        return LIPS_OK;
    LIPS_TRY(be->ops->alloc(be, dst, (size_t)n * be->ops->real_bytes));
    return be->ops->write(be, *dst, 0, src, n);
}

lips_status lips_model_logits(const lips_model *m, double *logits, const lips_samples *in,
                              const char *backend)
{
    const lips_ops *ops;
    lips_backend *be = NULL;
    lips_exec *ex = NULL;
    void *params = NULL, *buffers = NULL;
    lips_status st = LIPS_OK;
    LIPS_TRY(lips_api_check_samples(in));
    LIPS_TRY(lips_api_backend(&ops, backend));
    LIPS_TRY_GOTO(st, ops->open(&be, 0), out);
    LIPS_TRY_GOTO(st, put(be, &params, m->params, lips_net_params(m->net)), out);
    LIPS_TRY_GOTO(st, put(be, &buffers, m->buffers, lips_net_buffers(m->net)), out);
    LIPS_TRY_GOTO(st, lips_exec_create(&ex, m->net, be, &(lips_exec_spec){.cap = LOGITS_BATCH}),
                  out);
    lips_exec_set_params(ex, params, buffers);
    LIPS_TRY_GOTO(st, run_logits(m, be, ex, logits, in), out);
out:
    lips_exec_free(ex);
    if (params)
        ops->release(be, params);
    if (buffers)
        ops->release(be, buffers);
    if (be)
        ops->close(be);
    return st;
}

/* Every record's line, once. */
static lips_status keep_json(lips_results *r)
{
    r->json = calloc((size_t)r->m.n_records + 1, sizeof *r->json);
    if (!r->json)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for results");
    for (int i = 0; i < r->m.n_records; i++) {
        size_t size = (size_t)lips_record_json(&r->m.records[i], NULL, 0) + 1;
        r->json[i] = malloc(size);
        if (!r->json[i])
            return lips_fail(LIPS_ERR_MEMORY, "out of memory for results");
        lips_record_json(&r->m.records[i], r->json[i], size);
    }
    return LIPS_OK;
}

lips_status lips_model_measure(lips_results **out, const lips_model *m, const lips_measuring *what)
{
    lips_status st = LIPS_OK;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    *out = NULL;
    LIPS_TRY(lips_api_check_samples(&what->inputs));
    lips_measure_args a = {
        .threads = what->threads > 0 ? what->threads
                   : cores > 0       ? (int)cores
                                     : 1,
        .network = {.net = m->net,
                    .params = m->params,
                    .buffers = m->buffers,
                    .init = m->init,
                    .epoch = m->epoch,
                    .loss = what->squared_loss ? LIPS_LOSS_MSE : LIPS_LOSS_CROSS_ENTROPY},
        .inputs = {.n = what->inputs.n,
                   .x = what->inputs.x,
                   .label = what->inputs.labels,
                   .target = what->inputs.targets,
                   .split = what->split},
        .curvature_n = what->curvature_n,
        .per_sample = what->per_sample};
    LIPS_TRY(lips_api_backend(&a.ops, what->backend));
    LIPS_TRY(lips_metrics_parse(&a.metrics, what->metrics ? what->metrics : ""));
    lips_results *r = calloc(1, sizeof *r);
    if (!r)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for results");
    LIPS_TRY_GOTO(st, lips_measure_run(&r->m, &a), out);
    LIPS_TRY_GOTO(st, keep_json(r), out);
    *out = r;
    r = NULL;
out:
    lips_results_free(r);
    return st;
}

void lips_results_free(lips_results *r)
{
    if (!r)
        return;
    for (int i = 0; r->json && i < r->m.n_records; i++)
        free(r->json[i]);
    free(r->json);
    lips_measurement_free(&r->m);
    free(r);
}

int64_t lips_results_count(const lips_results *r)
{
    return r->m.n_records;
}

lips_result lips_results_get(const lips_results *r, int64_t i)
{
    if (i < 0 || i >= r->m.n_records)
        return (lips_result){.form = LIPS_RESULT_NONE};
    const lips_record *c = &r->m.records[i];
    return (lips_result){.quantity = c->quantity,
                         .norm = c->norm,
                         .output = c->output,
                         .layer = c->layer,
                         .layer_name = c->layer_name,
                         .rank = c->rank,
                         .form = c->form == LIPS_FORM_VALUE   ? LIPS_RESULT_VALUE
                                 : c->form == LIPS_FORM_STATS ? LIPS_RESULT_STATS
                                                              : LIPS_RESULT_NONE,
                         .n = c->n,
                         .value = c->value,
                         .mean = c->mean,
                         .std_err = c->std_err,
                         .min = c->min,
                         .median = c->median,
                         .q90 = c->q90,
                         .max = c->max,
                         .reason = c->reason};
}

const char *lips_results_json(const lips_results *r, int64_t i)
{
    return i >= 0 && i < r->m.n_records ? r->json[i] : NULL;
}

const double *lips_results_per_sample(const lips_results *r, const char *name)
{
    for (int i = 0; i < r->m.n_samples; i++)
        if (strcmp(r->m.samples[i].name, name) == 0)
            return r->m.samples[i].v;
    return NULL;
}
