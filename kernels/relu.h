/*
 * kernels/relu.h - ReLU and the masking that is both its jvp and its vjp.
 *
 * A stacked tensor is (outer, T, inner) with the mask (outer, inner): outer = samples * pixels,
 * inner = C for images; outer = samples, inner = C*H*W for rows.
 */
#ifndef LIPS_KERNELS_RELU_H
#define LIPS_KERNELS_RELU_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* y[i] = max(0, x[i]), NaN stays; y may be x. */
lips_status lips_cuda_relu(float *y, const float *x, int64_t n, cudaStream_t stream);

/* y[o][t][i] = mask[o][i] > 0 ? x[o][t][i] : 0; y may be x. */
lips_status lips_cuda_relu_mask(float *y, const float *x, const float *mask, int64_t outer,
                                int64_t t, int64_t inner, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
