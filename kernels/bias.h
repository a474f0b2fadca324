/*
 * kernels/bias.h - a bias per channel, and its gradient.
 *
 * A tensor is (rows, C), rows = samples * pixels * T.
 */
#ifndef LIPS_KERNELS_BIAS_H
#define LIPS_KERNELS_BIAS_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* y[r][c] += bias[c]. */
lips_status lips_cuda_bias(float *y, const float *bias, int64_t rows, int64_t c,
                           cudaStream_t stream);

/* db[c] += sum over r of dy[r][c], in f64. scratch: lips_cuda_bias_grad_bytes(). */
size_t lips_cuda_bias_grad_bytes(int64_t rows, int64_t c);
lips_status lips_cuda_bias_grad(float *db, const float *dy, int64_t rows, int64_t c, void *scratch,
                                cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
