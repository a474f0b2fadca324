/* cpu/train.c - losses and optimiser steps. */
#include "backend/cpu/ops.h"
#include "backend/host.h"

/* 1/2 |z - y|^2 of sample i: the few outputs of a regression, plain loops in f64. */
static void squared_error(const lips_loss_args *a, int64_t i)
{
    int64_t k_max = a->z.c, lanes = a->z.lanes;
    const float *z = lips_cpu_slab(&a->z, i / lanes) + i % lanes;
    float *dz = a->dz ? lips_cpu_slab(a->dz, i / lanes) + i % lanes : NULL;
    double sum = 0;
    int64_t best = 0;
    for (int64_t k = 0; k < k_max; k++) {
        if (z[k * lanes] > z[best * lanes])
            best = k;
        if (!a->loss && !dz)
            continue;
        double want = a->targets ? (double)a->targets[i * k_max + k] : a->labels[i] == k;
        double diff = (double)z[k * lanes] - want;
        sum += diff * diff;
        if (dz)
            dz[k * lanes] = (float)(a->scale * diff);
    }
    if (a->loss)
        a->loss[i] = sum / 2;
    if (a->pred)
        a->pred[i] = best;
}

/* dz = 0 in the unused lanes of the last slab. */
static void clear_unused(const lips_tensor *dz)
{
    int64_t s = lips_cpu_slabs(dz) - 1;
    for (int64_t k = 0; k < dz->c; k++)
        for (int64_t l = lips_cpu_slab_samples(dz, s); l < dz->lanes; l++)
            lips_cpu_slab(dz, s)[k * dz->lanes + l] = 0;
}

lips_status lips_cpu_loss(lips_backend *be, const lips_loss_args *a)
{
    LIPS_TRY(lips_check_loss(a));
    if (a->rows)
        return lips_fail(LIPS_ERR_UNSUPPORTED, "loss: cpu keeps no rows of data sets");
    LIPS_TRY(lips_cpu_layout("loss", &a->z));
    for (int64_t i = 0; a->kind == LIPS_LOSS_MSE && i < a->z.b; i++)
        squared_error(a, i);
    for (int64_t i = 0; a->kind == LIPS_LOSS_CROSS_ENTROPY && i < a->z.b; i += LIPS_CPU_LANES) {
        int64_t s = i / a->z.lanes, lane = i % a->z.lanes, left = a->z.b - i;
        lips_cpu_k(be)->cross_entropy(&(lips_cpu_ce){
            .z = lips_cpu_slab(&a->z, s) + lane,
            .dz = a->dz ? lips_cpu_slab(a->dz, s) + lane : NULL,
            .stride = a->z.lanes,
            .classes = a->z.c,
            .samples = left < LIPS_CPU_LANES ? left : LIPS_CPU_LANES,
            .labels = a->loss || a->dz ? a->labels + i : NULL,
            .loss = a->loss ? a->loss + i : NULL,
            .pred = a->pred ? a->pred + i : NULL,
            .scale = a->scale,
        });
    }
    if (a->dz)
        clear_unused(a->dz);
    return LIPS_OK;
}

lips_status lips_cpu_sgd(lips_backend *be, const lips_sgd_args *a)
{
    lips_sgd_args now = *a;
    LIPS_TRY(lips_check_sgd(a));
    if (lips_host_sgd_now(&now))
        lips_cpu_k(be)->sgd(&now);
    return LIPS_OK;
}

lips_status lips_cpu_adam(lips_backend *be, const lips_adam_args *a)
{
    lips_adam_args now = *a;
    LIPS_TRY(lips_check_adam(a));
    if (lips_host_adam_now(&now))
        lips_cpu_k(be)->adam(&now);
    return LIPS_OK;
}
