/*
 * measure/maps.h - softmax and what it makes of a sample's Gram matrix G = J J' (K x K), in f64.
 */
#ifndef LIPS_MEASURE_MAPS_H
#define LIPS_MEASURE_MAPS_H

#include <stdint.h>

/* p = softmax(z) (k) and rest = 1 - p, each to full relative precision: near interpolation 1 - p_y
 * is far below rounding of 1. Non-finite logits give NaN. */
void lips_softmax(double *p, double *rest, const double *z, int64_t k);

/* log sum_j exp z_j - z_y, to full relative precision near 0. */
double lips_cross_entropy(const double *z, int64_t k, int64_t y);

/* out = A G A', A = I - 1 p' (k,k); work (k). */
void lips_map_log_softmax(double *out, const double *g, const double *p, int64_t k, double *work);
/* out = S G S, S = diag(p) - p p' (k,k); work (k). */
void lips_map_softmax(double *out, const double *g, const double *p, int64_t k, double *work);

double lips_trace_of(const double *g, int64_t k);
/* u' g u, never below 0. */
double lips_quadratic(const double *g, const double *u, int64_t k);

/* Eigenvalues of S = diag(p) - p p' (one of them is always 0): the largest, the second smallest
 * (NaN for k = 1) and the trace, each to full relative precision, from the secular equation sum_i
 * p_i / (p_i - x) = 0. work (k). */
typedef struct lips_logit_hessian {
    double max, min_nonzero, trace;
} lips_logit_hessian;
lips_logit_hessian lips_logit_hessian_of(const double *p, const double *rest, int64_t k,
                                         double *work);

#endif
