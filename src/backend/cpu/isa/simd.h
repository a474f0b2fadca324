/*
 * backend/cpu/isa/simd.h - one vector type per instruction set, for the files of this folder.
 *
 * vf is the widest float vector, VF_LANES floats (16, 8 or 4); a block of 16 lanes is VF_PER_BLOCK
 * of them. vf_fma(a, b, c) = a*b + c is one rounding in avx512 and avx2, whose results therefore
 * agree in every bit where the order of operations is the same; base has no such instruction and
 * rounds twice. Loads and stores demand no alignment.
 */
#ifndef LIPS_BACKEND_CPU_ISA_SIMD_H
#define LIPS_BACKEND_CPU_ISA_SIMD_H

#include "backend/cpu/cpu.h"

#define LIPS_ISA_PASTE2(a, b) a##_##b
#define LIPS_ISA_PASTE(a, b) LIPS_ISA_PASTE2(a, b)
#define LIPS_ISA_FN(name) LIPS_ISA_PASTE(name, LIPS_ISA) /* lips_x -> lips_x_avx512 */
#define LIPS_ISA_STR2(a) #a
#define LIPS_ISA_STR(a) LIPS_ISA_STR2(a)
#define LIPS_ISA_NAME LIPS_ISA_STR(LIPS_ISA)

#define VF_INLINE static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__)
#include <immintrin.h>
#define VF_LANES 16
typedef __m512 vf;
#define VF_OP(name, args, expr)                                                                    \
    VF_INLINE vf name args                                                                         \
    {                                                                                              \
        return expr;                                                                               \
    }
VF_OP(vf_load, (const float *p), _mm512_loadu_ps(p))
VF_OP(vf_set1, (float x), _mm512_set1_ps(x))
VF_OP(vf_zero, (void), _mm512_setzero_ps())
VF_OP(vf_add, (vf a, vf b), _mm512_add_ps(a, b))
VF_OP(vf_sub, (vf a, vf b), _mm512_sub_ps(a, b))
VF_OP(vf_mul, (vf a, vf b), _mm512_mul_ps(a, b))
VF_OP(vf_div, (vf a, vf b), _mm512_div_ps(a, b))
VF_OP(vf_sqrt, (vf a), _mm512_sqrt_ps(a))
VF_OP(vf_fma, (vf a, vf b, vf c), _mm512_fmadd_ps(a, b, c))
/* The larger one; b if either is a NaN. */
VF_OP(vf_max, (vf a, vf b), _mm512_max_ps(a, b))
/* max(0, a); a NaN stays a NaN (max returns its second operand then). */
VF_OP(vf_relu, (vf a), _mm512_max_ps(_mm512_setzero_ps(), a))
/* a where m > 0, else 0 */
VF_OP(vf_where_pos, (vf m, vf a),
      _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(m, _mm512_setzero_ps(), _CMP_GT_OQ), a))
VF_INLINE void vf_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}

#elif defined(__AVX2__)
#include <immintrin.h>
#define VF_LANES 8
typedef __m256 vf;
#define VF_OP(name, args, expr)                                                                    \
    VF_INLINE vf name args                                                                         \
    {                                                                                              \
        return expr;                                                                               \
    }
VF_OP(vf_load, (const float *p), _mm256_loadu_ps(p))
VF_OP(vf_set1, (float x), _mm256_set1_ps(x))
VF_OP(vf_zero, (void), _mm256_setzero_ps())
VF_OP(vf_add, (vf a, vf b), _mm256_add_ps(a, b))
VF_OP(vf_sub, (vf a, vf b), _mm256_sub_ps(a, b))
VF_OP(vf_mul, (vf a, vf b), _mm256_mul_ps(a, b))
VF_OP(vf_div, (vf a, vf b), _mm256_div_ps(a, b))
VF_OP(vf_sqrt, (vf a), _mm256_sqrt_ps(a))
VF_OP(vf_fma, (vf a, vf b, vf c), _mm256_fmadd_ps(a, b, c))
VF_OP(vf_max, (vf a, vf b), _mm256_max_ps(a, b))
VF_OP(vf_relu, (vf a), _mm256_max_ps(_mm256_setzero_ps(), a))
VF_OP(vf_where_pos, (vf m, vf a),
      _mm256_and_ps(_mm256_cmp_ps(m, _mm256_setzero_ps(), _CMP_GT_OQ), a))
VF_INLINE void vf_store(float *p, vf a)
{
    _mm256_storeu_ps(p, a);
}

#else
#include <math.h>
#include <string.h>
#define VF_LANES 4
/* The compiler's own vectors: SSE2 on x86-64, NEON on ARM, scalars elsewhere. */
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vf_int __attribute__((vector_size(16)));
#define VF_OP(name, args, expr)                                                                    \
    VF_INLINE vf name args                                                                         \
    {                                                                                              \
        return expr;                                                                               \
    }
VF_INLINE vf vf_load(const float *p)
{
    vf a;
    memcpy(&a, p, sizeof a);
    return a;
}
VF_OP(vf_set1, (float x), ((vf){x, x, x, x}))
VF_OP(vf_zero, (void), ((vf){0, 0, 0, 0}))
VF_OP(vf_add, (vf a, vf b), a + b)
VF_OP(vf_sub, (vf a, vf b), a - b)
VF_OP(vf_mul, (vf a, vf b), a *b)
VF_OP(vf_div, (vf a, vf b), a / b)
VF_OP(vf_sqrt, (vf a), ((vf){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}))
VF_OP(vf_fma, (vf a, vf b, vf c), a *b + c)
VF_OP(vf_max, (vf a, vf b), (vf)(((vf_int)a & (vf_int)(a > b)) | ((vf_int)b & ~(vf_int)(a > b))))
VF_OP(vf_where_pos, (vf m, vf a), (vf)((vf_int)a &(vf_int)(m > vf_zero())))
/* As in the other sets, a NaN stays a NaN: cleared where a <= 0. */
VF_OP(vf_relu, (vf a), (vf)((vf_int)a & ~(vf_int)(a <= vf_zero())))
VF_INLINE void vf_store(float *p, vf a)
{
    memcpy(p, &a, sizeof a);
}
#endif

enum { VF_PER_BLOCK = LIPS_CPU_LANES / VF_LANES };

#endif
