/*
 * backend/cpu/isa/f64.h - the f64 companion of simd.h, for sums that are measured: vd holds
 * VD_LANES doubles, a block of 16 lanes is VD_PER_BLOCK of them. vd_fma rounds once in avx512 and
 * avx2.
 */
#ifndef LIPS_BACKEND_CPU_ISA_F64_H
#define LIPS_BACKEND_CPU_ISA_F64_H

#include "backend/cpu/isa/simd.h"

#define VD_OP(name, args, expr)                                                                    \
    VF_INLINE vd name args                                                                         \
    {                                                                                              \
        return expr;                                                                               \
    }

#if defined(__AVX512F__)
#define VD_LANES 8
typedef __m512d vd;
VD_OP(vd_load, (const double *p), _mm512_loadu_pd(p))
VD_OP(vd_load_f32, (const float *p), _mm512_cvtps_pd(_mm256_loadu_ps(p)))
VD_OP(vd_set1, (double x), _mm512_set1_pd(x))
VD_OP(vd_fma, (vd a, vd b, vd c), _mm512_fmadd_pd(a, b, c))
/* The larger one; b if either is a NaN. */
VD_OP(vd_max, (vd a, vd b), _mm512_max_pd(a, b))
/* a == b ? x : y */
VD_OP(vd_if_equal, (vd a, vd b, vd x, vd y),
      _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ), y, x))
/* a > b ? x : y */
VD_OP(vd_if_greater, (vd a, vd b, vd x, vd y),
      _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, b, _CMP_GT_OQ), y, x))
VF_INLINE void vd_store(double *p, vd a)
{
    _mm512_storeu_pd(p, a);
}
VF_INLINE void vd_store_f32(float *p, vd a)
{
    _mm256_storeu_ps(p, _mm512_cvtpd_ps(a));
}

#elif defined(__AVX2__)
#define VD_LANES 4
typedef __m256d vd;
VD_OP(vd_load, (const double *p), _mm256_loadu_pd(p))
VD_OP(vd_load_f32, (const float *p), _mm256_cvtps_pd(_mm_loadu_ps(p)))
VD_OP(vd_set1, (double x), _mm256_set1_pd(x))
VD_OP(vd_fma, (vd a, vd b, vd c), _mm256_fmadd_pd(a, b, c))
VD_OP(vd_max, (vd a, vd b), _mm256_max_pd(a, b))
VD_OP(vd_if_equal, (vd a, vd b, vd x, vd y),
      _mm256_blendv_pd(y, x, _mm256_cmp_pd(a, b, _CMP_EQ_OQ)))
VD_OP(vd_if_greater, (vd a, vd b, vd x, vd y),
      _mm256_blendv_pd(y, x, _mm256_cmp_pd(a, b, _CMP_GT_OQ)))
VF_INLINE void vd_store(double *p, vd a)
{
    _mm256_storeu_pd(p, a);
}
VF_INLINE void vd_store_f32(float *p, vd a)
{
    _mm_storeu_ps(p, _mm256_cvtpd_ps(a));
}

#else
#define VD_LANES 2
typedef double vd __attribute__((vector_size(16)));
VF_INLINE vd vd_load(const double *p)
{
    vd a;
    memcpy(&a, p, sizeof a);
    return a;
}
VD_OP(vd_load_f32, (const float *p), ((vd){(double)p[0], (double)p[1]}))
VD_OP(vd_set1, (double x), ((vd){x, x}))
VD_OP(vd_fma, (vd a, vd b, vd c), a *b + c)
VD_OP(vd_max, (vd a, vd b), ((vd){a[0] > b[0] ? a[0] : b[0], a[1] > b[1] ? a[1] : b[1]}))
VD_OP(vd_if_equal, (vd a, vd b, vd x, vd y),
      ((vd){a[0] == b[0] ? x[0] : y[0], a[1] == b[1] ? x[1] : y[1]}))
VD_OP(vd_if_greater, (vd a, vd b, vd x, vd y),
      ((vd){a[0] > b[0] ? x[0] : y[0], a[1] > b[1] ? x[1] : y[1]}))
VF_INLINE void vd_store(double *p, vd a)
{
    memcpy(p, &a, sizeof a);
}
VF_INLINE void vd_store_f32(float *p, vd a)
{
    p[0] = (float)a[0];
    p[1] = (float)a[1];
}
#endif

enum { VD_PER_BLOCK = LIPS_CPU_LANES / VD_LANES };

/* The rest is the compiler's own vector arithmetic, alike in every set. */
typedef int64_t vd_int __attribute__((vector_size(8 * VD_LANES)));
VD_OP(vd_add, (vd a, vd b), a + b)
VD_OP(vd_sub, (vd a, vd b), a - b)
VD_OP(vd_mul, (vd a, vd b), a *b)
VD_OP(vd_div, (vd a, vd b), a / b)

/* c0 + x (c1 + x (c2 + ...)), n coefficients. */
VF_INLINE vd vd_poly(vd x, const double *c, int n)
{
    vd p = vd_set1(c[n - 1]);
#pragma GCC unroll 16
    for (int i = n - 2; i >= 0; i--)
        p = vd_fma(p, x, vd_set1(c[i]));
    return p;
}

/* exp(x) for x <= 0: 2^n exp(r) with |r| <= log(2)/2, Taylor's series to r^11 (what is left out is
 * 7e-15 of the result). Below -700 it is exp(-700) = 1e-304. A NaN stays a NaN. */
VF_INLINE vd vd_exp(vd x)
{
    static const double inv_factorial[] = {
        1.0,       1.0,        1.0 / 2,     1.0 / 6,      1.0 / 24,      1.0 / 120,
        1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800};
    /* Adding 1.5 * 2^52 rounds to an integer, which then stands in the low bits. */
    const vd magic = vd_set1(0x1.8p52);
    const double ln2_high = 0x1.62e42fefa3800p-1, ln2_low = 0x1.ef35793c76730p-45;
    x = vd_max(vd_set1(-700), x);
    vd shifted = vd_fma(x, vd_set1(0x1.71547652b82fep0), magic), n = vd_sub(shifted, magic);
    vd r = vd_fma(n, vd_set1(-ln2_high), x);
    r = vd_fma(n, vd_set1(-ln2_low), r);
    vd power = (vd)(((vd_int)shifted << 52) + INT64_C(0x3ff0000000000000));
    return vd_mul(vd_poly(r, inv_factorial, 12), power);
}

/* log(1 + x) for 0 <= x < 2^52: u = 1 + x = 2^n m, m in [sqrt(1/2), sqrt(2)), log m = 2 artanh(s)
 * with s = (m - 1) / (m + 1), series to s^17 (left out: 2e-15 of the result). What rounding took
 * from u is given back to first order. A NaN stays a NaN. */
VF_INLINE vd vd_log1p(vd x)
{
    static const double series[] = {2.0,      2.0 / 3,  2.0 / 5,  2.0 / 7, 2.0 / 9,
                                    2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17};
    const vd one = vd_set1(1);
    vd u = vd_add(one, x), lost = vd_sub(x, vd_sub(u, one));
    /* The biased exponent, put below 2^52, and the mantissa. */
    vd n = (vd)(((vd_int)u >> 52) + INT64_C(0x4330000000000000));
    n = vd_sub(n, vd_set1(0x1p52 + 1023));
    vd m = (vd)(((vd_int)u & INT64_C(0xfffffffffffff)) + INT64_C(0x3ff0000000000000));
    const vd root2 = vd_set1(0x1.6a09e667f3bcdp0);
    n = vd_if_greater(m, root2, vd_add(n, one), n);
    m = vd_if_greater(m, root2, vd_mul(m, vd_set1(0.5)), m);
    vd s = vd_div(vd_sub(m, one), vd_add(m, one));
    vd log_m = vd_mul(s, vd_poly(vd_mul(s, s), series, 9));
    /* x - x is 0 but for a NaN or infinity, whose mantissa was lost above. */
    vd rest = vd_add(vd_div(lost, u), vd_sub(x, x));
    return vd_add(vd_fma(n, vd_set1(0x1.62e42fefa39efp-1), log_m), rest);
}

#endif
