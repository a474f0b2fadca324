#include "measure/probing.h"

#include "measure/quantities.h"

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

lips_status lips_measure_probe(lips_measurement *out, const lips_measure_args *a,
                               const lips_probing *p)
{
    char split[64];
    float *x = NULL;
    lips_measure_args b = *a;
    lips_status st = LIPS_OK;
    memset(out, 0, sizeof *out);
    b.metrics = lips_metrics_of_probes(&a->metrics);
    if (b.metrics.bits == 0)
        return LIPS_OK;
    LIPS_TRY_GOTO(st, lips_probe_make(&x, p->kind, &p->source, p->n, p->seed), out);
    snprintf(split, sizeof split, "probe:%s", lips_probe_name(p->kind));
    b.inputs =
        (lips_inputs){.n = p->n, .x = x, .split = split, .has_seed = true, .seed = p->seed};
    LIPS_TRY_GOTO(st, lips_measure_run(out, &b), out);
    drop_nulls(out);
out:
    free(x);
    return st;
}
