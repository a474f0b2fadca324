/* lipsweep status OUT: how far a sweep is, from any shell. */
#include "cli/cli.h"
#include "sweep/sweep.h"

static const lips_flag flags[] = {{"json", NULL, "JSON instead of a table"}, {0}};

static lips_status run(const lips_args *a)
{
    return lips_sweep_status(a->positional[0], lips_args_has(a, "json"));
}

const lips_command lips_command_status = {
    .name = "status",
    .usage = "OUT [--json]",
    .summary = "shows how far a sweep is: cells done, running, failed, waiting",
    .flags = flags,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
