#include "backend/backend.h"

#include "base/log.h"

#include <stdio.h>
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

static lips_status unknown(const char *name)
{
    char known[128] = "";
    for (int i = 0; lips_backends[i]; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s, ",
                 lips_backends[i]->name);
    if (strcmp(name, "cuda") == 0)
        return lips_fail(LIPS_ERR_UNSUPPORTED,
                         "backend cuda: this program was built without it (make CUDA=1)");
    return lips_fail(LIPS_ERR_USAGE, "backend must be one of %sauto, not '%.40s'", known, name);
}

static const lips_ops *choose_auto(int device)
{
    const lips_ops *cuda = lips_backend_find("cuda"), *cpu = lips_backend_find("cpu");
    lips_device d;
    if (!cuda)
        lips_info("backend auto: cpu (built without cuda)");
    else if (cuda->probe(&d, device) != LIPS_OK)
        lips_info("backend auto: cpu (%s)", lips_error());
    else if (d.emulated)
        lips_info("backend auto: cpu (the CUDA device is an emulated one)");
    else {
        lips_info("backend auto: cuda, %s", d.name);
        return cuda;
    }
    lips_error_clear();
    return cpu;
}

lips_status lips_backend_choose(const lips_ops **out, const char *name, int device)
{
    lips_device d;
    if (strcmp(name, "auto") == 0) {
        *out = choose_auto(device);
        return LIPS_OK;
    }
    *out = lips_backend_find(name);
    return *out ? (*out)->probe(&d, device) : unknown(name);
}

lips_status lips_backend_label(const char **out, const lips_ops *ops, int device)
{
    lips_device d;
    *out = ops->name;
    LIPS_TRY(ops->probe(&d, device));
    if (d.emulated)
        *out = "emulated";
    return LIPS_OK;
}

static const char *const precision_labels[3][3] = {{"float32", "float32/tf32", "float32/bf16"},
                                                   {"tf32/float32", "tf32", "tf32/bf16"},
                                                   {"bf16/float32", "bf16/tf32", "bf16"}};

const char *lips_precision_label(const lips_ops *ops, lips_precision forward,
                                 lips_precision backward)
{
    return ops->real_bytes == 8 ? "float64" : precision_labels[forward][backward];
}

lips_status lips_backend_arithmetic(lips_backend *be, const lips_arithmetic *a)
{
    const lips_ops *ops = be->ops;
    if (ops->set_precision)
        LIPS_TRY(ops->set_precision(be, a->forward, a->backward));
    else if (a->forward != LIPS_PRECISION_F32 || a->backward != LIPS_PRECISION_F32)
        return lips_fail(LIPS_ERR_USAGE, "backend %s computes in %s only, not in %s", ops->name,
                         lips_precision_label(ops, LIPS_PRECISION_F32, LIPS_PRECISION_F32),
                         precision_labels[a->forward][a->backward]);
    return ops->set_libraries ? ops->set_libraries(be, a->conv, a->linear) : LIPS_OK;
}
