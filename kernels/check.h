/*
 * kernels/check.h - errors of the CUDA runtime as statuses, for the launch wrappers and for the
 * host side of the backend (C and C++).
 *
 * One line per error: the call, CUDA's name and text for the error, file and line. An error after
 * which CUDA demands a new process (an illegal address, a failed assertion...) is LIPS_ERR_DEVICE,
 * memory that is not there is LIPS_ERR_MEMORY, everything else LIPS_ERR_RUNTIME.
 */
#ifndef LIPS_KERNELS_CHECK_H
#define LIPS_KERNELS_CHECK_H

#include "base/status.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Sets the error text for e (not cudaSuccess) and returns its status; clears the runtime's own last
 * error, so that it is not blamed on a later launch. */
lips_status lips_cuda_fail(cudaError_t e, const char *call, const char *file, int line);

/* The error of the launches since the last look, if any. Built with SYNC=1 it also waits for the
 * stream, so that a fault is blamed on the kernel that made it. */
lips_status lips_cuda_launched(cudaStream_t stream, const char *file, int line);

#ifdef __cplusplus
}
#endif

#define LIPS_TRY_CUDA(call)                                                                        \
    do {                                                                                           \
        cudaError_t lips_try_e_ = (call);                                                          \
        if (lips_try_e_ != cudaSuccess)                                                            \
            return lips_cuda_fail(lips_try_e_, #call, __FILE__, __LINE__);                         \
    } while (0)

/* After the launches of a wrapper. */
#define LIPS_TRY_LAUNCH(stream)                                                                    \
    do {                                                                                           \
        lips_status lips_try_st_ = lips_cuda_launched((stream), __FILE__, __LINE__);               \
        if (lips_try_st_ != LIPS_OK)                                                               \
            return lips_try_st_;                                                                   \
    } while (0)

#endif
