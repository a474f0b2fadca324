/* sweep/cell_records.h - the lines that a cell adds to metrics.jsonl. */
#ifndef LIPS_SWEEP_CELL_RECORDS_H
#define LIPS_SWEEP_CELL_RECORDS_H

#include "base/record.h"
#include "measure/probing.h"
#include "train/trainer.h"

/* Lines of one epoch, collected so that they are appended in one piece. text is malloc'ed. */
typedef struct lips_record_buffer {
    char *text;
    size_t len, cap;
} lips_record_buffer;

/* What a cell runs on, and what its records say of it: the device, and the arithmetic of
 * training. */
typedef struct lips_place {
    const lips_ops *ops;
    int device;
    const char *label, *precision;
    const char *choices;     /* file of measured choices, or NULL */
    lips_handles *handles;   /* of measuring, from one epoch to the next, */
    lips_probe_rows *probes; /* and what is measured beside the data */
} lips_place;

typedef struct lips_fit {
    lips_eval train;
} lips_fit;

/* Section A at the trainer's epoch: loss and error of train, train_clean, test and val (where there
 * is one), memorized where labels are corrupted; no error for regression. */
lips_status lips_records_fit(lips_record_buffer *out, lips_fit *fit, lips_trainer *tr,
                             const lips_dataset *data, const lips_place *at);

/* What is due at an epoch. */
enum { LIPS_DUE_MEASURE = 1, LIPS_DUE_TRACE = 2 };

/* The metrics of cfg on measure_n training samples and on its probes; its trace_metrics on trace_n
 * training samples, without those of metrics where both are due. */
lips_status lips_records_measure(lips_record_buffer *out, const lips_config *cfg, lips_trainer *tr,
                                 const lips_net *net, const lips_dataset *data,
                                 const lips_place *at, unsigned due);

/* first: first evaluated epoch at interpolation, -1: never. */
lips_status lips_records_interpolation(lips_record_buffer *out, int64_t epoch, int64_t first,
                                       bool regression);

#endif
