/* measure/probing.h - the measuring pass on inputs that are not data. */
#ifndef LIPS_MEASURE_PROBING_H
#define LIPS_MEASURE_PROBING_H

#include "data/probe.h"
#include "measure/measure.h"

/* Those of m that are defined on inputs without labels: sections B and C, without what looks at the
 * weights alone. May be empty. */
lips_metrics lips_metrics_of_probes(const lips_metrics *m);

/* The probes' rows from one measurement to the next: made once, on the device's memory where the
 * backend has one. For one source, number and seed. */
typedef struct lips_probe_rows lips_probe_rows;
lips_status lips_probe_rows_create(lips_probe_rows **out, lips_backend *be);
void lips_probe_rows_free(lips_probe_rows *r);
/* Bytes of one probe. */
size_t lips_probe_rows_bytes(const lips_net *net, const lips_ops *ops, int64_t n);

typedef struct lips_probing {
    lips_probe kind;
    lips_probe_source source;
    int64_t n; /* rows */
    uint64_t seed;
    lips_probe_rows *rows; /* keeps what it makes there; NULL: for this measurement alone */
} lips_probing;

/* lips_measure_run of a on the rows of p instead of a->inputs, with the metrics that are defined
 * there; split "probe:<name>". What needs labels has no record here, not even one without a value.
 */
lips_status lips_measure_probe(lips_measurement *out, const lips_measure_args *a,
                               const lips_probing *p);

#endif
