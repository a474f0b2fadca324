/*
 * cuda: per-sample Gram matrices. Shapes become those of the kernels: a sample is P positions of T
 * stacked rows of C values.
 */
#include "backend/cuda/ops.h"
#include "kernels/conv_gram.h"
#include "kernels/gram.h"

/* Bytes rounded up so that what follows in the scratch is aligned. */
static size_t aligned(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* theta on the device. */
static lips_status theta_of(lips_cuda *h, const char *op, double *theta, const lips_tensor *y,
                            double **device)
{
    return lips_cuda_f64(h, op, theta, y->b * y->t * y->t, device);
}

/* With its own scratch. */
static lips_status run(lips_cuda *h, lips_cuda_gram_args *a)
{
    LIPS_TRY(lips_cuda_scratch(h, lips_cuda_gram_work(a), &a->work));
    return lips_cuda_gram(a, h->stream);
}

/* What the Gram of a tensor's values takes: images by pixels, rows as they lie. */
static lips_cuda_gram_args shape_of(const lips_tensor *x)
{
    const bool images = x->lanes == LIPS_CUDA_IMAGES;
    return (lips_cuda_gram_args){.x = x->data,
                                 .b = x->b,
                                 .p = images ? x->h * x->w : 1,
                                 .t = x->t,
                                 .c = images ? x->c : lips_tensor_features(x)};
}

lips_status cuda_op_gram(lips_backend *be, const lips_gram_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_gram(a));
    LIPS_TRY(lips_cuda_layout("gram", &a->x));
    LIPS_TRY(lips_cuda_enter(be, &h));
    lips_cuda_gram_args k = shape_of(&a->x);
    LIPS_TRY(theta_of(h, "gram", a->g, &a->x, &k.theta));
    return run(h, &k);
}

lips_status cuda_op_linear_gram(lips_backend *be, const lips_linear_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_linear(LIPS_GRAM, a));
    LIPS_TRY(lips_cuda_layout("linear_gram", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    lips_cuda_gram_args k = shape_of(&a->y);
    k.v = a->x.data;
    k.n = a->x.c;
    LIPS_TRY(theta_of(h, "linear_gram", a->theta, &a->y, &k.theta));
    return run(h, &k);
}

lips_status cuda_op_conv_gram(lips_backend *be, const lips_conv_args *a)
{
    lips_cuda *h;
    LIPS_TRY(lips_check_conv(LIPS_GRAM, a));
    LIPS_TRY(lips_cuda_layout("conv_gram", &a->y));
    if (a->y.lanes != LIPS_CUDA_IMAGES)
        return lips_fail(LIPS_ERR_USAGE, "conv_gram: tensors laid out for a net without images");
    LIPS_TRY(lips_cuda_enter(be, &h));
    lips_cuda_conv_gram_args k = {.dy = a->y.data,
                                  .x = a->x.data,
                                  .b = a->y.b,
                                  .c = a->x.c,
                                  .h = a->x.h,
                                  .w = a->x.w,
                                  .o = a->y.c,
                                  .oh = a->y.h,
                                  .ow = a->y.w,
                                  .t = a->y.t,
                                  .r = a->geom.r,
                                  .stride = a->geom.stride,
                                  .pad = a->geom.pad,
                                  .single = h->backward != LIPS_PRECISION_F32};
    LIPS_TRY(theta_of(h, "conv_gram", a->theta, &a->y, &k.theta));
    LIPS_TRY(lips_cuda_scratch(h, lips_cuda_conv_gram_work(&k), &k.work));
    return lips_cuda_conv_gram(&k, h->stream);
}

/* theta += the Gram of the sums over positions that s asks for. */
static lips_status gram_of_sums(lips_cuda *h, double *theta, lips_cuda_channel_sums_args *s)
{
    const int64_t width = s->x ? 2 * s->c : s->c;
    lips_cuda_gram_args k = {.theta = theta,
                             .wide = true,
                             .parts = lips_cuda_channel_sums_parts(s),
                             .b = s->b,
                             .p = 1,
                             .t = s->t,
                             .c = width};
    const size_t bytes =
        aligned(lips_cuda_channel_sums_bytes(s->b, s->p, s->t, s->c, s->x != NULL));
    void *scratch = NULL;
    LIPS_TRY(lips_cuda_scratch(h, bytes + lips_cuda_gram_work(&k), &scratch));
    s->sums = scratch;
    k.x = scratch;
    k.work = (char *)scratch + bytes;
    LIPS_TRY(lips_cuda_channel_sums(s, h->stream));
    return lips_cuda_gram(&k, h->stream);
}

/* Channels must lie side by side: as they do in images, and where a sample has one position. */
static lips_status need_channels(const char *op, const lips_tensor *y)
{
    LIPS_TRY(lips_cuda_layout(op, y));
    if (y->lanes != LIPS_CUDA_IMAGES && y->h * y->w != 1)
        return lips_fail(LIPS_ERR_USAGE, "%s: an image in a layout for nets without images", op);
    return LIPS_OK;
}

lips_status cuda_op_bias_gram(lips_backend *be, const lips_bias_args *a)
{
    lips_cuda *h;
    double *theta = NULL;
    LIPS_TRY(lips_check_bias(LIPS_GRAM, a));
    LIPS_TRY(need_channels("bias_gram", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(theta_of(h, "bias_gram", a->theta, &a->y, &theta));
    if (a->y.h * a->y.w == 1) { /* nothing to sum */
        lips_cuda_gram_args k = shape_of(&a->y);
        k.theta = theta;
        return run(h, &k);
    }
    return gram_of_sums(
        h, theta,
        &(lips_cuda_channel_sums_args){
            .y = a->y.data, .b = a->y.b, .p = a->y.h * a->y.w, .t = a->y.t, .c = a->y.c});
}

/* Evaluation mode: dz/dgamma_c = sum_p dy xhat, dz/dbeta_c = sum_p dy. */
lips_status cuda_op_bn_gram(lips_backend *be, const lips_bn_args *a)
{
    lips_cuda *h;
    double *theta = NULL;
    LIPS_TRY(lips_check_bn(LIPS_GRAM, a));
    LIPS_TRY(need_channels("bn_gram", &a->y));
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(theta_of(h, "bn_gram", a->theta, &a->y, &theta));
    return gram_of_sums(h, theta,
                        &(lips_cuda_channel_sums_args){.y = a->y.data,
                                                       .x = a->x.data,
                                                       .mean = a->mean,
                                                       .var = a->var,
                                                       .eps = a->eps,
                                                       .b = a->y.b,
                                                       .p = a->y.h * a->y.w,
                                                       .t = a->y.t,
                                                       .c = a->y.c});
}
