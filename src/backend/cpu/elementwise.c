/* cpu/elementwise.c - bias, ReLU and average pooling. */
#include "backend/cpu/ops.h"

lips_status lips_cpu_bias_forward(lips_backend *be, const lips_bias_args *a)
{
    LIPS_TRY(lips_check_bias(LIPS_FORWARD, a));
    LIPS_TRY(lips_cpu_layout("bias_forward", &a->y));
    int64_t inner = a->y.h * a->y.w * a->y.t * a->y.lanes;
    for (int64_t s = 0; s < lips_cpu_slabs(&a->y); s++)
        lips_cpu_k(be)->bias(lips_cpu_slab(&a->y, s), a->bias, false, a->y.c, inner);
    return LIPS_OK;
}

lips_status lips_cpu_bias_grad(lips_backend *be, const lips_bias_args *a)
{
    LIPS_TRY(lips_check_bias(LIPS_GRAD, a));
    LIPS_TRY(lips_cpu_layout("bias_grad", &a->y));
    for (int64_t c = 0; c < a->y.c; c++)
        ((float *)a->db)[c] += (float)lips_cpu_channel_sum(be, &a->y, c, 0);
    return LIPS_OK;
}

lips_status lips_cpu_relu_forward(lips_backend *be, const lips_relu_args *a)
{
    LIPS_TRY(lips_check_relu(LIPS_FORWARD, a));
    LIPS_TRY(lips_cpu_layout("relu_forward", &a->y));
    lips_cpu_k(be)->relu(a->y.data, a->x.data, lips_cpu_slabs(&a->y) * lips_cpu_slab_reals(&a->y));
    return LIPS_OK;
}

lips_status lips_cpu_relu_mask(lips_backend *be, const lips_relu_args *a)
{
    LIPS_TRY(lips_check_relu(LIPS_VJP, a));
    LIPS_TRY(lips_cpu_layout("relu_mask", &a->y));
    int64_t rows = lips_cpu_slabs(&a->y) * lips_tensor_features(&a->y);
    lips_cpu_k(be)->mask(a->y.data, a->x.data, a->mask->data, rows, a->y.t, a->y.lanes);
    return LIPS_OK;
}

static lips_cpu_pool windows(const lips_pool_args *a)
{
    return (lips_cpu_pool){.c = a->x.c,
                           .oh = a->y.h,
                           .ow = a->y.w,
                           .kh = a->x.h / a->y.h,
                           .kw = a->x.w / a->y.w,
                           .t = a->x.t,
                           .lanes = a->x.lanes};
}

lips_status lips_cpu_avgpool_forward(lips_backend *be, const lips_pool_args *a)
{
    LIPS_TRY(lips_check_avgpool(LIPS_FORWARD, a));
    LIPS_TRY(lips_cpu_layout("avgpool_forward", &a->x));
    lips_cpu_pool p = windows(a);
    for (int64_t s = 0; s < lips_cpu_slabs(&a->x); s++)
        lips_cpu_k(be)->pool(lips_cpu_slab(&a->y, s), lips_cpu_slab(&a->x, s), &p);
    return LIPS_OK;
}

lips_status lips_cpu_avgpool_vjp(lips_backend *be, const lips_pool_args *a)
{
    LIPS_TRY(lips_check_avgpool(LIPS_VJP, a));
    LIPS_TRY(lips_cpu_layout("avgpool_vjp", &a->x));
    lips_cpu_pool p = windows(a);
    for (int64_t s = 0; s < lips_cpu_slabs(&a->x); s++)
        lips_cpu_k(be)->unpool(lips_cpu_slab(&a->x, s), lips_cpu_slab(&a->y, s),
                               a->mask ? lips_cpu_slab(a->mask, s) : NULL, &p);
    return LIPS_OK;
}
