/* backend/cpu/isa/token_kernels.h - the kernels on tokens of one instruction set, declared for
 * isa/token_table.c; what they compute is said in tokens.h. */
#ifndef LIPS_BACKEND_CPU_ISA_TOKEN_KERNELS_H
#define LIPS_BACKEND_CPU_ISA_TOKEN_KERNELS_H

#include "backend/cpu/isa/simd.h"

#include "backend/cpu/tokens.h"

/* layernorm.c */
void LIPS_ISA_FN(lips_cpu_ln_forward)(const lips_ln_run *run);
void LIPS_ISA_FN(lips_cpu_ln_map)(const lips_ln_run *run);
void LIPS_ISA_FN(lips_cpu_ln_vjp_dot)(const lips_ln_run *run);
void LIPS_ISA_FN(lips_cpu_ln_stats)(lips_ln_stats *st, const lips_ln_run *run, int64_t first,
                                    int64_t n);
void LIPS_ISA_FN(lips_cpu_ln_moments)(double s[16], double d[16], const float *dy, int64_t dy_step,
                                      const float *in, int64_t in_step, const lips_ln_stats *st,
                                      int64_t n);
void LIPS_ISA_FN(lips_cpu_ln_grad_dot)(double d[16], const float *dy, const lips_ln_run *run,
                                       const lips_ln_stats *st, const lips_ln_motion *motion,
                                       int64_t channel, int64_t first, int64_t n);
void LIPS_ISA_FN(lips_cpu_ln_motion)(lips_ln_motion *motion, const lips_ln_stats *st,
                                     const lips_ln_run *run, int64_t first, int64_t n);

/* gelu.c */
void LIPS_ISA_FN(lips_cpu_gelu)(float *y, const float *x, int64_t n);
void LIPS_ISA_FN(lips_cpu_gelu_slope)(float *y, const float *x, const float *in, int64_t rows,
                                      int64_t t, int64_t lanes);
void LIPS_ISA_FN(lips_cpu_gelu_curve)(float *y, const float *x, const float *in, const float *dot,
                                      int64_t n);

/* softmax.c */
void LIPS_ISA_FN(lips_cpu_softmax)(float *p, int64_t rows, int64_t cols, float scale);
void LIPS_ISA_FN(lips_cpu_soften)(float *u, const float *p, int64_t rows, int64_t cols,
                                  float scale);
void LIPS_ISA_FN(lips_cpu_soften_dot)(float *u, float *u_dot, const float *p, const float *p_dot,
                                      int64_t rows, int64_t cols, float scale);

#endif
