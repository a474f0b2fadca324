/*
 * backend/cuda/ops.h - the entries of the table of operations, one file per family. (Launch
 * wrappers, in kernels/, are called lips_cuda_<op>.)
 */
#ifndef LIPS_BACKEND_CUDA_OPS_H
#define LIPS_BACKEND_CUDA_OPS_H

#include "backend/cuda/cuda_internal.h"

/* handle.c */
lips_status cuda_op_probe(lips_device *out, int device);
lips_status cuda_op_open(lips_backend **out, int device);
void cuda_op_close(lips_backend *be);
/* choose.c */
size_t cuda_op_own_bytes(lips_backend *be, const lips_own_args *a);
void cuda_op_each_choice(lips_choice_fn *f, void *user);
lips_status cuda_op_keep_choices(lips_backend *be, const char *path);
lips_status cuda_op_set_precision(lips_backend *be, lips_precision forward,
                                  lips_precision backward);
lips_status cuda_op_set_libraries(lips_backend *be, lips_library conv, lips_library linear);
lips_status cuda_op_sync(lips_backend *be);

/* memory.c */
lips_status cuda_op_alloc(lips_backend *be, void **out, size_t bytes);
lips_status cuda_op_alloc_shared(lips_backend *be, void **out, size_t bytes);
void cuda_op_release(lips_backend *be, void *p);
lips_status cuda_op_write(lips_backend *be, void *dst, int64_t off, const double *src, int64_t n);
lips_status cuda_op_read(lips_backend *be, double *dst, const void *src, int64_t off, int64_t n);
lips_status cuda_op_zero(lips_backend *be, void *dst, size_t bytes);
lips_status cuda_op_copy(lips_backend *be, void *dst, const void *src, size_t bytes);
lips_status cuda_op_put(lips_backend *be, void *dst, const void *src, size_t bytes);
lips_status cuda_op_fetch(lips_backend *be, void *dst, const void *src, size_t bytes, int slot);
lips_status cuda_op_await(lips_backend *be, int slot);
lips_status cuda_op_diff_sumsq(lips_backend *be, double *out, const void *a, const void *b,
                               int64_t n);

/* tensor.c */
int64_t cuda_op_plan_lanes(lips_backend *be, int64_t cap, bool spatial);
size_t cuda_op_tensor_bytes(lips_backend *be, const lips_tensor *t);
lips_status cuda_op_upload(lips_backend *be, const lips_tensor *dst, const float *src,
                           const int64_t *idx);
lips_status cuda_op_upload_f64(lips_backend *be, const lips_tensor *dst, const double *src);
lips_status cuda_op_download(lips_backend *be, double *dst, const lips_tensor *src);
lips_status cuda_op_fill(lips_backend *be, const lips_tensor *dst, double value);
lips_status cuda_op_eye(lips_backend *be, const lips_tensor *dst, double scale);
lips_status cuda_op_add(lips_backend *be, const lips_tensor *y, const lips_tensor *a,
                        const lips_tensor *b);

/* elementwise.c */
lips_status cuda_op_bias_forward(lips_backend *be, const lips_bias_args *a);
lips_status cuda_op_bias_grad(lips_backend *be, const lips_bias_args *a);
lips_status cuda_op_relu_forward(lips_backend *be, const lips_relu_args *a);
lips_status cuda_op_relu_mask(lips_backend *be, const lips_relu_args *a);
lips_status cuda_op_avgpool_forward(lips_backend *be, const lips_pool_args *a);
lips_status cuda_op_avgpool_vjp(lips_backend *be, const lips_pool_args *a);

/* batchnorm.c */
lips_status cuda_op_bn_forward(lips_backend *be, const lips_bn_args *a);
lips_status cuda_op_bn_jvp(lips_backend *be, const lips_bn_args *a);
lips_status cuda_op_bn_vjp(lips_backend *be, const lips_bn_args *a);
lips_status cuda_op_bn_grad(lips_backend *be, const lips_bn_args *a);

/* train.c */
lips_status cuda_op_loss(lips_backend *be, const lips_loss_args *a);
lips_status cuda_op_sgd(lips_backend *be, const lips_sgd_args *a);
lips_status cuda_op_adam(lips_backend *be, const lips_adam_args *a);
lips_status cuda_op_advance(lips_backend *be, const lips_advance_args *a);

/* linear.c */
lips_status cuda_op_linear_forward(lips_backend *be, const lips_linear_args *a);
lips_status cuda_op_linear_vjp(lips_backend *be, const lips_linear_args *a);
lips_status cuda_op_linear_grad(lips_backend *be, const lips_linear_args *a);

/* conv.c */
size_t cuda_op_conv_workspace(lips_backend *be, const lips_conv_args *a);
lips_status cuda_op_conv_forward(lips_backend *be, const lips_conv_args *a);
lips_status cuda_op_conv_vjp(lips_backend *be, const lips_conv_args *a);
lips_status cuda_op_conv_grad(lips_backend *be, const lips_conv_args *a);

/* gram.c */
lips_status cuda_op_gram(lips_backend *be, const lips_gram_args *a);
lips_status cuda_op_linear_gram(lips_backend *be, const lips_linear_args *a);
lips_status cuda_op_conv_gram(lips_backend *be, const lips_conv_args *a);
lips_status cuda_op_bias_gram(lips_backend *be, const lips_bias_args *a);
lips_status cuda_op_bn_gram(lips_backend *be, const lips_bn_args *a);

/* layernorm.c */
lips_status cuda_op_ln_forward(lips_backend *be, const lips_ln_args *a);
lips_status cuda_op_ln_jvp(lips_backend *be, const lips_ln_args *a);
lips_status cuda_op_ln_vjp(lips_backend *be, const lips_ln_args *a);
lips_status cuda_op_ln_grad(lips_backend *be, const lips_ln_args *a);
lips_status cuda_op_ln_gram(lips_backend *be, const lips_ln_args *a);
lips_status cuda_op_ln_vjp_dot(lips_backend *be, const lips_ln_args *a);
lips_status cuda_op_ln_grad_dot(lips_backend *be, const lips_ln_args *a);

/* tokens.c */
lips_status cuda_op_gelu_forward(lips_backend *be, const lips_gelu_args *a);
lips_status cuda_op_gelu_slope(lips_backend *be, const lips_gelu_args *a);
lips_status cuda_op_gelu_vjp_dot(lips_backend *be, const lips_gelu_args *a);
lips_status cuda_op_tokens_forward(lips_backend *be, const lips_tokens_args *a);
lips_status cuda_op_tokens_vjp(lips_backend *be, const lips_tokens_args *a);
lips_status cuda_op_tokens_grad(lips_backend *be, const lips_tokens_args *a);
lips_status cuda_op_tokens_gram(lips_backend *be, const lips_tokens_args *a);
lips_status cuda_op_pick_forward(lips_backend *be, const lips_pick_args *a);
lips_status cuda_op_pick_vjp(lips_backend *be, const lips_pick_args *a);

/* attention.c */
size_t cuda_op_attn_workspace(lips_backend *be, const lips_attn_args *a);
lips_status cuda_op_attn_forward(lips_backend *be, const lips_attn_args *a);
lips_status cuda_op_attn_jvp(lips_backend *be, const lips_attn_args *a);
lips_status cuda_op_attn_vjp(lips_backend *be, const lips_attn_args *a);
lips_status cuda_op_attn_vjp_dot(lips_backend *be, const lips_attn_args *a);

/* vectors.c */
lips_status cuda_op_dots(lips_backend *be, const lips_dots_args *a);
lips_status cuda_op_combine(lips_backend *be, const lips_combine_args *a);
lips_status cuda_op_narrow(lips_backend *be, void *dst, const double *src, int64_t n);
lips_status cuda_op_widen(lips_backend *be, double *dst, double factor, const void *src, int64_t n);
lips_status cuda_op_signs(lips_backend *be, double *dst, int64_t draw, int64_t n);

/* norms.c */
lips_status cuda_op_norms(lips_backend *be, const lips_norms_args *a);

/* loss_curve.c */
lips_status cuda_op_loss_curve(lips_backend *be, const lips_loss_curve_args *a);

/* rows.c */
lips_status cuda_op_rows_load(lips_backend *be, const lips_rows *r, const lips_rows_source *s);
lips_status cuda_op_gather(lips_backend *be, const lips_gather_args *a);

/* record.c */
lips_status cuda_op_record_begin(lips_backend *be);
lips_status cuda_op_record_end(lips_backend *be, lips_recorded **out);
lips_status cuda_op_replay(lips_backend *be, const lips_recorded *r);
void cuda_op_recorded_free(lips_backend *be, lips_recorded *r);

#endif
