/* sweep/output.h - the output folder: its lock, its experiment, its cells' folders. */
#ifndef LIPS_SWEEP_OUTPUT_H
#define LIPS_SWEEP_OUTPUT_H

#include "config/config.h"

#include <stdbool.h>

/* Creates the folder if need be and takes its lock. *lock: for lips_lock_release. */
lips_status lips_output_lock(const lips_experiment *e, int *lock);

/* Is there a sweep in OUT, and may e continue it? *exists: OUT/sweep.yaml is there. Changes
 * nothing. LIPS_ERR_USAGE: a key that changes results has lost a value; the text names it and both
 * values. */
lips_status lips_output_check(const lips_experiment *e, bool *exists);

/* Makes the locked folder e's: check, folders, sweep.yaml. */
lips_status lips_output_take(const lips_experiment *e);

/* OUT/cells/NAME of a cell. */
lips_status lips_output_cell_dir(const lips_experiment *e, const lips_config *cell, char *buf,
                                 size_t size);

#endif
