/*
 * kernels/conv.h - launch wrappers of the convolutions: device pointers, results on the given
 * stream, nothing waited for, nothing allocated. LIPS_ERR_USAGE for sizes that a kernel cannot
 * index; other errors are the launch's.
 *
 * Images are (b, h, w, t, c) with c innermost; weights are PyTorch's (o, c, r, r).
 */
#ifndef LIPS_KERNELS_CONV_H
#define LIPS_KERNELS_CONV_H

#include "backend/precision.h"
#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lips_cuda_conv {
    int64_t b, t;      /* samples, stacked values of each */
    int64_t h, w, c;   /* input */
    int64_t oh, ow, o; /* output */
    int64_t r, stride, pad;
} lips_cuda_conv;

/*
 * Forward: dst (b,oh,ow,t,o) = conv(src (b,h,w,t,c)) + bias, relu. vjp: dst (b,h,w,t,c) =
 * transposed conv(src (b,oh,ow,t,o)), times (mask (b,h,w,c) > 0). bias and mask may be NULL.
 */
typedef struct lips_cuda_conv_apply_args {
    lips_cuda_conv shape;
    bool vjp;
    bool relu;
    float *dst; /* overwritten */
    const float *src;
    const float *weight; /* as each wrapper says */
    const float *bias, *mask;
    lips_precision precision;
} lips_cuda_conv_apply_args;

/* packed = weights with the summed channel innermost: (o,r,r,c), or (c,r,r,o) for the vjp. */
lips_status lips_cuda_conv_pack(float *packed, const float *w, const lips_cuda_conv *shape,
                                bool vjp, cudaStream_t stream);
/* On tensor cores; weight is packed, and 16-byte aligned. */
lips_status lips_cuda_conv_apply(const lips_cuda_conv_apply_args *a, cudaStream_t stream);
/* The same for kernel 3, stride 1, pad 1, source channels in multiples of 4 and a 16-byte aligned
 * source, patch by patch; weight is packed by lips_cuda_conv_patch_pack, in its bytes. */
bool lips_cuda_conv_patch_offers(const lips_cuda_conv *shape, bool vjp);
/* The part of its multiply-adds that is asked for; the rest is padding of tiles. */
double lips_cuda_conv_patch_share(const lips_cuda_conv *shape, bool vjp, lips_precision precision);
size_t lips_cuda_conv_patch_bytes(const lips_cuda_conv *shape, bool vjp, lips_precision precision);
lips_status lips_cuda_conv_patch_pack(void *packed, const float *w, const lips_cuda_conv *shape,
                                      bool vjp, lips_precision precision, cudaStream_t stream);
lips_status lips_cuda_conv_patch(const lips_cuda_conv_apply_args *a, cudaStream_t stream);
/* The same for more than 32 columns of the result, on Hopper's own matrix
 * instructions: for devices of compute capability 9.0 alone, and false where the build has no code
 * for them. Weights are packed by lips_cuda_conv_wgmma_pack. */
bool lips_cuda_conv_wgmma_offers(const lips_cuda_conv *shape, bool vjp);
double lips_cuda_conv_wgmma_share(const lips_cuda_conv *shape, bool vjp, lips_precision precision);
size_t lips_cuda_conv_wgmma_bytes(const lips_cuda_conv *shape, bool vjp, lips_precision precision);
lips_status lips_cuda_conv_wgmma_pack(void *packed, const float *w, const lips_cuda_conv *shape,
                                      bool vjp, lips_precision precision, cudaStream_t stream);
lips_status lips_cuda_conv_wgmma(const lips_cuda_conv_apply_args *a, cudaStream_t stream);
/* By FFMA in f32 whatever the precision asked; weight is PyTorch's. */
lips_status lips_cuda_conv_narrow(const lips_cuda_conv_apply_args *a, cudaStream_t stream);

/* Gradient of the weights, t = 1: dw (o,c,r,r) += sum over pixels of dy x, through `parts` partial
 * sums of the (o,r,r,c) gradient. */
typedef struct lips_cuda_conv_grad_args {
    lips_cuda_conv shape;
    float *dw;           /* added to */
    float *part;         /* (parts, o, r, r, c), overwritten; unused if parts = 1 on tensor cores */
    int64_t parts;       /* from lips_cuda_conv_grad_parts or ..._narrow_parts */
    const float *x, *dy; /* (b,h,w,c), (b,oh,ow,o) */
    lips_precision precision;
} lips_cuda_conv_grad_args;

/* How many partial sums fill a device; a function of the shape alone, at most `most`. */
int64_t lips_cuda_conv_grad_parts(const lips_cuda_conv *shape, int64_t most);
int64_t lips_cuda_conv_grad_narrow_parts(const lips_cuda_conv *shape, int64_t most);
lips_status lips_cuda_conv_grad(const lips_cuda_conv_grad_args *a, cudaStream_t stream);
lips_status lips_cuda_conv_grad_narrow(const lips_cuda_conv_grad_args *a, cudaStream_t stream);
/* dw (o,c,r,r) += the sum of `parts` gradients (o,r,r,c), in f64, in order. */
lips_status lips_cuda_conv_grad_sum(float *dw, const float *part, const lips_cuda_conv *shape,
                                    int64_t parts, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
