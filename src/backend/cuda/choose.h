/*
 * cuda/choose.h - which implementation runs a convolution or a matrix product: by request, by a
 * rule of the shape, or by measurement on the device, once per shape.
 *
 * Before ways are measured, each own one's results are compared with the tiles' (prove.h).
 * What was measured is kept in the handle and in a file of the user's cache, where the first line
 * for a shape stays: later runs choose the same and give the same bits. A sweep keeps them in its
 * folder as well (keep_choices): its word comes first, so that a sweep goes on as it began.
 * Nothing is measured on an emulated device, nor while a graph is captured: there the rule decides.
 */
#ifndef LIPS_BACKEND_CUDA_CHOOSE_H
#define LIPS_BACKEND_CUDA_CHOOSE_H

#include "backend/cuda/cuda_internal.h"

typedef enum lips_cuda_way {
    LIPS_CUDA_TILE,    /* own, tensor cores */
    LIPS_CUDA_PATCH,   /* the same for 3 x 3 kernels: a patch of the image at a time */
    LIPS_CUDA_WGMMA,   /* the same on Hopper's own matrix instructions; by measurement alone */
    LIPS_CUDA_NARROW,  /* own, FFMA, few channels */
    LIPS_CUDA_LIBRARY, /* cuBLAS or cuDNN */
    LIPS_CUDA_WAYS
} lips_cuda_way;

enum { LIPS_CUDA_SIZES = 11 };

/* One product: what it is called and everything that its time depends on. */
typedef struct lips_cuda_product {
    const char *op; /* "conv_vjp"... */
    lips_precision precision;
    int64_t size[LIPS_CUDA_SIZES]; /* rest 0 */
    bool offered[LIPS_CUDA_WAYS];
    lips_cuda_way rule; /* without measurement; offered */
    /* Runs it on the handle's stream, as often as asked. */
    lips_status (*run)(lips_cuda *h, const void *args, lips_cuda_way way);
    const void *args;
    /* What run() overwrites, used values alone; 0: nothing is compared. */
    float *out;
    int64_t out_count;
    /* Of an op that adds to its output: where args has the address, and its bytes; measured on
     * memory of its own. */
    void **sum;
    size_t sum_bytes;
} lips_cuda_product;

/* As in the file of choices. */
const char *lips_cuda_way_name(lips_cuda_way way);

/* The way for the product; asked is the request for its kind. */
lips_status lips_cuda_choose(lips_cuda *h, const lips_cuda_product *p, lips_library asked,
                             lips_cuda_way *out);

/* Chooses, and runs it that way; by the rule where the library says that it does not do this shape
 * after all. */
lips_status lips_cuda_run(lips_cuda *h, const lips_cuda_product *p, lips_library asked);

#endif
