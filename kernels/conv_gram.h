/*
 * kernels/conv_gram.h - launch wrapper of conv_gram.cu: per-sample Gram matrices of a convolution's
 * parameter Jacobian; with T = 1 the squared norm of each sample's own parameter gradient.
 */
#ifndef LIPS_KERNELS_CONV_GRAM_H
#define LIPS_KERNELS_CONV_GRAM_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lips_cuda_gram_algo {
    LIPS_CUDA_GRAM_AUTO,   /* the cheaper by operation count */
    LIPS_CUDA_GRAM_DIRECT, /* tiles of the gradients themselves, in registers */
    LIPS_CUDA_GRAM_PIXEL   /* through the Gram matrix of the input's pixels */
} lips_cuda_gram_algo;

/* theta[s][t][u] += <dW_t, dW_u>, dW_t[o][c][k] = sum_p dy[s][p][t][o] x[s][p + k][c]. */
typedef struct lips_cuda_conv_gram_args {
    double *theta;   /* (B,T,T) device, added to; symmetric to the bit */
    const float *dy; /* (B,OH,OW,T,O) device */
    const float *x;  /* (B,H,W,C) device */
    int64_t b, c, h, w, o, oh, ow, t;
    int64_t r, stride, pad;
    bool single; /* operands rounded to tf32 once; else float32-grade: three products for one */
    lips_cuda_gram_algo algo;
    void *work; /* lips_cuda_conv_gram_work() bytes; NULL where that is 0 */
} lips_cuda_conv_gram_args;

/* What AUTO stands for; never AUTO. */
lips_cuda_gram_algo lips_cuda_conv_gram_choose(const lips_cuda_conv_gram_args *a);
size_t lips_cuda_conv_gram_work(const lips_cuda_conv_gram_args *a);
lips_status lips_cuda_conv_gram(const lips_cuda_conv_gram_args *a, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
