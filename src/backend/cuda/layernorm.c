/* cuda/layernorm.c - layer normalisation. */
#include "backend/cuda/ops.h"
#include "kernels/gram.h"
#include "kernels/layer_norm.h"

/* What all passes share; u is the stacked tensor of the pass. */
static lips_status begin(lips_backend *be, const char *op, const lips_ln_args *a,
                         const lips_tensor *u, lips_cuda **h, lips_cuda_ln *out)
{
    LIPS_TRY(lips_cuda_images(op, u));
    *out = (lips_cuda_ln){.rows = u->b * u->h * u->w,
                          .t = u->t,
                          .c = u->c,
                          .gamma = a->gamma,
                          .beta = a->beta,
                          .eps = a->eps};
    return lips_cuda_enter(be, h);
}

lips_status cuda_op_ln_forward(lips_backend *be, const lips_ln_args *a)
{
    lips_cuda *h;
    lips_cuda_ln ln;
    LIPS_TRY(lips_check_ln(LIPS_FORWARD, a));
    LIPS_TRY(begin(be, "ln_forward", a, &a->x, &h, &ln));
    return lips_cuda_ln_forward(&ln, a->y.data, a->x.data, h->stream);
}

lips_status cuda_op_ln_jvp(lips_backend *be, const lips_ln_args *a)
{
    lips_cuda *h;
    lips_cuda_ln ln;
    LIPS_TRY(lips_check_ln(LIPS_JVP, a));
    LIPS_TRY(begin(be, "ln_jvp", a, &a->x, &h, &ln));
    return lips_cuda_ln_jvp(&ln, a->y.data, a->x.data, a->in->data, h->stream);
}

lips_status cuda_op_ln_vjp(lips_backend *be, const lips_ln_args *a)
{
    lips_cuda *h;
    lips_cuda_ln ln;
    LIPS_TRY(lips_check_ln(LIPS_VJP, a));
    LIPS_TRY(begin(be, "ln_vjp", a, &a->y, &h, &ln));
    return lips_cuda_ln_vjp(&ln, a->x.data, a->y.data, a->in->data, h->stream);
}

lips_status cuda_op_ln_vjp_dot(lips_backend *be, const lips_ln_args *a)
{
    lips_cuda *h;
    lips_cuda_ln ln;
    LIPS_TRY(lips_check_ln(LIPS_VJP_DOT, a));
    LIPS_TRY(begin(be, "ln_vjp_dot", a, &a->y, &h, &ln));
    return lips_cuda_ln_vjp_dot(&ln, a->x.data, a->y.data, a->in->data, a->dot->data, h->stream);
}

lips_status cuda_op_ln_grad(lips_backend *be, const lips_ln_args *a)
{
    lips_cuda *h;
    lips_cuda_ln ln;
    void *scratch;
    LIPS_TRY(lips_check_ln(LIPS_GRAD, a));
    LIPS_TRY(begin(be, "ln_grad", a, &a->y, &h, &ln));
    LIPS_TRY(lips_cuda_scratch(h, lips_cuda_ln_grad_bytes(&ln), &scratch));
    return lips_cuda_ln_grad(&ln, a->dgamma, a->dbeta, a->y.data, a->x.data, NULL, scratch,
                             h->stream);
}

lips_status cuda_op_ln_grad_dot(lips_backend *be, const lips_ln_args *a)
{
    lips_cuda *h;
    lips_cuda_ln ln;
    void *scratch;
    LIPS_TRY(lips_check_ln(LIPS_GRAD_DOT, a));
    LIPS_TRY(begin(be, "ln_grad_dot", a, &a->y, &h, &ln));
    LIPS_TRY(lips_cuda_scratch(h, lips_cuda_ln_grad_bytes(&ln), &scratch));
    return lips_cuda_ln_grad(&ln, a->dgamma, NULL, a->y.data, a->in->data, a->dot->data, scratch,
                             h->stream);
}

/* theta += the Gram of each sample's parameter derivatives. Scratch: these, the Gram's own. */
lips_status cuda_op_ln_gram(lips_backend *be, const lips_ln_args *a)
{
    lips_cuda *h;
    lips_cuda_ln ln;
    double *theta;
    void *scratch;
    const int64_t places = a->y.h * a->y.w;
    LIPS_TRY(lips_check_ln(LIPS_GRAM, a));
    LIPS_TRY(begin(be, "ln_gram", a, &a->y, &h, &ln));
    LIPS_TRY(lips_cuda_f64(h, "ln_gram", a->theta, a->y.b * ln.t * ln.t, &theta));
    lips_cuda_gram_args k = {
        .theta = theta, .wide = true, .b = a->y.b, .p = 1, .t = ln.t, .c = 2 * ln.c};
    size_t sums = lips_cuda_ln_sums_bytes(&ln, places);
    LIPS_TRY(lips_cuda_scratch(h, sums + lips_cuda_gram_work(&k), &scratch));
    k.x = scratch;
    k.work = (char *)scratch + sums;
    LIPS_TRY(lips_cuda_ln_sums(&ln, scratch, &k.parts, a->y.data, a->x.data, places, h->stream));
    return lips_cuda_gram(&k, h->stream);
}
