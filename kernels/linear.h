/*
 * kernels/linear.h - launch wrappers of linear layers' own products: device pointers, results on
 * the given stream, nothing waited for, nothing allocated.
 *
 * Rows are (sample, stacked value), t of them a sample, features innermost; w is (o,c) row-major.
 * The forward product and the gradient are convolutions' with a 1 x 1 kernel (kernels/conv.h).
 */
#ifndef LIPS_KERNELS_LINEAR_H
#define LIPS_KERNELS_LINEAR_H

#include "backend/precision.h"
#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lips_cuda_linear_vjp_args {
    int64_t b, t, c, o;
    float *dx;         /* (b,t,c) overwritten: dy w, times (mask > 0) */
    const float *dy;   /* (b,t,o) */
    const float *w;    /* (o,c) */
    const float *mask; /* (b,c) or NULL */
    lips_precision precision;
} lips_cuda_linear_vjp_args;

lips_status lips_cuda_linear_vjp(const lips_cuda_linear_vjp_args *a, cudaStream_t stream);

/* Forward and vjp with the sum over features in parts; 1 part: not worth it. */
int64_t lips_cuda_linear_split_parts(int64_t k, int64_t n);

typedef struct lips_cuda_linear_split_args {
    int64_t b, t, c, o;
    bool vjp, relu;
    float *dst;        /* (b,t,o), or (b,t,c) for the vjp; overwritten */
    float *part;       /* (parts, rows, n), overwritten; n of dst, parts of k and n */
    const float *src;  /* (b,t,c), or (b,t,o) */
    const float *w;    /* (o,c) */
    const float *bias; /* (o) or NULL; forward */
    const float *mask; /* (b,c) or NULL; vjp */
} lips_cuda_linear_split_args;

lips_status lips_cuda_linear_split(const lips_cuda_linear_split_args *a, cudaStream_t stream);

/* After a library's product. y (rows, n) = y + bias, then relu; bias may be NULL. */
lips_status lips_cuda_affine_end(float *y, const float *bias, bool relu, int64_t rows, int64_t n,
                                 cudaStream_t stream);
/* dx (rows, t, n) = 0 where mask (rows, n) is not above 0. */
lips_status lips_cuda_mask_end(float *dx, const float *mask, int64_t rows, int64_t t, int64_t n,
                               cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
