/* cuda: the loss's second derivative at the logits. */
#include "kernels/loss_curve.h"

#include "backend/cuda/ops.h"

lips_status cuda_op_loss_curve(lips_backend *be, const lips_loss_curve_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_loss_curve(a));
    LIPS_TRY(lips_cuda_layout("loss_curve", &a->z));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_loss_curve(&(lips_cuda_loss_curve_args){.out = a->y.data,
                                                             .z = a->z.data,
                                                             .v = a->v.data,
                                                             .b = a->z.b,
                                                             .cap = a->y.cap,
                                                             .k = a->z.c,
                                                             .scale = a->scale,
                                                             .squared = a->kind == LIPS_LOSS_MSE},
                                h->stream);
}
