/* cli/records.h - a measurement for people and for machines. */
#ifndef LIPS_CLI_RECORDS_H
#define LIPS_CLI_RECORDS_H

#include "measure/measure.h"

/* What was measured: a network on inputs of one kind or several. */
typedef struct lips_measured {
    const char *weights, *backend;
    const lips_model_spec *model;
    const char *inputs; /* the records' split; of several probes "probe:a,b" */
    int64_t n;          /* samples of each measurement */
    int64_t epoch;      /* -1 unknown */
    const lips_measurement *results;
    int n_results;
} lips_measured;

/* One JSON object with all records as an array. */
lips_status lips_records_print_json(const lips_measured *m);
/* An aligned table of each. */
lips_status lips_records_print_table(const lips_measured *m);

#endif
