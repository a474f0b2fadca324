/* lipsweep report OUT: tables, figures and page again, from the cells. */
#include "cli/cli.h"
#include "report/report.h"

#include <stdio.h>

static lips_status run(const lips_args *a)
{
    char page[LIPS_PATH_MAX];
    LIPS_TRY(lips_report_build(a->positional[0], page));
    printf("%s\n", page);
    return LIPS_OK;
}

const lips_command lips_command_report = {
    .name = "report",
    .usage = "OUT",
    .summary = "rebuilds results.csv, results.sqlite, figures and page of an output folder",
    .details =
        "Works on a sweep that is not finished, also while it runs. Prints the path of the page.",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
