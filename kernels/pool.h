/*
 * kernels/pool.h - average pooling over windows without overlap. Images: element (s,y,x,t,c).
 */
#ifndef LIPS_KERNELS_POOL_H
#define LIPS_KERNELS_POOL_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lips_cuda_pool {
    int64_t n, oh, ow; /* samples, pooled image */
    int64_t kh, kw;    /* window: the full image is (oh*kh, ow*kw) */
    int64_t t, c;
} lips_cuda_pool;

/* y[s,p,q,t,c] = mean of the window of x. */
lips_status lips_cuda_avgpool(float *y, const float *x, const lips_cuda_pool *p,
                              cudaStream_t stream);

/* dx[s,i,j,t,c] = dy[s,i/kh,j/kw,t,c] / (kh kw), 0 where mask[s,i,j,c] <= 0; mask may be NULL. */
lips_status lips_cuda_avgpool_vjp(float *dx, const float *dy, const float *mask,
                                  const lips_cuda_pool *p, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
