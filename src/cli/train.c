/* lipsweep train [CONFIG.yaml] key=value...: one cell. */
#include "base/file.h"
#include "base/signals.h"
#include "cli/cli.h"
#include "config/options.h"
#include "sweep/device.h"
#include "sweep/sweep.h"

#include <stdio.h>
#include <string.h>

static const lips_flag flags[] = {
    {"retry-failed", NULL, "run the cell again if it is recorded as failed"},
    {0},
};

static lips_status check_single(const lips_experiment *e)
{
    const lips_option *options;
    lips_options(&options);
    if (e->n_axes == 0)
        return LIPS_OK;
    return lips_fail(
        LIPS_ERR_USAGE,
        "train runs one cell, but %s has %lld values: choose one (%s=...) or use sweep",
        options[e->axes[0].key].name, (long long)e->axes[0].count, options[e->axes[0].key].name);
}

static lips_status run(const lips_args *a)
{
    lips_experiment e;
    bool restart = false;
    char name[LIPS_CELL_NAME_MAX], dir[LIPS_PATH_MAX];
    LIPS_TRY(lips_args_experiment(a, &e, true));
    lips_status st;
    LIPS_TRY_GOTO(st, check_single(&e), out);
    LIPS_TRY_GOTO(st, lips_experiment_resolve_backend(&e), out);
    LIPS_TRY_GOTO(st, lips_experiment_cell_name(&e, &e.base, name, sizeof name), out);
    /* Each cell has a folder of its own, so that the next one does not meet other settings there.
     */
    if (!e.base.out[0])
        snprintf(e.base.out, sizeof e.base.out, "out/train/%s", name);
    if (!e.base.name[0])
        snprintf(e.base.name, sizeof e.base.name, "%s", name);
    LIPS_TRY_GOTO(st, lips_signals_install(), out);
    const lips_sweep_args sweep = {
        .experiment = &e, .retry_failed = lips_args_has(a, "retry-failed"), .restart = &restart};
    LIPS_TRY_GOTO(st, lips_sweep_run(&sweep), out);
    LIPS_TRY_GOTO(st, lips_path(dir, sizeof dir, "%s/cells/%s", e.base.out, name), out);
    printf("%s\n", dir);
out:
    lips_experiment_free(&e);
    return restart ? lips_args_restart(a) : st;
}

const lips_command lips_command_train = {
    .name = "train",
    .usage = "[CONFIG.yaml] [key=value...] [options]",
    .summary = "trains and measures one cell",
    .details =
        "Without out= it is written to out/train/<name of the cell>. Prints the cell's folder: "
        "metrics.jsonl\nand the weights are there. Killed, the same command goes on.",
    .flags = flags,
    .keys = true,
    .min_args = 0,
    .max_args = 1,
    .run = run,
};
