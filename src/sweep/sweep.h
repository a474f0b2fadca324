/*
 * sweep/sweep.h - runs an experiment's cells, keeps them on disk, resumes them.
 *
 *   OUT/sweep.yaml                 the resolved experiment
 *   OUT/lock                       held while a process works here
 *   OUT/cells/NAME/metrics.jsonl   the truth: append-only, no times, no host: byte-identical after any resume
 *   OUT/cells/NAME/state.safetensors, state.prev.safetensors   bit-exact resume
 *   OUT/cells/NAME/epoch-NNNN.safetensors                      weights (save_epochs)
 *   OUT/cells/NAME/timing.jsonl    wall-clock of pieces: not part of the results
 *   OUT/cells/NAME/progress.json   for `status`
 *   OUT/cells/NAME/failed          {"reason":"diverged","epoch":..,"message":..} instead of done
 *   OUT/cells/NAME/done            written last
 */
#ifndef LIPS_SWEEP_SWEEP_H
#define LIPS_SWEEP_SWEEP_H

#include "config/config.h"

typedef struct lips_sweep_args {
    const lips_experiment *experiment;
    bool dry_run;      /* print cells, time, memory and disk estimates on stdout; run nothing */
    bool json;
    bool retry_failed; /* run cells again that are recorded as failed */
} lips_sweep_args;

/* LIPS_OK, LIPS_ERR_PARTIAL (some cells failed), REQUEUE/INTERRUPTED after checkpointing, or the error. */
lips_status lips_sweep_run(const lips_sweep_args *a);

/* `lipsweep status OUT`: a table on stdout (or JSON): cells done, running, failed, waiting; epochs; ETA. Reads only. */
lips_status lips_sweep_status(const char *out, bool json);

/* One cell, start (or resume) to end. dir exists. worker: number for progress. */
typedef struct lips_cell_progress {
    int64_t epoch;     /* epochs done, updated as it runs (atomic store) */
} lips_cell_progress;
lips_status lips_cell_run(const lips_config *cfg, const lips_dataset *data, const char *dir,
                          lips_cell_progress *progress);

/* Cost model: predicted seconds of a cell on one core, from operation counts and measured rates. */
double lips_cell_seconds(const lips_config *cfg, const lips_net *net, int64_t n_train, int64_t n_test);

#endif
