/* cuda/libraries.c - handles of cuBLAS and cuDNN, created when first asked for: each takes device
 * memory and start-up time that a network without large products does not need. */
#include "backend/cuda/cuda_internal.h"

#include <stdio.h>

/* What NVIDIA advises. Its own instead of the library's: a recording then holds memory that stays,
 * and results are the same whatever else runs on the device. */
size_t lips_cuda_blas_bytes(const lips_cuda *h)
{
    return (size_t)(h->prop.major >= 9 ? 32 : 4) << 20;
}

lips_status lips_cuda_blas(lips_cuda *h, cublasHandle_t *out)
{
    if (!h->blas) {
        LIPS_TRY(lips_cuda_unrecorded(h, "an op that has not run before"));
        LIPS_TRY(lips_cuda_device_alloc(h, &h->blas_work, lips_cuda_blas_bytes(h)));
        LIPS_TRY_CUBLAS(cublasCreate(&h->blas));
        LIPS_TRY_CUBLAS(cublasSetStream(h->blas, h->stream));
        LIPS_TRY_CUBLAS(cublasSetWorkspace(h->blas, h->blas_work, lips_cuda_blas_bytes(h)));
    }
    *out = h->blas;
    return LIPS_OK;
}

lips_status lips_cuda_dnn(lips_cuda *h, cudnnHandle_t *out)
{
    if (!h->dnn) {
        LIPS_TRY(lips_cuda_unrecorded(h, "an op that has not run before"));
        LIPS_TRY_CUDNN(cudnnCreate(&h->dnn));
        LIPS_TRY_CUDNN(cudnnSetStream(h->dnn, h->stream));
    }
    *out = h->dnn;
    return LIPS_OK;
}

void lips_cuda_libraries_close(lips_cuda *h)
{
    if (h->dnn)
        cudnnDestroy(h->dnn);
    if (h->blas)
        cublasDestroy(h->blas);
    lips_cuda_device_free(h, h->blas_work, lips_cuda_blas_bytes(h));
    h->dnn = NULL;
    h->blas = NULL;
    h->blas_work = NULL;
}

void lips_cuda_libraries_describe(char *text, size_t size)
{
    int major = 0, minor = 0;
    size_t dnn = cudnnGetVersion();
    cublasGetProperty(MAJOR_VERSION, &major);
    cublasGetProperty(MINOR_VERSION, &minor);
    /* cuDNN 9 counts 10000 major + 100 minor + patch. */
    snprintf(text, size, "cuBLAS %d.%d, cuDNN %zu.%zu", major, minor, dnn / 10000, dnn / 100 % 100);
}
