#include "backend/backend.h"

#include <string.h>

extern const lips_ops lips_ref_ops;
extern const lips_ops lips_cpu_ops;

const lips_ops *const lips_backends[] = {&lips_ref_ops, &lips_cpu_ops, NULL};

const lips_ops *lips_backend_find(const char *name)
{
    for (int i = 0; lips_backends[i]; i++)
        if (strcmp(lips_backends[i]->name, name) == 0)
            return lips_backends[i];
    return NULL;
}
