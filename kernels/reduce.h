/*
 * kernels/reduce.h - sums over whole vectors, f64, in an order that the length alone fixes.
 */
#ifndef LIPS_KERNELS_REDUCE_H
#define LIPS_KERNELS_REDUCE_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* *out = sum_i (a[i] - b[i])^2, overwritten; b NULL counts as 0. out, scratch: device memory, the
 * latter of lips_cuda_diff_sumsq_bytes(n). */
size_t lips_cuda_diff_sumsq_bytes(int64_t n);
lips_status lips_cuda_diff_sumsq(double *out, const float *a, const float *b, int64_t n,
                                 void *scratch, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
