/*
 * backend/cpu/tokens.h - kernels of the operations on tokens: layer norm, GELU, softmax. One set
 * per instruction set (isa/layernorm.c, isa/gelu.c, isa/softmax.c). Blocks are 16 lanes, as in
 * conv.h.
 */
#ifndef LIPS_BACKEND_CPU_TOKENS_H
#define LIPS_BACKEND_CPU_TOKENS_H

#include "backend/cpu/cpu.h"

/* Places whose statistics are held at once: 24 KiB of them on the stack. */
enum { LIPS_LN_PLACES = 128 };

/* Of one place: xhat = (x - center) r + rest. center is the mean as a float; what its rounding
 * leaves out is in rest. */
typedef struct lips_ln_stats {
    float center[LIPS_CPU_LANES], r[LIPS_CPU_LANES], rest[LIPS_CPU_LANES];
} lips_ln_stats;

/* How a place's xhat moves along a tangent of its input: xhat' = r (dot - mean - xhat along), with
 * the means over channels of dot and of xhat dot. */
typedef struct lips_ln_motion {
    float mean[LIPS_CPU_LANES], along[LIPS_CPU_LANES];
} lips_ln_motion;

/* One block of 16 lanes of a slab; all pointers at its channel 0, place 0. Floats from a place to
 * the next are lanes, times t in x and y. */
typedef struct lips_ln_run {
    float *y;                    /* overwritten */
    const float *x;              /* forward: unused. map: stacked in. vjp_dot: the cotangent */
    const float *in;             /* primal input */
    const float *dot;            /* vjp_dot */
    const float *before, *after; /* (C) or NULL for 1 */
    const float *beta;           /* forward: (C) */
    int64_t channels, places, t, lanes;
    double eps;
} lips_ln_run;

typedef struct lips_token_kernels {
    /* y = after xhat + beta */
    void (*ln_forward)(const lips_ln_run *run);
    /* y = after r P(before x), with P(u) = u - mean(u) - xhat mean(xhat u) */
    void (*ln_map)(const lips_ln_run *run);
    /* y = derivative of r P(before x) along in' = dot; t = 1 */
    void (*ln_vjp_dot)(const lips_ln_run *run);
    /* st[i] of places first..first+n-1, n <= LIPS_LN_PLACES */
    void (*ln_stats)(lips_ln_stats *st, const lips_ln_run *run, int64_t first, int64_t n);
    /* Per lane, over n places of one channel: s += dy, d += dy xhat; steps in floats */
    void (*ln_moments)(double s[16], double d[16], const float *dy, int64_t dy_step,
                       const float *in, int64_t in_step, const lips_ln_stats *st, int64_t n);
    /* motion[i] of places first..: how they move along run->dot */
    void (*ln_motion)(lips_ln_motion *motion, const lips_ln_stats *st, const lips_ln_run *run,
                      int64_t first, int64_t n);
    /* Per lane, over n places of one channel: d += dy xhat'; dy at the run's place 0 of the
     * channel, t = 1 */
    void (*ln_grad_dot)(double d[16], const float *dy, const lips_ln_run *run,
                        const lips_ln_stats *st, const lips_ln_motion *motion, int64_t channel,
                        int64_t first, int64_t n);

    /* n floats, a multiple of 16; y may be an input */
    void (*gelu)(float *y, const float *x, int64_t n);
    /* (rows, t, lanes): y = x gelu'(in), in (rows, lanes) */
    void (*gelu_slope)(float *y, const float *x, const float *in, int64_t rows, int64_t t,
                       int64_t lanes);
    /* y = x dot gelu''(in) */
    void (*gelu_curve)(float *y, const float *x, const float *in, const float *dot, int64_t n);

    /* Matrices (rows, cols) of blocks. p = softmax over cols of scale p */
    void (*softmax)(float *p, int64_t rows, int64_t cols, float scale);
    /* u = scale p (u - sum over cols of p u) */
    void (*soften)(float *u, const float *p, int64_t rows, int64_t cols, float scale);
    /* u as above, and u_dot its derivative along (p_dot, u_dot) */
    void (*soften_dot)(float *u, float *u_dot, const float *p, const float *p_dot, int64_t rows,
                       int64_t cols, float scale);
} lips_token_kernels;

#endif
