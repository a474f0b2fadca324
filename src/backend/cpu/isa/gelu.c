/* GELU and its derivatives: gelu = x Phi, gelu' = Phi + x phi, gelu'' = (2 - x^2) phi with phi =
 * exp(-x^2/2)/sqrt(2 pi). Phi's error is said in math.h; the rest are a few roundings. */
#include "backend/cpu/isa/math.h"

#include "backend/cpu/isa/token_kernels.h"

static const float INV_ROOT_2PI = 0.398942280401432678f;

void LIPS_ISA_FN(lips_cpu_gelu)(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VF_LANES) {
        vf v = vf_load(x + i);
        vf_store(y + i, vf_mul(v, vf_normal_at(v).phi));
    }
}

VF_INLINE vf slope_at(vf x)
{
    vf_normal at = vf_normal_at(x);
    return vf_fma(vf_mul(x, at.e), vf_set1(INV_ROOT_2PI), at.phi);
}

void LIPS_ISA_FN(lips_cpu_gelu_slope)(float *y, const float *x, const float *in, int64_t rows,
                                      int64_t t, int64_t lanes)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t l = 0; l < lanes; l += VF_LANES) {
            vf slope = slope_at(vf_load(in + r * lanes + l));
            for (int64_t i = 0; i < t; i++) {
                int64_t at = (r * t + i) * lanes + l;
                vf_store(y + at, vf_mul(vf_load(x + at), slope));
            }
        }
}

void LIPS_ISA_FN(lips_cpu_gelu_curve)(float *y, const float *x, const float *in, const float *dot,
                                      int64_t n)
{
    for (int64_t i = 0; i < n; i += VF_LANES) {
        vf at = vf_load(in + i), density = vf_mul(vf_normal_at(at).e, vf_set1(INV_ROOT_2PI));
        vf curve = vf_mul(vf_sub(vf_set1(2), vf_mul(at, at)), density);
        vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), vf_load(dot + i)), curve));
    }
}
