/*
 * cpu/linear.c - linear layers: one oneDNN matrix product per slab.
 *
 *   forward  Y (O,n) = W (O,C) X (C,n) + bias     n = t*lanes columns
 *   vjp      dX (C,n) = W^T dY                    then the mask
 *   grad     dW (O,C) += dY (O,m) X^T             m = samples of the slab: the last one's rest is
 * left out
 *
 * dnnl_sgemm reaches 230 GFLOP/s here at any width from 8 up (bench/linear.c) and costs 0.2 us a
 * call.
 */
#include "backend/cpu/matrix.h"
#include "backend/cpu/ops.h"

#include <dnnl.h>

lips_status lips_cpu_multiply(const char *op, const lips_cpu_product *p)
{
    dnnl_status_t st = dnnl_sgemm(p->ta, p->tb, p->m, p->n, p->k, 1.0f, p->a, p->lda, p->b, p->ldb,
                                  p->beta, p->out, p->ld_out);
    if (st != dnnl_success)
        return lips_fail(LIPS_ERR_RUNTIME,
                         "%s: dnnl_sgemm (%lld x %lld x %lld) failed with status %d", op,
                         (long long)p->m, (long long)p->n, (long long)p->k, (int)st);
    return LIPS_OK;
}

lips_status lips_cpu_linear_forward(lips_backend *be, const lips_linear_args *a)
{
    LIPS_TRY(lips_check_linear(LIPS_FORWARD, a));
    LIPS_TRY(lips_cpu_layout("linear_forward", &a->x));
    int64_t n = a->x.t * a->x.lanes;
    for (int64_t s = 0; s < lips_cpu_slabs(&a->x); s++) {
        float *y = lips_cpu_slab(&a->y, s);
        LIPS_TRY(
            lips_cpu_multiply("linear_forward", &(lips_cpu_product){.ta = 'N',
                                                                    .tb = 'N',
                                                                    .m = a->y.c,
                                                                    .n = n,
                                                                    .k = a->x.c,
                                                                    .a = a->w,
                                                                    .lda = a->x.c,
                                                                    .b = lips_cpu_slab(&a->x, s),
                                                                    .ldb = n,
                                                                    .out = y,
                                                                    .ld_out = n}));
        if (a->bias || a->relu)
            lips_cpu_k(be)->bias(y, a->bias, a->relu, a->y.c, n);
    }
    return LIPS_OK;
}

lips_status lips_cpu_linear_vjp(lips_backend *be, const lips_linear_args *a)
{
    LIPS_TRY(lips_check_linear(LIPS_VJP, a));
    LIPS_TRY(lips_cpu_layout("linear_vjp", &a->x));
    int64_t n = a->x.t * a->x.lanes;
    for (int64_t s = 0; s < lips_cpu_slabs(&a->x); s++) {
        float *dx = lips_cpu_slab(&a->x, s);
        LIPS_TRY(lips_cpu_multiply("linear_vjp", &(lips_cpu_product){.ta = 'T',
                                                                     .tb = 'N',
                                                                     .m = a->x.c,
                                                                     .n = n,
                                                                     .k = a->y.c,
                                                                     .a = a->w,
                                                                     .lda = a->x.c,
                                                                     .b = lips_cpu_slab(&a->y, s),
                                                                     .ldb = n,
                                                                     .out = dx,
                                                                     .ld_out = n}));
        if (a->mask)
            lips_cpu_k(be)->mask(dx, dx, lips_cpu_slab(a->mask, s), a->x.c, a->x.t, a->x.lanes);
    }
    return LIPS_OK;
}

lips_status lips_cpu_linear_grad(lips_backend *be, const lips_linear_args *a)
{
    LIPS_TRY(lips_check_linear(LIPS_GRAD, a));
    LIPS_TRY(lips_cpu_layout("linear_grad", &a->x));
    for (int64_t s = 0; a->dw && s < lips_cpu_slabs(&a->x); s++)
        LIPS_TRY(lips_cpu_multiply("linear_grad",
                                   &(lips_cpu_product){.ta = 'N',
                                                       .tb = 'T',
                                                       .m = a->y.c,
                                                       .n = a->x.c,
                                                       .k = lips_cpu_slab_samples(&a->x, s),
                                                       .a = lips_cpu_slab(&a->y, s),
                                                       .lda = a->y.lanes,
                                                       .b = lips_cpu_slab(&a->x, s),
                                                       .ldb = a->x.lanes,
                                                       .out = a->dw,
                                                       .ld_out = a->x.c,
                                                       .beta = 1.0f}));
    for (int64_t c = 0; a->db && c < a->y.c; c++)
        ((float *)a->db)[c] += (float)lips_cpu_channel_sum(be, &a->y, c, 0);
    return LIPS_OK;
}
