/* backend/cpu/isa/kernels.h - the kernels of one instruction set, declared for isa/table.c; what
 * they compute is said in cpu.h. */
#ifndef LIPS_BACKEND_CPU_ISA_KERNELS_H
#define LIPS_BACKEND_CPU_ISA_KERNELS_H

#include "backend/cpu/isa/simd.h"

/* elementwise.c */
void LIPS_ISA_FN(lips_cpu_add)(float *y, const float *a, const float *b, int64_t n);
void LIPS_ISA_FN(lips_cpu_relu)(float *y, const float *x, int64_t n);
void LIPS_ISA_FN(lips_cpu_mask)(float *y, const float *x, const float *mask, int64_t rows,
                                int64_t t, int64_t lanes);
void LIPS_ISA_FN(lips_cpu_bias)(float *y, const float *bias, bool relu, int64_t rows, int64_t n);
void LIPS_ISA_FN(lips_cpu_pool)(float *y, const float *x, const lips_cpu_pool *p);
void LIPS_ISA_FN(lips_cpu_unpool)(float *dx, const float *dy, const float *mask,
                                  const lips_cpu_pool *p);
void LIPS_ISA_FN(lips_cpu_affine)(float *y, const float *x, float center, float a, float b,
                                  int64_t n);
void LIPS_ISA_FN(lips_cpu_affine2)(const lips_cpu_affine2 *p);

/* reduce.c */
double LIPS_ISA_FN(lips_cpu_diff_sumsq)(const float *a, const float *b, int64_t n);
double LIPS_ISA_FN(lips_cpu_sum)(const float *x, int64_t n);
void LIPS_ISA_FN(lips_cpu_lane_sum)(double s[16], const float *x, int64_t stride, int64_t n);
void LIPS_ISA_FN(lips_cpu_lane_sumsq)(double s[16], const float *x, int64_t stride, double center,
                                      int64_t n);
void LIPS_ISA_FN(lips_cpu_lane_moments)(double s[16], double d[16], const float *y,
                                        int64_t y_stride, const float *x, int64_t x_stride,
                                        double center, int64_t n);

/* gram.c, gather.c */
void LIPS_ISA_FN(lips_cpu_gram)(double *theta, const float *x, const double *scale, int64_t rows,
                                int64_t t, int64_t lanes, int64_t samples);
void LIPS_ISA_FN(lips_cpu_gather)(float *dst, int64_t lanes, const float *const row[16],
                                  int64_t features);

/* train.c */
void LIPS_ISA_FN(lips_cpu_cross_entropy)(const lips_cpu_ce *p);
void LIPS_ISA_FN(lips_cpu_sgd)(const lips_sgd_args *a);
void LIPS_ISA_FN(lips_cpu_adam)(const lips_adam_args *a);

#endif
