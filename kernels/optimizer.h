/*
 * kernels/optimizer.h - optimiser steps in place on n floats of device memory.
 */
#ifndef LIPS_KERNELS_OPTIMIZER_H
#define LIPS_KERNELS_OPTIMIZER_H

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
} lips_cuda_sgd_step;

typedef struct lips_cuda_adam_step {
    float *p;
    const float *g;
    float *m, *v;
    int64_t n;
    float weight_decay, beta1, rest1, beta2, rest2; /* rest = 1 - beta, formed in f64 */
    float rate;     /* lr / (1 - beta1^step) */
    float inv_root; /* 1 / sqrt(1 - beta2^step) */
    float eps;
} lips_cuda_adam_step;

lips_status lips_cuda_sgd(const lips_cuda_sgd_step *a, cudaStream_t stream);
lips_status lips_cuda_adam(const lips_cuda_adam_step *a, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
