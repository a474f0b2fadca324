/*
 * kernels/loss_curve.h - launch wrapper of loss_curve.cu: the loss's second derivative times a
 * tangent of the logits.
 */
#ifndef LIPS_KERNELS_LOSS_CURVE_H
#define LIPS_KERNELS_LOSS_CURVE_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* out = scale (diag(p) - p p') v with p = softmax(z), or scale v if squared; 0 for samples >= b. */
typedef struct lips_cuda_loss_curve_args {
    float *out;         /* (cap,K) device, overwritten; may be v */
    const float *z, *v; /* (B,K) device */
    int64_t b, cap, k;
    double scale;
    bool squared;
} lips_cuda_loss_curve_args;

lips_status lips_cuda_loss_curve(const lips_cuda_loss_curve_args *a, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
