/*
 * kernels/rows.h - launch wrappers of rows.cu: batches from a data set on the device, cropped and
 * flipped on the way, and fills with the random numbers of base/random.h.
 */
#ifndef LIPS_KERNELS_ROWS_H
#define LIPS_KERNELS_ROWS_H

#include "backend/cursor.h"
#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* y[i] = row number index[(cursor ? cursor->row : 0) + first + i], or first + i without an index,
 * in the layout of y; 0 for i >= b. */
typedef struct lips_cuda_gather_args {
    float *y; /* (cap,H,W,C) if images, else (cap,C,H,W), device, overwritten */
    bool images;
    const void *values; /* (N,C,H,W) device: bytes if packed, else f32 */
    bool packed;
    const float *table;    /* (C,256) device: what a byte means; [c][0] is black, packed or not */
    const int64_t *source; /* (N) device: counters of the augmentation's random numbers */
    const int64_t *index;  /* device, or NULL */
    const lips_cursor *cursor; /* device: whose epoch stands for epoch; or NULL */
    int64_t first, b, cap, c, h, w;
    bool augment; /* random crop from a border of 4, random flip: as data/augment.c */
    uint64_t seed;
    uint32_t stream, epoch;
} lips_cuda_gather_args;

lips_status lips_cuda_gather(const lips_cuda_gather_args *a, cudaStream_t stream);

/* out[i] = lips_rng_uniform or lips_rng_normal at index first + i. */
typedef struct lips_cuda_random_args {
    double *out; /* (N) device, overwritten */
    int64_t n;
    uint64_t first, seed;
    uint32_t stream, epoch;
    bool normal;
} lips_cuda_random_args;

lips_status lips_cuda_random(const lips_cuda_random_args *a, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
