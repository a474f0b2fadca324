/*
 * conv_matrix - 1x1 convolutions without padding as matrix products.
 *
 *   forward  Y (O,n) = W (O,C) X (C,n) + bias,  then relu     n: pixels x stacked values x lanes
 *   vjp      dX (C,n) = W^T dY,                 then mask
 *
 * Shapes     any; a slab is a row-major matrix already, of which blocks of whole pixel rows are
 *            taken. With stride s the pixels that are read are copied together first, and the
 *            vjp's are put apart after: the rest of dx is 0.
 * Work split slab by slab, blocks of about BLOCK_BYTES, so that bias, ReLU and mask find the block
 *            in the second-level cache
 * Precision  f32, as dnnl_sgemm adds
 * Order      fixed by the shapes
 * Cost       2 O C flops per output pixel, stacked value and lane
 * Limits     the parameter gradient is not offered: its long sums are slower by dnnl_sgemm than by
 *            conv_grad's tiles up to 64 -> 256 channels
 * Proof      tests/ops/test_conv_cpu.c      Speed  bench/conv.c (rows R=1)
 */
#include "backend/cpu/conv.h"
#include "backend/cpu/matrix.h"

#include <string.h>

enum { BLOCK_BYTES = 384 * 1024 };

typedef struct matrix {
    const lips_cpu_kernels *k;
    const lips_conv_args *a;
    int64_t wide;           /* floats of a pixel: t * lanes */
    int64_t x_chan, y_chan; /* floats of a channel of x, of y, in one slab */
    int64_t rows;           /* output rows of a block */
    bool strided;
    float *packed; /* (C, rows * ow) pixels of x that outputs read */
} matrix;

static matrix describe(const lips_conv_args *a, lips_conv_arena *mem)
{
    const int64_t wide = a->x.t * a->x.lanes;
    const int64_t row = (a->x.c + a->y.c) * a->y.w * wide * (int64_t)sizeof(float);
    matrix m = {.a = a,
                .wide = wide,
                .x_chan = a->x.h * a->x.w * wide,
                .y_chan = a->y.h * a->y.w * wide,
                .rows = lips_conv_max(1, lips_conv_min(a->y.h, BLOCK_BYTES / row)),
                .strided = a->geom.stride > 1};
    if (m.strided)
        m.packed = lips_conv_take(mem, a->x.c * m.rows * a->y.w * wide, sizeof(float));
    return m;
}

size_t lips_conv_matrix_work(const lips_conv_args *a)
{
    lips_conv_arena mem = {0};
    describe(a, &mem);
    return mem.used;
}

/* Output rows u0..u1-1 of a slab: the pixels of x that they read, as a matrix (C, pixels). */
static const float *gather(const matrix *m, const float *x, int64_t u0, int64_t u1, int64_t *ld)
{
    const lips_conv_args *a = m->a;
    const int64_t s = a->geom.stride;
    *ld = m->x_chan;
    if (!m->strided)
        return x + u0 * a->x.w * m->wide;
    *ld = (u1 - u0) * a->y.w * m->wide;
    float *dst = m->packed;
    for (int64_t c = 0; c < a->x.c; c++)
        for (int64_t u = u0; u < u1; u++) {
            const float *row = x + c * m->x_chan + u * s * a->x.w * m->wide;
            for (int64_t q = 0; q < a->y.w; q++, dst += m->wide)
                memcpy(dst, row + q * s * m->wide, (size_t)m->wide * sizeof *dst);
        }
    return m->packed;
}

/* One row of dx's pixels from those packed at src, masked; zeros between them. */
static void spread_row(const matrix *m, float *dx, const float *src, const float *mask)
{
    const lips_conv_args *a = m->a;
    const int64_t s = a->geom.stride, lanes = a->x.lanes;
    for (int64_t q = 0; q < a->y.w; q++, src += m->wide) {
        float *dst = dx + q * s * m->wide;
        const int64_t gap = lips_conv_min(s, a->x.w - q * s) - 1;
        if (mask)
            m->k->mask(dst, src, mask + q * s * lanes, 1, a->x.t, lanes);
        else
            memcpy(dst, src, (size_t)m->wide * sizeof *dst);
        memset(dst + m->wide, 0, (size_t)(gap * m->wide) * sizeof *dst);
    }
}

/* The packed block of output rows u0..u1-1 to its places in dx, with the empty rows behind each. */
static void spread(const matrix *m, float *dx, const float *mask, int64_t u0, int64_t u1)
{
    const lips_conv_args *a = m->a;
    const int64_t s = a->geom.stride, row = a->x.w * m->wide, lanes = a->x.lanes;
    const float *src = m->packed;
    for (int64_t c = 0; c < a->x.c; c++)
        for (int64_t u = u0; u < u1; u++, src += a->y.w * m->wide) {
            const int64_t at = c * a->x.h + u * s;
            const int64_t gap = lips_conv_min(s, a->x.h - u * s) - 1;
            spread_row(m, dx + at * row, src, mask ? mask + at * a->x.w * lanes : NULL);
            memset(dx + (at + 1) * row, 0, (size_t)(gap * row) * sizeof *dx);
        }
}

static lips_status forward(const matrix *m, const float *x, float *y, int64_t u0, int64_t u1)
{
    const lips_conv_args *a = m->a;
    const int64_t n = (u1 - u0) * a->y.w * m->wide;
    int64_t ld;
    const float *in = gather(m, x, u0, u1, &ld);
    float *out = y + u0 * a->y.w * m->wide;
    LIPS_TRY(lips_cpu_multiply("conv_forward", &(lips_cpu_product){.ta = 'N',
                                                                   .tb = 'N',
                                                                   .m = a->y.c,
                                                                   .n = n,
                                                                   .k = a->x.c,
                                                                   .a = a->w,
                                                                   .lda = a->x.c,
                                                                   .b = in,
                                                                   .ldb = ld,
                                                                   .out = out,
                                                                   .ld_out = m->y_chan}));
    const float *bias = a->bias;
    for (int64_t o = 0; o < a->y.c && (bias || a->relu); o++)
        m->k->bias(out + o * m->y_chan, bias ? bias + o : NULL, a->relu, 1, n);
    return LIPS_OK;
}

static lips_status vjp(const matrix *m, float *dx, const float *y, const float *mask, int64_t u0,
                       int64_t u1)
{
    const lips_conv_args *a = m->a;
    const int64_t pixels = (u1 - u0) * a->y.w, lanes = a->x.lanes, at = u0 * a->y.w;
    LIPS_TRY(lips_cpu_multiply(
        "conv_vjp", &(lips_cpu_product){.ta = 'T',
                                        .tb = 'N',
                                        .m = a->x.c,
                                        .n = pixels * m->wide,
                                        .k = a->y.c,
                                        .a = a->w,
                                        .lda = a->x.c,
                                        .b = y + at * m->wide,
                                        .ldb = m->y_chan,
                                        .out = m->strided ? m->packed : dx + at * m->wide,
                                        .ld_out = m->strided ? pixels * m->wide : m->x_chan}));
    if (m->strided) {
        spread(m, dx, mask, u0, u1);
        return LIPS_OK;
    }
    for (int64_t c = 0; mask && c < a->x.c; c++) {
        float *v = dx + c * m->x_chan + at * m->wide;
        m->k->mask(v, v, mask + (c * a->x.h * a->x.w + at) * lanes, pixels, a->x.t, lanes);
    }
    return LIPS_OK;
}

static lips_status slab(const matrix *m, lips_conv_op op, int64_t s)
{
    const lips_conv_args *a = m->a;
    float *x = (float *)a->x.data + s * a->x.c * m->x_chan;
    float *y = (float *)a->y.data + s * a->y.c * m->y_chan;
    const float *mask =
        op == LIPS_CONV_VJP && a->mask
            ? (const float *)a->mask->data + s * lips_tensor_features(&a->x) * a->x.lanes
            : NULL;
    for (int64_t u0 = 0; u0 < a->y.h; u0 += m->rows) {
        const int64_t u1 = lips_conv_min(a->y.h, u0 + m->rows);
        if (op == LIPS_CONV_FORWARD)
            LIPS_TRY(forward(m, x, y, u0, u1));
        else
            LIPS_TRY(vjp(m, x, y, mask, u0, u1));
    }
    return LIPS_OK;
}

lips_status lips_conv_matrix(const lips_cpu_kernels *k, lips_conv_op op, const lips_conv_args *a)
{
    const int64_t slabs = lips_conv_slabs(&a->x);
    lips_conv_arena mem = {.base = a->work};
    matrix m = describe(a, &mem);
    m.k = k;
    for (int64_t s = 0; s < slabs; s++)
        LIPS_TRY(slab(&m, op, s));
    return LIPS_OK;
}
