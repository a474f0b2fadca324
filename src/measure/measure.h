/*
 * measure/measure.h - the measuring pass: every quantity of one network on one set of inputs, as
 * records.
 *
 * One stacked backward pass with K cotangents per batch gives the input Jacobian's Gram matrix and,
 * when asked for, every per-layer Gram; neither J nor a per-sample parameter gradient is stored
 * (ALGORITHMS: (1+K) forward passes). Batches are fixed blocks of samples, spread over threads;
 * results do not depend on the number of threads.
 */
#ifndef LIPS_MEASURE_MEASURE_H
#define LIPS_MEASURE_MEASURE_H

#include "base/record.h"
#include "measure/handles.h"
#include "nn/net.h"

/* Inputs to measure on. A view. */
typedef struct lips_inputs {
    int64_t n;
    const float *x;        /* (n,C,H,W) standardised, host */
    const int64_t *index;  /* (n) rows of x to use, or NULL for 0..n-1 */
    const lips_rows *rows; /* the rows of x in the device's memory already, so that none crosses the
                            * bus; NULL: they are uploaded */
    const int64_t *label;  /* by row of x, or NULL */
    const float *target;   /* (rows,K), or NULL */
    const char *split;     /* for the records */
    bool has_seed;
    uint64_t seed;
} lips_inputs;

typedef struct lips_network_view {
    const lips_net *net;
    const double *params; /* (P) host */
    const double *buffers;
    const double *init; /* (P) initial weights, or NULL if unknown */
    int64_t epoch;      /* -1 unknown */
    lips_loss_kind loss;
} lips_network_view;

/* Which quantities: parsed from "jacobian,distance", section letters "A,B,F", or "all". Unknown
 * names: LIPS_ERR_USAGE with the nearest known one; the text does not say which option or key it
 * was, the caller knows. */
typedef struct lips_metrics {
    uint64_t bits; /* by row of the quantity table (measure/quantities.c) */
} lips_metrics;
lips_status lips_metrics_parse(lips_metrics *out, const char *text);

typedef struct lips_measure_args {
    const lips_ops *ops; /* backend; each thread has its own handle */
    int device;
    lips_arithmetic arithmetic; /* of the blocks' passes; eigenvalues of curvature are f32's */
    const char *choices;   /* file of the backend's measured choices (keep_choices); NULL: none */
    lips_handles *handles; /* on ops' device with these choices, for measurements one after another;
                            * NULL: opened for this one */
    int threads;           /* >= 1 */
    int64_t batch;         /* samples per block; 0: chosen from network and backend alone */
    lips_network_view network;
    lips_inputs inputs;
    lips_metrics metrics;
    int64_t curvature_n; /* the first so many inputs, at most, for the eigenvalues of the Hessian
                          * and the Gauss-Newton matrix; 0: all */
    bool per_sample;     /* keep the per-sample values too */
    bool progress;
} lips_measure_args;

/* Per-sample values, "jacobian.op/logits" and the like, f64 (n). */
typedef struct lips_per_sample {
    char name[128];
    double *v;
} lips_per_sample;

typedef struct lips_measurement {
    lips_record *records; /* strings are literals or owned by storage */
    int n_records;
    lips_per_sample *samples;
    int n_samples;
    int64_t n;
    void *storage;
} lips_measurement;

lips_status lips_measure_run(lips_measurement *out, const lips_measure_args *a);
void lips_measurement_free(lips_measurement *m);
/* Memory the pass needs, for --dry-run: of sizes alone, no sample is read. */
lips_status lips_measure_plan_bytes(const lips_measure_args *a, size_t *bytes);
/* Work of the eigenvalues among m per sample of the curvature's subset, in forward passes, as a
 * rule. */
double lips_measure_curvature_passes(const lips_metrics *m);
/* The same for the trace's sign vectors, per sample of n; 0 for a piecewise linear network. */
double lips_measure_remainder_passes(const lips_metrics *m, const lips_net *net,
                                     const lips_ops *ops, int64_t n);

#endif
