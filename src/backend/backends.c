#include "backend/backend.h"

#include <string.h>

extern const lips_ops lips_ref_ops;
extern const lips_ops lips_cpu_ops;

#ifdef LIPS_CUDA /* the one place that knows whether it is compiled in */
extern const lips_ops lips_cuda_ops;
const lips_ops *const lips_backends[] = {&lips_ref_ops, &lips_cpu_ops, &lips_cuda_ops, NULL};
#else
const lips_ops *const lips_backends[] = {&lips_ref_ops, &lips_cpu_ops, NULL};
#endif

const lips_ops *lips_backend_find(const char *name)
{
    for (int i = 0; lips_backends[i]; i++)
        if (strcmp(lips_backends[i]->name, name) == 0)
            return lips_backends[i];
    return NULL;
}
