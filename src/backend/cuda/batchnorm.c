/* cuda/batchnorm.c - batch normalisation. */
#include "backend/cuda/ops.h"
#include "kernels/batch_norm.h"

/* What all passes share; u is the stacked tensor of the pass. */
static lips_status prepare(lips_cuda *h, const char *op, const lips_bn_args *a,
                           const lips_tensor *u, lips_cuda_bn *out)
{
    *out = (lips_cuda_bn){.rows = u->b * u->h * u->w,
                          .t = u->t,
                          .c = u->c,
                          .training = a->training,
                          .gamma = a->gamma,
                          .beta = a->beta,
                          .mean = a->mean,
                          .var = a->var,
                          .tracked = a->tracked,
                          .eps = a->eps,
                          .momentum = a->momentum};
    if (a->training) {
        LIPS_TRY(lips_cuda_f64(h, op, a->batch_mean, u->c, &out->batch_mean));
        LIPS_TRY(lips_cuda_f64(h, op, a->batch_var, u->c, &out->batch_var));
    }
    return lips_cuda_scratch(h, lips_cuda_bn_bytes(out->rows, out->t, out->c), &out->scratch);
}

lips_status cuda_op_bn_forward(lips_backend *be, const lips_bn_args *a)
{
    lips_cuda *h;
    lips_cuda_bn bn;
    LIPS_TRY(lips_check_bn(LIPS_FORWARD, a));
    LIPS_TRY(lips_cuda_images("bn_forward", &a->x));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(prepare(h, "bn_forward", a, &a->x, &bn));
    return lips_cuda_bn_forward(&bn, a->y.data, a->x.data, h->stream);
}

static lips_status derivative(lips_backend *be, const char *op, const lips_bn_args *a,
                              const lips_tensor *out, const lips_tensor *u)
{
    lips_cuda *h;
    lips_cuda_bn bn;
    LIPS_TRY(lips_cuda_images(op, u));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(prepare(h, op, a, u, &bn));
    return lips_cuda_bn_derivative(&bn, out->data, u->data, a->training ? a->in->data : NULL,
                                   h->stream);
}

lips_status cuda_op_bn_jvp(lips_backend *be, const lips_bn_args *a)
{
    LIPS_TRY(lips_check_bn(LIPS_JVP, a));
    return derivative(be, "bn_jvp", a, &a->y, &a->x);
}

lips_status cuda_op_bn_vjp(lips_backend *be, const lips_bn_args *a)
{
    LIPS_TRY(lips_check_bn(LIPS_VJP, a));
    return derivative(be, "bn_vjp", a, &a->x, &a->y);
}

lips_status cuda_op_bn_grad(lips_backend *be, const lips_bn_args *a)
{
    lips_cuda *h;
    lips_cuda_bn bn;
    LIPS_TRY(lips_check_bn(LIPS_GRAD, a));
    LIPS_TRY(lips_cuda_images("bn_grad", &a->x));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(prepare(h, "bn_grad", a, &a->y, &bn));
    return lips_cuda_bn_grad(&bn, a->dgamma, a->dbeta, a->y.data, a->x.data, h->stream);
}
