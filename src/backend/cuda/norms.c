/* cuda: norms from small Gram matrices. */
#include "backend/cuda/ops.h"
#include "kernels/norms.h"

#include <string.h>

/* The device's side of shared memory, or a copy in the scratch of what only the host has. */
static lips_status vectors(lips_cuda *h, const double *p, int64_t n, const double **device)
{
    const size_t bytes = (size_t)n * sizeof *p;
    double *at = NULL;
    lips_cuda_slot *slot = NULL;
    void *scratch = NULL;
    LIPS_TRY(lips_cuda_f64(h, "norms", (void *)(size_t)p, n, &at));
    *device = at;
    if (at != p)
        return LIPS_OK;
    LIPS_TRY(lips_cuda_scratch(h, bytes, &scratch));
    LIPS_TRY(lips_cuda_stage(h, bytes, &slot));
    memcpy(slot->host, p, bytes);
    LIPS_TRY(lips_cuda_stage_put(h, slot, scratch, bytes));
    *device = scratch;
    return LIPS_OK;
}

lips_status cuda_op_norms(lips_backend *be, const lips_norms_args *a)
{
    static const lips_cuda_norms_map maps[] = {[LIPS_MAP_PLAIN] = LIPS_CUDA_NORMS_PLAIN,
                                               [LIPS_MAP_SOFTMAX] = LIPS_CUDA_NORMS_SOFTMAX,
                                               [LIPS_MAP_LOG_SOFTMAX] = LIPS_CUDA_NORMS_LOG_SOFTMAX,
                                               [LIPS_MAP_VECTOR] = LIPS_CUDA_NORMS_VECTOR,
                                               [LIPS_MAP_TRACE] = LIPS_CUDA_NORMS_TRACE};
    lips_cuda *h;
    double *g = NULL;
    const double *p = NULL;
    void *op = NULL, *fro = NULL;
    LIPS_TRY(lips_check_norms(a));
    LIPS_TRY(lips_cuda_enter(be, &h));
    const int64_t rows = a->rows ? a->rows : a->n;
    LIPS_TRY(lips_cuda_f64(h, "norms", (void *)(size_t)a->g, a->n * a->k * a->k, &g));
    LIPS_TRY(lips_cuda_shared(h, "norms", a->op, a->n, &op));
    LIPS_TRY(lips_cuda_shared(h, "norms", a->fro, a->n, &fro));
    if (a->map != LIPS_MAP_PLAIN)
        LIPS_TRY(vectors(h, a->p, rows * a->k, &p));
    return lips_cuda_norms(&(lips_cuda_norms_args){.op = op,
                                                   .fro = fro,
                                                   .g = g,
                                                   .p = p,
                                                   .rows = rows,
                                                   .n = a->n,
                                                   .k = a->k,
                                                   .map = maps[a->map]},
                           h->stream);
}
