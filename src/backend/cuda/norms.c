/* cuda: norms from small Gram matrices. */
#include "backend/cuda/ops.h"
#include "kernels/norms.h"

#include <string.h>

lips_status cuda_op_norms(lips_backend *be, const lips_norms_args *a)
{
    static const lips_cuda_norms_map maps[] = {[LIPS_MAP_PLAIN] = LIPS_CUDA_NORMS_PLAIN,
                                               [LIPS_MAP_SOFTMAX] = LIPS_CUDA_NORMS_SOFTMAX,
                                               [LIPS_MAP_LOG_SOFTMAX] = LIPS_CUDA_NORMS_LOG_SOFTMAX,
                                               [LIPS_MAP_VECTOR] = LIPS_CUDA_NORMS_VECTOR};
    lips_cuda *h;
    void *g = NULL, *op = NULL, *fro = NULL, *p = NULL;
    LIPS_TRY(lips_check_norms(a));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(lips_cuda_shared(h, "norms", (void *)(size_t)a->g, a->n * a->k * a->k, &g));
    LIPS_TRY(lips_cuda_shared(h, "norms", a->op, a->n, &op));
    LIPS_TRY(lips_cuda_shared(h, "norms", a->fro, a->n, &fro));
    if (a->map != LIPS_MAP_PLAIN) {
        const size_t bytes = (size_t)(a->n * a->k) * sizeof *a->p;
        lips_cuda_slot *slot = NULL;
        LIPS_TRY(lips_cuda_scratch(h, bytes, &p));
        LIPS_TRY(lips_cuda_stage(h, bytes, &slot));
        memcpy(slot->host, a->p, bytes);
        LIPS_TRY(lips_cuda_stage_put(h, slot, p, bytes));
    }
    return lips_cuda_norms(&(lips_cuda_norms_args){.op = op,
                                                   .fro = fro,
                                                   .g = g,
                                                   .p = p,
                                                   .n = a->n,
                                                   .k = a->k,
                                                   .map = maps[a->map]},
                           h->stream);
}
