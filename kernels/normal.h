/*
 * kernels/normal.h - tails of the standard normal distribution in f32, for GELU and its slope.
 *
 * With z >= 0, c = 1/sqrt(2 pi), u = z / (z + 2) and E = exp(-z^2 / 2):
 *   1 - Phi(z) = E W / (z + 2),   W = (z + 2) (1 - Phi(z)) / E,   which falls from 1 to 0.45
 *
 * E     z^2 as the sum of two floats (its rounding error alone would be z^2/2 units in E), times
 *       log2(e)/2, split into n and f in [-1/2, 1/2]; 2^f - 1 is a polynomial of degree 6 in f
 * W     a polynomial of degree 11 in u - UC
 * u     as the sum of two floats: the remainder of the division makes good whatever error the
 *       device's quick one has (2 units)
 * Both polynomials: least maximum of the relative error (of 2^f, of W) on 3000 Chebyshev points, by
 * least squares whose weights are multiplied with the errors time and again; coefficients rounded
 * to f32 one after the other, lowest first, and the higher ones fitted anew each time. Errors then:
 * 3e-9 both, a twentieth of a unit. Products go through fma, and the constant 1 + W0 that carries
 * most of the value is added last, so that the roundings before it count for little.
 *
 * Errors, of all floats every 61st (double's erfc is the truth): gelu at most 1.72 units in the
 * last place, above x = 1.5 at most 0.57; its slope at most 2.4 x 2^-24.
 * tests/cusim/test_flat_kernels.cpp walks over all exponents.
 */
#ifndef LIPS_KERNELS_NORMAL_H
#define LIPS_KERNELS_NORMAL_H

#include "kernels/cuda.h"

namespace lips_normal
{

constexpr float SHIFT = 2.0f;        /* u = z / (z + SHIFT) */
constexpr float BEYOND = 14.5f;      /* from here on z (1 - Phi(z)) rounds to 0 */
constexpr float W0 = 0x1.30a7c6p-1f; /* W(UC) = W0 + W0_LOW */
constexpr float W0_LOW = 0x1.4c5deap-27f;
constexpr float UC = 0x1.3d70a4p-1f;
constexpr float DENSITY = 0.39894228040143267794f; /* c */
constexpr float TO_2 = -0.72134752044448170368f;   /* -log2(e) / 2 */
constexpr float TO_2_LOW = (float)(-0.72134752044448170368 - (double)TO_2);
constexpr float WHOLE = 12582912.0f;    /* 1.5 x 2^23: added, the lowest bits are an integer */
constexpr unsigned EXPONENT = 1u << 23; /* 1 in a float's exponent; above it all moves out */
/* Powers of two are formed 2^100 too large, since the least of them are 2^-152. */
constexpr unsigned RAISED = (127u + 100u) * EXPONENT;
constexpr float LOWER = 0x1p-100f;

/* E = scale (1 + e), E W = scale (W0 + ew), u + u_low; scale is 1 / LOWER too large. */
struct tail {
    float scale, e, ew, u, u_low;
};

/* 2^f - 1 for |f| <= 1/2 */
__device__ inline float power_less_one(float f)
{
    float q = 0x1.416b52p-13f;
    q = fmaf(q, f, 0x1.5f082ep-10f);
    q = fmaf(q, f, 0x1.3b2de0p-7f);
    q = fmaf(q, f, 0x1.c6af7cp-5f);
    q = fmaf(q, f, 0x1.ebfbdcp-3f);
    return fmaf(f, 0x1.62e430p-1f, f * f * q);
}

/* W - W0 at s = u - UC */
__device__ inline float w_less_first(float s)
{
    float p = -0x1.175224p-3f;
    p = fmaf(p, s, -0x1.54eedap-2f);
    p = fmaf(p, s, -0x1.c69102p-3f);
    p = fmaf(p, s, 0x1.362388p-3f);
    p = fmaf(p, s, 0x1.3924b4p-2f);
    p = fmaf(p, s, 0x1.a6b552p-5f);
    p = fmaf(p, s, -0x1.024a9ep-2f);
    p = fmaf(p, s, -0x1.3bd16ep-3f);
    p = fmaf(p, s, 0x1.0603a2p-2f);
    p = fmaf(p, s, 0x1.bae2e2p-3f);
    p = fmaf(p, s, -0x1.3edafcp-1f);
    return fmaf(p, s, W0_LOW);
}

/* 1 / v for v in 2..17, within 2 units in the last place. */
__device__ inline float quick_inverse(float v)
{
#ifdef __CUDACC__
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
#else
    return 1.0f / v;
#endif
}

/* 0 <= z <= BEYOND */
__device__ inline tail tail_of(float z)
{
    tail t;
    float square = z * z, low = fmaf(z, z, -square);
    float n = fmaf(square, TO_2, WHOLE);
    t.scale = __int_as_float((int)((unsigned)__float_as_int(n) * EXPONENT + RAISED));
    n -= WHOLE;
    float f = fmaf(square, TO_2, -n);
    f = fmaf(square, TO_2_LOW, fmaf(low, TO_2, f));
    t.e = power_less_one(f);
    /* sum_low is exact: SHIFT is a multiple of sum's unit. */
    float sum = z + SHIFT, sum_low = z - (sum - SHIFT);
    float inverse = quick_inverse(sum);
    t.u = z * inverse;
    t.u_low = fmaf(-t.u, sum_low, fmaf(-t.u, sum, z)) * inverse;
    float w = w_less_first((t.u - UC) + t.u_low);
    t.ew = fmaf(t.e, W0 + w, w);
    return t;
}

/* x Phi(x); +inf at +inf, NaN at -inf, as the product is. */
__device__ inline float gelu(float x)
{
    tail t = tail_of(fminf(fabsf(x), BEYOND));
    float below = fmaf(t.u, W0, fmaf(t.u, t.ew, t.u_low * (W0 + t.ew))) * t.scale * LOWER;
    return (x < 0.0f ? 0.0f * x : x) - below;
}

/* Phi(x) + x phi(x); NaN at both infinities, as the product is. */
__device__ inline float gelu_slope(float x)
{
    float z = fminf(fabsf(x), BEYOND);
    tail t = tail_of(z);
    float sum = z + SHIFT, inverse = quick_inverse(sum);
    inverse = fmaf(inverse, fmaf(-sum, inverse, 1.0f), inverse);
    float scale = t.scale * LOWER, along = DENSITY * z;
    /* z phi(z) - (1 - Phi(z)) */
    float d = scale * fmaf(along, t.e, fmaf(-(W0 + t.ew), inverse, along));
    return fmaf(0.0f, x, x < 0.0f ? -d : 1.0f + d);
}

} // namespace lips_normal

#endif
