/*
 * kernels/vectors.h - launch wrappers of vectors.cu: long vectors of doubles.
 */
#ifndef LIPS_KERNELS_VECTORS_H
#define LIPS_KERNELS_VECTORS_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LIPS_CUDA_VECTORS_MAX = 128 };

/* out[i] = <q_i, w>, overwritten, in the order of lips_dots_args (backend.h). q (count,n), w (n),
 * out (count): device; scratch: device, lips_cuda_dots_bytes. */
size_t lips_cuda_dots_bytes(int64_t count, int64_t n);
lips_status lips_cuda_dots(double *out, const double *q, const double *w, int64_t count, int64_t n,
                           void *scratch, cudaStream_t stream);

/* y = keep y + sum_i (factor c_i) q_i, in the order of i; keep 0: y is not read. */
typedef struct lips_cuda_combine_args {
    double *y; /* (n) device */
    double keep, factor;
    const double *q;      /* (count,n) device */
    const double *c;      /* (count) device, or */
    const double *c_host; /* (count) host, read before the call returns; c is NULL then */
    int64_t count, n;     /* count <= LIPS_CUDA_VECTORS_MAX */
} lips_cuda_combine_args;

lips_status lips_cuda_combine(const lips_cuda_combine_args *a, cudaStream_t stream);

/* dst = src, rounded; dst += factor src. */
lips_status lips_cuda_narrow(float *dst, const double *src, int64_t n, cudaStream_t stream);
lips_status lips_cuda_widen(double *dst, double factor, const float *src, int64_t n,
                            cudaStream_t stream);

/* dst = sign vector number draw of the random numbers' stream (the signs entry of lips_ops). */
lips_status lips_cuda_signs(double *dst, uint32_t rng_stream, int64_t draw, int64_t n,
                            cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
