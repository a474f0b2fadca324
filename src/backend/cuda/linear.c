/*
 * cuda/linear.c - linear layers: own tiles on tensor cores, or cuBLAS.
 *
 * Rows are (sample, stacked value): both layouts are the same memory for (C,1,1) tensors, and an
 * image of more than one place is flattened in PyTorch's order in the layout of rows alone.
 */
#include "backend/cuda/choose.h"
#include "backend/cuda/ops.h"
#include "kernels/conv.h"
#include "kernels/linear.h"

#include <inttypes.h>

enum { MOST_SCRATCH = 32 << 20 }; /* bytes of partial sums */

static lips_status begin(lips_backend *be, const char *op, lips_pass pass,
                         const lips_linear_args *a, lips_cuda **h)
{
    LIPS_TRY(lips_check_linear(pass, a));
    LIPS_TRY(lips_cuda_layout(op, &a->x));
    const int64_t rows = a->y.b * a->y.t;
    if (rows > INT32_MAX - 1024 || a->x.c > INT32_MAX / 2 || a->y.c > INT32_MAX / 2)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: %" PRId64 " rows of %" PRId64 " to %" PRId64
                         " features, must each be under 2^30",
                         op, rows, a->x.c, a->y.c);
    return lips_cuda_enter(be, h);
}

/* The layer as a 1 x 1 convolution of b images of one place. */
static lips_cuda_conv as_conv(const lips_linear_args *a)
{
    return (lips_cuda_conv){.b = a->y.b,
                            .t = a->y.t,
                            .h = 1,
                            .w = 1,
                            .c = a->x.c,
                            .oh = 1,
                            .ow = 1,
                            .o = a->y.c,
                            .r = 1,
                            .stride = 1,
                            .pad = 0};
}

/* C (n,m) row-major = op(B) op(A) as cuBLAS sees it: column-major, m rows. */
typedef struct product {
    cublasOperation_t ta, tb;
    int64_t m, n, k;
    const void *a, *b;
    void *c;
    int64_t lda, ldb;
    float beta;
} product;

static lips_status multiply(lips_cuda *h, const product *p, lips_precision precision)
{
    static const cublasComputeType_t types[] = {CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32,
                                                CUBLAS_COMPUTE_32F_FAST_16BF};
    const float one = 1;
    cublasHandle_t blas;
    LIPS_TRY(lips_cuda_blas(h, &blas));
    LIPS_TRY_CUBLAS(cublasGemmEx(blas, p->ta, p->tb, (int)p->m, (int)p->n, (int)p->k, &one, p->a,
                                 CUDA_R_32F, (int)p->lda, p->b, CUDA_R_32F, (int)p->ldb, &p->beta,
                                 p->c, CUDA_R_32F, (int)p->m, types[precision],
                                 CUBLAS_GEMM_DEFAULT));
    return LIPS_OK;
}

/* What choose.c measures and what then runs. */
static lips_cuda_product offer(const char *op, const lips_linear_args *a, lips_precision precision)
{
    return (lips_cuda_product){.op = op,
                               .precision = precision,
                               .size = {a->y.b * a->y.t, a->x.c, a->y.c, a->mask != NULL},
                               .offered = {[LIPS_CUDA_TILE] = true, [LIPS_CUDA_LIBRARY] = true},
                               .rule = LIPS_CUDA_TILE,
                               .args = a};
}

/* Long sums of few results go in parts, as many samples at a time as there is room for. */
static bool splits(const lips_linear_args *a, bool is_vjp)
{
    return lips_cuda_linear_split_parts(is_vjp ? a->y.c : a->x.c, is_vjp ? a->x.c : a->y.c) > 1;
}

static lips_status split(lips_cuda *h, const lips_linear_args *a, bool is_vjp)
{
    const int64_t k = is_vjp ? a->y.c : a->x.c, n = is_vjp ? a->x.c : a->y.c;
    const int64_t row = lips_cuda_linear_split_parts(k, n) * n * (int64_t)sizeof(float);
    const int64_t t = a->y.t, fit = MOST_SCRATCH / (row * t);
    const int64_t each = fit < 1 ? 1 : fit < a->y.b ? fit : a->y.b;
    void *part;
    LIPS_TRY(lips_cuda_scratch(h, (size_t)(each * t * row), &part));
    for (int64_t s = 0; s < a->y.b; s += each)
        LIPS_TRY(lips_cuda_linear_split(
            &(lips_cuda_linear_split_args){
                .b = a->y.b - s < each ? a->y.b - s : each,
                .t = t,
                .c = a->x.c,
                .o = a->y.c,
                .vjp = is_vjp,
                .relu = a->relu,
                .dst = (float *)(is_vjp ? a->x.data : a->y.data) + s * t * n,
                .part = part,
                .src = (const float *)(is_vjp ? a->y.data : a->x.data) + s * t * k,
                .w = a->w,
                .bias = a->bias,
                .mask = a->mask ? (const float *)a->mask->data + s * n : NULL},
            h->stream));
    return LIPS_OK;
}

static lips_status forward(lips_cuda *h, const void *args, lips_cuda_way way)
{
    const lips_linear_args *a = args;
    const int64_t rows = a->y.b * a->y.t;
    if (way != LIPS_CUDA_LIBRARY && splits(a, false))
        return split(h, a, false);
    if (way != LIPS_CUDA_LIBRARY)
        return lips_cuda_conv_apply(&(lips_cuda_conv_apply_args){.shape = as_conv(a),
                                                                 .relu = a->relu,
                                                                 .dst = a->y.data,
                                                                 .src = a->x.data,
                                                                 .weight = a->w,
                                                                 .bias = a->bias,
                                                                 .precision = h->forward},
                                    h->stream);
    LIPS_TRY(multiply(h,
                      &(product){.ta = CUBLAS_OP_T,
                                 .tb = CUBLAS_OP_N,
                                 .m = a->y.c,
                                 .n = rows,
                                 .k = a->x.c,
                                 .a = a->w,
                                 .lda = a->x.c,
                                 .b = a->x.data,
                                 .ldb = a->x.c,
                                 .c = a->y.data},
                      h->forward));
    if (!a->bias && !a->relu)
        return LIPS_OK;
    return lips_cuda_affine_end(a->y.data, a->bias, a->relu, rows, a->y.c, h->stream);
}

lips_status cuda_op_linear_forward(lips_backend *be, const lips_linear_args *a)
{
    lips_cuda *h;
    LIPS_TRY(begin(be, "linear_forward", LIPS_FORWARD, a, &h));
    lips_cuda_product p = offer("linear_forward", a, h->forward);
    p.run = forward;
    return lips_cuda_run(h, &p, h->gemm);
}

static lips_status vjp(lips_cuda *h, const void *args, lips_cuda_way way)
{
    const lips_linear_args *a = args;
    const float *mask = a->mask ? a->mask->data : NULL;
    if (way != LIPS_CUDA_LIBRARY && splits(a, true))
        return split(h, a, true);
    if (way != LIPS_CUDA_LIBRARY)
        return lips_cuda_linear_vjp(&(lips_cuda_linear_vjp_args){.b = a->y.b,
                                                                 .t = a->y.t,
                                                                 .c = a->x.c,
                                                                 .o = a->y.c,
                                                                 .dx = a->x.data,
                                                                 .dy = a->y.data,
                                                                 .w = a->w,
                                                                 .mask = mask,
                                                                 .precision = h->backward},
                                    h->stream);
    LIPS_TRY(multiply(h,
                      &(product){.ta = CUBLAS_OP_N,
                                 .tb = CUBLAS_OP_N,
                                 .m = a->x.c,
                                 .n = a->y.b * a->y.t,
                                 .k = a->y.c,
                                 .a = a->w,
                                 .lda = a->x.c,
                                 .b = a->y.data,
                                 .ldb = a->y.c,
                                 .c = a->x.data},
                      h->backward));
    return mask ? lips_cuda_mask_end(a->x.data, mask, a->x.b, a->x.t, a->x.c, h->stream) : LIPS_OK;
}

lips_status cuda_op_linear_vjp(lips_backend *be, const lips_linear_args *a)
{
    lips_cuda *h;
    LIPS_TRY(begin(be, "linear_vjp", LIPS_VJP, a, &h));
    lips_cuda_product p = offer("linear_vjp", a, h->backward);
    p.run = vjp;
    return lips_cuda_run(h, &p, h->gemm);
}

/* Rows are the pixels of one image. */
static lips_cuda_conv as_one_image(lips_cuda_conv s)
{
    s.w = s.ow = s.b;
    s.b = 1;
    return s;
}

size_t lips_cuda_linear_grad_bytes(const lips_tensor *x, const lips_tensor *y)
{
    const size_t bytes = (size_t)(x->c * y->c) * sizeof(float);
    lips_cuda_conv s = as_conv(&(lips_linear_args){.x = *x, .y = *y});
    s.b = y->cap;
    s = as_one_image(s);
    const int64_t parts = lips_cuda_conv_grad_parts(&s, (int64_t)(MOST_SCRATCH / bytes));
    return parts > 1 ? (size_t)parts * bytes : 0;
}

static lips_status own_grad(lips_cuda *h, const lips_linear_args *a)
{
    lips_cuda_conv_grad_args k = {.shape = as_conv(a),
                                  .dw = a->dw,
                                  .x = a->x.data,
                                  .dy = a->y.data,
                                  .precision = h->backward};
    const size_t bytes = (size_t)(a->x.c * a->y.c) * sizeof(float);
    k.shape = as_one_image(k.shape);
    k.parts = lips_cuda_conv_grad_parts(&k.shape, (int64_t)(MOST_SCRATCH / bytes));
    if (k.parts > 1) {
        void *part;
        LIPS_TRY(lips_cuda_scratch(h, (size_t)k.parts * bytes, &part));
        k.part = part;
    }
    return lips_cuda_conv_grad(&k, h->stream);
}

static lips_status grad(lips_cuda *h, const void *args, lips_cuda_way way)
{
    const lips_linear_args *a = args;
    if (way != LIPS_CUDA_LIBRARY)
        return own_grad(h, a);
    return multiply(h,
                    &(product){.ta = CUBLAS_OP_N,
                               .tb = CUBLAS_OP_T,
                               .m = a->x.c,
                               .n = a->y.c,
                               .k = a->x.b,
                               .a = a->x.data,
                               .lda = a->x.c,
                               .b = a->y.data,
                               .ldb = a->y.c,
                               .c = a->dw,
                               .beta = 1},
                    h->backward);
}

lips_status cuda_op_linear_grad(lips_backend *be, const lips_linear_args *a)
{
    lips_cuda *h;
    lips_linear_args k = *a;
    LIPS_TRY(begin(be, "linear_grad", LIPS_GRAD, a, &h));
    lips_cuda_product p = offer("linear_grad", &k, h->backward);
    p.run = grad;
    p.sum = &k.dw;
    p.sum_bytes = (size_t)(a->x.c * a->y.c) * sizeof(float);
    if (a->dw)
        LIPS_TRY(lips_cuda_run(h, &p, h->gemm));
    return a->db ? cuda_op_bias_grad(be, &(lips_bias_args){.y = a->y, .db = a->db}) : LIPS_OK;
}
