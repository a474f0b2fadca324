/* lipsweep sweep CONFIG.yaml: every cell, then the report. */
#include "base/log.h"
#include "base/signals.h"
#include "cli/cli.h"
#include "report/report.h"
#include "sweep/device.h"
#include "sweep/sweep.h"

#include <stdio.h>
#include <string.h>

static const lips_flag flags[] = {
    {"dry-run", NULL, "only list the cells and estimate time, memory and disk"},
    {"retry-failed", NULL, "run cells again that are recorded as failed"},
    {"json", NULL, "with --dry-run: JSON"},
    {0},
};

/* Builds the report of a finished sweep. A partial sweep has one too and stays partial. */
static lips_status report(const char *out, lips_status swept)
{
    char page[LIPS_PATH_MAX], partial[1024];
    snprintf(partial, sizeof partial, "%s", swept == LIPS_OK ? "" : lips_error());
    LIPS_TRY(lips_report_build(out, page));
    printf("%s\n", page);
    return swept == LIPS_OK ? LIPS_OK : lips_fail(swept, "%s", partial);
}

static lips_status run(const lips_args *a)
{
    lips_experiment e;
    LIPS_TRY(lips_args_experiment(a, &e, false));
    bool restart = false;
    lips_status st = lips_experiment_resolve_backend(&e);
    const lips_sweep_args sweep = {.experiment = &e,
                                   .dry_run = lips_args_has(a, "dry-run"),
                                   .json = lips_args_has(a, "json"),
                                   .retry_failed = lips_args_has(a, "retry-failed"),
                                   .finish = report,
                                   .restart = &restart};
    if (st != LIPS_OK)
        goto out;
    if (sweep.json && !sweep.dry_run)
        st = lips_fail(LIPS_ERR_USAGE, "sweep: --json goes with --dry-run; "
                                       "results are in OUT/results.csv");
    else
        LIPS_TRY_GOTO(st, lips_signals_install(), out);
    if (st == LIPS_OK)
        st = lips_sweep_run(&sweep);
out:
    lips_experiment_free(&e);
    return restart ? lips_args_restart(a) : st;
}

const lips_command lips_command_sweep = {
    .name = "sweep",
    .usage = "CONFIG.yaml [key=value...] [options]",
    .summary = "trains and measures every cell of a configuration, then writes the report",
    .details =
        "Killed at any moment, the same command goes on where it was: finished cells are kept,\n"
        "others resume from their last checkpoint with the same results to the bit.\n"
        "Prints the path of the report.",
    .flags = flags,
    .keys = true,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
