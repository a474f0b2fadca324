/*
 * measure/handles.h - open handles on a backend's device that measurements take and give back: a
 * handle's stream, its libraries and its staging are made once for all measurements of a cell, not
 * for each. Safe for several threads.
 */
#ifndef LIPS_MEASURE_HANDLES_H
#define LIPS_MEASURE_HANDLES_H

#include "backend/backend.h"

typedef struct lips_handles lips_handles;

/* choices: file of the backend's measured choices (keep_choices), copied; NULL: none. Opens nothing
 * yet. */
lips_status lips_handles_create(lips_handles **out, const lips_ops *ops, int device,
                                const char *choices);
/* Every handle has been given back. */
void lips_handles_free(lips_handles *h);

/* One of those given back, whose arithmetic and own memory are as it was left, or a new one. */
lips_status lips_handles_take(lips_handles *h, lips_backend **out);
/* All memory that was allocated on it is released. Accepts NULL. */
void lips_handles_give(lips_handles *h, lips_backend *be);

#endif
