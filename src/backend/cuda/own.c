/*
 * cuda/own.c - device memory that a handle takes for itself: scratch of its ops, and what the
 * libraries want. A plan of memory counts it; each figure comes from the function that sizes it
 * where it is taken.
 */
#include "backend/cuda/choose.h"
#include "backend/cuda/ops.h"
#include "kernels/batch_norm.h"
#include "kernels/bias.h"
#include "kernels/conv_gram.h"
#include "kernels/gram.h"
#include "kernels/layer_norm.h"
#include "kernels/vectors.h"

/* cuDNN's workspaces are known to cuDNN alone, once it runs: as much as the layer's tensors, and no
 * more than this. */
enum { DNN_MOST = 64 << 20, ROUNDING = 256 };

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Whether ops may go to NVIDIA's libraries; by measurement they never do on an emulated device. */
static bool may_use(const lips_cuda *h, lips_library asked)
{
    return asked == LIPS_LIBRARY_NVIDIA || (asked == LIPS_LIBRARY_AUTO && !lips_cuda_emulated(h));
}

/* Gram matrices: of what is stacked at input and output, of the layer's parameters, of the sums
 * over its positions (biases, norms). */
static size_t gram_bytes(const lips_cuda *h, const lips_own_args *a)
{
    const lips_tensor *x = &a->x, *y = &a->y;
    const bool images = y->lanes == LIPS_CUDA_IMAGES;
    const int64_t xp = images ? x->h * x->w : 1, yp = images ? y->h * y->w : 1;
    const int64_t xc = images ? x->c : lips_tensor_features(x);
    const int64_t yc = images ? y->c : lips_tensor_features(y);
    const lips_cuda_gram_args in = {.b = x->cap, .p = xp, .t = y->t, .c = xc},
                              out = {.b = y->cap, .p = yp, .t = y->t, .c = yc},
                              layer = {.b = y->cap, .p = yp, .t = y->t, .c = yc, .n = xc},
                              sums = {.wide = true, .b = y->cap, .p = 1, .t = y->t, .c = 2 * y->c};
    const lips_cuda_ln ln = {.rows = y->cap * y->h * y->w, .t = y->t, .c = y->c};
    size_t bytes = lips_cuda_channel_sums_bytes(y->cap, yp, y->t, y->c, true);
    if (a->norms)
        bytes = larger(bytes, lips_cuda_ln_sums_bytes(&ln, y->h * y->w));
    bytes += ROUNDING + lips_cuda_gram_work(&sums);
    bytes = larger(bytes, larger(lips_cuda_gram_work(&in), lips_cuda_gram_work(&out)));
    if (!a->geom)
        return larger(bytes, lips_cuda_gram_work(&layer));
    return larger(bytes, lips_cuda_conv_gram_work(&(lips_cuda_conv_gram_args){
                             .b = y->cap,
                             .c = x->c,
                             .h = x->h,
                             .w = x->w,
                             .o = y->c,
                             .oh = y->h,
                             .ow = y->w,
                             .t = y->t,
                             .r = a->geom->r,
                             .stride = a->geom->stride,
                             .pad = a->geom->pad,
                             .single = h->backward != LIPS_PRECISION_F32}));
}

/* Sums over the batch: of gradients and of batch statistics. */
static size_t sum_bytes(const lips_own_args *a)
{
    const lips_tensor *y = &a->y;
    const int64_t rows = y->cap * y->h * y->w;
    const lips_cuda_ln ln = {.rows = rows, .t = y->t, .c = y->c};
    size_t bytes =
        larger(lips_cuda_bias_grad_bytes(rows * y->t, y->c), lips_cuda_bn_bytes(rows, y->t, y->c));
    bytes = larger(bytes, a->norms ? lips_cuda_ln_grad_bytes(&ln) : 0);
    return a->geom || !a->layer ? bytes : larger(bytes, lips_cuda_linear_grad_bytes(&a->x, y));
}

size_t cuda_op_own_bytes(lips_backend *be, const lips_own_args *a)
{
    const lips_cuda *h = (const lips_cuda *)be;
    if (a->vectors)
        return lips_cuda_dots_bytes(a->vectors, a->places);
    const size_t x = (size_t)lips_cuda_reals(&a->x) * sizeof(float);
    const size_t y = (size_t)lips_cuda_reals(&a->y) * sizeof(float);
    size_t scratch = larger(gram_bytes(h, a), sum_bytes(a));
    /* Host values are laid out anew in pieces. */
    scratch = larger(scratch, lips_cuda_piece_bytes(x > y ? x : y));
    if (a->geom && may_use(h, h->conv))
        scratch = larger(scratch, x + y < DNN_MOST ? x + y : DNN_MOST);
    return scratch + (may_use(h, h->gemm) ? lips_cuda_blas_bytes(h) : 0);
}
