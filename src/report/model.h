/*
 * report/model.h - a sweep's results in memory, as tables and figures read them.
 *
 * A cell has a place on the x axis (the width, or else the first swept number) and belongs to a
 * variant (one combination of the other swept keys). Cells that differ only in a seed are
 * replicates: figures show their mean and spread.
 */
#ifndef LIPS_REPORT_MODEL_H
#define LIPS_REPORT_MODEL_H

#include "base/record.h"
#include "config/config.h"
#include "config/options.h"
#include "report/names.h"
#include "sweep/cell_files.h"

typedef struct lips_report_cell {
    const char *name;
    lips_cell_state state;
    bool damaged;                 /* metrics.jsonl cannot be read: no records of it are used */
    int64_t epoch;                /* of `done` or `failed`, else of the last record; -1: none */
    const char *reason, *message; /* of `failed`; or why it is damaged */
    int x, variant;               /* places */
    int64_t replicate;            /* number of its seeds' values: the same at every place */
    int64_t first, count;         /* its records */
} lips_report_cell;

typedef struct lips_variant {
    char label[256]; /* "label_noise 0.2, augment true"; "" if nothing else is swept */
} lips_variant;

typedef struct lips_warning_list {
    char **text;
    int n, cap;
} lips_warning_list;

typedef struct lips_report {
    char out[LIPS_PATH_MAX];
    lips_experiment experiment;
    const lips_option *options; /* the option table */

    lips_report_cell *cells;
    int64_t n_cells;
    lips_record *records; /* all cells' one after the other; strings are in names */
    int64_t n_records, cap_records;
    lips_names names;

    int x_axis;         /* axis number, -1: the width is the same everywhere */
    const char *x_name; /* "width" */
    bool x_log;
    double *x; /* (n_x) rising */
    int n_x;
    lips_variant *variants;
    int n_variants;
    int64_t replicates; /* cells of one place and variant */

    lips_warning_list warnings;
} lips_report;

/* Reads OUT/sweep.yaml and what the cells have written so far. */
lips_status lips_report_collect(lips_report *r, const char *out);
void lips_report_free(lips_report *r);

/* "done", "failed", "unfinished" */
const char *lips_cell_state_name(lips_cell_state state);
/* Text of an axis' value in a cell (by the cell's number in the experiment). */
const char *lips_report_axis_value(const lips_report *r, int axis, int64_t cell);
const char *lips_report_axis_name(const lips_report *r, int axis);
/* Replicates differ in these keys only. */
bool lips_report_is_seed(const char *key);

__attribute__((format(printf, 2, 3))) lips_status lips_report_warn(lips_report *r, const char *fmt,
                                                                   ...);
/* What a reader must know before believing a figure: unfinished, failed, diverged cells, numbers
 * that are not finite, networks that never interpolated, single seeds. */
lips_status lips_report_add_warnings(lips_report *r);

#endif
