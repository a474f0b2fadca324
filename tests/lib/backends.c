#include "backends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool usable(const lips_ops *ops)
{
    static const lips_ops *skipped; /* so that it is said once */
    lips_device d;
    if (ops->probe(&d, 0) == LIPS_OK)
        return true;
    if (skipped != ops)
        fprintf(stderr, "SKIP %s: %s\n", ops->name, lips_error());
    skipped = ops;
    return false;
}

const lips_ops *tested_backend(int i)
{
    const char *only = getenv("LIPS_TEST_BACKEND");
    if (only) {
        const lips_ops *ops = lips_backend_find(only);
        if (!ops || !usable(ops)) {
            fprintf(stderr, "LIPS_TEST_BACKEND=%s: %s\n", only, ops ? lips_error() : "none");
            exit(1);
        }
        return i == 0 ? ops : NULL;
    }
    for (int k = 0; lips_backends[k]; k++)
        if (usable(lips_backends[k]) && i-- == 0)
            return lips_backends[k];
    return NULL;
}

const char *tested_fast(void)
{
    const char *only = getenv("LIPS_TEST_BACKEND");
    return only ? only : "cpu";
}

int64_t tested_samples(const char *backend, int64_t n, int64_t few)
{
    return backend_is_slow(lips_backend_find(backend)) ? few : n;
}

bool backend_is_emulated(const lips_ops *ops)
{
    lips_device d;
    return ops->probe(&d, 0) == LIPS_OK && d.emulated;
}

bool backend_is_slow(const lips_ops *ops)
{
    return backend_is_emulated(ops) || getenv("LIPS_TEST_FEW");
}
