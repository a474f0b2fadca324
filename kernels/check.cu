/*
 * check - errors of the CUDA runtime as statuses (kernels/check.h). No kernel.
 */
#include "kernels/check.h"

/* The errors whose description says that the process must be terminated and relaunched. */
static bool is_sticky(cudaError_t e)
{
    switch (e) {
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorContextIsDestroyed:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
    case cudaErrorContained: return true;
    default: return false;
    }
}

extern "C" lips_status lips_cuda_fail(cudaError_t e, const char *call, const char *file, int line)
{
    (void)cudaGetLastError();
    lips_status st = is_sticky(e)                     ? LIPS_ERR_DEVICE
                     : e == cudaErrorMemoryAllocation ? LIPS_ERR_MEMORY
                                                      : LIPS_ERR_RUNTIME;
    return lips_fail(st, "cuda: %s: %s (%s) at %s:%d%s", call, cudaGetErrorName(e),
                     cudaGetErrorString(e), file, line,
                     st == LIPS_ERR_DEVICE ? "; the device is lost to this process" : "");
}

extern "C" lips_status lips_cuda_launched(cudaStream_t stream, const char *file, int line)
{
    cudaError_t e = cudaPeekAtLastError();
#ifdef LIPS_CUDA_SYNC
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    if (e == cudaSuccess)
        e = cudaStreamIsCapturing(stream, &capture);
    if (e == cudaSuccess && capture == cudaStreamCaptureStatusNone)
        e = cudaStreamSynchronize(stream);
#else
    (void)stream;
#endif
    return e == cudaSuccess ? LIPS_OK : lips_cuda_fail(e, "launch", file, line);
}
