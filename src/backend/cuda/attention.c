/* cuda/attention.c - dot-product attention. */
#include "backend/cuda/ops.h"
#include "kernels/attention.h"

static lips_cuda_attn shape_of(const lips_attn_args *a)
{
    return (lips_cuda_attn){.b = a->y.b,
                            .cap = a->y.cap,
                            .n = a->y.h * a->y.w,
                            .t = a->y.t,
                            .c = a->y.c,
                            .heads = a->heads,
                            .work = a->work};
}

size_t cuda_op_attn_workspace(lips_backend *be, const lips_attn_args *a)
{
    (void)be;
    if (lips_check_attn_plan(a) != LIPS_OK)
        return 0;
    lips_cuda_attn k = shape_of(a);
    return lips_cuda_attn_bytes(&k);
}

static lips_status begin(lips_backend *be, const char *op, const lips_attn_args *a, lips_cuda **h)
{
    LIPS_TRY(lips_cuda_images(op, &a->y));
    return lips_cuda_enter(be, h);
}

lips_status cuda_op_attn_forward(lips_backend *be, const lips_attn_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_attn(LIPS_FORWARD, a));
    LIPS_TRY(begin(be, "attn_forward", a, &h));
    lips_cuda_attn k = shape_of(a);
    return lips_cuda_attn_forward(&k, a->y.data, a->x.data, h->stream);
}

lips_status cuda_op_attn_jvp(lips_backend *be, const lips_attn_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_attn(LIPS_JVP, a));
    LIPS_TRY(begin(be, "attn_jvp", a, &h));
    lips_cuda_attn k = shape_of(a);
    return lips_cuda_attn_jvp(&k, a->y.data, a->x.data, a->in->data, h->stream);
}

lips_status cuda_op_attn_vjp(lips_backend *be, const lips_attn_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_attn(LIPS_VJP, a));
    LIPS_TRY(begin(be, "attn_vjp", a, &h));
    lips_cuda_attn k = shape_of(a);
    return lips_cuda_attn_vjp(&k, a->x.data, a->y.data, a->in->data, h->stream);
}

lips_status cuda_op_attn_vjp_dot(lips_backend *be, const lips_attn_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_attn(LIPS_VJP_DOT, a));
    LIPS_TRY(begin(be, "attn_vjp_dot", a, &h));
    lips_cuda_attn k = shape_of(a);
    return lips_cuda_attn_vjp_dot(&k, a->x.data, a->y.data, a->in->data, a->dot->data, h->stream);
}
