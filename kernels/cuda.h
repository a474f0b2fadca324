/*
 * kernels/cuda.h - what every kernel source includes: one source, two builds.
 *
 * nvcc compiles the .cu files for the GPU; g++ compiles the same files for tests/cusim, where each
 * CUDA thread is a fiber. This header (and the PTX wrappers beside it, whose functions have a CPU
 * body) is the only place that knows which of the two is happening: no #ifdef in a kernel.
 *
 *   CU_LAUNCH(kernel, grid, block, shared_bytes, stream, args...)   template kernels in
 *                                                                   parentheses:
 *                    CU_LAUNCH((gemm<64, 64, 16>), grid, block, 0, stream, a, b, c);
 *   CU_SHARED(type, name, [dims])   static shared memory: CU_SHARED(float, tile, [18][19]);
 *   CU_DYN_SHARED(type, name)       dynamic shared memory as `type *name`, 16-byte aligned
 *   CU_INDEX_MAX     32-bit indices reach values up to here: 2^31, less in some tests
 *   LIPS_TRY_LAUNCH(stream)         (kernels/check.h) after the launches of a wrapper
 *
 * What a kernel promises: no implicit warp-synchronous code, exact masks on every _sync, barriers
 * reached by all threads of the block. Products and sums are not contracted (-fmad=false, as on the
 * CPU): where a fused multiply-add is meant, write fmaf() or fma().
 */
#ifndef LIPS_KERNELS_CUDA_H
#define LIPS_KERNELS_CUDA_H

#ifdef __CUDACC__

#include <cuda_runtime.h>

#define CU_INDEX_MAX (INT64_C(1) << 31)
#define CU_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                  \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define CU_SHARED(type, name, dims) __shared__ type name dims
#define CU_DYN_SHARED(type, name)                                                                  \
    extern __shared__ __align__(16) unsigned char lips_dyn_shared_[];                              \
    type *name = reinterpret_cast<type *>(lips_dyn_shared_)

#else

#include "../tests/cusim/device.h"

#endif

#include "kernels/check.h"

#include <stdint.h>

#endif
