/*
 * kernels/wgmma.h - matrix products of a warpgroup (PTX wgmma, sm_90a alone), A from registers and
 * B from shared memory, each with a CPU body that does the same in the emulated build.
 *
 * A warpgroup is four warps, from a multiple of four on. D (64 x N) += A (64 x K) B (K x N): warp w
 * of the group holds rows 16 w to 16 w + 15 of A and D, in the fragments of kernels/mma.h (tf32:
 * K = 8, bf16: K = 16; N / 8 fragments of D side by side). B lies in shared memory as the
 * descriptor says, K innermost: core matrices of 8 columns n by 16 bytes of k, each 128 contiguous
 * bytes; `leading` bytes from one to the next along k, `stride` bytes along n; no swizzle.
 *
 * What a kernel has to do (PTX ISA 9.7.15):
 *   wgmma_fence()        between any access to the registers of A or D and a product with them,
 *                        but for products on the same D one after the other
 *   wgmma_publish()      by each thread that wrote to B, cp.async included (it is a write of the
 *                        generic proxy), after the write and before the barrier that products wait
 *                        for: they read through another proxy
 *   wgmma_commit(), wgmma_wait<KEEP>()   until then A, B and D are the product's: neither read nor
 *                        written, save by further products on D
 *   wgmma_hold(d)        after the wait, and before the first fence: keeps the compiler from moving
 *                        accesses to D across
 *
 * The CPU bodies (tests/cusim/products.h) carry a product out as late as it may be, in the wait
 * that asks for it, on what A and B hold then, and leave NaN in D until then. B is read as the last
 * barrier before which all threads had published it left it.
 *
 * WGMMA_HERE: whether the code is compiled for what has these instructions; elsewhere the bodies
 * are empty, and kernels made of them must not be launched. WGMMA_BUILT: whether such code is in
 * this build at all (LIPS_SM90A comes from the Makefile).
 */
#ifndef LIPS_KERNELS_WGMMA_H
#define LIPS_KERNELS_WGMMA_H

#include "mma.h"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define WGMMA_PTX 1
#endif

#if defined(WGMMA_PTX) || !defined(__CUDACC__)
constexpr bool WGMMA_HERE = true;
#else
constexpr bool WGMMA_HERE = false;
#endif

#if defined(LIPS_SM90A) || !defined(__CUDACC__)
constexpr bool WGMMA_BUILT = true;
#else
constexpr bool WGMMA_BUILT = false;
#endif

/* The descriptor of B from `b` (in dynamic shared memory, 16-byte aligned) on; +bytes / 16 is that
 * of a B so many bytes further on. */
__device__ __forceinline__ uint64_t wgmma_descriptor(const void *b, unsigned leading,
                                                     unsigned stride)
{
#ifdef __CUDACC__
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(b);
#else
    const uint32_t at = cusim::shared_address(b);
#endif
    return (uint64_t)(at >> 4 & 0x3fffu) | (uint64_t)(leading >> 4 & 0x3fffu) << 16 |
           (uint64_t)(stride >> 4 & 0x3fffu) << 32;
}

__device__ __forceinline__ void wgmma_fence()
{
#ifdef WGMMA_PTX
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#elif !defined(__CUDACC__)
    cusim::product_fence();
#endif
}

__device__ __forceinline__ void wgmma_publish()
{
#ifdef WGMMA_PTX
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#elif !defined(__CUDACC__)
    cusim::product_publish();
#endif
}

/* Closes the group of the products since the last call. */
__device__ __forceinline__ void wgmma_commit()
{
#ifdef WGMMA_PTX
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#elif !defined(__CUDACC__)
    cusim::product_commit();
#endif
}

/* Waits until at most the last KEEP groups of the warp are under way. */
template <int KEEP> __device__ __forceinline__ void wgmma_wait()
{
#ifdef WGMMA_PTX
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(KEEP) : "memory");
#elif !defined(__CUDACC__)
    cusim::product_wait(KEEP, CUSIM_SITE);
#endif
}

template <int NI> __device__ __forceinline__ void wgmma_hold(float (&d)[NI][4])
{
#pragma unroll
    for (int i = 0; i < NI; i++) {
#ifdef WGMMA_PTX
        asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])::"memory");
#elif !defined(__CUDACC__)
        cusim::product_settled(d[i]);
#else
        (void)d;
#endif
    }
}

#ifdef WGMMA_PTX
#define WGMMA_D1(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define WGMMA_F1(i) "=f"(d[i][0]), "=f"(d[i][1]), "=f"(d[i][2]), "=f"(d[i][3])
#define WGMMA_F4(i) WGMMA_F1(i), WGMMA_F1(i + 1), WGMMA_F1(i + 2), WGMMA_F1(i + 3)
#define WGMMA_F8(i) WGMMA_F4(i), WGMMA_F4(i + 4)
#define WGMMA_D4(i) WGMMA_D1(i), WGMMA_D1(i + 1), WGMMA_D1(i + 2), WGMMA_D1(i + 3)
#define WGMMA_D8(i) WGMMA_D4(i), WGMMA_D4(i + 4)
#define WGMMA_A "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
#define WGMMA_0_31                                                                                 \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                       \
    "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define WGMMA_32_63                                                                                \
    "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"                             \
    "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
/* D += A B (scale 1, d WGMMA_D..), or D = A B (scale 0, d WGMMA_F..); neither operand negated;
 * K-major B. */
#define WGMMA_64(kind, scale, last, d)                                                             \
    asm volatile("wgmma.mma_async.sync.aligned.m64n64" kind " {" WGMMA_0_31                        \
                 "},{%32,%33,%34,%35},%36," scale ",1,1" last ";"                                  \
                 : d(0)                                                                            \
                 : WGMMA_A                                                                         \
                 : "memory")
#define WGMMA_128(kind, scale, last, d)                                                            \
    asm volatile("wgmma.mma_async.sync.aligned.m64n128" kind " {" WGMMA_0_31 "," WGMMA_32_63       \
                 "},{%64,%65,%66,%67},%68," scale ",1,1" last ";"                                  \
                 : d(0), d(8)                                                                      \
                 : WGMMA_A                                                                         \
                 : "memory")
#endif

/* Asks for d += a b (FRESH: d = a b) on the warpgroup's 64 x (8 NI) x 8 tile, tf32 operands (13 low
 * bits are lost whether or not they were rounded before). */
template <int NI, bool FRESH = false>
__device__ __forceinline__ void wgmma_tf32(float (&d)[NI][4], const uint32_t (&a)[4], uint64_t b)
{
    static_assert(NI == 8 || NI == 16, "64 or 128 columns");
#ifdef WGMMA_PTX
    if constexpr (NI == 8 && FRESH)
        WGMMA_64("k8.f32.tf32.tf32", "0", "", WGMMA_F8);
    else if constexpr (NI == 8)
        WGMMA_64("k8.f32.tf32.tf32", "1", "", WGMMA_D8);
    else if constexpr (FRESH)
        WGMMA_128("k8.f32.tf32.tf32", "0", "", WGMMA_F8);
    else
        WGMMA_128("k8.f32.tf32.tf32", "1", "", WGMMA_D8);
#elif !defined(__CUDACC__)
    cusim::product_ask({a, d[0], b, NI * 8, false, FRESH});
#else
    (void)d, (void)a, (void)b;
#endif
}

/* The same on 64 x (8 NI) x 16, bf16 operands in pairs. */
template <int NI>
__device__ __forceinline__ void wgmma_bf16(float (&d)[NI][4], const uint32_t (&a)[4], uint64_t b)
{
    static_assert(NI == 8 || NI == 16, "64 or 128 columns");
#ifdef WGMMA_PTX
    if constexpr (NI == 8)
        WGMMA_64("k16.f32.bf16.bf16", "1", ",0", WGMMA_D8);
    else
        WGMMA_128("k16.f32.bf16.bf16", "1", ",0", WGMMA_D8);
#elif !defined(__CUDACC__)
    cusim::product_ask({a, d[0], b, NI * 8, true, false});
#else
    (void)d, (void)a, (void)b;
#endif
}

#endif
