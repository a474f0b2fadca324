/* sweep/workers.h - runs cells on threads, each bound to a device, the longest first. */
#ifndef LIPS_SWEEP_WORKERS_H
#define LIPS_SWEEP_WORKERS_H

#include "sweep/cell_files.h"
#include "sweep/forecast.h"
#include "sweep/watchdog.h"

typedef struct lips_work_cell {
    int64_t cell;
    double seconds;         /* predicted */
    lips_suspicion suspect; /* a device was lost while it ran: it runs alone, after the others */
} lips_work_cell;

typedef struct lips_workers_args {
    const lips_forecast *plan;
    lips_datasets *sets;
    lips_watchdog *watchdog; /* NULL: none */
    lips_work_cell *cells;   /* sorted here */
    int64_t n;
    int64_t done, failed; /* cells of the sweep that are so already: for what is shown */
} lips_workers_args;

typedef struct lips_workers_result {
    int64_t done, failed; /* with those from before */
    bool restart;         /* with LIPS_ERR_DEVICE: noted in the cells, a new process can go on */
    char first_failure[1024];
} lips_workers_result;

/* LIPS_ERR_DEVICE: a device was lost; see lips_sweep_run. LIPS_OK if every cell ran to its end or
 * to its own failure; REQUEUE/INTERRUPTED after a signal; else the error that stopped them all. */
lips_status lips_workers_run(lips_workers_result *out, lips_workers_args *a);

#endif
