/*
 * backend/cuda/cuda_internal.h - inside the host side of the cuda backend: its handle, memory that
 * host and device share, staging, scratch, libraries.
 *
 * One handle is one stream, used by one thread at a time. Every entry of the table begins with
 * lips_cuda_enter(), queues its work on the handle's stream and returns before the work is done;
 * sync(), read, download, diff_sumsq and await wait.
 *
 * Layouts (lips_tensor.lanes):
 *   LIPS_CUDA_IMAGES  element (s,c,y,x,t) at (((s*H + y)*W + x)*T + t)*C + c: the T stacked values
 *                     of one pixel side by side, so that what they share is read once; T = 1: NHWC
 *   LIPS_CUDA_ROWS    ((s*T + t)*C + c)*H*W + y*W + x: for networks without a spatial node; the
 *                     flattened image is in PyTorch's order
 * Both are the same memory where H*W = 1.
 */
#ifndef LIPS_BACKEND_CUDA_CUDA_INTERNAL_H
#define LIPS_BACKEND_CUDA_CUDA_INTERNAL_H

#include "backend/backend.h"
#include "backend/check.h"
#include "kernels/check.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

enum { LIPS_CUDA_IMAGES = 1, LIPS_CUDA_ROWS = 2 };

/* What the name of an emulated device (tests/cusim) begins with. */
#define LIPS_CUDA_EMULATED "emulated"

/* Oldest compute capability (major * 10 + minor) that the kernels are compiled for. */
enum { LIPS_CUDA_CC_MIN = 80 };

/* One allocation. Shared ones (alloc_shared) have a host side and a device side, of which one is
 * current: the first op on it carries the host's values over (unless zero() fills all of it), the
 * next sync() carries the device's back. */
typedef struct lips_cuda_block {
    char *device, *host; /* host NULL: device memory alone */
    size_t bytes;
    bool on_device; /* shared: the device's side is the current one */
} lips_cuda_block;

/* Pinned memory that host values pass through on their way to the device. Busy until its event. */
typedef struct lips_cuda_slot {
    void *host;
    size_t bytes;
    cudaEvent_t done;
} lips_cuda_slot;

enum { LIPS_CUDA_SLOTS = 4 };

/* Device memory for an op's own use, one op's at a time in the order of the stream. It stays as
 * long as someone holds it: the handle, until an op needs more, and each recording whose ops use
 * it. */
typedef struct lips_cuda_scratchpad {
    void *device;
    size_t bytes;
    int holders;
} lips_cuda_scratchpad;

typedef struct lips_cuda {
    lips_backend base;

    /* Configuration. */
    int device;
    struct cudaDeviceProp prop;
    lips_precision forward, backward;
    lips_library conv, gemm;
    cudaStream_t stream;

    /* State. */
    lips_cuda_block *blocks; /* (n_blocks) everything allocated, for sizes and for leaks */
    int n_blocks, cap_blocks;
    size_t bytes; /* of device memory, all blocks and scratch */
    lips_cuda_slot slot[LIPS_CUDA_SLOTS];
    int next_slot;
    lips_cuda_scratchpad *scratch; /* or NULL */
    cudaEvent_t fetched[LIPS_FETCHES];
    bool recording;      /* ops go into a graph */
    cublasHandle_t blas; /* NULL until lips_cuda_blas() */
    void *blas_work;
    cudnnHandle_t dnn;                 /* NULL until lips_cuda_dnn() */
    struct lips_cuda_choices *choices; /* choose.c: which implementation for which shape */
} lips_cuda;

/* The handle, with its device made this thread's current one. First line of every table entry. */
lips_status lips_cuda_enter(lips_backend *be, lips_cuda **out);

/* Library handles on the handle's stream, created on first use. */
lips_status lips_cuda_blas(lips_cuda *h, cublasHandle_t *out);
lips_status lips_cuda_dnn(lips_cuda *h, cudnnHandle_t *out);

/* Device address of n doubles (or other 8-byte values) at p in shared memory that an op writes or
 * adds to: the device's side becomes the current one. LIPS_ERR_USAGE if p is not in shared memory.
 * p NULL gives NULL. */
lips_status lips_cuda_shared(lips_cuda *h, const char *op, void *p, int64_t n, void **device);

/* The same, but memory of alloc() is taken as it is: batch statistics. */
lips_status lips_cuda_f64(lips_cuda *h, const char *op, void *p, int64_t n, double **device);

/* For own.c: what others take of scratch. The weight gradient of a linear layer; the largest piece
 * of a tensor that is laid out anew; cuBLAS's workspace. */
size_t lips_cuda_linear_grad_bytes(const lips_tensor *x, const lips_tensor *y);
size_t lips_cuda_piece_bytes(size_t tensor);
size_t lips_cuda_blas_bytes(const lips_cuda *h);
bool lips_cuda_emulated(const lips_cuda *h);

/* Device memory of at least `bytes` for the op that asks: the next op may get the same. */
lips_status lips_cuda_scratch(lips_cuda *h, size_t bytes, void **out);
/* One holder less; accepts NULL. */
void lips_cuda_scratch_drop(lips_cuda *h, lips_cuda_scratchpad *s);

/* LIPS_ERR_USAGE if ops are being recorded: what cannot be part of a graph. */
lips_status lips_cuda_unrecorded(const lips_cuda *h, const char *what);

/* A block of device memory that belongs to the handle; accepts NULL to free. */
lips_status lips_cuda_device_alloc(lips_cuda *h, void **out, size_t bytes);
void lips_cuda_device_free(lips_cuda *h, void *p, size_t bytes);

/* bytes from any host memory to the device, staged in pieces. */
lips_status lips_cuda_send(lips_cuda *h, void *to, const void *from, size_t bytes);

/* Pinned host memory of at least `bytes`, free to be written now; lips_cuda_stage_put copies
 * `bytes` of it to the device on the stream, after which the slot is busy until the copy is done.
 */
lips_status lips_cuda_stage(lips_cuda *h, size_t bytes, lips_cuda_slot **out);
lips_status lips_cuda_stage_put(lips_cuda *h, lips_cuda_slot *slot, void *device, size_t bytes);
/* The other way, `bytes` of the device into the slot; waits. */
lips_status lips_cuda_stage_get(lips_cuda *h, lips_cuda_slot *slot, const void *device,
                                size_t bytes);

/* Waits for the stream, or for an event on it. Whoever waits for the device does it through these:
 * a watchdog sees it then (base/watch.h). */
lips_status lips_cuda_wait(lips_cuda *h);
lips_status lips_cuda_wait_event(lips_cuda *h, cudaEvent_t e);
void lips_cuda_wait_quietly(lips_cuda *h); /* where memory is freed: errors are not looked at */

/* LIPS_ERR_USAGE if the tensor's lanes are no layout of this backend; the second also where they
 * are not LIPS_CUDA_IMAGES and that makes a difference. */
lips_status lips_cuda_layout(const char *op, const lips_tensor *t);
lips_status lips_cuda_images(const char *op, const lips_tensor *t);

/* Reals from the start of the tensor to the end of the samples in use, and of its capacity. */
static inline int64_t lips_cuda_used(const lips_tensor *t)
{
    return t->b * lips_tensor_features(t) * t->t;
}

static inline int64_t lips_cuda_reals(const lips_tensor *t)
{
    return t->cap * lips_tensor_features(t) * t->t;
}

/* For handle.c: the parts of a close, and versions in words. */
void lips_cuda_memory_free(lips_cuda *h);
void lips_cuda_libraries_close(lips_cuda *h);
void lips_cuda_libraries_describe(char *text, size_t size);

/* choose.c: frees what hangs on h->choices; accepts NULL. */
void lips_cuda_choices_free(struct lips_cuda_choices *choices);

/* Errors of the libraries: one line with the call, the library's name for the error, file and line.
 */
lips_status lips_cublas_fail(cublasStatus_t e, const char *call, const char *file, int line);
lips_status lips_cudnn_fail(cudnnStatus_t e, const char *call, const char *file, int line);

#define LIPS_TRY_CUBLAS(call)                                                                      \
    do {                                                                                           \
        cublasStatus_t lips_try_e_ = (call);                                                       \
        if (lips_try_e_ != CUBLAS_STATUS_SUCCESS)                                                  \
            return lips_cublas_fail(lips_try_e_, #call, __FILE__, __LINE__);                       \
    } while (0)

#define LIPS_TRY_CUDNN(call)                                                                       \
    do {                                                                                           \
        cudnnStatus_t lips_try_e_ = (call);                                                        \
        if (lips_try_e_ != CUDNN_STATUS_SUCCESS)                                                   \
            return lips_cudnn_fail(lips_try_e_, #call, __FILE__, __LINE__);                        \
    } while (0)

#endif
