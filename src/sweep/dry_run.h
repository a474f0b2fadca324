/* sweep/dry_run.h - the plan as a table or as JSON on stdout. */
#ifndef LIPS_SWEEP_DRY_RUN_H
#define LIPS_SWEEP_DRY_RUN_H

#include "sweep/forecast.h"

/* A table of the first cells and the totals; with json every cell. */
lips_status lips_sweep_dry_run(const lips_forecast *p, bool json);

#endif
