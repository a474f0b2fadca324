/* sweep/datasets.h - data sets in memory, loaded once and shared, read only, by the cells that use
 * them. */
#ifndef LIPS_SWEEP_DATASETS_H
#define LIPS_SWEEP_DATASETS_H

#include "config/config.h"

typedef struct lips_datasets lips_datasets;

lips_status lips_datasets_create(lips_datasets **out);
void lips_datasets_free(lips_datasets *s); /* nothing may be in use */

/* From now on each set's content hash is compared with the one noted in path (a JSON file, which is
 * extended by new sets): another content is LIPS_ERR_DATA. Sets that are loaded already are checked
 * at once. */
lips_status lips_datasets_guard(lips_datasets *s, const char *path);

/* *out stays valid until it is put back. Thread-safe; the first to ask for a set loads it. */
lips_status lips_datasets_get(lips_datasets *s, const lips_config *cfg, const lips_dataset **out);
void lips_datasets_put(lips_datasets *s, const lips_dataset *d);

/* A number that stands for the set that cfg asks for. */
uint64_t lips_datasets_name(const lips_config *cfg);

size_t lips_dataset_bytes(const lips_dataset *d);

#endif
