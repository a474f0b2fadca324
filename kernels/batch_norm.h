/*
 * kernels/batch_norm.h - batch normalisation per channel. Images: the primal (rows, C), rows =
 * samples * pixels; stacked tangents and cotangents (rows, T, C). All pointers are device memory.
 */
#ifndef LIPS_KERNELS_BATCH_NORM_H
#define LIPS_KERNELS_BATCH_NORM_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lips_cuda_bn {
    int64_t rows, t, c;
    bool training;
    const float *gamma, *beta;      /* (C); what the pass needs */
    float *mean, *var;              /* (C) running statistics */
    float *tracked;                 /* (1) or NULL */
    double *batch_mean, *batch_var; /* (C) f64, training */
    double eps, momentum;
    void *scratch; /* lips_cuda_bn_bytes(rows, t, c) */
} lips_cuda_bn;

/* Scratch for every pass. */
size_t lips_cuda_bn_bytes(int64_t rows, int64_t t, int64_t c);

/* y = gamma (x - m) / sqrt(v + eps) + beta. In training mode m and v are the batch's, which go to
 * batch_mean and batch_var and move the running ones, and tracked += 1. */
lips_status lips_cuda_bn_forward(const lips_cuda_bn *a, float *y, const float *x,
                                 cudaStream_t stream);

/* out = the derivative applied to u (rows, T, C), which is its own transpose: jvp and vjp alike.
 * in (rows, C): the primal input, in training mode. */
lips_status lips_cuda_bn_derivative(const lips_cuda_bn *a, float *out, const float *u,
                                    const float *in, cudaStream_t stream);

/* dgamma += sum dy xhat, dbeta += sum dy; each may be NULL. dy, x (rows, C). */
lips_status lips_cuda_bn_grad(const lips_cuda_bn *a, float *dgamma, float *dbeta, const float *dy,
                              const float *x, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
