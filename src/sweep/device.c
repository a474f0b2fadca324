#include "sweep/device.h"

#include "base/log.h"
#include "config/options.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

/* Is there a device of this backend among those that e may run on? LIPS_OK: *first is the first
 * that can be used. */
static lips_status first_usable(const lips_ops *ops, const lips_experiment *e, int *first)
{
    lips_device_list wanted;
    lips_device d;
    LIPS_TRY(lips_devices_read(&wanted, e->base.device));
    *first = wanted.n ? wanted.at[0] : 0;
    lips_status st = ops->probe(&d, *first);
    if (wanted.n || st == LIPS_OK || d.count < 2)
        return st;
    char why[1024]; /* of device 0, if no other one can be used */
    snprintf(why, sizeof why, "%s", lips_error());
    for (int i = 1, n = d.count; i < n; i++)
        if (ops->probe(&d, i) == LIPS_OK) {
            lips_error_clear();
            *first = i;
            return LIPS_OK;
        }
    return lips_fail(st, "%s", why);
}

/* An emulated device is for tests: who runs an experiment on it must have said so. */
static lips_status refuse_emulated(const lips_experiment *e, const char *name)
{
    lips_device d;
    int first;
    const lips_ops *ops = lips_backend_find(name);
    if (e->base.emulated || !ops || first_usable(ops, e, &first) != LIPS_OK ||
        ops->probe(&d, first) != LIPS_OK || !d.emulated)
        return LIPS_OK;
    return lips_fail(LIPS_ERR_USAGE,
                     "backend: %s is an emulated device, for tests; emulated=true runs on it",
                     name);
}

lips_status lips_experiment_resolve_backend(lips_experiment *e)
{
    const lips_ops *ops, *cuda = lips_backend_find("cuda");
    int row = lips_option_find("backend"), first = 0;
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
    if (cuda && first_usable(cuda, e, &first) != LIPS_OK)
        lips_error_clear();
    LIPS_TRY(lips_backend_choose(&ops, "auto", first));
    snprintf(e->base.backend, sizeof e->base.backend, "%s", ops->name);
    return LIPS_OK;
}

/* Of the backends that e uses, the one with devices of its own; else the host's. */
static const lips_ops *backend_with_devices(const lips_experiment *e)
{
    const int row = lips_option_find("backend");
    const char *name = e->base.backend;
    for (int a = 0; a < e->n_axes; a++)
        for (int64_t i = 0; e->axes[a].key == row && i < e->axes[a].count; i++)
            if (i == 0 || strcmp(e->axes[a].values[i], "cuda") == 0)
                name = e->axes[a].values[i];
    return lips_backend_find(name);
}

static lips_status find_all(lips_devices *out)
{
    lips_device d;
    char why[1024] = "";
    lips_status st = out->ops->probe(&d, 0), first = st;
    const int count = d.count;
    for (int i = 0; i == 0 || i < count; i++) {
        st = i == 0 ? st : out->ops->probe(&d, i);
        if (st == LIPS_OK && out->n == LIPS_DEVICES_MAX)
            return lips_fail(LIPS_ERR_USAGE, "device: all are %d here, more than %d: name some",
                             count, LIPS_DEVICES_MAX);
        if (st == LIPS_OK)
            out->at[out->n++] = i;
        else if (i == 0)
            snprintf(why, sizeof why, "%s", lips_error());
        if (st != LIPS_OK && count > 1)
            lips_warn("device %d is left out: %s", i, lips_error());
    }
    if (out->n == 0)
        return lips_fail(first, "%s", why);
    lips_error_clear();
    return LIPS_OK;
}

static lips_status check_counts(const lips_devices *d, const lips_config *c)
{
    const long long most = (long long)c->cells_per_device * d->n;
    if (c->jobs > 0 && c->cells_per_device > 0 && c->jobs > most)
        return lips_fail(
            LIPS_ERR_USAGE,
            "jobs: %lld is more than cells_per_device %lld on %d device%s: give one of "
            "the two",
            (long long)c->jobs, (long long)c->cells_per_device, d->n, d->n == 1 ? "" : "s");
    return LIPS_OK;
}

lips_status lips_devices_find(lips_devices *out, const lips_experiment *e)
{
    lips_device_list wanted;
    lips_device d;
    *out = (lips_devices){.ops = backend_with_devices(e), .n = 1};
    LIPS_TRY(lips_devices_read(&wanted, e->base.device));
    if (!out->ops || strcmp(out->ops->name, "cuda") != 0)
        return LIPS_OK; /* a name that is unknown is refused where it is opened */
    out->own = true;
    out->n = 0;
    if (wanted.n == 0)
        LIPS_TRY(find_all(out));
    for (int i = 0; i < wanted.n; i++) {
        LIPS_TRY(out->ops->probe(&d, wanted.at[i]));
        out->at[out->n++] = wanted.at[i];
    }
    return check_counts(out, &e->base);
}

int64_t lips_sweep_jobs(const lips_config *cfg, const lips_devices *d)
{
    cpu_set_t set;
    if (cfg->jobs > 0)
        return cfg->jobs;
    if (cfg->cells_per_device > 0)
        return cfg->cells_per_device * d->n;
    const int64_t cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return cores > d->n ? cores : d->n;
}

lips_status lips_device_open(lips_backend **out, const lips_config *cfg, int device)
{
    const lips_ops *ops;
    *out = NULL;
    LIPS_TRY(lips_backend_choose(&ops, cfg->backend, device));
    LIPS_TRY(ops->open(out, device));
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
