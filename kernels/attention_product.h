/*
 * kernels/attention_product.h - the matrix products of attention.cu: one for every sample, head and
 * stacked value, in one launch.
 */
#ifndef LIPS_KERNELS_ATTENTION_PRODUCT_H
#define LIPS_KERNELS_ATTENTION_PRODUCT_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdint.h>

namespace attention_product
{

/* A matrix for every sample, head and stacked value. */
struct operand {
    float *at;
    int64_t sample, head, stack, row, col;
};

/* c = alpha (a[0] b[0] + a[1] b[1]), (m,k) by (k,n); the second where terms is 2, and then both lie
 * in the same order. c.col is 1, and so is one of row and col of each other operand. */
struct product {
    operand c, a[2], b[2];
    int terms;
    int m, n, k;
    float alpha;
    int heads, stack; /* a block's number is (sample * heads + head) * stack + stacked value */
};

} // namespace attention_product

/* For `matrices` = samples * heads * stack. */
lips_status lips_cuda_attn_product(const attention_product::product &p, int64_t matrices,
                                   cudaStream_t stream);

#endif
