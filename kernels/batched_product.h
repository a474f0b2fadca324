/*
 * kernels/batched_product.h - many matrix products of one shape in one launch: attention's, one for
 * every sample, head and stacked value; parts of a long sum over k.
 */
#ifndef LIPS_KERNELS_BATCHED_PRODUCT_H
#define LIPS_KERNELS_BATCHED_PRODUCT_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdint.h>

namespace batched_product
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
    int k_all; /* of all stacked values one after another: the last has what is left; 0: k each */
    float alpha;
    int heads, stack; /* a block's number is (sample * heads + head) * stack + stacked value */
    int unused;       /* no bytes of padding: the emulated device looks at every word */
};

} // namespace batched_product

/* For `matrices` = samples * heads * stack. */
lips_status lips_cuda_batched_product(const batched_product::product &p, int64_t matrices,
                                      cudaStream_t stream);

#endif
