/*
 * backend/cpu/isa/f64.h - the f64 companion of simd.h, for sums that are measured: vd holds
 * VD_LANES doubles, a block of 16 lanes is VD_PER_BLOCK of them. vd_fma rounds once in avx512 and
 * avx2.
 */
#ifndef LIPS_BACKEND_CPU_ISA_F64_H
#define LIPS_BACKEND_CPU_ISA_F64_H

#include "backend/cpu/isa/simd.h"

#if defined(__AVX512F__)
#define VD_LANES 8
typedef __m512d vd;
#define VD_OP(name, args, expr)                                                                    \
    VF_INLINE vd name args                                                                         \
    {                                                                                              \
        return expr;                                                                               \
    }
VD_OP(vd_load, (const double *p), _mm512_loadu_pd(p))
VD_OP(vd_load_f32, (const float *p), _mm512_cvtps_pd(_mm256_loadu_ps(p)))
VD_OP(vd_set1, (double x), _mm512_set1_pd(x))
VD_OP(vd_add, (vd a, vd b), _mm512_add_pd(a, b))
VD_OP(vd_sub, (vd a, vd b), _mm512_sub_pd(a, b))
VD_OP(vd_fma, (vd a, vd b, vd c), _mm512_fmadd_pd(a, b, c))
VF_INLINE void vd_store(double *p, vd a)
{
    _mm512_storeu_pd(p, a);
}

#elif defined(__AVX2__)
#define VD_LANES 4
typedef __m256d vd;
#define VD_OP(name, args, expr)                                                                    \
    VF_INLINE vd name args                                                                         \
    {                                                                                              \
        return expr;                                                                               \
    }
VD_OP(vd_load, (const double *p), _mm256_loadu_pd(p))
VD_OP(vd_load_f32, (const float *p), _mm256_cvtps_pd(_mm_loadu_ps(p)))
VD_OP(vd_set1, (double x), _mm256_set1_pd(x))
VD_OP(vd_add, (vd a, vd b), _mm256_add_pd(a, b))
VD_OP(vd_sub, (vd a, vd b), _mm256_sub_pd(a, b))
VD_OP(vd_fma, (vd a, vd b, vd c), _mm256_fmadd_pd(a, b, c))
VF_INLINE void vd_store(double *p, vd a)
{
    _mm256_storeu_pd(p, a);
}

#else
#define VD_LANES 2
typedef double vd __attribute__((vector_size(16)));
#define VD_OP(name, args, expr)                                                                    \
    VF_INLINE vd name args                                                                         \
    {                                                                                              \
        return expr;                                                                               \
    }
VF_INLINE vd vd_load(const double *p)
{
    vd a;
    memcpy(&a, p, sizeof a);
    return a;
}
VD_OP(vd_load_f32, (const float *p), ((vd){(double)p[0], (double)p[1]}))
VD_OP(vd_set1, (double x), ((vd){x, x}))
VD_OP(vd_add, (vd a, vd b), a + b)
VD_OP(vd_sub, (vd a, vd b), a - b)
VD_OP(vd_fma, (vd a, vd b, vd c), a *b + c)
VF_INLINE void vd_store(double *p, vd a)
{
    memcpy(p, &a, sizeof a);
}
#endif

enum { VD_PER_BLOCK = LIPS_CPU_LANES / VD_LANES };

#endif
