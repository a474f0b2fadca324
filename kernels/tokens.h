/*
 * kernels/tokens.h - class token and positions, and picking one place out of many.
 *
 * A tensor of tokens is (B, N, T, C), N = 1 + P places of which the first is the class token's; an
 * image is (B, P, T, C). All pointers are device memory.
 */
#ifndef LIPS_KERNELS_TOKENS_H
#define LIPS_KERNELS_TOKENS_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lips_cuda_tokens {
    int64_t b, p, t, c; /* p: places of the image */
} lips_cuda_tokens;

/* y[s][0] = token + pos[0], y[s][1+p] = x[s][p] + pos[1+p]; token (C), pos (1+P,C); each of x,
 * token, pos may be NULL and counts as 0. */
lips_status lips_cuda_tokens_forward(const lips_cuda_tokens *a, float *y, const float *x,
                                     const float *token, const float *pos, cudaStream_t stream);

/* dx[s][p] = mask[s][p] > 0 ? dy[s][1+p] : 0; mask (B,P,C) or NULL. */
lips_status lips_cuda_tokens_vjp(const lips_cuda_tokens *a, float *dx, const float *dy,
                                 const float *mask, cudaStream_t stream);

/* dtoken += sum_s dy[s][0], dpos += sum_s dy[s]; each may be NULL. T = 1. scratch:
 * lips_cuda_tokens_grad_bytes(). */
size_t lips_cuda_tokens_grad_bytes(const lips_cuda_tokens *a);
lips_status lips_cuda_tokens_grad(const lips_cuda_tokens *a, float *dtoken, float *dpos,
                                  const float *dy, void *scratch, cudaStream_t stream);

/* y[s] = x[s][at]: (B,T,C) of (B,P,T,C). */
lips_status lips_cuda_pick(const lips_cuda_tokens *a, float *y, const float *x, int64_t at,
                           cudaStream_t stream);

/* dx[s][at] = mask[s][at] > 0 ? dy[s] : 0, 0 at other places; mask (B,P,C) or NULL. */
lips_status lips_cuda_pick_vjp(const lips_cuda_tokens *a, float *dx, const float *dy,
                               const float *mask, int64_t at, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
