/*
 * measure/curvature.h - Hessian and Gauss-Newton products of the mean loss over the survey's first
 * samples, and gradients of its minibatches, with vectors in f64 in a backend's memory.
 *
 * Samples go through the network in fixed blocks, spread over the survey's threads (a device takes
 * them one after another, on one stream); each block's part is added in f64 in the order of the
 * blocks, so that results do not depend on the number of threads. What a block keeps between the
 * products (activations and cotangents) stays in memory if all blocks fit the bytes that the caller
 * allows, else it is computed anew for each product.
 *
 * On a device a product is queued and returned from: no vector leaves it, and the host waits for
 * each block's logits once, in the first product (tests/measure/test_curvature_cuda.c counts).
 */
#ifndef LIPS_MEASURE_CURVATURE_H
#define LIPS_MEASURE_CURVATURE_H

#include "measure/survey.h"

typedef struct lips_curvature lips_curvature;

/* s stays the caller's and must outlive it. samples: 1..s->n; keep: bytes for what blocks keep. */
lips_status lips_curvature_create(lips_curvature **out, const lips_survey *s, int64_t samples,
                                  size_t keep);
void lips_curvature_free(lips_curvature *c);

/* What it is used for, for its plan. */
typedef struct lips_curvature_use {
    int64_t samples;
    size_t keep;
    bool remainder;
    bool host;       /* vectors are with the host, though the products are on a device */
    int64_t vectors; /* that dots takes at a time */
} lips_curvature_use;

/* Its bytes, without taking them. */
lips_status lips_curvature_plan_bytes(const lips_survey *s, const lips_curvature_use *use,
                                      size_t *bytes);

/* The handle in whose memory vectors lie best. Between the calls below it is the caller's to use.
 */
lips_backend *lips_curvature_backend(const lips_curvature *c);

/* out (P) = (Hessian) v, or the Gauss-Newton product, which needs no labels. NaN if one of the
 * samples has a non-finite input or logit. out and v: memory of be, which is the handle above or
 * one whose memory is the host's; then the vectors cross to the device and back. */
lips_status lips_curvature_product(lips_curvature *c, lips_backend *be, double *out,
                                   const double *v, bool gauss_newton);

/* out (P, memory of be) = gradient of the mean loss over samples first..first+count-1 of the
 * survey. */
lips_status lips_curvature_gradient(lips_curvature *c, lips_backend *be, double *out, int64_t first,
                                    int64_t count);

/* value, std_err (L + 1): unbiased estimates of tr(H - G), H the Hessian and G the Gauss-Newton
 * matrix, over all parameters [0] and over each layer's own [l]; and of their standard errors, the
 * spread over the sign vectors. *draws: those. NaN as above. */
lips_status lips_curvature_remainder(lips_curvature *c, double *value, double *std_err,
                                     int64_t *draws);
/* Sign vectors that each of so many blocks draws for it. */
int lips_curvature_probes(int64_t blocks);

#endif
