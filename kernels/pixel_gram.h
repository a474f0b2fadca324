/*
 * kernels/pixel_gram.h - launch wrapper of pixel_gram.cu: XX and A of conv_gram's pixel way. Device
 * pointers, results on the given stream, nothing waited for, nothing allocated.
 */
#ifndef LIPS_KERNELS_PIXEL_GRAM_H
#define LIPS_KERNELS_PIXEL_GRAM_H

#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The images of one sample, and the output positions p of ow a row. */
typedef struct lips_cuda_pixels {
    int h, w, c, ow, p;
    int r, stride, pad;
    int single; /* products of tf32 */
} lips_cuda_pixels;

/* xx (samples, h w, h w) and patch (samples, p, p), overwritten, of x (samples, h, w, c). */
lips_status lips_cuda_pixel_gram(float *xx, float *patch, const float *x, const lips_cuda_pixels *d,
                                 int samples, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
