/*
 * backend/cpu/isa/math.h - exp and the normal distribution on vectors of floats. Bit patterns of
 * floats are the compiler's own integer vectors, alike in every set.
 */
#ifndef LIPS_BACKEND_CPU_ISA_MATH_H
#define LIPS_BACKEND_CPU_ISA_MATH_H

#include "backend/cpu/isa/simd.h"

typedef int32_t vf_bits __attribute__((vector_size(4 * VF_LANES)));

/* c0 + x (c1 + x (c2 + ...)), n coefficients. */
VF_INLINE vf vf_poly(vf x, const float *c, int n)
{
    vf p = vf_set1(c[n - 1]);
#pragma GCC unroll 16
    for (int i = n - 2; i >= 0; i--)
        p = vf_fma(p, x, vf_set1(c[i]));
    return p;
}

/* exp(x) for x <= 0: 2^n exp(r) with |r| <= log(2)/2, Taylor's series to r^7 (what is left out is
 * 5e-9 of the result; the roundings of r and of the sum leave 1.5 units in the last place). Below
 * -87 it is exp(-87) = 2e-38. A NaN stays a NaN. */
VF_INLINE vf vf_exp(vf x)
{
    static const float inv_factorial[] = {1.0f,      1.0f,       1.0f / 2,   1.0f / 6,
                                          1.0f / 24, 1.0f / 120, 1.0f / 720, 1.0f / 5040};
    /* Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits. */
    const vf magic = vf_set1(0x1.8p23f);
    x = vf_max(vf_set1(-87.0f), x);
    vf shifted = vf_fma(x, vf_set1(0x1.715476p0f), magic), n = vf_sub(shifted, magic);
    vf r =
        vf_fma(n, vf_set1(-0x1.62e4p-1f), x); /* log 2 in two parts: n times the first is exact */
    r = vf_fma(n, vf_set1(-0x1.7f7d1cp-20f), r);
    vf power = (vf)(((vf_bits)shifted << 23) + 0x3f800000);
    return vf_mul(vf_poly(r, inv_factorial, 8), power);
}

/* Of the standard normal at x: e = exp(-x^2/2), and the distribution Phi. */
typedef struct vf_normal {
    vf e, phi;
} vf_normal;

/* Phi(-|x|) = e t P(t) with t = 1/(1 + 0.35 |x|), P a polynomial of degree 8 fitted to the relative
 * error over 0 <= |x| <= 13.2: 3.2e-8 in f64, 2.8e-7 of the tail with f32's roundings (the tail is
 * at most 1/2). Beyond 13.2 the tail is below 1e-38. */
VF_INLINE vf_normal vf_normal_at(vf x)
{
    static const float tail_poly[] = {0.139621705f,  0.139856711f,   0.119869053f,
                                      0.105369344f,  -0.0227911305f, 0.158722609f,
                                      -0.255327851f, 0.143788517f,   -0.0291089937f};
    const vf one = vf_set1(1);
    vf away = vf_max(vf_sub(vf_zero(), x), x); /* |x| */
    vf e = vf_exp(vf_mul(vf_mul(x, x), vf_set1(-0.5f)));
    vf t = vf_div(one, vf_fma(away, vf_set1(0.35f), one));
    vf tail = vf_mul(vf_mul(e, t), vf_poly(t, tail_poly, 9));
    /* tail, or 1 - tail where x > 0: one of the two terms is 0. */
    vf above = vf_where_pos(x, vf_sub(one, tail)), below = vf_sub(tail, vf_where_pos(x, tail));
    return (vf_normal){e, vf_add(above, below)};
}

#endif
