/* cli/records.h - a measurement for people and for machines. */
#ifndef LIPS_CLI_RECORDS_H
#define LIPS_CLI_RECORDS_H

#include "measure/measure.h"

/* What the measurement is of. */
typedef struct lips_measured {
    const char *weights, *backend;
    const lips_model_spec *model;
    const lips_inputs *inputs;
    int64_t epoch; /* -1 unknown */
} lips_measured;

/* One JSON object with the records as an array. */
lips_status lips_records_print_json(const lips_measurement *m, const lips_measured *what);
/* An aligned table. */
lips_status lips_records_print_table(const lips_measurement *m, const lips_measured *what);

#endif
