/*
 * kernels/tensor.h - moving, filling and adding tensors. All pointers are device memory, f32; each
 * wrapper queues its kernels on the stream.
 */
#ifndef LIPS_KERNELS_TENSOR_H
#define LIPS_KERNELS_TENSOR_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* dst[s][j][i] = src[s][i][j], i < rows, j < cols, s < n. dst and src are apart. */
lips_status lips_cuda_transpose(float *dst, const float *src, int64_t n, int64_t rows, int64_t cols,
                                cudaStream_t stream);

/* dst[i] = value, i < n. */
lips_status lips_cuda_fill(float *dst, float value, int64_t n, cudaStream_t stream);

/* dst[s][t][c] = scale where t == c, else 0; s < n, t, c < k. */
lips_status lips_cuda_eye(float *dst, float scale, int64_t n, int64_t k, cudaStream_t stream);

/* y[i] = a[i] + b[i], i < n; y may be a or b. */
lips_status lips_cuda_add(float *y, const float *a, const float *b, int64_t n, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
