/*
 * base/record.h - one measured number (or its statistics over samples) and its line of JSON.
 * The field names are the contract that users' tools read; see the README, "Records".
 */
#ifndef LIPS_BASE_RECORD_H
#define LIPS_BASE_RECORD_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef enum lips_record_form { LIPS_FORM_VALUE, LIPS_FORM_STATS, LIPS_FORM_NULL } lips_record_form;

/* Strings are views: literals or the reader's storage. Optional ones are NULL when absent. */
typedef struct lips_record {
    const char *quantity; /* "jacobian", "loss", ... never NULL */
    const char *norm;     /* "op", "fro" */
    const char *output;   /* section B: "logits", ... */
    int layer;            /* 1..L; 0: absent */
    int rank;             /* of one eigenvalue among several, 1: the largest; 0: absent */
    const char *layer_name;
    const char *split; /* "train", "train_clean", "test", "inputs", "probe:..." */
    int64_t epoch;     /* -1: absent (a network whose epoch is unknown) */
    int64_t n;         /* samples; 0: absent */
    lips_record_form form;
    double value;                                /* FORM_VALUE */
    double mean, std_err, min, median, q90, max; /* FORM_STATS */
    const char *reason;                          /* FORM_NULL */
    bool exact;                                  /* written for FORM_STATS and for estimates */
    bool estimate;                               /* adds std_err, iterations, residual */
    int64_t iterations;                          /* estimates; -1: absent */
    double residual;                             /* estimates; NaN: absent */
    const char *precision; /* "float64", "float32", "tf32", "bf16": arithmetic used */
    const char *device;    /* "ref", "cpu", "cuda", "emulated"; NULL: absent */
    uint64_t seed;         /* which seed drew the samples; written if has_seed */
    bool has_seed;
} lips_record;

/* A record with everything absent. */
lips_record lips_record_init(const char *quantity);

/* Sets form, and from v (n) in f64, fixed order: n, mean, std_err (sample standard deviation /
 * sqrt(n), 0 for n = 1), min, median, q90 (linear interpolation between order statistics, numpy's
 * default), max. Non-finite values make the statistics non-finite (one NaN makes all of them NaN);
 * they are never dropped. Sorts a private copy. */
lips_status lips_record_stats(lips_record *r, const double *v, int64_t n);

/* One line of JSON with 17 significant digits, no newline, into buf; returns the length it needs
 * (as snprintf). Non-finite numbers become the strings "nan", "inf", "-inf" and add "finite":false.
 * A seed above 2^63 - 1 is written as a string. */
int lips_record_json(const lips_record *r, char *buf, size_t size);

/* A parsed line owns its strings. */
typedef struct lips_record_line {
    lips_record r;
    void *storage;
} lips_record_line;

/* text (len): one line without its newline. Errors: LIPS_ERR_DATA with what is wrong; unknown
 * members and lines over 64 KiB too. */
lips_status lips_record_parse(lips_record_line *out, const char *text, size_t len);
void lips_record_line_free(lips_record_line *line);

#endif
