/*
 * cuda/conv.c - convolutions: own tiles or patches on tensor cores, own FFMA kernels for few
 * channels, or cuDNN. The workspace holds the re-ordered weights, or the partial sums of the
 * gradient.
 */
#include "backend/cuda/choose.h"
#include "backend/cuda/conv_dnn.h"
#include "backend/cuda/ops.h"
#include "kernels/linear.h"

#include <inttypes.h>

/* Columns up to here are FFMA's without measurement: a tile of 32 would be three quarters zeros. */
enum { NARROW = 8, MOST_NARROW = 16 };
/* Bytes of partial sums of a gradient. */
enum { MOST_PARTS = 32 << 20 };
/* Patches beat tiles from here on: predicted rates in kernels/conv_patch.cu. */
static const double PATCH_SHARE = 0.6;

static lips_cuda_conv shape_of(const lips_conv_args *a)
{
    return (lips_cuda_conv){.b = a->y.b,
                            .t = a->y.t,
                            .h = a->x.h,
                            .w = a->x.w,
                            .c = a->x.c,
                            .oh = a->y.h,
                            .ow = a->y.w,
                            .o = a->y.c,
                            .r = a->geom.r,
                            .stride = a->geom.stride,
                            .pad = a->geom.pad};
}

static size_t weight_bytes(const lips_cuda_conv *s)
{
    return (size_t)(s->o * s->c * s->r * s->r) * sizeof(float);
}

static int64_t most_parts(const lips_cuda_conv *s)
{
    const int64_t most = MOST_PARTS / (int64_t)weight_bytes(s);
    return most < 1 ? 1 : most;
}

static int64_t parts_of(const lips_cuda_conv *s, lips_cuda_way way)
{
    return way == LIPS_CUDA_NARROW ? lips_cuda_conv_grad_narrow_parts(s, most_parts(s))
                                   : lips_cuda_conv_grad_parts(s, most_parts(s));
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Bytes of a pass's weights as the patches take them, in the precision that needs most. */
static size_t patch_bytes(const lips_cuda_conv *s, bool is_vjp)
{
    size_t most = 0;
    for (int p = LIPS_PRECISION_F32; p <= LIPS_PRECISION_BF16; p++) {
        most = larger(most, lips_cuda_conv_patch_bytes(s, is_vjp, (lips_precision)p));
        most = larger(most, lips_cuda_conv_wgmma_bytes(s, is_vjp, (lips_precision)p));
    }
    return lips_cuda_conv_patch_offers(s, is_vjp) ? most : 0;
}

/* Enough for every op and every way. The batch is the largest that will be run. */
size_t cuda_op_conv_workspace(lips_backend *be, const lips_conv_args *a)
{
    (void)be;
    if (lips_check_conv_plan(a) != LIPS_OK)
        return 0;
    lips_cuda_conv s = shape_of(a);
    s.b = a->y.cap;
    const int64_t tile = parts_of(&s, LIPS_CUDA_TILE), narrow = parts_of(&s, LIPS_CUDA_NARROW);
    size_t bytes = weight_bytes(&s) * (size_t)(tile > narrow ? tile : narrow);
    bytes = larger(bytes, larger(patch_bytes(&s, false), patch_bytes(&s, true)));
    return (bytes + 63) / 64 * 64;
}

static lips_status begin(lips_backend *be, const char *op, lips_pass pass, const lips_conv_args *a,
                         lips_cuda **h)
{
    LIPS_TRY(lips_check_conv(pass, a));
    LIPS_TRY(lips_cuda_images(op, &a->x));
    LIPS_TRY(lips_cuda_images(op, &a->y));
    if (!a->work || (uintptr_t)a->work % 64)
        return lips_fail(LIPS_ERR_USAGE, "%s: work is %p, must be set and 64-byte aligned", op,
                         a->work);
    return lips_cuda_enter(be, h);
}

/* FFMA pays where the tile would mostly be padding: few columns n, or few of both. */
static lips_cuda_product offer(const char *op, const lips_conv_args *a, lips_precision precision,
                               int64_t n, int64_t c)
{
    const lips_cuda_conv s = shape_of(a);
    const bool few = n <= NARROW || (c <= NARROW && n <= MOST_NARROW);
    return (lips_cuda_product){
        .op = op,
        .precision = precision,
        .size = {s.b, s.t, s.h, s.w, s.c, s.o, s.r, s.stride, s.pad, a->mask != NULL},
        .offered = {[LIPS_CUDA_TILE] = true,
                    [LIPS_CUDA_NARROW] = n <= 2 * MOST_NARROW,
                    [LIPS_CUDA_LIBRARY] = lips_cuda_conv_dnn_offers(&s, precision)},
        .rule = few ? LIPS_CUDA_NARROW : LIPS_CUDA_TILE,
        .args = a};
}

/* Patches are offered for their shapes, and are the rule where little of them is padding. Those on
 * Hopper's instructions are chosen by measurement alone, after a proof; an emulated device, which
 * measures nothing, runs them wherever they are offered. */
static void offer_patches(const lips_cuda *h, lips_cuda_product *p, const lips_conv_args *a,
                          bool is_vjp)
{
    const lips_tensor *out = is_vjp ? &a->x : &a->y;
    const lips_cuda_conv s = shape_of(a);
    const float *src = is_vjp ? a->y.data : a->x.data;
    if (!lips_cuda_conv_patch_offers(&s, is_vjp) || (uintptr_t)src % 16)
        return;
    p->out = out->data;
    p->out_count = lips_cuda_used(out);
    p->offered[LIPS_CUDA_PATCH] = true;
    p->offered[LIPS_CUDA_WGMMA] =
        h->prop.major == 9 && h->prop.minor == 0 && lips_cuda_conv_wgmma_offers(&s, is_vjp);
    if (p->rule == LIPS_CUDA_TILE && p->offered[LIPS_CUDA_WGMMA] && lips_cuda_emulated(h))
        p->rule = LIPS_CUDA_WGMMA;
    if (p->rule == LIPS_CUDA_TILE &&
        lips_cuda_conv_patch_share(&s, is_vjp, p->precision) >= PATCH_SHARE)
        p->rule = LIPS_CUDA_PATCH;
}

/* Forward and vjp by the own kernels. */
static lips_status own_apply(lips_cuda *h, const lips_conv_args *a, bool is_vjp, lips_cuda_way way)
{
    lips_cuda_conv_apply_args k = {.shape = shape_of(a),
                                   .vjp = is_vjp,
                                   .relu = a->relu,
                                   .dst = is_vjp ? a->x.data : a->y.data,
                                   .src = is_vjp ? a->y.data : a->x.data,
                                   .weight = a->w,
                                   .bias = a->bias,
                                   .mask = a->mask ? a->mask->data : NULL,
                                   .precision = is_vjp ? h->backward : h->forward};
    if (way == LIPS_CUDA_NARROW)
        return lips_cuda_conv_narrow(&k, h->stream);
    if (way == LIPS_CUDA_WGMMA) {
        LIPS_TRY(
            lips_cuda_conv_wgmma_pack(a->work, a->w, &k.shape, is_vjp, k.precision, h->stream));
        k.weight = a->work;
        return lips_cuda_conv_wgmma(&k, h->stream);
    }
    if (way == LIPS_CUDA_PATCH) {
        LIPS_TRY(
            lips_cuda_conv_patch_pack(a->work, a->w, &k.shape, is_vjp, k.precision, h->stream));
        k.weight = a->work;
        return lips_cuda_conv_patch(&k, h->stream);
    }
    LIPS_TRY(lips_cuda_conv_pack(a->work, a->w, &k.shape, is_vjp, h->stream));
    k.weight = a->work;
    return lips_cuda_conv_apply(&k, h->stream);
}

static lips_cuda_conv_dnn_args dnn_args(const lips_conv_args *a, lips_pass pass,
                                        lips_precision precision)
{
    return (lips_cuda_conv_dnn_args){.pass = pass,
                                     .shape = shape_of(a),
                                     .x = a->x.data,
                                     .y = a->y.data,
                                     .filter = a->work,
                                     .precision = precision};
}

static lips_status forward(lips_cuda *h, const void *args, lips_cuda_way way)
{
    const lips_conv_args *a = args;
    const lips_cuda_conv_dnn_args k = dnn_args(a, LIPS_FORWARD, h->forward);
    if (way != LIPS_CUDA_LIBRARY)
        return own_apply(h, a, false, way);
    LIPS_TRY(lips_cuda_conv_pack(a->work, a->w, &k.shape, false, h->stream));
    LIPS_TRY(lips_cuda_conv_dnn(h, &k));
    if (!a->bias && !a->relu)
        return LIPS_OK;
    return lips_cuda_affine_end(a->y.data, a->bias, a->relu, lips_cuda_used(&a->y) / a->y.c, a->y.c,
                                h->stream);
}

lips_status cuda_op_conv_forward(lips_backend *be, const lips_conv_args *a)
{
    lips_cuda *h;
    LIPS_TRY(begin(be, "conv_forward", LIPS_FORWARD, a, &h));
    lips_cuda_product p = offer("conv_forward", a, h->forward, a->y.c, a->x.c);
    offer_patches(h, &p, a, false);
    p.run = forward;
    return lips_cuda_run(h, &p, h->conv);
}

static lips_status vjp(lips_cuda *h, const void *args, lips_cuda_way way)
{
    const lips_conv_args *a = args;
    const lips_cuda_conv_dnn_args k = dnn_args(a, LIPS_VJP, h->backward);
    if (way != LIPS_CUDA_LIBRARY)
        return own_apply(h, a, true, way);
    LIPS_TRY(lips_cuda_conv_pack(a->work, a->w, &k.shape, false, h->stream));
    LIPS_TRY(lips_cuda_conv_dnn(h, &k));
    return a->mask ? lips_cuda_mask_end(a->x.data, a->mask->data, a->x.b * a->x.h * a->x.w, a->x.t,
                                        a->x.c, h->stream)
                   : LIPS_OK;
}

lips_status cuda_op_conv_vjp(lips_backend *be, const lips_conv_args *a)
{
    lips_cuda *h;
    LIPS_TRY(begin(be, "conv_vjp", LIPS_VJP, a, &h));
    lips_cuda_product p = offer("conv_vjp", a, h->backward, a->x.c, a->y.c);
    offer_patches(h, &p, a, true);
    p.run = vjp;
    return lips_cuda_run(h, &p, h->conv);
}

static lips_status grad(lips_cuda *h, const void *args, lips_cuda_way way)
{
    const lips_conv_args *a = args;
    const lips_cuda_conv_dnn_args dnn = dnn_args(a, LIPS_GRAD, h->backward);
    lips_cuda_conv_grad_args k = {.shape = dnn.shape,
                                  .dw = a->dw,
                                  .part = a->work,
                                  .x = a->x.data,
                                  .dy = a->y.data,
                                  .precision = h->backward};
    if (way == LIPS_CUDA_LIBRARY) {
        LIPS_TRY(lips_cuda_conv_dnn(h, &dnn));
        return lips_cuda_conv_grad_sum(a->dw, a->work, &k.shape, 1, h->stream);
    }
    k.parts = parts_of(&k.shape, way);
    return way == LIPS_CUDA_NARROW ? lips_cuda_conv_grad_narrow(&k, h->stream)
                                   : lips_cuda_conv_grad(&k, h->stream);
}

lips_status cuda_op_conv_grad(lips_backend *be, const lips_conv_args *a)
{
    lips_cuda *h;
    lips_conv_args k = *a;
    LIPS_TRY(begin(be, "conv_grad", LIPS_GRAD, a, &h));
    lips_cuda_product p = offer("conv_grad", &k, h->backward, a->y.c, a->x.c);
    p.run = grad;
    p.sum = &k.dw;
    p.sum_bytes = (size_t)(a->y.c * a->x.c * a->geom.r * a->geom.r) * sizeof(float);
    if (a->dw)
        LIPS_TRY(lips_cuda_run(h, &p, h->conv));
    return a->db ? cuda_op_bias_grad(be, &(lips_bias_args){.y = a->y, .db = a->db}) : LIPS_OK;
}
