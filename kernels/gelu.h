/*
 * kernels/gelu.h - GELU with the error function, its slope and its second derivative.
 *
 * A stacked tensor is (outer, T, inner) with the primal (outer, inner): as in relu.h.
 */
#ifndef LIPS_KERNELS_GELU_H
#define LIPS_KERNELS_GELU_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* y[i] = gelu(x[i]); y may be x. */
lips_status lips_cuda_gelu(float *y, const float *x, int64_t n, cudaStream_t stream);

/* y[o][t][i] = x[o][t][i] gelu'(in[o][i]); y may be x. */
lips_status lips_cuda_gelu_slope(float *y, const float *x, const float *in, int64_t outer,
                                 int64_t t, int64_t inner, cudaStream_t stream);

/* y[i] = x[i] gelu''(in[i]) dot[i]; y may be x. */
lips_status lips_cuda_gelu_vjp_dot(float *y, const float *x, const float *in, const float *dot,
                                   int64_t n, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
