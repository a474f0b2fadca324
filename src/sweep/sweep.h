/*
 * sweep/sweep.h - runs an experiment's cells, keeps them on disk, resumes them.
 *
 *   OUT/sweep.yaml                 the resolved experiment
 *   OUT/datasets.json              content hash of each data set used: a changed one is refused
 *   OUT/lock                       held while a process works here
 *   OUT/progress.json              for `status`, while a process works here
 *   OUT/cuda-choices.tsv           which kernels were measured to be the fastest, so that a sweep
 *                                  that goes on takes the same
 *   OUT/cells/NAME/config.yaml     the cell's settings
 *   OUT/cells/NAME/metrics.jsonl   the truth: append-only, no times, no host: byte-identical after
 *                                  any resume
 *   OUT/cells/NAME/epoch-NNNN.safetensors   weights (save_epochs)
 *   OUT/cells/NAME/state.safetensors, state.prev.safetensors   bit-exact resume, until done
 *   OUT/cells/NAME/timing.jsonl    wall-clock of pieces, and the device: not part of the results
 *   OUT/cells/NAME/failed          {"reason":"diverged","epoch":..,"message":..} instead of done;
 *                                  reason is diverged, oom, data, device or runtime
 *   OUT/cells/NAME/device-lost     the GPU faulted while the cell ran: it is run once more, alone
 *                                  on a GPU
 *   OUT/cells/NAME/done            {"epoch":..,"stopped":..}, written last
 *
 * An existing OUT may be given more cells: for every key that changes results the values must
 * include those of OUT/sweep.yaml. Anything else is refused (LIPS_ERR_USAGE) with the key and both
 * values.
 */
#ifndef LIPS_SWEEP_SWEEP_H
#define LIPS_SWEEP_SWEEP_H

#include "config/config.h"
#include "sweep/residents.h"

typedef struct lips_sweep_args {
    const lips_experiment *experiment;
    bool dry_run; /* print cells, time, memory and disk estimates on stdout; run nothing */
    bool json;
    bool retry_failed; /* run cells again, from the start, that are recorded as failed */
    /* What is made of the cells (a report), while the folder is still this process's alone. swept:
     * LIPS_OK or LIPS_ERR_PARTIAL with its text. The result is the sweep's. NULL: nothing. */
    lips_status (*finish)(const char *out, lips_status swept);
    bool *restart; /* set with LIPS_ERR_DEVICE: a new process can go on with the cells */
} lips_sweep_args;

/* LIPS_OK, LIPS_ERR_PARTIAL (some cells failed), REQUEUE/INTERRUPTED after checkpointing, or the
 * error that stopped the sweep: settings, data and a folder that cannot be written stop all cells,
 * what goes wrong inside one cell is recorded there and the others go on. LIPS_ERR_DEVICE: a GPU
 * faulted. CUDA then wants a new process; cells on other GPUs keep a checkpoint, those that ran on
 * it are run once more there, after all others and with nothing beside them, and one that does it
 * again is recorded as failed. */
lips_status lips_sweep_run(const lips_sweep_args *a);

/* `lipsweep status OUT`: a table on stdout (or JSON): cells done, running, failed, waiting; epochs;
 * ETA. Reads only. LIPS_ERR_DATA: out holds no sweep. */
lips_status lips_sweep_status(const char *out, bool json);

/* What a running cell and its surroundings tell each other; zero at the start. */
typedef struct lips_cell_progress {
    int64_t epoch;      /* epochs done (atomic store by the cell) */
    bool stop;          /* set from outside (atomic): checkpoint and return LIPS_ERR_INTERRUPTED */
    bool crowded;       /* set from outside (atomic): others use the device's memory, too */
    bool output_failed; /* the error is the output folder's, not the cell's: no `failed` written */
    bool put_off;       /* out of memory while crowded: no `failed` written, it is to run alone */
} lips_cell_progress;

typedef struct lips_cell_args {
    const lips_config *cfg;
    const lips_dataset *data;
    const char *dir; /* exists */
    int device;
    lips_residents *residents; /* data sets on devices, shared with other cells */
    size_t plan;               /* bytes planned for the cell, for its message; 0: unknown */
    const char *choices; /* file of the backend's measured choices (keep_choices); NULL: none */
} lips_cell_args;

/* One cell, start (or resume) to end. An error of the cell's own is recorded in dir/failed and
 * returned. One cell uses one thread: the caller's. */
lips_status lips_cell_run(const lips_cell_args *a, lips_cell_progress *progress);

#endif
