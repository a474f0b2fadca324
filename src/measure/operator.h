/*
 * measure/operator.h - spectral norms of layers as linear operators, by Golub-Kahan-Lanczos in f64.
 */
#ifndef LIPS_MEASURE_OPERATOR_H
#define LIPS_MEASURE_OPERATOR_H

#include "nn/net.h"

/* value: the largest singular value, a lower bound that is off by at most `residual` (relative). */
typedef struct lips_spectral {
    double value;
    double residual;    /* |A'A v - s^2 v| / s^2 of the Ritz pair; 0 for a zero operator */
    int64_t iterations; /* products with A and A' */
} lips_spectral;

/* Layer's weight w (host f64, PyTorch order) as the operator x_{l-1} -> theta_l x_{l-1} on its real
 * input size, with its zero padding and stride. A non-finite weight gives NaN. Errors:
 * LIPS_ERR_MEMORY. */
lips_status lips_layer_spectral(lips_spectral *out, const lips_layer_info *info, const double *w);

/* Bytes that it takes at most, and lips_matrix_spectral of the reshaped kernel. */
size_t lips_layer_spectral_bytes(const lips_layer_info *info);

/* The same of the kernel reshaped to rows x cols, row-major. */
lips_status lips_matrix_spectral(lips_spectral *out, const double *w, int64_t rows, int64_t cols);

#endif
