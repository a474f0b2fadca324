/*
 * backend/cpu/cpu.h - inside the cpu backend: its handle, and the table of kernels per instruction
 * set.
 *
 * Each src/backend/cpu/isa/x.c is compiled once per instruction set (Makefile: LIPS_ISA = avx512,
 * avx2, base) and defines functions whose names end in it: LIPS_ISA_FN(lips_x) gives lips_x_avx512.
 * isa/table.c gathers them into one lips_cpu_kernels per set, and dispatch.c picks one when a
 * handle is opened. Everything else of the backend is plain C and calls through lips_cpu.k.
 */
#ifndef LIPS_BACKEND_CPU_CPU_H
#define LIPS_BACKEND_CPU_CPU_H

#include "backend/backend.h"

typedef struct lips_cpu_pool {
    int64_t c, oh, ow, kh, kw; /* windows of kh x kw on an image of oh*kh x ow*kw */
    int64_t t, lanes;
} lips_cpu_pool;

typedef struct lips_cpu_affine2 {
    float *y;
    const float *dy, *x;
    int64_t dy_stride, x_stride; /* reals from one block of 16 to the next; y lies as dy does */
    int64_t n;                   /* blocks */
    float center, a, b, c;
} lips_cpu_affine2;

/* Cross-entropy of up to 16 samples side by side, z (classes) blocks of 16 at distance stride. */
typedef struct lips_cpu_ce {
    const float *z;
    float *dz; /* as z; rubbish beyond samples; NULL: not wanted */
    int64_t stride, classes, samples;
    const int64_t *labels; /* (samples) or NULL: neither loss nor dz */
    double *loss;          /* (samples) or NULL */
    int64_t *pred;         /* (samples) or NULL */
    double scale;
} lips_cpu_ce;

typedef struct lips_cpu_kernels {
    const char *name; /* "avx512", "avx2", "base" */

    /* isa/elementwise.c: y may be an input. n, lanes and inner are multiples of 16. */
    void (*add)(float *y, const float *a, const float *b, int64_t n);
    void (*relu)(float *y, const float *x, int64_t n);
    /* (rows, t, lanes): y = x where mask (rows, lanes) > 0, else 0 */
    void (*mask)(float *y, const float *x, const float *mask, int64_t rows, int64_t t,
                 int64_t lanes);
    /* (rows, n): y += bias[row]; relu: then max(0, y). bias NULL counts as 0. */
    void (*bias)(float *y, const float *bias, bool relu, int64_t rows, int64_t n);
    /* (c, oh, ow, inner) = sums of kh x kw places of x (c, oh*kh, ow*kw, inner) / (kh*kw) */
    void (*pool)(float *y, const float *x, const lips_cpu_pool *p);
    void (*unpool)(float *dx, const float *dy, const float *mask, const lips_cpu_pool *p);
    /* y = (x - center) * a + b */
    void (*affine)(float *y, const float *x, float center, float a, float b, int64_t n);
    /* y = dy * a + (x - center) * b + c */
    void (*affine2)(const lips_cpu_affine2 *p);

    /* isa/reduce.c: f64, fixed order. */
    /* sum (a - b)^2 of n reals (any n); b NULL counts as 0 */
    double (*diff_sumsq)(const float *a, const float *b, int64_t n);
    /* sum of n reals, n a multiple of 16 */
    double (*sum)(const float *x, int64_t n);
    /* Per lane, over n blocks of 16 at distance stride: s += x; s += (x - center)^2 */
    void (*lane_sum)(double s[16], const float *x, int64_t stride, int64_t n);
    void (*lane_sumsq)(double s[16], const float *x, int64_t stride, double center, int64_t n);
    /* s += y, d += y * (x - center) */
    void (*lane_moments)(double s[16], double d[16], const float *y, int64_t y_stride,
                         const float *x, int64_t x_stride, double center, int64_t n);
    /* theta[l][i][j] += scale[l] * sum_r x[r][i][l] x[r][j][l], r < rows, i, j < t, l < samples <=
     * 16; x (rows, t, lanes). scale NULL counts as 1. */
    void (*gram)(double *theta, const float *x, const double *scale, int64_t rows, int64_t t,
                 int64_t lanes, int64_t samples);

    /* isa/gather.c: dst[f * lanes + l] = row[l][f], f < features, l < 16 */
    void (*gather)(float *dst, int64_t lanes, const float *const row[16], int64_t features);

    /* isa/train.c */
    void (*cross_entropy)(const lips_cpu_ce *p);
    void (*sgd)(const lips_sgd_args *a);
    void (*adam)(const lips_adam_args *a);

    const struct lips_conv_kernels *conv;    /* isa/conv_*.c, see conv.h */
    const struct lips_token_kernels *tokens; /* see tokens.h */
} lips_cpu_kernels;

typedef struct lips_cpu {
    lips_backend base;
    const lips_cpu_kernels *k;
} lips_cpu;

static inline const lips_cpu_kernels *lips_cpu_k(const lips_backend *be)
{
    return ((const lips_cpu *)be)->k;
}

enum { LIPS_CPU_LANES = 16 }; /* lips_tensor.lanes is a multiple of this: one AVX-512 register */

/* The kernels for this machine: the best set that the processor has, or the one that the
 * environment variable LIPSWEEP_ISA names (for tests). LIPS_ERR_USAGE for a name that is unknown or
 * that the processor cannot run. */
lips_status lips_cpu_kernels_pick(const lips_cpu_kernels **out);

/* The sets that this processor can run, best first: the i-th, or NULL past the last. */
const lips_cpu_kernels *lips_cpu_kernels_at(int i);

/* Entries of the table of operations, one file per family. */
size_t lips_cpu_conv_workspace(lips_backend *be, const lips_conv_args *a);
lips_status lips_cpu_conv_forward(lips_backend *be, const lips_conv_args *a);
lips_status lips_cpu_conv_vjp(lips_backend *be, const lips_conv_args *a);
lips_status lips_cpu_conv_grad(lips_backend *be, const lips_conv_args *a);
lips_status lips_cpu_conv_gram(lips_backend *be, const lips_conv_args *a);

#endif
