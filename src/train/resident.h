/*
 * train/resident.h - a data set in a device's memory, read only, for all trainers on that device.
 *
 * Each trainer has a handle of its own, and memory belongs to one handle: the resident set has its
 * own, too, and is complete in memory when it has been created.
 */
#ifndef LIPS_TRAIN_RESIDENT_H
#define LIPS_TRAIN_RESIDENT_H

#include "backend/backend.h"
#include "data/data.h"

typedef struct lips_resident lips_resident;

/* Of device memory; 0 where the backend does not gather: then a resident set is empty. */
size_t lips_resident_bytes(const lips_dataset *d, const lips_backend *be);

/* be: the handle that the memory belongs to, the caller's, outlives the set. */
lips_status lips_resident_create(lips_resident **out, const lips_dataset *d, lips_backend *be);
/* No trainer uses it any more. */
void lips_resident_free(lips_resident *r);

#endif
