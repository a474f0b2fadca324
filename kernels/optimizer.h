/*
 * kernels/optimizer.h - optimiser steps in place on n floats of device memory, and what stands
 * between a gradient and its step: the look at the batch's loss. With a cursor (device, or NULL)
 * the rates are the cursor's, and once it has stopped nothing is changed.
 */
#ifndef LIPS_KERNELS_OPTIMIZER_H
#define LIPS_KERNELS_OPTIMIZER_H

#include "backend/cursor.h"
#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lips_cuda_sgd_step {
    float *p;
    const float *g;
    float *m; /* NULL: no momentum */
    int64_t n;
    float lr, momentum, weight_decay;
    const lips_cursor *cursor;
} lips_cuda_sgd_step;

typedef struct lips_cuda_adam_step {
    float *p;
    const float *g;
    float *m, *v;
    int64_t n;
    float weight_decay, beta1, rest1, beta2, rest2; /* rest = 1 - beta, formed in f64 */
    float rate;                                     /* lr / (1 - beta1^step) */
    float inv_root;                                 /* 1 / sqrt(1 - beta2^step) */
    float eps;
    const lips_cursor *cursor;
} lips_cuda_adam_step;

/* As lips_advance_args (backend/backend.h); all pointers are device memory. */
typedef struct lips_cuda_advance_args {
    lips_cursor *cursor;
    const double *loss; /* (b) */
    int64_t b;
    const float *g; /* (n) */
    int64_t n;
    float *buffers, *kept; /* (n_buffers) */
    int64_t n_buffers;
    double loss_watch, grad_max, beta1, beta2;
} lips_cuda_advance_args;

lips_status lips_cuda_sgd(const lips_cuda_sgd_step *a, cudaStream_t stream);
lips_status lips_cuda_adam(const lips_cuda_adam_step *a, cudaStream_t stream);
lips_status lips_cuda_advance(const lips_cuda_advance_args *a, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
