/* cuda/train.c - losses and optimiser steps. */
#include "backend/rows.h"

#include "backend/cuda/ops.h"
#include "kernels/loss.h"
#include "kernels/optimizer.h"

#include <math.h>
#include <string.h>

/* Labels or targets that lie with the rows. */
static void find_wanted(const lips_loss_args *a, lips_cuda_loss_args *k)
{
    const char *memory = a->rows->memory;
    if (a->kind == LIPS_LOSS_MSE && a->rows->targets)
        k->targets = (const float *)(const void *)(memory + lips_rows_targets_at(a->rows));
    else
        k->labels = (const int64_t *)(const void *)(memory + lips_rows_labels_at(a->rows));
    k->order = a->order;
    k->cursor = a->cursor;
    k->first = a->first;
}

/* Labels or targets, whichever the loss reads, in device scratch. */
static lips_status put_wanted(lips_cuda *h, const lips_loss_args *a, lips_cuda_loss_args *k)
{
    bool squared = a->kind == LIPS_LOSS_MSE;
    const void *host = squared && a->targets ? (const void *)a->targets : a->labels;
    if ((!a->loss && !a->dz) || !host)
        return LIPS_OK;
    size_t bytes = host == a->targets ? (size_t)(a->z.b * a->z.c) * sizeof *a->targets
                                      : (size_t)a->z.b * sizeof *a->labels;
    lips_cuda_slot *slot;
    void *device;
    LIPS_TRY(lips_cuda_scratch(h, bytes, &device));
    LIPS_TRY(lips_cuda_stage(h, bytes, &slot));
    memcpy(slot->host, host, bytes);
    LIPS_TRY(lips_cuda_stage_put(h, slot, device, bytes));
    k->targets = host == a->targets ? device : NULL;
    k->labels = host == a->targets ? NULL : device;
    return LIPS_OK;
}

lips_status cuda_op_loss(lips_backend *be, const lips_loss_args *a)
{
    lips_cuda *h;
    void *pred;
    double *loss;
    LIPS_TRY(lips_check_loss(a));
    LIPS_TRY(lips_cuda_layout("loss", &a->z));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(lips_cuda_f64(h, "loss", a->loss, a->z.b, &loss));
    LIPS_TRY(lips_cuda_shared(h, "loss", a->pred, a->z.b, &pred));
    lips_cuda_loss_args k = {.squared = a->kind == LIPS_LOSS_MSE,
                             .z = a->z.data,
                             .b = a->z.b,
                             .cap = a->dz ? a->dz->cap : a->z.b,
                             .k = a->z.c,
                             .loss = loss,
                             .pred = pred,
                             .dz = a->dz ? a->dz->data : NULL,
                             .scale = a->scale};
    if (a->rows)
        find_wanted(a, &k);
    else
        LIPS_TRY(put_wanted(h, a, &k));
    return lips_cuda_loss(&k, h->stream);
}

lips_status cuda_op_sgd(lips_backend *be, const lips_sgd_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_sgd(a));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_sgd(&(lips_cuda_sgd_step){.p = a->p,
                                               .g = a->g,
                                               .m = a->momentum != 0 ? a->m : NULL,
                                               .n = a->n,
                                               .lr = (float)a->lr,
                                               .momentum = (float)a->momentum,
                                               .weight_decay = (float)a->weight_decay,
                                               .cursor = a->cursor},
                         h->stream);
}

lips_status cuda_op_adam(lips_backend *be, const lips_adam_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_adam(a));
    LIPS_TRY(lips_cuda_enter(be, &h));
    double correction1 = 1 - pow(a->beta1, (double)a->step),
           correction2 = 1 - pow(a->beta2, (double)a->step);
    return lips_cuda_adam(&(lips_cuda_adam_step){.p = a->p,
                                                 .g = a->g,
                                                 .m = a->m,
                                                 .v = a->v,
                                                 .n = a->n,
                                                 .weight_decay = (float)a->weight_decay,
                                                 .beta1 = (float)a->beta1,
                                                 .rest1 = (float)(1 - a->beta1),
                                                 .beta2 = (float)a->beta2,
                                                 .rest2 = (float)(1 - a->beta2),
                                                 .rate = (float)(a->lr / correction1),
                                                 .inv_root = (float)(1 / sqrt(correction2)),
                                                 .eps = (float)a->eps,
                                                 .cursor = a->cursor},
                          h->stream);
}

lips_status cuda_op_advance(lips_backend *be, const lips_advance_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_advance(a));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_advance(&(lips_cuda_advance_args){.cursor = a->cursor,
                                                       .loss = a->loss,
                                                       .b = a->b,
                                                       .g = a->g,
                                                       .n = a->n,
                                                       .buffers = a->buffers,
                                                       .kept = a->kept,
                                                       .n_buffers = a->n_buffers,
                                                       .loss_watch = a->loss_watch,
                                                       .grad_max = a->grad_max,
                                                       .beta1 = a->beta1,
                                                       .beta2 = a->beta2},
                             h->stream);
}
