/*
 * measure/head.h - the loss of one sample as a function of its logits, with its first and second
 * derivative, in f64.
 */
#ifndef LIPS_MEASURE_HEAD_H
#define LIPS_MEASURE_HEAD_H

#include "measure/survey.h"

/* Of the survey's sample i with logits z (K): p = softmax(z) and rest = 1 - p (K); u (K) = dL/dz,
 * or NULL where the survey has no loss. Returns the loss, 0 without. */
double lips_head(const lips_survey *s, int64_t i, const double *z, double *p, double *rest,
                 double *u);

/* d (K) = (d2L/dz2) d, in place: diag(p) - p p' for cross-entropy, the identity for the squared
 * loss. */
void lips_head_curve(const lips_survey *s, const double *p, double *d);
/* tr((d2L/dz2) theta) for theta (K,K) = J J'; maps (K,K), work (K). */
double lips_head_trace(const lips_survey *s, const double *p, const double *theta, double *maps,
                       double *work);
/* Largest diagonal entry of d2L/dz2. */
double lips_head_curvature(const lips_survey *s, const double *p, const double *rest);

#endif
