#include "sweep/sweep.h"

#include "base/file.h"
#include "base/log.h"
#include "base/signals.h"
#include "sweep/cell_files.h"
#include "sweep/dry_run.h"
#include "sweep/output.h"
#include "sweep/workers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Which cells are left to run. In a fresh folder that is all of them: no need to look. */
static lips_status sort_out(const lips_sweep_args *a, bool exists, lips_workers_args *out)
{
    const lips_experiment *e = a->experiment;
    char dir[LIPS_PATH_MAX];
    lips_config *cell = malloc(sizeof *cell);
    out->cells = malloc((size_t)out->plan->n_cells * sizeof *out->cells + 1);
    lips_status st = LIPS_OK;
    if (!cell || !out->cells) {
        st = lips_fail(LIPS_ERR_MEMORY, "out of memory for %" PRId64 " cells", out->plan->n_cells);
        goto out;
    }
    for (int64_t i = 0; i < out->plan->n_cells; i++) {
        lips_cell_state state = LIPS_CELL_WAITING;
        if (exists) {
            LIPS_TRY_GOTO(st, lips_experiment_cell(e, i, cell), out);
            LIPS_TRY_GOTO(st, lips_output_cell_dir(e, cell, dir, sizeof dir), out);
            state = lips_cell_state_read(dir);
        }
        if (state == LIPS_CELL_DONE) {
            lips_cell_tidy(dir); /* in case the end came between its `done` and its tidying */
            out->done++;
        } else if (state == LIPS_CELL_FAILED && !a->retry_failed) {
            out->failed++;
        } else {
            /* Here, not when its turn comes: a process that takes over after a lost device must not
             * try again what this one has already found to fail. */
            if (state == LIPS_CELL_FAILED)
                LIPS_TRY_GOTO(st, lips_cell_reset(dir), out);
            out->cells[out->n++] =
                (lips_work_cell){.cell = i,
                                 .seconds = lips_forecast_class(out->plan, i)->seconds,
                                 .suspect = exists ? lips_cell_device_lost(dir) : LIPS_SUSPECT_NOT};
        }
    }
out:
    free(cell);
    return st;
}

/* The last word: how it ended, as status and text. */
static lips_status conclude(const lips_sweep_args *a, lips_status st, int64_t n_cells,
                            const lips_workers_result *r)
{
    const char *out = a->experiment->base.out;
    char why[1024];
    if (st == LIPS_ERR_REQUEUE || st == LIPS_ERR_INTERRUPTED) {
        snprintf(why, sizeof why, "%s", lips_error());
        return lips_fail(st,
                         "%s: %" PRId64 " of %" PRId64 " cells are done, the others keep their "
                         "checkpoints: run the same command again",
                         why, r->done, n_cells);
    }
    LIPS_TRY(st);
    if (r->failed == 0) {
        lips_info("%" PRId64 " cell%s done: %s", r->done, r->done == 1 ? "" : "s", out);
        return LIPS_OK;
    }
    return lips_fail(LIPS_ERR_PARTIAL,
                     "%" PRId64 " of %" PRId64 " cells failed, see %s/cells/*/"
                     "failed%s%s",
                     r->failed, n_cells, out, r->first_failure[0] ? "; first: " : "",
                     r->first_failure);
}

static lips_status run_cells(const lips_sweep_args *a, const lips_forecast *plan,
                             lips_datasets *sets, lips_watchdog *watchdog, bool exists)
{
    const lips_experiment *e = a->experiment;
    lips_workers_args args = {.plan = plan, .sets = sets, .watchdog = watchdog};
    lips_workers_result result = {0};
    char path[LIPS_PATH_MAX], progress[LIPS_PATH_MAX];
    lips_status st;
    LIPS_TRY_GOTO(st, lips_output_take(e), out);
    LIPS_TRY_GOTO(st, lips_path(path, sizeof path, "%s/datasets.json", e->base.out), out);
    LIPS_TRY_GOTO(st, lips_path(progress, sizeof progress, "%s/progress.json", e->base.out), out);
    LIPS_TRY_GOTO(st, lips_datasets_guard(sets, path), out);
    LIPS_TRY_GOTO(st, sort_out(a, exists, &args), out);
    if (args.done + args.failed > 0)
        lips_info("%" PRId64 " of %" PRId64 " cells are done, %" PRId64 " failed before", args.done,
                  plan->n_cells, args.failed);
    st = conclude(a, lips_workers_run(&result, &args), plan->n_cells, &result);
    if (a->restart)
        *a->restart = st == LIPS_ERR_DEVICE && result.restart;
    unlink(progress);
out:
    free(args.cells);
    return st;
}

lips_status lips_sweep_run(const lips_sweep_args *a)
{
    lips_forecast plan = {0};
    lips_devices devices;
    lips_watchdog *watchdog = NULL;
    lips_watched watched;
    lips_datasets *sets = NULL;
    int lock = -1;
    bool exists = false;
    lips_status st;
    LIPS_TRY_GOTO(st, lips_signals_install(), out);
    /* First whether the folder is free: that must not wait for the data. A folder that is not there
     * is only made once the settings are known to work. */
    if (!a->dry_run && lips_file_exists(a->experiment->base.out))
        LIPS_TRY_GOTO(st, lips_output_lock(a->experiment, &lock), out);
    LIPS_TRY_GOTO(st, lips_output_check(a->experiment, &exists), out);
    LIPS_TRY_GOTO(st, lips_watchdog_start(&watchdog, a->experiment->base.hang_seconds), out);
    lips_watchdog_enter(watchdog, &watched, "planning the sweep");
    LIPS_TRY_GOTO(st, lips_devices_find(&devices, a->experiment), out);
    LIPS_TRY_GOTO(st, lips_datasets_create(&sets), out);
    LIPS_TRY_GOTO(st, lips_forecast_create(&plan, a->experiment, &devices, sets), out);
    if (a->dry_run) {
        LIPS_TRY_GOTO(st, lips_sweep_dry_run(&plan, a->json), out);
        goto out;
    }
    lips_watchdog_leave(watchdog, &watched);
    if (lock < 0)
        LIPS_TRY_GOTO(st, lips_output_lock(a->experiment, &lock), out);
    st = run_cells(a, &plan, sets, watchdog, exists);
    if (a->finish && (st == LIPS_OK || st == LIPS_ERR_PARTIAL))
        st = a->finish(a->experiment->base.out, st);
out:
    lips_watch_use(NULL);
    lips_watchdog_stop(watchdog);
    if (lock >= 0)
        lips_lock_release(lock);
    lips_forecast_free(&plan);
    lips_datasets_free(sets);
    return st;
}
