/*
 * kernels/loss.h - loss per sample, prediction and gradient at the logits. All pointers are device
 * memory.
 */
#ifndef LIPS_KERNELS_LOSS_H
#define LIPS_KERNELS_LOSS_H

#include "backend/cursor.h"
#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lips_cuda_loss_args {
    int64_t squared;       /* 1: 1/2 |z - y|^2; 0: cross-entropy */
    const float *z;        /* (cap, K) */
    int64_t b, cap, k;     /* samples in use, all, classes */
    const int64_t *labels; /* NULL: targets, or only pred is wanted. (b), or (rows) with an order */
    const float *targets;  /* the same (.., K), or NULL */
    const int64_t *order;  /* NULL, or: sample s is row order[cursor->row + first + s] */
    const lips_cursor *cursor;
    int64_t first;
    double *loss;  /* (b), or NULL */
    int64_t *pred; /* (b), or NULL */
    float *dz;     /* (cap, K), 0 beyond b; or NULL */
    double scale;  /* of dz */
} lips_cuda_loss_args;

lips_status lips_cuda_loss(const lips_cuda_loss_args *a, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
