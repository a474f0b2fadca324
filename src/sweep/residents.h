/* sweep/residents.h - data sets in devices' memory: one copy on a device, read by all of its cells.
 */
#ifndef LIPS_SWEEP_RESIDENTS_H
#define LIPS_SWEEP_RESIDENTS_H

#include "train/resident.h"

typedef struct lips_residents lips_residents;

lips_status lips_residents_create(lips_residents **out);
void lips_residents_free(lips_residents *s); /* nothing may be in use */

/* *out holds what d holds and stays until it is put back; the first to ask for a content on a
 * device loads it. Thread-safe. */
lips_status lips_residents_get(lips_residents *s, const lips_dataset *d, const lips_ops *ops,
                               int device, const lips_resident **out);
/* NULL: nothing. The last to put a set back frees its memory. */
void lips_residents_put(lips_residents *s, const lips_resident *r);

#endif
