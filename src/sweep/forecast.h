/*
 * sweep/forecast.h - what a sweep will take: seconds, memory and disk of each cell, before anything
 * runs.
 *
 * Cells that differ only in seeds, rates and the like cost the same: they form a class, and
 * classes, not cells, are what is computed. So a million cells are planned in the time of their few
 * classes.
 */
#ifndef LIPS_SWEEP_FORECAST_H
#define LIPS_SWEEP_FORECAST_H

#include "sweep/datasets.h"
#include "sweep/device.h"

typedef struct lips_cell_class {
    double flops;   /* of one sample's forward pass */
    double seconds; /* predicted, on one core or alone on a device */
    int64_t params;
    int64_t n_train, n_test;
    size_t bytes;    /* memory beside the data set: training, or measuring if that is more */
    size_t resident; /* of the data set on the device, which its cells there share */
    double share;    /* of a device that it keeps busy while it trains; 0: unknown */
    int64_t disk;    /* bytes when done */
    int64_t state;   /* bytes of checkpoints while it runs */
    int group;       /* of cells whose speed is comparable */
} lips_cell_class;

typedef struct lips_forecast {
    const lips_experiment *e; /* the caller's */
    lips_devices devices;
    int64_t n_cells, n_classes;
    int64_t jobs;                  /* cells at once, all devices together */
    int64_t suffix[LIPS_AXES_MAX]; /* cells per step of an axis */
    int64_t stride[LIPS_AXES_MAX]; /* classes per step of an axis; 0: it costs nothing */
    lips_cell_class *classes;
    size_t data_bytes; /* of the data sets looked at */
} lips_forecast;

/* What a network's widest layer keeps busy of a device that holds `threads` threads: with `batch`
 * samples a step, one thread computes VALUES_PER_THREAD of its outputs. At most half: while one
 * cell is with the host, another one computes. */
double lips_device_share(const lips_net *net, int64_t batch, int64_t threads);

/* Checks every class of cells (LIPS_ERR_USAGE, LIPS_ERR_DATA: nothing would run), loads the largest
 * data set of each source into s, and times a few steps of up to four sizes of network. */
lips_status lips_forecast_create(lips_forecast *out, const lips_experiment *e,
                                 const lips_devices *devices, lips_datasets *s);
void lips_forecast_free(lips_forecast *p);

/* The first cell of class number `number`. */
int64_t lips_forecast_first(const lips_forecast *p, int64_t number);

const lips_cell_class *lips_forecast_class(const lips_forecast *p, int64_t cell);

/* All cells: seconds one after the other, of the longest cell, and of one device (or core) that
 * they keep busy; the largest host memory of `jobs` cells at once with the data; disk. */
typedef struct lips_forecast_totals {
    double seconds, longest, busy;
    size_t bytes;
    int64_t disk;
} lips_forecast_totals;
lips_status lips_forecast_sum(const lips_forecast *p, lips_forecast_totals *out);

#endif
