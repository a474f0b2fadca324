/*
 * backend/ref/ref.h - shared by the files of the reference backend: plain loops in float64, no
 * libraries, written to be read. The oracle for the other backends.
 *
 * Layout: lanes = 1, so the T stacked values of one place of one sample are adjacent.
 */
#ifndef LIPS_BACKEND_REF_H
#define LIPS_BACKEND_REF_H

#include "backend/check.h"

/* Address of the T stacked values of sample s at (c,y,x). */
static inline double *ref_at(const lips_tensor *t, int64_t s, int64_t c, int64_t y, int64_t x)
{
    return (double *)t->data + (((s * t->c + c) * t->h + y) * t->w + x) * t->t;
}

/* All tensors of an op have the same lanes (check.h), so one of them is looked at. */
static inline lips_status ref_layout(const char *op, const lips_tensor *t)
{
    if (t->lanes != 1)
        return lips_fail(LIPS_ERR_USAGE, "%s: lanes is %lld, must be 1 on ref", op,
                         (long long)t->lanes);
    return LIPS_OK;
}

/* tensor.c */
lips_status ref_probe(lips_device *out, int device);
lips_status ref_open(lips_backend **out, int device);
void ref_close(lips_backend *be);
lips_status ref_write(lips_backend *be, void *dst, int64_t off, const double *src, int64_t n);
lips_status ref_read(lips_backend *be, double *dst, const void *src, int64_t off, int64_t n);
lips_status ref_diff_sumsq(lips_backend *be, double *out, const void *a, const void *b, int64_t n);
int64_t ref_plan_lanes(lips_backend *be, int64_t cap, bool spatial);
size_t ref_tensor_bytes(lips_backend *be, const lips_tensor *t);
lips_status ref_upload(lips_backend *be, const lips_tensor *dst, const float *src,
                       const int64_t *idx);
lips_status ref_upload_f64(lips_backend *be, const lips_tensor *dst, const double *src);
lips_status ref_download(lips_backend *be, double *dst, const lips_tensor *src);
lips_status ref_fill(lips_backend *be, const lips_tensor *dst, double value);
lips_status ref_eye(lips_backend *be, const lips_tensor *dst, double scale);
lips_status ref_add(lips_backend *be, const lips_tensor *y, const lips_tensor *a,
                    const lips_tensor *b);

/* linear.c */
lips_status ref_linear_forward(lips_backend *be, const lips_linear_args *a);
lips_status ref_linear_vjp(lips_backend *be, const lips_linear_args *a);
lips_status ref_linear_grad(lips_backend *be, const lips_linear_args *a);
lips_status ref_linear_gram(lips_backend *be, const lips_linear_args *a);

/* conv.c */
size_t ref_conv_workspace(lips_backend *be, const lips_conv_args *a);
lips_status ref_conv_forward(lips_backend *be, const lips_conv_args *a);
lips_status ref_conv_vjp(lips_backend *be, const lips_conv_args *a);
lips_status ref_conv_grad(lips_backend *be, const lips_conv_args *a);
lips_status ref_conv_gram(lips_backend *be, const lips_conv_args *a);

/* bias.c */
lips_status ref_bias_forward(lips_backend *be, const lips_bias_args *a);
lips_status ref_bias_grad(lips_backend *be, const lips_bias_args *a);
lips_status ref_bias_gram(lips_backend *be, const lips_bias_args *a);

/* relu.c */
lips_status ref_relu_forward(lips_backend *be, const lips_relu_args *a);
lips_status ref_relu_mask(lips_backend *be, const lips_relu_args *a);

/* pool.c */
lips_status ref_avgpool_forward(lips_backend *be, const lips_pool_args *a);
lips_status ref_avgpool_vjp(lips_backend *be, const lips_pool_args *a);

/* batchnorm.c */
lips_status ref_bn_forward(lips_backend *be, const lips_bn_args *a);
lips_status ref_bn_jvp(lips_backend *be, const lips_bn_args *a);
lips_status ref_bn_vjp(lips_backend *be, const lips_bn_args *a);
lips_status ref_bn_grad(lips_backend *be, const lips_bn_args *a);
lips_status ref_bn_gram(lips_backend *be, const lips_bn_args *a);

/* layernorm.c */
lips_status ref_ln_forward(lips_backend *be, const lips_ln_args *a);
lips_status ref_ln_jvp(lips_backend *be, const lips_ln_args *a);
lips_status ref_ln_vjp(lips_backend *be, const lips_ln_args *a);
lips_status ref_ln_grad(lips_backend *be, const lips_ln_args *a);
lips_status ref_ln_gram(lips_backend *be, const lips_ln_args *a);
lips_status ref_ln_vjp_dot(lips_backend *be, const lips_ln_args *a);
lips_status ref_ln_grad_dot(lips_backend *be, const lips_ln_args *a);

/* gelu.c */
lips_status ref_gelu_forward(lips_backend *be, const lips_gelu_args *a);
lips_status ref_gelu_slope(lips_backend *be, const lips_gelu_args *a);
lips_status ref_gelu_vjp_dot(lips_backend *be, const lips_gelu_args *a);

/* attention.c */
size_t ref_attn_workspace(lips_backend *be, const lips_attn_args *a);
lips_status ref_attn_forward(lips_backend *be, const lips_attn_args *a);
lips_status ref_attn_jvp(lips_backend *be, const lips_attn_args *a);
lips_status ref_attn_vjp(lips_backend *be, const lips_attn_args *a);
lips_status ref_attn_vjp_dot(lips_backend *be, const lips_attn_args *a);

/* tokens.c */
lips_status ref_tokens_forward(lips_backend *be, const lips_tokens_args *a);
lips_status ref_tokens_vjp(lips_backend *be, const lips_tokens_args *a);
lips_status ref_tokens_grad(lips_backend *be, const lips_tokens_args *a);
lips_status ref_tokens_gram(lips_backend *be, const lips_tokens_args *a);
lips_status ref_pick_forward(lips_backend *be, const lips_pick_args *a);
lips_status ref_pick_vjp(lips_backend *be, const lips_pick_args *a);

/* loss.c, optim.c, gram.c */
lips_status ref_loss(lips_backend *be, const lips_loss_args *a);
lips_status ref_sgd(lips_backend *be, const lips_sgd_args *a);
lips_status ref_adam(lips_backend *be, const lips_adam_args *a);
lips_status ref_gram(lips_backend *be, const lips_gram_args *a);

/* norms.c */
lips_status ref_norms(lips_backend *be, const lips_norms_args *a);

/* loss_curve.c */
lips_status ref_loss_curve(lips_backend *be, const lips_loss_curve_args *a);

/* rows.c */
/* LIPS_ERR_USAGE if one of b places of the order is no row. */
lips_status ref_course(const char *op, const lips_rows *r, const int64_t *order, int64_t b);
lips_status ref_rows_load(lips_backend *be, const lips_rows *r, const lips_rows_source *s);
lips_status ref_gather(lips_backend *be, const lips_gather_args *a);

#endif
