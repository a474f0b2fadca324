/*
 * kernels/layer_norm.h - layer normalisation over the channels of each place. The primal (rows, C),
 * rows = samples * places; stacked tangents and cotangents (rows, T, C). All device memory.
 */
#ifndef LIPS_KERNELS_LAYER_NORM_H
#define LIPS_KERNELS_LAYER_NORM_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lips_cuda_ln {
    int64_t rows, t, c;
    const float *gamma, *beta; /* (C); what the pass needs */
    double eps;
} lips_cuda_ln;

/* y = gamma xhat + beta; y may be x. */
lips_status lips_cuda_ln_forward(const lips_cuda_ln *a, float *y, const float *x,
                                 cudaStream_t stream);

/* With P(u) = u - mean(u) - xhat mean(xhat u): jvp out = gamma r P(u), vjp out = r P(gamma u). */
lips_status lips_cuda_ln_jvp(const lips_cuda_ln *a, float *out, const float *u, const float *in,
                             cudaStream_t stream);
lips_status lips_cuda_ln_vjp(const lips_cuda_ln *a, float *out, const float *u, const float *in,
                             cudaStream_t stream);

/* dx = derivative of the vjp of dy along the tangent dot of in; T = 1. */
lips_status lips_cuda_ln_vjp_dot(const lips_cuda_ln *a, float *dx, const float *dy, const float *in,
                                 const float *dot, cudaStream_t stream);

/* dgamma += sum dy xhat, dbeta += sum dy; each may be NULL. With dot, xhat moves along it instead:
 * dgamma += sum dy xhat'. T = 1. scratch: lips_cuda_ln_grad_bytes(). */
size_t lips_cuda_ln_grad_bytes(const lips_cuda_ln *a);
lips_status lips_cuda_ln_grad(const lips_cuda_ln *a, float *dgamma, float *dbeta, const float *dy,
                              const float *in, const float *dot, void *scratch,
                              cudaStream_t stream);

/* sums[s][t] = (sum_p dy xhat, sum_p dy), of B samples of `places` rows: what dgamma and dbeta of
 * each sample and stacked value are. They come as *parts parts (B,parts,T,2C) f64 that are still to
 * be added; lips_cuda_ln_sums_bytes() hold those of so many samples or fewer. */
size_t lips_cuda_ln_sums_bytes(const lips_cuda_ln *a, int64_t places);
lips_status lips_cuda_ln_sums(const lips_cuda_ln *a, double *sums, int64_t *parts, const float *dy,
                              const float *in, int64_t places, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
