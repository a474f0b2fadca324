/*
 * tests/lib/backends.h - the backends that tests run on: those that are compiled in and whose device
 * is there (a skipped one is named once), or the one that the environment variable
 * LIPS_TEST_BACKEND names, which must then be usable.
 */
#ifndef LIPS_TESTS_BACKENDS_H
#define LIPS_TESTS_BACKENDS_H

#include "backend/backend.h"

/* The i-th of them; NULL past the last. */
const lips_ops *tested_backend(int i);

/* Does it run on an emulated device? Then it is slow, and tests do less. */
bool backend_is_emulated(const lips_ops *ops);

#endif
