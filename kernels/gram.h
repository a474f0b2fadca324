/*
 * kernels/gram.h - launch wrappers of gram.cu: Gram matrices of the stacked values of each sample,
 * and the sums over positions that bias and batch norm need before theirs.
 */
#ifndef LIPS_KERNELS_GRAM_H
#define LIPS_KERNELS_GRAM_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* theta[s][t][u] += scale_s sum_{p,c} x[s][p][t][c] x[s][p][u][c], scale_s = |row s of v|^2, or 1.
 * x of f64 may come in parts, which are added first. */
typedef struct lips_cuda_gram_args {
    double *theta; /* (B,T,T) device, added to; symmetric to the bit */
    const void *x; /* (B,P,T,C) device, f32, or f64 if wide: then (B,parts,P,T,C) */
    bool wide;
    int64_t parts; /* 0 stands for 1 */
    int64_t b, p, t, c;
    const float *v; /* (B,N) device, or NULL */
    int64_t n;
    void *work; /* lips_cuda_gram_work() bytes, or NULL where that is 0 */
} lips_cuda_gram_args;

/* Scratch for the shape; 0 for most. */
size_t lips_cuda_gram_work(const lips_cuda_gram_args *a);
lips_status lips_cuda_gram(const lips_cuda_gram_args *a, cudaStream_t stream);

/* sums[s][t][c] = sum_p y[s][p][t][c]; with x also sums[s][t][C + c] = sum_p y (x - mean_c) inv_c,
 * inv_c = 1 / sqrt(var_c + eps). Each as so many parts that are still to be added. */
typedef struct lips_cuda_channel_sums_args {
    double *sums;            /* (B,parts,T,C) or (B,parts,T,2C) device, overwritten */
    const float *y;          /* (B,P,T,C) device */
    const float *x;          /* (B,P,C) device, or NULL */
    const float *mean, *var; /* (C) device, with x */
    double eps;
    int64_t b, p, t, c;
} lips_cuda_channel_sums_args;

int64_t lips_cuda_channel_sums_parts(const lips_cuda_channel_sums_args *a);
/* Of the sums of b samples or fewer, with x if `norm`. */
size_t lips_cuda_channel_sums_bytes(int64_t b, int64_t p, int64_t t, int64_t c, bool norm);
lips_status lips_cuda_channel_sums(const lips_cuda_channel_sums_args *a, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
