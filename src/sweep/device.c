#include "sweep/device.h"

#include "config/options.h"

#include <stdio.h>
#include <string.h>

/* An emulated device is for tests: who runs an experiment on it must have said so. */
static lips_status refuse_emulated(const lips_experiment *e, const char *name)
{
    lips_device d;
    const lips_ops *ops = lips_backend_find(name);
    if (e->base.emulated || !ops || ops->probe(&d, (int)e->base.device) != LIPS_OK || !d.emulated)
        return LIPS_OK;
    return lips_fail(LIPS_ERR_USAGE,
                     "backend: %s is an emulated device, for tests; emulated=true runs on it",
                     name);
}

lips_status lips_experiment_resolve_backend(lips_experiment *e)
{
    const lips_ops *ops;
    int row = lips_option_find("backend");
    for (int a = 0; a < e->n_axes; a++)
        for (int64_t i = 0; e->axes[a].key == row && i < e->axes[a].count; i++) {
            if (strcmp(e->axes[a].values[i], "auto") == 0)
                return lips_fail(LIPS_ERR_USAGE,
                                 "backend: auto cannot be one of several values: name them");
            LIPS_TRY(refuse_emulated(e, e->axes[a].values[i]));
        }
    LIPS_TRY(refuse_emulated(e, e->base.backend));
    if (strcmp(e->base.backend, "auto") != 0)
        return LIPS_OK;
    LIPS_TRY(lips_backend_choose(&ops, "auto", (int)e->base.device));
    snprintf(e->base.backend, sizeof e->base.backend, "%s", ops->name);
    return LIPS_OK;
}

lips_status lips_device_open(lips_backend **out, const lips_config *cfg)
{
    const lips_ops *ops;
    *out = NULL;
    LIPS_TRY(lips_backend_choose(&ops, cfg->backend, (int)cfg->device));
    LIPS_TRY(ops->open(out, (int)cfg->device));
    lips_status st = lips_backend_arithmetic(*out, &(lips_arithmetic){.forward = cfg->precision,
                                                                      .backward = cfg->precision,
                                                                      .conv = cfg->cuda_conv,
                                                                      .linear = cfg->cuda_linear});
    if (st == LIPS_OK)
        return LIPS_OK;
    ops->close(*out);
    *out = NULL;
    return lips_fail_prefix(st, "precision: ");
}

static double host_memory(void)
{
    char line[128];
    double kilobytes = 0, value;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lf kB", &value) == 1 ||
            sscanf(line, "SwapFree: %lf kB", &value) == 1)
            kilobytes += value;
    if (f)
        fclose(f);
    return kilobytes > 0 ? kilobytes * 1024 : 1e300;
}

double lips_memory_available(const lips_ops *ops, int device)
{
    lips_device d;
    if (ops && ops->probe(&d, device) == LIPS_OK && d.bytes > 0)
        return (double)d.bytes_free;
    return host_memory();
}
