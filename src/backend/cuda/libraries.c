/* cuda/libraries.c - handles of cuBLAS and cuDNN, created when first asked for: each takes device
 * memory and start-up time that a network without large products does not need. */
#include "backend/cuda/cuda_internal.h"

#include <stdio.h>

lips_status lips_cuda_blas(lips_cuda *h, cublasHandle_t *out)
{
    if (!h->blas) {
        LIPS_TRY_CUBLAS(cublasCreate(&h->blas));
        LIPS_TRY_CUBLAS(cublasSetStream(h->blas, h->stream));
    }
    *out = h->blas;
    return LIPS_OK;
}

lips_status lips_cuda_dnn(lips_cuda *h, cudnnHandle_t *out)
{
    if (!h->dnn) {
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
    h->dnn = NULL;
    h->blas = NULL;
}

void lips_cuda_libraries_describe(char *text, size_t size)
{
    int major = 0, minor = 0;
    size_t dnn = cudnnGetVersion();
    cublasGetProperty(MAJOR_VERSION, &major);
    cublasGetProperty(MINOR_VERSION, &minor);
    /* cuDNN 9 counts 10000 major + 100 minor + patch. */
    snprintf(text, size, "cuBLAS %d.%d, cuDNN %zu.%zu", major, minor, dnn / 10000,
             dnn / 100 % 100);
}
