/*
 * backend/check.h - the argument checks of the operations, shared by all backends: the first line
 * of every op. Errors: LIPS_ERR_USAGE with op, argument, value and what was expected.
 *
 * All tensors of one op have the same b and lanes; a mask has the shape of the tensor it masks and
 * t = 1. Memory layout itself (which lanes a backend accepts) and scratch are the backend's to
 * check.
 */
#ifndef LIPS_BACKEND_CHECK_H
#define LIPS_BACKEND_CHECK_H

#include "backend/backend.h"

typedef enum lips_pass {
    LIPS_FORWARD,
    LIPS_JVP,
    LIPS_VJP,
    LIPS_GRAD,
    LIPS_GRAM,
    LIPS_VJP_DOT,
    LIPS_GRAD_DOT
} lips_pass;

/* Largest number of reals in one tensor or vector: sizes in bytes and in indices cannot overflow.
 */
#define LIPS_REALS_MAX (INT64_C(1) << 48)

/* data set, 1 <= b <= cap, every extent >= 1, no more than LIPS_REALS_MAX reals. */
lips_status lips_check_tensor(const char *op, const char *name, const lips_tensor *t);
/* The extents alone (tensor_bytes, plans: data may be NULL). */
lips_status lips_check_extents(const char *op, const char *name, const lips_tensor *t);

lips_status lips_check_linear(lips_pass pass, const lips_linear_args *a);
lips_status lips_check_conv(lips_pass pass, const lips_conv_args *a);
/* Only what conv_workspace may use: geometry, extents, matching sizes; data may be NULL. */
lips_status lips_check_conv_plan(const lips_conv_args *a);
lips_status lips_check_bias(lips_pass pass, const lips_bias_args *a);
lips_status lips_check_relu(lips_pass pass, const lips_relu_args *a); /* LIPS_VJP: the mask form */
lips_status lips_check_avgpool(lips_pass pass, const lips_pool_args *a);
lips_status lips_check_bn(lips_pass pass, const lips_bn_args *a);
/* LIPS_VJP_DOT, LIPS_GRAD_DOT: the derivatives of vjp and grad along a tangent of the input. */
lips_status lips_check_ln(lips_pass pass, const lips_ln_args *a);
lips_status lips_check_gelu(lips_pass pass, const lips_gelu_args *a); /* LIPS_VJP: the slope */
lips_status lips_check_attn(lips_pass pass, const lips_attn_args *a);
/* Only what attn_workspace may use. */
lips_status lips_check_attn_plan(const lips_attn_args *a);
lips_status lips_check_tokens(lips_pass pass, const lips_tokens_args *a);
lips_status lips_check_pick(lips_pass pass, const lips_pick_args *a);
lips_status lips_check_loss(const lips_loss_args *a);
lips_status lips_check_loss_curve(const lips_loss_curve_args *a);
lips_status lips_check_sgd(const lips_sgd_args *a);
lips_status lips_check_adam(const lips_adam_args *a);
lips_status lips_check_advance(const lips_advance_args *a);
/* Of put and fetch: both are set where there are bytes. */
lips_status lips_check_bytes(const char *op, const void *dst, const void *src, size_t bytes);
/* Of fetch and await. */
lips_status lips_check_slot(const char *op, int slot);
lips_status lips_check_gram(const lips_gram_args *a);
lips_status lips_check_norms(const lips_norms_args *a);
lips_status lips_check_dots(const lips_dots_args *a);
lips_status lips_check_combine(const lips_combine_args *a);
/* Of narrow and widen; of signs. */
lips_status lips_check_pair(const char *op, const void *dst, const void *src, int64_t n);
lips_status lips_check_signs(const double *dst, int64_t draw, int64_t n);
lips_status lips_check_rows(const lips_rows *r, const lips_rows_source *s);
lips_status lips_check_gather(const lips_gather_args *a);
lips_status lips_check_add(const lips_tensor *y, const lips_tensor *a, const lips_tensor *b);
lips_status lips_check_eye(const lips_tensor *dst);
/* One tensor and one host array: upload (t = 1 demanded), upload_f64, download, fill. */
lips_status lips_check_transfer(const char *op, const lips_tensor *t, const void *host, bool flat);
/* A vector of n reals at off, n >= 0: read, write, diff_sumsq. */
lips_status lips_check_vector(const char *op, const void *data, int64_t off, int64_t n);

#endif
