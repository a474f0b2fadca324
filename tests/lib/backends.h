/*
 * tests/lib/backends.h - the backends that tests run on: those that are compiled in and whose
 * device is there (a skipped one is named once), or the one that the environment variable
 * LIPS_TEST_BACKEND names, which must then be usable.
 */
#ifndef LIPS_TESTS_BACKENDS_H
#define LIPS_TESTS_BACKENDS_H

#include "backend/backend.h"

/* The i-th of them; NULL past the last. */
const lips_ops *tested_backend(int i);

/* Name of the float32 backend that whole measurements are tested on: cpu, or the environment's; and
 * n of its samples, or the few that a slow one gets. */
const char *tested_fast(void);
int64_t tested_samples(const char *backend, int64_t n, int64_t few);

bool backend_is_emulated(const lips_ops *ops);

/* Is it so slow that tests should do less? An emulated device, or LIPS_TEST_FEW is set: something
 * watches every access. */
bool backend_is_slow(const lips_ops *ops);

#endif
