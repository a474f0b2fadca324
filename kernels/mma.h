/*
 * kernels/mma.h - tensor-core and asynchronous-copy instructions (PTX, sm_80 and later), each with
 * a CPU body that does the same in the emulated build.
 *
 * Fragment layouts are the PTX ISA's (9.7.14, mma.m16n8k8 for .tf32 and mma.m16n8k16 for .bf16),
 * with g = lane / 4 and t = lane % 4:
 *
 *   tf32  A (16x8)   a0 (g,t)  a1 (g+8,t)  a2 (g,t+4)  a3 (g+8,t+4)      one value per register
 *         B (8x8)    b0 (t,g)  b1 (t+4,g)
 *   bf16  A (16x16)  a0 (g,2t) a1 (g+8,2t) a2 (g,2t+8) a3 (g+8,2t+8)     two values, the next k in
 *         B (16x8)   b0 (2t,g) b1 (2t+8,g)                               the upper half
 *   both  D (16x8)   d0 (g,2t) d1 (g,2t+1) d2 (g+8,2t) d3 (g+8,2t+1)     f32
 *
 * The CPU bodies keep what the hardware's arithmetic is known to do: a tf32 operand loses its 13
 * low bits whether or not it was rounded before, products are exact, and the sum with D is cut
 * towards zero. An asynchronous copy happens as late as it may, in the wait that asks for it: where
 * a wait is missing, what shared memory held before is read.
 */
#ifndef LIPS_KERNELS_MMA_H
#define LIPS_KERNELS_MMA_H

#include "cuda.h"

#include <stdint.h>

#ifndef __CUDACC__
#include <string.h>

namespace mma_emulated
{
/* What a lane brings to a product, and its part of the result. */
struct Lane {
    uint32_t a[4], b[2];
    float d[4];
};

inline float bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

inline uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

inline float cut_to_float(double v)
{
    float f = (float)v;
    if ((v > 0 && (double)f > v) || (v < 0 && (double)f < v))
        f = bits_float(float_bits(f) - 1);
    return f;
}

/* d += a b for the whole warp; k runs in order. */
template <int K>
CUSIM_UNSEEN void multiply(const float (&a)[16][K], const float (&b)[K][8], const void *const *in,
                           void *const *out)
{
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + (i >> 1) * 8, col = lane % 4 * 2 + (i & 1);
            double sum = ((const Lane *)in[lane])->d[i];
            for (int k = 0; k < K; k++)
                sum += (double)a[row][k] * (double)b[k][col];
            ((float *)out[lane])[i] = cut_to_float(sum);
        }
}

CUSIM_UNSEEN inline void multiply_tf32(unsigned mask, const void *const *in, void *const *out)
{
    float a[16][8], b[8][8];
    if (mask != 0xffffffffu)
        cusim::report("mma.sync by a part of a warp: mask %08x", mask);
    for (int lane = 0; lane < 32; lane++) {
        const Lane *l = (const Lane *)in[lane];
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++)
            a[g + (i & 1) * 8][t + (i >> 1) * 4] = bits_float(l->a[i] & 0xffffe000u);
        for (int i = 0; i < 2; i++)
            b[t + i * 4][g] = bits_float(l->b[i] & 0xffffe000u);
    }
    multiply(a, b, in, out);
}

CUSIM_UNSEEN inline void multiply_bf16(unsigned mask, const void *const *in, void *const *out)
{
    float a[16][16], b[16][8];
    if (mask != 0xffffffffu)
        cusim::report("mma.sync by a part of a warp: mask %08x", mask);
    for (int lane = 0; lane < 32; lane++) {
        const Lane *l = (const Lane *)in[lane];
        const int g = lane / 4, k = lane % 4 * 2;
        for (int i = 0; i < 4; i++) {
            a[g + (i & 1) * 8][k + (i >> 1) * 8] = bits_float(l->a[i] << 16);
            a[g + (i & 1) * 8][k + 1 + (i >> 1) * 8] = bits_float(l->a[i] & 0xffff0000u);
        }
        for (int i = 0; i < 2; i++) {
            b[k + i * 8][g] = bits_float(l->b[i] << 16);
            b[k + 1 + i * 8][g] = bits_float(l->b[i] & 0xffff0000u);
        }
    }
    multiply(a, b, in, out);
}

/* in: each lane's row of four words; out: four words. */
CUSIM_UNSEEN inline void deal_matrices(unsigned mask, const void *const *in, void *const *out)
{
    if (mask != 0xffffffffu)
        cusim::report("ldmatrix by a part of a warp: mask %08x", mask);
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++)
            ((uint32_t *)out[lane])[i] = ((const uint32_t *)in[i * 8 + lane / 4])[lane % 4];
}
} // namespace mma_emulated
#endif

/* The nearest tf32, ties away from zero, as a float's bits. The instruction leaves the 13 low bits
 * undefined: they are cleared, so that v minus the result is what was rounded off. */
__device__ __forceinline__ uint32_t mma_to_tf32(float v)
{
#ifdef __CUDACC__
    uint32_t r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
    return r & 0xffffe000u;
#else
    uint32_t u = mma_emulated::float_bits(v);
    if ((u & 0x7f800000u) != 0x7f800000u)
        u += 0x1000u;
    return u & 0xffffe000u;
#endif
}

/* The float of a register that holds a tf32. */
__device__ __forceinline__ float mma_from_tf32(uint32_t bits)
{
#ifdef __CUDACC__
    return __uint_as_float(bits);
#else
    return mma_emulated::bits_float(bits);
#endif
}

/* Two floats, rounded to nearest even, in one register: `low` in the lower half. */
__device__ __forceinline__ uint32_t mma_pack_bf16(float low, float high)
{
#ifdef __CUDACC__
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
#else
    auto half = [](float v) -> uint32_t {
        const uint32_t u = mma_emulated::float_bits(v);
        if ((u & 0x7fffffffu) > 0x7f800000u)
            return 0x7fffu;
        return (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    };
    return half(low) | half(high) << 16;
#endif
}

/* d += a b on the warp's 16x8x8 tile, tf32 operands. */
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                                 uint32_t b1)
{
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    const mma_emulated::Lane mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}, {d[0], d[1], d[2], d[3]}};
    cusim::warp_collective(0xffffffffu, CUSIM_SITE, &mine, d, mma_emulated::multiply_tf32);
#endif
}

/* d += a b on the warp's 16x8x16 tile, bf16 operands in pairs. */
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                  uint32_t b0, uint32_t b1)
{
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    const mma_emulated::Lane mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}, {d[0], d[1], d[2], d[3]}};
    cusim::warp_collective(0xffffffffu, CUSIM_SITE, &mine, d, mma_emulated::multiply_bf16);
#endif
}

/*
 * Four matrices of 8 rows of 16 bytes from shared memory; lane l gives the address of row l % 8 of
 * matrix l / 8 and receives word l % 4 of row l / 4 of each. With floats as words a 16 x 8 corner
 * of a row-major tile arrives as a tf32 fragment of A, a 16 x 8 corner of columns as two of B.
 */
__device__ __forceinline__ void mma_ldmatrix_x4(uint32_t (&r)[4], const void *row)
{
#ifdef __CUDACC__
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
#else
    if ((uintptr_t)row % 16)
        cusim::report("ldmatrix: row address %p is not 16-byte aligned", (const void *)row);
    uint32_t words[4];
    memcpy(words, row, sizeof words);
    cusim::product_unfence();
    cusim::warp_collective(0xffffffffu, CUSIM_SITE, words, r, mma_emulated::deal_matrices);
#endif
}

/* The same as floats. */
__device__ __forceinline__ void mma_ldmatrix_x4(float (&r)[4], const float *row)
{
    uint32_t v[4];
    mma_ldmatrix_x4(v, (const void *)row);
    for (int i = 0; i < 4; i++)
        r[i] = mma_from_tf32(v[i]);
}

/* Asks for a copy of BYTES (4 or 16, both sides aligned to it) from global to shared memory, or for
 * zeros where !valid (then `from` is not read). */
template <int BYTES>
__device__ __forceinline__ void mma_copy_async(float *to, const float *from, bool valid)
{
    static_assert(BYTES == 4 || BYTES == 16, "sizes of cp.async used here");
#ifdef __CUDACC__
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(to), n = valid ? BYTES : 0;
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(n)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(from), "r"(n)
                     : "memory");
#else
    cusim::copy_async(to, from, valid ? BYTES : 0u, BYTES);
#endif
}

/* Closes the group of the copies asked for since the last call. */
__device__ __forceinline__ void mma_copy_commit()
{
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    cusim::copy_commit();
#endif
}

/* Waits until at most the last KEEP groups of the calling thread are under way. Other threads see
 * the copied values after the next barrier. */
template <int KEEP> __device__ __forceinline__ void mma_copy_wait()
{
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(KEEP) : "memory");
#else
    cusim::copy_wait(KEEP);
#endif
}

#endif
