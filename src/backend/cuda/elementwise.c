/* cuda/elementwise.c - bias, ReLU and average pooling. */
#include "backend/cuda/ops.h"
#include "kernels/bias.h"
#include "kernels/pool.h"
#include "kernels/relu.h"

/* Rows of the matrix (samples, pixels and stacked values; channels). */
static int64_t rows_of(const lips_tensor *t)
{
    return t->b * t->h * t->w * t->t;
}

lips_status cuda_op_bias_forward(lips_backend *be, const lips_bias_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_bias(LIPS_FORWARD, a));
    LIPS_TRY(lips_cuda_images("bias_forward", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_bias(a->y.data, a->bias, rows_of(&a->y), a->y.c, h->stream);
}

lips_status cuda_op_bias_grad(lips_backend *be, const lips_bias_args *a)
{
    lips_cuda *h;
    void *scratch;
    LIPS_TRY(lips_check_bias(LIPS_GRAD, a));
    LIPS_TRY(lips_cuda_images("bias_grad", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(lips_cuda_scratch(h, lips_cuda_bias_grad_bytes(rows_of(&a->y), a->y.c), &scratch));
    return lips_cuda_bias_grad(a->db, a->y.data, rows_of(&a->y), a->y.c, scratch, h->stream);
}

lips_status cuda_op_relu_forward(lips_backend *be, const lips_relu_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_relu(LIPS_FORWARD, a));
    LIPS_TRY(lips_cuda_layout("relu_forward", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    return lips_cuda_relu(a->y.data, a->x.data, lips_cuda_used(&a->y), h->stream);
}

lips_status cuda_op_relu_mask(lips_backend *be, const lips_relu_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_relu(LIPS_VJP, a));
    LIPS_TRY(lips_cuda_layout("relu_mask", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    bool images = a->y.lanes == LIPS_CUDA_IMAGES;
    int64_t pixels = a->y.h * a->y.w;
    return lips_cuda_relu_mask(a->y.data, a->x.data, a->mask->data,
                               images ? a->y.b * pixels : a->y.b, a->y.t,
                               images ? a->y.c : a->y.c * pixels, h->stream);
}

static lips_cuda_pool windows(const lips_pool_args *a)
{
    return (lips_cuda_pool){.n = a->x.b,
                            .oh = a->y.h,
                            .ow = a->y.w,
                            .kh = a->x.h / a->y.h,
                            .kw = a->x.w / a->y.w,
                            .t = a->x.t,
                            .c = a->x.c};
}

lips_status cuda_op_avgpool_forward(lips_backend *be, const lips_pool_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_avgpool(LIPS_FORWARD, a));
    LIPS_TRY(lips_cuda_images("avgpool_forward", &a->x));
    LIPS_TRY(lips_cuda_enter(be, &h));
    lips_cuda_pool p = windows(a);
    return lips_cuda_avgpool(a->y.data, a->x.data, &p, h->stream);
}

lips_status cuda_op_avgpool_vjp(lips_backend *be, const lips_pool_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_avgpool(LIPS_VJP, a));
    LIPS_TRY(lips_cuda_images("avgpool_vjp", &a->x));
    LIPS_TRY(lips_cuda_enter(be, &h));
    lips_cuda_pool p = windows(a);
    return lips_cuda_avgpool_vjp(a->x.data, a->y.data, a->mask ? a->mask->data : NULL, &p,
                                 h->stream);
}
