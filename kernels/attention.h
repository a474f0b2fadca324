/*
 * kernels/attention.h - dot-product attention among the N tokens of a sample, per head.
 *
 * x, in, dot (B,N,T,3C) hold q, k, v one after another in the channels, y and dy (B,N,T,C); T = 1
 * for in and dot; C = heads x d. All pointers are device memory.
 */
#ifndef LIPS_KERNELS_ATTENTION_H
#define LIPS_KERNELS_ATTENTION_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lips_cuda_attn {
    int64_t b, cap, n, t, c, heads; /* cap >= b: samples that work has room for */
    int64_t group; /* stacked values that go through together; 0: as many as fit into 256 MiB */
    void *work;    /* lips_cuda_attn_bytes() for cap and at least t, 16-aligned */
} lips_cuda_attn;

/* Room for every pass. */
size_t lips_cuda_attn_bytes(const lips_cuda_attn *a);

/* y = P v, P = softmax(q'k / sqrt(d)); T = 1. */
lips_status lips_cuda_attn_forward(const lips_cuda_attn *a, float *y, const float *x,
                                   cudaStream_t stream);

/* ydot = the derivative along xdot. */
lips_status lips_cuda_attn_jvp(const lips_cuda_attn *a, float *ydot, const float *xdot,
                               const float *in, cudaStream_t stream);

/* dx = its transpose applied to dy. */
lips_status lips_cuda_attn_vjp(const lips_cuda_attn *a, float *dx, const float *dy, const float *in,
                               cudaStream_t stream);

/* dx = derivative of the vjp of dy along the tangent dot of in; T = 1. */
lips_status lips_cuda_attn_vjp_dot(const lips_cuda_attn *a, float *dx, const float *dy,
                                   const float *in, const float *dot, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
