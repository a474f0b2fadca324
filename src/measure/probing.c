#include "measure/probing.h"

#include "measure/quantities.h"
#include "measure/resident.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Loss gradients are items of the loss's cotangents: no labels, no loss. */
static bool on_probes(const lips_quantity *q)
{
    const unsigned loss = (unsigned)LIPS_NEED_ITEMS_MASK << LIPS_NEED_LOSS_SHIFT;
    return (q->section == 'B' || q->section == 'C') && q->plan && !(q->needs & loss);
}

lips_metrics lips_metrics_of_probes(const lips_metrics *m)
{
    lips_metrics out = {0};
    for (int row = 0; row < lips_quantities_count; row++)
        if (lips_metrics_has(m, row) && on_probes(&lips_quantities[row]))
            out.bits |= UINT64_C(1) << row;
    return out;
}

static void drop_nulls(lips_measurement *m)
{
    int kept = 0;
    for (int i = 0; i < m->n_records; i++)
        if (m->records[i].form != LIPS_FORM_NULL)
            m->records[kept++] = m->records[i];
    m->n_records = kept;
}

struct lips_probe_rows {
    lips_backend *be;
    struct {
        float *x; /* host; NULL: not made yet */
        lips_rows rows;
    } of[LIPS_PROBES];
};

lips_status lips_probe_rows_create(lips_probe_rows **out, lips_backend *be)
{
    lips_probe_rows *r = calloc(1, sizeof *r);
    *out = r;
    if (!r)
        return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for probes");
    r->be = be;
    return LIPS_OK;
}

void lips_probe_rows_free(lips_probe_rows *r)
{
    for (int k = 0; r && k < LIPS_PROBES; k++) {
        free(r->of[k].x);
        r->be->ops->release(r->be, r->of[k].rows.memory);
    }
    free(r);
}

size_t lips_probe_rows_bytes(const lips_net *net, const lips_ops *ops, int64_t n)
{
    const lips_model_spec *s = lips_net_spec(net);
    return (size_t)(n * s->c * s->h * s->w) * sizeof(float) + lips_inputs_load_bytes(net, ops, n);
}

/* Rows of p as inputs; from and for its kept ones, if it has any, else to be freed by the caller
 * (*own). */
static lips_status probe_inputs(lips_inputs *in, float **own, const lips_net *net,
                                const lips_probing *p)
{
    lips_probe_rows *r = p->rows;
    float **x = r ? &r->of[p->kind].x : own;
    if (!*x) {
        LIPS_TRY(lips_probe_make(x, p->kind, &p->source, p->n, p->seed));
        in->x = *x;
        if (r)
            LIPS_TRY(lips_inputs_load(&r->of[p->kind].rows, net, r->be, in));
    }
    in->x = *x;
    in->rows = r && r->of[p->kind].rows.memory ? &r->of[p->kind].rows : NULL;
    return LIPS_OK;
}

lips_status lips_measure_probe(lips_measurement *out, const lips_measure_args *a,
                               const lips_probing *p)
{
    char split[64];
    float *own = NULL;
    lips_measure_args b = *a;
    lips_status st = LIPS_OK;
    memset(out, 0, sizeof *out);
    b.metrics = lips_metrics_of_probes(&a->metrics);
    if (b.metrics.bits == 0)
        return LIPS_OK;
    snprintf(split, sizeof split, "probe:%s", lips_probe_name(p->kind));
    b.inputs = (lips_inputs){.n = p->n, .split = split, .has_seed = true, .seed = p->seed};
    LIPS_TRY_GOTO(st, probe_inputs(&b.inputs, &own, a->network.net, p), out);
    LIPS_TRY_GOTO(st, lips_measure_run(out, &b), out);
    drop_nulls(out);
out:
    free(own);
    return st;
}
