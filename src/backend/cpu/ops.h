/*
 * backend/cpu/ops.h - the entries of the cpu backend's table, by file, and how they walk a tensor.
 *
 * A slab is `lanes` samples: a row-major matrix of C*H*W rows with t*lanes reals each. Ops work on
 * the slabs in use, ceil(b / lanes); in the last one, lanes beyond b hold finite rubbish and never
 * enter a result that is summed over samples.
 */
#ifndef LIPS_BACKEND_CPU_OPS_H
#define LIPS_BACKEND_CPU_OPS_H

#include "backend/check.h"
#include "backend/cpu/cpu.h"

static inline int64_t lips_cpu_slabs(const lips_tensor *t)
{
    return (t->b + t->lanes - 1) / t->lanes;
}

static inline int64_t lips_cpu_slab_reals(const lips_tensor *t)
{
    return lips_tensor_features(t) * t->t * t->lanes;
}

static inline float *lips_cpu_slab(const lips_tensor *t, int64_t s)
{
    return (float *)t->data + s * lips_cpu_slab_reals(t);
}

/* Samples of slab s: lanes, or fewer in the last one. */
static inline int64_t lips_cpu_slab_samples(const lips_tensor *t, int64_t s)
{
    int64_t left = t->b - s * t->lanes;
    return left < t->lanes ? left : t->lanes;
}

/* All tensors of an op have the same lanes (check.h), so one of them is looked at. */
static inline lips_status lips_cpu_layout(const char *op, const lips_tensor *t)
{
    if (t->lanes % LIPS_CPU_LANES)
        return lips_fail(LIPS_ERR_USAGE, "%s: lanes is %lld, must be a multiple of %d on cpu", op,
                         (long long)t->lanes, LIPS_CPU_LANES);
    return LIPS_OK;
}

/* reduce.c: over the samples in use and the H*W positions of channel c. */
/* sum of y[:,c,:,:,t] */
double lips_cpu_channel_sum(const lips_backend *be, const lips_tensor *y, int64_t c, int64_t t);
typedef struct lips_cpu_moments {
    double sum, dot;
} lips_cpu_moments;

/* Sums of y[..,t] and of y[..,t] * (x - center); x.t = 1. */
lips_cpu_moments lips_cpu_channel_moments(const lips_backend *be, const lips_tensor *y, int64_t c,
                                          int64_t t, const lips_tensor *x, double center);

/* memory.c */
lips_status lips_cpu_write(lips_backend *be, void *dst, int64_t off, const double *src, int64_t n);
lips_status lips_cpu_read(lips_backend *be, double *dst, const void *src, int64_t off, int64_t n);
lips_status lips_cpu_diff_sumsq(lips_backend *be, double *out, const void *a, const void *b,
                                int64_t n);

/* tensor.c */
int64_t lips_cpu_plan_lanes(lips_backend *be, int64_t cap, bool spatial);
size_t lips_cpu_tensor_bytes(lips_backend *be, const lips_tensor *t);
lips_status lips_cpu_upload(lips_backend *be, const lips_tensor *dst, const float *src,
                            const int64_t *idx);
lips_status lips_cpu_upload_f64(lips_backend *be, const lips_tensor *dst, const double *src);
lips_status lips_cpu_download(lips_backend *be, double *dst, const lips_tensor *src);
lips_status lips_cpu_fill(lips_backend *be, const lips_tensor *dst, double value);
lips_status lips_cpu_eye(lips_backend *be, const lips_tensor *dst, double scale);
lips_status lips_cpu_add(lips_backend *be, const lips_tensor *y, const lips_tensor *a,
                         const lips_tensor *b);

/* linear.c */
lips_status lips_cpu_linear_forward(lips_backend *be, const lips_linear_args *a);
lips_status lips_cpu_linear_vjp(lips_backend *be, const lips_linear_args *a);
lips_status lips_cpu_linear_grad(lips_backend *be, const lips_linear_args *a);

/* gram.c */
lips_status lips_cpu_gram(lips_backend *be, const lips_gram_args *a);
lips_status lips_cpu_linear_gram(lips_backend *be, const lips_linear_args *a);
lips_status lips_cpu_bias_gram(lips_backend *be, const lips_bias_args *a);
lips_status lips_cpu_bn_gram(lips_backend *be, const lips_bn_args *a);

/* elementwise.c */
lips_status lips_cpu_bias_forward(lips_backend *be, const lips_bias_args *a);
lips_status lips_cpu_bias_grad(lips_backend *be, const lips_bias_args *a);
lips_status lips_cpu_relu_forward(lips_backend *be, const lips_relu_args *a);
lips_status lips_cpu_relu_mask(lips_backend *be, const lips_relu_args *a);
lips_status lips_cpu_avgpool_forward(lips_backend *be, const lips_pool_args *a);
lips_status lips_cpu_avgpool_vjp(lips_backend *be, const lips_pool_args *a);

/* batchnorm.c */
typedef struct lips_cpu_bn_channel {
    double mean, inv; /* of the batch or running, by mode; inv = 1 / sqrt(var + eps) */
} lips_cpu_bn_channel;

lips_cpu_bn_channel lips_cpu_bn_statistics(const lips_bn_args *a, int64_t c);
lips_status lips_cpu_bn_forward(lips_backend *be, const lips_bn_args *a);
lips_status lips_cpu_bn_jvp(lips_backend *be, const lips_bn_args *a);
lips_status lips_cpu_bn_vjp(lips_backend *be, const lips_bn_args *a);
lips_status lips_cpu_bn_grad(lips_backend *be, const lips_bn_args *a);

/* layernorm.c */
lips_status lips_cpu_ln_forward(lips_backend *be, const lips_ln_args *a);
lips_status lips_cpu_ln_jvp(lips_backend *be, const lips_ln_args *a);
lips_status lips_cpu_ln_vjp(lips_backend *be, const lips_ln_args *a);
lips_status lips_cpu_ln_grad(lips_backend *be, const lips_ln_args *a);
lips_status lips_cpu_ln_gram(lips_backend *be, const lips_ln_args *a);
lips_status lips_cpu_ln_vjp_dot(lips_backend *be, const lips_ln_args *a);
lips_status lips_cpu_ln_grad_dot(lips_backend *be, const lips_ln_args *a);

/* attention.c */
size_t lips_cpu_attn_workspace(lips_backend *be, const lips_attn_args *a);
lips_status lips_cpu_attn_forward(lips_backend *be, const lips_attn_args *a);
lips_status lips_cpu_attn_jvp(lips_backend *be, const lips_attn_args *a);
lips_status lips_cpu_attn_vjp(lips_backend *be, const lips_attn_args *a);
lips_status lips_cpu_attn_vjp_dot(lips_backend *be, const lips_attn_args *a);

/* tokens.c */
lips_status lips_cpu_gelu_forward(lips_backend *be, const lips_gelu_args *a);
lips_status lips_cpu_gelu_slope(lips_backend *be, const lips_gelu_args *a);
lips_status lips_cpu_gelu_vjp_dot(lips_backend *be, const lips_gelu_args *a);
lips_status lips_cpu_tokens_forward(lips_backend *be, const lips_tokens_args *a);
lips_status lips_cpu_tokens_vjp(lips_backend *be, const lips_tokens_args *a);
lips_status lips_cpu_tokens_grad(lips_backend *be, const lips_tokens_args *a);
lips_status lips_cpu_tokens_gram(lips_backend *be, const lips_tokens_args *a);
lips_status lips_cpu_pick_forward(lips_backend *be, const lips_pick_args *a);
lips_status lips_cpu_pick_vjp(lips_backend *be, const lips_pick_args *a);

/* train.c */
lips_status lips_cpu_loss(lips_backend *be, const lips_loss_args *a);
lips_status lips_cpu_sgd(lips_backend *be, const lips_sgd_args *a);
lips_status lips_cpu_adam(lips_backend *be, const lips_adam_args *a);

#endif
