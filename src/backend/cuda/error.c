/* cuda/error.c - errors of the libraries as statuses. */
#include "backend/cuda/cuda_internal.h"

lips_status lips_cublas_fail(cublasStatus_t e, const char *call, const char *file, int line)
{
    lips_status st = e == CUBLAS_STATUS_ALLOC_FAILED ? LIPS_ERR_MEMORY : LIPS_ERR_RUNTIME;
    /* A device that has faulted makes the library fail too, with a less telling error. */
    cudaError_t cause = cudaPeekAtLastError();
    if (cause != cudaSuccess)
        return lips_cuda_fail(cause, call, file, line);
    return lips_fail(st, "cuda: %s: %s (%s) at %s:%d", call, cublasGetStatusName(e),
                     cublasGetStatusString(e), file, line);
}

lips_status lips_cudnn_fail(cudnnStatus_t e, const char *call, const char *file, int line)
{
    lips_status st = e == CUDNN_STATUS_ALLOC_FAILED ? LIPS_ERR_MEMORY : LIPS_ERR_RUNTIME;
    if (CUDNN_STATUS_CATEGORY((int)e) == (int)CUDNN_STATUS_NOT_SUPPORTED)
        st = LIPS_ERR_UNSUPPORTED;
    cudaError_t cause = cudaPeekAtLastError();
    if (cause != cudaSuccess)
        return lips_cuda_fail(cause, call, file, line);
    return lips_fail(st, "cuda: %s: %s at %s:%d", call, cudnnGetErrorString(e), file, line);
}
