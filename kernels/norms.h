/*
 * kernels/norms.h - launch wrappers of norms.cu and norms_wide.cu: spectral and Frobenius norms
 * from many small Gram matrices, as lips_norms_args (backend/backend.h) says.
 */
#ifndef LIPS_KERNELS_NORMS_H
#define LIPS_KERNELS_NORMS_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LIPS_CUDA_NORMS_MAX = 104 };

typedef enum lips_cuda_norms_map {
    LIPS_CUDA_NORMS_PLAIN,       /* g */
    LIPS_CUDA_NORMS_SOFTMAX,     /* S g S, S = diag(p) - p p' */
    LIPS_CUDA_NORMS_LOG_SOFTMAX, /* A g A', A = I - 1 p' */
    LIPS_CUDA_NORMS_VECTOR,      /* p' g p, a scalar */
    LIPS_CUDA_NORMS_TRACE        /* tr(S g), a scalar */
} lips_cuda_norms_map;

typedef struct lips_cuda_norms_args {
    double *op,
        *fro;        /* (N) device, overwritten: roots of the largest eigenvalue and of the trace */
    const double *g; /* (N,K,K) device, symmetric */
    const double *p; /* (rows,K) device, matrix i takes row i % rows; NULL for PLAIN */
    int64_t rows;    /* >= 1 */
    int64_t n, k;    /* 1 <= K <= LIPS_CUDA_NORMS_MAX */
    lips_cuda_norms_map map;
} lips_cuda_norms_args;

lips_status lips_cuda_norms(const lips_cuda_norms_args *a, cudaStream_t stream);
/* Any K: what lips_cuda_norms takes for those above 32. */
lips_status lips_cuda_norms_wide(const lips_cuda_norms_args *a, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
